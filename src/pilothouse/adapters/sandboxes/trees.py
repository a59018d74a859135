"""Making and removing a session's directories.

What is in them is the agent's: it is removed by the session's own uid, by `rm` that follows no link and knows no depth.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from pathlib import Path

SOCKETS = "sockets"
"""Where a sandbox without a network of its own has the model's socket."""
MODEL = "model"
_ALONE = "alone"
_PATH = "/usr/bin:/bin"


def make(own: Path, uid: int | None) -> None:
    """The directories of a session, the two inner ones owned by `uid`."""
    own.mkdir(mode=0o711, exist_ok=True)
    own.chmod(0o711)
    if uid is not None:  # other sessions do not even come to its door
        os.chown(own, -1, uid)
        own.chmod(0o710)
    for name in ("workspace", "home", SOCKETS):
        path = own / name
        with contextlib.suppress(FileExistsError):
            path.mkdir(mode=0o700)
        if uid is not None and path.lstat().st_uid != uid:
            os.chown(path, uid, uid, follow_symlinks=False)


def alone(own: Path, uid: int) -> None:
    """Notes that no namespace ends with this session's holder."""
    (own / _ALONE).write_text(str(uid))


def end_left(own: Path) -> None:
    """A session without namespaces whose holder is gone: whatever still has its uid ends, nobody else can see to it.
    Root only; for other sessions there is nothing to do."""
    try:
        uid = int((own / _ALONE).read_text())
        (own / _ALONE).unlink()
    except (OSError, ValueError):
        return
    if os.geteuid() or not uid:
        return
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            os.kill(-1, signal.SIGKILL)
        finally:
            os._exit(0)
    os.waitpid(pid, 0)


def _rm(directory: int, uid: int | None) -> bool:
    import subprocess  # see proxied

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
