"""Channels with and without a history, on the store that forgets and on a clock that is wound by hand."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from pilothouse.adapters.stores.memory import MemoryStore
from pilothouse.adapters.stores.sqlite import SqliteStore
from pilothouse.core import channels as names
from pilothouse.core.errors import BadRequest, Conflict, TooMany
from pilothouse.core.ids import SessionId
from pilothouse.core.namespaces import BadNamespace, Namespace, read
from pilothouse.core.publish import EVENT_MAX, Event
from pilothouse.engine import channels as module
from pilothouse.engine import journals
from pilothouse.engine import once as once_module
from pilothouse.engine.channels import Channels
from pilothouse.engine.fanout import Subscriber
from pilothouse.engine.once import Once
from pilothouse.engine.ports import Commit, EventStore, Op, StoreFailed
from pilothouse.engine.presence import TOLD_S, Presences
from tests.clock import HandClock
from tests.engine.test_fanout import Sink

KEPT = Namespace("kept", history=10)
NAMESPACES = (
    Namespace("default"),
    KEPT,
    Namespace("aged", history=1000, history_s=60),
    Namespace("small", history=1000, history_bytes=500),
    Namespace("replay", history=10, replay=3),
)


def events(*values: Any) -> list[Event]:
    return [Event.of(json.dumps(value).encode()) for value in values]


class House:
    def __init__(self, store: EventStore | None = None, clock: HandClock | None = None) -> None:
        self.store = store or MemoryStore()
        self.clock = clock or HandClock()
        self.channels = Channels(self.store, self.clock, NAMESPACES)

    async def publish(self, channel: str, *values: Any, holder: str = "", key: str | None = None) -> module.Published:
        return await self.channels.publish("red", names.channel(channel), events(*values), module.By(holder), key)

    async def subscribe(self, pattern: str, after: int | None = None, **more: Any) -> tuple[Sink, Any]:
        place = await self.channels.place("red", names.pattern(pattern), after, **more)
        sink = Sink()
        self.channels.subscribe(place, Subscriber(sink, b"{"))
        return sink, place

    async def calm(self) -> None:
        """All that is on its way has arrived."""
        for _ in range(100):
            await asyncio.sleep(0)
        while any(feed._behind for feed in self.channels._feeds.values()):
            await asyncio.sleep(0.001)


def heard(sink: Sink) -> list[tuple[int | None, Any]]:
    frames = [json.loads(message) for message in sink.got]
    return [(frame.get("seq"), json.loads(frame["event"])) for frame in frames]


@pytest.fixture(params=["memory", "sqlite"])
async def house(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[House]:
    store = MemoryStore() if request.param == "memory" else await SqliteStore.open(tmp_path / "log.sqlite")
    yield House(store)
    await store.close()


async def test_a_channel_with_a_history_counts_and_remembers(house: House) -> None:
    live, place = await house.subscribe("kept/a")
    assert (place.journal.head, place.oldest, place.gap) == (0, 1, None)
    wild, _ = await house.subscribe("kept/*")
    await house.publish("kept/a", "one", "two")
    await house.publish("kept/b", "other")
    await house.publish("kept/a", "three")
    await house.calm()
    assert heard(live) == [(1, "one"), (2, "two"), (3, "three")]
    assert sorted(heard(wild), key=str) == sorted([(1, "one"), (2, "two"), (3, "three"), (1, "other")], key=str)
    for after in range(4):
        late, _ = await house.subscribe("kept/a", after)
        await house.calm()
        assert heard(late) == heard(live)[after:]
    page = await house.channels.history("red", names.channel("kept/a"), 1, 1)
    assert page is not None
    assert (page.oldest, page.head, [row.seq for row in page.rows]) == (1, 3, [2])


async def test_what_is_delivered_at_once_and_what_has_to_wait(house: House) -> None:
    channels, room = house.channels, names.channel("default/room")
    sink, _ = await house.subscribe("default/room")
    wild, _ = await house.subscribe("default/*")
    others = [names.channel(f"{name}/x") for name in ("kept", "replay", "session", "dialog")]
    assert [channels.open_at_once("red", one, events(1)) for one in others] == [None] * 4
    assert channels.open_at_once("red", room, events("x" * EVENT_MAX)) is None
    for one in (events(1), events(2, 3)):
        feeds = channels.open_at_once("red", room, one)
        assert feeds is not None
        taken = channels.deliver_at_once(feeds, room, one)
        assert [t.index for t in taken] == list(range(len(one)))
        assert len({t.identifier for t in taken}) == len(one)
    assert channels.open_at_once("blue", room, events(1)) == []
    assert channels.published == 3
    await house.publish("default/room", *["x" * 200_000] * 5)
    await house.publish("default/room", *["x" * 200_000] * 5)
    await house.publish("default/room", "x" * 200_000)
    assert channels.open_at_once("red", room, events(1)) is None, "too much is on its way"
    await house.calm()
    assert channels.open_at_once("red", room, events(1)) is not None
    for hearer in (sink, wild):
        assert [value for _, value in heard(hearer)][:3] == [1, 2, 3]
        assert len(heard(hearer)) == 14


async def test_another_start_goes_on_with_the_numbers(house: House) -> None:
    await house.publish("kept/a", 1, 2)
    again = House(house.store)
    await again.channels.start()
    sink, place = await again.subscribe("kept/a", 1)
    assert place.journal.head == 2
    await again.publish("kept/a", 3)
    await again.calm()
    assert heard(sink) == [(2, 2), (3, 3)]


async def test_only_so_many_are_kept_and_the_gap_is_told(house: House) -> None:
    for number in range(200):
        await house.publish("kept/a", number)
    page = await house.channels.history("red", names.channel("kept/a"), 0, 1000)
    assert page is not None
    assert [row.seq for row in page.rows] == list(range(191, 201))
    sink, place = await house.subscribe("kept/a", 50)
    assert (place.gap.start, place.gap.end) == (51, 190)
    await house.calm()
    assert [seq for seq, _ in heard(sink)] == list(range(191, 201))
    stored = await house.store.read(journals.log_id("red", names.channel("kept/a")), 0, 1000)
    assert len(stored.rows) <= 10 + journals.SPARE + 1


async def test_no_longer_than_so_many_seconds(house: House) -> None:
    for number in range(5):
        await house.publish("aged/a", number)
        house.clock.seconds += 20
    page = await house.channels.history("red", names.channel("aged/a"), 0, 1000)
    assert page is not None
    assert [row.seq for row in page.rows] == [3, 4, 5]
    house.clock.seconds += 1000
    await house.channels.upkeep()
    stored = await house.store.read(journals.log_id("red", names.channel("aged/a")), 0, 1000)
    assert (len(stored.rows), stored.head) == (0, 5)
    sink, place = await house.subscribe("aged/a", 2)
    assert (place.gap.start, place.gap.end) == (3, 5)
    await house.publish("aged/a", "new")
    await house.calm()
    assert heard(sink) == [(6, "new")]


async def test_no_more_than_so_many_bytes(house: House) -> None:
    for number in range(200):
        await house.publish("small/a", number)
    for one in (house, House(house.store, house.clock)):
        await one.publish("small/a", "last")
        sink, place = await one.subscribe("small/a", 0)
        await one.calm()
        assert sum(len(message) for message in sink.got) <= 500
        assert heard(sink)[-1][1] == "last"
        assert place.gap is not None


async def test_a_newcomer_may_be_given_the_last_ones(house: House) -> None:
    for number in range(7):
        await house.publish("replay/a", number)
    sink, _ = await house.subscribe("replay/a")
    await house.calm()
    assert [seq for seq, _ in heard(sink)] == [5, 6, 7]


async def test_a_cursor_of_another_log_begins_anew_and_says_so(house: House) -> None:
    await house.publish("kept/a", 1, 2)
    for more in ({"after": 9}, {"after": 1, "epoch": "other"}):
        sink, place = await house.subscribe("kept/a", **more)
        assert place.gap is not None
        await house.calm()
        assert [seq for seq, _ in heard(sink)] == [1, 2]
    sink, place = await house.subscribe("kept/a", 1, epoch=house.channels.epoch)
    assert place.gap is None


@pytest.mark.parametrize("pattern", ["default/a", "kept/*"])
async def test_there_is_no_cursor_where_there_is_no_history(house: House, pattern: str) -> None:
    with pytest.raises(BadRequest, match="after"):
        await house.subscribe(pattern, 0)


async def test_a_store_that_fails_publishes_nothing() -> None:
    store = MemoryStore()
    house = House(store)
    sink, _ = await house.subscribe("kept/a")
    store.failing = "full"
    with pytest.raises(StoreFailed):
        await house.publish("kept/a", 1)
    store.failing = ""
    await house.publish("kept/a", 2)
    await house.calm()
    assert heard(sink) == [(1, 2)]


class Untrimmed(MemoryStore):
    async def trim(self, session: SessionId, before: int) -> int:
        raise StoreFailed("full")


async def test_what_is_published_is_said_to_be_even_where_the_rest_cannot_be_tidied() -> None:
    house = House(Untrimmed())
    sink, _ = await house.subscribe("kept/a")
    for number in range(100):
        assert (await house.publish("kept/a", number)).failed == []
    await house.calm()
    assert len(sink.got) == 100
    page = await house.channels.history("red", names.channel("kept/a"), 0, 1000)
    assert page is not None
    assert len(page.rows) == 10, "what is too much is not shown all the same"


class Slow(MemoryStore):
    """Answers commits in any order, as their callers happen to wake."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[asyncio.Event] = []

    async def commit(self, *ops: Op) -> Commit:
        done = await super().commit(*ops)
        gate = asyncio.Event()
        self.waiting.append(gate)
        await gate.wait()
        return done


