"""How a server leaves. In the real program: `tests/storm`."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import httpx
import pytest
import uvloop
import websockets

from pilothouse.web import departure
from pilothouse.web.certificate import Certificate
from pilothouse.web.departure import close_port, send_away
from pilothouse.web.streams import RETRY_MS, opening
from tests.certificates import Authority
from tests.web.serving import serving


@pytest.fixture
def event_loop_policy() -> uvloop.EventLoopPolicy:
    """As the server has it."""
    return uvloop.EventLoopPolicy()


async def told(count: int, *, hurry: bool) -> tuple[list[int], list[int]]:
    """Who was told first, and all in their order."""
    seen: list[int] = []
    hurried = asyncio.Event()
    going = asyncio.create_task(send_away([lambda n=n: seen.append(n) for n in range(count)], hurried))  # type: ignore[misc]
    while not seen:
        await asyncio.sleep(0)
    first = list(seen)
    if hurry:
        hurried.set()
        for _ in range(5):
            await asyncio.sleep(0)
        assert len(seen) == count, "nobody waits any more"
    await going
    return first, seen


async def test_many_are_sent_away_in_turn_and_by_chance() -> None:
    first, seen = await told(400, hurry=False)
    assert len(first) == 400 / (400 / departure.AWAY_PER_S / departure.STEP_S)
    assert sorted(seen) == list(range(400))
    assert seen != sorted(seen)


async def test_however_many_the_time_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(departure, "AWAY_S", 0.1)
    first, seen = await told(100_000, hurry=False)
    assert len(first) == 100_000 / (0.1 / departure.STEP_S)
    assert len(seen) == 100_000


async def test_a_second_signal_sends_all_away_at_once() -> None:
    first, _ = await told(100_000, hurry=True)
    assert len(first) < 100_000


async def test_few_wait_for_nothing_and_nobody_is_no_fault() -> None:
    first, _ = await told(3, hurry=False)
    assert len(first) == 3
    await send_away([], asyncio.Event())


@pytest.mark.parametrize("tls", [False, True])
async def test_the_port_is_closed_first_and_who_is_there_is_served_on(tls: bool, tmp_path: Path) -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    authority = Authority.make() if tls else None
    pair = Certificate(*authority.write(tmp_path, "127.0.0.1")).pair if authority else None
    context = authority.client() if authority else None
    async with serving(listening=listening, tls=pair) as served:
        given = {"x-api-key": await served.key()}
        address = served.url.replace("http", "ws") + "/event/realtime"
        async with (
            httpx.AsyncClient(base_url=served.url, headers=given, verify=context or True) as known,
            websockets.connect(address, additional_headers=given, ssl=context) as old,
        ):
            assert (await known.get("/api/sessions")).status_code == 200
            for _ in range(2):
                close_port(served.server, listening)
            await asyncio.sleep(0)
            for _ in range(3):
                with pytest.raises(ConnectionRefusedError):
                    await asyncio.open_connection("127.0.0.1", served.port)
            assert (await known.get("/api/sessions")).status_code == 200
            await old.send('{"type":"connection_init"}')
            assert "connection_ack" in str(await old.recv())
            served.hub.all_away()
            await old.wait_closed()
            assert old.close_code == 1001


def test_browsers_come_back_to_a_stream_each_at_another_time() -> None:
    times = {int(opening().split(b"retry: ")[1]) for _ in range(50)}
    assert len(times) > 10
    assert all(RETRY_MS[0] <= time <= RETRY_MS[1] for time in times)
