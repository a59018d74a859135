"""Where things are on the host.

<home>/keeper.log                  what keeper, holders and proxy write to standard error
<home>/server-uid                  whom a server that was started as root becomes
<home>/sessions/next-uid           the number of the next session's uid (root without /var/lib only)
<home>/sources/<uuid>.json         where the workspace came from; the server's
<home>/sessions/                   0711
<home>/sessions/<uuid>/            0711, the keeper's; 0710 and the session's group where it has a uid of its own
<home>/sessions/<uuid>/workspace   0700, the session's: /workspace inside
<home>/sessions/<uuid>/home        0700, the session's: /home/agent inside
<home>/sessions/<uuid>/sockets     0700, the session's, but nothing inside may write there: the model's at level reduced
<home>/sessions/<uuid>/alone       the uid of a session at level reduced while it runs
<runtime>/                         0700, or shared (see owner); its listing is what a new keeper or server finds
<runtime>/keeper.sock  keeper.lock
<runtime>/<uuid>.ctl               the holder's control socket
<runtime>/<uuid>.run               the runner's socket, which nothing inside the session can see
<runtime>/<uuid>.pty               the holder's socket for the session's shells
"""

from __future__ import annotations

import fcntl
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from pilothouse.core.ids import is_uuid

MACHINE = Path("/var/lib/pilothouse-uids")
"""Root's alone. What all homes of this machine share: two of them must not give one uid to two sessions."""
SOCKET_PATH_MAX = 107
"""`sockaddr_un` has 108 bytes with the end mark."""
FIRST_UIDS = (1_879_500_000, 60_001)
"""Where the numbers of sessions begin. The first is in a range that neither distributions nor service managers nor
containers give out; where this root may not use it (a container's), above people and services."""
_SKIPPED_UIDS = (65534, 65535)
"""`nobody`, and the -1 of 16 bits."""


class LayoutError(Exception):
    """A directory cannot be used as it is."""


@dataclass(frozen=True)
class Layout:
    home: Path
    runtime: Path

    @property
    def keeper(self) -> Path:
        return self.runtime / "keeper.sock"

    @property
    def lock(self) -> Path:
        return self.runtime / "keeper.lock"

    @property
    def log(self) -> Path:
        return self.home / "keeper.log"

    @property
    def sessions(self) -> Path:
        return self.home / "sessions"

    def control(self, session: str) -> Path:
        return self.runtime / f"{_checked(session)}.ctl"

    def runner(self, session: str) -> Path:
        return self.runtime / f"{_checked(session)}.run"

    def shells(self, session: str) -> Path:
        return self.runtime / f"{_checked(session)}.pty"

    def session(self, session: str) -> Path:
        return self.sessions / _checked(session)

    def source(self, session: str) -> Path:
        return self.home / "sources" / f"{_checked(session)}.json"

    def found(self) -> list[str]:
        """The sessions that have, or had, a holder."""
        try:
            names = [p.stem for p in self.runtime.iterdir() if p.suffix == ".ctl"]
        except FileNotFoundError:
            return []
        return sorted(name for name in names if is_uuid(name))


def _checked(session: str) -> str:
    if not is_uuid(session):
        raise LayoutError("session id: expected a UUID")
    return session


def make(home: Path, runtime: Path) -> Layout:
    """The layout with its directories made and checked. Raises LayoutError."""
    layout = Layout(home.absolute(), runtime.absolute())
    longest = layout.control("0" * 8 + "-0000" * 3 + "-" + "0" * 12)
    if len(os.fsencode(longest)) > SOCKET_PATH_MAX:
        raise LayoutError(
            f"runtime directory {runtime}: its path is too long for unix sockets "
            f"({len(os.fsencode(longest))} bytes with a socket's name, at most {SOCKET_PATH_MAX}); choose a shorter one"
        )
    for path in (layout.home, layout.runtime):
        private(path)
    if not shared(layout.home) or os.geteuid() == 0:
        _make_sessions(layout.sessions)
    return layout


def _make_sessions(path: Path) -> None:
    """The keeper's alone: whoever could replace it would choose what root makes and removes."""
    path.mkdir(mode=0o711, exist_ok=True)
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        raise LayoutError(f"{path}: not a directory of ours ({os.geteuid()})")
    path.chmod(0o711)


def private(path: Path) -> None:
    """A directory of ours that nobody else reads, or one that root shares with us. Raises LayoutError, OSError."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode):
        raise LayoutError(f"{path}: not a directory (links are not followed)")
    if shared(path):
        return
    if status.st_uid != os.geteuid():
        raise LayoutError(f"{path}: belongs to uid {status.st_uid}, not to us ({os.geteuid()})")
    if status.st_mode & 0o077:
        path.chmod(0o700)


def shared(path: Path) -> bool:
    """Root's, open to one group that we are in, and sticky: nobody there can replace what is not theirs."""
    status = path.lstat()
    ours = os.geteuid() == 0 or status.st_gid in {os.getegid(), *os.getgroups()}
    return status.st_uid == 0 and stat.S_IMODE(status.st_mode) == 0o1770 and ours


def written(path: Path, text: str) -> None:
    """A file of ours alone, put in place whole: nothing that lies there already is written through."""
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "w") as file:
        file.write(text)
    fresh.replace(path)


def read_own(path: Path) -> str:
    """A short file that we have written; "" for one that somebody else has laid there. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(fd) as file:
        status = os.fstat(fd)
        return file.read(100) if stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() else ""


def _mapped(uid: int) -> bool:
    """Whether the user namespace that we are in has this number."""
    lines = Path("/proc/self/uid_map").read_text().splitlines()
    ranges = [(int(first), int(count)) for first, _, count in (line.split() for line in lines)]
    return any(first <= uid < first + count for first, count in ranges)


def next_uid(layout: Layout, machine: Path = MACHINE) -> int:
    """A uid that no session of this machine has had, whatever its home. Root only."""
    directory = machine
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:  # a read-only system: then at least none of this home
        directory = layout.sessions
    status = directory.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise LayoutError(f"{directory}: others may write there; it must be root's alone")
    path = directory / "next-uid"
    lock = os.open(directory / "next-uid.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            uid = int(read_own(path))
        except FileNotFoundError:
            uid = 0
        except ValueError:
            raise LayoutError(f"{path}: not a number; put one there that no file of this machine belongs to") from None
        uid = max(uid, next((first for first in FIRST_UIDS if _mapped(first)), FIRST_UIDS[-1]))
        while uid in _SKIPPED_UIDS:
            uid += 1
        if not _mapped(uid):
            raise LayoutError(f"no uid is left for a further session: root may not use {uid} here; see {path}")
        written(path, f"{uid + 1}\n")
    finally:
        os.close(lock)
    return uid
