"""Organisations and members: who is what now, the last admin stays, and the same name elsewhere is somebody else."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable

import pytest

from pilothouse.adapters.stores.memory import MemoryStore
from pilothouse.core.access import SCOPES, SCOPES_OF_ROLE, Principal
from pilothouse.core.errors import BadRequest, Conflict, NotFound, Unauthenticated, Unavailable
from pilothouse.core.ids import SessionId
from pilothouse.engine.identity import Identity
from pilothouse.engine.keypairs import KeyPairs
from pilothouse.engine.members import Members
from pilothouse.engine.ports import Commit, Op, Put
from pilothouse.engine.signins import SignIn
from tests.engine.fakes import HandClock, PlainSealer


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
async def members(store: MemoryStore) -> Members:
    made = Members(store, HandClock())
    await made.load()
    await made.make("red", "Red")
    return made


def person(account: str, organisation: str = "red", scopes: tuple[str, ...] = SCOPES) -> Principal:
    return Principal("person", account, account, account, frozenset(scopes), "signin:x", organisation=organisation)


async def test_a_role_holds_from_the_next_act_on(members: Members) -> None:
    told: list[int] = []
    await members.put("red", "ann", role="admin")
    await members.put("red", "bob", role="operator")
    members.on_change.append(lambda: told.append(1))
    bob = members.now(person("bob"))
    assert (bob.role, bob.scopes) == ("operator", SCOPES_OF_ROLE["operator"])
    await members.put("red", "bob", role="viewer")
    assert members.now(bob).scopes == {"read"}
    await members.put("red", "bob", role="approver")
    assert members.now(members.now(bob)).scopes == {"read", "run", "approve"}
    narrow = members.now(dataclasses.replace(person("bob", scopes=("read",)), kind="key", credential="key:x"))
    assert narrow.scopes == {"read"}
    await members.put("red", "bob", disabled=True)
    with pytest.raises(Unauthenticated, match="disabled"):
        members.now(bob)
    await members.remove("red", "bob")
    with pytest.raises(Unauthenticated, match="no member"):
        members.now(bob)
    assert len(told) == 4


async def test_the_same_account_in_two_organisations_is_two_people(members: Members) -> None:
    await members.make("blue", None)
    await members.put("red", "ann", role="admin")
    await members.put("blue", "ann", role="viewer")
    assert members.now(person("ann")).role == "admin"
    assert members.now(person("ann", "blue")).role == "viewer"
    assert [m.account for m in members.all("blue")] == ["ann"]
    await members.remove("blue", "ann")
    assert members.now(person("ann")).role == "admin"


async def test_the_last_admin_stays(members: Members) -> None:
    await members.put("red", "ann", role="admin")
    await members.put("red", "bob", role="admin")
    await members.put("red", "bob", disabled=True)
    for act in (
        members.remove("red", "ann"),
        members.put("red", "ann", role="operator"),
        members.put("red", "ann", disabled=True),
        members.remove("default", "local"),
        members.put("default", "local", role="viewer"),
        members.put("default", "local", disabled=True),
    ):
        with pytest.raises(Conflict) as refused:
            await act
        assert refused.value.code == "last_admin"
    await members.put("red", "bob", disabled=False)
    both = await asyncio.gather(members.remove("red", "ann"), members.remove("red", "bob"), return_exceptions=True)
    assert sum(isinstance(one, Conflict) for one in both) == 1


async def test_members_outlive_the_server(members: Members, store: MemoryStore) -> None:
    await members.put("red", "ann", role="approver", name="Ann A.")
    again = Members(store, HandClock())
    await again.load()
    assert again.find("red", "ann") == members.find("red", "ann")
    assert [o.id for o in again.organisations()] == ["default", "red"]
    assert again.now(person("local", "default")).role == "admin"


async def test_a_token_of_an_issuer_makes_a_member_and_gives_no_more_than_it_says(members: Members) -> None:
    token = Principal(
        "person", "ann.1", "Ann", "ann.1", SCOPES_OF_ROLE["operator"], "jwt:iss#a#1", "green", role="operator",
        issued_at=0.0,
    )  # fmt: skip
    with pytest.raises(Unauthenticated):
        members.now(token)
    assert (await members.met(token)).scopes == {"read", "run"}
    assert members.find("green", "ann.1").role == "operator"
    await members.put("green", "root", role="admin")
    await members.put("green", "ann.1", role="admin")
    assert (await members.met(token)).scopes == {"read", "run"}
    await members.put("green", "ann.1", role="viewer")
    assert (await members.met(token)).scopes == {"read"}
    await members.put("green", "ann.1", disabled=True)
    with pytest.raises(Unauthenticated):
        await members.met(token)


async def test_a_sign_in_is_the_whole_person(members: Members) -> None:
    """Whatever role it was made with, and a grant may go beyond its role now."""
    await members.put("red", "root", role="admin")
    await members.put("red", "ann", role="viewer")
    made = Principal("person", "ann", "Ann", "ann", SCOPES_OF_ROLE["viewer"], "signin:x", "red", role="viewer")
    assert members.now(made).scopes == {"read"}
    assert members.now(made).most == frozenset(SCOPES)
    await members.put("red", "ann", role="approver")
    assert members.now(made).scopes == {"read", "run", "approve"}


async def test_what_an_issuer_says_becomes_a_member_and_disabled_stays_disabled(members: Members) -> None:
    await members.seen("red", "iss#1", role="operator", name="Ann", at=1)
    assert members.now(person("iss#1")).role == "operator"
    await members.seen("red", "iss#1", role="approver", name="Ann", at=2)
    assert members.now(person("iss#1")).role == "approver"
    await members.seen("red", "iss#1", role="admin", name="Ann", at=3)
    await members.seen("red", "iss#1", role="viewer", name="Ann", at=4)  # the last admin, but the issuer knows better
    assert members.now(person("iss#1")).role == "viewer"
    await members.put("red", "iss#1", disabled=True)
    with pytest.raises(Unauthenticated):
        await members.seen("red", "iss#1", role="approver", name="Ann", at=9e9)


async def test_an_older_word_of_an_issuer_brings_no_role_back(members: Members) -> None:
    """A token of this morning, whose bearer has been made less since: by the issuer, or by an admin here."""
    await members.seen("red", "iss#1", role="viewer", name="Ann", at=1000)
    await members.seen("red", "iss#1", role="viewer", name="Ann", at=2000)
    await members.seen("red", "iss#1", role="admin", name="Ann", at=1500)
    assert members.now(person("iss#1")).role == "viewer"
    await members.seen("red", "iss#1", role="operator", name="Ann", at=2001)
    await members.put("red", "iss#1", role="viewer")
    await members.seen("red", "iss#1", role="operator", name="Ann", at=2001)
    assert members.now(person("iss#1")).role == "viewer", "an admin said so later"
    await members.seen("red", "iss#1", role="operator", name="Ann", at=9e9)
    assert members.now(person("iss#1")).role == "operator"


async def test_c12_a_token_dated_ahead_that_was_not_shown_before_brings_no_role_back(members: Members) -> None:
    """Made before an admin's word by an issuer whose clock is fast, within the leeway that tokens have."""
    now = HandClock().now()
    await members.seen("red", "iss#1", role="admin", name="Ann", at=now - 600)
    await members.put("red", "root", role="admin")
    await members.put("red", "iss#1", role="viewer")
    await members.seen("red", "iss#1", role="admin", name="Ann", at=now + 59)
    assert members.now(person("iss#1")).role == "viewer"
    await members.seen("red", "iss#1", role="operator", name="Ann", at=now + 61)
    assert members.now(person("iss#1")).role == "operator"


