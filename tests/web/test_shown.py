"""Credentials of the event API at each of the points where one is shown: the connection, a subscribe, a publish by
either door."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio

from pilothouse.core.access import SCOPES
from pilothouse.core.bucket import Rates
from tests.core.signing import signed
from tests.engine.fakes import HandClock
from tests.issuer import NOW, FakeIssuer
from tests.web.bare import HOUSE, NO, PUB, SUB, opened, post, refusing, text
from tests.web.serving import Served, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["hot", "plain"])
async def served(request: pytest.FixtureRequest) -> AsyncIterator[Served]:
    async with refusing(hot=request.param == "hot") as running:
        yield running


async def _nothing(served: Served, payload: Any) -> dict[str, str]:
    return {}


async def _unknown_key(served: Served, payload: Any) -> dict[str, str]:
    return {"x-api-key": "ph_000000000000_" + "x" * 43}


async def _revoked_key(served: Served, payload: Any) -> dict[str, str]:
    record, secret = await served.identity.keys.create("gone", SCOPES)
    await served.identity.keys.revoke(record.id)
    return {"x-api-key": secret}


async def _two(served: Served, payload: Any) -> dict[str, str]:
    key = await served.key()
    return {"x-api-key": key, "authorization": f"Bearer {key}"}


async def _other_issuer(served: Served, payload: Any) -> dict[str, str]:
    now = int(time.time())
    return {"authorization": FakeIssuer("https://other.example").token(iat=now, exp=now + 600, groups=["boss"])}


async def _forged(served: Served, payload: Any) -> dict[str, str]:
    now = int(time.time())
    return {"authorization": FakeIssuer().token(iat=now, exp=now + 600, groups=["boss"])}


async def _other_audience(served: Served, payload: Any) -> dict[str, str]:
    now = int(time.time())
    return {"authorization": HOUSE.token(iat=now, exp=now + 600, aud="somebody-else", groups=["boss"])}


async def _expired_token(served: Served, payload: Any) -> dict[str, str]:
    now = int(time.time())
    return {"authorization": "Bearer " + HOUSE.token(iat=now - 900, exp=now - 600, groups=["boss"])}


async def _alg_none(served: Served, payload: Any) -> dict[str, str]:
    now = int(time.time())
    claims = HOUSE.claims(iat=now, exp=now + 600, groups=["boss"])
    return {"authorization": HOUSE.signed({"alg": "none", "kid": "one", "typ": "JWT"}, claims)}


async def _basic(served: Served, payload: Any) -> dict[str, str]:
    return {"authorization": "Basic eDp5"}


def _sigv4(**how: Any) -> Callable[[Served, Any], Any]:
    async def made(served: Served, payload: Any) -> dict[str, str]:
        record, secret = await served.platform.pairs.create("x", SCOPES, account="local")
        body = payload if isinstance(payload, bytes) else json.dumps(payload, separators=(",", ":")).encode()
        usual: dict[str, Any] = {"now": time.time(), "service": "appsync", "key": (record.id, secret.secret_access_key)}
        asked = signed("POST", f"{served.url}/event", body=body, **(usual | how))
        return {name.lower(): value for name, value in asked.headers}

    return made


CREDENTIALS: dict[str, Callable[[Served, Any], Any]] = {
    "none": _nothing, "an unknown key": _unknown_key, "a revoked key": _revoked_key, "two": _two,
    "a token of another issuer": _other_issuer, "a token by another's key": _forged, "basic": _basic,
    "a token for somebody else": _other_audience, "a token that is too old": _expired_token, "alg none": _alg_none,
    "a signature of six minutes ago": lambda s, p: _sigv4(now=time.time() - 360)(s, p),
    "a signature of the future": lambda s, p: _sigv4(now=time.time() + 360)(s, p),
    "a signature for another service": _sigv4(service="execute-api"),
    "a signature by another secret": lambda s, p: _sigv4(key=("PHKAAAAAAAAAAAAAAAAA", "x" * 40))(s, p),
    "a signature for something else": lambda s, p: _sigv4()(s, {"channel": "default/else"}),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(CREDENTIALS))
async def test_c14_a_wrong_credential_is_refused_at_each_point(
    served: Served, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pilothouse.engine.gate.WRONG", Rates(1000, 1000, 0))  # there are many, and one address
    make = CREDENTIALS[name]
    async with opened(served, await make(served, {})) as stranger:
        stranger.say(text({"type": "connection_init"}))
        said = await stranger.hear()
        assert isinstance(said, dict)
        assert (said["type"], said["errors"][0]["errorCode"]) == ("connection_error", 401)
        assert await stranger.hear() == 1000
    async with opened(served) as one:
        one.say(text(SUB | {"authorization": await make(served, {"channel": "default/a"})}))
        assert await one.brief() == ("subscribe_error", "s", NO)
        one.say(text(PUB | {"authorization": await make(served, {"channel": "default/a", "events": ["1"]})}))
        assert await one.brief() == ("publish_error", "p", NO)
    body = json.dumps({"channel": "default/a", "events": ["1"]}).encode()
    given = await make(served, body)
    status, headers, said = await post(served, body, *[(n, v) for n, v in given.items() if n != "host"])
    assert (status, headers["x-amzn-errortype"], said["errors"][0]["errorType"]) == (401, NO, NO)


async def test_what_is_right_is_taken_at_each_point(served: Served) -> None:
    """Or the tests above would prove nothing."""
    now, good = int(time.time()), _sigv4()
    token = {"authorization": HOUSE.token(iat=now, exp=now + 600, groups=["boss"])}
    for given in (await good(served, {}), token):
        async with opened(served, given) as one:
            one.say(text({"type": "connection_init"}))
            assert await one.brief() == ("connection_ack", None, "")
            assert await one.brief() == ("ka", None, "")
            signature = given is not token
            given = await good(served, {"channel": "signed/a"}) if signature else token
            one.say(text(SUB | {"channel": "signed/a" if signature else "default/a", "authorization": given}))
            assert await one.brief() == ("subscribe_success", "s", "")


async def test_c12_a_token_that_ends_ends_what_it_opened_and_nothing_else() -> None:
    clock = HandClock(NOW)
    async with serving(clock=clock, houses=[HOUSE]) as served:
        token = {"authorization": HOUSE.token(groups=["boss"])}
        async with opened(served) as one, opened(served, token) as other:
            one.say(text(SUB | {"authorization": {"x-api-key": await served.key()}}))
            assert await one.brief() == ("subscribe_success", "s", "")
            one.say(text(SUB | {"id": "t", "authorization": token}))
            assert await one.brief() == ("subscribe_success", "t", "")
            other.say(text({"type": "unsubscribe", "id": "x"}))
            assert await other.brief() == ("unsubscribe_error", "x", "UnknownOperationError")
            await clock.wind(700)
            assert await other.hear() == 1001
            assert await one.brief() == ("error", "t", NO)
            one.say(text(SUB | {"id": "u", "authorization": token}))
            assert await one.brief() == ("subscribe_error", "u", NO)
            one.say(text({"type": "unsubscribe", "id": "s"}))
            assert await one.brief() == ("unsubscribe_success", "s", "")
