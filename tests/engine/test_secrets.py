"""Secrets: where they count, who is given what, what is still hidden, and what stands in the store."""

from __future__ import annotations

from pathlib import Path

import pytest

from pilothouse.adapters.identity.sealing import KeyFile
from pilothouse.adapters.stores.memory import MemoryStore
from pilothouse.core import events as ev
from pilothouse.core import secret as rules
from pilothouse.core.access import SCOPES, Principal
from pilothouse.core.errors import BadRequest, NotFound, PilothouseError, TooLarge, TooMany, Unavailable
from pilothouse.core.ids import SessionId
from pilothouse.core.redact import LEAST
from pilothouse.engine import secrets as engine
from pilothouse.engine.audit import SERVER, Audit
from pilothouse.engine.ports import EventStore
from pilothouse.engine.records import SessionRecord
from pilothouse.engine.secrets import Secrets, of_account, of_session
from tests.engine.fakes import HandClock, PlainSealer

VALUE = "pQ9r8Ls7Mt6Nu5Ov4Pw3Qx2Ry1Sz"
ANN = Principal("person", "ann", "Ann", "ann@x", frozenset(SCOPES), "x")
BOB = Principal("person", "bob", "Bob", "bob", frozenset(SCOPES), "x")
GIT = ev.Source(git="https://git.example/a.git")


def session(
    owner: str = "ann@x", number: int = 1, source: ev.Source | None = None, organisation: str = "default"
) -> SessionRecord:
    return SessionRecord(
        id=SessionId(f"00000000-0000-7000-8000-{number:012d}"), owner=owner, organisation=organisation, agent="echo",
        isolation="none", source=source, created_at="", last_active_at="", permission_mode="manual",
    )  # fmt: skip


class House:
    def __init__(self, store: EventStore | None = None, sealer: object = None) -> None:
        self.store = store or MemoryStore()
        self.clock = HandClock()
        self.secrets = Secrets(self.store, self.clock, Audit(self.store, self.clock), sealer or PlainSealer())  # type: ignore[arg-type]

    async def set(self, place: engine.Place, name: str, value: str, **options: object) -> engine.SecretRecord:
        return await self.secrets.set(place, name, value, who=SERVER, **options)  # type: ignore[arg-type]

    async def given(self, of: SessionRecord) -> dict[str, str]:
        return {one.name: one.value for one in await self.secrets.given(of)}

    async def hides(self, of: SessionRecord, text: str) -> bool:
        masks = await self.secrets.masks(of)
        return masks is not None and masks.text(text) == "*" * len(text)


@pytest.fixture
def house() -> House:
    return House()


async def test_the_narrower_counts_and_what_is_others_does_not_exist(house: House) -> None:
    plain, cloned = session(), session(number=2, source=GIT)
    await house.set(of_account(ANN), "A", "of the account")
    await house.set(of_account(ANN, GIT), "A", "of the project")
    await house.set(of_account(ANN, GIT), "B", "of the project")
    await house.set(of_session(cloned), "A", "of the session")
    await house.set(of_account(BOB), "A", "of somebody else")
    assert await house.given(plain) == {"A": "of the account"}
    assert await house.given(cloned) == {"A": "of the session", "B": "of the project"}
    assert await house.given(session(number=3, source=GIT)) == {"A": "of the project", "B": "of the project"}
    assert await house.given(session("carl")) == {}
    assert await house.given(session(organisation="other")) == {}
    assert await house.hides(cloned, "of the account"), "another shell of the session may have had it"
    assert not await house.hides(plain, "of the project")
    assert [(r.name, r.where) for r in await house.secrets.reaching(cloned)] == [("A", "session"), ("B", "project")]
    assert [(r.name, r.project) for r in await house.secrets.of_every_project(ANN)] == [
        ("A", ""),
        ("A", "git:https://git.example/a.git"),
        ("B", "git:https://git.example/a.git"),
    ]
    assert [r.where for r in await house.secrets.of_every_project(BOB)] == ["account"]


