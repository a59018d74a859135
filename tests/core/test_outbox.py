from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.core.outbox import DONE_MAX, RUNNING_MAX, Commands, Done, Fence, Outbox


def test_numbers_from_one_and_keeps_until_acknowledged() -> None:
    box = Outbox()
    assert (box.first, box.last) == (1, 0)
    assert [box.put(b'"a"'), box.put(b'"b"')] == [1, 2]
    assert box.after(0) == (1, b'{"n":1,"ev":"a"}')
    assert box.after(1) == (2, b'{"n":2,"ev":"b"}')
    assert box.after(2) is None
    assert box.ack(1) and box.first == 2 and box.after(0) == (2, b'{"n":2,"ev":"b"}')
    assert box.ack(2) and box.held == 0 and box.first == 3


@pytest.mark.parametrize("n", [-1, 3])
def test_acknowledging_what_was_never_said_frees_nothing(n: int) -> None:
    box = Outbox()
    box.put(b"1")
    box.put(b"2")
    held = box.held
    assert not box.ack(n) and box.held == held


def test_full_says_so_but_an_empty_one_takes_anything() -> None:
    box = Outbox(limit=100)
    assert box.fits(1000)
    box.put(b"x" * 90)
    assert not box.fits(10) and box.after(0) is not None
    box.ack(1)
    assert box.fits(1000)


@given(st.lists(st.one_of(st.binary(min_size=1, max_size=9), st.integers(0, 40)), max_size=60))
def test_whatever_the_order_a_reader_sees_every_number_once(steps: list[bytes | int]) -> None:
    box, acked = Outbox(), 0
    seen: list[int] = []
    for step in steps:
        if isinstance(step, bytes):
            box.put(step)
        elif box.ack(step):
            acked = max(acked, step)
        while (kept := box.after(max(acked, seen[-1] if seen else 0))) is not None:
            seen.append(kept[0])
        assert box.first == acked + 1 and (box.held == 0) == (box.first > box.last)
    assert seen == list(range(1, box.last + 1))


def test_a_command_runs_once_and_is_answered_again() -> None:
    commands = Commands()
    assert commands.take("a") is True
    assert commands.take("a") is False
    commands.finish("a", "no")
    assert commands.take("a") == Done("no")


def test_what_is_remembered_is_bounded() -> None:
    commands = Commands()
    for i in range(DONE_MAX + 1):
        assert commands.take(str(i)) is True
        commands.finish(str(i))
    assert commands.take("0") is True
    assert commands.take("1") == Done()
    for i in range(RUNNING_MAX - 1):
        assert commands.take(f"r{i}") is True
    assert isinstance(commands.take("one more"), Done)


def test_the_higher_fence_wins_and_an_equal_one_only_when_free() -> None:
    fence = Fence()
    assert fence.attach(1) and fence.attach(3)
    assert not fence.attach(2) and not fence.attach(3)
    assert fence.holds(3) and not fence.holds(1)
    fence.detach(1)
    assert fence.holds(3)
    fence.detach(3)
    assert not fence.attach(2) and fence.attach(3)
