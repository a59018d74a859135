"""Shells whose programs are the test, and viewers that read as fast as the test says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from typing import Any

from pilothouse.core.errors import Conflict
from pilothouse.core.ids import SessionId
from pilothouse.core.scrollback import Scrollback
from pilothouse.core.shell import WINDOW, Exit, ShellId, Size
from pilothouse.engine.shells import Shell, ShellSpec

SESSION = SessionId("8f14e45f-ceea-467f-a9d5-0123456789ab")


class ScriptedShell:
    """What it writes waits until it is granted, as in the kernel."""

    def __init__(self, spec: ShellSpec, started: float) -> None:
        self.id = spec.id
        self.started = started
        self.command = list(spec.argv) if spec.command else []
        self.size = spec.size
        self.resized: list[tuple[int, Size]] = []
        self.ended: Exit | None = None
        self.seen = 0
        self.backlog = 0
        self.typed_in = False
        self.granted = 0
        self.all = b""
        self.input = b""
        self.reads_input = True
        self.signals: list[int] = []
        self.sizes: list[Size] = []
        self._kept = Scrollback(bytearray(spec.scrollback + WINDOW))
        self._exit: Exit | None = None
        self._typists: dict[int, int] = {}
        self._changed: Callable[[], None] = lambda: None

    @property
    def capacity(self) -> int:
        return self._kept.capacity

    @property
    def head(self) -> int:
        return self._kept.head

    @property
    def oldest(self) -> int:
        return max(0, self.granted - self._kept.capacity)

    def read(self, offset: int, limit: int, prefix: bytes = b"") -> bytes:
        return self._kept.read(offset, limit, prefix)

    def seam(self, offset: int) -> int | None:
        return self._kept.seam(max(offset, self.oldest))

    def grant(self, upto: int, *, typed_in: bool) -> None:
        assert upto >= self.granted
        self.granted, self.typed_in = upto, typed_in
        asyncio.get_running_loop().call_soon(self.flow)

    def note_seen(self, offset: int) -> None:
        self.seen = offset

    def write(self, typist: int, offset: int, data: bytes) -> int:
        known = self._typists.get(typist, 0)
        if offset <= known < offset + len(data):
            self._typists[typist] = offset + len(data)
            self.input += data[known - offset :]
        self.backlog += 0 if self.reads_input else len(data)
        return self.backlog

    def typed(self, typist: int) -> int:
        return self._typists.get(typist, 0)

    def resize(self, size: Size) -> None:
        self.sizes.append(size)
        self.size = size

    def signal(self, number: int) -> None:
        self.signals.append(number)

    def listen(self, changed: Callable[[], None]) -> None:
        self._changed = changed

    # --- the program

    def says(self, data: bytes) -> None:
        self.all += data
        self.flow()

    def exits(self, exit: Exit) -> None:
        self._exit = exit
        self.flow()

    def takes(self) -> None:
        """It reads all its input."""
        self.reads_input, self.backlog = True, 0
        self._changed()

    def flow(self) -> None:
        step = min(self.granted, len(self.all)) - self.head
        if step > 0:
            self._kept.append(self.all[self.head : self.head + step])
            self._changed()
        if self._exit and self.head == len(self.all) and self.ended is None:
            self.ended = self._exit
            self._changed()


class ScriptedShells:
    """Survives any number of `Terminals`."""

    def __init__(self) -> None:
        self.shells: dict[ShellId, ScriptedShell] = {}
        self.now = 0.0

    async def start(self, spec: ShellSpec) -> Shell:
        await asyncio.sleep(0)
        if spec.id in self.shells:
            raise Conflict("shell: there is one of this id")
        shell = self.shells[spec.id] = ScriptedShell(spec, self.now)
        return shell

    async def find(self, session: SessionId) -> Sequence[Shell]:
        """For another server, which grants anew."""
        for shell in self.shells.values():
            shell.granted = shell.head
        return list(self.shells.values())

    async def hide(self, session: SessionId, values: Sequence[str]) -> None:
        raise NotImplementedError

    async def forget(self, session: SessionId, id: ShellId) -> None:
        if id in self.shells and self.shells[id].ended:
            del self.shells[id]

    async def drop(self, session: SessionId) -> None:
        self.shells.clear()

    async def close(self) -> None:
        pass


class Screen:
    """A viewer's end. `slow`: it takes nothing until `reads` is called."""

    def __init__(self, *, slow: bool = False, high: int = 1024 * 1024) -> None:
        self.sent: list[bytes] = []
        self.closed: tuple[int, str] | None = None
        self.slow = slow
        self.waiting = 0
        self.most = 0
        self.travelling = 0
        """Taken by the kernel here, and not arrived there."""
        self._high = high
        self._room = asyncio.Event()

    def send_binary(self, data: bytes) -> None:
        assert data
        if self.closed is None:
            self.sent.append(data)
            if self.slow:
                self.waiting += len(data)
                self.most = max(self.most, self.waiting)

    def buffered(self) -> int:
        return self.waiting

    def underway(self) -> int:
        return self.waiting + self.travelling

    async def writable(self) -> bool:
        while self.waiting > self._high and self.closed is None:
            self._room.clear()
            await self._room.wait()
        return self.closed is None

    def close(self, code: int = 1000, reason: str = "") -> None:
        self.closed = self.closed or (code, reason)
        self._room.set()

    def code(self) -> int | None:
        """With which it was closed."""
        return self.closed[0] if self.closed else None

    def reads(self, count: int | None = None) -> None:
        self.waiting = 0 if count is None else max(0, self.waiting - count)
        self._room.set()

    # --- what it has got

    @property
    def output(self) -> bytes:
        return b"".join(frame[1:] for frame in self.sent if frame[0] == 1)

    @property
    def story(self) -> list[bytes | tuple[int, int]]:
        """Output and sizes, in their order."""
        found: list[bytes | tuple[int, int]] = []
        for frame in self.sent:
            if frame[0] == 1:
                found.append(frame[1:])
            elif frame[0] == 0x10 and (told := json.loads(frame[1:]))["type"] == "size":
                found.append((told["width"], told["height"]))
        return found

    @property
    def statuses(self) -> list[dict[str, Any]]:
        return [json.loads(frame[1:]) for frame in self.sent if frame[0] == 3]

    @property
    def said(self) -> list[str]:
        return [frame[1:].decode() for frame in self.sent if frame[0] == 2]

    def controls(self, type: str) -> list[dict[str, Any]]:
        found = [json.loads(frame[1:]) for frame in self.sent if frame[0] == 0x10]
        return [body for body in found if body["type"] == type]


async def settled() -> None:
    """Everything that can happen without time has happened."""
    for _ in range(200):
        await asyncio.sleep(0)
