"""Control groups, version 1: one hierarchy for one controller. Only root can have them.

memory  memory.limit_in_bytes, memory.memsw.limit_in_bytes (or memory.swappiness 0): what is over is killed, not
        swapped; never a soft limit below it, which was seen to throttle a session for minutes
pids    pids.max
cpu     cpu.cfs_period_us, cpu.cfs_quota_us
"""

from __future__ import annotations

import contextlib
import os
import select
from pathlib import Path

from pilothouse.adapters.sandboxes.cgroups import KEEPER, PERIOD_US, TRIAL, Leaf, Tree, kill_each
from pilothouse.core.limits import Caps


class Version1:
    def __init__(self, tree: Tree, controller: str, base: Path) -> None:
        self._tree = tree
        self.name = controller
        self.base = base
        self.controllers = frozenset({controller})

    def prepare(self, caps: Caps) -> dict[str, str]:
        try:
            for path in (self.base, self.base / KEEPER):
                self._tree.make(path)
            self._tree.write(self.base / KEEPER / "cgroup.procs", "0")
            trial = Leaf()
            try:
                self.make(TRIAL, caps, trial)
            finally:
                trial.close()
                self._tree.remove(self.base / TRIAL)
        except OSError as error:
            return {self.name: f"{error.filename or self.base}: {error.strerror}"}
        return {}

    def make(self, name: str, caps: Caps, leaf: Leaf) -> None:
        path = self.base / name
        self._tree.make(path)
        {"memory": self._memory, "pids": self._pids, "cpu": self._cpu}[self.name](path, caps, leaf)
        leaf.join.append(self._tree.open(path / "cgroup.procs", os.O_WRONLY))

    def end(self, name: str) -> None:
        kill_each(self._tree, self.base / name / "cgroup.procs")

    def leave(self) -> None:
        with contextlib.suppress(OSError):
            self._tree.write(self.base.parent / "cgroup.procs", "0")
            for path in (self.base / KEEPER, self.base):
                self._tree.remove(path)

    def _memory(self, path: Path, caps: Caps, leaf: Leaf) -> None:
        self._tree.write(path / "memory.limit_in_bytes", str(caps.memory))
        try:
            self._tree.write(path / "memory.memsw.limit_in_bytes", str(caps.memory))
        except FileNotFoundError:  # a kernel that does not count swap
            with contextlib.suppress(OSError):
                self._tree.write(path / "memory.swappiness", "0")
        for key, file in (
            ("memory", "memory.usage_in_bytes"),
            ("memory.stat", "memory.stat"),
            ("memory.hits", "memory.oom_control"),
        ):
            leaf.files[key] = self._tree.open(path / file, os.O_RDONLY)
        told = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        leaf.wake[told] = select.EPOLLIN
        self._tree.write(path / "cgroup.event_control", f"{told} {leaf.files['memory.hits']}")

    def _pids(self, path: Path, caps: Caps, leaf: Leaf) -> None:
        self._tree.write(path / "pids.max", str(caps.processes))
        leaf.files["processes"] = self._tree.open(path / "pids.current", os.O_RDONLY)
        leaf.files["processes.hits"] = self._tree.open(path / "pids.events", os.O_RDONLY)

    def _cpu(self, path: Path, caps: Caps, leaf: Leaf) -> None:
        self._tree.write(path / "cpu.cfs_period_us", str(PERIOD_US))
        self._tree.write(path / "cpu.cfs_quota_us", str(round(caps.cpu * PERIOD_US)))
        leaf.files["cpu.stat"] = self._tree.open(path / "cpu.stat", os.O_RDONLY)
