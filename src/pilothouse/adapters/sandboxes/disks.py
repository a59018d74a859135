"""A disk per session: a sparse ext4 image that holds workspace and home, so that neither fills the host's own.

    <home>/sessions/<uuid>/disk.img          root's; nothing inside ever sees it
    <mounts>/<uuid>/{workspace,home}         mounted nosuid, nodev, in the keeper's mount namespace alone

It is mounted when the sandbox opens or the workspace is read, also of a session that does not run, and unmounted when
nobody has used it for a while. A keeper that comes later mounts the same loop device again; two of one image would
destroy it. Only root can have this. A session that was made without an image goes on without.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from pilothouse.adapters.sandboxes import kernel, loops
from pilothouse.adapters.sandboxes.layout import Layout
from pilothouse.core.limits import Caps

IMAGE = "disk.img"
REST_S = 60.0
"""Mounted this long after its last use: whoever reads a file often reads another."""
_PATH = "/usr/sbin:/sbin:/usr/bin:/bin"
_JOURNAL_MIB = 4
"""ext4's own choice for a large disk would be a gigabyte."""
_INODE = 256
_BYTES_PER_FILE = 4096
"""Less than a block for each file cannot be used."""
_TABLES = 512
"""One byte in so many goes to bitmaps and group descriptors."""
_FLAGS = kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOATIME
_OPTIONS = "noinit_itable,discard,errors=remount-ro"
"""The image stays sparse: tables are not filled beforehand, what is deleted goes back to the host."""
_TRIAL_BYTES = 64 << 20


def make(image: Path, size: int, files: int) -> None:
    """A new file system with room for `size` bytes in a sparse file. Raises OSError."""
    import subprocess  # see proxied

    files = min(files, size // _BYTES_PER_FILE)
    program = shutil.which("mkfs.ext4", path=_PATH)
    if program is None:
        raise OSError(errno.ENOENT, "mkfs.ext4 is not installed (apt-get install e2fsprogs)")
    fresh = image.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        os.ftruncate(fd, size + files * _INODE + (_JOURNAL_MIB << 20) + size // _TABLES)
    finally:
        os.close(fd)
    words = ["-q", "-F", "-b", "4096", "-I", str(_INODE), "-m", "0", "-N", str(files), "-O", "^resize_inode"]
    words += ["-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard"]
    words += ["-J", f"size={_JOURNAL_MIB}"]
    done = subprocess.run(  # noqa: S603
        [program, *words, str(fresh)], env={"PATH": _PATH}, stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    if done.returncode != 0:
        fresh.unlink()
        raise OSError(errno.EIO, f"mkfs.ext4: {done.stderr.decode(errors='replace').strip()[-300:]}")
    fresh.rename(image)


def mount(image: Path, target: Path, *, fresh: bool = False) -> None:
    """`fresh`: nobody can have it. Raises OSError."""
    target.mkdir(mode=0o711, exist_ok=True)
    with loops.attached(image, fresh=fresh) as device:
        kernel.mount(device, str(target), "ext4", _FLAGS, _OPTIONS)


class Disks:
    def __init__(self, layout: Layout, mounts: Path | None) -> None:
        """`mounts`: a directory in a mount namespace of our own, None where there is none."""
        self._layout = layout
        self._mounts = mounts
        self._used: dict[str, float] = {}
        self._seen: set[int] = set()
        self._fresh: set[str] = set()
        """Made, and never mounted."""
        self.missing = "only a root keeper that may mount can have them"
        if mounts is not None:
            mounts.mkdir(mode=0o711, exist_ok=True)
            self.missing = self._trial(mounts)

    def _trial(self, mounts: Path) -> str:
        """Why there can be none: found by making one."""
        image = self._layout.sessions / f"trial.{os.getpid()}.img"
        try:
            make(image, _TRIAL_BYTES, 100)
            mount(image, mounts / "trial")
            kernel.umount(str(mounts / "trial"))
        except OSError as error:
            return str(error)
        finally:
            image.unlink(missing_ok=True)
        return ""

    def _image(self, session: str) -> Path:
        return self._layout.session(session) / IMAGE

    def has(self, session: str) -> bool:
        return self._image(session).exists()

    def new(self, session: str, caps: Caps) -> None:
        """Raises OSError."""
        self._layout.session(session).mkdir(mode=0o711, exist_ok=True)
        make(self._image(session), caps.disk, caps.files)
        self._fresh.add(session)

    def ready(self, session: str, now: float) -> Path:
        """Where workspace and home are: mounted if need be. Raises OSError."""
        if not self.has(session):
            return self._layout.session(session)
        if self._mounts is None:
            raise OSError(errno.EPERM, "the session's disk is an image, which only a root keeper can mount")
        target = self._mounts / session
        if session not in self._used:
            fresh = session in self._fresh
            self._fresh.discard(session)  # after a mount that failed somebody may still have its device
            mount(self._image(session), target, fresh=fresh)
            self._used[session] = now
            _passable(target)
        self._used[session] = now
        return target

    def mend(self, session: str) -> None:
        """A disk that met an error (the host's own was full) takes nothing more until it is mounted anew. Called before
        its sandbox opens. Raises OSError when somebody reads there still."""
        if session in self._used and not _passable(self._at(session)):
            kernel.umount(str(self._at(session)), detach=False)
            del self._used[session]
            self._at(session).rmdir()

    def tend(self, now: float, alive: Callable[[str], bool]) -> None:
        for session, used in list(self._used.items()):
            if now - used > REST_S and not alive(session):
                try:
                    kernel.umount(str(self._at(session)), detach=False)
                except OSError:  # somebody reads
                    self._used[session] = now
                else:
                    del self._used[session]
                    self._at(session).rmdir()

    def drop(self, session: str) -> None:
        """Before its files are removed."""
        self._fresh.discard(session)
        if session in self._used:
            kernel.umount(str(self._at(session)))
            del self._used[session]
            self._at(session).rmdir()

    def _at(self, session: str) -> Path:
        assert self._mounts is not None
        return self._mounts / session

    def adopt(self, holder: int) -> None:
        """A holder of a keeper before this one keeps that one's mounts alive, those of other sessions too: an image
        could not be let go of before the last of them. What runs has mounts of its own, so these may go."""
        if self._mounts is None:
            return
        with contextlib.suppress(OSError):
            space = os.open(f"/proc/{holder}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
            number = os.fstat(space).st_ino
            if number not in self._seen and number != Path("/proc/self/ns/mnt").stat().st_ino:
                self._seen.add(number)
                _clear(space, self._mounts)
            os.close(space)


def _passable(disk: Path) -> bool:
    """Makes its root one that the session can pass. False: it takes no change, but what is on it can be read."""
    try:
        disk.chmod(0o711)
    except OSError as error:
        if error.errno != errno.EROFS:
            raise
        return False
    return True


def _clear(space: int, mounts: Path) -> None:
    pid = os.fork()
    if pid == 0:
        try:
            kernel.setns(space, kernel.CLONE_NEWNS)
            for target in mounts.iterdir():
                with contextlib.suppress(OSError):
                    kernel.umount(str(target))
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
