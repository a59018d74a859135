"""The real program in processes of its own: server, keeper, proxy, sandboxes, and a demo model that can be held."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import ssl
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
from websockets.asyncio.client import ClientConnection, connect

from pilothouse import config
from tests import disks

START_S = 60.0
CANARY = "sk-canary-" + "k" * 30
"""The model key of these journeys: nothing inside a session, no log and no event may hold it."""


def bound(port: int = 0) -> socket.socket:
    """A port of ours, on which another program of ours can listen, but nobody who is given just any."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind(("127.0.0.1", port))
    return made


class Program:
    """One installation in a directory of its own. `start`, `kill`, `start` again: sessions go on."""

    program: tuple[str, ...] = (sys.executable, "-m", "pilothouse")

    def __init__(self, home: Path, **env: str) -> None:
        self.home = home
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "LANG": "C.UTF-8",
            "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
            "PILOTHOUSE_HOME": str(home / "ph"),
            "PILOTHOUSE_LOG_FORMAT": "json",
            "PILOTHOUSE_SPARES": "0",
            **{k: v for k, v in os.environ.items() if k.startswith("PILOTHOUSE_TEST_") or k == "SSL_CERT_DIR"},
            **env,
        }
        self.process: asyncio.subprocess.Process | None = None
        self.prefix: list[str] = []
        """What stands before its commands, see `plain`."""
        self.url = ""
        self.ticket = ""
        self.log = home / "server.log"
        self.port = "0"
        """A page comes back to the port that it knows."""
        self._kept: socket.socket | None = None
        """Keeps it, from the first kill on, from whoever is given some free port meanwhile."""
        self.verify: ssl.SSLContext | bool = True
        """How its certificate is checked, where it has one."""

    async def start(self, *arguments: str) -> None:
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *self.prefix, sys.executable, "-m", "pilothouse", "serve", "--port", self.port, *arguments,
                env=self.env, stdout=log, stderr=log, stdin=asyncio.subprocess.DEVNULL,
            )  # fmt: skip
        deadline = time.monotonic() + START_S
        async with httpx.AsyncClient(verify=self.verify) as client:
            while time.monotonic() < deadline:
                if self.process.returncode is not None:
                    raise AssertionError(f"the server ended: {self.log.read_text()[-3000:]}")
                with contextlib.suppress(OSError, ValueError, KeyError, httpx.HTTPError):
                    found = json.loads((self.home / "ph" / "server.json").read_text())
                    if found["pid"] == self.process.pid:
                        self.url = found["url"]
                        if (await client.get(self.url + "/healthz")).status_code == 200:
                            return
                await asyncio.sleep(0.05)
        raise AssertionError(f"the server did not come up: {self.log.read_text()[-3000:]}")

    async def kill(self, number: int = signal.SIGKILL) -> None:
        if self.process is not None and self.process.returncode is None:
            self.process.send_signal(number)
            await self.process.wait()
        if self.port != "0" and self._kept is None:
            self._kept = bound(int(self.port))

    def own(self, session: str) -> Path:
        """The directory with the session's `workspace` and `home`."""
        settings = config.load(self.env, make=False)
        return disks.own(settings.home, settings.runtime, session)

    @property
    def key(self) -> str:
        return (self.home / "ph" / "local.key").read_text().strip()

    def http(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=self.url, headers={"x-api-key": self.key}, timeout=60, verify=self.verify)

    async def socket(self) -> ClientConnection:
        return await connect(
            self.url.replace("http", "ws") + "/ws",
            additional_headers={"x-api-key": self.key},
            max_size=None,
            ssl=self.verify if isinstance(self.verify, ssl.SSLContext) else None,
        )

    async def cli(self, *arguments: str, input: str | None = None, timeout: float = 120) -> tuple[int, str, str]:
        """Exit status, standard output, standard error of a `pilothouse` command."""
        process = await asyncio.create_subprocess_exec(
            *self.prefix, sys.executable, "-m", "pilothouse", *arguments, env=self.env,
            stdin=asyncio.subprocess.PIPE if input is not None else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            out, err = await asyncio.wait_for(
                process.communicate(input.encode() if input is not None else None), timeout
            )
        except TimeoutError:
            process.kill()
            raise
        assert process.returncode is not None
        return process.returncode, out.decode(), err.decode()

    async def stop(self) -> None:
        """Everything of this installation ends: sessions, keeper, proxy, server."""
        await self.kill(signal.SIGTERM)
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self._kept is not None:
            self._kept.close()
        for _ in range(200):
            if not self.processes():
                return
            await asyncio.sleep(0.05)
        raise AssertionError(f"processes left: {self.processes()}")

    def processes(self) -> list[int]:
        """Every process whose command line or environment names this installation."""
        mark = str(self.home / "ph").encode()
        out = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            with contextlib.suppress(OSError):
                argv, env = (entry / "cmdline").read_bytes(), (entry / "environ").read_bytes()
                if mark in argv or mark in env:
                    out.append(int(entry.name))
        return out


class Demo:
    """The demo model as a process that the test holds and counts."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.url = ""
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        port_file = self.home / "demo.port"
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "pilothouse.adapters.models.demo", "--port", "0", "--port-file", str(port_file),
            "--pace", "0.002", env=os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        )  # fmt: skip
        while not (port_file.exists() and port_file.read_text().strip()):
            assert self.process.returncode is None, "the demo model ended"
            await asyncio.sleep(0.05)
        self.url = f"http://127.0.0.1:{port_file.read_text().strip()}"

    async def calls(self) -> dict[str, Any]:
        async with httpx.AsyncClient(base_url=self.url) as client:
            found: dict[str, Any] = (await client.get("/demo/calls")).json()
            return found

    async def held(self, name: str, timeout: float = 60) -> None:
        """Until a script waits at `hold NAME`."""
        async with asyncio.timeout(timeout):
            while name not in (await self.calls())["waiting"]:
                await asyncio.sleep(0.03)

    async def release(self, name: str) -> None:
        async with httpx.AsyncClient(base_url=self.url) as client:
            (await client.post(f"/demo/release/{name}")).raise_for_status()

    async def stop(self) -> None:
        if self.process is not None and self.process.returncode is None:
            self.process.terminate()
            await self.process.wait()


@contextlib.asynccontextmanager
async def installation(
    *, demo: bool = True, verify: ssl.SSLContext | bool = True, **env: str
) -> AsyncIterator[tuple[Program, Demo]]:
    """A running program against a demo model of its own (`demo`), or with the one that ships."""
    with tempfile.TemporaryDirectory(prefix="ph-") as name:
        home = Path(name)
        home.chmod(0o755)
        model = Demo(home)
        if demo:
            await model.start()
            env = {"ANTHROPIC_BASE_URL": model.url, "ANTHROPIC_API_KEY": CANARY, **env}
        program = Program(home, **env)
        program.verify = verify
        try:
            await program.start()
            yield program, model
        finally:
            await program.stop()
            await model.stop()


class Viewer:
    """Follows a session by cursor, across cuts and restarts; `events` is what it has seen, in order."""

    def __init__(self, program: Program, session: str) -> None:
        self.program = program
        self.session = session
        self.events: list[dict[str, Any]] = []
        self.epoch: str | None = None
        self.gaps = 0
        self.connects = 0
        self._grown = asyncio.Event()
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while True:
            with contextlib.suppress(Exception):
                async with await self.program.socket() as socket:
                    self.connects += 1
                    extra = {"epoch": self.epoch} if self.epoch else {}
                    after = self.events[-1]["seq"] if self.events else 0
                    await socket.send(
                        json.dumps({"type": "subscribe", "chatId": self.session, "after": after, **extra})
                    )
                    async for text in socket:
                        self._take(json.loads(text))
            await asyncio.sleep(0.1)

    def _take(self, message: dict[str, Any]) -> None:
        if message["type"] == "subscribed":
            self.epoch = message["epoch"]
            self.gaps += message["gap"]
        elif message["type"] == "gap":
            self.gaps += 1
        elif "seq" in message and message["type"] != "caught_up":
            self.events.append(message)
            self._grown.set()

    async def until(self, kind: str, count: int = 1, timeout: float = 90, **fields: Any) -> dict[str, Any]:
        """The `count`-th event of a kind (and with these fields)."""

        def found() -> list[dict[str, Any]]:
            return [e for e in self.events if e["type"] == kind and all(e.get(k) == v for k, v in fields.items())]

        try:
            async with asyncio.timeout(timeout):
                while len(found()) < count:
                    self._grown.clear()
                    await self._grown.wait()
        except TimeoutError:
            kinds = [e["type"] for e in self.events][-30:]
            last = json.dumps(self.events[-1])[:600] if self.events else ""
            raise AssertionError(f"no {kind} x{count} {fields}; saw {kinds}, last {last}") from None
        return found()[count - 1]

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [e for e in self.events if e["type"] == kind]

    def check_whole(self) -> None:
        """Every number once, in order, none missing."""
        assert [e["seq"] for e in self.events] == list(range(1, len(self.events) + 1))
        assert self.gaps == 0

    async def close(self) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task


async def begin(program: Program, prompt: str, **options: Any) -> tuple[str, dict[str, Any], Viewer]:
    """A session with one job in it: session id, the job, a viewer."""
    async with program.http() as http:
        wishes = {"agent": options.pop("agent", "claude"), "limits": options.pop("limits", None)}
        made = await http.post("/api/sessions", json=wishes)
        assert made.status_code == 201, made.text
        session = made.json()["id"]
        viewer = Viewer(program, session)
        job = await http.post(f"/api/sessions/{session}/jobs", json={"prompt": prompt, **options})
        assert job.status_code == 202, job.text
        return session, job.json(), viewer


async def decide(program: Program, event: dict[str, Any], approved: bool = True, **answer: Any) -> dict[str, Any]:
    async with program.http() as http:
        done = await http.post(
            f"/api/approvals/{event['approvalId']}",
            json={"approved": approved, "inputHash": event["inputHash"], **answer},
        )
        assert done.status_code == 200, done.text
        found: dict[str, Any] = done.json()
        return found
