"""A version 2 cgroup file system as far as a directory can be one: what the kernel makes, takes and refuses.

It knows: files that come with a group, controllers handed down group by group, no processes beside children that have
controllers, membership by writing a pid, groups that are busy. It counts nothing and kills nothing by itself.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

from pilothouse.adapters.sandboxes.cgroups import Tree

_FILES = {
    "memory": ("memory.max", "memory.swap.max", "memory.oom.group", "memory.current", "memory.stat", "memory.events"),
    "pids": ("pids.max", "pids.current", "pids.events"),
    "cpu": ("cpu.max",),
}
ME = os.getpid()


class Unified(Tree):
    def __init__(self, top: Path, controllers: str, *pids: int) -> None:
        self.top = top
        self.members: dict[Path, list[int]] = {top: list(pids)}
        self.refused: dict[str, int] = {}
        """Name of a file -> the errno that writing it gives."""
        self.killed: list[str] = []
        self._fill(top, controllers)

    def _fill(self, path: Path, controllers: str) -> None:
        common = ("cgroup.procs", "cgroup.subtree_control", "cgroup.kill", "cpu.stat")
        for name in (*common, *(f for c in controllers.split() for f in _FILES[c])):
            (path / name).touch()
        (path / "cgroup.controllers").write_text(controllers + "\n")

    def make(self, path: Path) -> None:
        if not path.exists():
            super().make(path)
            self.members[path] = []
            self._fill(path, (path.parent / "cgroup.subtree_control").read_text())

    def read(self, path: Path) -> str:
        if path.name == "cgroup.procs":
            return "".join(f"{pid}\n" for pid in self.members[path.parent])
        return super().read(path)

    def write(self, path: Path, text: str) -> None:
        if path.name in self.refused:
            raise OSError(self.refused[path.name], os.strerror(self.refused[path.name]), str(path))
        if path.name == "cgroup.procs":
            self._move(path.parent, ME if text == "0" else int(text))
        elif path.name == "cgroup.subtree_control":
            self._enable(path, text.removeprefix("+"))
        elif path.name == "cgroup.kill":
            self.killed.append(path.parent.name)
            self.members[path.parent].clear()
        else:
            super().write(path, text)

    def _move(self, group: Path, pid: int) -> None:
        if (group / "cgroup.subtree_control").read_text():
            raise OSError(errno.EBUSY, "it has controllers", str(group / "cgroup.procs"))
        for members in self.members.values():
            if pid in members:
                members.remove(pid)
        self.members[group].append(pid)

    def _enable(self, path: Path, controller: str) -> None:
        if controller not in (path.parent / "cgroup.controllers").read_text().split():
            raise OSError(errno.ENOENT, "not given", str(path))
        if self.members[path.parent]:
            raise OSError(errno.EBUSY, "it has processes", str(path))
        path.write_text(f"{path.read_text()} {controller}".strip())
        for child in self.members:
            if child.parent == path.parent:
                for name in _FILES[controller]:
                    (child / name).touch()

    def remove(self, path: Path) -> None:
        if not path.exists():
            raise FileNotFoundError(path)
        if self.members[path]:
            raise OSError(errno.EBUSY, "it has processes", str(path))
        for file in path.iterdir():
            file.unlink()
        path.rmdir()
        del self.members[path]
