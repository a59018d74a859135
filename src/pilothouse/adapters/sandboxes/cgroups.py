"""Control groups, one leaf per session, made by the keeper before anything of the session runs.

    <base>/_keeper            keeper, proxy and holders: they outlive what runs out of memory inside, and the server
    <base>/<session>.<n>      what runs inside; n tells two lives of one sandbox apart

Version 1 has a base in each hierarchy (memory, pids, cpu: see cgroup1), version 2 one for all (see cgroup2). What can
be had is found by doing it. Each controller is on its own: one that is missing is said, the others work.

A new keeper finds the bases of the one before it in `<runtime>/cgroups`: a hierarchy's name and its path on each line.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from pilothouse.core.ids import is_uuid
from pilothouse.core.limits import Caps

CONTROLLERS = {"memory": "memory", "pids": "processes", "cpu": "cpu"}
"""Of the kernel -> the limit that it holds."""
PREFIX = "pilothouse-"
"""Of the bases that we make."""
KEEPER = "_keeper"
TRIAL = "_trial"
PERIOD_US = 100_000
"""Within it a session gets its share of processor time: the kernel's own default."""
ABANDONED_S = 600.0
"""Longer than a keeper takes from making its base to being in it."""
AGAIN_S = 0.05
"""A leaf is empty only when the last process in it has been reaped: milliseconds, under load more."""


class Tree:
    """The few things one does to a cgroup file system."""

    def make(self, path: Path) -> None:
        path.mkdir(mode=0o755, exist_ok=True)

    def read(self, path: Path) -> str:
        return path.read_text()

    def write(self, path: Path, text: str) -> None:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, text.encode())
        finally:
            os.close(fd)

    def open(self, path: Path, flags: int) -> int:
        return os.open(path, flags | os.O_CLOEXEC)

    def names(self, path: Path) -> list[str]:
        return [p.name for p in path.iterdir() if p.is_dir()]

    def touched(self, path: Path) -> float:
        """When something was last made in it."""
        return path.stat().st_mtime

    def remove(self, path: Path) -> None:
        path.rmdir()


@dataclass
class Leaf:
    """Open files of a session's leaf, for its holder. Whoever has them needs no right to the paths."""

    join: list[int] = field(default_factory=list)
    """`cgroup.procs`: the kernel asks who opened it, so that a child that has dropped its uid may still enter."""
    files: dict[str, int] = field(default_factory=dict)
    """What is read: `memory`, `memory.stat`, `memory.hits`, `processes`, `processes.hits`, `cpu.stat`."""
    wake: dict[int, int] = field(default_factory=dict)
    """Descriptor -> what epoll waits for: the kernel tells that memory or processes ran out."""
    held: frozenset[str] = frozenset()
    """The limits that the kernel holds: memory, processes, cpu."""

    def entered(self) -> None:
        """Nothing more goes in."""
        _close(self.join)

    def close(self) -> None:
        self.entered()
        _close(list(self.wake.keys() - self.files.values()))
        _close(list(self.files.values()))
        self.files.clear()
        self.wake.clear()


def _close(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)
    fds.clear()


class Hierarchy(Protocol):
    """One place where leaves are made."""

    name: str
    base: Path
    controllers: frozenset[str]

    def prepare(self, caps: Caps) -> dict[str, str]:
        """Moves this process out of the way and tries everything once: controller -> why it cannot be had."""
        ...

    def make(self, name: str, caps: Caps, leaf: Leaf) -> None:
        """Raises OSError."""
        ...

    def end(self, name: str) -> None:
        """Kills what is left in it. Raises OSError."""
        ...

    def leave(self) -> None:
        """Undoes `prepare` as far as it can be undone."""
        ...


def kill_each(tree: Tree, procs: Path) -> None:
    """By descriptor, so that a number given anew meanwhile hits nobody."""
    for line in tree.read(procs).split():
        with contextlib.suppress(OSError, ValueError):
            fd = os.pidfd_open(int(line))
            try:
                if f"/{procs.parent.name}\n" in Path(f"/proc/{line}/cgroup").read_text():
                    signal.pidfd_send_signal(fd, signal.SIGKILL)
            finally:
                os.close(fd)


def abandoned(tree: Tree, parent: Path, now: float) -> None:
    """Removes bases below `parent` that keepers of other homes left, which may be gone: those without a process
    that nobody has touched for a while. The kernel refuses whatever is in use."""
    for name in tree.names(parent):
        base = parent / name
        with contextlib.suppress(OSError):
            if not name.startswith(PREFIX) or now - tree.touched(base) < ABANDONED_S:
                continue
            if tree.read(base / KEEPER / "cgroup.procs"):
                continue
            for leaf in tree.names(base):
                tree.remove(base / leaf)
            tree.remove(base)


class Groups:
    """All hierarchies together, and the leaves in them. Without any of them it makes leaves that hold nothing."""

    def __init__(self, tree: Tree, hierarchies: Sequence[Hierarchy], caps: Caps) -> None:
        self._tree = tree
        self._n = 0
        self._dead: list[Path] = []
        self._next = 0.0
        self.missing: dict[str, str] = dict.fromkeys(CONTROLLERS, "the kernel offers it nowhere")
        for hierarchy in hierarchies:
            failed = hierarchy.prepare(caps)
            hierarchy.controllers -= failed.keys()
            self.missing |= failed
            for controller in hierarchy.controllers:
                del self.missing[controller]
        self._all = [h for h in hierarchies if h.controllers]

    @property
    def held(self) -> frozenset[str]:
        """The limits that the kernel holds."""
        return frozenset(CONTROLLERS[c] for h in self._all for c in h.controllers)

    @property
    def bases(self) -> dict[str, Path]:
        return {h.name: h.base for h in self._all}

    def leaf(self, session: str, caps: Caps) -> Leaf:
        """Raises OSError; then nothing of it is left."""
        self.over(session)
        self._n += 1
        made = Leaf(held=self.held)
        try:
            for hierarchy in self._all:
                hierarchy.make(f"{session}.{os.getpid()}-{self._n}", caps, made)
        except OSError:
            made.close()
            self.over(session)
            raise
        return made

    def over(self, session: str) -> None:
        """Its sandbox has ended: its leaves are emptied and removed, now or in a moment."""
        self._bury(lambda of: of == session)

    def sweep(self, alive: Callable[[str], bool]) -> None:
        """What a keeper before this one has left. Of those that live, whatever is empty."""
        self._bury(lambda of: is_uuid(of) and not alive(of))

    def _bury(self, meant: Callable[[str], bool]) -> None:
        for hierarchy in self._all:
            for name in self._tree.names(hierarchy.base):
                if meant(name.partition(".")[0]):
                    with contextlib.suppress(OSError):
                        hierarchy.end(name)
                    self._dead.append(hierarchy.base / name)
        self._next = 0.0
        self.tend(time.monotonic())

    def tend(self, now: float) -> None:
        """Often. Removes what has become empty."""
        if not self._dead or now < self._next:
            return
        self._next = now + AGAIN_S
        self._dead = [path for path in self._dead if not self._gone(path)]

    def _gone(self, path: Path) -> bool:
        try:
            self._tree.remove(path)
        except FileNotFoundError:
            return True
        except OSError:  # EBUSY: a process in it has not been reaped
            return False
        return True

    def leave(self) -> None:
        """This process goes back to where it came from, and what is empty then goes."""
        for hierarchy in self._all:
            hierarchy.leave()

    def pause(self, most: float) -> float:
        """How long the keeper may sleep."""
        return AGAIN_S if self._dead else most
