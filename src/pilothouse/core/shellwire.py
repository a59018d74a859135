"""The shells' wire: server <-> holder, over a unix stream socket, one connection per session. The newest connection is
the one that counts; a holder hangs up on the one before.

The output of a shell does not pass here. The holder reads it into a piece of memory that the server has mapped too (a
memfd, handed over once with SHELL), and then says how far it has come; the bytes stand where `core.scrollback` puts
them, after some numbers, native 64 bits, which the server writes and which are there after the server was killed: first
how much of the output the viewers have seen, then what `adapters.shells.lending` says.

A holder may lend a shell's PTY to a server that asked for that: the server then reads and types itself, and puts the
output into the memory, until it gives the PTY back or its connection ends.

A record is 16 bytes, native order, and a payload of at most PAYLOAD_MAX bytes:

    kind 1 | slot 1 | flags 2 | length of the payload 4 | offset 8

server -> holder
    HELLO            {"proto": 1, "lend"?: true}        first on every connection; lend: PTYs are welcome
    START            {"id", "argv", "env", "cwd", "cols", "rows", "scrollback", "secrets"?: {name: value},
                      "files"?: {name: value}, "command"?: true: somebody's program, not a session's own shell};
                      secrets go into its environment, files into files whose paths its environment has as NAME_FILE;
                      these values are hidden, as with HIDE
    GRANT   slot     offset: read the shell up to there, and no further; flags 1: somebody types in it
    INPUT   slot     typist 8, bytes; offset: of the first of them in all that this typist has typed
    RESIZE  slot     cols 2, rows 2
    SIGNAL  slot     flags: the number, for the shell's process group; after a hang-up comes a kill, should it not end
    FORGET  slot     it has ended and everybody knows: its memory goes
    HIDE             {"hidden": [value]}                masked in what every shell of the session writes from now on
    RETURN  slot     the PTY is the holder's again; how things stand is in the memory; flags 1: it is not wanted again

holder -> server
    WELCOME          {"proto": 1, "shells": n, "masks": true}   that many SHELL follow; it masks secrets
    SHELL   slot     {"id", "started": s, "cols", "rows", "capacity", "oldest", "seams": [n], "typists": {hex: n},
                      "sizes"?: [[from offset, cols, rows]], "typedIn"?: true, "ended"?: [code, signal],
                      "numbers"?: their bytes before the output, PAGE if it says nothing,
                      "command"?: [word], the beginning of it}; offset: the head; with one descriptor. Also the answer
                      to START
    FAILED           {"id", "message"}                  the other answer to START
    OUTPUT  slot     offset: the new head; payload, if any: a seam, 8
    TYPED   slot     typist 8, backlog 4: what all have typed and the shell has not read; offset: all that this typist
                     has typed, as far as the holder has it: it will reach the shell, whatever happens to the server
    ENDED   slot     code 4, signal 4; offset: the last head
    LENT    slot     offset: the head; with three descriptors: the PTY's master, a pipe for output, one for input
    RECALL  slot     it is asked back

While a server is there a shell is read up to its grant, so the server knows what the holder may overwrite: what lies
more than the capacity below the grant. When the server goes a shell in which somebody typed is held for HOLD_S, nothing
is lost; then, or at once if nobody typed, it is read as it comes, and the oldest bytes make room.

Input is counted per typist: what the holder has it does not take again, and what would leave a gap it does not take at
all, so after a restart both sides know what has been typed.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

PROTO = 1
HELLO: Final = 0x01
START: Final = 0x02
GRANT: Final = 0x03
INPUT: Final = 0x04
RESIZE: Final = 0x05
SIGNAL: Final = 0x06
FORGET: Final = 0x07
HIDE: Final = 0x08
RETURN: Final = 0x09
WELCOME: Final = 0x81
SHELL: Final = 0x82
FAILED: Final = 0x83
OUTPUT: Final = 0x84
TYPED: Final = 0x85
ENDED: Final = 0x86
LENT: Final = 0x87
RECALL: Final = 0x88

TYPED_IN = 1
"""Flag of GRANT."""
KEEP = 1
"""Flag of RETURN."""
PAYLOAD_MAX = 128 * 1024
"""An environment and an argument list; far more than the longest input."""
SLOTS = 255
"""A slot is one byte, from 1 on. A new shell gets the next that is free, not the one that was freed last: what is still
said of that one is not meant for it."""
SEAMS_MAX = 4096
"""Told in one SHELL: the largest scrollback has four times as many, which are no record any more."""
INPUT_MAX = 64 * 1024
"""Of one INPUT: one message of a client."""
BACKLOG_MAX = 1024 * 1024
"""Input that a shell has not taken yet; a server that sends more is broken."""
HOLD_S = 60.0
"""So long a shell waits for a new server before its oldest output goes; a restart takes a few seconds."""
NUMBERS = 272 * 8
"""Before the output, in the memory that both see. The first lines of a shell lie in the same page: one that waits at
its prompt has no other."""
PAGE = 4096
"""The same, of a holder from before that: it lives on when a server of today comes."""

_HEAD = struct.Struct("=BBHIQ")
_NUMBER = struct.Struct("=Q")
_PAIR = struct.Struct("=HH")
_TYPED = struct.Struct("=QI")
_EXIT = struct.Struct("=II")


class Broken(Exception):
    """What came is not of this wire; the connection is of no more use."""


class Record(NamedTuple):
    kind: int
    slot: int
    flags: int
    offset: int
    payload: bytes


def record(kind: int, slot: int = 0, flags: int = 0, offset: int = 0, payload: bytes = b"") -> bytes:
    return _HEAD.pack(kind, slot, flags, len(payload), offset) + payload


class Records:
    """Puts records together from what arrives."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = b""

    def feed(self, data: bytes) -> Iterator[Record]:
        """The whole records there are now; to be taken to the last one. Raises Broken."""
        data = self._buffer + data if self._buffer else data
        at, end = 0, len(data)
        while end - at >= _HEAD.size:
            kind, slot, flags, length, offset = _HEAD.unpack_from(data, at)
            if length > PAYLOAD_MAX:
                raise Broken(f"a record of {length} bytes")
            until = at + _HEAD.size + length
            if until > end:
                break
            yield Record(kind, slot, flags, offset, data[at + _HEAD.size : until])
            at = until
        self._buffer = data[at:]


