"""The server's end of the shells' wire (`core.shellwire`): one connection to a session's holder, and its shells. Their
output is read from the memory that both have mapped; what passes on the socket is how far it has come.

A holder may be in the hands of what runs in its session: what it says is taken as hostile, and a holder that says what
cannot be is one that has gone. Its shells then have ended (`LOST`).
"""

from __future__ import annotations

import array
import asyncio
import os
import signal
import socket
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from pilothouse.adapters.shells.memory import Memory, Unfit
from pilothouse.core import shellwire as wire
from pilothouse.core.errors import BadRequest, Conflict, TooMany, Unavailable
from pilothouse.core.resizes import SIZES_MAX
from pilothouse.core.scrollback import Gone, Window, begin
from pilothouse.core.seam import Seams
from pilothouse.core.shell import (
    LOST,
    MEMORY_MAX,
    SCROLLBACK_MIN,
    SHELLS_MAX,
    WINDOW,
    Exit,
    ShellId,
    Size,
    shell_id,
    size,
)
from pilothouse.engine.shells import ShellSpec

OUT_MAX = 4 * 1024 * 1024
"""What a holder has not read: several times the input that the engine sends ahead. It then counts as gone."""
TYPISTS_MAX = 1024
"""Remembered per shell: at least those whom a holder does."""
LATEST = 1e11
"""A moment that no shell was started after: the year 5138."""
OFFSET_MAX = 1 << 53
"""No shell writes or is typed as much; above it neither the wire nor a browser could count on."""
GREETING_S = 10.0
"""A holder answers at once; a machine under load gets a generous factor."""
START_S = 20.0
_EVERYTHING = 1 << 62
_READ = 64 * 1024
_FDS_MAX = 2 * SHELLS_MAX
_RIGHTS_SPACE = socket.CMSG_SPACE(_FDS_MAX * array.array("i").itemsize)


def _sizes(said: Any, head: int) -> list[tuple[int, Size]]:
    """Raises wire.Broken, BadRequest, TypeError, ValueError."""
    if not isinstance(said, list) or len(said) > SIZES_MAX:
        raise wire.Broken("sizes")
    found = [(int(offset), size(cols, rows)) for offset, cols, rows in said]
    offsets = [offset for offset, _ in found]
    if offsets != sorted(set(offsets)) or any(not 0 <= offset <= head for offset in offsets):
        raise wire.Broken("sizes")
    return found


class HeldShell:
    """One shell. The port's verbs; what the holder says comes in by `take`."""

    def __init__(self, line: Line, record: wire.Record, fd: int) -> None:
        """Raises wire.Broken, BadRequest, KeyError, TypeError, ValueError, OverflowError, Unfit."""
        body = wire.said(record.payload)
        capacity, oldest = int(body["capacity"]), int(body["oldest"])
        if not SCROLLBACK_MIN <= capacity <= MEMORY_MAX:
            raise wire.Broken("capacity")
        if not record.offset - capacity <= oldest <= record.offset <= OFFSET_MAX:
            raise wire.Broken("oldest")
        seams = sorted(int(n) for n in body["seams"])
        if seams and not 0 <= seams[0] <= seams[-1] <= record.offset:
            raise wire.Broken("seams")
        self.id = shell_id(body["id"])
        self.slot = record.slot
        self.started = float(body["started"])
        if not 0 <= self.started <= LATEST:
            raise wire.Broken("started")
        self.size = size(body["cols"], body["rows"])
        self.resized = _sizes(body.get("sizes", []), record.offset)
        self.ended: Exit | None = None
        if "ended" in body:
            code, number = body["ended"]
            self.ended = Exit(*wire.as_exited(wire.exited(int(code), int(number))))
        self._taken = {int(who, 16): _counted(int(n)) for who, n in dict(body["typists"]).items()}
        """What the holder has, per typist."""
        self.typed_in = body.get("typedIn") is True
        self._sent: dict[int, int] = {}
        """What it was sent, where that is more."""
        self._unread = 0
        """What it has and the shell has not read."""
        self._line = line
        self._memory = Memory(fd, capacity)
        self._window = Window(self._memory.output, record.offset)
        self._granted = record.offset
        self._floor = oldest
        self._seams = Seams(record.offset, seams)
        self._changed: Callable[[], None] = lambda: None

    # --- the port

    @property
    def head(self) -> int:
        return self._window.head

    @property
    def oldest(self) -> int:
        return max(self._floor, self._granted - self._window.capacity)

    @property
    def capacity(self) -> int:
        return self._window.capacity

    @property
    def seen(self) -> int:
        return self._memory.seen

    @property
    def backlog(self) -> int:
        return self._unread + sum(sent - self._taken.get(who, 0) for who, sent in self._sent.items())

    def read(self, offset: int, limit: int, prefix: bytes = b"") -> bytes:
        if offset < self.oldest:
            raise Gone(offset, self.oldest)
        return self._window.read(offset, limit, prefix)

    def seam(self, offset: int) -> int | None:
        return begin(self._window, self._seams, offset, self.oldest)

    def grant(self, upto: int, *, typed_in: bool) -> None:
        if self.ended is None:
            self._granted, self.typed_in = max(self._granted, upto), typed_in
            self._seams.forget(self.oldest)
            flags = wire.TYPED_IN if typed_in else 0
            self._line.send(wire.record(wire.GRANT, self.slot, flags, self._granted))

    def note_seen(self, offset: int) -> None:
        self._memory.seen = offset

    def write(self, typist: int, offset: int, data: bytes) -> None:
        if self.ended is None:
            self._sent[typist] = max(self._sent.get(typist, 0), offset + len(data))
            self._line.send(wire.record(wire.INPUT, self.slot, 0, offset, wire.number(typist) + data))

    def typed(self, typist: int) -> int:
        return self._taken.get(typist, 0)

    def resize(self, size: Size) -> None:
        self.size = size
        self._line.send(wire.record(wire.RESIZE, self.slot, 0, 0, wire.pair(size.cols, size.rows)))

    def signal(self, number: int) -> None:
        self._line.send(wire.record(wire.SIGNAL, self.slot, int(signal.Signals(number))))

    def listen(self, changed: Callable[[], None]) -> None:
        self._changed = changed

    # --- what the holder says

    def take(self, record: wire.Record) -> None:
        """Raises wire.Broken."""
        if record.kind == wire.TYPED:
            typist, self._unread = wire.as_taken(record.payload)
            self._note(typist, _counted(record.offset))
        else:
            if not self.head <= record.offset <= self._granted:
                raise wire.Broken("a head that cannot be")
            if record.kind == wire.ENDED:
                self.ended = Exit(*wire.as_exited(record.payload))
            elif record.payload:
                self._seams.note(min(wire.as_number(record.payload), record.offset))
            self._window.head = record.offset

    def _note(self, typist: int, taken: int) -> None:
        self._taken.pop(typist, None)
        self._taken[typist] = taken
        if taken >= self._sent.get(typist, 0):
            self._sent.pop(typist, None)
        if len(self._taken) > TYPISTS_MAX:
            del self._taken[next(iter(self._taken))]

    def changed(self) -> None:
        """Everything that arrived with it has been taken."""
        self._changed()

    def lost(self) -> None:
        if self.ended is None:
            self.ended = LOST
            self._changed()
        self._changed = lambda: None

    def close(self) -> None:
        self._window.release()
        self._memory.close()


