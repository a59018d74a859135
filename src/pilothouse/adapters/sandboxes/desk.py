"""The file desk: a short-lived process that reads one session's workspace for the server, as the session's own uid.

The keeper forks it (see `desks`). Each look-up is one `openat2` from the workspace's directory with RESOLVE_BENEATH
and RESOLVE_NO_MAGICLINKS: the kernel itself refuses a path that leaves it, at the moment of opening, so nothing lies
between check and use. What was opened is then looked at (`fstat`), never its name. O_NONBLOCK keeps a FIFO from holding
us.

One packet of a SOCK_SEQPACKET pair is one JSON object of at most PACKET_MAX bytes. The server asks one thing at a time:

    {"list": path, "most": n}    {"entries": [[name, kind, size, mtime], ...], "more": bool}    until `more` is false
    {"open": path}               {"open": true} with the descriptor of a regular file
    {"mark": moment, "by": [name], "most": n}      {"marks": base64, "more": bool}           until `more` is false
    {"changed": moment, "by": [name], "most": n}   {"found": [[path, size, mtime], ...], "left": [[path, why], ...],
        with the marks' descriptor, or without      "rules": [path, ...], "more": bool, "over": bool}
    any                          {"errno": n} what the kernel said, or
                                 {"refused": "workspace" | "kind" | "many" | "request"}

`mark` and `changed` walk the whole workspace (see `treewalk`, which also says what a mark is).

kind: file, directory, link, other. A name that is not UTF-8 is shown with replacement characters. It ends when the
server hangs up, after IDLE_S without a request, or when one takes longer than REQUEST_S: by alarm, which waits for
nothing.
"""

from __future__ import annotations

import array
import binascii
import contextlib
import errno
import gc
import json
import os
import resource
import signal
import socket
import stat
from typing import Any

from pilothouse.adapters.sandboxes import kernel, treewalk

PACKET_MAX = 64 * 1024
"""A path of 4096 bytes, or a page of names, each byte written as an escape."""
PAGE = 48 * 1024
"""Where a page ends, reckoned as if each character were an escape; one more row of any name still fits."""
_ESCAPED, _BESIDE = 6, 100
"""Bytes of a character as \\u0000, and of what stands beside the name."""
IDLE_S = 15
"""Longer than the server keeps one for the next request."""
REQUEST_S = 30
"""A directory of ten thousand names takes a tenth of a second; a device that does not answer takes for ever."""
_DESCRIPTORS = 32
_GIVEN_MAX = 1
_TRIES = 20
"""The kernel answers EAGAIN when a name on the way was renamed meanwhile."""

_RESOLVE = kernel.RESOLVE_BENEATH | kernel.RESOLVE_NO_MAGICLINKS
_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY
_ROOT = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class _Refused(Exception):
    """A request that is not carried out, in the protocol's word."""