async def test_what_is_answered_out_of_order_is_pushed_in_order_and_who_leaves_takes_nothing_along() -> None:
    house = House(Slow())
    assert isinstance(house.store, Slow)
    sink, _ = await house.subscribe("kept/a")
    tasks = [asyncio.create_task(house.publish("kept/a", number)) for number in range(4)]
    while len(house.store.waiting) < 4:
        await asyncio.sleep(0)
    tasks[0].cancel()
    for number in (2, 1, 3):
        house.store.waiting[number].set()
        await house.calm()
    assert heard(sink) == [], "the first is not there yet"
    house.store.waiting[0].set()
    await asyncio.gather(*tasks, return_exceptions=True)
    await house.calm()
    assert heard(sink) == [(1, 0), (2, 1), (3, 2), (4, 3)]


# --- keys ---


async def test_what_comes_again_by_its_key_is_published_once(house: House) -> None:
    sink, _ = await house.subscribe("kept/a")
    first = await house.publish("kept/a", 1, 2, holder="h", key="k")
    again = await asyncio.gather(*[house.publish("kept/a", 1, 2, holder="h", key="k") for _ in range(3)])
    assert {tuple(one.taken) for one in again} == {tuple(first.taken)}
    later = House(house.store, house.clock)
    assert (await later.publish("kept/a", 1, 2, holder="h", key="k")).taken == first.taken, "a restart knows it too"
    for holder, key in (("h", "other"), ("other", "k")):
        assert (await house.publish("kept/a", 1, 2, holder=holder, key=key)).taken != first.taken
    await house.publish("kept/b", 1, 2, holder="h", key="k")
    with pytest.raises(Conflict, match="key"):
        await house.publish("kept/a", 1, 3, holder="h", key="k")
    await house.calm()
    assert len(sink.got) == 6
    house.clock.seconds += 4000
    await house.channels.upkeep()
    assert (await house.publish("kept/a", 1, 3, holder="h", key="k")).taken != first.taken
    assert await house.store.scan("published") != []


