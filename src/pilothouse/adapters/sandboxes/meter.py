"""What a session uses of what it may, seen from its holder: counters of its control group, its disk, its processes.

Everything is read from the kernel or measured outside: nothing inside can say that a limit was hit, or keep it from
being said. What happened is kept as notices, each told to every watcher, also to one that comes later:

    {"limit": {"n": 1, "from": text, "name": "memory", "text": sentence}}    n counts up, `from` names this holder
"""

from __future__ import annotations

import contextlib
import os
import select
import selectors
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pilothouse.adapters.sandboxes import walk, watchdog
from pilothouse.adapters.sandboxes.cgroups import Leaf
from pilothouse.core import sizes
from pilothouse.core.limits import KINDS, Caps

TICK_S = 2.0
"""Memory is told at once by the kernel; this is how late a refused process or a full disk may be told."""
IDLE_S = 10.0
"""Nobody asked for anything that still runs; what was left in the background is looked for now and then."""
WATCH_S = 1.0
"""Where the kernel does not hold memory: a program fills some gigabytes a second, more often costs too much."""
SETTLE_S = 0.2
"""The kernel tells that memory ran out before it has counted whom it killed."""
QUIET_S = 30.0
"""Between two notices of one kind: an agent may hit a limit a thousand times a second."""
NOTICES_MAX = 20
FULL = 0.02
"""Of a disk left: nearly full. It has recovered at twice that."""


@dataclass(frozen=True)
class Bounds:
    """What a holder is told about its session's limits."""

    caps: Caps = field(default_factory=Caps)
    leaf: Leaf = field(default_factory=Leaf)
    image: bool = False
    """Workspace and home lie in a file system of their own."""
    counted: tuple[str, ...] = ()
    """Where they do not: the directories that count."""


@dataclass
class _Told:
    """One kind of notice."""

    seen: int = 0
    """What the counter said last."""
    pending: int = 0
    at: float = float("-inf")


