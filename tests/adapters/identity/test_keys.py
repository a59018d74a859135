"""Keys of issuers: asked for seldom, kept while the issuer is away, and changed when it changes them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pilothouse.adapters.identity.documents import NotFetched
from pilothouse.adapters.identity.keys import FRESH_S, REFRESH_S, RETRY_S, STALE_S, IssuerKeys, key_set
from pilothouse.core.claims import Issuer
from pilothouse.core.errors import Unavailable
from pilothouse.core.token import BadToken, parse
from tests.clock import HandClock
from tests.issuer import FakeIssuer, ec_key, jwk, rsa_key


@pytest.fixture
def house() -> FakeIssuer:
    return FakeIssuer()


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


async def settle(keys: IssuerKeys) -> None:
    """Until nothing is looked for in the background."""
    await asyncio.gather(*[one.looking for one in keys._known.values() if one.looking is not None])
    await asyncio.sleep(0)


async def test_keys_are_fetched_once(house: FakeIssuer, clock: HandClock) -> None:
    keys = IssuerKeys(house, clock)
    await asyncio.gather(*[keys.check(house.issuer, parse(house.token())) for _ in range(20)])
    assert house.asked == [house.issuer.discovery, "https://issuer.example/keys"]


async def test_c14_many_unknown_key_ids_cause_one_look_per_minute(house: FakeIssuer, clock: HandClock) -> None:
    keys = IssuerKeys(house, clock)
    await keys.check(house.issuer, parse(house.token()))

    async def flood() -> None:
        tokens = [parse(house.token({"kid": f"unknown {n}"})) for n in range(50)]
        refused = await asyncio.gather(*[keys.check(house.issuer, t) for t in tokens], return_exceptions=True)
        assert all(isinstance(r, BadToken) for r in refused)

    await flood()
    assert len(house.asked) == 2, "they came a moment ago"
    for looks in (2, 3):
        clock.seconds += REFRESH_S
        await flood()
        assert len(house.asked) == 2 * looks
    await keys.check(house.issuer, parse(house.token()))


async def test_a_new_key_is_found_and_an_old_one_goes(house: FakeIssuer, clock: HandClock) -> None:
    keys = IssuerKeys(house, clock)
    old = parse(house.token())
    await keys.check(house.issuer, old)
    house.key, house.kid = ec_key(), "two"
    clock.seconds += REFRESH_S
    await keys.check(house.issuer, parse(house.token()))
    with pytest.raises(BadToken, match="no such key"):
        await keys.check(house.issuer, old)


async def test_a_key_that_is_taken_back_goes_within_an_hour(house: FakeIssuer, clock: HandClock) -> None:
    keys = IssuerKeys(house, clock)
    old = parse(house.token())
    await keys.check(house.issuer, old)
    house.keys = []
    clock.seconds += FRESH_S
    await keys.check(house.issuer, old)  # and looks, without keeping anybody waiting
    await settle(keys)
    with pytest.raises(BadToken, match="no such key"):
        await keys.check(house.issuer, old)


async def test_keys_outlive_the_issuer_for_a_day(house: FakeIssuer, clock: HandClock) -> None:
    keys = IssuerKeys(house, clock)
    token = parse(house.token())
    await keys.check(house.issuer, token)
    house.down = "away"
    for _ in range(23):
        clock.seconds += FRESH_S
        await keys.check(house.issuer, token)
        await settle(keys)
    clock.seconds += STALE_S
    with pytest.raises(Unavailable):
        await keys.check(house.issuer, token)
    house.down = ""
    clock.seconds += RETRY_S
    await keys.check(house.issuer, token)


async def test_an_issuer_that_is_down_is_asked_seldom(house: FakeIssuer, clock: HandClock) -> None:
    house.down = "away"
    keys = IssuerKeys(house, clock)
    for _ in range(10):
        with pytest.raises(Unavailable):
            await keys.check(house.issuer, parse(house.token()))
    assert len(house.asked) == 1
    clock.seconds += RETRY_S
    house.down = ""
    await keys.check(house.issuer, parse(house.token()))


async def test_who_gives_up_waiting_does_not_end_it_for_others(house: FakeIssuer, clock: HandClock) -> None:
    class Slow(FakeIssuer):
        gate = asyncio.Event()

        async def get(self, issuer: Issuer, url: str) -> dict[str, Any]:
            await self.gate.wait()
            return await super().get(issuer, url)

    slow = Slow()
    keys = IssuerKeys(slow, clock)
    first, second = [asyncio.create_task(keys.check(slow.issuer, parse(slow.token()))) for _ in range(2)]
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    slow.gate.set()
    await second
    assert first.cancelled()
    assert len(slow.asked) == 2


@pytest.mark.parametrize("answer", [
    {"issuer": "https://evil.example", "jwks_uri": "https://issuer.example/keys"},
    {"issuer": "https://issuer.example/", "jwks_uri": "https://issuer.example/keys"},
    {"jwks_uri": "https://issuer.example/keys"}, {"issuer": "https://issuer.example"},
    {"issuer": "https://issuer.example", "jwks_uri": ["https://issuer.example/keys"]}, {},
])  # fmt: skip
async def test_c14_a_discovery_document_that_is_not_the_issuers_gives_no_keys(
    clock: HandClock, answer: dict[str, Any]
) -> None:
    class Wrong(FakeIssuer):
        async def get(self, issuer: Issuer, url: str) -> dict[str, Any]:
            return answer if url == issuer.discovery else await super().get(issuer, url)

    house = Wrong()
    with pytest.raises(Unavailable):
        await IssuerKeys(house, clock).check(house.issuer, parse(house.token()))
    assert house.asked == []


def test_keys_that_verify_no_token_are_left_out() -> None:
    key = ec_key()
    good = jwk(key, "good", "ES256")
    document = {
        "keys": [
            good, 7, {}, {"kty": "oct", "kid": "shared", "k": "c2VjcmV0"}, good | {"kid": "enc", "use": "enc"},
            good | {"kid": 7}, {k: v for k, v in good.items() if k != "kid"}, good | {"kid": "twice"},
            good | {"kid": "twice"}, good | {"kid": "ops", "key_ops": ["encrypt"]},
            good | {"kid": "odd", "kty": ["EC"]},
        ]
    }  # fmt: skip
    assert list(key_set(document)) == ["good"]
    many = {"keys": [good | {"kid": str(n)} for n in range(1000)]}
    assert len(key_set(many)) == 100
    broken: dict[str, Any]
    for broken in ({}, {"keys": {}}, {"keys": None}, {"keys": "x"}):
        with pytest.raises(NotFetched):
            key_set(broken)


@pytest.mark.parametrize("change", [
    {"n": "AQAB"}, {"n": 7}, {"n": ""}, {"e": "AA"}, {"n": "!"}, {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"},
])  # fmt: skip
async def test_a_key_that_is_none_verifies_nothing(house: FakeIssuer, clock: HandClock, change: dict[str, Any]) -> None:
    house.key, house.alg = rsa_key(), "RS256"
    house.keys = [jwk(house.key, "one", "RS256") | change]
    with pytest.raises(BadToken):
        await IssuerKeys(house, clock).check(house.issuer, parse(house.token()))


async def test_a_short_key_is_refused(house: FakeIssuer, clock: HandClock) -> None:
    house.key, house.alg = rsa_key(1024), "RS256"
    with pytest.raises(BadToken, match="bits"):
        await IssuerKeys(house, clock).check(house.issuer, parse(house.token()))
