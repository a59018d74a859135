"""The server's side of the file desks (see `desk` for what is said): one line per session, kept for some seconds.

A desk has the session's uid, as the agent has, so what it says is hostile input: bounded, typed, its descriptors looked
at and all closed but the one that was asked for. A desk that is gone is replaced once; one that talks nonsense or does
not answer is left, and the caller gets Unavailable.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import fcntl
import json
import os
import socket
import stat
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec

from pilothouse.adapters.sandboxes import client, desk, fdpass, treewalk
from pilothouse.core.errors import NotFound, Unavailable
from pilothouse.core.ids import SessionId

KEPT_S = 5.0
"""A line without requests: a person who clicks through folders stays on one, and no desk waits for long."""
PATIENCE_S = 20.0
"""One request and those before it on the same line. Less than a desk's own end, and than a person's patience."""
LINES_MAX = 24
"""Lines at one time; the one that has waited longest for a request goes first. Far below what the keeper refuses."""
_NAME_MAX = 255

Row = tuple[
    Annotated[str, msgspec.Meta(min_length=1, max_length=_NAME_MAX)],
    Literal["file", "directory", "link", "other"],
    Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)],
    float,
]
Word = Literal["", "workspace", "kind", "many", "request"]
_Path = Annotated[str, msgspec.Meta(min_length=1, max_length=treewalk.PATH_MAX)]
Found = tuple[_Path, Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)], float]
Left = tuple[_Path, Literal["name", "deep", "unreadable"]]


class _Said(msgspec.Struct, forbid_unknown_fields=True):
    """What a desk may say."""

    entries: list[Row] | None = None
    more: bool = False
    open: bool = False
    marks: bytes | None = None
    found: list[Found] = []
    left: list[Left] = []
    rules: list[_Path] = []
    over: bool = False
    errno: Annotated[int, msgspec.Meta(ge=0, le=4095)] = 0
    refused: Word = ""


class Refused(Exception):
    """The desk's answer is why not: a word of its own, or what the kernel said."""

    def __init__(self, word: Word, errno: int) -> None:
        super().__init__(word or os.strerror(errno))
        self.word = word
        self.errno = errno


class _Ended(Exception):
    """The desk is gone."""


class _Nonsense(Exception):
    """What came is no answer."""


Begin = Callable[[SessionId], Awaitable[socket.socket]]
_T = TypeVar("_T")
_decode = msgspec.json.Decoder(_Said).decode


def _wake(came: asyncio.Future[None]) -> None:
    if not came.done():
        came.set_result(None)


