"""What a runner said, made safe to log: a hostile program wrote it.

`clean` wipes the envelope (the server fills it in), checks ids, and bounds what no agent has reason to make long. It
answers the cleaned event or `Broken`; it never raises. Long texts are not its business: `core.cut` keeps them whole.
"""

from __future__ import annotations

from typing import Any

import msgspec

from pilothouse.core import events as ev
from pilothouse.core import ids, link
from pilothouse.core.link import Broken, RunnerEvent

NAME_MAX = 200
"""Characters of a tool's name, a title, a mode, a model."""
LIST_MAX = 500
"""Entries of a plan, commands, locations, files of one diff."""
TEXT_MAX = 8 * 1024
"""Characters of a question, a reason, a path, a plan's entry, a command's name: what a person reads in one go."""
SERVERS_CODES = ("limit_", "runner_protocol")
"""How codes of `error` begin that are the server's own word: what it measured outside, no runner may claim."""
DEPTH_MAX = 60
"""Levels of nested JSON: deeper is an attack on whoever walks it."""

_IDS = ("message_id", "tool_id", "parent_tool_id", "request_id", "turn_id")
_NAMES = ("tool", "title", "mode", "model", "code", "claude_session_id")
_TEXTS = ("reason",)
_LISTS = ("entries", "commands", "locations", "diff", "questions", "suggestions")


def clean(event: RunnerEvent) -> RunnerEvent | Broken:
    changes: dict[str, Any] = {"session_id": "", "job_id": None, "at": "", "seq": 0, "truncated": None}
    if isinstance(event, ev.Stream | ev.Thinking):
        changes["from_"] = 0
    if isinstance(event, ev.ErrorEvent) and event.code.startswith(SERVERS_CODES):
        return Broken("ErrorEvent.code is one of the server's own")
    for name in _IDS:
        value = getattr(event, name, None)
        if value is not None and not ids.is_foreign(value):
            return Broken(f"{event.__class__.__name__}.{name} is no id")
    for name in _NAMES:
        value = getattr(event, name, None)
        if isinstance(value, str) and len(value) > NAME_MAX:
            changes[name] = value[: NAME_MAX - 1] + "…"
    for name in _LISTS:
        value = getattr(event, name, None)
        if isinstance(value, list) and len(value) > LIST_MAX:
            changes[name] = value[:LIST_MAX]
    for name in _TEXTS:
        value = getattr(event, name, None)
        if isinstance(value, str):
            changes[name] = _bounded(value)
    for name in ("locations", "commands", "entries", "questions"):
        value = changes.get(name, getattr(event, name, None))
        if isinstance(value, list):
            changes[name] = [_bounded(part) for part in value]
    if isinstance(event, link.QuestionAsk) and len(msgspec.json.encode(changes["questions"])) > ev.FIELD_MAX:
        return Broken("QuestionAsk.questions is longer than a person would read")
    deep = getattr(event, "input", None)
    if deep is not None and not shallow(deep):
        return Broken(f"{event.__class__.__name__}.input is nested too deeply")
    return msgspec.structs.replace(event, **changes)


def _bounded(part: Any) -> Any:
    """The texts of a small thing, none longer than `TEXT_MAX`."""
    if isinstance(part, str):
        return part if len(part) <= TEXT_MAX else part[: TEXT_MAX - 1] + "…"
    if isinstance(part, list):
        return [_bounded(one) for one in part[:LIST_MAX]]
    if isinstance(part, msgspec.Struct):
        fields = {name: getattr(part, name) for name in part.__struct_fields__}
        return msgspec.structs.replace(part, **{n: _bounded(v) for n, v in fields.items()})
    return part


def shallow(value: Any, depth: int = DEPTH_MAX) -> bool:
    """Is this JSON nested at most `depth` levels?"""
    if depth < 0:
        return False
    if isinstance(value, dict):
        return all(shallow(v, depth - 1) for v in value.values())
    if isinstance(value, list):
        return all(shallow(v, depth - 1) for v in value)
    return True
