"""Who runs as whom: a server that root started, and the two services, with the real programs and the real agent."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.journeys.plain import as_user
from tests.journeys.program import CANARY, Demo, Program, begin, installation
from tests.packaging.test_units import command, environment

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give root up")

SERVICE = 60009
"""Whom the services run as here."""


def status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def owners(program: Program) -> dict[str, set[str]]:
    """Program -> the uids that its processes have, real, effective and saved."""
    found: dict[str, set[str]] = {}
    for pid in program.processes():
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
            if "pilothouse" in words:
                found.setdefault(words[words.index("pilothouse") + 1], set()).update(status(pid)["Uid"].split())
    return found


def check_holds_nothing(program: Program) -> None:
    """The child that can start the keeper: it would keep the port and the lock of a server that was killed, and twice
    in memory what the server writes on, if it had the server in its own."""
    assert program.process is not None
    server = program.process.pid
    children = Path(f"/proc/{server}/task/{server}/children").read_text().split()
    (child,) = [pid for pid in children if status(int(pid))["Uid"].split()[0] == "0"]
    held = [os.readlink(fd) for fd in Path(f"/proc/{child}/fd").iterdir() if int(fd.name) > 2]
    assert len(held) == 2 and all(name.startswith("pipe:") for name in held), held
    assert "/uvloop/" in Path(f"/proc/{server}/maps").read_text()
    assert "/uvloop/" not in Path(f"/proc/{child}/maps").read_text()


async def test_only_the_keeper_is_root() -> None:
    async with installation() as (program, _):
        assert program.process is not None
        server = status(program.process.pid)
        uid = server["Uid"].split()[0]
        assert uid != "0" and server["Uid"].split() == [uid] * 4
        assert server["Groups"] == "" and server["NoNewPrivs"] == "1"
        assert {server[name] for name in ("CapEff", "CapPrm", "CapInh", "CapAmb")} == {"0" * 16}
        session, _, viewer = await begin(program, "demo: bash id -u > me\ndemo: say done", permissionMode="acceptAll")
        assert (await viewer.until("complete"))["outcome"] == "succeeded"
        await viewer.close()
        found = owners(program)
        assert found["proxy"] == {uid}
        assert found["serve"] == {uid, "0"}, "the server, and the child that can start the keeper"
        check_holds_nothing(program)
        made = (program.own(session) / "workspace" / "me").stat().st_uid
        assert made not in (0, int(uid)), "a session's files are its own uid's"
        async with program.http() as http:
            shown = await http.get(f"/api/sessions/{session}/files/content", params={"path": "me"})
        assert shown.text == "1000\n"


async def test_a_key_that_only_root_reads_serves_tls(tmp_path: Path) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", cert],
        check=True, capture_output=True,
    )  # fmt: skip
    key.chmod(0o600)
    with tempfile.TemporaryDirectory(prefix="ph-") as name:
        home = Path(name)
        home.chmod(0o755)
        program = Program(home, PILOTHOUSE_TLS_CERT=str(cert), PILOTHOUSE_TLS_KEY=str(key))
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "pilothouse", "serve", "--port", "0",
                env=program.env, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
            )  # fmt: skip
            program.process = process
            assert process.stdout is not None
            async with asyncio.timeout(60):
                while b"https://" not in (line := await process.stdout.readline()):
                    assert line, "the server ended"
            url = line.split()[-1].decode()
            got = await asyncio.create_subprocess_exec(
                "curl", "-sS", "--cacert", str(cert), f"{url}/healthz", stdout=asyncio.subprocess.PIPE
            )
            said, _ = await got.communicate()
            assert got.returncode == 0 and b"ok" in said
        finally:
            await program.stop()


class Service(Program):
    """The two units' own commands and environment, in other directories."""

    keeper: asyncio.subprocess.Process

    def unit(self, name: str) -> list[str]:
        words = command(name)
        told = environment("pilothouse")
        places = {
            told["PILOTHOUSE_HOME"]: str(self.home / "ph"),
            told["PILOTHOUSE_RUNTIME"]: str(self.home / "ph" / "run"),
            "pilothouse": f"{SERVICE}:{SERVICE}",
        }
        return [sys.executable, "-m", "pilothouse", *(places.get(word, word) for word in words)]

    async def start_keeper(self) -> None:
        self.keeper = await asyncio.create_subprocess_exec(
            *self.unit("pilothouse-keeper"), env=self.env, stdin=asyncio.subprocess.DEVNULL
        )

    def as_service(self) -> None:
        told = environment("pilothouse")
        del told["PILOTHOUSE_HOME"], told["PILOTHOUSE_RUNTIME"], told["PILOTHOUSE_CONFIG"]
        self.env |= told
        self.prefix = as_user(SERVICE, self.home)


@pytest.fixture
async def service() -> AsyncIterator[tuple[Service, Demo]]:
    with tempfile.TemporaryDirectory(prefix="ph-") as name:
        home = Path(name)
        home.chmod(0o755)
        model = Demo(home)
        await model.start()
        program = Service(home, ANTHROPIC_BASE_URL=model.url, ANTHROPIC_API_KEY=CANARY)
        program.as_service()
        try:
            yield program, model
        finally:
            await program.stop()
            await model.stop()


async def test_the_two_services(service: tuple[Service, Demo]) -> None:
    program, model = service
    program.log.touch()
    await program.start_keeper()
    await program.start()
    _, _, viewer = await begin(program, "demo: hold here\ndemo: say done")
    await model.held("here")
    await program.kill(signal.SIGKILL)
    program.keeper.kill()
    await program.keeper.wait()
    await program.start_keeper()
    await program.start()
    await model.release("here")
    assert (await viewer.until("complete"))["outcome"] == "succeeded", "neither restart ended the session"
    viewer.check_whole()
    await viewer.close()
    found = owners(program)
    assert found["serve"] == found["proxy"] == {str(SERVICE)}
    assert found["keeper"] >= {"0"}


async def test_a_server_that_waits_for_its_service_says_so(service: tuple[Service, Demo]) -> None:
    program, _ = service
    (program.home / "ph").mkdir()
    os.chown(program.home / "ph", SERVICE, SERVICE)
    with pytest.raises(AssertionError, match="systemctl status pilothouse-keeper"):
        await program.start()