def _counted(typed: int) -> int:
    """How much a typist has typed. Raises wire.Broken."""
    if not 0 <= typed <= OFFSET_MAX:
        raise wire.Broken("typed")
    return typed


class Line:
    """The connection to one session's holder."""

    def __init__(self, sock: socket.socket, gone: Callable[[], None]) -> None:
        self._sock = sock
        self._gone = gone
        self._loop = asyncio.get_running_loop()
        self._records = wire.Records()
        self._fds: deque[int] = deque()
        self._out = bytearray()
        self._expected: int | None = None
        self._masks = False
        """Whether the holder knows of secrets."""
        self._greeted: asyncio.Future[None] = self._loop.create_future()
        self._starting: dict[ShellId, asyncio.Future[HeldShell]] = {}
        self.shells: dict[int, HeldShell] = {}
        sock.setblocking(False)
        self._loop.add_reader(sock.fileno(), self._read)

    @property
    def closed(self) -> bool:
        return self._sock.fileno() < 0

    async def greet(self) -> None:
        """Raises Unavailable."""
        self.send(wire.say(wire.HELLO, {"proto": wire.PROTO}))
        try:
            async with asyncio.timeout(GREETING_S):
                await self._greeted
        except TimeoutError:
            self._end()
            raise Unavailable("shells: the session's holder does not answer") from None

    async def start(self, spec: ShellSpec) -> HeldShell:
        """Raises Conflict, TooMany, Unavailable."""
        if spec.id in self._starting or any(shell.id == spec.id for shell in self.shells.values()):
            raise Conflict("shell: there is one of this id")
        if sum(shell.ended is None for shell in self.shells.values()) + len(self._starting) >= SHELLS_MAX:
            raise TooMany(f"a session has at most {SHELLS_MAX} shells")
        answer: asyncio.Future[HeldShell] = self._loop.create_future()
        self._starting[spec.id] = answer
        body = {"id": spec.id, "argv": spec.argv, "env": spec.env, "cwd": spec.cwd}
        numbers = {"cols": spec.size.cols, "rows": spec.size.rows, "scrollback": spec.scrollback + WINDOW}
        try:
            secrets = self._secrets(spec)
            self.hide(spec.hidden)
            self.send(wire.say(wire.START, body | numbers | secrets))
            async with asyncio.timeout(START_S):
                return await answer
        except TimeoutError:
            raise Unavailable("shell: it was not started in time") from None
        except wire.Broken as error:
            raise BadRequest(f"shell: {error}") from None
        finally:
            self._starting.pop(spec.id, None)

    def _secrets(self, spec: ShellSpec) -> dict[str, Any]:
        """Raises Unavailable: a holder that does not mask them is not given any."""
        if not spec.secrets and not spec.hidden:
            return {}
        if not self._masks:
            raise Unavailable("secrets: this session was started by an older version, which cannot keep them; stop it")
        return {
            "secrets": {one.name: one.value for one in spec.secrets if not one.file},
            "files": {one.name: one.value for one in spec.secrets if one.file},
        }

    def hide(self, values: Sequence[str]) -> None:
        """To a holder that knows of secrets."""
        for record in wire.hide(values) if self._masks else ():
            self.send(record)

    def send(self, record: bytes) -> None:
        """Never waits; what the socket does not take is bounded by what the engine sends ahead."""
        if self.closed:
            return
        if not self._out:
            try:
                sent = self._sock.send(record)
            except BlockingIOError:
                sent = 0
            except OSError:
                return  # its end is read as well
            if sent == len(record):
                return
            record = record[sent:]
            self._loop.add_writer(self._sock.fileno(), self._write)
        self._out += record
        if len(self._out) > OUT_MAX:
            self._loop.call_soon(self._end)

    def forget(self, shell: HeldShell) -> None:
        self.send(wire.record(wire.FORGET, shell.slot))
        del self.shells[shell.slot]
        shell.close()

    def close(self) -> None:
        """Let go."""
        if self.closed:
            return
        self._loop.remove_reader(self._sock.fileno())
        self._loop.remove_writer(self._sock.fileno())
        self._sock.close()
        while self._fds:
            os.close(self._fds.popleft())
        error = Unavailable("shells: the session's holder went away")
        every: list[asyncio.Future[Any]] = [self._greeted, *self._starting.values()]
        for waiting in every:
            if not waiting.done():
                waiting.set_exception(error)
                waiting.exception()  # whoever waits gets it; nobody may wait

    # ---

    def _write(self) -> None:
        try:
            sent = self._sock.send(self._out)
        except BlockingIOError:
            return
        except OSError:
            sent = len(self._out)
        del self._out[:sent]
        if not self._out:
            self._loop.remove_writer(self._sock.fileno())

    def _read(self) -> None:
        try:
            data, rights, _, _ = self._sock.recvmsg(_READ, _RIGHTS_SPACE, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return
        except OSError:
            data, rights = b"", []
        for level, kind, body in rights:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                got = array.array("i")
                got.frombytes(body[: len(body) - len(body) % got.itemsize])
                self._fds.extend(got)
        if not data or len(self._fds) > _FDS_MAX:
            self._end()
            return
        changed: dict[int, HeldShell] = {}
        try:
            for record in self._records.feed(data):
                self._take(record)
                shell = self.shells.get(record.slot)
                if shell is not None:
                    changed[record.slot] = shell
        except (wire.Broken, Unfit, BadRequest, KeyError, TypeError, ValueError, OverflowError, OSError):
            self._end()
            return
        for shell in changed.values():
            shell.changed()

    def _take(self, record: wire.Record) -> None:
        if record.kind == wire.WELCOME:
            body = wire.said(record.payload)
            self._expected, self._masks = int(body["shells"]), body.get("masks") is True
        elif self._expected is None:
            raise wire.Broken("no welcome")
        elif record.kind == wire.SHELL:
            self._shell(record)
        elif record.kind == wire.FAILED:
            body = wire.said(record.payload)
            waiting = self._starting.pop(shell_id(body["id"]), None)
            if waiting is not None and not waiting.done():
                waiting.set_exception(Unavailable(f"shell: {str(body['message'])[:1000]}"))
        elif record.kind in (wire.OUTPUT, wire.TYPED, wire.ENDED):
            shell = self.shells.get(record.slot)
            if shell is not None:
                shell.take(record)
        else:
            raise wire.Broken(f"record {record.kind}")
        if self._expected is not None and len(self.shells) >= self._expected and not self._greeted.done():
            self._greeted.set_result(None)

    def _shell(self, record: wire.Record) -> None:
        if not self._fds or record.slot in self.shells or len(self.shells) >= _FDS_MAX:
            raise wire.Broken("a shell that cannot be")
        fd = self._fds.popleft()
        try:
            shell = HeldShell(self, record, fd)
        finally:
            os.close(fd)
        if any(other.id == shell.id for other in self.shells.values()):
            raise wire.Broken("a shell of that id is known")
        self.shells[shell.slot] = shell
        waiting = self._starting.pop(shell.id, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(shell)
        elif self._greeted.done():
            self._unwanted(shell)

    def _unwanted(self, shell: HeldShell) -> None:
        """Whoever asked for it has given up: it ends, and its name is free again."""
        shell.listen(lambda: self.forget(shell) if shell.ended else None)
        shell.grant(_EVERYTHING, typed_in=False)  # its end comes after its output
        shell.signal(signal.SIGHUP)

    def _end(self) -> None:
        if self.closed:
            return
        self.close()
        self._gone()
        shells, self.shells = list(self.shells.values()), {}  # their memory goes with the last who looks at them
        for shell in shells:
            shell.lost()
