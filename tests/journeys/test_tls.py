"""The real program with a certificate of its own: who knows it, and what happens when the certificate changes."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from websockets.exceptions import ConnectionClosed

from tests.certificates import DAY, Authority
from tests.journeys.program import Program, installation

pytestmark = pytest.mark.asyncio(loop_scope="module")
NAME = "pilothouse.example"


def trusting(authority: Authority) -> ssl.SSLContext:
    """By address, as a test reaches it: the certificate has the name only."""
    context = authority.client()
    context.check_hostname = False
    return context


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.make()


@pytest.fixture(scope="module")
def pair(authority: Authority) -> Iterator[tuple[Path, Path]]:
    with tempfile.TemporaryDirectory(prefix="ph-") as name:
        Path(name).chmod(0o755)  # the server's user comes in, and to the certificate; to the key not yet
        yield authority.write(Path(name), NAME)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def program(authority: Authority, pair: tuple[Path, Path]) -> AsyncIterator[Program]:
    settings: dict[str, Any] = {
        "PILOTHOUSE_TLS_CERT": str(pair[0]), "PILOTHOUSE_TLS_KEY": str(pair[1]),
        "PILOTHOUSE_HOSTS": f"{NAME},other.example",
    }  # fmt: skip
    async with installation(verify=trusting(authority), **settings) as (made, _):
        yield made


def notes(program: Program, event: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in program.log.read_text().splitlines() if line.startswith("{")]
    return [line for line in found if line.get("event") == event]


async def test_this_machines_command_line_knows_it_by_its_certificate(program: Program) -> None:
    """Which neither names this machine nor comes from an authority that it knows."""
    assert program.url.startswith("https://127.0.0.1:")
    status, out, err = await program.cli("run", "--agent", "echo", "say by tls")
    assert (status, "by tls" in out) == (0, True), err
    status, out, err = await program.cli("ticket")
    port = program.url.rpartition(":")[2]
    assert f"https://{NAME}:{port}/#ticket=" in out, "a link that a browser opens without a complaint"
    assert f"https://{NAME}:{port}/#ticket=" in program.log.read_text()
    assert any("does not name other.example" in n["text"] for n in notes(program, "certificate"))
    kept = dict(program.env)
    program.env |= {"PILOTHOUSE_URL": program.url, "PILOTHOUSE_API_KEY": program.key}
    status, _, err = await program.cli("ps")
    program.env = kept
    assert status == 3, "named as any other server, it is checked as any other"
    assert "certificate" in err.lower()


async def test_a_renewed_certificate_is_taken_and_sockets_stay_open(
    program: Program, authority: Authority, pair: tuple[Path, Path]
) -> None:
    directory = pair[0].parent
    file = program.home / "ph" / "server.json"
    before = json.loads(file.read_text())
    if os.geteuid() == 0:  # the server has given root up, and the key was root's alone
        assert any("was read by root" in n["text"] for n in notes(program, "certificate"))
    socket = await program.socket()
    new = directory / "new"
    new.mkdir()
    renewed = authority.write(new, NAME, "renewed.example", ends=2 * DAY)
    renewed[1].chmod(0o644)
    for made, used in zip(renewed, pair, strict=True):
        made.rename(used)
    async with asyncio.timeout(30):
        while json.loads(file.read_text()) == before:
            await asyncio.sleep(0.1)
    assert notes(program, "certificate_changed")
    await socket.send('{"type": "ping"}')
    assert json.loads(await socket.recv())["type"] == "pong"
    status, _, err = await program.cli("ps")
    assert status == 0, err
    async with program.http() as http:
        assert (await http.get("/api/me")).status_code == 200

    whole = pair[1].read_text()
    pair[1].write_text("broken")
    async with asyncio.timeout(30):
        while not notes(program, "certificate_refused"):
            await asyncio.sleep(0.1)
    assert (await program.cli("ps"))[0] == 0, "the one before stays in use"
    pair[1].write_text(whole)
    await socket.send('{"type": "ping"}')
    assert json.loads(await socket.recv())["type"] == "pong"
    await socket.close()


async def test_a_server_that_goes_tells_its_sockets_by_tls_too(program: Program) -> None:
    socket = await program.socket()
    await program.kill(15)
    with pytest.raises(ConnectionClosed) as told:
        async with asyncio.timeout(20):
            await socket.recv()
    assert told.value.rcvd is not None
    await program.start()  # for whatever comes next


@pytest.mark.parametrize(("cert", "key", "word"), [
    ("server.crt", "other.key", "does not belong"), ("server.crt", "sealed.key", "encrypted"),
    ("none", "server.key", "cannot be read"), ("server.crt", "server.crt", "no private key"),
])  # fmt: skip
async def test_a_pair_that_is_none_starts_nothing(
    authority: Authority, tmp_path: Path, cert: str, key: str, word: str
) -> None:
    authority.write(tmp_path, NAME)
    authority.write(tmp_path, NAME, stem="other")
    authority.write(tmp_path, NAME, stem="sealed", password=b"x")
    tried = Program(tmp_path, PILOTHOUSE_TLS_CERT=str(tmp_path / cert), PILOTHOUSE_TLS_KEY=str(tmp_path / key))
    status, out, err = await tried.cli("serve", "--port", "0")
    assert (status, out) == (2, "")
    assert word in err
    assert "server.tls_" in err
    assert not (tmp_path / "ph" / "log.sqlite").exists()
