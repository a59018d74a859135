"""Share links: one session, an end, a maker in whose place they act; only hashes are kept."""

from __future__ import annotations

import dataclasses

import pytest

from pilothouse.adapters.stores.memory import MemoryStore
from pilothouse.core.access import rights
from pilothouse.core.errors import BadRequest, NotFound, TooMany, Unauthenticated
from pilothouse.core.ids import SessionId
from pilothouse.engine.identity import Identity
from pilothouse.engine.links import LINK_MAX_S, LINK_S, LINKS_MAX
from tests.engine.fakes import LOCAL, HandClock

A = SessionId("01a1fca5-a696-7da8-a592-78b242187567")
B = SessionId("01a1fca5-a696-7da8-a592-78b242187568")


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
async def identity(store: MemoryStore, clock: HandClock) -> Identity:
    made = Identity(store, clock)
    await made.load()
    return made


async def test_a_link_is_its_maker_narrowed_and_ends(identity: Identity, store: MemoryStore, clock: HandClock) -> None:
    link, text = await identity.links.make(LOCAL, A, "approve", name="Review")
    assert text not in str(await store.scan("link"))
    assert text.partition("_")[2] not in str(await store.scan("link"))
    visitor = identity.members.now(await identity.links.by_secret(text))
    assert (visitor.kind, visitor.session, visitor.label) == ("link", A, "link:Review")
    assert visitor.scopes == {"read", "approve"}
    assert visitor.expires_at == clock.now() + LINK_S
    assert identity.left(visitor) == LINK_S
    again = Identity(store, clock)
    assert (await again.links.by_secret(text)).credential == f"link:{link.id}"
    await clock.wind(LINK_S)
    assert identity.left(visitor) == 0
    with pytest.raises(Unauthenticated, match="ended"):
        await identity.links.by_secret(text)
    assert await identity.links.of(A) == []


async def test_a_revoked_link_is_told_at_once(identity: Identity) -> None:
    told: list[str] = []
    identity.on_revoke.append(told.append)
    link, text = await identity.links.make(LOCAL, A, "watch")
    visitor = await identity.links.by_secret(text)
    with pytest.raises(NotFound):
        await identity.links.revoke(B, link.id)
    assert identity.left(visitor) is not None
    await identity.links.revoke(A, link.id)
    assert told == [visitor.credential]
    assert identity.left(visitor) == 0
    with pytest.raises(Unauthenticated):
        await identity.links.by_secret(text)
    with pytest.raises(NotFound):
        await identity.links.revoke(A, link.id)


async def test_a_link_may_no_more_than_its_maker_now(identity: Identity) -> None:
    class Facts:
        id, organisation, owner, private = A, "red", "olga", False
        grants: dict[str, str] = {}

    await identity.members.make("red", None)
    await identity.members.put("red", "root", role="admin")
    await identity.members.put("red", "ann", role="approver")
    ann = dataclasses.replace(LOCAL, account="ann", organisation="red")
    _, text = await identity.links.make(ann, A, "approve")
    visitor = await identity.links.by_secret(text)
    facts = Facts()
    assert rights(identity.members.now(visitor), facts) == {"read", "approve"}  # type: ignore[arg-type]
    await identity.members.put("red", "ann", role="viewer")
    assert rights(identity.members.now(visitor), facts) == {"read"}  # type: ignore[arg-type]
    await identity.members.remove("red", "ann")
    with pytest.raises(Unauthenticated):
        identity.members.now(visitor)


@pytest.mark.parametrize("text", ["", "x", "0" * 12 + "_" + "x" * 43, "0" * 12 + "_" + "x" * 42, "ph_0_x", "\ud800"])
async def test_what_is_no_link_is_refused(identity: Identity, text: str) -> None:
    await identity.links.make(LOCAL, A, "watch")
    with pytest.raises(Unauthenticated):
        await identity.links.by_secret(text)


async def test_the_id_of_a_link_is_no_secret(identity: Identity) -> None:
    link, text = await identity.links.make(LOCAL, A, "watch")
    with pytest.raises(Unauthenticated):
        await identity.links.by_secret(f"{link.id}_{'A' * 43}")
    with pytest.raises(Unauthenticated):
        await identity.links.by_secret(text[:-1] + ("A" if text[-1] != "A" else "B"))


async def test_bad_wishes_are_refused_by_name_and_links_are_few(identity: Identity) -> None:
    for right, fields, named in (
        ("admin", {}, "right"),
        ("watch", {"seconds": LINK_MAX_S + 1}, "expiresInS"),
        ("watch", {"seconds": 0.0}, "expiresInS"),
        ("watch", {"seconds": float("nan")}, "expiresInS"),
        ("watch", {"name": "a\nb"}, "name"),
    ):
        with pytest.raises(BadRequest, match=named):
            await identity.links.make(LOCAL, A, right, **fields)
    for _ in range(LINKS_MAX):
        await identity.links.make(LOCAL, A, "watch")
    with pytest.raises(TooMany):
        await identity.links.make(LOCAL, A, "watch")
    await identity.links.make(LOCAL, B, "watch")