class _Desk:
    def __init__(self, sock: socket.socket, root: int | None) -> None:
        self._sock = sock
        self._root = root

    def serve(self) -> None:
        while True:
            signal.alarm(IDLE_S)
            packet, given = self._heard()
            if not packet:
                return
            signal.alarm(REQUEST_S)
            try:
                self._answer(packet, given)
            except _Refused as word:
                self._say({"refused": str(word)})
            except OSError as error:
                self._say({"errno": error.errno})
            finally:
                for fd in given:
                    os.close(fd)

    def _heard(self) -> tuple[bytes, array.array[int]]:
        given = array.array("i")
        packet, ancillary, _, _ = self._sock.recvmsg(
            PACKET_MAX, socket.CMSG_SPACE(_GIVEN_MAX * given.itemsize), socket.MSG_CMSG_CLOEXEC
        )
        for level, kind, body in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                given.frombytes(body[: len(body) - len(body) % given.itemsize])
        return packet, given

    def _say(self, message: dict[str, Any]) -> None:
        self._sock.send(json.dumps(message).encode())

    def _answer(self, packet: bytes, given: array.array[int]) -> None:
        match _parsed(packet):
            case {"list": str(path), "most": int(most)}:
                self._list(_raw(path), most)
            case {"open": str(path)}:
                self._open(_raw(path))
            case {"mark": int(moment), "by": list(by), "most": int(most)}:
                self._mark(treewalk.Walk(self._top, by, most), moment)
            case {"changed": int(moment), "by": list(by), "most": int(most)}:
                self._changed(treewalk.Walk(self._top, by, most), moment, given[0] if given else None)
            case _:
                raise _Refused("request")

    def _beneath(self, path: bytes, flags: int = 0) -> int:
        if self._root is None:
            raise _Refused("workspace")
        for left in reversed(range(_TRIES)):
            try:
                return kernel.openat2(self._root, path, _FLAGS | flags, _RESOLVE)
            except OSError as error:
                if error.errno != errno.EAGAIN or not left:
                    raise
        raise AssertionError

    def _top(self, path: bytes) -> int:
        return self._beneath(path, os.O_DIRECTORY)

    def _mark(self, walk: treewalk.Walk, moment: int) -> None:
        for marks in walk.marks(moment):
            self._say({"marks": binascii.b2a_base64(marks, newline=False).decode(), "more": True})
        if walk.over:
            raise _Refused("many")
        self._say({"marks": "", "more": False})

    def _changed(self, walk: treewalk.Walk, moment: int, marks: int | None) -> None:
        for page in walk.changed(moment, marks):
            self._say({**page, "more": True})
        self._say({"more": False, "over": walk.over})

    def _open(self, path: bytes) -> None:
        fd = self._beneath(path)
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise _Refused("kind")
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))]
            self._sock.sendmsg([b'{"open":true}'], rights)
        finally:
            os.close(fd)

    def _list(self, path: bytes, most: int) -> None:
        fd = self._beneath(path, os.O_DIRECTORY)
        rows: list[_Row] = []
        length = count = 0
        try:
            with os.scandir(fd) as entries:
                for entry in entries:
                    if count >= most:
                        raise _Refused("many")
                    try:
                        row = _row(entry.name, entry.stat(follow_symlinks=False))
                    except FileNotFoundError:
                        continue
                    rows.append(row)
                    count += 1
                    length += len(row[0].encode("utf-8", "surrogatepass")) * _ESCAPED + _BESIDE
                    if length > PAGE:
                        self._say({"entries": rows, "more": True})
                        rows, length = [], 0
        finally:
            os.close(fd)
        self._say({"entries": rows, "more": False})


def _parsed(packet: bytes) -> object:
    try:
        return json.loads(packet.decode())  # as bytes it might be guessed to be UTF-16, whose codec is out of reach
    except (ValueError, RecursionError):
        raise _Refused("request") from None


def _raw(path: str) -> bytes:
    """The kernel checks the path; a NUL would cut it short, "" would be an error of its own."""
    try:
        raw = path.encode()
    except UnicodeEncodeError:
        raise _Refused("request") from None
    if not raw or b"\0" in raw:
        raise _Refused("request")
    return raw


_Row = tuple[str, str, int, float]


def _row(name: str, status: os.stat_result) -> _Row:
    mode = status.st_mode
    kind = "other"
    if stat.S_ISREG(mode):
        kind = "file"
    elif stat.S_ISDIR(mode):
        kind = "directory"
    elif stat.S_ISLNK(mode):
        kind = "link"
    shown = os.fsencode(name).decode("utf-8", "replace")
    return shown, kind, status.st_size if kind == "file" else 0, status.st_mtime


def _workspace(own: int, directory: str | None) -> int | None:
    """The workspace as a descriptor: `workspace` in the session's own directory, or a directory of the host, whose path
    was resolved when it was chosen: a link on it now was put there since."""
    try:
        if directory is None:
            return os.open("workspace", _ROOT, dir_fd=own)
        return kernel.openat2(own, os.fsencode(directory), _ROOT, kernel.RESOLVE_NO_SYMLINKS)
    except OSError:
        return None


def _drop(uid: int) -> None:
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)


def run(sock: socket.socket, own: int, directory: str | None, uid: int | None) -> None:
    """The whole life of a desk, in a freshly forked process. `own` is the session's directory, opened by the keeper:
    the session's uid may not pass what lies above. `uid` None: the keeper is no root, and all have one uid."""
    for number in (signal.SIGINT, signal.SIGALRM, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (_DESCRIPTORS, _DESCRIPTORS))
    if uid is not None:
        _drop(uid)
    kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    gc.disable()  # it would copy what is still shared with the keeper; nothing here makes circles
    root = _workspace(own, directory)
    os.close(own)
    with contextlib.suppress(OSError):  # the server hung up
        _Desk(sock, root).serve()
