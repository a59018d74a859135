"""What a terminal is not to hear again: questions that it would answer by typing, and what it would do once more."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.cli.mute import ALL, HELD_MAX, QUESTIONS, Mute
from pilothouse.core.frames import CHUNK

ASKED = [
    b"\x1b[c", b"\x1b[0c", b"\x1b[>c", b"\x1b[=c", b"\x1b[5n", b"\x1b[6n", b"\x1b[?6n", b"\x1b[?996n", b"\x1b[x",
    b"\x1b[1x", b"\x1b[?2026$p", b"\x1b[4$p", b"\x1b[>q", b"\x1b[>0q", b"\x1b[?u", b"\x1b[?4m", b"\x1b[?1;1;0S",
    b"\x1b[14t", b"\x1b[18t", b"\x1b[21t", b"\x1b[8;50;90t", b"\x1b[2t", b"\x1b[1$w", b"\x1b[1;1;1;1;9;9*y",
    b"\x1bZ", b"\x05", b"\xc2\x9bc", b"\x1b[\x00c", b"\x1b]11;?\x07", b"\x1b]4;1;?;2;?\x1b", b"\x1b]52;c;?\x07",
    b"\x1bP$qm\x1b", b"\x1bP+q544e\x1b", b"\x1b_Gi=1,a=q;AAAA\x1b", b"\x1b]1337;ReportCellSize\x07",
]  # fmt: skip
DONE = [
    b"\x1b]52;c;aGk=\x07", b"\x1b]52;;" + b"QUJD" * 3000 + b"\x1b", b"\x1b]9;done\x07",
    b"\x1b]777;notify;a;b\x07", b"\x1b]99;i=1;hi\x1b", b"\x1b]1337;Copy=:aGk=\x07", b"\x1b_Ga=T,i=7;QUJD\x1b",
    b"\x1b[5i", b"\x1b[?5i",
]  # fmt: skip
KEPT = [
    b"plain\r\n", "é漢🙂Â".encode(), b"\x1b[31m", b"\x1b[?25l", b"\x1b[?1004h", b"\x1b[2J", b"\x1b[H", b"\x1b[u",
    b"\x1b[s", b"\x1b[3 q", b"\x1b[!p", b"\x1b[62\"p", b"\x1b[22;0t", b"\x1b[23t", b"\x1b[3;4S", b"\x1b7",
    b"\x1bM", b"\x1b(0", b"\x1b]0;is it?\x07", b"\x07", b"\x1b]8;;http://x/?a\x07", b"\x1b]7;file://h/?\x07",
    b"\x1b]11;#000\x07", b"\x1b]133;A\x07", b"\x1b]1337;File=:QUJD\x07", b"\x1bPq#0~\x1b\\", b"\x1b[=1;1u",
    b"\x1b[>4;2m", b"\x18", b"\xff\xfe", b"\x1b\\",
]  # fmt: skip

PARTS = [b"\x1b", b"[", b"]", b"5", b";", b"?", b"\xc2", b"\x9d", b"\x9b", b"\x9f", b"4;", b"Ga=", b"q"]


def left(*pieces: bytes, what: re.Pattern[bytes] | None = ALL) -> bytes:
    mute = Mute()
    return b"".join(mute.take(piece, what) for piece in pieces) + mute.take(b"", None)


@pytest.mark.parametrize("asked", ASKED)
def test_c22_a_question_is_taken_out_and_nothing_around_it(asked: bytes) -> None:
    after = b"\x1b\\" if asked.endswith(b"\x1b") else b""
    whole = b"before" + asked.removesuffix(b"\x1b") + after + b"after"
    for what in (ALL, QUESTIONS):
        assert left(whole, what=what) == b"before" + after + b"after"
        for at in range(len(whole)):
            assert left(whole[:at], whole[at:], what=what) == b"before" + after + b"after", at
    assert left(whole, what=None) == whole


@pytest.mark.parametrize("done", DONE, ids=lambda done: repr(done[:12]))
def test_c22_what_was_done_is_not_done_again_and_is_where_it_is_said_first(done: bytes) -> None:
    whole = b"before" + done + b"\\" * done.endswith(b"\x1b") + b"after"
    assert left(whole) == b"before" + b"\x1b\\" * done.endswith(b"\x1b") + b"after"
    assert left(whole, what=QUESTIONS) == whole


@pytest.mark.parametrize("kept", KEPT)
def test_what_only_draws_is_as_it_was(kept: bytes) -> None:
    whole = b"before" + kept + b"after"
    assert left(whole) == whole
    assert left(*(whole[at : at + 1] for at in range(len(whole)))) == whole


@given(st.lists(st.sampled_from(ASKED + DONE + KEPT + PARTS)), st.data())
def test_c22_it_is_the_same_wherever_it_is_cut(said: list[bytes], data: st.DataObject) -> None:
    whole = b"".join(said)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=6)))
    pieces = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    assert left(*pieces) == left(whole)


@given(st.lists(st.sampled_from(ASKED + DONE + KEPT + PARTS + [b"c", b"n", b"\x05"])))
def test_c22_what_is_left_over_makes_no_question(said: list[bytes]) -> None:
    whole = b"".join(said)
    assert not ALL.search(left(whole) + b"\x18")
    assert not QUESTIONS.search(left(whole, what=QUESTIONS) + b"\x18")


def test_where_the_replay_ends_in_the_middle_of_something() -> None:
    mute = Mute()
    assert mute.take(b"a\x1b[", ALL) == b"a"
    assert mute.take(b"31mred", None) == b"\x1b[31mred"  # it was no question
    assert mute.take(b"b\x1b]52;c;QUJD", ALL) == b"b"
    assert mute.take(b"REVG", None) == b""  # half of it has gone: the rest is no text
    assert mute.take(b"\x07c", None) == b"c"


@pytest.mark.parametrize("begun", [b"\xc2\x9d4;", b"\xc2\x9fG", b"\xc2\x9d52;\xc2", b"\x1b[", b"\xc2\x900", b"\xc2"])
@pytest.mark.parametrize("end", [b"", b"\x07"])
def test_c22_a_flood_of_beginnings_takes_no_longer_than_text(begun: bytes, end: bytes) -> None:
    mute, flood, began = Mute(), begun * (CHUNK // len(begun)) + end, time.process_time()
    mute.take(flood, QUESTIONS)
    assert time.process_time() - began < 1  # and not half a minute


def test_nothing_waits_for_an_end_without_end() -> None:
    mute, text = Mute(), b"\x1b]10;" + b"x" * HELD_MAX
    assert mute.take(text, ALL) == text
