"""A keeper that dies under a request, or while nobody asks: here a socket that behaves like one."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pilothouse.adapters.sandboxes import client
from pilothouse.adapters.sandboxes.host import Host
from pilothouse.adapters.sandboxes.layout import Layout, make
from pilothouse.core.errors import Unavailable
from tests.adapters.sandboxes.conftest import until


class Keeper:
    """Hangs up on the first `deaths` requests to delete."""

    def __init__(self, base: Path) -> None:
        self.path = make(base / "h", base / "r").keeper
        self.deaths = 0
        self.asked: list[str] = []
        self.silent: list[asyncio.StreamWriter] = []
        """Who connected and said nothing."""

    async def serve(self) -> asyncio.Server:
        return await asyncio.start_unix_server(self._client, self.path)

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.silent.append(writer)
        while line := await reader.readline():
            if writer in self.silent:
                self.silent.remove(writer)
            verb = json.loads(line)["verb"]
            self.asked.append(verb)
            if verb == "delete" and self.deaths:
                self.deaths -= 1
                break
            writer.write(b'{"ok": true, "proto": 1, "root": false}\n')
        writer.close()


@pytest.fixture
async def keeper(base: Path) -> AsyncIterator[Keeper]:
    made = Keeper(base)
    server = await made.serve()
    yield made
    server.close()


@pytest.mark.parametrize("deaths", [0, 1])
async def test_a_request_that_a_dying_keeper_took_is_made_again(base: Path, keeper: Keeper, deaths: int) -> None:
    host = await Host.connect_keeper(base / "h", base / "r")
    keeper.deaths = deaths
    await host._keeper({"verb": "delete", "session": "s"})
    assert keeper.asked.count("delete") == 1 + deaths
    await host.close()


async def test_but_not_for_ever(base: Path, keeper: Keeper) -> None:
    host = await Host.connect_keeper(base / "h", base / "r")
    keeper.deaths = 5
    with pytest.raises(Unavailable, match="keeper went away"):
        await host._keeper({"verb": "delete", "session": "s"})
    assert keeper.asked.count("delete") == 2
    await host.close()


async def test_its_end_is_noticed_and_the_next_one_has_our_presence_too(base: Path, keeper: Keeper) -> None:
    host = await Host.connect_keeper(base / "h", base / "r")
    await until(lambda: len(keeper.silent) == 1)
    first = keeper.silent.pop()
    first.close()  # as when it dies
    await until(lambda: len(keeper.silent) == 1)
    assert keeper.silent[0] is not first
    await host.close()


async def test_a_server_that_lets_go_leaves_no_keeper_half_started(base: Path, keeper: Keeper) -> None:
    begun, may_end, ended = threading.Event(), threading.Event(), threading.Event()

    def start(_: Layout) -> None:
        begun.set()
        may_end.wait()
        ended.set()

    host = await Host.connect_keeper(base / "h", base / "r", start=start)
    await until(lambda: len(keeper.silent) == 1)
    keeper.path.unlink()
    keeper.silent.pop().close()  # as when it dies, and nobody answers any more
    await until(begun.is_set)
    closing = asyncio.create_task(host.close())
    await asyncio.wait([closing], timeout=0.2)
    too_soon = closing.done()
    may_end.set()
    await closing
    assert not too_soon
    assert ended.is_set()


async def test_one_that_is_killed_as_soon_as_it_is_up_is_started_again(base: Path) -> None:
    loop, made, starts = asyncio.get_running_loop(), Keeper(base), list[asyncio.Server | None]()

    def start(_: Layout) -> None:
        alive = len(starts) == 1
        starts.append(asyncio.run_coroutine_threadsafe(made.serve(), loop).result() if alive else None)

    host = await Host.connect_keeper(base / "h", base / "r", start=start)
    await host.close()
    assert len(starts) == 2
    assert starts[1] is not None
    starts[1].close()


async def test_but_not_one_that_never_is(base: Path) -> None:
    starts = list[Layout]()
    with pytest.raises(Unavailable, match="does not answer"):
        await Host.connect_keeper(base / "h", base / "r", start=starts.append)
    assert len(starts) == client.STARTS