async def test_at_once_too_and_one_that_failed_may_be_tried_again() -> None:
    store = MemoryStore()
    house = House(store)
    sink, _ = await house.subscribe("default/a")
    done = await asyncio.gather(*[house.publish("default/a", 1, holder="h", key="k") for _ in range(5)])
    assert len({tuple(one.taken) for one in done}) == 1
    await house.calm()
    assert len(sink.got) == 1
    store.failing = "full"
    with pytest.raises(StoreFailed):
        await house.publish("kept/a", 1, holder="h", key="k")
    store.failing = ""
    assert len((await house.publish("kept/a", 1, holder="h", key="k")).taken) == 1


async def test_a_third_that_comes_when_the_first_has_failed_waits_for_the_second() -> None:
    once, where, done, free = Once(MemoryStore(), HandClock()), names.channel("default/a"), list[int](), asyncio.Event()

    async def fails(answered: Any) -> None:
        await free.wait()
        raise StoreFailed("full")

    async def works(answered: Any) -> None:
        done.append(1)
        for _ in range(10):
            await asyncio.sleep(0)
        answered([], [])

    first = asyncio.create_task(once.do("h", where, "k", events(1), fails))
    await asyncio.sleep(0)
    others = [asyncio.create_task(once.do("h", where, "k", events(1), works))]
    first.add_done_callback(lambda _: others.append(asyncio.create_task(once.do("h", where, "k", events(1), works))))
    await asyncio.sleep(0)
    free.set()
    with pytest.raises(StoreFailed):
        await first
    await asyncio.sleep(0)
    answers = await asyncio.gather(*others)
    assert (len(answers), len(done)) == (2, 1)
    assert len(once._words) == 0


