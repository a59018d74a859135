"""Fetches a session's listening sockets from its holder: JSON lines over `<runtime>/<sessionId>.ctl`, descriptors by
SCM_RIGHTS.

    {"verb": "hello", "proto": 1}   -> {"ok": true, "proto": 1, "pid": n, ...}
    {"verb": "listeners"}           -> {"ok": true, "listeners": ["model", "egress"]} with as many descriptors

A holder's pid names its life: with another pid the old sockets lead nowhere.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from pilothouse.core.ids import SessionId

ANSWER_S = 5.0
"""A holder has little to do."""
LINE_MAX = 64 * 1024
FDS_MAX = 8


@dataclass(frozen=True, slots=True)
class Fetched:
    life: str
    sockets: dict[str, socket.socket]
    """None new when the life is the known one."""


Fetch: TypeAlias = Callable[[SessionId, str], Fetched]
"""(session, the life known or "") -> what there is. Blocking. Raises OSError, ValueError."""


def from_holders(runtime: Path) -> Fetch:
    def fetch(session: SessionId, known: str) -> Fetched:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(ANSWER_S)
            sock.connect(str(runtime / f"{session}.ctl"))
            hello, _ = _ask(sock, {"verb": "hello", "proto": 1})
            life = str(hello.get("pid"))
            if life == known:
                return Fetched(life, {})
            answer, fds = _ask(sock, {"verb": "listeners"})
            names = answer.get("listeners") or []
            if len(names) != len(fds):
                for fd in fds:
                    os.close(fd)
                raise ValueError(f"the holder named {len(names)} listeners and sent {len(fds)}")
            return Fetched(life, {str(name): socket.socket(fileno=fd) for name, fd in zip(names, fds, strict=True)})

    return fetch


def _ask(sock: socket.socket, message: dict[str, Any]) -> tuple[dict[str, Any], list[int]]:
    sock.sendall(json.dumps(message).encode() + b"\n")
    line = bytearray()
    fds: list[int] = []
    while not line.endswith(b"\n"):
        data, got, _, _ = socket.recv_fds(sock, LINE_MAX, FDS_MAX)
        fds += got
        line += data
        if not data or len(line) > LINE_MAX:
            raise ValueError("the holder's answer is no line")
    answer = json.loads(line)
    if not isinstance(answer, dict) or not answer.get("ok"):
        raise ValueError(f"the holder said {line[:200].decode(errors='replace')}")
    return answer, fds
