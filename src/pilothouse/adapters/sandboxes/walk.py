"""How much a session's files take where no file system of their own bounds them: counted by a child of the holder.

The child prints `<bytes>\\n` and ends; it is bounded in entries and in time, follows no link, and is as idle as the
kernel lets it be. What it could not count is not counted: this is a watch, not a wall.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time

from pilothouse.adapters.sandboxes import kernel

EVERY_S = 10.0
ENTRIES_MAX = 1_000_000
TIME_MAX_S = 30
SHARE = 20
"""After a walk of a second none for this many."""


class Walk:
    """Poll it: `due` says that a walk has ended since the last time, and starts the next when it is time."""

    def __init__(self, directories: tuple[str, ...]) -> None:
        self._directories = directories
        self._next = 0.0
        self._began = 0.0
        self._pipe = -1
        self._pid = 0
        self._before = 0
        self.used = 0
        self.done = False
        """Whether `used` has been found out."""
        self.again = False
        """It grew although it was over."""

    def due(self, now: float) -> bool:
        if self._pipe < 0:
            if now >= self._next:
                self._start(now)
            return False
        try:
            said = os.read(self._pipe, 100)
        except BlockingIOError:
            return False
        os.close(self._pipe)
        with contextlib.suppress(ChildProcessError):  # the holder reaps all when its sandbox ends
            os.waitpid(self._pid, 0)  # it has written its last
        self._pipe = -1
        self._next = now + max(EVERY_S, (now - self._began) * SHARE)
        if said:
            self._before, self.used, self.done = self.used, int(said), True
        return bool(said)

    def over(self, most: int) -> bool:
        """More than it may, and growing: one that is being cleaned up is left alone."""
        over = self.used > most and self.used > self._before
        self.again = over and self._before > most
        return over

    def _start(self, now: float) -> None:
        out, into = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        holder = os.getpid()
        self._pid = os.fork()
        if self._pid == 0:
            try:
                kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
                signal.alarm(TIME_MAX_S)
                if os.getppid() == holder:
                    os.nice(19)
                    os.write(into, b"%d\n" % measure(self._directories))
            finally:
                os._exit(0)
        os.close(into)
        self._pipe, self._began = out, now


def measure(directories: tuple[str, ...], most: int = ENTRIES_MAX) -> int:
    """Bytes on the disk; a file with several names counts once."""
    total, entries = 0, 0
    seen: set[tuple[int, int]] = set()
    todo = list(directories)
    end = time.monotonic() + TIME_MAX_S - 1
    while todo and entries < most and time.monotonic() < end:
        with contextlib.suppress(OSError), os.scandir(todo.pop()) as listing:
            for entry in listing:
                entries += 1
                with contextlib.suppress(OSError):
                    status = entry.stat(follow_symlinks=False)
                    if status.st_nlink > 1 and not entry.is_dir(follow_symlinks=False):
                        if (status.st_dev, status.st_ino) in seen:
                            continue
                        seen.add((status.st_dev, status.st_ino))
                    total += status.st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        todo.append(entry.path)
                if entries >= most:
                    break
    return total