async def test_keys_are_forgotten_the_oldest_first_where_there_is_no_history(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(once_module, "KEYS_MAX", 3)
    house = House()
    sink, _ = await house.subscribe("default/a")
    for number in range(4):
        await house.publish("default/a", number, holder="h", key=str(number))
    assert (await house.publish("default/a", 3, holder="h", key="3")).taken
    await house.publish("default/a", 0, holder="h", key="0")
    await house.calm()
    assert [event for _, event in heard(sink)] == [0, 1, 2, 3, 0]


# --- bounds ---


async def test_c15_channels_with_a_history_have_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT_MAX", 3)
    house = House()
    for number in range(3):
        await house.publish(f"kept/{number}", 1)
    with pytest.raises(TooMany):
        await house.publish("kept/4", 1)
    await house.publish("kept/1", 2)
    again = House(house.store)
    await again.channels.start()
    with pytest.raises(TooMany):
        await again.publish("kept/4", 1)
    await house.channels.publish("blue", names.channel("kept/4"), events(1))


async def test_histories_that_nobody_uses_are_forgotten_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "JOURNALS_MAX", 2)
    house = House()
    sink, _ = await house.subscribe("kept/used")
    for number in range(10):
        await house.publish(f"kept/{number}", 1)
    await house.publish("kept/used", 1)
    await house.publish("kept/0", 2)
    assert len(house.channels._journals) <= 4
    await house.calm()
    assert heard(sink) == [(1, 1)]
    page = await house.channels.history("red", names.channel("kept/0"), 0, 10)
    assert page is not None
    assert page.head == 2


# --- presence ---