def say(kind: int, body: dict[str, Any], slot: int = 0, offset: int = 0) -> bytes:
    """A record whose payload is JSON."""
    payload = json.dumps(body, separators=(",", ":")).encode()
    if len(payload) > PAYLOAD_MAX:
        raise Broken(f"a record of {len(payload)} bytes")
    return record(kind, slot, 0, offset, payload)


def hide(values: Sequence[str]) -> Iterator[bytes]:
    """HIDE, in as many records as it takes."""
    some: list[str] = []
    size = 0
    for value in values:
        length = len(json.dumps(value)) + 1
        if some and size + length > PAYLOAD_MAX - 100:
            yield say(HIDE, {"hidden": some})
            some, size = [], 0
        some.append(value)
        size += length
    if some:
        yield say(HIDE, {"hidden": some})


def said(payload: bytes) -> dict[str, Any]:
    """Raises Broken."""
    try:
        body = json.loads(payload)
    except (ValueError, RecursionError):
        raise Broken("not JSON") from None
    if not isinstance(body, dict):
        raise Broken("expected a JSON object")
    return body


def number(value: int) -> bytes:
    return _NUMBER.pack(value)


def as_number(payload: bytes) -> int:
    if len(payload) != _NUMBER.size:
        raise Broken("expected a number of 8 bytes")
    return int(_NUMBER.unpack(payload)[0])


def typed(payload: bytes) -> tuple[int, bytes]:
    """Of an INPUT: who, and what."""
    if not _NUMBER.size < len(payload) <= _NUMBER.size + INPUT_MAX:
        raise Broken(f"input of {len(payload)} bytes")
    return as_number(payload[: _NUMBER.size]), payload[_NUMBER.size :]


def taken(typist: int, backlog: int) -> bytes:
    return _TYPED.pack(typist, backlog)


def as_taken(payload: bytes) -> tuple[int, int]:
    if len(payload) != _TYPED.size:
        raise Broken("expected a typist and a backlog")
    typist, backlog = _TYPED.unpack(payload)
    return int(typist), int(backlog)


def pair(cols: int, rows: int) -> bytes:
    return _PAIR.pack(cols, rows)


def as_pair(payload: bytes) -> tuple[int, int]:
    if len(payload) != _PAIR.size:
        raise Broken("expected two numbers")
    cols, rows = _PAIR.unpack(payload)
    return int(cols), int(rows)


def exited(code: int, signal: int) -> bytes:
    """Raises Broken."""
    if not (0 <= code < 1 << 32 and 0 <= signal < 1 << 32):
        raise Broken("a code or a signal that cannot be")
    return _EXIT.pack(code, signal)


def as_exited(payload: bytes) -> tuple[int, int]:
    if len(payload) != _EXIT.size:
        raise Broken("expected a code and a signal")
    code, signal = _EXIT.unpack(payload)
    return int(code), int(signal)
