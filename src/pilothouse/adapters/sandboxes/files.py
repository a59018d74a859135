"""A session's workspace, seen from the server. The agent owns every name in it and may swap them at any moment.

Nothing here opens a path: a desk of the session's own uid does (see `desk`), and passes the descriptor of a regular
file.
"""

from __future__ import annotations

import asyncio
import errno
import os
import time
from collections.abc import AsyncIterator, Callable, Sequence

from pilothouse.adapters.sandboxes.readers import Readers, Refused
from pilothouse.core.errors import BadRequest, NotFound, TooLarge
from pilothouse.core.ids import SessionId
from pilothouse.engine.ports import Changes, FileEntry, Held, Since

PATH_MAX = 4096
"""The kernel's own limit."""
ENTRIES_MAX = 10_000
"""Names in one listing: more is no use to a person, and one listing shall not fill the memory."""
WALK_MAX = 50_000
"""Files of one walk: what a zip of a workspace may hold."""
MET_MAX = 500_000
"""Names of any kind that one walk meets: folders without files cost the agent little, and shall cost us little."""
DEPTH_MAX = 64
SIZE_MAX = 64 * 1024**3
"""A file that is read: large data sets pass; sparse files of exabytes, which cost the agent nothing, do not."""
CHUNK = 256 * 1024
_COARSE = 5
"""CLOCK_REALTIME_COARSE of Linux, which `time` has no name for."""
_STEP_NS = 20_000_000
"""Two steps of the slowest kernel (100 a second): what was written just before counts as written after."""
_PASSED_S = 0.1
"""Ten such steps: a clock that is set back meanwhile is not waited for."""


def checked(path: str) -> str:
    """A path below the workspace; "" and "." are the workspace. Raises BadRequest."""
    if "\0" in path:
        raise BadRequest("path: contains a NUL")
    try:
        raw = path.encode()
    except UnicodeEncodeError:
        raise BadRequest("path: not valid Unicode") from None
    if len(raw) > PATH_MAX:
        raise BadRequest(f"path: more than {PATH_MAX} bytes")
    if path.startswith("/"):
        raise BadRequest("path: expected one relative to the workspace")
    if ".." in path.split("/"):
        raise BadRequest("path: '..' leads out of the workspace")
    return path or "."


def _refusal(why: Refused, most: int = 0) -> Exception:
    match why.word:
        case "workspace":
            return NotFound("the session has no workspace")
        case "kind":
            return BadRequest("not a regular file")
        case "many":
            return TooLarge(f"the directory has more than {most} entries")
    match why.errno:
        case errno.ENOENT | errno.ENOTDIR | errno.EAGAIN:
            return NotFound("no such file in the workspace")
        case errno.EXDEV:
            return BadRequest("path: a link on it leads out of the workspace")
        case errno.ELOOP:
            return BadRequest("path: too many links on it")
        case errno.EACCES | errno.EPERM:
            return BadRequest("the file's permissions do not allow reading it")
        case errno.ENAMETOOLONG:
            return BadRequest("path: a name on it is too long")
        case errno.ENXIO:
            return BadRequest("not a regular file")
    return BadRequest(f"the file cannot be read: {why}")


Entries = list[FileEntry]


class WorkspaceFiles:
    def __init__(self, readers: Readers, session: SessionId) -> None:
        self._readers = readers
        self._session = session

    async def list(self, path: str) -> Entries:
        return await self._list(checked(path), ENTRIES_MAX)

    async def _list(self, path: str, most: int) -> Entries:
        try:
            found = [FileEntry(*row) for row in await self._readers.rows(self._session, path, most)]
        except Refused as why:
            if why.errno == errno.ENOTDIR:
                raise BadRequest("path: it is a file, or leads through one; expected a folder") from None
            raise _refusal(why, most) from None
        return sorted(found, key=lambda e: (e.kind != "directory", e.name))

    async def read(self, path: str) -> tuple[FileEntry, Held]:
        """The file as long as it is now; what is appended meanwhile is not read."""
        wanted = checked(path)
        try:
            fd = await self._readers.open(self._session, wanted)
        except Refused as why:
            raise _refusal(why) from None
        status = os.fstat(fd)
        if status.st_size > SIZE_MAX:
            os.close(fd)
            raise TooLarge(f"the file has more than {SIZE_MAX} bytes")
        entry = FileEntry(wanted.rsplit("/", 1)[-1], "file", status.st_size, status.st_mtime)
        return entry, _Chunks(fd, status.st_size)

    async def walk(self, path: str) -> AsyncIterator[tuple[str, FileEntry]]:
        top = checked(path)
        todo, seen, met = [top], 0, 0
        while todo:
            here = todo.pop()
            try:
                entries = await self._list(checked(here), WALK_MAX)
            except (NotFound, BadRequest):
                if here == top:
                    raise
                yield here, FileEntry(here.rpartition("/")[2], "directory", 0, 0.0)
                continue
            met += len(entries)
            if met > MET_MAX:
                raise TooLarge(f"the workspace has more than {MET_MAX} names")
            for entry in entries:
                below = entry.name if here == "." else f"{here}/{entry.name}"
                if entry.kind == "directory":
                    if below.count("/") < DEPTH_MAX:
                        todo.append(below)
                    else:
                        yield below, entry
                elif entry.kind == "file":
                    seen += 1
                    if seen > WALK_MAX:
                        raise TooLarge(f"the workspace has more than {WALK_MAX} files")
                    yield below, entry

    def moment(self) -> int:
        """The clock that file systems stamp with; it moves in steps, behind the one that `time` reads."""
        return time.clock_gettime_ns(_COARSE) - _STEP_NS

    def now(self) -> int:
        return time.time_ns()

    async def passed(self, moment_ns: int) -> bool:
        end = time.monotonic() + _PASSED_S
        while time.clock_gettime_ns(_COARSE) < moment_ns:
            if time.monotonic() > end:
                return False
            await asyncio.sleep(0.001)
        return True

    async def mark(self, moment_ns: int, passed_by: Sequence[str], take: Callable[[bytes], None]) -> None:
        request = {"mark": moment_ns, "by": list(passed_by), "most": MET_MAX}
        try:
            await self._readers.marks(self._session, request, take)
        except Refused as why:
            raise _refusal(why, MET_MAX) from None

    async def changed(self, since: Since, passed_by: Sequence[str]) -> Changes:
        request = {"changed": since.moment_ns, "by": list(passed_by), "most": MET_MAX}
        given = () if since.marks is None else (since.marks,)
        try:
            return Changes(*await self._readers.changes(self._session, request, given))
        except Refused as why:
            raise _refusal(why, MET_MAX) from None


class _Chunks:
    """What an open file holds. Read by position: whoever passed the descriptor shares its offset."""

    def __init__(self, fd: int, size: int) -> None:
        self._file = os.fdopen(fd, "rb", buffering=0)
        self._at = 0
        self._size = size
        self._was = self._state()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while self._at < self._size:
            data = await asyncio.to_thread(self._read)
            if not data:
                return
            self._at += len(data)
            yield data

    def _read(self) -> bytes:
        try:
            return os.pread(self._file.fileno(), min(CHUNK, self._size - self._at), self._at)
        except OSError as error:
            raise BadRequest(f"the file cannot be read on: {error.strerror}") from None

    def _state(self) -> tuple[int, int, int]:
        status = os.fstat(self._file.fileno())
        return status.st_size, status.st_mtime_ns, status.st_ctime_ns

    def steady(self) -> bool:
        return self._state() == self._was

    def close(self) -> None:
        self._file.close()
