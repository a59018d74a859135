"""Fragments: any split comes together again, any garbage is `Broken`, nothing is held without bounds."""

from __future__ import annotations

import base64

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.core.link import MESSAGE_MAX, OPEN_FRAGMENTS_MAX, WHOLE_MAX, Assembler, Broken, split


def piece(fragment: object, i: object, n: object, data: bytes = b"x") -> bytes:
    return msgspec.json.encode({"f": fragment, "i": i, "n": n, "d": base64.b64encode(data).decode()})


@given(sizes=st.lists(st.integers(0, 200_000), max_size=4))
def test_what_was_split_comes_together(sizes: list[int]) -> None:
    there = Assembler()
    for number, size in enumerate(sizes):
        message = b"{" + b"a" * size
        *most, last = split(message, f"f{number}")
        assert all(len(frame) <= MESSAGE_MAX for frame in (*most, last))
        assert [there.feed(frame) for frame in most] == [None] * len(most)
        assert there.feed(last) == message


def test_messages_in_pieces_may_interleave() -> None:
    one, two = split(b"1" * 50_000, "a"), split(b"2" * 50_000, "b")
    there = Assembler()
    answers = [there.feed(frame) for pair in zip(one, two, strict=True) for frame in pair]
    assert [a for a in answers if a is not None] == [b"1" * 50_000, b"2" * 50_000]


GARBAGE = st.binary(max_size=100).map(lambda b: b'{"f":' + b) | st.binary(max_size=100)
ODD = st.sampled_from([0, 1, 2, -1, 2**70, None, "x", 1.5])
FRAMES = st.lists(
    GARBAGE | st.builds(piece, st.sampled_from(["a", "b", 1, None]), ODD, ODD, st.binary(max_size=5)), max_size=30
)


@given(frames=FRAMES)
def test_no_garbage_breaks_it(frames: list[bytes]) -> None:
    there = Assembler()
    for frame in frames:
        assert isinstance(there.feed(frame), bytes | Broken | None)
    assert there._held == sum(len(p) for _, pieces in there._open.values() for p in pieces)


def test_a_frame_over_the_limit_is_broken() -> None:
    assert isinstance(Assembler().feed(b"x" * (MESSAGE_MAX + 1)), Broken)
    assert Assembler().feed(b"x" * MESSAGE_MAX) == b"x" * MESSAGE_MAX


def test_pieces_out_of_order_twice_or_of_another_count_are_broken() -> None:
    for second in (piece("a", 0, 3), piece("a", 2, 3), piece("a", 1, 4), piece("a", 1, 3, b"")):
        there = Assembler()
        assert there.feed(piece("a", 0, 3)) is None
        assert isinstance(there.feed(second), Broken)
        assert there._held == 0
    for bad in (piece("a", 0, 0), piece("a", 0, 10**6), piece("a", 1, 2)):
        assert isinstance(Assembler().feed(bad), Broken)


def test_too_many_at_once_and_too_much_in_all_are_broken() -> None:
    there = Assembler()
    for number in range(OPEN_FRAGMENTS_MAX):
        assert there.feed(piece(f"f{number}", 0, 2)) is None
    assert isinstance(there.feed(piece("more", 0, 2)), Broken)
    there, data = Assembler(), b"x" * 20_000
    count = WHOLE_MAX // len(data) + 2
    answers = [there.feed(piece("a", i, count, data)) for i in range(count)]
    assert any(isinstance(a, Broken) for a in answers)
    assert there._held <= WHOLE_MAX