@pytest.mark.parametrize(
    ("organisation", "account", "fields", "named"),
    [
        ("red", "a b", {"role": "viewer"}, "account"),
        ("red", "", {"role": "viewer"}, "account"),
        ("red", "x" * 201, {"role": "viewer"}, "account"),
        ("red", ".", {"role": "viewer"}, "account"),
        ("red", "..", {"role": "viewer"}, "account"),
        ("red", "ann", {"role": "root"}, "root"),
        ("red", "ann", {}, "role"),
        ("red", "ann", {"role": "viewer", "name": "a\nb"}, "name"),
    ],
)
async def test_bad_members_are_refused_by_name(
    members: Members, organisation: str, account: str, fields: dict[str, str], named: str
) -> None:
    with pytest.raises(BadRequest, match=named):
        await members.put(organisation, account, **fields)  # type: ignore[arg-type]
    assert members.all("red") == []


async def test_bad_organisations_and_a_full_disk_change_nothing(members: Members, store: MemoryStore) -> None:
    for id in ("", "Red", "a:b", "-a", "a" * 41, "a/b"):
        with pytest.raises(BadRequest):
            await members.make(id, None)
    with pytest.raises(Conflict):
        await members.make("red", None)
    with pytest.raises(NotFound):
        await members.put("nowhere", "ann", role="viewer")
    store.failing = "disk full"
    with pytest.raises(Unavailable):
        await members.put("red", "ann", role="viewer")
    with pytest.raises(NotFound):
        members.find("red", "ann")


