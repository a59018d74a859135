"""Folding: runs of small text rows become one row that keeps the last `seq` and says `from`.

    {"type":"stream","messageId":"m","content":"Hel", …,"seq":7}
    {"type":"stream","messageId":"m","content":"lo",  …,"seq":8}    ->  {…,"content":"Hello","from":7,"seq":8}

Only neighbours are joined, only of one type, message and job, and never a row whose text was cut. A folded row may be
folded again with what follows it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import msgspec

from pilothouse.core import events as ev


@dataclass(frozen=True, slots=True)
class Folded:
    """A row after folding; it stands for the rows `first` to `seq`. `body` is None when the row is as it was."""

    first: int
    seq: int
    body: bytes | None


def fold(rows: Iterable[tuple[int, int, bytes]]) -> Iterator[Folded]:
    """Rows as `(first, seq, body)`, ascending, in; what should be stored instead out."""
    run: list[ev.Stream | ev.Thinking] = []
    first = last = size = 0
    for row_first, seq, body in rows:
        event = _text(body)
        grows = event is not None and run and _joins(run[-1], event) and row_first == last + 1
        if grows and event is not None and size + _size(event) <= ev.FIELD_MAX:
            run.append(event)
            size += _size(event)
            last = seq
            continue
        if run:
            yield _join(run, first, last)
        if event is None:
            run = []
            yield Folded(row_first, seq, None)
        else:
            run, first, last, size = [event], row_first, seq, _size(event)
    if run:
        yield _join(run, first, last)


def _text(body: bytes) -> ev.Stream | ev.Thinking | None:
    """The event, if it is one that may be joined. Two cheap looks save decoding what is no text."""
    if b'"stream"' not in body and b'"thinking"' not in body:
        return None
    try:
        event = ev.decode(body)
    except ValueError:
        return None  # written by another version: it stays as it is
    if not isinstance(event, ev.Stream | ev.Thinking) or event.truncated:
        return None
    return event


def _joins(before: ev.Stream | ev.Thinking, event: ev.Stream | ev.Thinking) -> bool:
    return (
        type(before) is type(event)
        and before.message_id == event.message_id
        and before.job_id == event.job_id
        and before.session_id == event.session_id
    )


def _size(event: ev.Stream | ev.Thinking) -> int:
    return len(event.content.encode())


def _join(run: list[ev.Stream | ev.Thinking], first: int, last: int) -> Folded:
    if len(run) == 1:
        return Folded(first, last, None)
    content = "".join(event.content for event in run)
    whole = msgspec.structs.replace(run[-1], content=content, from_=first, seq=0)
    return Folded(first, last, ev.seal(ev.encode(whole), last))
