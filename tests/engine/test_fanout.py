"""The fan-out: slices and cursors, sinks that read as they please; nobody misses, doubles or waits for another."""

from __future__ import annotations

import asyncio
import random

import pytest

from pilothouse.core.run import TEXT, Run, header
from pilothouse.engine import fanout
from pilothouse.engine.fanout import SLICE, TAIL_MAX, Fanout, Feed, Lost, Stretch, Subscriber
from pilothouse.engine.ports import StoreFailed


class Sink:
    """A connection that may be full."""

    def __init__(self) -> None:
        self.got: list[bytes] = []
        self.writes = 0
        self.full = False
        self.closed: int | None = None
        self._free = asyncio.Event()

    def send_run(self, prefix: bytes, run: Run) -> bool:
        if self.full:
            return False
        self.writes += 1
        self.got += [prefix + rest for rest in run.rests]
        assert run.frames(prefix) == b"".join(header(TEXT, len(prefix + rest)) + prefix + rest for rest in run.rests)
        return True

    async def writable(self) -> bool:
        while self.full and self.closed is None:
            self._free.clear()
            await self._free.wait()
        return self.closed is None

    def close(self, code: int = 1000, reason: str = "") -> None:
        self.closed = code
        self._free.set()

    def reads(self) -> None:
        self.full = False
        self._free.set()

    @property
    def numbers(self) -> list[int]:
        return [int(message.lstrip(b"pq").split(b".")[0]) for message in self.got]


class Past:
    """All that was ever pushed, as a store has it."""

    def __init__(self, oldest: int = 1) -> None:
        self.rows: list[tuple[int, bytes]] = []
        self.oldest = oldest
        self.failing = False

    async def after(self, cursor: int, upto: int) -> Stretch:
        await asyncio.sleep(0)
        if self.failing:
            raise StoreFailed("no")
        found = [row for row in self.rows if max(cursor, self.oldest - 1) < row[0] <= upto][:7]
        lost = Lost(cursor + 1, self.oldest - 1) if cursor + 1 < self.oldest else None
        return Stretch(found, found[-1][0] if found else upto, lost)


class Place:
    def __init__(self, past: Past | None = None) -> None:
        self.past = past
        self.feed = Feed(Fanout(), 0, past)

    def add(self, after: int | None = None, prefix: bytes = b"p") -> tuple[Sink, Subscriber]:
        sink = Sink()
        who = Subscriber(sink, prefix)
        self.feed.join(who, after)
        return sink, who

    def push(self, count: int = 1, size: int = 0) -> None:
        rows = [(self.feed.head + n, b"%d.%b" % (self.feed.head + n, b"x" * size)) for n in range(1, count + 1)]
        if self.past is not None:
            self.past.rows += rows
        self.feed.push(rows)

    async def calm(self) -> None:
        for _ in range(200):
            await asyncio.sleep(0)


async def test_everybody_gets_everything_in_order_and_late_comers_what_comes_then() -> None:
    place = Place()
    early = [place.add()[0] for _ in range(3 * SLICE + 5)]
    place.push(3)
    late, _ = place.add()
    place.push(2)
    await place.calm()
    assert all(sink.numbers == [1, 2, 3, 4, 5] for sink in early)
    assert late.numbers == [4, 5]
    assert early[0].writes == 1, "what came before the first write went with it"
    assert place.feed._rests == [], "nothing is kept for nobody"


async def test_a_feed_knows_whether_anybody_is_there() -> None:
    place = Place(Past())
    assert not place.feed
    many = [place.add()[1] for _ in range(2 * SLICE + 1)]
    place.push()
    late = place.add(0)[1]
    for who in (*many, late):
        assert place.feed
        place.feed.leave(who)
    assert not place.feed
    assert len(place.feed) == 0


async def test_the_loop_is_let_go_after_each_slice_and_what_comes_meanwhile_joins() -> None:
    place = Place()
    sinks = [place.add()[0] for _ in range(4 * SLICE)]
    place.push()
    for step in range(1, 5):
        await asyncio.sleep(0)
        assert sum(sink.writes for sink in sinks) == step * SLICE
        if step == 2:
            place.push()
    await place.calm()
    assert [sink.writes for sink in sinks[::SLICE]] == [2, 2, 1, 1]
    assert all(sink.numbers == [1, 2] for sink in sinks)


async def test_who_leaves_hears_nothing_more_even_what_was_on_its_way() -> None:
    place = Place()
    sink, who = place.add()
    other, _ = place.add()
    place.push()
    place.feed.leave(who)
    await place.calm()
    assert sink.got == []
    assert other.numbers == [1]
    assert len(place.feed) == 1


async def test_one_that_does_not_read_is_given_the_rest_when_it_does() -> None:
    place = Place()
    slow, _ = place.add()
    quick, _ = place.add()
    place.push()
    await place.calm()
    slow.full = True
    for _ in range(5):
        place.push()
        await place.calm()
    assert (slow.numbers, quick.numbers) == ([1], [1, 2, 3, 4, 5, 6])
    slow.reads()
    await place.calm()
    place.push()
    await place.calm()
    assert slow.numbers == quick.numbers == list(range(1, 8))
    assert place.feed._behind == {}
    assert place.feed._rests == []


