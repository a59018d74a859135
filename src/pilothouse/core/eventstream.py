"""AWS event stream (`application/vnd.amazon.eventstream`), the framing of Amazon Bedrock's streamed answers.

    [u32 total length][u32 headers length][u32 crc32 of these 8 bytes]
    headers: ([u8 length][name][u8 type][value])*      type 7: [u16 length][UTF-8]
    payload
    [u32 crc32 of everything before]

All big-endian. `Decoder.feed` gives whole messages and raises `Broken` for bytes that are none; the end of reading.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from zlib import crc32

MESSAGE_MAX = 24 * 1024 * 1024
"""The format's own limit of payload and headers, rounded up."""
_PRELUDE = struct.Struct(">III")
_TRAILER = 4
_FIXED = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
"""Sizes of header types that carry no length; 0 and 1 are true and false."""
_TEXT = 7
_BYTES = 6


class Broken(ValueError):
    """Bytes that are no event stream."""


@dataclass(frozen=True, slots=True)
class Message:
    headers: dict[str, str]
    """Those that are text."""
    payload: bytes


class Decoder:
    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Message]:
        self._buffer += data
        messages: list[Message] = []
        while len(self._buffer) >= _PRELUDE.size:
            total, headers, check = _PRELUDE.unpack_from(self._buffer)
            if crc32(self._buffer[:8]) != check:
                raise Broken("checksum of the prelude")
            if not _PRELUDE.size + headers + _TRAILER <= total <= MESSAGE_MAX:
                raise Broken(f"message of {total} bytes with {headers} bytes of headers")
            if len(self._buffer) < total:
                break
            whole = bytes(self._buffer[:total])
            del self._buffer[:total]
            if crc32(whole[:-_TRAILER]) != int.from_bytes(whole[-_TRAILER:], "big"):
                raise Broken("checksum of the message")
            body = _PRELUDE.size + headers
            messages.append(Message(_headers(whole[_PRELUDE.size : body]), whole[body:-_TRAILER]))
        return messages


def _headers(data: bytes) -> dict[str, str]:
    found: dict[str, str] = {}
    at = 0
    try:
        while at < len(data):
            size = data[at]
            name = data[at + 1 : at + 1 + size].decode()
            at += 1 + size
            kind = data[at]
            at += 1
            if kind in (_TEXT, _BYTES):
                (size,) = struct.unpack_from(">H", data, at)
                value = data[at + 2 : at + 2 + size]
                if len(value) < size:
                    raise Broken(f"header {name} is cut")
                at += 2 + size
                if kind == _TEXT:
                    found[name] = value.decode()
            else:
                at += _FIXED[kind]
    except (IndexError, KeyError, struct.error, UnicodeDecodeError) as error:
        raise Broken(f"headers: {error}") from None
    return found
