"""Counts the tokens of a Messages answer while its bytes pass: server-sent events or one JSON object.

`feed` takes whatever arrived and never raises; `tokens` is what is known so far. An answer that breaks off before its
`message_delta` is counted by the text that passed, four bytes to a token: an answer that was cut is paid for too.
"""

from __future__ import annotations

from typing import Any

import msgspec

from pilothouse.core.prices import Tokens

LINE_MAX = 4 * 1024 * 1024
"""One event's data; a longer line is skipped, not counted."""
WHOLE_MAX = 64 * 1024 * 1024
"""An answer that is not streamed."""
_COUNT_MAX = 10**9
_BYTES_PER_TOKEN = 4


class _Usage(msgspec.Struct):
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None


class _Message(msgspec.Struct):
    usage: _Usage | None = None
    model: str = ""


class _Delta(msgspec.Struct):
    text: str = ""
    thinking: str = ""
    partial_json: str = ""


class _Event(msgspec.Struct):
    type: str = ""
    message: _Message | None = None
    usage: _Usage | None = None
    delta: _Delta | None = None
    model: str = ""


_event = msgspec.json.Decoder(_Event)


class Meter:
    """One per call."""

    def __init__(self, streamed: bool) -> None:
        self._streamed = streamed
        self._buffer = bytearray()
        self._skipping = False
        self._seen: dict[str, int] = {}
        self._passed = 0
        self.finished = False
        """The answer has come to its proper end."""

    def feed(self, data: bytes) -> None:
        if self.finished and not self._streamed:
            return
        self._buffer += data
        if self._streamed:
            self._lines()
        elif len(self._buffer) > WHOLE_MAX:
            self._buffer.clear()
            self._skipping = True

    def end(self) -> None:
        """No more bytes come."""
        if not self._streamed and not self._skipping:
            self._take(bytes(self._buffer))
            self.finished = bool(self._seen)
        self._buffer.clear()

    @property
    def tokens(self) -> Tokens:
        made = self._seen.get("output_tokens", 0)
        if not self.finished:
            made = max(made, self._passed // _BYTES_PER_TOKEN)
        return Tokens(
            input=self._seen.get("input_tokens", 0),
            output=made,
            cache_read=self._seen.get("cache_read_input_tokens", 0),
            cache_write=self._seen.get("cache_creation_input_tokens", 0),
        )

    def _lines(self) -> None:
        while (at := self._buffer.find(b"\n")) >= 0:
            line = bytes(self._buffer[:at])
            del self._buffer[: at + 1]
            if not self._skipping and line.startswith(b"data:"):
                self._take(line[5:])
            self._skipping = False
        if len(self._buffer) > LINE_MAX:
            self._buffer.clear()
            self._skipping = True

    def _take(self, data: bytes) -> None:
        try:
            event = _event.decode(data)
        except (msgspec.MsgspecError, ValueError):
            return
        if event.message is not None and event.message.usage is not None:
            self._note(event.message.usage)
        if event.usage is not None:
            self._note(event.usage)
        if event.delta is not None:
            self._passed += len(event.delta.text) + len(event.delta.thinking) + len(event.delta.partial_json)
        if event.type in ("message_stop", "message"):
            self.finished = True

    def _note(self, usage: _Usage) -> None:
        """Figures of one answer only grow: `message_delta` repeats what `message_start` said, or says more."""
        for name in usage.__struct_fields__:
            value: Any = getattr(usage, name)
            if value is not None and 0 <= value <= _COUNT_MAX:
                self._seen[name] = max(self._seen.get(name, 0), value)
