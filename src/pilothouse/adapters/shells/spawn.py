"""A program on a PTY of its own, on this machine and without a sandbox. The PTY becomes its controlling terminal
because it opens it as leader of a new session; nothing is forked, which a large process could not afford."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence

from pilothouse.adapters.shells import pty
from pilothouse.core.shell import Size


def spawn(argv: Sequence[str], env: Mapping[str, str], cwd: str, size: Size) -> tuple[int, int]:
    """Its process and the master side. Raises OSError."""
    words = [shutil.which("env") or "/usr/bin/env", "-C", cwd, "--", *argv] if cwd else list(argv)
    program = shutil.which(words[0], path=env.get("PATH"))
    if program is None:
        raise FileNotFoundError(2, "no such program", words[0])
    master, slave = os.openpty()
    try:
        pty.resize(master, size)
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, os.ttyname(slave), os.O_RDWR, 0),
            (os.POSIX_SPAWN_DUP2, 0, 1),
            (os.POSIX_SPAWN_DUP2, 0, 2),
        ]
        pid = os.posix_spawn(program, words, dict(env), file_actions=actions, setsid=True, setsigdef=_USUAL)
    except OSError:
        os.close(master)
        raise
    finally:
        os.close(slave)
    return pid, master


_USUAL = (1, 2, 3, 13, 15, 17, 20, 21, 22)
"""HUP, INT, QUIT, PIPE, TERM, CHLD, TSTP, TTIN, TTOU: a shell gets them as they are, whatever we ignore."""
