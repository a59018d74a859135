"""A Messages request, read: which prompt it is about, what has been answered since, and which tools are offered.

Agents put more into user messages than the person's words: `<system-reminder>` blocks, notes about interruptions,
messages that were typed while the agent worked. Only the person's words are a prompt.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from pilothouse.adapters.models.demo.answer import Result

_REMINDER = re.compile(r"<system-reminder>.*?</system-reminder>", re.DOTALL)
_COMMAND = re.compile(r"<(command-name|command-message|command-args|local-command-[a-z]+)>.*?</\1>", re.DOTALL)
_STEERED = re.compile(r"The user sent (?:a new|the following) messages? while you were working:?\s*(.*)", re.DOTALL)
_INTERRUPTED = "[Request interrupted by user"
_CONTINUED = "This session is being continued from a previous conversation"
_CWD = re.compile(r"(?:Primary working directory|Working directory|cwd): *(\S[^\n]*)")
_PLAN_FILE = re.compile(r"(/\S+/plans/\S+?\.md)")
_PLAN_ON = "Plan mode is active"
_PLAN_OFF = ("Exited Plan Mode", "exited plan mode", "has approved your plan")
_DEFERRED = re.compile(r"deferred tools are now available via ToolSearch.*?:\n(?P<names>[A-Za-z0-9_\n]+)", re.DOTALL)
_NOTES = ("Your response above was ", "Output token limit hit.", "Tool loaded.", _CONTINUED)
"""What Claude Code says in the person's place: to have an answer continued, to say that a tool is loaded."""
_CUT = "Your response above was cut off"
_SUMMARY = "create a detailed summary of the conversation"


@dataclass(frozen=True, slots=True)
class Turn:
    """One answer of ours that the agent has taken, with what its calls gave."""

    tools: tuple[str, ...]
    results: list[Result]
    text: str = ""
    cut: bool = False
    """The agent took what arrived of an answer that broke off, and asks for the rest."""
    steered: str = ""
    """What the person typed meanwhile."""


@dataclass(frozen=True, slots=True)
class Conversation:
    prompt: str
    turns: list[Turn]
    offered: dict[str, dict[str, Any]]
    """Tools by name, with their input schemas."""
    deferred: frozenset[str]
    """Tools that exist but must be loaded through ToolSearch first."""
    cwd: str
    plan_file: str
    planning: bool
    side: str = ""
    """Set when the agent asks for itself: "title" or "summary"."""
    model: str = ""
    session: str = ""

    def can(self, *names: str) -> bool:
        return any(name in self.offered or name in self.deferred for name in names)


def read(body: dict[str, Any], session: str = "") -> Conversation:
    """Raises `ValueError` naming what is wrong with the request."""
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise ValueError("messages: expected a list that is not empty")
    if not all(isinstance(m, dict) and m.get("role") in ("user", "assistant", "system") for m in messages):
        raise ValueError("messages: each must be an object with role user or assistant")
    start, prompt = _prompt(messages)
    system = "\n".join(_texts(body.get("system")))
    before = "\n".join([system, *(t for m in messages[: start + 1] for t in _everything(m))])
    texts = "\n".join([before, *(t for m in messages[start + 1 :] for t in _everything(m))])
    offered = {
        t["name"]: t.get("input_schema") or {} for t in body.get("tools") or [] if isinstance(t, dict) and t.get("name")
    }
    cwd = _CWD.search(texts)
    plan_files = _PLAN_FILE.findall(texts)
    return Conversation(
        prompt=prompt,
        turns=_turns(messages[start + 1 :]),
        offered=offered,
        deferred=frozenset(n for m in _DEFERRED.finditer(texts) for n in m["names"].split()) - offered.keys(),
        cwd=cwd.group(1).strip() if cwd else ".",
        plan_file=plan_files[-1] if plan_files else "",
        planning=before.rfind(_PLAN_ON) > max(before.rfind(off) for off in _PLAN_OFF),
        side=_side(prompt, offered, system),
        model=str(body.get("model") or ""),
        session=session or str((body.get("metadata") or {}).get("user_id") or ""),
    )


def _side(prompt: str, offered: dict[str, Any], system: str) -> str:
    if _SUMMARY in prompt:
        return "summary"
    if not offered and "title" in system.lower():
        return "title"
    return ""


def _blocks(content: Any) -> list[dict[str, Any]]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return [b for b in content if isinstance(b, dict)] if isinstance(content, list) else []


def _texts(content: Any) -> list[str]:
    return [str(b.get("text") or "") for b in _blocks(content) if b.get("type") == "text"]


def _everything(message: dict[str, Any]) -> list[str]:
    """Texts of a message, those inside of tool results included."""
    texts = _texts(message.get("content"))
    for block in _blocks(message.get("content")):
        if block.get("type") == "tool_result":
            texts += _texts(block.get("content"))
    return texts


def _spoken(message: dict[str, Any]) -> str:
    """The person's words in a user message that make a new prompt, "" when there are none."""
    words: list[str] = []
    for text in _texts(message.get("content")):
        if text.lstrip().startswith(_INTERRUPTED):
            words.clear()
            continue
        text = _COMMAND.sub("", _REMINDER.sub("", text)).strip()
        if text and not _STEERED.match(text) and not text.startswith(_NOTES):
            words.append(text)
    return "\n".join(words)


def _prompt(messages: list[dict[str, Any]]) -> tuple[int, str]:
    for at in range(len(messages) - 1, -1, -1):
        if messages[at]["role"] == "user" and (words := _spoken(messages[at])):
            return at, words
    return 0, ""


def _turns(messages: list[dict[str, Any]]) -> list[Turn]:
    turns: list[Turn] = []
    for at, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        calls = [b for b in _blocks(message.get("content")) if b.get("type") == "tool_use"]
        results: dict[str, Result] = {}
        steered, cut = "", False
        for after in messages[at + 1 :]:
            if after["role"] == "assistant":
                break
            for block in _blocks(after.get("content")):
                if block.get("type") == "tool_result":
                    results[str(block.get("tool_use_id"))] = _result(block)
            steered = steered or _steered(after)
            cut = cut or any(t.startswith(_CUT) for t in _texts(after.get("content")))
        missing = Result("nothing came back for this call", True)
        turns.append(
            Turn(
                tools=tuple(str(c.get("name")) for c in calls),
                results=[results.get(str(c.get("id")), missing) for c in calls],
                text="".join(_texts(message.get("content"))),
                cut=cut,
                steered=steered,
            )
        )
    return turns


def _steered(message: dict[str, Any]) -> str:
    for text in _texts(message.get("content")):
        if found := _STEERED.search(text):
            return found.group(1).removesuffix("</system-reminder>").split("\n\n")[0].strip()
    return ""


def _result(block: dict[str, Any]) -> Result:
    text = "\n".join(_texts(block.get("content")))
    return Result(_REMINDER.sub("", text).strip("\n"), block.get("is_error") is True)