async def test_accounts_whose_names_look_alike_do_not_meet(house: House) -> None:
    for account in ("a", "a/b", "a%2Fb", "b", "a/git:x"):
        who = Principal("person", account, account, account, frozenset(), "x")
        await house.set(of_account(who), "A", f"value of {account}")
        await house.set(of_account(who, ev.Source(git="x")), "B", f"project of {account}")
    for account in ("a", "a/b", "a%2Fb", "b", "a/git:x"):
        who = Principal("person", account, account, account, frozenset(), "x")
        assert await house.given(session(account)) == {"A": f"value of {account}"}
        assert len(await house.secrets.of_every_project(who)) == 2


async def test_a_new_value_is_given_and_the_old_one_stays_hidden(house: House) -> None:
    here = session()
    await house.set(of_account(ANN), "A", "the first value")
    await house.secrets.given(here)
    await house.set(of_account(ANN), "A", "the second value")
    assert await house.given(here) == {"A": "the second value"}
    assert await house.hides(here, "the first value")
    assert await house.hides(here, "the second value")
    await house.secrets.remove(of_account(ANN), "A", SERVER)
    assert await house.given(here) == {}
    assert await house.hides(here, "the second value")
    with pytest.raises(NotFound):
        await house.secrets.remove(of_account(ANN), "A", SERVER)


async def test_a_session_that_has_ended_hides_only_what_reaches_it(house: House) -> None:
    here = session()
    await house.set(of_session(here), "A", "the first value")
    await house.secrets.remove(of_session(here), "A", SERVER)
    assert await house.hides(here, "the first value")
    house.secrets.forget(here.id)
    assert not await house.hides(here, "the first value")


async def test_sessions_that_hide_the_same_share_what_it_takes(house: House) -> None:
    await house.set(of_account(ANN), "A", VALUE)
    assert await house.secrets.masks(session()) is await house.secrets.masks(session(number=2))
    await house.set(of_session(session(number=2)), "A", "of the session")
    assert await house.secrets.masks(session()) is not await house.secrets.masks(session(number=2))


async def test_without_secrets_there_is_nothing_to_look_for(house: House) -> None:
    assert await house.secrets.masks(session()) is None
    await house.set(of_account(ANN), "A", "x" * (LEAST - 1))
    assert await house.secrets.masks(session()) is None
    (record,) = await house.secrets.of_every_project(ANN)
    assert not record.masked


async def test_bad_ones_change_nothing(house: House) -> None:
    place = of_account(ANN)
    await house.set(place, "A", "the first value")
    for name, value, options, error in (
        ("PATH", "the other value", {}, BadRequest),
        ("A", "", {}, BadRequest),
        ("A", "x" * (rules.VALUE_MAX + 1), {}, TooLarge),
        ("A", "the other value", {"use": "everybody"}, BadRequest),
        ("A", "the other value", {"use": "agents", "file": True}, BadRequest),
    ):
        with pytest.raises(error) as caught:
            await house.set(place, name, value, **options)
        assert "other value" not in caught.value.message
    assert await house.given(session()) == {"A": "the first value"}
    with pytest.raises(BadRequest, match="an absolute path"):
        of_account(ANN, ev.Source(dir="x/y"))
    with pytest.raises(BadRequest, match="either git or dir"):
        of_account(ANN, ev.Source())


async def test_there_is_an_end_to_how_many_and_how_much(house: House) -> None:
    for number in range(rules.REACH_MAX):
        await house.set(of_account(ANN), f"A{number}", "value of it")
    with pytest.raises(TooMany):
        await house.set(of_account(ANN), "B", "value of it")
    await house.set(of_account(ANN), "A1", "another value")
    big = session("bob")
    await house.set(of_account(BOB), "A", "x" * rules.VALUE_MAX)
    with pytest.raises(TooLarge, match="together"):
        await house.set(of_account(BOB), "B", "x" * rules.VALUE_MAX)
    await house.set(of_session(big), "B", "x" * rules.VALUE_MAX)
    with pytest.raises(Unavailable, match="More secrets reach this session"):
        await house.secrets.given(big)


