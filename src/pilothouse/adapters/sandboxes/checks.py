"""Run inside a session by the probe: tries what must not work. Prints a JSON object, name -> "" or what was possible.

Quick, harmless, standard library only; every attempt is one that a correct sandbox refuses at once.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

from pilothouse.adapters.sandboxes import kernel

_AF_VSOCK = 40
_TIOCSTI = 0x5412


def _refused(attempt: Callable[[], object], what: str) -> str:
    try:
        attempt()
    except OSError:
        return ""
    return what


def _identity() -> str:
    return "" if os.getuid() and os.geteuid() else "the session runs as uid 0"


def _capabilities() -> str:
    held = kernel.capabilities()
    return f"the session holds capabilities ({held:#x})" if held else ""


def _privileges() -> str:
    return "" if kernel.ask(kernel.PR_GET_NO_NEW_PRIVS) == 1 else "set-uid programs gain privileges"


def _filter() -> str:
    filtered = 2
    return "" if kernel.ask(kernel.PR_GET_SECCOMP) == filtered else "no system call filter is active"


def _interfaces() -> str:
    try:
        names = [name for _, name in socket.if_nameindex() if name != "lo"]
    except OSError:
        return ""
    return f"network interfaces of the host are visible: {', '.join(names)}" if names else ""


def _tiocsti() -> str:
    with Path(os.devnull).open("rb") as null:
        try:
            fcntl.ioctl(null, _TIOCSTI, b"x")
        except PermissionError:
            return ""
        except OSError:
            pass
    return "input can be pushed into terminals (TIOCSTI)"


def _write(path: str) -> Callable[[], object]:
    def attempt() -> None:
        os.close(os.open(path, os.O_WRONLY))

    return attempt


def _create(path: str) -> Callable[[], object]:
    def attempt() -> None:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))

    return attempt


def _nesting() -> str:
    """In a child: where it works, whoever did it would have nothing left but that namespace."""
    child = os.fork()
    if child == 0:
        try:
            kernel.unshare(kernel.CLONE_NEWUSER)
        except OSError:
            os._exit(0)
        os._exit(1)
    return "user namespaces can be nested" if os.waitpid(child, 0)[1] else ""


def run(canary: str) -> dict[str, str]:
    return {
        "identity": _identity(),
        "capabilities": _capabilities(),
        "privileges": _privileges(),
        "filter": _filter(),
        "interfaces": _interfaces(),
        "settings": _refused(_write("/proc/sys/kernel/core_pattern"), "the kernel's settings can be written"),
        "userns": _nesting(),
        "vsock": _refused(lambda: socket.socket(_AF_VSOCK, socket.SOCK_STREAM), "the hypervisor is reachable"),
        "tiocsti": _tiocsti(),
        "files": _refused(lambda: Path(canary).read_bytes(), "files of the host can be read"),
        "devices": _refused(_create("/dev/pilothouse"), "/dev can be written"),
        "root": _refused(_create("/usr/pilothouse"), "system files can be written"),
    }


def main(argv: list[str]) -> int:
    json.dump(run(argv[0]), sys.stdout)
    return 0
