"""A change under a key: made once, answered alike, and never said to be unmade."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path

import pytest

from pilothouse.adapters.stores.memory import MemoryStore
from pilothouse.adapters.stores.sqlite import SqliteStore
from pilothouse.core.access import Principal
from pilothouse.core.errors import BadRequest, Conflict
from pilothouse.core.ids import SessionId
from pilothouse.engine import repeats
from pilothouse.engine.ports import StoreFailed
from pilothouse.engine.repeats import KEY_S, KIND, Act, Answer, Repeats, same
from tests.engine.conftest import Bench
from tests.engine.fakes import PlainSealer

ANN = Principal("key", "k1", "ci", "ann", frozenset({"run"}), "key:k1")
ASKED = same({"method": "POST", "path": "/api/things"}, b"{}")
OTHER = same({"method": "POST", "path": "/api/things"}, b"{ }")


class Made:
    """What an act has made."""

    def __init__(self) -> None:
        self.count = 0

    async def act(self, word: str = "") -> Answer:
        self.count += 1
        return Answer(201, {"content-type": "text/plain"}, b"\x00 thing %d" % self.count)


@pytest.fixture
def asked(bench: Bench) -> Repeats:
    return Repeats(bench.sessions.kit, PlainSealer())


async def test_the_same_again_is_answered_alike_and_another_request_is_refused(asked: Repeats) -> None:
    made = Made()
    first = await asked.once(ANN, "a", ASKED, made.act)
    assert first == (Answer(201, {"content-type": "text/plain"}, b"\x00 thing 1"), False)
    assert await asked.once(ANN, "a", ASKED, made.act) == (first[0], True)
    with pytest.raises(Conflict, match="another request"):
        await asked.once(ANN, "a", OTHER, made.act)
    assert made.count == 1
    assert (await asked.once(ANN, "b", OTHER, made.act))[1] is False
    assert made.count == 2


async def test_fifty_at_once_are_one(asked: Repeats) -> None:
    made = Made()

    async def slow(word: str) -> Answer:
        await asyncio.sleep(0.01)
        return await made.act()

    answers = await asyncio.gather(*(asked.once(ANN, "a", ASKED, slow) for _ in range(50)))
    assert made.count == 1
    assert len({answer.body for answer, _ in answers}) == 1
    assert sorted(replayed for _, replayed in answers) == [False] + [True] * 49


async def test_a_key_is_its_account_s_and_a_link_s_its_own(asked: Repeats) -> None:
    made = Made()
    link = Principal("link", "l1", "x", "ann", frozenset(), "link:l1", session=SessionId("s"))
    callers = [
        ANN,
        Principal("key", "k1", "ci", "bob", frozenset(), "key:k1"),
        Principal("key", "k1", "ci", "ann", frozenset(), "key:k1", organisation="other"),
        link,
        Principal("link", "l2", "x", "ann", frozenset(), "link:l2", session=SessionId("s")),
    ]
    for caller in callers:
        assert (await asked.once(caller, "a", ASKED, made.act))[1] is False
    assert made.count == len(callers)
    another_key_of_ann = Principal("person", "p", "ann", "ann", frozenset({"read", "run"}), "signin:9")
    assert (await asked.once(another_key_of_ann, "a", ASKED, made.act))[1] is True
    assert (await asked.once(link, "a", ASKED, made.act))[1] is True


async def test_what_was_refused_may_be_tried_again(asked: Repeats, bench: Bench) -> None:
    made = Made()

    async def refused(word: str) -> Answer:
        raise BadRequest("name: no")

    async def lost(word: str) -> Answer:
        raise StoreFailed("full")

    with pytest.raises(BadRequest):
        await asked.once(ANN, "a", ASKED, refused)
    with pytest.raises(StoreFailed):
        await asked.once(ANN, "a", ASKED, lost)
    assert await bench.store.scan(KIND) == []
    assert (await asked.once(ANN, "a", OTHER, made.act))[0].body == b"\x00 thing 1"


async def test_nothing_is_made_when_the_key_cannot_be_written_down(asked: Repeats, bench: Bench) -> None:
    made = Made()
    await asked.once(ANN, "before", ASKED, made.act)
    bench.store.failing = "full"
    with pytest.raises(StoreFailed):
        await asked.once(ANN, "a", ASKED, made.act)
    assert made.count == 1
    bench.store.failing = ""
    assert (await asked.once(ANN, "a", ASKED, made.act))[1] is False


async def test_one_whose_answer_could_not_be_written_down_is_answered_and_never_made_twice(
    asked: Repeats, bench: Bench
) -> None:
    made = Made()

    async def full(word: str) -> Answer:
        bench.store.failing = "full"
        return await made.act()

    assert (await asked.once(ANN, "a", ASKED, full))[0].status == 201
    bench.store.failing = ""
    with pytest.raises(Conflict, match="begun"):
        await asked.once(ANN, "a", ASKED, made.act)
    assert made.count == 1


async def test_who_leaves_in_the_middle_and_comes_back_hears_what_was_made(asked: Repeats) -> None:
    made, inside, free = Made(), asyncio.Event(), asyncio.Event()

    async def slow(word: str) -> Answer:
        inside.set()
        await free.wait()
        return await made.act()

    leaving = asyncio.create_task(asked.once(ANN, "a", ASKED, slow))
    await inside.wait()
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    back = asyncio.create_task(asked.once(ANN, "a", ASKED, slow))
    await asyncio.sleep(0)
    free.set()
    assert await back == (Answer(201, {"content-type": "text/plain"}, b"\x00 thing 1"), True)


async def test_an_answer_with_a_secret_is_not_kept(asked: Repeats, bench: Bench) -> None:
    made = Made()
    await asked.once(ANN, "a", ASKED, made.act, keep=False)
    with pytest.raises(Conflict, match="shows a secret"):
        await asked.once(ANN, "a", ASKED, made.act, keep=False)
    assert made.count == 1
    [(_, doc)] = await bench.store.scan(KIND)
    assert b"thing" not in doc
    # Where twice is the same as once it is made again.
    await asked.once(ANN, "b", ASKED, made.act, keep=False, again=True)
    assert (await asked.once(ANN, "b", ASKED, made.act, keep=False, again=True))[0].body == b"\x00 thing 3"


async def test_what_was_refused_by_a_store_that_takes_nothing_may_be_tried_again(asked: Repeats, bench: Bench) -> None:
    made = Made()
    await asked.once(ANN, "before", ASKED, made.act)

    async def full(word: str) -> Answer:
        bench.store.failing = "full"
        raise StoreFailed("full")

    for _ in range(2):
        with pytest.raises(StoreFailed):
            await asked.once(ANN, "a", ASKED, full)
        bench.store.failing = ""
    assert (await asked.once(ANN, "a", OTHER, made.act))[0].body == b"\x00 thing 2"
    assert (await asked.once(ANN, "a", OTHER, made.act))[1] is True


async def test_a_key_that_is_used_anew_while_the_sweep_looks_is_not_forgotten(
    asked: Repeats, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, scan = Made(), bench.store.scan
    await asked.once(ANN, "a", ASKED, made.act)
    await bench.clock.wind(KEY_S)

    async def slow(kind: str, *, after: str = "", limit: int = 1000) -> list[tuple[str, bytes]]:
        found = await scan(kind, after=after, limit=limit)
        if not after:
            await asked.once(ANN, "a", ASKED, made.act)
        return found

    monkeypatch.setattr(bench.store, "scan", slow)
    await asked.sweep()
    assert (await asked.once(ANN, "a", ASKED, made.act))[1] is True
    assert made.count == 2


async def test_what_was_asked_for_cannot_be_guessed_from_what_is_kept(bench: Bench) -> None:
    """A body may be a password, and a hash of it is a way to try them all."""
    made = Made()
    for sealer in (PlainSealer(), PlainSealer()):
        await Repeats(bench.sessions.kit, sealer).once(ANN, "a", ASKED, made.act)
    before = await bench.store.scan(KIND)
    assert made.count == 1  # the key of the HMAC is the installation's
    other = dataclasses.replace(bench.sessions.kit, store=MemoryStore())
    await Repeats(other, PlainSealer()).once(ANN, "a", ASKED, made.act)
    after = await other.store.scan(KIND)
    assert [name for name, _ in before] == [name for name, _ in after]
    assert before != after


async def test_a_key_is_forgotten_after_a_day_and_of_too_many_the_oldest(
    asked: Repeats, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repeats, "KEYS_MAX", 3)
    monkeypatch.setattr(repeats, "SWEEP", 2)
    made = Made()
    for n in range(5):
        await asked.once(ANN, str(n), ASKED, made.act)
        await bench.clock.wind(1)
    await asked.sweep()
    kept = [await _known(asked, str(n)) for n in range(5)]
    assert kept == [False, False, True, True, True]
    await asked.sweep()
    await bench.clock.wind(KEY_S - 0.5)
    assert await _known(asked, "2") is False  # although nobody has swept yet
    assert len(await bench.store.scan(KIND)) == 2
    await asked.sweep()
    assert await bench.store.scan(KIND) == []


async def _known(asked: Repeats, key: str) -> bool:
    async def none(word: str) -> Answer:
        raise BadRequest

    try:
        return (await asked.once(ANN, key, ASKED, none))[1]
    except BadRequest:
        return False


async def test_a_server_that_was_killed_in_between_does_not_make_it_twice(bench: Bench, tmp_path: Path) -> None:
    made = Made()

    async def server(act: Act, *, again: bool = False) -> tuple[Answer, bool]:
        store = await SqliteStore.open(tmp_path / "db", full=True)
        try:
            kit = dataclasses.replace(bench.sessions.kit, store=store)
            return await Repeats(kit, PlainSealer()).once(ANN, "a", ASKED, act, again=again)
        finally:
            await store.close()

    class Killed(BaseException):
        pass

    async def killed(word: str) -> Answer:
        await made.act()
        raise Killed

    with pytest.raises(Killed):
        await server(killed)
    with pytest.raises(Conflict, match="begun"):
        await server(made.act)
    assert made.count == 1
    answer = await server(made.act, again=True)
    assert (answer[0].body, answer[1]) == (b"\x00 thing 2", False)
    assert (await server(made.act))[1] is True
    assert made.count == 2


async def test_a_change_has_a_word_that_is_the_same_with_each_try_and_another_once_its_key_is_forgotten(
    asked: Repeats, bench: Bench
) -> None:
    said: list[str] = []

    async def killed(word: str) -> Answer:
        said.append(word)
        raise ZeroDivisionError

    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            await asked.once(ANN, "a", ASKED, killed, again=True)
    assert said[0] == said[1]
    await bench.clock.wind(KEY_S)
    for who in (ANN, dataclasses.replace(ANN, account="bob")):
        with pytest.raises(ZeroDivisionError):
            await asked.once(who, "a", ASKED, killed, again=True)
    assert len(set(said)) == 3


async def test_one_that_was_made_and_is_refused_when_it_is_made_again_stays_known(asked: Repeats) -> None:
    made = Made()

    async def refused(word: str) -> Answer:
        raise BadRequest

    await asked.once(ANN, "a", ASKED, made.act, keep=False, again=True)
    with pytest.raises(BadRequest):
        await asked.once(ANN, "a", ASKED, refused, keep=False, again=True)
    with pytest.raises(Conflict, match="another request"):
        await asked.once(ANN, "a", OTHER, made.act, keep=False, again=True)
    assert made.count == 1


async def test_of_what_is_told_as_it_is_now_nothing_is_kept(asked: Repeats, bench: Bench) -> None:
    made = Made()

    async def now(word: str) -> Answer:
        return Answer(200, {}, b"now")

    assert (await asked.once(ANN, "a", ASKED, made.act, keep=False, now=now))[0].body == b"\x00 thing 1"
    assert await asked.once(ANN, "a", ASKED, made.act, keep=False, now=now) == (Answer(200, {}, b"now"), True)
    assert made.count == 1
