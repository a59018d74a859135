"""How a server that was started as root gives it up.

A child that it has left behind can do one thing as root, start the keeper (see launcher); it becomes a user of its own
(see owner).
What that user needs below directories that are closed to it (a virtual environment below /root) is bound into a mount
namespace of the process's own, at the same paths; everything else below them is gone from its sight.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterable
from pathlib import Path

from pilothouse.adapters.sandboxes import kernel
from pilothouse.adapters.sandboxes.layout import LayoutError
from pilothouse.adapters.sandboxes.owner import Owner

_ROUNDS = 8
"""Closed directories within closed directories; more is a loop."""


def become(found: Owner, needed: Iterable[Path]) -> None:
    """This process has no root any more, and reaches what it needs. Call it before there are threads.

    Raises LayoutError naming what the user cannot reach, OSError."""
    wanted = sorted({path.absolute() for path in needed if path.exists()}, key=lambda path: len(path.parts))
    if any(_closed(path, found) for path in wanted):
        _reach(found, wanted)
    os.chdir("/")
    os.setgroups([])
    os.setresgid(found.gid, found.gid, found.gid)
    os.setresuid(found.uid, found.uid, found.uid)
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    kernel.prctl(kernel.PR_SET_DUMPABLE, 1)
    for path in wanted:
        if not os.access(path, os.R_OK if path.is_file() else os.R_OK | os.X_OK):
            raise LayoutError(
                f"{path} cannot be read by uid {found.uid}, whom the server becomes; open it (chmod -R go+rX), "
                "or set server.user"
            )


def _reach(found: Owner, wanted: list[Path]) -> None:
    kernel.unshare(kernel.CLONE_NEWNS)
    kernel.mount("none", "/", "", kernel.MS_REC | kernel.MS_PRIVATE)
    held = {path: os.open(path, os.O_PATH | os.O_CLOEXEC) for path in wanted}
    try:
        for _ in range(_ROUNDS):
            closed = next((c for path in held if (c := _closed(path, found))), None)
            if closed is None:
                return
            _open_up(closed, {path: fd for path, fd in held.items() if closed in path.parents})
    finally:
        for fd in held.values():
            os.close(fd)
    raise LayoutError('the server\'s directories cannot be reached without root; set server.user = "root" to stay root')


def _closed(path: Path, found: Owner) -> Path | None:
    """The first directory on the way to `path` that the user cannot pass."""
    for parent in reversed(path.parents):
        status = parent.stat()
        bit = 0o100 if status.st_uid == found.uid else 0o010 if status.st_gid == found.gid else 0o001
        if not status.st_mode & bit:
            return parent
    return None


def _open_up(closed: Path, below: dict[Path, int]) -> None:
    """`closed` as one that has nothing but the way to what is needed."""
    flags = kernel.MS_NOSUID | kernel.MS_NODEV
    kernel.mount("pilothouse", str(closed), "tmpfs", flags, "mode=0711,size=1m")
    for path, fd in below.items():
        if any(parent in below for parent in path.parents) and path.exists():
            continue
        path.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            path.mkdir(exist_ok=True)
        else:
            path.touch()
        kernel.mount(f"/proc/self/fd/{fd}", str(path), "", kernel.MS_BIND | kernel.MS_REC)
    kernel.mount("none", str(closed), "", flags | kernel.MS_REMOUNT | kernel.MS_RDONLY, "mode=0711,size=1m")


def own_parts() -> tuple[Path, ...]:
    """What every program of this package reads for as long as it runs."""
    package = Path(__file__).resolve().parents[2]
    paths = [Path(p) for p in sys.path if p]
    return (Path(sys.prefix), Path(sys.base_prefix), Path(sys.executable), package, *paths)