async def test_one_that_falls_too_far_behind_is_sent_away_and_the_tail_stays_small() -> None:
    place = Place()
    slow, _ = place.add()
    quick, _ = place.add()
    slow.full = True
    for _ in range(40):
        place.push(size=TAIL_MAX // 10)
        await place.calm()
        assert place.feed._size <= TAIL_MAX
    assert len(quick.got) == 40
    slow.reads()
    await place.calm()
    assert slow.closed == 1001
    assert slow.got == []


async def test_with_a_past_it_goes_on_where_it_was_however_far() -> None:
    place = Place(Past())
    slow, _ = place.add()
    slow.full = True
    for _ in range(40):
        place.push(size=TAIL_MAX // 10)
        await place.calm()
    slow.reads()
    await place.calm()
    place.push()
    await place.calm()
    assert slow.numbers == list(range(1, 42))
    assert slow.closed is None


async def test_a_cursor_is_followed_from_the_past_into_the_present() -> None:
    place = Place(Past())
    place.push(30)
    sinks = {after: place.add(after)[0] for after in (0, 5, 29, 30)}
    place.push(3)
    await place.calm()
    for after, sink in sinks.items():
        assert sink.numbers == list(range(after + 1, 34)), after


async def test_what_is_gone_is_said() -> None:
    place = Place(Past(oldest=11))
    place.push(20)
    told: list[Lost] = []

    class Told(Subscriber):
        def missed(self, lost: Lost) -> None:
            told.append(lost)

    sink = Sink()
    place.feed.join(Told(sink, b"p"), 4)
    await place.calm()
    assert told == [Lost(5, 10)]
    assert sink.numbers == list(range(11, 21))


async def test_one_that_reads_nothing_for_long_is_sent_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fanout, "SLOW_S", 0.01)
    place = Place(Past())
    slow, _ = place.add()
    slow.full = True
    place.push()
    while slow.closed is None:
        await asyncio.sleep(0.01)
    assert slow.closed == 1001


async def test_a_store_that_fails_sends_away_who_needs_it_and_nobody_else() -> None:
    place = Place(Past())
    place.push(5)
    assert place.past is not None
    place.past.failing = True
    behind, _ = place.add(0)
    here, _ = place.add()
    place.push()
    await place.calm()
    assert behind.closed == 1001
    assert (here.numbers, here.closed) == ([6], None)


async def test_publishers_wait_while_too_much_is_on_its_way() -> None:
    place = Place()
    for _ in range(2 * SLICE):
        place.add()
    place.push(size=fanout.AHEAD_MAX + 1)
    before = place.feed.crowded
    async with asyncio.timeout(20):
        await place.feed.room()
    assert (before, place.feed.crowded) == (True, False)


@pytest.mark.parametrize("seed", range(6))
async def test_c30_whatever_happens_each_sees_a_sequence_without_a_hole(seed: int) -> None:
    """Comers, leavers, readers who stop and go on, at random; numbers with holes, as a job's are in its session."""
    chance = random.Random(seed)
    past = Past()
    place = Place(past)
    there: list[tuple[Sink, Subscriber, int]] = []
    gone: list[tuple[Sink, int, int]] = []
    for _ in range(600):
        match chance.randrange(6):
            case 0:
                after = chance.choice([None, chance.randrange(place.feed.head + 1)])
                start = place.feed.head if after is None else after
                there.append((*place.add(after, b"q" * chance.choice([1, 1, 1, 3])), start))
            case 1 if there:
                sink, who, start = there.pop(chance.randrange(len(there)))
                place.feed.leave(who)
                gone.append((sink, start, len(sink.got)))
            case 2 if there:
                chance.choice(there)[0].full = True
            case 3 if there:
                chance.choice(there)[0].reads()
            case 4:
                number = place.feed.head + chance.choice([1, 1, 5])
                row = (number, b"%d.%b" % (number, b"x" * chance.choice([1, TAIL_MAX // 4])))
                past.rows.append(row)
                place.feed.push([row])
            case _:
                for _ in range(chance.randrange(4)):
                    await asyncio.sleep(0)
    for sink, _, _ in there:
        sink.reads()
    await place.calm()
    await place.calm()
    every = [number for number, _ in past.rows]
    for sink, _, start in there:
        assert [int(m.lstrip(b"q").split(b".")[0]) for m in sink.got] == [n for n in every if n > start]
    for sink, start, size in gone:
        assert len(sink.got) == size, "nothing after it has left"
        assert [int(m.lstrip(b"q").split(b".")[0]) for m in sink.got] == [n for n in every if n > start][:size]
    assert len(place.feed) == len(there)


@pytest.mark.parametrize("size", [0, 1, 120, 125, 126, 65_530, 65_540, 70_000])
def test_frames_are_those_of_the_standard(size: int) -> None:
    assert header(TEXT, size) + b"x" * size == Run([b"x" * size]).frames(b"")
