"""Key pairs: whose signature it is, and that one that ended stays so, whatever happens at that moment."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

import msgspec
import pytest

from pilothouse.adapters.stores.memory import MemoryStore
from pilothouse.core import proof
from pilothouse.core.access import Principal
from pilothouse.core.errors import BadRequest, BadSignature, NotFound, Unavailable
from pilothouse.engine.identity import Identity
from pilothouse.engine.keypairs import EXPIRES_MAX_S, KeyPairs, PairRecord, Secret
from pilothouse.engine.ports import Put
from tests.core.signing import Request, signed
from tests.engine.fakes import HandClock, PlainSealer
from tests.engine.test_identity import SlowStore


class House:
    def __init__(self, store: MemoryStore | None = None, clock: HandClock | None = None, region: str = "") -> None:
        self.store = store or MemoryStore()
        self.clock = clock or HandClock()
        self.identity = Identity(self.store, self.clock)
        self.pairs = KeyPairs(self.store, self.clock, PlainSealer(), self.identity, region)

    async def make(self, *, token: bool = False, expires_in_s: float | None = None) -> tuple[PairRecord, Secret]:
        return await self.pairs.create("ci", ("read", "run"), account="local", token=token, expires_in_s=expires_in_s)

    def request(self, record: PairRecord, secret: Secret, **how: object) -> Request:
        given = {"key": (record.id, secret.secret_access_key), "token": secret.session_token, "now": self.clock.now()}
        return signed(**(given | how))  # type: ignore[arg-type]

    async def who(self, request: Request) -> Principal:
        return await self.pairs.by_claim(request.claim(), having(proof.digest(request.body)))


def having(*hashes: str) -> Callable[[], Awaitable[Iterable[str]]]:
    async def payload() -> Iterable[str]:
        return hashes

    return payload


async def unread() -> Iterable[str]:
    raise AssertionError("the payload was asked for")


async def test_who_signs_is_whom_the_record_names() -> None:
    house = House()
    record, secret = await house.make()
    assert record.id.startswith("PHKA")
    assert (len(record.id), len(secret.secret_access_key), secret.session_token) == (20, 40, None)
    who = await house.who(house.request(record, secret, body=b"x"))
    assert (who.kind, who.id, who.name, who.account) == ("key", record.id, "ci", "local")
    assert who.scopes == {"read", "run"}
    assert who.credential == f"sigv4:{record.id}"
    assert house.identity.left(who) is None
    again = House(house.store, house.clock)  # after a restart
    assert await again.who(again.request(record, secret)) == who
    assert (await again.pairs.all())[0].last_used_at == house.clock.now()


async def test_another_secret_an_unknown_key_and_another_body_are_refused() -> None:
    house = House()
    record, secret = await house.make()
    _, others = await house.make()
    for request, reason in (
        (house.request(record, others), "mismatch"),
        (house.request(record, secret, key=("PHKA" + "A" * 16, secret.secret_access_key)), "unknown_key"),
        (house.request(record, secret, key=("AKIDEXAMPLE", secret.secret_access_key)), "unknown_key"),
        (house.request(record, secret, token="t"), "token"),
    ):
        with pytest.raises(BadSignature) as refusal:
            await house.who(request)
        assert refusal.value.details == {"reason": reason}
    claim = house.request(record, secret, body=b"x").claim()
    with pytest.raises(BadSignature, match="does not match"):
        await house.pairs.by_claim(claim, having(proof.digest(b"y")))
    assert all(p.last_used_at is None for p in await house.pairs.all())


async def test_a_declared_hash_is_checked_before_the_body_is_read_and_against_it_after() -> None:
    house = House()
    record, secret = await house.make()
    declared = (("x-amz-content-sha256", proof.digest(b"x")),)
    good = house.request(record, secret, headers=declared, body=b"x").claim()
    await house.pairs.by_claim(good, having(proof.digest(b"x")))
    with pytest.raises(BadSignature, match="another hash"):
        await house.pairs.by_claim(good, having(proof.digest(b"y")))
    forged = house.request(record, secret, headers=declared, key=(record.id, "x" * 40)).claim()
    unknown = house.request(record, secret, headers=declared, key=("PHKA" + "A" * 16, "x")).claim()
    old = house.request(record, secret, now=house.clock.now() - 301).claim()
    for claim in (forged, unknown, old):
        with pytest.raises(BadSignature):
            await house.pairs.by_claim(claim, unread)


async def test_a_session_token_has_to_come_with_its_pair() -> None:
    house = House()
    record, secret = await house.make(token=True)
    assert secret.session_token
    await house.who(house.request(record, secret))
    await house.who(house.request(record, secret, presigned=60))
    for token in (None, "t", secret.session_token + "x"):
        with pytest.raises(BadSignature, match="X-Amz-Security-Token"):
            await house.who(house.request(record, secret, token=token))


async def test_a_region_that_is_configured_is_the_only_one() -> None:
    house = House(region="eu-west-1")
    record, secret = await house.make()
    await house.who(house.request(record, secret, region="eu-west-1"))
    with pytest.raises(BadSignature, match="region"):
        await house.who(house.request(record, secret))


async def test_a_pair_ends_when_it_was_to() -> None:
    house = House()
    record, secret = await house.make(expires_in_s=100)
    who = await house.who(house.request(record, secret))
    assert (who.expires_at, house.identity.left(who)) == (house.clock.now() + 100, 100)
    await house.clock.wind(100)
    assert house.identity.left(who) == 0
    with pytest.raises(BadSignature, match="has ended"):
        await house.who(house.request(record, secret))
    assert len(await house.pairs.all()) == 1
    await house.make()
    assert record.id not in [p.id for p in await house.pairs.all()]


async def test_a_revoked_pair_is_refused_at_once_and_told() -> None:
    house = House()
    told: list[str] = []
    house.identity.on_revoke.append(told.append)
    record, secret = await house.make()
    request = house.request(record, secret)
    who = await house.who(request)
    with pytest.raises(NotFound):
        await house.pairs.revoke(record.id, "another organisation")
    await house.pairs.revoke(record.id, "default")
    assert told == [who.credential]
    assert house.identity.left(who) == 0
    with pytest.raises(BadSignature, match="revoked"):
        await house.who(request)
    with pytest.raises(NotFound):
        await house.pairs.revoke(record.id)


@pytest.mark.parametrize("turns", range(12))
async def test_a_pair_that_is_used_while_it_is_revoked_does_not_come_back(turns: int) -> None:
    made = House(SlowStore())
    record, secret = await made.make()
    await made.who(made.request(record, secret))
    await made.clock.wind(1000)
    for house in (made, House(made.store, made.clock)):  # with the pair in memory, and without
        request = house.request(record, secret)
        revoking = asyncio.create_task(house.pairs.revoke(record.id))
        for _ in range(turns):
            await asyncio.sleep(0)
        await asyncio.gather(house.who(request), return_exceptions=True)
        await asyncio.gather(revoking, return_exceptions=True)
        with pytest.raises(BadSignature):
            await house.who(request)
        assert await made.store.get("keypair", record.id) is None


async def test_a_pair_that_is_revoked_while_its_body_is_read_is_nobodys() -> None:
    house = House()
    record, secret = await house.make()

    async def payload() -> Iterable[str]:
        await house.pairs.revoke(record.id)
        return (proof.EMPTY,)

    with pytest.raises(BadSignature, match="revoked"):
        await house.pairs.by_claim(house.request(record, secret).claim(), payload)
    assert await house.store.get("keypair", record.id) is None


async def test_a_secret_that_does_not_open_any_more_is_said() -> None:
    house = House()
    record, secret = await house.make()
    record.sealed = b"another's"
    house = House(house.store, house.clock)
    await house.store.commit(Put("keypair", record.id, msgspec.json.encode(record)))
    with pytest.raises(BadSignature, match="cannot be read any more"):
        await house.who(house.request(record, secret))


async def test_a_full_disk_makes_nothing_and_locks_nobody_out() -> None:
    house = House()
    record, secret = await house.make()
    house.store.failing = "disk full"
    await house.who(house.request(record, secret))
    for act in (house.make(), house.pairs.revoke(record.id)):
        with pytest.raises(Unavailable):
            await act
    house.store.failing = ""
    assert len(await house.pairs.all()) == 1
    await house.who(house.request(record, secret))


@pytest.mark.parametrize("name", ["", "a\nb", "x" * 101])
async def test_a_bad_name_is_named(name: str) -> None:
    with pytest.raises(BadRequest, match="name"):
        await House().pairs.create(name, ("read",), account="local")


@pytest.mark.parametrize("seconds", [0, -1, 59, EXPIRES_MAX_S + 1, float("nan"), float("inf")])
async def test_a_bad_end_is_named(seconds: float) -> None:
    with pytest.raises(BadRequest, match="expiresInS"):
        await House().make(expires_in_s=seconds)


def test_a_secret_is_not_in_its_text() -> None:
    assert "x" * 40 not in repr(Secret(secret_access_key="x" * 40, session_token="y"))
