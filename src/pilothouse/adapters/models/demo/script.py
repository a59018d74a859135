"""Scripts in prompts: text in, answers out. The syntax is in the package's docstring."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from pilothouse.adapters.models.demo import answer as a

_FENCE = re.compile(r"^ *```demo *\n(.*?)^ *```", re.DOTALL | re.MULTILINE)
_LINE = re.compile(r"^ *demo: ?", re.MULTILINE)
_ESCAPE = re.compile(r"\\([nt\\])")
_FILLER = "the quick pilot steers a small house along the river while the lamps of both banks answer one by one"
WORDS_MAX = 200_000
"""Of `text N`: about a megabyte, more than any test of back-pressure needs."""


class ScriptError(ValueError):
    """A statement the script language does not have."""


def find(prompt: str) -> str | None:
    """The script in a prompt, None when it has none."""
    if fence := _FENCE.search(prompt):
        return fence.group(1)
    if not (first := _LINE.search(prompt)):
        return None
    return _LINE.sub("", prompt[first.start() :])


def parse(source: str) -> list[a.Answer]:
    """Raises `ScriptError` naming the line."""
    answers: list[a.Answer] = []
    now: list[a.Part] = []
    for number, joined, verb, rest in _statements(source):
        try:
            part = _part(verb, rest)
        except (ValueError, IndexError) as error:
            raise ScriptError(f"line {number}: {verb}: {error}") from error
        if now and not joined and (a.called(tuple(now)) or isinstance(now[-1], a.Stop)):
            answers.append(tuple(now))
            now = []
        now.append(part)
    if now:
        answers.append(tuple(now))
    if not answers or a.called(answers[-1]):
        answers.append((a.Say("Done."),))
    return answers


def _statements(source: str) -> Iterator[tuple[int, bool, str, str]]:
    lines = iter(enumerate(source.splitlines(), 1))
    for number, line in lines:
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        joined = text.startswith("+")
        verb, _, rest = text.lstrip("+ ").partition(" ")
        if here := re.search(r"<<(\w+)$", rest):
            body: list[str] = []
            for _, more in lines:
                if more.strip() == here.group(1):
                    break
                body.append(more)
            rest = rest[: here.start()] + "\n".join([*body, ""])
        else:
            rest = _ESCAPE.sub(lambda m: {"n": "\n", "t": "\t", "\\": "\\"}[m.group(1)], rest.strip())
        yield number, joined, verb, rest


def _part(verb: str, rest: str) -> a.Part:  # one branch per verb of the language
    match verb:
        case "say":
            return a.Say(rest)
        case "text":
            count = min(int(rest), WORDS_MAX)
            words = _FILLER.split()
            return a.Say(" ".join(words[i * 7 % len(words)] + (f"{i}." if i % 12 == 11 else "") for i in range(count)))
        case "think":
            return a.Think(rest)
        case "hold":
            return a.Hold(rest.strip())
        case "delay":
            return a.Delay(float(rest))
        case "hang":
            return a.Hang()
        case "cut":
            return a.Cut(int(rest or 1))
        case "garbage":
            return a.Garbage()
        case "stop":
            return a.Stop(rest.strip())
        case "error":
            numbers = [int(word) for word in rest.split()]
            return a.Fail(numbers[0], *numbers[1:3])
        case _:
            return _call(verb, rest)


def _call(verb: str, rest: str) -> a.Call:
    head, _, tail = rest.partition(" ")
    match verb:
        case "write":
            return a.Call("write", {"path": head, "content": tail})
        case "edit":
            old, arrow, new = tail.partition(" => ")
            if not arrow:
                raise ValueError("expected PATH OLD => NEW")
            return a.Call("edit", {"path": head, "old": old, "new": new.removesuffix("\n")})
        case "read":
            return a.Call("read", {"path": head})
        case "bash":
            return a.Call("bash", {"command": rest.removesuffix("\n")})
        case "ask":
            question, *options = (word.strip() for word in rest.split("|"))
            return a.Call("ask", {"question": question, "options": options or ["Yes", "No"]})
        case "todo":
            return a.Call("todo", {"items": [word.strip() for word in rest.split("|")]})
        case "plan":
            return a.Call("plan", {"plan": rest})
        case "agent":
            return a.Call("agent", {"prompt": rest})
        case "call":
            return a.Call(head, json.loads(tail or "{}"), raw=True)
        case _:
            raise ValueError("no such statement")
