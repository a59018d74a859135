"""A subscriber that does not read, by a socket of its own: what it costs has an end, and nobody else notices."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from pilothouse.core.namespaces import Namespace
from pilothouse.engine import fanout
from pilothouse.engine.fanout import AHEAD_MAX, AWAY
from pilothouse.web.conversation import Conversation
from pilothouse.web.socket import Limits
from tests.security import raw
from tests.storm.wire import CLOSE, TEXT, frame
from tests.web.serving import Served, serving
from tests.web.test_dialogs import Job
from tests.web.test_realtime import Client, client

LIMITS = Limits(close_s=0.2)
EVENT = 200_000
REQUEST = 5 * EVENT + 10_000
REQUESTS = 24
"""Far more than sockets and tails hold."""
COST_MAX = LIMITS.high_water + AHEAD_MAX + REQUEST
"""Bytes that the socket of one subscriber may hold; and a channel for all those who are slow together."""


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with serving(bounds=LIMITS, namespaces=[Namespace("default"), Namespace("kept", history=10_000)]) as running:
        yield running


class Unread:
    """Reads nothing until it is asked what it hears."""

    def __init__(self, served: Served, key: str) -> None:
        self._served = served
        self._key = key
        self._got = bytearray()
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
        self._socket.setblocking(False)

    async def subscribe(self, channel: str, **more: Any) -> None:
        loop = asyncio.get_running_loop()
        await loop.sock_connect(self._socket, ("127.0.0.1", self._served.port))
        await loop.sock_sendall(
            self._socket, raw.upgrade("/event/realtime", {"host": "127.0.0.1", "x-api-key": self._key})
        )
        while b"\r\n\r\n" not in self._got:
            self._got += await loop.sock_recv(self._socket, 4096)
        assert self._got.startswith(b"HTTP/1.1 101 ")
        del self._got[: self._got.index(b"\r\n\r\n") + 4]
        said = {"type": "subscribe", "id": "s", "channel": channel, "authorization": {"x-api-key": self._key}}
        await loop.sock_sendall(self._socket, frame(TEXT, json.dumps(said | more).encode()))
        assert (await self.hear())["type"] == "subscribe_success"

    async def hear(self) -> dict[str, Any]:
        """A message; of the closing, its code."""
        first, size = await self._bytes(2)
        if size >= 126:
            size = int.from_bytes(await self._bytes(2 if size == 126 else 8))
        payload = await self._bytes(size)
        if first == CLOSE:
            return {"type": "close", "code": int.from_bytes(payload[:2])}
        found: dict[str, Any] = json.loads(payload)
        return found

    async def _bytes(self, count: int) -> bytes:
        while len(self._got) < count:
            async with asyncio.timeout(10):
                more = await asyncio.get_running_loop().sock_recv(self._socket, 1 << 20)
            if not more:
                raise ConnectionError("it was cut")
            self._got += more
        found = bytes(self._got[:count])
        del self._got[:count]
        return found

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
async def unread(served: Served) -> AsyncIterator[Unread]:
    made = Unread(served, await served.key())
    yield made
    made.close()


def bounded(served: Served) -> None:
    """What anybody's socket and any channel hold at this moment."""
    channels, dialogs = served.platform.channels, served.platform.dialogs
    assert channels is not None
    assert dialogs is not None
    there = [one for mine in served.hub._open.values() for one in mine if isinstance(one, Conversation)]
    assert max((one.socket.buffered() for one in there), default=0) <= COST_MAX
    feeds = [*channels._feeds.values(), *[feed for watch in dialogs._watches.values() for feed in watch.feeds.values()]]
    assert max((feed._size for feed in feeds), default=0) <= COST_MAX


async def flood(served: Served, one: Client, channel: str) -> None:
    """Publishes much, and another subscriber hears each event before the next are published."""
    async with httpx.AsyncClient(base_url=served.url, headers={"x-api-key": await served.key()}) as http:
        for number in range(REQUESTS):
            events = [json.dumps([number * 5 + n, "x" * EVENT]) for n in range(5)]
            answer = await http.post("/event", json={"channel": channel, "events": events})
            assert answer.status_code == 200
            assert [(await one.hear())["event"] for _ in events] == events
            bounded(served)


def number(said: dict[str, Any]) -> int:
    found: int = json.loads(said["event"])[0]
    return found


async def test_c30_one_that_does_not_read_a_channel_with_a_history_goes_on_at_its_cursor(
    served: Served, unread: Unread
) -> None:
    await unread.subscribe("kept/flood", after=0)
    async with client(served) as one:
        await one.subscribe("s", "kept/flood")
        await flood(served, one, "kept/flood")
        heard: list[dict[str, Any]] = []
        while len(heard) < REQUESTS * 5:
            heard.append(await unread.hear())
            bounded(served)
        assert [said["seq"] for said in heard] == list(range(1, REQUESTS * 5 + 1))
        assert [number(said) for said in heard] == list(range(REQUESTS * 5))
        await one.publish("p", "kept/flood", "[-1]")
        assert number(await unread.hear()) == -1, "and then it is one of all"


async def test_c30_one_that_does_not_read_a_channel_without_is_sent_away(served: Served, unread: Unread) -> None:
    """What it gets has no hole: it ends."""
    await unread.subscribe("default/flood")
    async with client(served) as one:
        await one.subscribe("s", "default/flood")
        await flood(served, one, "default/flood")
    heard = []
    while (said := await unread.hear())["type"] == "data":
        heard.append(number(said))
    assert said == {"type": "close", "code": AWAY}
    assert heard == list(range(len(heard)))
    assert len(heard) < REQUESTS * 5


@pytest.mark.parametrize("channel", ["default/flood", "kept/flood"])
async def test_c30_one_that_never_reads_again_is_let_go(
    served: Served, unread: Unread, channel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fanout, "SLOW_S", 1.0)
    await unread.subscribe(channel)
    async with client(served) as one:
        await one.subscribe("s", channel)
        await flood(served, one, channel)
        async with asyncio.timeout(20):
            while sum(len(mine) for mine in served.hub._open.values()) > 1:
                await asyncio.sleep(0.01)
            while len(served.server.server_state.connections) > 2:  # nothing of it is kept
                await asyncio.sleep(0.01)
        assert (await one.publish("p", channel, "[-1]"))["type"] in {"data", "publish_success"}


async def test_c30_one_that_does_not_read_a_job_s_channel_goes_on_at_its_cursor(served: Served, unread: Unread) -> None:
    job = await Job.begin(served)
    await unread.subscribe(f"dialog/{job.id}", after=0)
    async with client(served) as one:
        await one.subscribe("s", f"dialog/{job.id}", after=0)
        heard: list[dict[str, Any]] = []
        for _ in range(400):
            job.say("x" * 30_000)
            while job.runner.acked < job.runner.n:
                await asyncio.sleep(0)
            bounded(served)
        await job.end()
        while not heard or json.loads(heard[-1]["event"])["type"] != "complete":
            heard.append(await one.hear())
            bounded(served)
        assert len(heard) > 400
        for said in heard:
            assert await unread.hear() == said
            bounded(served)
