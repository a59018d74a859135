"""Ids of the server's own."""

from __future__ import annotations

import os
import time
import uuid
from collections import Counter

import pytest

from pilothouse.engine import records
from pilothouse.engine.records import TAILS, new_id


@pytest.fixture(autouse=True)
def _its_own_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever time a test sets, the next one's ids do not count on from there."""
    monkeypatch.setattr(records, "_last", records._last)


def test_ids_are_uuids_of_version_7_that_say_when_they_were_made() -> None:
    before = time.time_ns() // 1_000_000
    made = [new_id() for _ in range(3 * TAILS)]
    after = time.time_ns() // 1_000_000
    assert made == sorted(set(made))
    for text in made:
        known = uuid.UUID(text)
        assert (str(known), known.version, known.variant) == (text, 7, uuid.RFC_4122)
        assert before <= known.int >> 80 <= after


def test_a_clock_that_stands_still_or_goes_back_changes_nothing_in_their_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = [new_id()]
    at = time.time_ns() + 10**9
    for moment in (at, at, at + 1, at - 10**9, at):
        monkeypatch.setattr(time, "time_ns", lambda moment=moment: moment)
        made.append(new_id())
    assert made == sorted(set(made))


def test_all_that_is_to_be_random_is() -> None:
    made = [uuid.UUID(new_id()).int for _ in range(4000)]
    for bit in range(62):
        ones = sum(one >> bit & 1 for one in made)
        assert 1700 < ones < 2300, f"bit {bit}: {ones} of 4000"  # nine and a half deviations
    assert len(Counter(one >> 62 & 3 for one in made)) == 1


def test_a_process_and_its_fork_make_different_ids() -> None:
    new_id()  # there are some to come
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.write(writing, "\n".join(new_id() for _ in range(20)).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as theirs:
        tails = {text[19:] for text in theirs.read().split("\n")}
    os.waitpid(child, 0)
    assert len(tails) == 20
    assert not tails & {new_id()[19:] for _ in range(TAILS)}
