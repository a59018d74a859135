"""JSON lines with file descriptors over a unix stream socket: how keeper, holder and the process inside talk.

One message is one JSON object on one line of at most LINE_MAX bytes, ended by a newline. Descriptors travel as
SCM_RIGHTS with the first byte of their line, at most FDS_MAX of them. Hostile bytes raise
`Broken`, and the connection is closed by its owner.

One connection asks one thing at a time; that keeps descriptors and lines together without counting.
"""

from __future__ import annotations

import array
import fcntl
import json
import os
import socket
import struct
import sys
import termios
import time
from typing import Any

LINE_MAX = 64 * 1024
"""The longest message is an environment and an argument list; far from it."""
FDS_MAX = 8
"""Two listeners, or three standard streams and a socket."""
_RIGHTS_SPACE = socket.CMSG_SPACE(FDS_MAX * array.array("i").itemsize)


class Broken(Exception):
    """The other side sent something that is not a message."""


def send(sock: socket.socket, message: dict[str, Any], fds: tuple[int, ...] = ()) -> None:
    """A whole message; the socket is blocking or the message fits its buffer."""
    line = json.dumps(message, separators=(",", ":")).encode() + b"\n"
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    sent = sock.sendmsg([line], rights)
    if sent < len(line):
        sock.sendall(line[sent:])


def fits(message: dict[str, Any]) -> bool:
    """Whether it can be sent as one."""
    return len(json.dumps(message, separators=(",", ":"))) < LINE_MAX


def parse(line: bytes) -> dict[str, Any]:
    try:
        message = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise Broken(f"not JSON: {error}") from None
    if not isinstance(message, dict):
        raise Broken("expected a JSON object")
    return message


class Lines:
    """The reading side of one socket: feeds on what has arrived, yields whole messages."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.fds: list[int] = []
        self._buffer = bytearray()
        self.ended = False

    def feed(self) -> None:
        """Reads once. Sets `ended` at the end. Raises BlockingIOError when there is nothing."""
        try:
            # room for what is there: for the longest line, cut to what came, it would lie on fresh memory every time
            room = min(LINE_MAX, max(1, _waiting(self.sock)))
            data, ancillary, _, _ = self.sock.recvmsg(room, _RIGHTS_SPACE, socket.MSG_CMSG_CLOEXEC)
        except (ConnectionResetError, BrokenPipeError):
            self.ended = True
            return
        for level, kind, body in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                got = array.array("i")
                got.frombytes(body[: len(body) - len(body) % got.itemsize])
                self.fds.extend(got)
        if len(self.fds) > FDS_MAX:
            self.drop_fds()
            raise Broken("too many descriptors")
        if not data:
            self.ended = True
        self._buffer += data

    def next(self) -> dict[str, Any] | None:
        """The next whole message, if there is one. Raises Broken."""
        at = self._buffer.find(b"\n", 0, LINE_MAX + 1)
        if at < 0:
            if len(self._buffer) > LINE_MAX:
                raise Broken(f"a line of more than {LINE_MAX} bytes")
            return None
        line = bytes(self._buffer[:at])
        del self._buffer[: at + 1]
        return parse(line)

    def take_fds(self) -> list[int]:
        """The descriptors that came with the message just taken; the caller closes them."""
        fds, self.fds = self.fds, []
        return fds

    def drop_fds(self) -> None:
        for fd in self.take_fds():
            os.close(fd)


def _waiting(sock: socket.socket) -> int:
    """Bytes that have arrived."""
    return int.from_bytes(fcntl.ioctl(sock.fileno(), termios.FIONREAD, b"\0\0\0\0"), sys.byteorder)


def wait(lines: Lines, until: float | None = None) -> dict[str, Any]:
    """Blocks for one message, with the socket's own time-out or, so that who sends little by little gains nothing, to
    a moment of the monotonic clock. Raises Broken at the end, TimeoutError."""
    while True:
        if until is not None:
            left = until - time.monotonic()
            if left <= 0:
                raise TimeoutError
            lines.sock.settimeout(left)
        message = lines.next()
        if message is not None:
            return message
        if lines.ended:
            raise Broken("the other side went away")
        lines.feed()


def _peer(sock: socket.socket) -> tuple[int, int]:
    pid, uid, _ = struct.unpack("iII", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("iII")))
    return int(pid), int(uid)


def peer_uid(sock: socket.socket) -> int:
    """The uid of whoever connected, as the kernel knows it."""
    return _peer(sock)[1]


def peer_pid(sock: socket.socket) -> int:
    """Who listens, or has connected."""
    return _peer(sock)[0]
