"""The server's end of the shells' wire (`core.shellwire`): one connection to a session's holder, and its shells. Their
output is read from the memory that both have mapped; what passes on the socket is how far it has come.

A holder may be in the hands of what runs in its session: what it says is taken as hostile, and a holder that says what
cannot be is one that has gone. Its shells then have ended (`LOST`). One thing cannot be looked at and is believed: that
a PTY it has lent goes on not to block, which it could change at any time. So PTYs are asked for only where sessions
have namespaces of their own, which holders are outside of.
"""

from __future__ import annotations

import array
import asyncio
import os
import resource
import signal
import socket
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from pilothouse.adapters.shells.heldshell import HeldShell, LastRead
from pilothouse.adapters.shells.lending import Loan
from pilothouse.adapters.shells.memory import Unfit
from pilothouse.core import shellwire as wire
from pilothouse.core.errors import BadRequest, Conflict, TooMany, Unavailable
from pilothouse.core.scrollback import Ahead, Gone
from pilothouse.core.shell import SHELLS_MAX, WINDOW, ShellId, shell_id
from pilothouse.engine.shells import ShellSpec

OUT_MAX = 4 * 1024 * 1024
"""What a holder has not read: several times the input that the engine sends ahead. It then counts as gone."""
GREETING_S = 10.0
"""A holder answers at once; a machine under load gets a generous factor."""
START_S = 20.0
_EVERYTHING = 1 << 62
_READ = 64 * 1024
_SHELLS_MAX = 2 * SHELLS_MAX
"""Those that have ended among them."""
_LOAN = 3
_OURS = 2
"""Of the descriptors that this process may have, one in so many may be part of a loan: the rest is for connections."""
_FDS_MAX = _SHELLS_MAX * (1 + _LOAN)
_RIGHTS_SPACE = socket.CMSG_SPACE(_FDS_MAX * array.array("i").itemsize)


class Line:
    """The connection to one session's holder."""

    def __init__(
        self, sock: socket.socket, gone: Callable[[], None], *, lend: bool = False, last: LastRead | None = None
    ) -> None:
        """`lend`: PTYs are read from here. `last`: whose was read last, of all lines'."""
        self._sock = sock
        self._gone = gone
        self._lend = lend
        self._last = last or LastRead()
        self._loop = asyncio.get_running_loop()
        self._records = wire.Records()
        self._fds: deque[int] = deque()
        self._out = bytearray()
        self._lost = False
        """Descriptors came that this process had no room for."""
        self._hides = False
        """There are secrets: who reads masks, and that is the holder."""
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
        lend = {"lend": True} if self._lend else {}
        self.send(wire.say(wire.HELLO, {"proto": wire.PROTO} | lend))
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
        body: dict[str, Any] = {"id": spec.id, "argv": spec.argv, "env": spec.env, "cwd": spec.cwd}
        if spec.command:
            body["command"] = True
        numbers = {"cols": spec.size.cols, "rows": spec.size.rows, "scrollback": spec.scrollback + WINDOW}
        try:
            secrets = self._secrets(spec)
            if secrets:
                self._give_back()
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
        if values and self._masks:
            self._give_back()
        for record in wire.hide(values) if self._masks else ():
            self.send(record)

    def _give_back(self) -> None:
        """For good, and what is on its way here as well."""
        self._hides = True
        for shell in self.shells.values():
            shell.give_back()

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
        self.shells.pop(shell.slot, None)  # it may be the last of a line that has ended
        shell.close()

    def close(self) -> None:
        """Let go."""
        if self.closed:
            return
        for shell in self.shells.values():
            shell.let_go()  # from the end of the connection on they are the holder's
        self._loop.remove_reader(self._sock.fileno())
        self._loop.remove_writer(self._sock.fileno())
        self._sock.close()
        self._drop_fds()
        error = Unavailable("shells: the session's holder went away")
        every: list[asyncio.Future[Any]] = [self._greeted, *self._starting.values()]
        for waiting in every:
            if not waiting.done():
                waiting.set_exception(error)
                waiting.exception()  # whoever waits gets it; nobody may wait

    # ---

    def _drop_fds(self) -> None:
        while self._fds:
            os.close(self._fds.popleft())

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
            data, rights, flags, _ = self._sock.recvmsg(_READ, _RIGHTS_SPACE, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return
        except OSError:
            data, rights, flags = b"", [], 0
        for level, kind, body in rights:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                got = array.array("i")
                got.frombytes(body[: len(body) - len(body) % got.itemsize])
                self._fds.extend(got)
        self._lost = self._lost or bool(flags & socket.MSG_CTRUNC)
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
        except (wire.Broken, Unfit, Ahead, Gone, BadRequest, KeyError, TypeError, ValueError, OverflowError, OSError):
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
        elif record.kind == wire.LENT:
            self._lent(record)
        elif record.kind == wire.RECALL:
            if record.slot in self.shells:
                self.shells[record.slot].give_back()
        elif record.kind in (wire.OUTPUT, wire.TYPED, wire.ENDED):
            shell = self.shells.get(record.slot)
            if shell is not None:
                shell.take(record)
        else:
            raise wire.Broken(f"record {record.kind}")
        if self._expected is not None and len(self.shells) >= self._expected and not self._greeted.done():
            self._greeted.set_result(None)

    def _shell(self, record: wire.Record) -> None:
        if not self._fds or record.slot in self.shells or len(self.shells) >= _SHELLS_MAX:
            raise wire.Broken("a shell that cannot be")
        fd = self._fds.popleft()
        try:
            shell = HeldShell(self, record, fd, self._last)
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

    def _lent(self, record: wire.Record) -> None:
        if self._lost:
            self._lost = False
            self._drop_fds()
            self.send(wire.record(wire.RETURN, record.slot, wire.KEEP))
            return
        if not self._lend or len(self._fds) < _LOAN:
            raise wire.Broken("a PTY that was not asked for")
        loan = Loan(*(self._fds.popleft() for _ in range(_LOAN)))
        shell = self.shells.get(record.slot)
        try:
            if shell is None:
                raise wire.Broken("the PTY of no shell")
            shell.borrow(record, loan)
        except BaseException:
            loan.close()
            raise
        if self._hides or max(loan.fds) >= resource.getrlimit(resource.RLIMIT_NOFILE)[0] // _OURS:
            shell.give_back(wire.KEEP)

    def end(self) -> None:
        """The holder says or does what cannot be."""
        self._loop.call_soon(self._end)

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
