"""A viewer of a shell made of bytes: it reads as slowly as it wants, or never, and goes in the middle of anything."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import struct
from typing import Any
from urllib.parse import urlsplit

from tests.journeys.program import Program
from tests.security import raw

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
STDIN, STDOUT, STATUS, HEARTBEAT, CONTROL = 0, 1, 3, 5, 0x10


class Gone(Exception):
    """The server hung up, or was not there."""


class Rough:
    """One connection. `pending` is what has come of a frame that is not whole yet."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.pending = bytearray()
        self.code: int | None = None
        """Of the close frame that came."""

    @classmethod
    async def knock(cls, program: Program, path: str, *, room: int = 0) -> Rough:
        """Connected, and the upgrade asked for. `room`: of the kernel for what is not read. Raises Gone."""
        where = urlsplit(program.url)
        sock = socket.socket()
        sock.setblocking(False)
        if room:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
        line = cls(sock)
        try:
            await asyncio.get_running_loop().sock_connect(sock, (where.hostname, where.port))
            await line.write(raw.upgrade(path, {"host": where.netloc, "x-api-key": program.key}))
        except OSError as error:
            sock.close()
            raise Gone(repr(error)) from None
        return line

    @classmethod
    async def open(cls, program: Program, path: str, *, room: int = 0) -> Rough:
        """The same, and the answer read. Raises Gone."""
        line = await cls.knock(program, path, room=room)
        await line.answered()
        return line

    async def answered(self) -> None:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += await self.some(1)
        assert head.startswith(b"HTTP/1.1 101 "), head

    async def some(self, limit: int) -> bytes:
        """Raises Gone."""
        try:
            data = await asyncio.get_running_loop().sock_recv(self.sock, limit)
        except OSError as error:
            raise Gone(repr(error)) from None
        if not data:
            raise Gone("hung up")
        return data

    async def frames(self, limit: int = 65_536) -> list[bytes]:
        """The shell's frames that are whole after one reading of at most `limit` bytes. Raises Gone."""
        if self.code is not None:
            raise Gone(f"closed {self.code}")
        self.pending += await self.some(limit)
        found: list[bytes] = []
        while (frame := self._frame()) is not None:
            opcode, data = frame
            if opcode == PING:
                await self.send(data, PONG)
            elif opcode == CLOSE:
                self.code = int.from_bytes(data[:2])
            elif opcode == BINARY:
                found.append(data)
        return found

    def _frame(self) -> tuple[int, bytes] | None:
        have = self.pending
        if len(have) < 2:
            return None
        size, at = have[1] & 0x7F, 2
        if size > 125:
            at = 4 if size == 126 else 10
            if len(have) < at:
                return None
            size = int.from_bytes(have[2:at])
        if len(have) < at + size:
            return None
        found = have[0] & 0xF, bytes(have[at : at + size])
        del have[: at + size]
        return found

    async def send(self, data: bytes, opcode: int = BINARY) -> None:
        """One masked message. Raises Gone."""
        length, mask = len(data), os.urandom(4)
        head = bytes([0x80 | opcode])
        if length < 126:
            head += bytes([0x80 | length])
        elif length < 1 << 16:
            head += b"\xfe" + length.to_bytes(2)
        else:
            head += b"\xff" + length.to_bytes(8)
        key = int.from_bytes(mask * (length // 4) + mask[: length % 4])
        await self.write(head + mask + (int.from_bytes(data) ^ key).to_bytes(length))

    async def type(self, data: bytes) -> None:
        await self.send(bytes([STDIN]) + data)

    async def write(self, data: bytes) -> None:
        try:
            await asyncio.get_running_loop().sock_sendall(self.sock, data)
        except OSError as error:
            raise Gone(repr(error)) from None

    def cut(self) -> None:
        """Without a word: what is on its way either way is lost (RST)."""
        if self.sock.fileno() >= 0:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.sock.close()

    async def leave(self) -> None:
        """Politely; what still comes is not kept."""
        await self.send((1000).to_bytes(2), CLOSE)
        try:
            while True:
                await self.frames()
        except Gone:
            self.sock.close()


class Record:
    """What a viewer has of a shell: every byte at its offset, over any number of connections."""

    def __init__(self, path: str, *, role: str = "type", typist: int | None = None, at: int = 0) -> None:
        """`at`: where it begins."""
        self.path = path
        self.role = role
        self.typist = typist
        self.parts: list[tuple[int, bytearray]] = [(at, bytearray())]
        """Where each begins; between them is what it was told it missed."""
        self.typed = 0
        """What the shell has of its input, as the server last said when it came."""
        self.ended: dict[str, Any] | None = None

    @property
    def at(self) -> int:
        """The offset of the next byte."""
        start, part = self.parts[-1]
        return start + len(part)

    @property
    def got(self) -> bytearray:
        """All of it, where nothing was missed."""
        assert len(self.parts) == 1, f"something was missed: {[(start, len(part)) for start, part in self.parts]}"
        ((start, part),) = self.parts
        assert start == 0
        return part

    @property
    def query(self) -> str:
        typist = "" if self.typist is None else f"&typist={self.typist}"
        return f"{self.path}?after={self.at}&role={self.role}{typist}"

    def agrees(self, whole: bytes) -> bool:
        """Whether every byte is the one that stands there."""
        return all(whole[start : start + len(part)] == part for start, part in self.parts)

    def take(self, frame: bytes) -> bool:
        """Whether it was a STATUS that says where the output goes on."""
        if frame[0] == STDOUT:
            self.parts[-1][1].extend(memoryview(frame)[1:])
        elif frame[0] == STATUS:
            said = json.loads(frame[1:])
            about = said["metadata"]
            if not about.get("shellId"):
                self.ended = said
                return False
            missed = about.get("bytesDropped", 0)
            assert about["offset"] == self.at + missed, (about, self.at)
            if missed:
                self.parts.append((about["offset"], bytearray()))
            self.typed = about["typed"]
            return True
        return False

    async def follow(self, line: Rough, until: int | None = None, *, limit: int = 65_536) -> None:
        """Reads on until the shell has ended, or so many bytes are there. Raises Gone."""
        while self.ended is None and (until is None or self.at < until):
            for frame in await line.frames(limit):
                self.take(frame)
