"""Finding this machine's server by its files, and starting one for a run."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from pilothouse.cli import local
from pilothouse.cli.client import Endpoint
from pilothouse.cli.errors import NoServer
from pilothouse.cli.settings import Settings

STAND_IN = Path(__file__).with_name("serve.py")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(server_file=tmp_path / "server.json", key_file=tmp_path / "local.key")


def server(settings: Settings, mode: str) -> local.Server:
    command = (sys.executable, str(STAND_IN), str(settings.key_file.parent), mode)
    return local.Server(settings, start=True, command=command)


def stands(settings: Settings, **fields: object) -> None:
    settings.server_file.write_text(json.dumps({"url": "http://127.0.0.1:1/", "pid": os.getpid(), **fields}))
    settings.key_file.write_text("ph_local\n")


def test_the_running_server_is_found_with_its_key(settings: Settings) -> None:
    stands(settings)
    assert local.locate(settings) == Endpoint("http://127.0.0.1:1", "ph_local")


async def test_the_file_of_a_dead_server_gives_no_key_away(settings: Settings) -> None:
    child = await asyncio.create_subprocess_exec("true")
    await child.wait()
    stands(settings, pid=child.pid)
    with pytest.raises(NoServer, match="pilothouse serve"):
        local.locate(settings)


@pytest.mark.parametrize("content", [b"", b"[]", b'{"url": 1, "pid": 1}', b'{"url": "http://x", "pid": -1}', b"\xff"])
def test_a_broken_file_is_no_server(settings: Settings, content: bytes) -> None:
    settings.server_file.write_bytes(content)
    with pytest.raises(NoServer):
        local.locate(settings)


def test_a_missing_key_file_is_named(settings: Settings) -> None:
    stands(settings)
    settings.key_file.unlink()
    with pytest.raises(NoServer, match=r"local\.key"):
        local.locate(settings)


def test_a_named_server_needs_no_files(settings: Settings) -> None:
    named = Settings(settings.server_file, settings.key_file, url="https://example.test", key="k")
    assert local.locate(named) == Endpoint("https://example.test", "k")
    for wrong in ("example.test", "127.0.0.1:8420", "http://", "ftp://example.test", "http://h:99999", "http://[x"):
        with pytest.raises(NoServer, match="PILOTHOUSE_URL"):
            local.locate(Settings(settings.server_file, settings.key_file, url=wrong))


@pytest.mark.parametrize("mode", ["ready", "slow"])
async def test_a_server_is_started_for_the_run_and_ends_with_it(settings: Settings, mode: str) -> None:
    async with server(settings, mode) as own:
        endpoint = await own.find()
        assert endpoint.key == "ph_local"
        assert local.locate(settings) == endpoint
        assert await own.find() == endpoint
    assert not settings.server_file.exists()


async def test_a_running_server_is_left_running(settings: Settings) -> None:
    async with server(settings, "ready") as first:
        endpoint = await first.find()
        async with server(settings, "ready") as second:
            assert await second.find() == endpoint
        assert local.locate(settings) == endpoint


async def test_a_server_that_does_not_start_says_why(settings: Settings) -> None:
    async with server(settings, "refuses") as own:
        with pytest.raises(NoServer, match=r"server\.port: nonsense"):
            await own.find()


async def test_nothing_is_started_for_a_named_server(settings: Settings) -> None:
    named = Settings(settings.server_file, settings.key_file, url="http://127.0.0.1:1", key="k")
    async with local.Server(named, start=True, command=("false",)) as own:
        assert (await own.find()).url == "http://127.0.0.1:1"


async def test_a_server_that_stays_away_is_replaced(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was started for somebody else's run, which has ended."""
    monkeypatch.setattr(local, "GRACE_S", 0)
    async with server(settings, "ready") as own:
        async with server(settings, "ready") as other:
            first = await other.find()
            assert await own.find() == first
        assert (await own.find()).url != first.url


async def test_a_server_that_was_there_is_waited_for(settings: Settings) -> None:
    """It is being restarted: one of ours would take its place."""
    stands(settings)
    async with server(settings, "ready") as own:
        await own.find()
        settings.server_file.unlink()
        with pytest.raises(NoServer):
            await own.find()
        assert not settings.server_file.exists()
