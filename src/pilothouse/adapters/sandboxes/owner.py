"""Whom server and proxy run as when the keeper is root, and directories in which both can work.

Such a directory is *shared*: root's, open to the server's group, and sticky, so that the server makes files of its own
in it and cannot replace what is the keeper's.

Who it is says `server.user`: a name or a number, `root` to stay root, and else the user `pilothouse` if the machine has
one, else a number that no session and no other installation of this machine is given, kept in `<home>/server-uid`.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import stat
from dataclasses import dataclass
from pathlib import Path

from pilothouse.adapters.sandboxes.layout import Layout, LayoutError, next_uid, private, read_own, written

USER = "pilothouse"
KEEP_ROOT = "root"
_OURS = ("log.sqlite", "log.sqlite-wal", "log.sqlite-shm", "server.lock", "server.json", "local.key", "sealing.key")
_OUR_TREES = ("proxy", "sources")


@dataclass(frozen=True)
class Owner:
    uid: int
    gid: int

    @property
    def word(self) -> str:
        """As it stands on a command line."""
        return f"{self.uid}:{self.gid}"


def named(word: str) -> Owner:
    """From `UID:GID`, a number or a name. Raises LayoutError."""
    uid, _, gid = word.partition(":")
    if uid.isdecimal() and (gid or uid).isdecimal() and int(uid) and int(gid or uid):
        return Owner(int(uid), int(gid or uid))
    try:
        found = pwd.getpwnam(word)
    except KeyError:
        raise LayoutError(f"user: this machine has no user {word[:40]!r}") from None
    if not found.pw_uid or not found.pw_gid:
        raise LayoutError(f"user: {word[:40]!r} has root's rights")
    return Owner(found.pw_uid, found.pw_gid)


def chosen(wanted: str, home: Path, runtime: Path) -> Owner | None:
    """Whom a server that is root becomes; None: nobody, or it is not root. Raises LayoutError."""
    if os.geteuid() != 0:
        if wanted and (wanted == KEEP_ROOT or named(wanted).uid != os.geteuid()):
            raise LayoutError(f"server.user: only root can become {wanted!r}")
        return None
    if wanted == KEEP_ROOT:
        return None
    if wanted:
        return named(wanted)
    with contextlib.suppress(LayoutError):
        return named(USER)
    uid = _numbered(Layout(home, runtime))
    return Owner(uid, uid)


def _numbered(layout: Layout) -> int:
    """The number that this installation was given once. Only root can have written it."""
    path = layout.home / "server-uid"
    with contextlib.suppress(FileNotFoundError, ValueError):
        text = read_own(path)
        if text:
            return int(text)
    uid = next_uid(layout)
    written(path, f"{uid}\n")
    return uid


def share(home: Path, runtime: Path, found: Owner) -> None:
    """As root. Raises LayoutError, OSError."""
    for path in (home, runtime):
        private(path)
        _share(path, found)
    for name in _OURS:
        _hand_over(home / name, found)
    for name in _OUR_TREES:
        _hand_over_tree(home / name, found)


def _share(path: Path, found: Owner) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if os.fstat(fd).st_uid != 0:
            raise LayoutError(
                f"{path} belongs to uid {os.fstat(fd).st_uid}: start the server as that user, not as root"
            )
        os.fchown(fd, 0, found.gid)
        os.fchmod(fd, 0o1770)
    finally:
        os.close(fd)


def _hand_over_tree(top: Path, found: Owner) -> None:
    """Only one that is root's: in what is the server's, any name may lead anywhere. It is given last, so that until
    then nobody else can put a name into it."""
    with contextlib.suppress(FileNotFoundError):
        status = top.lstat()
        if stat.S_ISDIR(status.st_mode) and status.st_uid == 0 and not status.st_mode & 0o022:
            for path in top.iterdir():
                _hand_over(path, found)
            _hand_over(top, found)


def _hand_over(path: Path, found: Owner) -> None:
    """What a server that was root has left. A link, or a file with two names, is nothing of ours."""
    with contextlib.suppress(FileNotFoundError):
        status = path.lstat()
        plain = stat.S_ISREG(status.st_mode) and status.st_nlink == 1
        if status.st_uid == 0 and (plain or stat.S_ISDIR(status.st_mode)):
            os.chown(path, found.uid, found.gid, follow_symlinks=False)
