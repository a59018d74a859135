"""Files in a folder of this machine, content-addressed beneath: equal content is there once.

    objects/ab/<sha256>     the content, 0600; its link count says how many keys have it
    outputs/…               the keys: hard links to objects, so that a person finds the files by their names
    staging/                what is being written; emptied at the start

Content is on the disk before its key is: written aside, `fsync`, linked, and the directory `fsync`ed. Where the file
system has no hard links each key has a copy of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import os
import secrets
import shutil
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import ParamSpec, TypeAlias, TypeVar

from pilothouse.core.errors import BadRequest, NotFound, Unavailable
from pilothouse.engine.ports import About

CHUNK = 256 * 1024
THREADS = 4
"""Of its own: a slow disk must not hold whoever else needs a thread."""
RESERVE = 2 * 1024**3
"""Bytes of the disk that artifacts leave to everybody else: the log of this server may lie on it."""
_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_NO_LINKS = frozenset({errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.ENOSYS, errno.EXDEV})
P = ParamSpec("P")
T = TypeVar("T")
Reading: TypeAlias = Callable[[Callable[[], bytes]], Awaitable[bytes]]


class Folder:
    def __init__(self, root: Path) -> None:
        self._root = root
        self._objects = root / "objects"
        self._staging = root / "staging"
        self._threads = ThreadPoolExecutor(THREADS, "blobs")
        self._dirty: set[Path] = set()

    @classmethod
    async def open(cls, root: Path) -> Folder:
        """Raises Unavailable."""
        made = cls(root)
        await made._in_thread(made._prepare)
        return made

    def _prepare(self) -> None:
        for path in (self._root, self._objects, self._staging, self._root / "outputs"):
            path.mkdir(mode=0o700, exist_ok=True)
            path.chmod(0o700)
        for left in self._staging.iterdir():
            shutil.rmtree(left) if left.is_dir() else left.unlink()

    async def _in_thread(self, act: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._threads, partial(act, *args, **kwargs))
        except OSError as error:
            full = error.errno in {errno.ENOSPC, errno.EDQUOT}
            raise Unavailable(
                f"artifacts cannot be stored: {error.strerror}", code="no_space" if full else "storage"
            ) from None

    # --- writing ---

    def _has_room(self) -> None:
        disk = os.statvfs(self._root)
        if disk.f_bavail * disk.f_frsize < RESERVE:
            raise OSError(errno.ENOSPC, "the disk is nearly full")

    async def put(self, key: str, file: Path, about: About) -> None:
        async with self.stage() as stage:
            with await self._in_thread(file.open, "rb") as source:
                while data := await self._in_thread(source.read, CHUNK):
                    await stage.write(data)
            if (await stage.done()).sha256 != about.sha256:
                raise BadRequest("the file is not what it is said to be")
            await stage.keep(key)
        await self.settle()

    @contextlib.asynccontextmanager
    async def stage(self) -> AsyncIterator[Stage]:
        """Something that is written piece by piece, and kept or not."""
        stage = Stage(self, self._staging / secrets.token_hex(16))
        try:
            yield stage
        finally:
            await stage.drop()

    async def settle(self) -> None:
        """What was kept is there after a power loss too."""
        dirty, self._dirty = self._dirty, set()
        await self._in_thread(_sync, dirty)

    def _keep(self, staged: Path, key: str, sha256: str) -> None:
        target = self._place(key)
        try:
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise _in_the_way() from None
        try:
            content = self._object(staged, sha256)
            aside = self._staging / secrets.token_hex(16)
            while True:
                try:
                    os.link(content, aside, follow_symlinks=False)
                    break
                except FileNotFoundError:  # nobody had it, and it was swept at this moment
                    content = self._object(staged, sha256)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            aside = self._staging / secrets.token_hex(16)
            shutil.copyfile(staged, aside)
            aside.chmod(0o600)
        try:
            aside.replace(target)
        except (IsADirectoryError, NotADirectoryError):
            raise _in_the_way() from None
        finally:
            aside.unlink(missing_ok=True)  # to replace a link by one to the same file does nothing
        while target != self._root:
            target = target.parent
            self._dirty.add(target)

    def _object(self, staged: Path, sha256: str) -> Path:
        content = self._objects / sha256[:2] / sha256
        content.parent.mkdir(mode=0o700, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            if content.stat().st_size == staged.stat().st_size:
                return content
            content.unlink()
        with contextlib.suppress(FileExistsError):
            os.link(staged, content, follow_symlinks=False)
        self._dirty |= {content.parent, self._objects}
        return content

    def _place(self, key: str) -> Path:
        names = key.split("/")
        bad = any(name in {"", ".", ".."} or "\0" in name or len(os.fsencode(name)) > 255 for name in names)
        if bad or names[0] != "outputs" or len(names) < 2:
            raise BadRequest("key: not one of an artifact")
        return self._root.joinpath(*names)

    # --- reading ---

    async def read(self, key: str, start: int = 0, end: int | None = None) -> Part:
        try:
            fd = await self._in_thread(self._open, self._place(key))
        except Unavailable as error:
            if error.code == "absent":
                raise NotFound from None
            raise
        size = os.fstat(fd).st_size
        return Part(fd, start, size if end is None else min(end, size), self._in_thread)

    def _open(self, path: Path) -> int:
        try:
            return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        except (FileNotFoundError, NotADirectoryError):
            raise Unavailable(code="absent") from None

    async def has(self, key: str, about: About) -> bool:
        return await self._in_thread(_is, self._place(key), about)

    def path(self, key: str) -> Path:
        """For whoever takes it elsewhere."""
        return self._place(key)

    # --- removing ---

    async def drop(self, prefix: str) -> None:
        if await self._in_thread(self._drop, self._place(prefix.rstrip("/"))):
            await self.sweep()

    def _drop(self, path: Path) -> bool:
        """Whether there was something."""
        if not os.path.lexists(path):
            return False
        if path.is_dir() and not path.is_symlink():
            aside = self._staging / secrets.token_hex(16)  # at once for whoever looks
            path.rename(aside)
            shutil.rmtree(aside)
        else:
            path.unlink(missing_ok=True)
        return True

    async def release(self, key: str, sha256: str) -> None:
        """One file, which is elsewhere now."""
        await self._in_thread(self._release, self._place(key), sha256)

    def _release(self, path: Path, sha256: str) -> None:
        path.unlink(missing_ok=True)
        _lonely(self._objects / sha256[:2] / sha256)
        with contextlib.suppress(OSError):
            while path.parent != self._root / "outputs":
                path = path.parent
                path.rmdir()

    async def sweep(self) -> None:
        """Content that no key has goes."""
        await self._in_thread(self._sweep)

    def _sweep(self) -> None:
        for folder in self._objects.iterdir():
            for content in folder.iterdir():
                _lonely(content)

    async def jobs(self) -> list[str]:
        """The names below `outputs/`."""
        return await self._in_thread(lambda: sorted(os.listdir(self._root / "outputs")))  # noqa: PTH208

    def place(self, key: str) -> tuple[str | None, str | None]:
        return None, None

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


class Stage:
    """A file that nobody sees yet. A thread goes on when whoever waited for it is cancelled, so each step holds the
    lock, and none is begun once it is dropped."""

    def __init__(self, folder: Folder, path: Path) -> None:
        self._folder = folder
        self._path = path
        self._fd = -1
        self._hash = hashlib.sha256()
        self._size = 0
        self._done = ""
        self._lock = threading.Lock()
        self._over = False

    async def write(self, data: bytes) -> None:
        """Raises Unavailable."""
        await self._folder._in_thread(self._write, data)

    def _write(self, data: bytes) -> None:
        with self._lock:
            self._written(data)

    def _written(self, data: bytes) -> None:
        if self._over:
            raise OSError(errno.ECANCELED, "dropped")
        if self._fd < 0:
            self._folder._has_room()
            self._fd = os.open(self._path, _FLAGS, 0o600)
        self._hash.update(data)
        self._size += len(data)
        left = memoryview(data)
        while left:
            left = left[os.write(self._fd, left) :]

    async def done(self) -> About:
        """All of it is on the disk."""
        await self._folder._in_thread(self._finish)
        return About(self._size, self._done, "")

    def _finish(self) -> None:
        with self._lock:
            self._written(b"")
            os.fsync(self._fd)
            os.close(self._fd)
            self._fd, self._done = -1, self._hash.hexdigest()

    async def keep(self, key: str) -> None:
        """Under this key, over what was there; `settle` makes it last. Raises BadRequest (key, or `name`: another file
        is where it would have to be), Unavailable."""
        await self._folder._in_thread(self._kept, key)

    def _kept(self, key: str) -> None:
        with self._lock:
            if not self._over:
                self._folder._keep(self._path, key, self._done)

    async def drop(self) -> None:
        """Behind whatever a thread does with it still, also when whoever drops it is cancelled."""
        loop = asyncio.get_running_loop()
        try:
            dropping = loop.run_in_executor(self._folder._threads, self._drop)
        except RuntimeError:  # the store is closed: its threads take no more
            self._drop()
            return
        await asyncio.shield(dropping)

    def _drop(self) -> None:
        with self._lock:
            self._over = True
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1
            self._path.unlink(missing_ok=True)


class Part:
    """A stretch of a file, read by position."""

    def __init__(self, fd: int, start: int, end: int, in_thread: Reading) -> None:
        self._file = os.fdopen(fd, "rb", buffering=0)
        self._at, self._end = start, end
        self._in_thread = in_thread

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while self._at < self._end:
            data = await self._in_thread(self._read)
            if not data:
                return
            self._at += len(data)
            yield data

    def _read(self) -> bytes:
        return os.pread(self._file.fileno(), min(CHUNK, self._end - self._at), self._at)

    def close(self) -> None:
        self._file.close()


def _in_the_way() -> BadRequest:
    return BadRequest("key: another file's name is in its way", code="name")


def _lonely(content: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        if content.stat().st_nlink == 1:
            content.unlink()


def _is(path: Path, about: About) -> bool:
    try:
        if path.lstat().st_size != about.size:
            return False
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == about.sha256
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return False


def _sync(folders: set[Path]) -> None:
    for folder in folders:
        try:
            fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:  # dropped since
            continue
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
