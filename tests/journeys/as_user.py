"""`as_user.py UID COMMAND...`: a command as an ordinary user, who also reaches this Python and these sources.

Both may lie below directories that only root passes. So this takes a mount namespace of its own and covers each such
directory with one that everybody may pass and that holds nothing but what is needed, at its own path.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from pilothouse.adapters.sandboxes import kernel


def _needed() -> list[Path]:
    places = [Path(sys.base_prefix), Path(sys.prefix), *(Path(p) for p in sys.path if p)]
    return sorted({p.absolute() for p in places if p.exists()} | {p.resolve() for p in places if p.exists()})


def _closed(path: Path) -> Path | None:
    """The highest directory on the way that not everybody may pass."""
    return next((p for p in reversed([path, *path.parents]) if not p.stat().st_mode & 0o001), None)


def reach(places: list[Path]) -> None:
    """Root only. Raises OSError."""
    kernel.unshare(kernel.CLONE_NEWNS)
    kernel.mount("none", "/", "", kernel.MS_REC | kernel.MS_PRIVATE)
    found = {p: os.open(p, os.O_PATH) for p in places}
    for path, fd in found.items():
        covered = _closed(path)
        if covered is not None:
            kernel.mount("reach", str(covered), "tmpfs", kernel.MS_NOSUID, "mode=0755,size=1m")
        if not path.exists():
            if os.path.isdir(f"/proc/self/fd/{fd}"):
                path.mkdir(mode=0o755, parents=True)
            else:
                path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
                path.touch()
            kernel.mount(f"/proc/self/fd/{fd}", str(path), "", kernel.MS_BIND | kernel.MS_REC)


def main(uid: int, command: list[str]) -> None:
    os.umask(0o022)
    reach(_needed())
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    os.chdir("/")
    os.execv(command[0], command)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
