"""What our own viewers and the server say beside the bytes of a shell: JSON on the channel CONTROL (`core.frames`).

Viewer -> server
    {"type": "pause"}                   send no output until told otherwise; it is kept, and if it must go it is counted
    {"type": "resume"}
    {"type": "seen", "offset": n}       I have the output up to there. Whoever types and says so from its first word on
                                        loses none of it, however much was on its way when the server was killed
    {"type": "role", "role": "type" | "watch"}
    {"type": "take"}                    I alone type now
    {"type": "give", "to": viewerId}    that one types instead of me

Server -> viewer
    {"type": "presence", "you": viewerId, "viewers": [{"id", "name", "role", "mayType", "size"?: {"width", "height"}}]}
    {"type": "size", "width", "height"}     of the shell, from here on in its output, in a replay too; a viewer of
                                            another size shows it at this one
    {"type": "typed", "offset": n}          so many bytes of this viewer's input have reached the shell, in all
    {"type": "refused", "what", "message"}  a message of the viewer's that was not carried out

A viewer that comes back says which typist it was and gets from `typed` where to go on: what was not counted, it sends
again; so nothing is typed twice or lost, whoever was restarted meanwhile.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from pilothouse.core import frames
from pilothouse.core.audience import Role, Viewer, ViewerId, shown
from pilothouse.core.frames import Fault
from pilothouse.core.shell import Size

CONTROL_MAX = 1024
"""Bytes; the longest a viewer sends is a `give`."""


class Pause(Struct, frozen=True, tag="pause", forbid_unknown_fields=True):
    pass


class Resume(Struct, frozen=True, tag="resume", forbid_unknown_fields=True):
    pass


class Seen(Struct, frozen=True, tag="seen", forbid_unknown_fields=True):
    offset: Annotated[int, Meta(ge=0, le=1 << 53)]


class Become(Struct, frozen=True, tag="role", forbid_unknown_fields=True):
    role: Role


class Take(Struct, frozen=True, tag="take", forbid_unknown_fields=True):
    pass


class Give(Struct, frozen=True, tag="give", forbid_unknown_fields=True):
    to: str


Asked = Pause | Resume | Seen | Become | Take | Give
_asked: msgspec.json.Decoder[Asked] = msgspec.json.Decoder(Asked)


def decode(payload: bytes) -> Asked | Fault:
    if len(payload) > CONTROL_MAX:
        return Fault("control", frames.POLICY, f"CONTROL: more than {CONTROL_MAX} bytes")
    try:
        return _asked.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return Fault("control", frames.POLICY, f"CONTROL: {str(error)[: frames.SHOWN_MAX]}")


def _size(size: Size) -> dict[str, int]:
    return {"width": size.cols, "height": size.rows}


def _frame(type: Literal["presence", "size", "typed", "refused"], **body: object) -> bytes:
    return frames.control(msgspec.json.encode({"type": type, **body}))


def presence(you: ViewerId, viewers: tuple[Viewer, ...], *, guest: bool = False) -> bytes:
    """`guest`: who is told came by a share link."""
    told = [
        {
            "id": v.id,
            "name": shown(v.name, guest=guest),
            "role": v.role,
            "mayType": v.may_type,
            **({"size": _size(v.size)} if v.size else {}),
        }
        for v in viewers
    ]
    return _frame("presence", you=you, viewers=told)


def sized(size: Size) -> bytes:
    return _frame("size", **_size(size))


def typed(offset: int) -> bytes:
    return _frame("typed", offset=offset)


def refused(what: str, message: str) -> bytes:
    return _frame("refused", what=what, message=message)
