"""AWS Amplify's `events` client, unmodified, against the event API."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from pilothouse.adapters.hooks.python import PythonHook
from pilothouse.adapters.stores.memory import MemoryStore
from pilothouse.core.access import SCOPES
from pilothouse.core.authorizer import Terms
from pilothouse.core.namespaces import Namespace
from pilothouse.engine.authorizer import Authorizer
from pilothouse.engine.clock import SystemClock
from pilothouse.engine.hooks import Bounded
from tests.issuer import FakeIssuer
from tests.web.amplify import MISSING, REASON, Amplify, Refused, amplify
from tests.web.serving import Served, serving

pytestmark = [
    pytest.mark.skipif(MISSING, reason=REASON),
    pytest.mark.asyncio(loop_scope="module"),
]
VALUES = [{"n": 1, "t": 'hé ✓ "q" /'}, "text", 3, None, True]


HOUSE = FakeIssuer()


async def lets_in(event: Any, context: Any) -> Any:
    """A custom authorizer: who says open may do everything but publish to `sealed`."""
    where = event["requestContext"].get("channel")
    return {"isAuthorized": event["authorizationToken"] == "open sesame" and where != "/default/sealed"}


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["hot", "plain"])
async def served(request: pytest.FixtureRequest) -> AsyncIterator[Served]:
    authorizer = Authorizer(Bounded(PythonHook("test", lets_in)), SystemClock(), Terms())
    async with serving(hot=request.param == "hot", houses=[HOUSE], authorizer=authorizer) as running:
        yield running


async def options(served: Served, mode: str) -> dict[str, Any]:
    """What Amplify is configured with, good for a caller who may publish."""
    if mode == "iam":
        record, secret = await served.platform.pairs.create("amplify", SCOPES, account="local", token=True)
        keys = {
            "accessKeyId": record.id, "secretAccessKey": secret.secret_access_key, "sessionToken": secret.session_token,
        }  # fmt: skip
        return {"mode": mode, "credentials": keys}
    if mode == "oidc":
        now = int(time.time())
        return {"mode": mode, "token": HOUSE.token(iat=now, exp=now + 600, groups=["ops"])}
    return {"mode": mode, "apiKey": await served.key()} if mode == "apiKey" else {"mode": mode}


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


@pytest.mark.parametrize("mode", ["iam", "oidc", "lambda"])
async def test_every_other_way_to_say_who_one_is(served: Served, client: Amplify, mode: str) -> None:
    await client.do("configure", endpoint=f"{served.url.replace('http', 'HTTP')}/event", **await options(served, mode))
    how = {"options": {"authMode": "lambda", "authToken": "open sesame"}} if mode == "lambda" else {}
    for name, channel in (("room", "default/room"), ("all", "/default/*")):
        await client.do("connect", name=name, channel=channel, **how)
        await client.do("subscribe", name=name, **how)
    assert await client.do("post", channel="default/room", value=VALUES, **how) is None
    assert [event for name, event in await client.hear(10) if name == "room"] == VALUES
    await client.do("publish", name="room", value=VALUES, **how)
    assert [event for name, event in await client.hear(10) if name == "all"] == VALUES
    await client.do("closeAll")


async def test_the_authorizer_is_asked_at_each_step(served: Served, client: Amplify) -> None:
    await client.do("configure", endpoint=f"{served.url.replace('http', 'HTTP')}/event", mode="lambda")
    how: dict[str, Any] = {"options": {"authMode": "lambda", "authToken": "open sesame"}}
    with pytest.raises(Refused, match="UnauthorizedException"):
        await client.do("connect", name="no", channel="default/room", options=how["options"] | {"authToken": "please"})
    await client.do("connect", name="sealed", channel="default/sealed", **how)
    with pytest.raises(Refused, match="UnauthorizedException"):
        await client.do("subscribe", name="sealed", **how)
    with pytest.raises(Refused, match="UnauthorizedException"):
        await client.do("publish", name="sealed", value=1, **how)
    with pytest.raises(Refused, match="not authorized"):
        await client.do("post", channel="default/sealed", value=1, **how)
    await client.do("closeAll")


async def test_c14_a_token_that_is_none_of_ours(served: Served, client: Amplify) -> None:
    """Of another issuer, too old, not signed: refused at once, as a key is."""
    now = int(time.time())
    other = FakeIssuer("https://other.example")
    none = HOUSE.signed({"alg": "none", "kid": "one", "typ": "JWT"}, HOUSE.claims(iat=now, exp=now + 600))
    for token in (other.token(iat=now, exp=now + 600), HOUSE.token(iat=now - 900, exp=now - 600), none):
        await client.do("configure", endpoint=f"{served.url.replace('http', 'HTTP')}/event", mode="oidc", token=token)
        with pytest.raises(Refused, match="UnauthorizedException"):
            await client.do("connect", name="room", channel="/default/room")
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


async def test_it_comes_back_to_a_server_that_was_started_again() -> None:
    """On the same port and store, with the same subscriptions, by itself."""
    async with amplify() as client:
        await _comes_back(client)


async def _comes_back(client: Amplify) -> None:
    store, clock = MemoryStore(), SystemClock()
    kept = [Namespace("kept", history=10)]
    async with serving(store=store, clock=clock, namespaces=kept) as first:
        port, key = first.port, await first.key()
        endpoint = f"{first.url.replace('http', 'HTTP')}/event"
        await client.do("configure", endpoint=endpoint, mode="apiKey", apiKey=key)
        for name, channel in (("room", "kept/room"), ("all", "/kept/*")):
            await client.do("connect", name=name, channel=channel)
            await client.do("subscribe", name=name)
        await client.do("post", channel="kept/room", value="before")
        assert sorted(await client.hear(2)) == [("all", "before"), ("room", "before")]
        client.states.clear()
    async with serving(store=store, clock=clock, namespaces=kept, port=port):
        await client.see("ConnectionDisrupted")
        await client.see("Connected")
        await client.do("post", channel="kept/room", value="after")
        assert sorted(await client.hear(2)) == [("all", "after"), ("room", "after")]
        await client.do("closeAll")
