"""The piece of memory that holder and server share: some numbers that the server notes, then the output (see
`core.shellwire`). A memfd that can be neither shrunk nor grown, so that neither side can make the other stumble; pages
cost nothing until something is written on them."""

from __future__ import annotations

import fcntl
import mmap
import os

from pilothouse.core import shellwire

_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


class Unfit(Exception):
    """What the other side handed over is not such a piece of memory."""


class Memory:
    __slots__ = ("_map", "fd", "output", "page")

    def __init__(self, fd: int, capacity: int, numbers: int = shellwire.NUMBERS) -> None:
        """`fd` stays the caller's; `numbers`: bytes of them. Raises Unfit, OSError."""
        size = numbers + capacity
        try:
            sealed = fcntl.fcntl(fd, fcntl.F_GET_SEALS)
        except OSError as error:
            raise Unfit(f"no memfd: {error}") from None
        if os.fstat(fd).st_size != size or sealed & _SEALS != _SEALS:
            raise Unfit("not of the size that was said, or not sealed")
        if os.fstatvfs(fd).f_bsize != mmap.PAGESIZE:  # a page taken out of it may have no other to take its place
            raise Unfit("of huge pages")
        self.fd = fd
        self._map = mmap.mmap(fd, size)
        with memoryview(self._map) as whole:
            self.page = whole[:numbers].cast("Q")
            self.output = whole[numbers:]

    @property
    def seen(self) -> int:
        """How much of the output the viewers have seen; a number of the server's."""
        return self.page[0]

    @seen.setter
    def seen(self, offset: int) -> None:
        self.page[0] = offset

    def close(self) -> None:
        """Once nobody reads `output` any more."""
        for view in (self.page, self.output):
            view.release()
        self._map.close()


def make(name: str, capacity: int, numbers: int = shellwire.NUMBERS) -> int:
    """A fresh one, as a descriptor."""
    fd = os.memfd_create(f"shell {name}", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, numbers + capacity)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    return fd


def fresh(name: str, capacity: int) -> Memory:
    """The same, mapped; its descriptor is the caller's. Raises OSError."""
    fd = make(name, capacity)
    try:
        return Memory(fd, capacity)
    except OSError:
        os.close(fd)
        raise
