"""A git source: cloned inside, through the session's egress listener, by the real git against a real git server."""

from __future__ import annotations

import asyncio
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import TCPServer, ThreadingMixIn
from urllib.parse import urlsplit

import pytest

from pilothouse.adapters.sandboxes.bubblewrap import Bubblewrap
from pilothouse.core.errors import BadRequest
from pilothouse.core.events import Source
from pilothouse.core.ids import SessionId
from pilothouse.engine.ports import SandboxSpec
from tests.adapters.sandboxes.test_bubblewrap import listeners, sh


class _Git(BaseHTTPRequestHandler):
    """A forward proxy that knows one host: `git http-backend` on `root`."""

    root: Path
    asked: list[str]

    def do_GET(self) -> None:
        self._serve(b"")

    def do_POST(self) -> None:
        self._serve(self.rfile.read(int(self.headers["Content-Length"])))

    def _serve(self, body: bytes) -> None:
        self.asked.append(self.path)
        url = urlsplit(self.path)
        env = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": str(self.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": url.path,
            "QUERY_STRING": url.query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "safe.directory",
            "GIT_CONFIG_VALUE_0": "*",
        }
        done = subprocess.run(["git", "http-backend"], input=body, env=env, capture_output=True, check=False)
        head, _, rest = done.stdout.partition(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        self.send_response(int(fields.pop("Status", "200 OK").split()[0]))
        for name, value in fields.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        self.wfile.write(rest)

    def log_message(self, *_: object) -> None:
        """Silent."""


class _Server(ThreadingMixIn, TCPServer):
    daemon_threads = True


@contextmanager
def egress(base: Path, session: SessionId, root: Path) -> Iterator[list[str]]:
    model, listening = listeners(base, session)
    model.close()
    asked: list[str] = []
    server = _Server(("127.0.0.1", 0), type("Git", (_Git,), {"root": root, "asked": asked}), bind_and_activate=False)
    server.socket.close()
    server.socket = listening
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def repository(base: Path) -> Path:
    source = base / "git" / "project"
    source.mkdir(parents=True)
    env = {"PATH": os.environ["PATH"], "HOME": str(base)}
    (source / "README").write_text("hello from git\n")
    me = ["-c", "user.name=n", "-c", "user.email=e@example.com", "-c", "init.defaultBranch=main"]
    for args in (["init", "-q"], ["add", "."], ["commit", "-qm", "one"]):
        subprocess.run(["git", *me, *args], cwd=source, env=env, check=True)
    return source.parent


async def test_a_clone_goes_through_the_egress_and_happens_once(
    sandboxes: Bubblewrap, base: Path, session: SessionId, repository: Path
) -> None:
    servers = []

    async def admit(admitted: SessionId) -> None:
        server = egress(base, admitted, repository)
        servers.append((server, server.__enter__()))

    sandboxes.admit = admit
    spec = SandboxSpec(session, "echo", Source(git="http://git.example/project/.git"))
    try:
        await sandboxes.open(spec)
        await sandboxes.stop(session)
        await sandboxes.open(spec)
        assert await sh(sandboxes, session, "cat README; git log --oneline | wc -l") == "hello from git\n1"
    finally:
        for server, _ in servers:
            await asyncio.to_thread(server.__exit__, None, None, None)
    assert len(servers) == 1
    assert servers[0][1][0].startswith("http://git.example/project/.git/info/refs")


async def test_gits_own_words_come_back(
    sandboxes: Bubblewrap, base: Path, session: SessionId, repository: Path
) -> None:
    servers = []

    async def admit(admitted: SessionId) -> None:
        server = egress(base, admitted, repository)
        server.__enter__()
        servers.append(server)

    sandboxes.admit = admit
    try:
        with pytest.raises(BadRequest, match=r"could not clone it: .*not found"):
            await sandboxes.open(SandboxSpec(session, "echo", Source(git="http://git.example/nothing")))
    finally:
        for server in servers:
            await asyncio.to_thread(server.__exit__, None, None, None)
    assert not (await sandboxes.state(session)).alive
    assert (await sandboxes.open(SandboxSpec(session, "echo"))).alive
