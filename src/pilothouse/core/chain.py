"""The audit's records: their canonical form, how each holds the one before it, and how a file of them is checked.

A record is one JSON object of these members, all of them always there:

    v        1
    org      the organisation whose chain it is
    seq      1, 2, 3 … without holes
    at       RFC 3339, UTC, milliseconds
    actor    who: {"kind": "person"|"key"|"link"|"server"|"nobody", "id", "name", "credential"}
    action   what: words joined by a dot, such as `key.create`
    object   to which thing: `kind:id`, or ""
    address  from where: an IP address, or ""
    outcome  "ok", "refused" or "failed"
    details  further members: names of letters, digits and _; values are text, whole numbers, true, false, lists of text
    prev     the hash of the record before it; 64 zeros for the first
    hash     SHA-256, in hex, of the canonical form of the record without this member

The canonical form is that of RFC 8785, for what occurs here: UTF-8, members in the order of their names, no white
space, no fractions; in text only `"`, `\\` and control characters are escaped (`\\b \\t \\n \\f \\r`, else
`\\u00xx`). A file has one record in a line, in this form, `hash` included: a line in any other form is broken.

Whoever changes, removes or moves a record of the middle breaks a hash. Who cuts off the end does not: that is seen only
by somebody who knows the hash of the newest record from elsewhere.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import msgspec

VERSION = 1
ORIGIN = "0" * 64
"""What the first record holds."""
TEXT_MAX = 500
"""Characters of one text: a record says who and what, it does not keep contents."""
LIST_MAX = 100
Outcome = Literal["ok", "refused", "failed"]
Value: TypeAlias = str | int | bool | list[str]
_NAME = re.compile(r"[a-z][A-Za-z0-9_]{0,39}\Z")
_HASH = re.compile(r"[0-9a-f]{64}\Z")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_canonical = msgspec.json.Encoder(order="sorted")


class _Numbered(msgspec.Struct, frozen=True):
    seq: int


_numbered = msgspec.json.Decoder(_Numbered)


class Actor(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    kind: str
    id: str = ""
    name: str = ""
    credential: str = ""


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    v: Literal[1]
    org: str
    seq: int
    at: str
    actor: Actor
    action: str
    object: str
    address: str
    outcome: Outcome
    details: dict[str, Any]
    prev: str
    hash: str


@dataclass(frozen=True, slots=True)
class Head:
    """The newest record of a chain."""

    seq: int = 0
    hash: str = ORIGIN


@dataclass(frozen=True, slots=True)
class Broken:
    """The first line that does not hold. `seq` as the line says it, or as was expected."""

    line: int
    seq: int
    why: str


@dataclass(frozen=True, slots=True)
class Whole:
    """Records `first` to `last` hold each other. `prev` is what the first one holds."""

    org: str
    first: int
    last: int
    prev: str
    hash: str


def seal(
    head: Head,
    *,
    org: str,
    at: str,
    actor: Actor,
    action: str,
    object: str,
    address: str,
    outcome: Outcome,
    details: Mapping[str, Value],
) -> tuple[Head, bytes]:
    """The next record, in its canonical form, and the head that it makes. Texts are cut to TEXT_MAX. Raises ValueError
    for details that a record cannot hold."""
    record: dict[str, Any] = {
        "v": VERSION,
        "org": _text(org),
        "seq": head.seq + 1,
        "at": at,
        "actor": {name: _text(value) for name, value in msgspec.to_builtins(actor).items()},
        "action": _text(action),
        "object": _text(object),
        "address": _text(address),
        "outcome": outcome,
        "details": {_name(name): _value(value) for name, value in details.items()},
        "prev": head.hash,
    }
    digest = _digest(record)
    return Head(head.seq + 1, digest), _canonical.encode({**record, "hash": digest})


def number(line: bytes) -> int:
    """Of a record that has been sealed."""
    return _numbered.decode(line).seq


def verify(lines: Iterable[bytes], head: Head | None = None) -> Whole | Broken:
    """Checks a file's records. `head`: what the newest once was known to be; without it a missing end is not seen."""
    first: Record | None = None
    last: Record | None = None
    number = 0
    for number, line in enumerate(lines, 1):
        found = _read(line)
        if isinstance(found, str):
            return Broken(number, last.seq + 1 if last else 1, found)
        why = _after(last, found)
        if not why and head is not None:
            why = _unlike(head, found, beginning=last is None)
        if why:
            return Broken(number, found.seq, why)
        first, last = first or found, found
    if first is None or last is None:
        return Broken(1, 1, "there is no record")
    if head is not None and last.seq < head.seq:
        return Broken(number + 1, last.seq + 1, f"the end is missing: there was a record {head.seq}")
    return Whole(first.org, first.seq, last.seq, first.prev, last.hash)


def _after(last: Record | None, found: Record) -> str:
    """What is wrong with a record in its place."""
    if last is None:
        return "the first record must hold 64 zeros" if found.seq == 1 and found.prev != ORIGIN else ""
    if found.org != last.org:
        return f"it is of the organisation {found.org!r}, not {last.org!r}"
    if found.seq > last.seq + 1:
        return f"{last.seq + 1} to {found.seq - 1} are missing"
    if found.seq <= last.seq:
        return f"it stands after {last.seq}"
    return "it does not hold the hash of the record before it" if found.prev != last.hash else ""


def _unlike(head: Head, found: Record, *, beginning: bool) -> str:
    """What is wrong with a record by one that is known."""
    if found.seq == head.seq and found.hash != head.hash:
        return "its hash was another one: the whole chain was made anew, or the known one is of another chain"
    if not beginning or found.seq <= head.seq:
        return ""
    if found.seq > head.seq + 1:
        return f"it begins after record {head.seq}, the one that is known: nothing ties it to that"
    return "" if found.prev == head.hash else "it does not go on from the record that is known"


def _read(line: bytes) -> Record | str:
    """A record, or what is wrong with the line."""
    try:
        plain = msgspec.json.decode(line)
        record = msgspec.convert(plain, Record, strict=True)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return "it is no record"
    if not _HASH.match(record.prev) or record.seq < 1:
        return "it is no record"
    if _canonical.encode(plain) != line:
        return "it is not in the canonical form"
    del plain["hash"]
    return record if _digest(plain) == record.hash else "its content is not what its hash says"


def _digest(record: Mapping[str, Any]) -> str:
    return hashlib.sha256(_canonical.encode(record)).hexdigest()


def _text(text: str) -> str:
    return _SURROGATE.sub("\ufffd", text[:TEXT_MAX])


def _name(name: str) -> str:
    if not _NAME.match(name):
        raise ValueError(f"detail {name!r}: letters, digits and _")
    return name


def _value(value: Value) -> Value:
    if isinstance(value, bool):
        return value
    if isinstance(value, int) and abs(value) < 2**53:
        return value
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return [_text(each) for each in value[:LIST_MAX]]
    raise ValueError("a detail is text, a whole number, true, false, or a list of text")
