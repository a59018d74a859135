"""Scrollback: against the whole output kept aside, byte by byte and by offset; seams against a parser that looks at
every byte."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilothouse.core.scrollback import Ahead, Gone, Scrollback, Window, begin
from pilothouse.core.seam import GRAIN, Seams

PARTS = [
    *(b"\x1b[31m", b"\x1b[?1049h", b"\x1b[1;\x7f2\x00H", b"\x1b[", b"\x1b(B", b"\x1b  F", b"\x1b"),
    *(b"\x1b]0;title\x07", b"\x1b]8;;http://x\x1b\\", b"\x1b]52;", b"\x1bPq#0~\x1b\\", b"\x1b_G\x1b\\", b"\x1bX"),
    *(b"\x18", b"\x1a", b"\n", b"\x07", b"m", b"\\", "ü€😀".encode()),
]


@st.composite
def outputs(draw: st.DrawFn) -> list[bytes]:
    """Pieces as they are read: sequences and characters cut anywhere."""
    part = st.one_of(st.sampled_from(PARTS), st.binary(max_size=6), st.text(max_size=5).map(lambda t: t.encode()))
    whole = b"".join(draw(st.lists(part, max_size=40)))
    cuts = sorted(draw(st.lists(st.integers(0, len(whole)), max_size=12)))
    return [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]


@given(outputs(), st.integers(1, 64))
def test_whatever_is_kept_is_what_was_written(pieces: list[bytes], capacity: int) -> None:
    kept, whole = Scrollback(bytearray(capacity)), b""
    for piece in pieces:
        kept.append(piece)
        whole += piece
        assert kept.head == len(whole)
        assert kept.oldest == max(0, len(whole) - capacity)
        for offset in range(kept.oldest, kept.head + 1):
            assert kept.read(offset, capacity) == whole[offset:]
            assert kept.read(offset, 3, b"\x01") == b"\x01" + whole[offset : offset + 3]


@given(st.lists(st.tuples(st.integers(1, 50), st.binary(max_size=50))), st.integers(1, 40))
def test_bytes_read_straight_into_the_room(reads: list[tuple[int, bytes]], capacity: int) -> None:
    kept, whole = Scrollback(bytearray(capacity)), b""
    for limit, data in reads:
        got = 0
        for room in kept.room(limit):
            piece = data[got : got + len(room)]
            room[: len(piece)] = piece
            got += len(piece)
        assert got <= min(limit, capacity)
        kept.took(got)
        whole += data[:got]
        assert kept.read(kept.oldest, capacity) == whole[-min(capacity, len(whole)) :] if whole else not kept.head


def test_offsets_go_on_from_where_the_memory_was_taken_over() -> None:
    kept = Scrollback(bytearray(8), head=1_000, start=1_000)
    kept.append(b"abc")
    assert (kept.oldest, kept.head) == (1_000, 1_003)
    assert kept.read(1_001, 9) == b"bc"
    kept.append(b"0123456789")
    assert kept.read(kept.oldest, 99) == b"23456789"


def test_what_is_not_there_is_said() -> None:
    kept = Scrollback(bytearray(4))
    kept.append(b"abcdef")
    with pytest.raises(Gone) as gone:
        kept.read(1, 4)
    assert gone.value.oldest == 2
    with pytest.raises(Ahead) as ahead:
        kept.read(7, 1)
    assert ahead.value.head == 6
    assert kept.read(6, 10) == b""


# --- seams ------------------------------------------------------------------------------------------------------------


def ground(data: bytes) -> list[bool]:
    """For every offset, the end included: whether a terminal's parser is in the ground state there, and not inside of a
    character. One byte at a time, from the state diagram."""
    state, found, need = "ground", [True], 0
    for byte, following in zip(data, data[1:] + b"\x80", strict=False):
        need = need - 1 if need and 0x80 <= byte < 0xC0 else 0
        if byte >= 0xC0:
            need = 1 if byte < 0xE0 else 2 if byte < 0xF0 else 3
        if byte == 0x1B:
            state = "escape"
        elif byte in (0x18, 0x1A):
            state = "ground"
        elif state in ("escape", "short"):
            if byte < 0x20 or byte >= 0x7F:
                pass
            elif byte < 0x30:
                state = "short"
            elif state == "escape" and byte in b"[]":
                state = "csi" if byte == 0x5B else "osc"
            elif state == "escape" and byte in b"PX^_":
                state = "string"
            else:
                state = "ground"
        elif (state == "csi" and 0x40 <= byte < 0x7F) or (state == "osc" and byte == 7):
            state = "ground"
        found.append(state == "ground" and not (need and 0x80 <= following < 0xC0))
    return found


@settings(max_examples=400)
@given(outputs())
def test_a_seam_is_never_inside_of_anything(pieces: list[bytes]) -> None:
    whole, seams = b"".join(pieces), Seams()
    fine = ground(whole)
    for piece in pieces:
        seams.feed(piece)
        for place in seams.places():
            assert fine[place] or whole[place : place + 1] == b"\x1b"


@settings(max_examples=400)
@given(outputs())
def test_the_end_is_a_seam_whenever_it_can_be_one(pieces: list[bytes]) -> None:
    seams, whole = Seams(), b""
    for piece in pieces:
        seams.feed(piece)
        whole += piece
        if ground(whole)[-1]:
            assert seams.after(len(whole)) == len(whole)


@given(outputs(), st.integers(1, 200), st.integers(0, 300))
def test_a_replay_begins_at_a_seam_that_is_kept(pieces: list[bytes], capacity: int, asked: int) -> None:
    kept = Scrollback(bytearray(capacity))
    for piece in pieces:
        kept.append(piece)
    whole, at = b"".join(pieces), kept.seam(asked)
    if at is not None:
        assert max(asked, kept.oldest) <= at <= kept.head
        assert ground(whole)[at] or whole[at : at + 1] == b"\x1b"
        assert kept.read(at, capacity) == whole[at:]


def test_inside_of_something_long_there_is_no_seam_until_it_ends() -> None:
    kept = Scrollback(bytearray(10_000))
    kept.append(b"\x1b]52;c;")
    for _ in range(20):
        kept.append(b"A" * 1_000)
    assert kept.seam(0) is None
    kept.append(b"A\x07$ ")
    assert kept.seam(0) == kept.head


def test_nobody_looks_through_something_long_while_it_has_no_end() -> None:
    """It is asked again with every piece that comes: the whole of it each time would be the square of its length."""
    kept = Scrollback(bytearray(10_000))
    kept.append(b"before\x1b]52;c;")
    kept.append(b"A" * 5_000)
    looked = list[int]()

    class Watched(Window):
        def read(self, offset: int, limit: int, prefix: bytes = b"") -> bytes:
            looked.append(limit)
            return super().read(offset, limit, prefix)

    assert begin(Watched(bytearray(10_000), kept.head), kept._seams, 100, 0) is None
    assert looked == []


def test_seams_are_few() -> None:
    seams = Seams()
    for _ in range(10_000):
        seams.feed(b"line\n")
    assert len(seams.places()) <= 50_000 / GRAIN + 2
    assert seams.after(50_000) == 50_000
    seams.forget(45_000)
    assert min(seams.places()) >= 45_000


@given(outputs(), st.integers(0, 300))
def test_the_seam_found_is_the_first_in_plain_text(pieces: list[bytes], asked: int) -> None:
    """However large the pieces were in which it was read."""
    kept, text = Scrollback(bytearray(4096)), b"plain text, " * 40
    for piece in (text, b"\x1b[0m" + b"".join(pieces).replace(b"\x1b", b"") + text):
        kept.append(piece)
    at = kept.seam(asked)
    assert at is not None and asked <= at <= max(asked, len(text)) + 4 + 512


@pytest.mark.parametrize(("begin", "end"), [(b"\x1b]1337;File=:", b"\x07"), (b"\x1bPq", b"\x1b\\")])
def test_the_middle_of_something_long_that_somebody_else_wrote_is_no_place_to_begin(begin: bytes, end: bytes) -> None:
    """Longer than what is kept: no seam of it is known, and the next is where it ends."""
    memory = bytearray(64)
    kept, whole = Scrollback(memory), b"$ " + begin + b"picture" * 50
    for at, byte in enumerate(whole):
        memory[at % 64] = byte
    kept.moved(len(whole), [])
    assert kept.seam(kept.oldest) is None
    kept.append(b"more")
    assert kept.seam(kept.oldest) is None
    kept.append(end)
    kept.append(b"text")
    assert kept.seam(kept.oldest) == len(whole) + 4 + (len(end) if end == b"\x07" else 0)
