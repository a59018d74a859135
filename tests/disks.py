"""A session's files as they lie on the host: with a disk of their own they are mounted for the keeper alone."""

from __future__ import annotations

import contextlib
import json
import socket
from pathlib import Path
from typing import Any

from pilothouse.adapters.sandboxes.stage import MOUNTPOINT


def own(home: Path, runtime: Path, session: str) -> Path:
    """The directory that has its `workspace` and `home`, seen through the keeper where they are on a disk, which it
    mounts for whoever wants to read."""
    with socket.socket(socket.AF_UNIX) as sock, sock.makefile("rw") as line:
        sock.connect(str(runtime / "keeper.sock"))
        keeper = _ask(line, {"verb": "hello", "proto": 1})["pid"]
        _ask(line, {"verb": "files", "session": session})
    mounted = Path(f"/proc/{keeper}/root{MOUNTPOINT}/disks/{session}")
    return mounted if (mounted / "home").exists() else home / "sessions" / session


def _ask(line: Any, message: dict[str, Any]) -> dict[str, Any]:
    line.write(json.dumps(message) + "\n")
    line.flush()
    answer: dict[str, Any] = json.loads(line.readline())
    return answer


def devices(session: str) -> list[str]:
    """The loop devices that hold the session's disk, `/dev/loopN`, also when it has been deleted."""
    found = []
    for file in Path("/sys/block").glob("loop*/loop/backing_file"):
        with contextlib.suppress(OSError):
            if session in file.read_text():
                found.append(f"/dev/{file.parents[1].name}")
    return found


def within(pid: int, mark: str) -> bool:
    """Whether a process is in a session whose folder's path has `mark` in it: its `/workspace` comes from there, or
    from a disk that lies there."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines():
            _, _, device, root, target, *_ = line.split()
            if target == "/workspace":
                backing = Path(f"/sys/dev/block/{device}/loop/backing_file")
                return mark in (backing.read_text() if backing.exists() else root)
    return False
