"""What is published: by HTTP, in a frame, and as each subscriber gets it.

    POST   {"channel": "/default/room", "events": ["{\\"a\\":1}", "null"]}          ours: "key"
    200    {"successful": [{"identifier", "index"}], "failed": [{"identifier", "index", "code", "message"}]}
    4xx    {"errors": [{"errorType", "message"}]}, and the first type in `x-amzn-errortype`

Each event is a text that holds one JSON value. It is checked and passed on as it came: the text's own escapes are those
of the frame, so it is never written anew.

    rest of a data frame   "event":TEXT}                                   of a channel without history
                           "event":TEXT,"at":TIME,"seq":N}                 with one
                           "channel":PATH,"event":…                        for a wildcard's subscriber
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from pilothouse.core import channels
from pilothouse.core.channels import Channel

EVENTS_MAX = 5
"""In one request; AppSync's number."""
EVENT_MAX = 240 * 1024
"""Bytes of one event's value; AppSync's number."""
KEY_MAX = 128
"""Characters of a publisher's own name for a request."""


class Bad(ValueError):
    """What was sent is wrong; `type` is AppSync's word for it."""

    def __init__(self, type: str, message: str) -> None:
        super().__init__(message)
        self.type = type


class TooManyEvents(Bad):
    """More than `EVENTS_MAX`: the two doors have two words for it."""

    def __init__(self) -> None:
        super().__init__("InvalidInputError", f"input exceeded {EVENTS_MAX} event limit")


@dataclass(frozen=True, slots=True)
class Event:
    raw: bytes
    """The text as JSON, with its quotes and escapes."""
    text: str
    """The text: a JSON value."""

    @classmethod
    def of(cls, value: bytes) -> Event:
        """Of a value that is JSON already."""
        text = value.decode()
        return cls(_encode(text), text)

    @property
    def size(self) -> int:
        return len(self.text.encode())


class Taken(msgspec.Struct, frozen=True):
    identifier: str
    index: int


class Failed(msgspec.Struct, frozen=True):
    identifier: str
    index: int
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Request:
    """A publish by HTTP."""

    channel: Channel
    events: tuple[Event, ...]
    key: str | None = None


class _Body(msgspec.Struct):
    channel: Any = None
    events: msgspec.Raw = msgspec.Raw()
    key: Any = None


_encode = msgspec.json.Encoder().encode
_body = msgspec.json.Decoder(_Body)
_list = msgspec.json.Decoder(list[msgspec.Raw])
_text = msgspec.json.Decoder(str)
_value = msgspec.json.Decoder(msgspec.Raw)
_MALFORMED = (msgspec.MsgspecError, ValueError, RecursionError)


def request(body: bytes) -> Request:
    """Raises Bad."""
    try:
        body.decode()
        said = _body.decode(body)
    except _MALFORMED:
        raise Bad("BadRequestException", "body: expected a JSON object with channel and events") from None
    try:
        return Request(channels.channel(said.channel), events_of(said.events), key_of(said.key))
    except channels.BadChannel as error:
        raise Bad("BadRequestException", error.message) from None
    except TooManyEvents:
        raise Bad("BadRequestException", f"Input exceeded {EVENTS_MAX} event limit") from None


def events_of(raw: msgspec.Raw) -> tuple[Event, ...]:
    """Raises Bad, TooManyEvents."""
    try:
        given = _list.decode(raw)
    except _MALFORMED:
        raise Bad("BadRequestException", "events: expected a list of texts") from None
    if not given:
        raise Bad("BadRequestException", "events: there are none")
    if len(given) > EVENTS_MAX:
        raise TooManyEvents
    return tuple(_event(bytes(one), index) for index, one in enumerate(given))


def key_of(value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not 0 < len(value) <= KEY_MAX or not value.isprintable():
        raise Bad("BadRequestException", f"key: expected 1 to {KEY_MAX} printable characters")
    return value


def _event(raw: bytes, index: int) -> Event:
    try:
        text = _text.decode(raw)
    except _MALFORMED:
        raise Bad("BadRequestException", f"events[{index}]: expected a text that holds a JSON value") from None
    try:
        _value.decode(text)
    except _MALFORMED:
        raise Bad("BadRequestException", f"events[{index}]: the text is no JSON value") from None
    return Event(raw, text)


def too_large(event: Event) -> bool:
    return len(event.text) > EVENT_MAX or event.size > EVENT_MAX


# --- as subscribers get it ---


def kept(event: Event, at: str) -> bytes:
    """As a channel's history keeps it; the store adds `seq` at the end."""
    return b'{"event":%b,"at":"%b"}' % (event.raw, at.encode())


def rest(event: Event) -> bytes:
    """The rest of its `data` frame, where nothing is kept."""
    return b'"event":%b}' % event.raw


def rest_of_row(body: bytes) -> bytes:
    """The rest of the frame, from a row of the history."""
    return body[1:]


def named(rest: bytes, channel: Channel) -> bytes:
    """The same for a wildcard's subscriber, who is told where it was published."""
    return b'"channel":"%b",%b' % (channel.path.encode(), rest)
