"""A session's files as they lie on the host: with a disk of their own they are mounted for the keeper alone."""

from __future__ import annotations

import json
import socket
from pathlib import Path

from pilothouse.adapters.sandboxes.stage import MOUNTPOINT


def own(home: Path, runtime: Path, session: str) -> Path:
    """The directory that has its `workspace` and `home`, seen through the keeper where they are on a disk. The disk has
    to be mounted: the session runs, or somebody has just read its files."""
    mounted = Path(f"/proc/{keeper(runtime)}/root{MOUNTPOINT}/disks/{session}")
    return mounted if (mounted / "home").exists() else home / "sessions" / session


def keeper(runtime: Path) -> int:
    """Its pid."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(runtime / "keeper.sock"))
        sock.sendall(b'{"verb":"hello","proto":1}\n')
        with sock.makefile() as said:
            return int(json.loads(said.readline())["pid"])
