"""A session's log as channels tell it.

    /session/SESSION    every event of the log          /dialog/JOB    the events of one job, `complete` last

The event is the log's (`core.events`), with its `seq` in it and beside it. `stream` carries its text as `text` too,
which is what clients of a dialog read. One over 240 KB is told without its contents, with `truncated.event` saying
where the whole is. What others publish there is `custom`: {"type": "custom", "name", "data"}.
"""

from __future__ import annotations

from typing import Any

import msgspec

from pilothouse.core.channels import Channel, Pattern
from pilothouse.core.errors import BadRequest
from pilothouse.core.publish import EVENT_MAX, Bad, Event
from pilothouse.core.said import DEPTH_MAX, shallow

NAME_MAX = 100
"""Characters of a custom event's name."""


class _Head(msgspec.Struct, rename="camel"):
    type: str
    session_id: str = ""
    job_id: str | None = None
    at: str = ""
    content: msgspec.Raw = msgspec.Raw()


class _Custom(msgspec.Struct):
    type: Any = None
    name: Any = None
    data: Any = None


_head = msgspec.json.Decoder(_Head)
_custom = msgspec.json.Decoder(_Custom)
_encode = msgspec.json.Encoder().encode


def told(body: bytes, seq: int) -> tuple[str | None, bytes]:
    """Whose job a row of the log is about, and the rest of its `data` frame (`core.publish`)."""
    job, event = event_of(body, seq)
    return job, b'"event":%b,"seq":%d}' % (event.raw, seq)


def renamed(body: bytes, job: str, name: str) -> bytes:
    """A row of the log in which a job is called as its caller called it. The envelope stands first in a row."""
    return body.replace(b'"jobId":"%b"' % job.encode(), b'"jobId":"%b"' % name.encode(), 1)


def event_of(body: bytes, seq: int) -> tuple[str | None, Event]:
    """The same as an event."""
    head = _head.decode(body)
    if head.type == "stream":
        body = b'%b,"text":%b}' % (body[:-1], bytes(head.content))
    if len(body) > EVENT_MAX:
        body = _encode(_short(head, seq, len(body)))
    return head.job_id, Event.of(body)


def _short(head: _Head, seq: int, size: int) -> dict[str, Any]:
    url = f"/api/sessions/{head.session_id}/events?after={seq - 1}&limit=1"
    short: dict[str, Any] = {"type": head.type, "sessionId": head.session_id, "at": head.at, "seq": seq}
    if head.job_id is not None:
        short["jobId"] = head.job_id
    return short | {"truncated": {"event": {"size": size, "url": url}}}


def about(where: Channel | Pattern) -> str:
    """The session or job that a channel is of, or `*`. Raises BadRequest."""
    parts = where.segments
    if len(parts) != 2:
        raise BadRequest(f"channel: expected /{parts[0]}/ID")
    return parts[1]


def custom(event: Event) -> tuple[str, Any]:
    """Name and data of what somebody publishes. Raises Bad."""
    try:
        said = _custom.decode(event.text)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        said = _Custom()
    if said.type != "custom":
        raise Bad("BadRequestException", 'events: here only {"type": "custom", "name", "data"} is published')
    if not isinstance(said.name, str) or not 0 < len(said.name) <= NAME_MAX or not said.name.isprintable():
        raise Bad("BadRequestException", f"events: name, expected 1 to {NAME_MAX} printable characters")
    if not shallow(said.data):
        raise Bad("BadRequestException", f"events: data, expected at most {DEPTH_MAX} levels")
    return said.name, said.data
