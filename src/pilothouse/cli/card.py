"""What a person is shown before deciding, and what the typed answer means. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import msgspec

from pilothouse.cli import text, wire
from pilothouse.cli.style import Style
from pilothouse.core import events as ev


@dataclass(frozen=True, slots=True)
class Decision:
    approved: bool
    option: str | None = None
    message: str | None = None


def approval(item: wire.Approval, style: Style, edited: ev.Json = None) -> str:
    """The whole input, never cut: what is not shown here is not approved."""
    lines = [style(f"┌ {_head(item)}", "yellow")]
    if item.reason:
        lines.append(f"reason: {text.exact(item.reason)}")
    if item.second_approver:
        lines.append(style("somebody other than whoever asked for it has to approve this", "bold"))
    lines.append(text.pretty(item.input))
    if item.changes is not None:
        lines += [style("would change:", "bold"), text.pretty(item.changes)]
    if item.diff:
        lines.append(style.diff(item.diff))
    if edited is not None:
        lines += [style("changed by you to:", "bold"), text.pretty(edited)]
    lines += [f"{n}) {_option(option)}" for n, option in enumerate(item.options, 1)]
    if item.expires_at:
        lines.append(style(f"denied by itself at {text.line(item.expires_at, 40)}", "dim"))
    lines.append(style(f"└ {text.line(item.approval_id, 60)}", "yellow"))
    return "\n".join(lines) + "\n"


def _head(item: wire.Approval) -> str:
    given = item.input
    if item.tool == "network" and isinstance(given, dict) and set(given) == {"host", "port"}:
        return f"Connect to {text.exact(str(given['host']))}, port {text.exact(str(given['port']))}"
    return f"{text.exact(item.tool)} asks for approval"


def _option(option: ev.Option) -> str:
    rule = f" [{text.exact(option.rule)}]" if option.rule and option.rule not in option.label else ""
    return f"{text.exact(option.label)}{rule}"


HELP = "y = yes, n = no, n TEXT = no and tell the agent why, e = edit the input, a number = that option"


def decide(typed: str, item: wire.Approval) -> Decision | Literal["edit"] | None:
    """None: not understood."""
    word, _, rest = typed.strip().partition(" ")
    rest = rest.strip()
    if word.lower() in {"y", "yes"} and not rest:
        return Decision(True)
    if word.lower() in {"n", "no"}:
        return Decision(False, message=rest or None)
    if word.lower() in {"e", "edit"} and not rest:
        return "edit"
    if word.isascii() and word.isdigit() and len(word) < 4 and 1 <= int(word) <= len(item.options):
        option = item.options[int(word) - 1]
        return Decision(option.outcome == "approved", option=option.id, message=rest or None)
    return None


def edited(content: str) -> dict[str, ev.Json] | str:
    """The input as edited, or what is wrong with it."""
    try:
        return msgspec.json.decode(content, type=dict[str, ev.Json])
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        return str(error)


def lacking(item: wire.Approval, changed: dict[str, ev.Json]) -> str:
    """Of the asked input what the changed one is without, in words. It may be meant so: not every field is needed."""
    left = [name for name in item.input if name not in changed] if isinstance(item.input, dict) else []
    names = ", ".join(text.line(name, 60) for name in left)
    return f"the changed input is without {names}, and the tool gets nothing but the changed input" if left else ""


def question(asked: ev.Question, style: Style) -> str:
    head = f"{text.exact(asked.header)}: " if asked.header else ""
    lines = [style(f"? {head}{text.exact(asked.question)}", "yellow")]
    for n, choice in enumerate(asked.options, 1):
        more = f" — {text.exact(choice.description)}" if choice.description else ""
        lines.append(f"{n}) {text.exact(choice.label)}{more}")
    return "\n".join(lines) + "\n"


def answer(typed: str, asked: ev.Question) -> str | None:
    """Numbers are choices (several where `multi`, with commas between), anything else is the answer itself."""
    words = [part.strip() for part in typed.split(",") if part.strip()]
    if not words:
        return None
    if not asked.options or not all(w.isascii() and w.isdigit() and len(w) < 4 for w in words):
        return typed.strip()
    picked = [int(w) for w in words]
    if not all(1 <= n <= len(asked.options) for n in picked) or (len(picked) > 1 and not asked.multi):
        return None
    return ", ".join(asked.options[n - 1].label for n in dict.fromkeys(picked))
