"""`pilothouse sh` as scripts run it, with real programs on real PTYs behind a real server."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from pilothouse.core.access import SCOPES
from tests.cli.here import Here, running


@pytest.fixture
async def sh(tmp_path: Path) -> AsyncIterator[Here]:
    async with running("sh", tmp_path) as here:
        yield here


async def listed(sh: Here, *words: str) -> list[str]:
    status, out, err = await sh("--list", *words)
    assert status == 0, err
    return out.splitlines()


async def until_running(sh: Here, count: int) -> list[str]:
    async with asyncio.timeout(30):
        while len(found := await listed(sh)) != count:
            await asyncio.sleep(0.05)
    return found


async def test_the_first_one_makes_a_session(sh: Here) -> None:
    for words in (["--list"], ["--watch"], ["--end", "x"]):
        status, _, err = await sh(*words)
        assert (status, "no session" in err) == (1, True), err
    status, out, err = await sh("--", "echo", "here")
    assert (status, out) == (0, "here\n"), err
    assert "there was no session" in err
    assert await sh("--", "echo", "again") == (0, "again\n", "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_a_command_ends_with_the_command_line(sh: Here, number: int) -> None:
    await sh("--", "true")
    child = await sh.start("--", "sleep", "1000")
    (line,) = await until_running(sh, 1)
    child.send_signal(number)
    out, err = await asyncio.wait_for(child.communicate(), 20)
    assert (child.returncode, out, b"goes on" in err) == (1, b"", False), err
    await until_running(sh, 0)
    (line,) = [line for line in await listed(sh, "--all") if "$ sleep 1000" in line]
    assert "ended 129" in line


async def test_a_command_whose_reader_has_enough_ends(sh: Here) -> None:
    await sh("--", "true")
    child = await sh.start("--", "sh", "-c", "while :; do echo line; sleep 0.01; done")
    assert child.stdout is not None
    assert await child.stdout.readline() == b"line\n"
    child._transport.get_pipe_transport(1).close()  # type: ignore[attr-defined]
    assert await asyncio.wait_for(child.wait(), 20) == 128 + signal.SIGPIPE
    assert child.stderr is not None
    assert await child.stderr.read() == b""
    await until_running(sh, 0)


async def test_a_command_that_ours_loses_is_named(sh: Here) -> None:
    """Nobody can end it any more by this key: the person has to know."""
    await sh("--", "true")
    keys, key = sh.served.identity.keys, sh.key
    short, sh.key = await keys.create("short", SCOPES)
    child = await sh.start("--", "sleep", "1000")
    sh.key = key
    (line,) = await until_running(sh, 1)
    await keys.revoke(short.id)
    _, err = await asyncio.wait_for(child.communicate(), 30)
    shell = line.split()[0]
    assert f"it goes on as shell {shell}".encode() in err
    assert f"--end {shell}`".encode() in err
    assert child.returncode == 1
    assert (await sh("--end", shell))[0] == 0
    await until_running(sh, 0)


async def test_ten_and_how_to_end_one(sh: Here) -> None:
    await sh("--", "true")
    headers = {"x-api-key": sh.key}
    async with httpx.AsyncClient(base_url=sh.served.url, headers=headers, timeout=20) as http:
        (session,) = (await http.get("/api/sessions")).json()["items"]
        for _ in range(10):
            made = await http.post(f"/api/sessions/{session['id']}/shells", json={"command": ["sleep", "1000"]})
            assert made.status_code == 201, made.text
    status, _, err = await sh("--", "true")
    assert (status, "goes on" in err) == (1, False)
    assert f"pilothouse sh {session['id']} --list" in err
    assert f"pilothouse sh {session['id']} --end ID" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--shell", "x", "--", "true"], "--shell: a command has a shell of its own."),
        (["--new", "--", "true"], "--new: a command has a shell of its own."),
        (["--watch", "--list"], "--watch and --list exclude each other."),
        (["--end", "x", "--shell", "x"], "--end: without --shell."),
        (["--list", "--startup", "x"], "--startup is for a new shell without a command."),
        (["--startup", "x", "--", "true"], "--startup is for a new shell without a command."),
        (["--all", "--", "true"], "--all goes with --list."),
    ],
)
async def test_what_does_not_go_together_is_said_of_what_was_given(sh: Here, words: list[str], said: str) -> None:
    status, _, err = await sh(*words)
    assert (status, err.splitlines()[-1]) == (2, f"Error: {said}")
