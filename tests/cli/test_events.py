"""`pub` and `sub` as processes of their own against a real server."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from pilothouse.adapters.stores.memory import MemoryStore
from pilothouse.core.namespaces import Namespace
from tests.web.serving import Served, serving

KEPT = [Namespace("default"), Namespace("kept", history=5)]


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with serving(namespaces=KEPT) as running:
        yield running


async def start(served: Served, home: Path, key: str, *words: str, stdin: bytes | None = None) -> Any:
    env = {
        "PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(os.path.abspath(p) for p in sys.path if p),
        "PILOTHOUSE_HOME": str(home), "PILOTHOUSE_URL": served.url, "PILOTHOUSE_API_KEY": key, "LANG": "C.UTF-8",
    }  # fmt: skip
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "pilothouse", *words, env=env, stdin=-1 if stdin is not None else -3, stdout=-1, stderr=-1
    )


async def run(served: Served, home: Path, key: str, *words: str, stdin: bytes | None = None) -> tuple[int, str, str]:
    process = await start(served, home, key, *words, stdin=stdin)
    out, err = await asyncio.wait_for(process.communicate(stdin), 40)
    return process.returncode, out.decode(), err.decode()


async def subscribed(served: Served) -> None:
    channels = served.platform.channels
    assert channels is not None
    while not channels._feeds:
        await asyncio.sleep(0.01)


async def test_what_one_publishes_the_other_shows(served: Served, home: Path) -> None:
    key = await served.key()
    shown = asyncio.create_task(run(served, home, key, "sub", "default/*", "--count", "8"))
    await subscribed(served)
    assert await run(served, home, key, "pub", "/default/room", '{"a": "é\\u001b"}', "3", "null") == (0, "", "")
    lines = b'"1"\n\n"2"\n"3"\n"4"\n"5"\n'
    assert (await run(served, home, key, "pub", "default/x", "-", stdin=lines))[0] == 0
    status, out, err = await shown
    assert (status, err) == (0, "")
    first = [f"/default/room {event}" for event in ('{"a": "é\\u001b"}', "3", "null")]
    assert out.splitlines() == first + [f'/default/x "{number}"' for number in range(1, 6)]


@pytest.mark.parametrize("more", [[], ["--json"]])
async def test_c15_an_event_is_one_line_whatever_stands_between_its_parts(
    served: Served, home: Path, more: list[str]
) -> None:
    """Or a publisher says lines that the server never did."""
    key = await served.key()
    shown = asyncio.create_task(run(served, home, key, "sub", "default/x", "--count", "2", *more))
    await subscribed(served)
    assert (await run(served, home, key, "pub", "default/x", '[\n{"seq":9}\r\n,\r7]', "1"))[0] == 0
    _, out, _ = await shown
    lines = [json.loads(line) for line in out.split("\n")[:-1]]
    assert lines == ([{"event": [{"seq": 9}, 7]}, {"event": 1}] if more else [[{"seq": 9}, 7], 1])
    assert "\r" not in out


async def test_a_history_is_shown_from_a_cursor_and_gone_on_with_after_a_restart(home: Path) -> None:
    store = MemoryStore()
    async with serving(store=store, namespaces=KEPT) as first:
        port, key = first.port, await first.key()
        for number in range(8):
            assert (await run(first, home, key, "pub", "kept/a", str(number)))[0] == 0
        process = await start(first, home, key, "sub", "kept/a", "--after", "0", "--json", "--count", "7")
        seen = [json.loads(await asyncio.wait_for(process.stdout.readline(), 30)) for _ in range(5)]
    assert [(e["seq"], e["event"]) for e in seen] == [(n + 1, n) for n in range(3, 8)]
    async with serving(store=store, namespaces=KEPT, port=port) as again:
        for number in (8, 9):
            assert (await run(again, home, key, "pub", "kept/a", str(number)))[0] == 0
        out, err = await asyncio.wait_for(process.communicate(), 40)
    assert [json.loads(line)["seq"] for line in out.splitlines()] == [9, 10]
    assert b"events 1 to 3 are not kept any more" in err
    assert b"connected again\n" in err
    assert process.returncode == 0


async def test_ctrl_c_is_how_one_leaves(served: Served, home: Path) -> None:
    process = await start(served, home, await served.key(), "sub", "default/room")
    await subscribed(served)
    process.send_signal(signal.SIGINT)
    assert (await asyncio.wait_for(process.communicate(), 20), process.returncode) == ((b"", b""), 0)


@pytest.mark.parametrize(("words", "status", "said"), [
    (["pub", "default/room", "hello"], 2, "no JSON"), (["pub", "default/*", "1"], 2, "wildcard"),
    (["sub", "*"], 2, "CHANNEL"), (["sub", "default/room", "--after", "1"], 1, "history"),
    (["pub", "nowhere/x", "1"], 1, "namespace `nowhere`"), (["sub", "nowhere/x"], 1, "namespace `nowhere`"),
    (["sub", "session/x"], 1, "authorized to make this call.\n"),
])  # fmt: skip
async def test_wrong_words_are_named(served: Served, home: Path, words: list[str], status: int, said: str) -> None:
    got, out, err = await run(served, home, await served.key(), *words)
    assert (got, out) == (status, "")
    assert said in err


async def test_a_wrong_key(served: Served, home: Path) -> None:
    for words in (["sub", "default/room"], ["pub", "default/room", "1"]):
        status, _, err = await run(served, home, "wrong", *words)
        assert status == 1
        assert "not authorized" in err
        assert "namespace" not in err
