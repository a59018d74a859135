"""What sandboxes are made of, reachable by their uids.

A session's uid cannot pass a 0700 home directory, and bwrap looks its sources up after the uid drop. So a root keeper
takes a mount namespace of its own and binds interpreter, packages and sessions below a directory that all may pass;
nothing of it is visible to the rest of the host, and it ends with the last holder. Without root everything has one uid
and is used where it lies.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from dataclasses import replace
from pathlib import Path

from pilothouse.adapters.sandboxes import etcdir, interpreter, kernel, profile
from pilothouse.adapters.sandboxes.layout import Layout

MOUNTPOINT = Path("/run/pilothouse-stage")
"""An empty directory for everyone else: what we mount on it is in our namespace only."""


class Stage:
    def __init__(self, layout: Layout, *, staged: bool) -> None:
        self.staged = staged
        self.interpreter = interpreter.inside()
        self._staged_parts: list[tuple[str, str]] = []
        self.sessions = layout.sessions
        base = MOUNTPOINT if staged else layout.runtime
        if staged:
            self._mount(layout)
        elif not layout.found():
            for old in layout.runtime.glob("etc.*"):
                shutil.rmtree(old, ignore_errors=True)
        self.etc = base / f"etc.{os.getpid()}"
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self.etc)
        etcdir.prepare(self.etc)

    def _mount(self, layout: Layout) -> None:
        kernel.unshare(kernel.CLONE_NEWNS)
        kernel.mount("none", "/", "", kernel.MS_REC | kernel.MS_PRIVATE)
        MOUNTPOINT.mkdir(mode=0o711, exist_ok=True)
        kernel.mount("pilothouse", str(MOUNTPOINT), "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "mode=0711,size=64m")
        binds = []
        for n, (host, inside) in enumerate(self.interpreter.binds):
            own = inside == f"{profile.APP}/pilothouse"  # a package must have its name, where nothing is mounted again
            here = self._bind(host, "app/pilothouse" if own else f"part{n}")
            binds.append((here, inside))
            self._staged_parts.append((host + "/", here + "/"))
        self.interpreter = replace(self.interpreter, binds=tuple(binds))
        self.sessions = Path(self._bind(str(layout.sessions), "sessions"))

    def inside(self, sandbox: str) -> profile.Interpreter:
        """As a first process in this sandbox is started with it."""
        if sandbox == "reduced":
            return interpreter.unmounted(self.interpreter)
        return self.interpreter if sandbox == "bubblewrap" else interpreter.on_host()

    @property
    def disks(self) -> Path | None:
        """Where disks may be mounted."""
        return MOUNTPOINT / "disks" if self.staged else None

    @property
    def bwrap(self) -> str:
        """Looked up for every sandbox: a package may come or go while the keeper lives. "" when there is none."""
        found = interpreter.bwrap() or ""
        for host, here in self._staged_parts:
            if found.startswith(host):
                return here + found.removeprefix(host)
        return found

    def _bind(self, source: str, name: str) -> str:
        target = MOUNTPOINT / name
        target.mkdir(mode=0o711, parents=True)
        if target.parent != MOUNTPOINT:
            target.parent.chmod(0o755)  # Python lists what it imports from
        kernel.mount(source, str(target), "", kernel.MS_BIND | kernel.MS_REC)
        return str(target)

    def place(self, session: str, directory: str | None) -> profile.Place:
        own = self.sessions / session
        return profile.Place(str(self.etc), str(own / "home"), directory or str(own / "workspace"))
