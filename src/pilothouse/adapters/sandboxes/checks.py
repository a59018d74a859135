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


def _status(name: str) -> str:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return line.split(":", 1)[1].strip()
    return ""


def _refused(attempt: Callable[[], object], what: str) -> str:
    try:
        attempt()
    except OSError:
        return ""
    return what


def _identity() -> str:
    return "" if os.getuid() and os.geteuid() else "the session runs as uid 0"


def _capabilities() -> str:
    held = [name for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb") if int(_status(name) or "1", 16)]
    return f"the session holds capabilities ({', '.join(held)})" if held else ""


def _privileges() -> str:
    return "" if _status("NoNewPrivs") == "1" else "set-uid programs gain privileges"


def _filter() -> str:
    return "" if _status("Seccomp") == "2" else "no system call filter is active"


def _interfaces() -> str:
    names = [name for _, name in socket.if_nameindex() if name != "lo"]
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


def run(canary: str) -> dict[str, str]:
    return {
        "identity": _identity(),
        "capabilities": _capabilities(),
        "privileges": _privileges(),
        "filter": _filter(),
        "interfaces": _interfaces(),
        "settings": _refused(_write("/proc/sys/kernel/core_pattern"), "the kernel's settings can be written"),
        "userns": _refused(lambda: kernel.unshare(kernel.CLONE_NEWUSER), "user namespaces can be nested"),
        "vsock": _refused(lambda: socket.socket(_AF_VSOCK, socket.SOCK_STREAM), "the hypervisor is reachable"),
        "tiocsti": _tiocsti(),
        "files": _refused(lambda: Path(canary).read_bytes(), "files of the host can be read"),
        "devices": _refused(_create("/dev/pilothouse"), "/dev can be written"),
        "root": _refused(_create("/usr/pilothouse"), "system files can be written"),
    }


def main(argv: list[str]) -> int:
    json.dump(run(argv[0]), sys.stdout)
    return 0