async def test_who_comes_again_under_the_same_name_finds_no_credential_of_before(store: MemoryStore) -> None:
    identity = Identity(store, HandClock())
    await identity.load()
    told: list[str] = []
    identity.on_revoke.append(told.append)
    session = SessionId("01a1fca5-a696-7da8-a592-78b242187567")
    shown: dict[str, tuple[str, str, str]] = {}
    for organisation in ("red", "blue"):
        await identity.members.make(organisation, None)
        await identity.members.put(organisation, "root", role="admin")
        await identity.members.put(organisation, "ann", role="operator")
        ticket, _ = await identity.ticket("ann", organisation)
        cookie = await identity.redeem((await identity.ticket("ann", organisation))[0])
        key = (await identity.keys.create("x", SCOPES, account="ann", organisation=organisation))[1]
        link = (await identity.links.make(person("ann", organisation), session, "watch"))[1]
        shown[organisation] = (cookie, key, link)
        await identity.by_cookie(cookie)
        if organisation == "red":
            waiting = ticket
    await identity.members.remove("red", "ann")
    assert sorted(one.partition(":")[0] for one in told) == ["key", "link", "signin"]
    await identity.members.put("red", "ann", role="admin")
    ways = (identity.by_cookie, identity.keys.by_secret, identity.links.by_secret)
    for way, secret in zip(ways, shown["red"], strict=True):
        with pytest.raises(Unauthenticated):
            await way(secret)
    with pytest.raises(Unauthenticated):
        await identity.redeem(waiting)
    for way, secret in zip(ways, shown["blue"], strict=True):
        assert identity.members.now(await way(secret)).account == "ann"


class HeldStore(MemoryStore):
    """A disk that takes its time over writing one kind of thing down."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.writing, self.go_on = asyncio.Event(), asyncio.Event()

    async def commit(self, *ops: Op) -> Commit:
        if any(isinstance(op, Put) and op.kind == self.kind for op in ops):
            self.writing.set()
            await self.go_on.wait()
        return await super().commit(*ops)


SESSION = SessionId("01a1fca5-a696-7da8-a592-78b242187567")
MAKES: dict[str, Callable[[Identity, KeyPairs], Awaitable[object]]] = {
    "key": lambda identity, pairs: identity.keys.create("late", SCOPES, account="ann", organisation="red"),
    "keypair": lambda identity, pairs: pairs.create("late", SCOPES, account="ann", organisation="red"),
    "signin": lambda identity, pairs: identity.adopt(SignIn(account="ann", organisation="red", expires_at=9e9)),
    "ticket": lambda identity, pairs: identity.ticket("ann", "red"),
    "link": lambda identity, pairs: identity.links.make(person("ann"), SESSION, "watch"),
}


@pytest.mark.parametrize("kind", MAKES)
async def test_c12_what_is_made_while_its_member_goes_does_not_come_to_life_with_the_next(kind: str) -> None:
    """It is on its way to the disk when the credentials of whoever goes are ended, and so is not among them."""
    store, clock = HeldStore(kind), HandClock()
    identity = Identity(store, clock)
    await identity.load()
    pairs = KeyPairs(store, clock, PlainSealer(), identity)
    await identity.members.make("red", None)
    await identity.members.put("red", "root", role="admin")
    await identity.members.put("red", "ann", role="operator")
    making = asyncio.ensure_future(MAKES[kind](identity, pairs))
    await asyncio.wait_for(store.writing.wait(), 10)
    going = asyncio.create_task(identity.members.remove("red", "ann"))
    for _ in range(50):
        await asyncio.sleep(0)
    store.go_on.set()
    await asyncio.gather(making, going)
    await identity.members.put("red", "ann", role="admin")
    assert await store.scan(kind) == []


async def test_a_ticket_and_a_key_are_for_members_only_and_keep_their_organisation(store: MemoryStore) -> None:
    identity = Identity(store, HandClock())
    await identity.load()
    with pytest.raises(NotFound):
        await identity.ticket("ann", "red")
    with pytest.raises(NotFound):
        await identity.keys.create("x", SCOPES, account="ann", organisation="red")
    await identity.members.make("red", None)
    await identity.members.put("red", "ann", role="viewer", name="Ann A.")
    ticket, _ = await identity.ticket("ann", "red")
    ann = await identity.by_cookie(await identity.redeem(ticket))
    assert (ann.account, ann.organisation, ann.label) == ("ann", "red", "Ann A.")
    record, text = await identity.keys.create("x", SCOPES, account="ann", organisation="red")
    assert identity.members.now(await identity.keys.by_secret(text)).scopes == {"read"}
    assert [k.id for k in await identity.keys.all("red")] == [record.id]
    assert await identity.keys.all("default") == []
    with pytest.raises(NotFound):
        await identity.keys.revoke(record.id, "default")
