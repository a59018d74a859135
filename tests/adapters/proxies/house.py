"""A proxy for tests: the real program over a stand-in for the holders, or its parts in this process."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import threading
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from pilothouse.adapters.models.registry import connect
from pilothouse.adapters.proxies.contacts import Contacts
from pilothouse.adapters.proxies.desk import Desk
from pilothouse.adapters.proxies.ledger import Ledger
from pilothouse.adapters.proxies.listeners import Fetched
from pilothouse.adapters.proxies.model import Limits
from pilothouse.core.ids import JobId, SessionId

CANARY = "sk-canary-never-inside-of-a-session"


def new_session() -> SessionId:
    return SessionId(str(uuid.uuid4()))


def new_job() -> JobId:
    return JobId(str(uuid.uuid4()))


def listening() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))


def url_of(sock: socket.socket) -> str:
    return f"http://127.0.0.1:{sock.getsockname()[1]}"


@dataclass
class Listeners:
    """What holders would have: the sockets of each session, handed out as duplicates."""

    made: dict[SessionId, dict[str, socket.socket]] = field(default_factory=dict)

    def url(self, session: SessionId, name: str = "model") -> str:
        return url_of(self.made[session][name])

    def add(self, session: SessionId) -> None:
        self.made[session] = {"model": listening(), "egress": listening()}

    def fetch(self, session: SessionId, known: str) -> Fetched:
        if session not in self.made:
            raise OSError("no holder")
        if known:
            return Fetched(known, {})
        return Fetched("1", {name: sock.dup() for name, sock in self.made[session].items()})

    def close(self) -> None:
        for sockets in self.made.values():
            for sock in sockets.values():
                sock.close()


@asynccontextmanager
async def desk(home: Path, limits: Limits | None = None) -> AsyncIterator[tuple[Desk, Listeners]]:
    listeners = Listeners()
    made = Desk(Ledger(home), Contacts(home), listeners.fetch, connect, limits)
    try:
        yield made, listeners
    finally:
        await made.close()
        listeners.close()


class Holder:
    """Speaks the holder's protocol on `<runtime>/<session>.ctl`, in a thread."""

    def __init__(self, runtime: Path, session: SessionId) -> None:
        self.sockets = [listening(), listening()]
        self.url = url_of(self.sockets[0])
        self._control = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._control.bind(str(runtime / f"{session}.ctl"))
        self._control.listen()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                sock, _ = self._control.accept()
            except OSError:
                return
            with sock, sock.makefile("rb") as lines, suppress(OSError):
                for line in lines:
                    if json.loads(line)["verb"] == "hello":
                        sock.sendall(b'{"ok": true, "proto": 1, "pid": 7}\n')
                    else:
                        answer = b'{"ok": true, "listeners": ["model", "egress"]}\n'
                        socket.send_fds(sock, [answer], [s.fileno() for s in self.sockets])

    def close(self) -> None:
        self._control.shutdown(socket.SHUT_RDWR)
        self._control.close()
        self._thread.join()
        for sock in self.sockets:
            sock.close()


async def start_program(home: Path, runtime: Path) -> asyncio.subprocess.Process:
    code = "import sys; from pilothouse.proxy import main; sys.exit(main(sys.argv[1:]))"
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", code, "--home", str(home), "--runtime", str(runtime)),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