class Meter:
    def __init__(
        self,
        bounds: Bounds,
        sandbox: str,
        pidfd: int,
        home: str,
        tell: Callable[[dict[str, Any]], None],
        rooms: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        """`pidfd`: of the first process inside. `home`: a directory of the session's disk. `rooms`: descriptors of its
        file systems in memory, by the names of their limits."""
        first = _pid(pidfd)
        self._caps = bounds.caps
        self._leaf = bounds.leaf
        self._image = bounds.image
        self._sandbox = sandbox
        self._rooms = rooms
        self._tell = tell
        self._from = os.urandom(8).hex()
        self._n = 0
        self.notices: deque[dict[str, Any]] = deque(maxlen=NOTICES_MAX)
        self._told = {name: _Told() for name in ("memory", "processes", "disk", "files")}
        self._hits = dict.fromkeys(KINDS, 0)
        self._low: set[str] = set()
        self._wake = select.epoll()
        for fd, mask in self._leaf.wake.items():
            self._wake.register(fd, mask)
        self._disk = os.open(home, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
        self._watch = watchdog.Watchdog(first)
        self._others = False
        """Something runs that is not ours."""
        self._walk = None if bounds.image or not bounds.counted else walk.Walk(bounds.counted)
        self._measures = self._walk is not None or "memory" not in self._leaf.held
        self.next = time.monotonic() + WATCH_S
        """When `tick` has something to do, 0 for never again."""

    def starts(self, starter: int) -> None:
        """Programs are children of this process, which is not inside; 0: of the first."""
        if starter:
            self._watch.roots.append(starter)

    def register(self, selector: selectors.BaseSelector) -> None:
        self._selector = selector
        selector.register(self._wake.fileno(), selectors.EVENT_READ, self._woken)

    def _woken(self) -> None:
        for fd, _ in self._wake.poll(0):
            with contextlib.suppress(OSError):
                os.read(fd, 8) if fd not in self._leaf.files.values() else os.pread(fd, 4096, 0)
        self.soon()

    # --- often

    def tick(self, now: float, runner: int | None, *, busy: bool) -> None:
        """`runner`: its pid. `busy`: something that was asked for runs."""
        if now < self.next:
            return
        self.next = now + (IDLE_S if not busy and not self._others else WATCH_S if self._measures else TICK_S)
        self._count("memory", "oom_kill", now)
        self._count("processes", "max", now)
        if self._measures:
            self._measure(now, runner)
        if self._image:
            self._fullness()
        for name, told in self._told.items():
            if told.pending and now - told.at >= QUIET_S:
                self._say(name, told, now)

    def soon(self) -> None:
        """Something has ended: what it did is looked at while it is fresh."""
        self.next = min(self.next, time.monotonic() + SETTLE_S)

    def last(self) -> None:
        """The sandbox has ended; what ended it may have been a limit."""
        now = time.monotonic()
        self._count("memory", "oom_kill", now)
        for name, told in self._told.items():
            if told.pending:
                self._say(name, told, now)

    def close(self) -> None:
        self._selector.unregister(self._wake.fileno())
        self._wake.close()
        self._leaf.close()
        os.close(self._disk)
        self.next = 0.0

    def _count(self, name: str, word: str, now: float) -> None:
        count = self._read(f"{name}.hits", word)
        if count is not None:
            self._add(name, count - self._told[name].seen)
            self._told[name].seen = count

    def _add(self, name: str, hits: int) -> None:
        self._hits[name] += hits
        self._told[name].pending += hits

    def _measure(self, now: float, runner: int | None) -> None:
        """What the kernel does not hold."""
        found = self._watch.look(runner)
        self._others = any(not p.runner for p in found.others)
        if not self._others:
            return
        if "memory" not in self._leaf.held and found.memory > self._caps.memory:
            self._add("memory", self._watch.relieve(found, self._caps.memory))
        if "processes" not in self._leaf.held and found.threads >= self._caps.processes:
            self._told["processes"].pending = 1
            self._hits["processes"] += 1
        if self._walk and self._walk.due(now) and self._walk.over(self._caps.disk):
            self._watch.end(found, runner_too=self._walk.again)
            self._add("disk", 1)

    def _fullness(self) -> None:
        status = os.fstatvfs(self._disk)
        for name, free, whole in (
            ("disk", status.f_bavail, status.f_blocks),
            ("files", status.f_favail, status.f_files),
        ):
            if free < whole * FULL and name not in self._low:
                self._low.add(name)
                self._add(name, 1)
            elif free > whole * FULL * 2:
                self._low.discard(name)

    # --- telling

    def _say(self, name: str, told: _Told, now: float) -> None:
        self._n += 1
        notice = {"n": self._n, "from": self._from, "name": name, "text": self._text(name, told.pending)}
        told.pending, told.at = 0, now
        self.notices.append(notice)
        self._tell(notice)

    def _text(self, name: str, count: int) -> str:
        most = KINDS[name].shown(self._caps.given(name))
        if name == "memory":
            who = "the kernel" if "memory" in self._leaf.held else "its holder"
            what = "a process" if count == 1 else f"{count} processes"
            return f"The session reached its memory limit of {most}: {who} ended {what} in it."
        if name == "processes":
            held = "processes" in self._leaf.held
            what = f"{count} more could not be started" if held else "more cannot be started"
            return f"The session reached its limit of {most} processes and threads: {what}."
        if name == "files":
            return f"The session's disk has hardly room for more files: its limit is {self._held('files'):,.0f}."
        if self._image:
            left = sizes.text(os.fstatvfs(self._disk).f_bavail * os.fstatvfs(self._disk).f_frsize)
            return f"The session's disk of {sizes.text(self._held('disk'))} is nearly full: {left} are left."
        used = sizes.text(self._walk.used if self._walk else 0)
        return f"The session's files take {used}, its limit is {most}: what ran in it was ended."

    # --- states

    def states(self) -> list[dict[str, Any]]:
        return [
            {
                "name": kind.name,
                "unit": kind.unit,
                "max": self._held(kind.name),
                "used": self._used(kind.name),
                "enforced": enforced(kind.name, self._leaf.held, image=self._image, sandbox=self._sandbox),
                "hits": self._hits[kind.name] if kind.name != "cpu" else self._read("cpu.stat", "nr_throttled") or 0,
            }
            for kind in KINDS.values()
        ]

    def _held(self, name: str) -> float:
        if self._image and name in {"disk", "files"}:  # as it was made, not as it would be now
            status = os.fstatvfs(self._disk)
            made = status.f_blocks * status.f_frsize if name == "disk" else status.f_files
            wanted = self._caps.given(name)
            return wanted if abs(made - wanted) < wanted * FULL else made  # whole blocks and groups
        return self._caps.given(name)

    def _used(self, name: str) -> int | None:
        if name in {"disk", "files"}:
            if not self._image:
                return self._walk.used if self._walk and name == "disk" and self._walk.done else None
            s = os.fstatvfs(self._disk)
            return (s.f_blocks - s.f_bfree) * s.f_frsize if name == "disk" else s.f_files - s.f_ffree
        if name in {"tmp", "shm", "run"}:
            if name not in self._rooms:
                return None
            s = os.fstatvfs(self._rooms[name])
            return (s.f_blocks - s.f_bfree) * s.f_frsize
        if name == "memory":
            return self._memory()
        if name == "processes":
            used = self._read("processes")
            return used if used is not None else self._watch.look(None).threads
        return None

    def _memory(self) -> int:
        used = self._read("memory")
        if used is None:
            return self._watch.look(None).memory
        cached = self._read("memory.stat", "total_inactive_file")
        cached = self._read("memory.stat", "inactive_file") if cached is None else cached
        return max(0, used - (cached or 0))  # what the kernel takes back first is nobody's use

    def _read(self, key: str, word: str = "") -> int | None:
        """A counter of the leaf; None where there is none."""
        fd = self._leaf.files.get(key)
        if fd is None:
            return None
        try:
            said = os.pread(fd, 16384, 0).decode()
        except OSError:  # the group is gone
            return None
        for line in said.splitlines():
            name, _, value = line.rpartition(" ")
            if name == word:
                return int(value)
        return None


def _pid(pidfd: int) -> int:
    for line in Path(f"/proc/self/fdinfo/{pidfd}").read_text().splitlines():
        if line.startswith("Pid:"):
            return int(line.split()[1])
    return 0


def enforced(name: str, held: frozenset[str], *, image: bool, sandbox: str) -> str:
    """What holds a limit: the word of the wire."""
    if name in held:
        return "cgroup"
    if name in {"disk", "files"}:
        return "image" if image else "watchdog" if name == "disk" else "none"
    if name in {"tmp", "shm", "run"}:
        return "tmpfs" if sandbox == "bubblewrap" else "none"
    if name == "processes":
        return "none" if sandbox == "host" else "rlimit"
    return "watchdog" if name == "memory" else "none"