async def test_the_audit_says_who_set_what_and_never_a_value(house: House) -> None:
    await house.set(of_account(ANN, GIT), "A", VALUE, use="both")
    await house.secrets.remove(of_account(ANN, GIT), "A", SERVER)
    records = b"".join(doc for _, doc in await house.store.scan("audit"))
    assert b"secret.set" in records
    assert b"secret.remove" in records
    assert b'"name":"A"' in records
    assert VALUE.encode() not in records


async def test_use_is_written_down_now_and_then(house: House) -> None:
    here = session()
    await house.set(of_account(ANN), "A", VALUE)
    await house.secrets.given(here)
    await house.secrets.used(here, ["A"])
    (first,) = await house.secrets.of_every_project(ANN)
    await house.secrets.used(here, ["A"])
    await house.clock.wind(engine.USED_EVERY_S + 1)
    await house.secrets.used(here, ["A"])
    (second,) = await house.secrets.of_every_project(ANN)
    assert first.last_used_at is not None
    assert second.last_used_at == first.last_used_at + engine.USED_EVERY_S + 1


async def test_a_member_who_goes_takes_its_secrets_along(house: House) -> None:
    await house.set(of_account(ANN), "A", VALUE)
    await house.set(of_account(ANN, GIT), "B", VALUE)
    await house.set(of_account(BOB), "A", VALUE)
    await house.secrets.leave("default", "ann@x", SERVER)
    assert await house.secrets.of_every_project(ANN) == []
    assert await house.given(session(source=GIT)) == {}
    assert len(await house.secrets.of_every_project(BOB)) == 1


# --- at rest ---


async def every_byte(store: EventStore) -> bytes:
    kinds = ("secret", "audit", "audithead")
    return b"".join([doc for kind in kinds for _, doc in await store.scan(kind)])


async def test_c27_the_store_holds_no_value_and_the_key_is_not_in_it(tmp_path: Path) -> None:
    house = House(sealer=KeyFile(tmp_path / "sealing.key"))
    await house.set(of_account(ANN), "A", VALUE)
    kept = await every_byte(house.store)
    assert VALUE.encode() not in kept
    assert (tmp_path / "sealing.key").stat().st_mode & 0o777 == 0o600
    again = House(house.store, KeyFile(tmp_path / "sealing.key"))
    assert await again.given(session()) == {"A": VALUE}


async def test_a_wrong_or_missing_key_file_gives_a_clear_error_and_loses_nothing(tmp_path: Path) -> None:
    right, other = tmp_path / "sealing.key", tmp_path / "other.key"
    house = House(sealer=KeyFile(right))
    await house.set(of_account(ANN), "A", VALUE)
    KeyFile(other).seal(b"x", "y")
    kept = await every_byte(house.store)
    for path, said in ((tmp_path / "gone.key", "gone.key is missing"), (other, "other.key is not the file")):
        blind = House(house.store, KeyFile(path))
        for act in (
            blind.secrets.given(session()),
            blind.secrets.masks(session()),
            blind.set(of_account(ANN), "A", "a new value"),
            blind.set(of_account(BOB), "B", "a new value"),
        ):
            with pytest.raises(Unavailable, match=f"The secret A cannot be read: {said}"):
                await act
        assert not (tmp_path / "gone.key").exists(), "no other key takes its place"
        assert [record.name for record in await blind.secrets.all(of_account(ANN))] == ["A"]
    assert await every_byte(house.store) == kept
    assert await House(house.store, KeyFile(right)).given(session()) == {"A": VALUE}
    await House(house.store, KeyFile(other)).secrets.remove(of_account(ANN), "A", SERVER)


async def test_a_sealed_value_does_not_open_elsewhere(house: House) -> None:
    """Whoever may write into the database moves no value of somebody's into his own session."""
    await house.set(of_account(ANN), "A", VALUE)
    ((_, doc),) = await house.store.scan("secret")
    from pilothouse.engine.ports import Put

    await house.store.commit(Put("secret", f"{of_account(BOB).key}/A", doc, of_account(BOB).key))
    with pytest.raises(PilothouseError, match="cannot be read"):
        await house.secrets.given(session("bob"))