async def _readable(sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    came: asyncio.Future[None] = loop.create_future()
    loop.add_reader(sock, _wake, came)
    try:
        await came
    finally:
        loop.remove_reader(sock)


# --- a new line, by way of the keeper ---------------------------------------------------------------------------------


async def fetch(keeper: Path, message: dict[str, Any]) -> socket.socket:
    """The socket that the keeper answers with. Raises client.Away, NotFound, Unavailable."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    lines = fdpass.Lines(sock)
    try:
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.get_running_loop().sock_connect(sock, str(keeper))
            await _told(lines, {"verb": "hello", "proto": client.PROTO})
            answer = await _told(lines, message)
        if answer.get("ok") is not True:
            raise Unavailable(str(answer.get("error") or "refused"))
        if not lines.fds:
            raise NotFound("the session has no workspace")
        made = socket.socket(fileno=lines.fds.pop(0))
        made.setblocking(False)
        return made
    except TimeoutError:
        raise Unavailable(f"{message['verb']}: the keeper does not answer") from None
    except (OSError, fdpass.Broken) as error:
        raise client.Away(f"{message['verb']}: {error}") from None
    finally:
        lines.drop_fds()
        sock.close()


async def _told(lines: fdpass.Lines, message: dict[str, Any]) -> dict[str, Any]:
    fdpass.send(lines.sock, message)
    while (answer := lines.next()) is None:
        if lines.ended:
            raise fdpass.Broken("hung up")
        await _readable(lines.sock)
        with contextlib.suppress(BlockingIOError):
            lines.feed()
    return answer


# --- what is said on it -----------------------------------------------------------------------------------------------


class _Line:
    """To one desk, for one request at a time."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._timer: asyncio.TimerHandle | None = None

    @property
    def closed(self) -> bool:
        return self._sock.fileno() < 0

    def close(self) -> None:
        self.busy()
        self._sock.close()

    def hang_up(self) -> None:
        """For a line on which somebody waits: they hear that it has ended."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def busy(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def rest(self, over: Callable[[], None]) -> None:
        self.busy()
        self._timer = asyncio.get_running_loop().call_later(KEPT_S, over)

    def ask(self, message: dict[str, Any], *given: int) -> None:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", given))] if given else []
        try:
            self._sock.sendmsg([json.dumps(message).encode()], rights)
        except OSError as error:
            raise _Ended(f"asking: {error}") from None

    async def hear(self) -> tuple[_Said, list[int]]:
        """The next packet with its descriptors, which are the caller's to close. Raises _Ended, _Nonsense, Refused."""
        await _readable(self._sock)
        data, fds = self._receive()
        try:
            if not data:
                raise _Ended("the process that reads them has ended")
            said = _decode(data)
            if said.refused or said.errno:
                raise Refused(said.refused, said.errno)
        except BaseException as error:
            close(fds)
            if isinstance(error, msgspec.DecodeError | UnicodeDecodeError):
                raise _Nonsense(str(error)) from None
            raise
        return said, fds

    def _receive(self) -> tuple[bytes, list[int]]:
        fds = array.array("i")
        space = socket.CMSG_SPACE(fdpass.FDS_MAX * fds.itemsize)
        try:
            data, ancillary, flags, _ = self._sock.recvmsg(desk.PACKET_MAX, space, socket.MSG_CMSG_CLOEXEC)
        except OSError as error:
            raise _Ended(f"reading: {error}") from None
        for level, kind, body in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds.frombytes(body[: len(body) - len(body) % fds.itemsize])
        if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
            close(fds)
            raise _Nonsense("a packet that is too long")
        return data, list(fds)


def close(fds: list[int] | array.array[int]) -> None:
    for fd in fds:
        os.close(fd)


async def _rows(line: _Line, path: str, most: int) -> list[Row]:
    line.ask({"list": path, "most": most})
    found: list[Row] = []
    more = True
    while more:
        said, fds = await line.hear()
        close(fds)
        if fds or not (said.entries or (said.entries == [] and not said.more)):
            raise _Nonsense("that is no page of names")
        more = said.more
        found += said.entries
        if len(found) > most:
            raise _Nonsense("more names than were asked for")
    if any("/" in row[0] or "\0" in row[0] or row[0] in {".", ".."} for row in found):
        raise _Nonsense("a name that no file can have")
    return found


async def _file(line: _Line, path: str) -> int:
    line.ask({"open": path})
    said, fds = await line.hear()
    if not said.open or len(fds) != 1 or not _plain(fds[0]):
        close(fds)
        raise _Nonsense("that is no file to read")
    return fds[0]


async def _marks(line: _Line, request: dict[str, Any], take: Callable[[bytes], None]) -> None:
    line.ask(request)
    size, more = 0, True
    while more:
        said, fds = await line.hear()
        close(fds)
        if fds or said.marks is None or len(said.marks) % treewalk.MARK or (said.more and not said.marks):
            raise _Nonsense("that is no page of marks")
        size += len(said.marks)
        if size > request["most"] * treewalk.MARK:
            raise _Nonsense("more marks than there may be files")
        if said.marks:
            take(said.marks)
        more = said.more


async def _changes(line: _Line, request: dict[str, Any], given: tuple[int, ...]) -> _Said:
    """All pages as one."""
    line.ask(request, *given)
    whole = _Said()
    more = True
    while more:
        said, fds = await line.hear()
        close(fds)
        if fds or (said.more and not (said.found or said.left or said.rules)):
            raise _Nonsense("that is no page of changes")
        whole.found += said.found
        whole.left += said.left
        whole.rules += said.rules
        whole.over = said.over
        if (
            len(whole.found) > treewalk.FOUND_MAX
            or len(whole.left) > treewalk.LEFT_MAX
            or len(whole.rules) > treewalk.RULES_MAX
        ):
            raise _Nonsense("more changes than are told")
        more = said.more
    if not all(map(_below, [path for path, _, _ in whole.found] + whole.rules)):
        raise _Nonsense("a path that no file can have")
    return whole


def _below(path: str) -> bool:
    return "\0" not in path and not {"", ".", ".."} & set(path.split("/"))


def _plain(fd: int) -> bool:
    """A regular file, open for reading and nothing else."""
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        return False
    flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    return flags & (os.O_ACCMODE | os.O_PATH) == os.O_RDONLY


# --- whose turn it is -------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class _Place:
    """A session that is being read: its line, and who takes part."""

    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0
    line: _Line | None = None


class Readers:
    """`begin` gives the socket to a new desk of a session; it raises NotFound or Unavailable."""

    def __init__(self, begin: Begin) -> None:
        self._begin = begin
        self._places: dict[SessionId, _Place] = {}
        """The one that was used last comes last."""

    async def rows(self, session: SessionId, path: str, most: int) -> list[Row]:
        """The names in a directory. Raises Refused, NotFound, Unavailable."""
        return await self._exchange(session, lambda line: _rows(line, path, most))

    async def open(self, session: SessionId, path: str) -> int:
        """A regular file's descriptor, the caller's to close. Raises Refused, NotFound, Unavailable."""
        return await self._exchange(session, lambda line: _file(line, path))

    async def marks(self, session: SessionId, request: dict[str, Any], take: Callable[[bytes], None]) -> None:
        """What `mark` answers, page by page; a desk that is replaced begins anew, with `take(b"")`. Raises Refused,
        NotFound, Unavailable."""

        async def act(line: _Line) -> None:
            take(b"")
            await _marks(line, request, take)

        await self._exchange(session, act)

    async def changes(
        self, session: SessionId, request: dict[str, Any], given: tuple[int, ...]
    ) -> tuple[list[Found], list[Left], list[str], bool]:
        """What `changed` answers: found, left, rules, over. Raises Refused, NotFound, Unavailable."""
        said = await self._exchange(session, lambda line: _changes(line, request, given))
        return said.found, said.left, said.rules, said.over

    def drop(self, session: SessionId) -> None:
        """Lets the session's desk go."""
        place = self._places.get(session)
        if place and place.line and not place.line.closed:
            if place.users:
                place.line.hang_up()
            else:
                place.line.close()
                del self._places[session]

    def close(self) -> None:
        for session in list(self._places):
            self.drop(session)

    async def _exchange(self, session: SessionId, act: Callable[[_Line], Awaitable[_T]]) -> _T:
        """One request on the session's line; on a new one when it has none, or one that was gone."""
        place = self._places.pop(session) if session in self._places else _Place()
        self._places[session] = place
        place.users += 1
        try:
            async with asyncio.timeout(PATIENCE_S), place.turn:
                try:
                    return await self._once(session, place, act)
                except _Ended:
                    return await self._once(session, place, act)
        except TimeoutError:
            raise Unavailable("the session's files cannot be read now: no answer in time") from None
        except (_Ended, _Nonsense) as error:
            raise Unavailable(f"the session's files cannot be read now: {error}") from None
        finally:
            place.users -= 1
            self._settle(session, place)

    async def _once(self, session: SessionId, place: _Place, act: Callable[[_Line], Awaitable[_T]]) -> _T:
        if place.line is None or place.line.closed:
            self._make_room()
            place.line = _Line(await self._begin(session))
        line = place.line
        line.busy()
        try:
            return await act(line)
        except Refused as why:
            if why.word == "workspace":  # there may be one by the next request
                line.close()
            raise
        except BaseException:  # also a caller who goes: the answer would be taken for the next one's
            line.close()
            raise

    def _settle(self, session: SessionId, place: _Place) -> None:
        if place.users:
            return
        if place.line is None or place.line.closed:
            del self._places[session]
        else:
            place.line.rest(lambda: self.drop(session))

    def _make_room(self) -> None:
        lines = [p for p in self._places.values() if p.line and not p.line.closed]
        idle = [session for session, place in self._places.items() if place in lines and not place.users]
        for session in idle[: max(0, len(lines) - LINES_MAX + 1)]:
            self.drop(session)
