"""Following a session: in order, once each, and a gap is said."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pilothouse.cli import viewer as viewing
from pilothouse.cli.client import Client, Endpoint
from pilothouse.cli.errors import NoServer, Refused
from pilothouse.core import chat
from tests.cli.fake import KEY, SESSION, FakeServer


def text(server: FakeServer, *parts: str) -> None:
    for part in parts:
        server.append(server.event("stream", content=part, messageId="m"))


async def follow(server: FakeServer, until: int, after: int = 0, each: Any = None) -> tuple[list[Any], list[str]]:
    """Items until event `until`, and what was said."""
    notices: list[str] = []

    async def find() -> Endpoint:
        return Endpoint(server.url, KEY)

    items: list[Any] = []
    async with Client(find) as client, asyncio.timeout(30):
        stream = viewing.Viewer(client, SESSION, after, notices.append).follow()
        async for item in stream:
            if isinstance(item, chat.CaughtUp):
                continue
            items.append(item.seq if isinstance(item, chat.EventFrame) else (item.from_, item.to))
            if each is not None:
                each(items[-1])
            if items[-1] == until:
                break
        await stream.aclose()
    return items, notices


async def test_from_a_cursor_on(server: FakeServer) -> None:
    text(server, *"abcde")
    assert await follow(server, 5, after=2) == ([3, 4, 5], [])


async def test_cuts_lose_and_double_nothing(server: FakeServer) -> None:
    text(server, *"abcdefghij")
    server.cuts = [1, 2, 3, 9]
    items, notices = await follow(server, 10)
    assert items == list(range(1, 11))
    assert len(notices) == 8


async def test_another_log_is_said_and_read_from_its_start(server: FakeServer) -> None:
    text(server, *"abcde")
    server.cuts = [4]

    def renewed(seq: int) -> None:
        if seq == 4 and server.epoch == "e1":
            server.epoch = "e2"
            server.log.clear()
            text(server, *"uvw")

    items, notices = await follow(server, 3, after=3, each=renewed)
    assert items == [4, 1, 2, 3]
    assert any("another one" in words for words in notices)


async def test_a_number_beyond_the_end_shows_what_comes_next(server: FakeServer) -> None:
    text(server, *"abc")

    async def later() -> None:
        while not server.subscriptions:
            await asyncio.sleep(0.01)
        text(server, "d")

    (items, notices), _ = await asyncio.gather(follow(server, 4, after=999), later())
    assert (items, notices) == ([4], ["there is nothing after event 999; the last one is 3"])


async def test_what_is_no_longer_kept_is_said(server: FakeServer) -> None:
    text(server, *"abcde")
    server.oldest = 4
    assert (await follow(server, 5))[0] == [(1, 3), 4, 5]


async def test_a_repeated_event_is_shown_once(server: FakeServer) -> None:
    text(server, *"abc")
    server.log.insert(1, server.log[0])
    assert (await follow(server, 3))[0] == [1, 2, 3]


async def test_a_hole_is_asked_for_again(server: FakeServer) -> None:
    text(server, *"abcd")
    whole = list(server.log)
    del server.log[1]

    def mend(seq: int) -> None:
        server.log[:] = whole

    assert (await follow(server, 4, each=mend))[0] == [1, 2, 3, 4]
    assert [s["after"] for s in server.subscriptions] == [0, 1]


async def test_a_folded_row_counts_for_all_of_it(server: FakeServer) -> None:
    text(server, "a")
    server.log.append(server.log[0].replace(b'"seq":1', b'"from":2,"seq":4'))
    assert (await follow(server, 4))[0] == [1, 4]


async def test_an_unknown_session_is_refused(server: FakeServer) -> None:
    async def find() -> Endpoint:
        return Endpoint(server.url, KEY)

    async with Client(find) as client:
        other = viewing.Viewer(client, "9" * 36, 0, lambda words: None)
        with pytest.raises(Refused, match="no such session"):
            await anext(other.follow())


async def test_a_server_that_comes_back_elsewhere_is_found(server: FakeServer) -> None:
    """Restarted on another port, as one on port 0 is."""
    text(server, *"abc")
    async with FakeServer().running() as second:
        text(second, *"abcde")
        server.cuts = [3]
        url = server.url

        def moved(seq: int) -> None:
            server.url = second.url

        assert (await follow(server, 5, each=moved))[0] == [1, 2, 3, 4, 5]
        assert second.subscriptions == [{"after": 3, "epoch": "e1"}]
        server.url = url


async def test_a_server_that_stays_away_is_given_up(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(viewing, "GIVE_UP_S", 0.3)
    text(server, *"abc")
    server.cuts = [3]

    def gone(seq: int) -> None:
        server.url = "http://127.0.0.1:9"

    with pytest.raises(NoServer, match="127"):
        await follow(server, 9, each=gone)
