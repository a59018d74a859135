"""A session with one shell, from its start to its end, played where holders are forked from. Python writes into the
code that it runs until it has settled how, and what nobody has written to since is shared: without this every session
would get a copy of all that code while its first shells start.
"""

from __future__ import annotations

import contextlib
import os
import socket
from typing import Any

from pilothouse.adapters.sandboxes import fdpass, holder, inside
from pilothouse.adapters.sandboxes.order import Order, Running
from pilothouse.core import shellwire as wire
from pilothouse.core.shell import SCROLLBACK_MIN

_ASKED: dict[str, Any] = {
    "id": "0f0e0d0c-0b0a-4908-8706-050403020100",
    "argv": ["/bin/sh", "-l"],
    "env": {f"NAME_{n}": "value" for n in range(20)},
    "cwd": "",
    "cols": 80,
    "rows": 24,
    "scrollback": SCROLLBACK_MIN,
}
_UPTO = 1 << 20
_READ = 64 * 1024
_PID = 1 << 22
"""Above every process's."""


class NotPlayed(Exception):
    """It went another way than a session goes."""


def shell(order: Order) -> list[int]:
    """Nothing is left of it, however it ends. What the server was told, by kind of record. Raises OSError, NotPlayed,
    Broken."""
    with contextlib.ExitStack() as stack:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        for sock in (ours, theirs):
            stack.callback(sock.close)
            sock.setblocking(False)  # what does not come is not waited for
        control, terminals, server = _listening(stack), _listening(stack), stack.enter_context(_stream())
        out, into = os.pipe2(os.O_CLOEXEC)
        stack.callback(os.close, out)
        stack.callback(os.close, into)
        first = os.pidfd_open(os.getpid())
        stack.callback(os.close, first)
        played, starter = _Played(order, (), control, theirs, terminals), _Starter(theirs)
        stack.callback(played.close)
        stack.callback(starter.close)
        played.begin(
            Running(os.getpid(), ours, fdpass.Lines(ours), out, [], {}, "/", order.interpreter, first, starter=_PID)
        )
        _play(played, starter, server)
        told = _told(server)
        server.close()
        played.play()
        return told


def _play(played: _Played, starter: _Starter, server: socket.socket) -> None:
    server.connect(played.shells_at)
    server.send(wire.say(wire.HELLO, {"proto": wire.PROTO, "lend": True}))
    server.send(wire.say(wire.START, _ASKED))
    for _ in range(3):  # somebody is there, who it is, and what is asked
        played.play()
    starter.play()
    played.play()
    for record in (
        wire.record(wire.GRANT, 1, wire.TYPED_IN, _UPTO),
        wire.record(wire.RESIZE, 1, 0, 0, wire.pair(90, 30)),
        wire.record(wire.RETURN, 1, wire.KEEP),
        wire.record(wire.GRANT, 1, wire.TYPED_IN, _UPTO),
        wire.record(wire.INPUT, 1, 0, 0, wire.number(1) + b"x"),
    ):
        server.send(record)
        played.play()
    starter.end()
    played.play()
    server.send(wire.record(wire.FORGET, 1))
    played.play()


def _stream() -> socket.socket:
    return socket.socket(socket.AF_UNIX)


def _listening(stack: contextlib.ExitStack) -> socket.socket:
    sock = stack.enter_context(_stream())
    sock.bind("")  # a name of the kernel's choice, in no directory
    sock.listen()
    return sock


def _told(server: socket.socket) -> list[int]:
    kinds, records = list[int](), wire.Records()
    server.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while data := server.recv(_READ):
            kinds += [record.kind for record in records.feed(data)]
    return kinds


class _Played(holder.Holder):
    """Whoever it works for is in this process too."""

    @property
    def shells_at(self) -> bytes:
        name: bytes = self._terminals.getsockname()
        return name

    def play(self) -> None:
        self._pause()
        self.round(0.0)

    def _kill(self) -> None:
        """The first process is this one."""
        raise NotPlayed("the session would have been ended")

    def close(self) -> None:
        with contextlib.suppress(AttributeError):  # it did not begin
            self._shells.close()
        if self._meter is not None:
            self._meter.close()
        self._selector.close()
        with contextlib.suppress(AttributeError):
            os.close(self._pidfd)


class _Starter(inside.Inside):
    """Starts everything but a process."""

    _key = 0

    def _fork(self, key: int) -> int:
        self._key = key
        return _PID

    def play(self) -> None:
        self._lines.feed()
        while (message := self._lines.next()) is not None:
            self._handle(message)

    def end(self) -> None:
        if not self._key:
            raise NotPlayed("nothing was to be started")
        fdpass.send(self._control, {"exit": self._key, "status": inside.status_text(0)})

    def close(self) -> None:
        self._lines.drop_fds()
