"""Many subscribers and publishers, cut connections and cursors: each ends with exactly the log's sequence."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random

import httpx
import pytest
import websockets

from pilothouse.core.namespaces import Namespace
from tests.web.serving import Served, serving
from tests.web.test_realtime import url

SUBSCRIBERS = 20
PUBLISHERS = 5
EVENTS = 600


async def follow(served: Served, key: str, chance: random.Random, seen: list[tuple[int, str]]) -> None:
    """Comes back with its cursor, however often and wherever it is cut; sometimes it does not read for a while."""
    while len(seen) < EVENTS:
        with contextlib.suppress(websockets.ConnectionClosed, OSError):
            async with websockets.connect(
                url(served), additional_headers={"x-api-key": key}, max_queue=1, close_timeout=0.1
            ) as socket:
                after = seen[-1][0] if seen else 0
                said = {"type": "subscribe", "id": "s", "channel": "kept/log", "after": after}
                await socket.send(json.dumps(said | {"authorization": {"x-api-key": key}}))
                stays = chance.randrange(20, 250)
                while len(seen) < EVENTS and stays:
                    frame = json.loads(await socket.recv())
                    assert frame["type"] in {"data", "subscribe_success"}, frame
                    if frame["type"] == "data":
                        seen.append((frame["seq"], frame["event"]))
                    stays -= 1
                    if chance.random() < 0.002:
                        await asyncio.sleep(0.02)
                if chance.random() < 0.5:
                    socket.transport.abort()


async def publish(served: Served, key: str, who: int) -> None:
    async with httpx.AsyncClient(base_url=served.url, headers={"x-api-key": key}, timeout=30) as http:
        for first in range(0, EVENTS // PUBLISHERS, 4):
            events = [json.dumps([who, number]) for number in range(first, first + 4)]
            answer = await http.post("/event", json={"channel": "kept/log", "events": events})
            assert len(answer.json()["successful"]) == 4


@pytest.mark.parametrize("kind", ["hot"])
async def test_every_subscriber_ends_with_the_log_s_sequence(kind: str) -> None:
    async with serving(hot=kind == "hot", namespaces=[Namespace("kept", history=100_000)]) as served:
        key = await served.key()
        seen: list[list[tuple[int, str]]] = [[] for _ in range(SUBSCRIBERS)]
        followers = [follow(served, key, random.Random(n), one) for n, one in enumerate(seen)]
        publishers = [publish(served, key, who) for who in range(PUBLISHERS)]
        async with asyncio.timeout(120):
            await asyncio.gather(*followers, *publishers)
        assert [seq for seq, _ in seen[0]] == list(range(1, EVENTS + 1))
        assert all(one == seen[0] for one in seen)
        by_publisher = [json.loads(event) for _, event in seen[0]]
        for who in range(PUBLISHERS):
            assert [n for w, n in by_publisher if w == who] == list(range(EVENTS // PUBLISHERS))
