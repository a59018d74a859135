"""AWS Amplify's `events` client, unmodified, against the event API."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.web.amplify import MISSING, REASON, Amplify, Refused, amplify
from tests.web.serving import Served, serving

pytestmark = [
    pytest.mark.skipif(MISSING, reason=REASON),
    pytest.mark.asyncio(loop_scope="module"),
]
VALUES = [{"n": 1, "t": 'hé ✓ "q" /'}, "text", 3, None, True]


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["hot", "plain"])
async def served(request: pytest.FixtureRequest) -> AsyncIterator[Served]:
    async with serving(hot=request.param == "hot") as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def client(served: Served) -> AsyncIterator[Amplify]:
    async with amplify() as running:
        yield running


async def test_connects_subscribes_publishes_and_closes_with_a_key(served: Served, client: Amplify) -> None:
    endpoint = f"{served.url.replace('http', 'HTTP')}/event"
    await client.do("configure", endpoint=endpoint, mode="apiKey", apiKey=await served.key())
    await client.do("connect", name="room", channel="/default/room")
    await client.do("connect", name="all", channel="/default/*")
    await client.do("subscribe", name="room")
    await client.do("subscribe", name="all")
    assert await client.do("post", channel="default/room", value=VALUES) is None
    both = await client.hear(10)
    assert [event for name, event in both if name == "room"] == VALUES
    assert [event for name, event in both if name == "all"] == VALUES
    await client.do("publish", name="room", value={"ws": 1})
    assert sorted(name for name, event in await client.hear(2) if event == {"ws": 1}) == ["all", "room"]
    await client.do("post", channel="default/other/place", value="deeper")
    assert await client.hear(1) == [("all", "deeper")]
    await client.do("close", name="all")
    await client.do("post", channel="default/other", value="nobody hears")
    await client.do("post", channel="default/room", value="last")
    assert await client.hear(1) == [("room", "last")]
    with pytest.raises(Refused, match="5 event limit"):
        await client.do("post", channel="default/room", value=[1] * 6)
    with pytest.raises(Refused) as refused:
        await client.do("post", channel="nowhere/room", value=1)
    assert refused.value.name == "UnauthorizedException"
    await client.do("closeAll")


async def test_a_wrong_key_is_told_at_once(served: Served, client: Amplify) -> None:
    """Not after the six attempts that Amplify makes where it is told nothing."""
    endpoint = f"{served.url.replace('http', 'HTTP')}/event"
    await client.do("configure", endpoint=endpoint, mode="apiKey", apiKey="wrong")
    with pytest.raises(Refused) as refused:
        await client.do("connect", name="room", channel="/default/room")
    assert "UnauthorizedException" in refused.value.message
    with pytest.raises(Refused) as unpublished:
        await client.do("post", channel="default/room", value=1)
    assert unpublished.value.name == "UnauthorizedException"
