"""Making and removing a session's directories.

What is in them is the agent's: it is removed by the session's own uid, by `rm` that follows no link and knows no depth.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from pathlib import Path

_PATH = "/usr/bin:/bin"


def make(own: Path, uid: int | None) -> None:
    """The directories of a session, the two inner ones owned by `uid`."""
    own.mkdir(mode=0o711, exist_ok=True)
    own.chmod(0o711)
    for name in ("workspace", "home"):
        path = own / name
        with contextlib.suppress(FileExistsError):
            path.mkdir(mode=0o700)
            if uid is not None:
                os.chown(path, uid, uid, follow_symlinks=False)


def _rm(directory: int, uid: int | None) -> bool:
    def run(*argv: str) -> bool:
        done = subprocess.run(  # noqa: S603
            [shutil.which(argv[0], path=_PATH) or argv[0], *argv[1:]],
            cwd=f"/proc/self/fd/{directory}",
            pass_fds=(directory,),
            env={"PATH": _PATH},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            user=uid,
            group=uid,
            extra_groups=[] if uid is not None else None,
            check=False,
        )
        return done.returncode == 0

    everything = ("find", ".", "-xdev", "-mindepth", "1", "-delete")
    return run(*everything) or (run("chmod", "-R", "u+rwx", ".") and run(*everything))


def remove(own: Path, root: bool) -> str:
    """Removes a session's directories: "ok" or why not. Blocks: call it in a process of its own."""
    try:
        for name in ("workspace", "home"):
            try:
                fd = os.open(own / name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            except FileNotFoundError:
                continue
            uid = os.fstat(fd).st_uid
            if not _rm(fd, uid if root and uid else None):
                return f"{name} could not be emptied"
            (own / name).rmdir()
        shutil.rmtree(own)
    except FileNotFoundError:
        return "ok"
    except OSError as error:
        return str(error)
    return "ok"
