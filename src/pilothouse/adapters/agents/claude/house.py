"""The directory that Claude Code keeps for itself, cleared of whatever configures it before each start.

What an earlier job of the session wrote there must not speak for the next: the program takes variables of its
environment, servers and helpers from `.claude.json` whatever it is told about settings. Kept is what it remembers
(`KEPT`): conversations, plans, earlier versions of files.

Only where the home is the session's own (`OWN_HOME`): the directory of a person who starts a runner by hand is theirs.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

OWN_HOME = "PILOTHOUSE_OWN_HOME"
"""Set by whoever makes the session."""
KEPT = ("projects", "plans", "file-history", "todos", "tasks")


def directory() -> Path:
    return Path(os.environ.get("CLAUDE_CONFIG_DIR") or Path.home() / ".claude")


def clear() -> None:
    """Raises OSError when the agent's leftovers do not let themselves be cleared: then the program must not start.

    What is kept moves into a new directory, which then takes the place of the old one: a crash in between loses none.
    """
    if not os.environ.get(OWN_HOME):
        return
    here = directory()
    fresh, old = here.with_name(here.name + ".new"), here.with_name(here.name + ".old")
    _remove(old)
    if fresh.is_symlink() or not fresh.is_dir():
        _remove(fresh)
        fresh.mkdir(mode=0o700, parents=True)
    for found in list(fresh.iterdir()):
        if found.name not in KEPT:
            _remove(found)
    if here.is_dir() and not here.is_symlink():
        for name in KEPT:
            if _real(here / name) and not _real(fresh / name):
                _remove(fresh / name)
                (here / name).rename(fresh / name)
    if os.path.lexists(here):
        here.rename(old)
    fresh.rename(here)
    _remove(old)


def _real(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _remove(path: Path) -> None:
    """Whatever it is, without following it; directories that forbid it are made to allow it."""
    if not _real(path):
        path.unlink(missing_ok=True)
        return

    def allow(_: object, name: str, __: object) -> None:
        for again in (Path(name).parent, Path(name)):
            if _real(again):
                again.chmod(0o700)
        if _real(Path(name)):
            shutil.rmtree(name)
        else:
            Path(name).unlink(missing_ok=True)

    shutil.rmtree(path, onerror=allow)
