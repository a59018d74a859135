"""Control groups, version 2: one hierarchy for all controllers.

A group whose children have controllers may hold no process itself. So whoever is in the base, which is ours alone
(delegated), moves into a leaf first; then `+memory +pids +cpu` go into `cgroup.subtree_control`, each on its own.

    memory.max, memory.swap.max 0, memory.oom.group 0   the process that is too large dies, not the session
    pids.max    cpu.max    cgroup.kill                  memory.high is never set: it throttled a session for minutes
"""

from __future__ import annotations

import contextlib
import os
import select
from pathlib import Path

from pilothouse.adapters.sandboxes.cgroups import KEEPER, PERIOD_US, TRIAL, Leaf, Tree, kill_each
from pilothouse.core.limits import Caps


class Version2:
    name = "unified"

    def __init__(self, tree: Tree, base: Path, offered: frozenset[str], *, ours: bool, move: bool = True) -> None:
        """`offered`: what no other hierarchy has. `ours`: the base exists, with us in it, and is ours to divide; else
        it is made, and `move` False lets us stay where we are."""
        self._tree = tree
        self.base = base
        self._ours = ours
        self._move = move
        self.controllers = offered

    def prepare(self, caps: Caps) -> dict[str, str]:
        try:
            if not self._ours:
                self._open_above()
                self._tree.make(self.base)
            self._tree.make(self.base / KEEPER)
            self._move_out()
        except OSError as error:
            return dict.fromkeys(self.controllers, f"{error.filename or self.base}: {error.strerror}")
        failed = {}
        for controller in self.controllers:
            try:
                self._tree.write(self.base / "cgroup.subtree_control", f"+{controller}")
                self._try(controller, caps)
            except OSError as error:
                failed[controller] = self._why(controller, error)
        return failed

    def _open_above(self) -> None:
        """Root makes its base at the top and lets it have what there is; what is refused shows later."""
        for controller in self.controllers:
            with contextlib.suppress(OSError):
                self._tree.write(self.base.parent / "cgroup.subtree_control", f"+{controller}")

    def _move_out(self) -> None:
        into = self.base / KEEPER / "cgroup.procs"
        if self._move:
            self._tree.write(into, "0")
        if self._ours:
            for pid in self._tree.read(self.base / "cgroup.procs").split():
                with contextlib.suppress(ProcessLookupError):
                    self._tree.write(into, pid)

    def _try(self, controller: str, caps: Caps) -> None:
        trial, path = Leaf(), self.base / TRIAL
        try:
            self._tree.make(path)
            self._set(controller, path, caps, trial)
        finally:
            trial.close()
            self._tree.remove(path)

    def _why(self, controller: str, error: OSError) -> str:
        with contextlib.suppress(OSError):
            if controller not in self._tree.read(self.base / "cgroup.controllers").split():
                return f"{self.base}: this group was not given it"
        return f"{error.filename or self.base}: {error.strerror}"

    def make(self, name: str, caps: Caps, leaf: Leaf) -> None:
        path = self.base / name
        self._tree.make(path)
        for controller in self.controllers:
            self._set(controller, path, caps, leaf)
        leaf.join.append(self._tree.open(path / "cgroup.procs", os.O_WRONLY))

    def end(self, name: str) -> None:
        try:
            self._tree.write(self.base / name / "cgroup.kill", "1")
        except FileNotFoundError:  # Linux before 5.14
            kill_each(self._tree, self.base / name / "cgroup.procs")

    def leave(self) -> None:
        """What was given to us stays as it is: it ends with its unit."""
        if not self._ours:
            with contextlib.suppress(OSError):
                if self._move:
                    self._tree.write(self.base.parent / "cgroup.procs", "0")
                for path in (self.base / KEEPER, self.base):
                    self._tree.remove(path)

    def _set(self, controller: str, path: Path, caps: Caps, leaf: Leaf) -> None:
        def readable(key: str, file: str) -> int:
            leaf.files[key] = self._tree.open(path / file, os.O_RDONLY)
            return leaf.files[key]

        if controller == "memory":
            self._tree.write(path / "memory.max", str(caps.memory))
            for file in ("memory.swap.max", "memory.oom.group"):
                with contextlib.suppress(FileNotFoundError):  # a kernel that does not count swap
                    self._tree.write(path / file, "0")
            readable("memory", "memory.current")
            readable("memory.stat", "memory.stat")
            leaf.wake[readable("memory.hits", "memory.events")] = select.EPOLLPRI
        elif controller == "pids":
            self._tree.write(path / "pids.max", str(caps.processes))
            readable("processes", "pids.current")
            leaf.wake[readable("processes.hits", "pids.events")] = select.EPOLLPRI
        else:
            self._tree.write(path / "cpu.max", f"{round(caps.cpu * PERIOD_US)} {PERIOD_US}")
            readable("cpu.stat", "cpu.stat")
