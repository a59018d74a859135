"""Long fields: cut to head and tail for the log, whole beside it.

A field of an event over `FIELD_MAX` bytes keeps its first and last `KEEP` bytes with a line between that says how much
is missing; `truncated[field]` gives the full size and the address. In `input` the long texts inside are cut one by
one, so that a card can still show the file's name.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import msgspec

from pilothouse.core import events as ev

KEEP = 8 * 1024
"""Bytes kept at each end: a screenful and more."""
FIELDS = ("content", "result", "input", "updated_input", "changes", "diff", "message", "entries", "data")


@dataclass(frozen=True, slots=True)
class Whole:
    """A field's full text. `digest` names it."""

    digest: str
    text: bytes


def shorten(text: str) -> str:
    data = text.encode("utf-8", "replace")
    if len(data) <= 2 * KEEP:
        return text
    head = data[:KEEP].decode("utf-8", "ignore")
    tail = data[-KEEP:].decode("utf-8", "ignore")
    return f"{head}\n… {len(data) - 2 * KEEP} bytes left out …\n{tail}"


def cut(event: ev.Event, address: str) -> tuple[ev.Event, list[Whole]]:
    """The event as it is logged, and the full texts to keep. `address` + digest is a text's URL."""
    wholes: list[Whole] = []
    changes: dict[str, Any] = {}
    marks: dict[str, ev.Cut] = {}
    for name in FIELDS:
        value = getattr(event, name, None)
        if value is None:
            continue
        data = value.encode("utf-8", "replace") if isinstance(value, str) else msgspec.json.encode(value)
        if len(data) <= ev.FIELD_MAX:
            continue
        whole = Whole(hashlib.sha256(data).hexdigest(), data)
        wholes.append(whole)
        changes[name] = _shorter(value)
        marks[_camel(name)] = ev.Cut(size=len(data), url=address + whole.digest)
    if not marks:
        return event, []
    return msgspec.structs.replace(event, truncated=marks, **changes), wholes


def _shorter(value: Any) -> Any:
    """What is logged of a long field: never longer than `FIELD_MAX`, and of the field's own type."""
    if isinstance(value, str):
        return shorten(value)
    if isinstance(value, list) and value and isinstance(value[0], ev.Diff):
        return _fitting([msgspec.structs.replace(d, path=d.path[:1000], patch=shorten(d.patch)) for d in value])
    if isinstance(value, list) and value and isinstance(value[0], ev.PlanEntry):
        return _fitting([msgspec.structs.replace(e, content=e.content[:500]) for e in value])
    if isinstance(value, dict):
        shorter = {str(k)[:200]: shorten(v) if isinstance(v, str) else v for k, v in list(value.items())[:50]}
        if len(msgspec.json.encode(shorter)) <= ev.FIELD_MAX:
            return shorter
    return {"_cut": shorten(msgspec.json.encode(value).decode())}


def _fitting(parts: list[Any]) -> list[Any]:
    """As many as fit, from the first; the whole is kept beside the log."""
    out: list[Any] = []
    left = ev.FIELD_MAX
    for part in parts:
        left -= len(msgspec.json.encode(part)) + 1
        if left < 2:
            break
        out.append(part)
    return out


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part.title() for part in rest)
