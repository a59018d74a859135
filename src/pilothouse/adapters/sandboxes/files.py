"""A session's workspace, seen from the host. The agent owns every name in it and may swap them at any moment.

Each look-up is one `openat2` from the workspace's directory with RESOLVE_BENEATH and RESOLVE_NO_MAGICLINKS: the kernel
itself refuses a path that leaves it, at the moment of opening, so nothing lies between check and use. What was opened
is then looked at (`fstat`), never its name. O_NONBLOCK keeps a FIFO from holding us.
"""

from __future__ import annotations

import asyncio
import errno
import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path

from pilothouse.adapters.sandboxes import kernel
from pilothouse.core.errors import BadRequest, NotFound, TooLarge
from pilothouse.engine.ports import Content, FileEntry

PATH_MAX = 4096
"""The kernel's own limit."""
ENTRIES_MAX = 10_000
"""Names in one listing: more is no use to a person, and one listing shall not fill the memory."""
WALK_MAX = 50_000
"""Files of one walk: what a zip of a workspace may hold."""
DEPTH_MAX = 64
SIZE_MAX = 64 * 1024**3
"""A file that is read: large data sets pass; sparse files of exabytes, which cost the agent nothing, do not."""
CHUNK = 256 * 1024
_TRIES = 20
"""The kernel answers EAGAIN when a name on the way was renamed meanwhile."""

_RESOLVE = kernel.RESOLVE_BENEATH | kernel.RESOLVE_NO_MAGICLINKS
_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY


def checked(path: str) -> bytes:
    """A path below the workspace as bytes; "" and "." are the workspace. Raises BadRequest."""
    if "\0" in path:
        raise BadRequest("path: contains a NUL")
    try:
        raw = path.encode()
    except UnicodeEncodeError:
        raise BadRequest("path: not valid Unicode") from None
    if len(raw) > PATH_MAX:
        raise BadRequest(f"path: more than {PATH_MAX} bytes")
    if raw.startswith(b"/"):
        raise BadRequest("path: expected one relative to the workspace")
    if b".." in raw.split(b"/"):
        raise BadRequest("path: '..' leads out of the workspace")
    return raw or b"."


def _refusal(error: OSError) -> Exception:
    match error.errno:
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
    return BadRequest(f"the file cannot be read: {error.strerror}")


def _entry(name: str, status: os.stat_result) -> FileEntry:
    mode = status.st_mode
    kind = "other"
    if stat.S_ISREG(mode):
        kind = "file"
    elif stat.S_ISDIR(mode):
        kind = "directory"
    elif stat.S_ISLNK(mode):
        kind = "link"
    shown = os.fsencode(name).decode("utf-8", "replace")
    return FileEntry(shown, kind, status.st_size if kind == "file" else 0, status.st_mtime)


Entries = list[FileEntry]


class WorkspaceFiles:
    def __init__(self, root: Path) -> None:
        self._root = root

    def _open(self, path: bytes, flags: int = 0) -> int:
        """Raises NotFound, BadRequest."""
        try:
            root = os.open(self._root, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            raise NotFound("the session has no workspace") from None
        try:
            return self._beneath(root, path, flags)
        except OSError as error:
            raise _refusal(error) from None
        finally:
            os.close(root)

    def _beneath(self, root: int, path: bytes, flags: int) -> int:
        for left in reversed(range(_TRIES)):
            try:
                return kernel.openat2(root, path, _FLAGS | flags, _RESOLVE)
            except OSError as error:
                if error.errno != errno.EAGAIN or not left:
                    raise
        raise AssertionError

    async def list(self, path: str) -> Entries:
        return await asyncio.to_thread(self._list, checked(path), ENTRIES_MAX)

    def _list(self, path: bytes, most: int) -> Entries:
        fd = self._open(path, os.O_DIRECTORY)
        found: Entries = []
        try:
            with os.scandir(fd) as entries:
                for entry in entries:
                    if len(found) >= most:
                        raise TooLarge(f"the directory has more than {most} entries")
                    try:
                        found.append(_entry(entry.name, entry.stat(follow_symlinks=False)))
                    except FileNotFoundError:
                        continue
        except OSError as error:
            raise _refusal(error) from None
        finally:
            os.close(fd)
        return sorted(found, key=lambda e: (e.kind != "directory", e.name))

    async def read(self, path: str) -> tuple[FileEntry, Content]:
        """The file as long as it is now; what is appended meanwhile is not read."""
        fd, entry = await asyncio.to_thread(self._regular, checked(path))
        return entry, _Chunks(fd, entry.size)

    def _regular(self, path: bytes) -> tuple[int, FileEntry]:
        fd = self._open(path)
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_size > SIZE_MAX:
            os.close(fd)
            if stat.S_ISREG(status.st_mode):
                raise TooLarge(f"the file has more than {SIZE_MAX} bytes")
            raise BadRequest("not a regular file")
        return fd, _entry(os.fsdecode(path.rsplit(b"/", 1)[-1]), status)

    async def walk(self, path: str) -> AsyncIterator[tuple[str, FileEntry]]:
        todo, seen = [checked(path).decode()], 0
        while todo:
            here = todo.pop()
            try:
                entries = await asyncio.to_thread(self._list, checked(here), WALK_MAX)
            except (NotFound, BadRequest):
                if not seen and here == path:
                    raise
                continue
            for entry in entries:
                below = entry.name if here == "." else f"{here}/{entry.name}"
                if entry.kind == "directory":
                    if below.count("/") < DEPTH_MAX:
                        todo.append(below)
                elif entry.kind == "file":
                    seen += 1
                    if seen > WALK_MAX:
                        raise TooLarge(f"the workspace has more than {WALK_MAX} files")
                    yield below, entry


class _Chunks:
    """What an open file holds."""

    def __init__(self, fd: int, size: int) -> None:
        self._file = os.fdopen(fd, "rb", buffering=0)
        self._left = size

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while self._left > 0:
            data = await asyncio.to_thread(self._file.read, min(CHUNK, self._left))
            if not data:
                return
            self._left -= len(data)
            yield data

    def close(self) -> None:
        self._file.close()