async def test_presence_tells_changes_together() -> None:
    rooms, told = Presences(), list[Any]()
    leave = rooms.enter("red", "/a", "ann", told.append)
    others = [rooms.enter("red", "/a", name, None) for name in ("ben", "ben", "cleo")]
    assert rooms.of("red", "/a").state() == {"present": ["ann", "ben", "cleo"], "count": 3}
    assert rooms.of("blue", "/a").state() == {"present": [], "count": 0}
    await asyncio.sleep(TOLD_S * 2)
    others[0]()
    others[2]()
    await asyncio.sleep(TOLD_S * 2)
    assert told == [
        {"present": ["ann"], "count": 1},
        {"joined": ["ben", "cleo"], "left": [], "count": 3},
        {"joined": [], "left": ["cleo"], "count": 2},
    ]
    leave()
    others[1]()
    assert rooms._of == {}


async def test_c30_a_room_that_fills_is_not_told_to_everybody_for_each_who_enters() -> None:
    rooms, told = Presences(), list[Any]()
    for number in range(200):
        rooms.enter("red", "/a", f"n{number}", told.append)
    assert len(told) == 200
    await asyncio.sleep(TOLD_S * 2)
    assert len(told) == 400
    assert told[-1]["count"] == 200


async def test_who_begins_to_watch_while_others_come_and_go_ends_with_who_is_there() -> None:
    rooms = Presences()
    rooms.enter("red", "/a", "ann", lambda _: None)
    gone = rooms.enter("red", "/a", "ben", None)
    await asyncio.sleep(TOLD_S * 2)
    short = rooms.enter("red", "/a", "cleo", None)
    gone()
    told = list[Any]()
    rooms.enter("red", "/a", "dan", told.append)
    short()
    rooms.enter("red", "/a", "ben", None)
    await asyncio.sleep(TOLD_S * 2)
    known = set(told[0]["present"])
    for said in told[1:]:
        known = (known | set(said["joined"])) - set(said["left"])
    assert known == set(rooms.of("red", "/a").there) == {"ann", "ben", "dan"}


# --- configuration ---


def test_a_table_as_it_may_be() -> None:
    table = {
        "name": "news", "publish": "admin", "subscribe": "run", "publish_modes": ["AWS_IAM"], "wildcards": "none",
        "history": 5, "history_s": 60, "history_bytes": "1M", "replay": 2, "presence": True, "invoke": "EVENT",
        "on_publish": "app.events:publish", "on_subscribe": "https://hooks.example/x?y=1",
    }  # fmt: skip
    [made] = read([table])
    assert (made.history_bytes, made.publish_modes, made.keeps) == (1024**2, frozenset({"AWS_IAM"}), True)


@pytest.mark.parametrize(("tables", "said"), [
    ("x", "tables"), ([{}], "name"), ([{"name": "a_b"}], "name"),
    ([{"name": "dialog", "history": 5}], "own"),
    ([{"name": "session", "subscribe": "read"}], "own"), ([{"name": "a"}, {"name": "a"}], "two"),
    ([{"name": "a", "x": 1}], "unknown"),
    ([{"name": "a", "publish": "all"}], "publish"), ([{"name": "a", "publish_modes": []}], "publish_modes"),
    ([{"name": "a", "publish_modes": ["KEY"]}], "publish_modes"), ([{"name": "a", "wildcards": True}], "wildcards"),
    ([{"name": "a", "history": -1}], "history"), ([{"name": "a", "history": True}], "history"),
    ([{"name": "a", "history_s": 5}], "needs history"), ([{"name": "a", "replay": 5}], "needs history"),
    ([{"name": "a", "history": 1, "history_bytes": "x"}], "history_bytes"),
    ([{"name": "a", "presence": 1}], "presence"),
    ([{"name": "a", "on_publish": "file:///etc/passwd"}], "on_publish"),
    ([{"name": "a", "on_publish": "x"}], "on_publish"),
    ([{"name": "a", "on_subscribe": "https://u:p@h/"}], "on_subscribe"), ([{"name": "a", "invoke": "x"}], "invoke"),
    ([{"name": str(n)} for n in range(51)], "at most"),
])  # fmt: skip
def test_a_table_that_is_wrong_is_refused_by_name(tables: Any, said: str) -> None:
    with pytest.raises(BadNamespace, match=said):
        read(tables)
