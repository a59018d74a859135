"""A session's processes, looked at from outside, and ended where no control group does it.

They are found from the first process down (as process 1 of its namespace it inherits every orphan) and from what starts
programs (of which they are the children), measured by what each takes alone and its share of what is shared (PSS). The
largest that is not ours goes first; the runner only when nothing else is left to end, for a runner is as hostile as
what it runs.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

PROCESSES_MAX = 20_000
"""More are not looked at; a limit on their number is in force in any case."""


@dataclass(frozen=True, slots=True)
class Process:
    pid: int
    started: str
    """With the pid a name that is not given twice."""
    size: int
    threads: int
    runner: bool = False


@dataclass(frozen=True, slots=True)
class Found:
    others: tuple[Process, ...]
    """All but the first."""
    memory: int
    threads: int


def victims(processes: Iterable[Process], over: int) -> list[Process]:
    """Whom to end so that `over` bytes come back: the largest first, the runner last."""
    chosen: list[Process] = []
    for process in sorted(processes, key=lambda p: (p.runner, -p.size)):
        if over <= 0:
            break
        chosen.append(process)
        over -= process.size
    return chosen


class Watchdog:
    def __init__(self, first: int) -> None:
        self._first = first
        self.roots = [first]
        """Whose children are looked at."""

    def look(self, runner: int | None) -> Found:
        """`runner`: its pid. Nothing is measured where only ours are there."""
        pids = [pid for root in self.roots for pid in _below(root)]
        ours = {pid for pid in pids if pid == runner}
        if not set(pids) - ours:
            return Found((), 0, 0)
        others = [p for pid in pids if (p := _process(pid, pid in ours)) is not None]
        first = _process(self._first, False)
        every = [*others, *([first] if first else [])]
        return Found(tuple(others), sum(p.size for p in every), sum(p.threads for p in every))

    def relieve(self, found: Found, most: int) -> int:
        """Ends processes until the rest fits. How many."""
        return sum(_end(p) for p in victims(found.others, found.memory - most))

    def end(self, found: Found, *, runner_too: bool) -> int:
        return sum(_end(p) for p in found.others if runner_too or not p.runner)


def _below(first: int) -> list[int]:
    found: list[int] = []
    todo = [first]
    while todo and len(found) < PROCESSES_MAX:
        children = _children(todo.pop())
        found += children
        todo += children
    return found


def _children(pid: int) -> list[int]:
    children: list[int] = []
    with contextlib.suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208  one name each, no objects
            with contextlib.suppress(OSError):
                children += map(int, Path(f"/proc/{pid}/task/{task}/children").read_text().split())
    return children


def _stat(pid: int) -> list[str]:
    """The fields after the name, which may hold anything."""
    return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()


def _process(pid: int, runner: bool) -> Process | None:
    try:
        fields = _stat(pid)
        return Process(pid, fields[19], _size(pid, fields), int(fields[17]), runner)
    except (OSError, IndexError, ValueError):
        return None


def _size(pid: int, fields: list[str]) -> int:
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return int(fields[21]) * os.sysconf("SC_PAGE_SIZE")


def _end(process: Process) -> bool:
    """By descriptor, and only if it still is who was looked at."""
    with contextlib.suppress(OSError, IndexError):
        fd = os.pidfd_open(process.pid)
        try:
            if _stat(process.pid)[19] == process.started:
                signal.pidfd_send_signal(fd, signal.SIGKILL)
                return True
        finally:
            os.close(fd)
    return False
