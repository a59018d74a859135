"""A keeper whose sandboxes lack something on purpose: `weak_keeper.py WEAKNESS` and a keeper's own arguments.

net      no network namespace
filter   a filter of system calls that lets everything pass
binds    /tmp and /dev/shm of the host, and its System V IPC
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable
from functools import cache

from pilothouse import keeper
from pilothouse.adapters.sandboxes import netns, profile, seccomp


def _net(args: list[str]) -> list[str]:
    return [a for a in args if a != "--unshare-net"]


def _binds(args: list[str]) -> list[str]:
    """bwrap's later mounts cover its earlier ones."""
    at = args.index("--seccomp")
    over = [word for path in ("/tmp", "/dev/shm", "/dev/pts") for word in ("--dev-bind", path, path)]
    weak = [a for a in (*args[:at], *over, *args[at:]) if a not in {"--unshare-ipc", "--unshare-cgroup"}]
    while "--remount-ro" in weak:
        at = weak.index("--remount-ro")
        del weak[at : at + 2]
    return weak


def _no_filter(machine: str, *, alone: bool = False) -> bytes:
    return struct.pack("<HBBI", 0x06, 0, 0, 0x7FFF0000)


def weaken(weakness: str) -> None:
    strong: Callable[..., list[str]] = profile.arguments
    if weakness == "filter":
        seccomp.program = cache(_no_filter)
    elif weakness == "net":
        profile.arguments = lambda *args, **more: _net(strong(*args, **more))
        netns.listen_inside = lambda pid, ports: netns.listen(tuple(0 for _ in ports))
    elif weakness == "binds":
        profile.arguments = lambda *args, **more: _binds(strong(*args, **more))
    else:
        raise SystemExit(f"unknown weakness {weakness!r}")


if __name__ == "__main__":
    weaken(sys.argv[1])
    sys.exit(keeper.main(sys.argv[2:]))
