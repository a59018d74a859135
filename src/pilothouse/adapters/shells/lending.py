"""A PTY that is lent: as long as a server is there it reads and types itself, without waking the holder for every key,
and when it goes, by `kill -9` too, the holder knows to the byte what was read and what was typed.

A PTY is no file: what has been read from it is nowhere but with the reader, and how much that was only the call's
result says, which dies with it. So bytes go through two pipes that the holder has as well. Moving them from the PTY
into a pipe (`splice`) is one system call, which a kill does not cut in two, and a pipe outlives who filled it. The rest
is in numbers before the output (`core.shellwire`), each written by one store:

    word  0         what the viewers have seen; not ours
    word  1         HEAD: the output in the memory ends here
    word  2         NEXT: where it will end once the pipe has been emptied into it
    word  3         TYPED_IN: whether somebody types in it; 2: what GRANT said last
    word  4         OPEN: 1 while input goes into its pipe
    word  5         WHO: the entry whose input that is
    word  6         BASE: what that typist had typed before
    word  7         ENTRIES: so many typists follow
    word  8         RESIZES: so many has the holder done since the server came; the one number here that it writes
    words 16..143   pairs: a typist, and all that it has typed
    words 144..271  seams, one for each 128th of the memory at most

Output. R is what lies in the pipe; HEAD = NEXT and R = 0 to begin with.

    step                                   killed after it, there are     so the holder
    1  splice PTY -> pipe, several times   HEAD = NEXT, R = n             empties the pipe at HEAD
    2  NEXT := HEAD + n                    HEAD < NEXT, R = n             likewise: NEXT - HEAD - R = 0 are in memory
    3  read pipe -> memory at HEAD         HEAD < NEXT, R = 0             takes NEXT - HEAD - R = n as read
    4  HEAD := NEXT                        HEAD = NEXT, R = 0             has nothing to do

In 3 a part m may have gone: then R = n - m, the same formula takes m as read, and the rest is emptied after it. Within
1 R is what the splices that were done have moved. So in every state: if HEAD < NEXT, NEXT - HEAD - R bytes are in the
memory beyond HEAD; then come the R of the pipe; then what the PTY still has.

Input, of a typist who had typed `base` and whose entry says so. R is what lies in the other pipe, 0 to begin with: what
does not go at once is given back with the PTY, and nobody types here while the holder has something to type.

    step                                   killed after it, there are     so the holder counts, and types first
    1  BASE := base, WHO := entry          OPEN = 0, R = 0                base; nothing
    2  OPEN := 1                           OPEN = 1, R = 0                base + R = base; nothing
    3  write bytes -> pipe, k go           OPEN = 1, R = k                base + R = base + k; the pipe
    4  entry := base + k                   OPEN = 1, R = k                base + R = base + k; the pipe
    5  OPEN := 0                           OPEN = 0, R = k                entry = base + k; the pipe
    6  splice pipe -> PTY, m go            OPEN = 0, R = k - m            entry = base + k; the pipe

A typist who is new gets an entry of 0 + base before ENTRIES says that there is one. A kill ends a thread between two
instructions or at the end of a system call; what it stored before is seen by who looks afterwards. Who looks does so
when its end of the connection has ended: then the last thread of the server has left its last call.

Nothing of this may block. O_NONBLOCK belongs to the open master, whoever holds it: so a PTY is lent only where no
program of a session has ever had it (see `sandboxes.inside`), and both sides look whether it is what it should be.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import sys
import termios
from dataclasses import dataclass

from pilothouse.adapters.shells.memory import Memory, Unfit
from pilothouse.core.scrollback import Window
from pilothouse.core.seam import Seams

HEAD, NEXT, TYPED_IN, OPEN, WHO, BASE, ENTRIES, RESIZES = range(1, 9)
_TYPISTS, TYPISTS_MAX = 16, 64
"""When another one comes it is given back: how much these have typed is the holder's to remember."""
_SEAMS, SEAMS_MAX = 144, 128
_PIECE = 4096
"""A PTY gives no more in one read; a pipe takes it as one page."""
_SHORT = 64
"""As in `pty`: a read that gave less is an echo."""
_PTMX = (5, 2)
_UNSAID = 2


@dataclass(frozen=True, slots=True)
class Loan:
    """The descriptors of a PTY that is lent. Both sides have them."""

    master: int
    output: int
    input: int

    @property
    def fds(self) -> tuple[int, int, int]:
        return self.master, self.output, self.input

    def check(self) -> None:
        """That none of them blocks, and none can be made to by a program of the session. Raises Unfit, OSError."""
        for fd, fit in ((self.master, _is_master), (self.output, _is_pipe), (self.input, _is_pipe)):
            if not fit(os.fstat(fd)) or os.get_blocking(fd):
                raise Unfit("not a PTY with its pipes, or one that blocks")

    def close(self) -> None:
        for fd in self.fds:
            os.close(fd)


def _is_master(found: os.stat_result) -> bool:
    return stat.S_ISCHR(found.st_mode) and (os.major(found.st_rdev), os.minor(found.st_rdev)) == _PTMX


def _is_pipe(found: os.stat_result) -> bool:
    return stat.S_ISFIFO(found.st_mode)


def _pipe() -> int:
    """Both ends as one descriptor. Raises OSError."""
    out, into = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        return os.open(f"/proc/self/fd/{out}", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    finally:
        os.close(out)
        os.close(into)


def waiting(fd: int) -> int:
    """Bytes in a pipe."""
    return int.from_bytes(fcntl.ioctl(fd, termios.FIONREAD, b"\0\0\0\0"), sys.byteorder)


# --- the holder's side


def lend(memory: Memory, master: int, head: int) -> Loan:
    """`master` stays the holder's. Raises OSError, Unfit."""
    page = memory.page
    for word in range(1, _SEAMS + SEAMS_MAX):
        page[word] = 0
    page[HEAD] = page[NEXT] = head
    page[TYPED_IN] = _UNSAID
    pipes: list[int] = []
    try:
        pipes += [_pipe()]
        pipes += [_pipe()]
        loan = Loan(master, *pipes)
        loan.check()
    except (OSError, Unfit):
        for fd in pipes:
            os.close(fd)
        raise
    return loan


@dataclass(frozen=True)
class Settled:
    """How things stand when a PTY has come back."""

    head: int
    """Of what is in the memory; the pipe for output has the rest."""
    typed: dict[int, int]
    """All that these typists have typed, what is in the pipe for input among it."""
    last: int | None
    """Who typed last, if something is in that pipe."""
    typed_in: bool | None
    """None: nothing was said about it."""
    seams: list[int]


def settle(memory: Memory, loan: Loan, capacity: int) -> Settled:
    """Nobody else may have the loan any more. What the page says is the server's word for its own output and input; it
    is bounded by what is there."""
    page = memory.page
    head, ahead = page[HEAD], page[NEXT] - page[HEAD]
    read = waiting(loan.output)
    if 0 < ahead <= capacity:
        head += max(0, ahead - read)
    entries = min(page[ENTRIES], TYPISTS_MAX)
    typed = {page[_TYPISTS + 2 * n]: page[_TYPISTS + 2 * n + 1] for n in range(entries)}
    unread = waiting(loan.input)
    last = page[_TYPISTS + 2 * page[WHO]] if page[WHO] < entries else None
    if page[OPEN] and last is not None:
        typed[last] = page[BASE] + unread
    seams = sorted(place for n in range(SEAMS_MAX) if 0 < (place := page[_SEAMS + n]) <= head)
    return Settled(
        head, typed, last if unread else None, None if page[TYPED_IN] == _UNSAID else bool(page[TYPED_IN]), seams
    )


def emptied(fd: int) -> bytes:
    """What is in a pipe."""
    return os.read(fd, count) if (count := waiting(fd)) else b""


# --- the server's side


class Borrowed:
    """A PTY that is ours to read and to type into."""

    __slots__ = (
        "_entries",
        "_filled",
        "_loan",
        "_output",
        "_seams",
        "_step",
        "_typed",
        "_window",
        "fd",
        "over",
        "page",
    )

    def __init__(self, memory: Memory, loan: Loan, window: Window, seams: Seams) -> None:
        """`loan` becomes ours. `seams` is at the window's head. Raises Unfit, OSError."""
        loan.check()
        self.fd = loan.master
        self._filled, self._typed = loan.output, loan.input
        self._loan = loan
        self.page = memory.page
        """The numbers of the table above."""
        self._window = window
        self._seams = seams
        self._output = memory.output
        self._entries: dict[int, int] = {}
        self._step = max(1, window.capacity // SEAMS_MAX)
        self.over = False
        """Everything has been read, and nobody has the other side open any more."""

    def read(self, limit: int) -> int:
        """Until it is empty or `limit` bytes have come; how many. Raises OSError: it cannot be read so here; Unfit."""
        try:
            moved = os.splice(self.fd, self._filled, _PIECE if limit >= _PIECE else limit, flags=os.SPLICE_F_NONBLOCK)
        except OSError as error:
            moved = self._failed(error)
        else:
            if moved == 0:
                self.over = True
        if moved >= _SHORT:
            moved += self._more(limit - moved)
        if not moved:
            if waiting(self._filled):  # there would be something to read for ever
                raise Unfit("somebody else fills the pipe")
            return 0
        window, page = self._window, self.page
        head = window.head
        page[NEXT] = head + moved
        at = head % window.capacity
        first = self._output[at : at + moved]
        rooms = [first] if len(first) == moved else [first, self._output[: moved - len(first)]]
        if os.readv(self._filled, rooms) != moved:
            raise Unfit("somebody else reads the pipe")
        page[HEAD] = window.head = head + moved
        return moved

    def type(self, typist: int, base: int, data: bytes) -> tuple[int, int] | None:
        """Of `data`, that follows `base` bytes of that typist: how many are counted as typed, and how many of these
        have gone into the PTY; unless both are all, it must be given back. None: there is no room for one more typist,
        likewise."""
        entry = self._entries.get(typist)
        if entry is None:
            entry = self._enter(typist, base)
            if entry is None:
                return None
        page, into = self.page, self._typed
        page[BASE], page[WHO] = base, entry
        page[OPEN] = 1
        try:
            count = os.write(into, data)
        except OSError:  # there is no memory, or somebody else has filled it
            count = 0
        page[_TYPISTS + 2 * entry + 1] = base + count
        page[OPEN] = 0
        try:
            return count, os.splice(into, self.fd, count, flags=os.SPLICE_F_NONBLOCK)
        except OSError:  # it takes nothing now, or has ended: the holder sees to it
            return count, 0

    def look(self) -> None:
        """For seams in what was read: apart from reading, for whoever waits for an echo does not wait for this."""
        window, seams = self._window, self._seams
        if seams.end == window.head:
            return
        # `Window`'s own: what was read is there until the next round of reading, whatever has been granted since.
        seams.feed(Window.read(window, seams.end, window.head - seams.end))
        seam = seams.latest
        if seam is not None:
            self.page[_SEAMS + seam // self._step % SEAMS_MAX] = seam

    def note(self, *, typed_in: bool) -> None:
        self.page[TYPED_IN] = typed_in

    def close(self) -> None:
        self._loan.close()

    # ---

    def _more(self, limit: int) -> int:
        """Into the pipe, while whole pieces may come: how much."""
        moved = 0
        while limit - moved >= _PIECE:
            try:
                count = os.splice(self.fd, self._filled, _PIECE, flags=os.SPLICE_F_NONBLOCK)
            except OSError as error:
                self._failed(error)
                break
            if count == 0:
                self.over = True
            moved += count
            if count < _SHORT:
                break
        return moved

    def _failed(self, error: OSError) -> int:
        """Nothing has come. Raises OSError."""
        if error.errno == errno.EIO:
            self.over = True
        elif not isinstance(error, BlockingIOError):  # a kernel (before 5.11) that cannot do this with a PTY
            raise error
        return 0

    def _enter(self, typist: int, base: int) -> int | None:
        entry = len(self._entries)
        if entry >= TYPISTS_MAX:
            return None
        self.page[_TYPISTS + 2 * entry], self.page[_TYPISTS + 2 * entry + 1] = typist, base
        self.page[ENTRIES] = entry + 1
        self._entries[typist] = entry
        return entry
