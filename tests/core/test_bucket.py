"""A token bucket and a daily count, by properties: whatever the order of times, nobody gets more than is due."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.core.bucket import DAY_S, Bucket, Daily, Rates, State, day, limited
from pilothouse.core.errors import BadRequest

MIDNIGHT = 1_767_225_600.0
"""2026-01-01T00:00:00Z"""

rates = st.builds(Rates, per_s=st.floats(0.01, 1000), burst=st.integers(1, 100), per_day=st.just(0))
steps = st.lists(st.floats(-50, 50) | st.just(0.0), max_size=80)


@given(rates, steps)
def test_never_more_than_burst_and_refill(limit: Rates, moves: list[float]) -> None:
    """Also with a clock that goes back: only time that passes for the first time since then counts."""
    now, forward, granted = MIDNIGHT, 0.0, 0
    bucket = Bucket.full(limit, now)
    for move in moves:
        now += move
        forward += max(move, 0.0)
        bucket, wait = bucket.take(limit, now)
        granted += not wait
        assert -0.001 <= bucket.level <= limit.burst
        assert granted <= limit.burst + forward * limit.per_s + 0.01


@given(rates, st.floats(0, 100))
def test_whoever_waits_as_told_is_let_through(limit: Rates, pause: float) -> None:
    now = MIDNIGHT
    bucket = Bucket.full(limit, now)
    for _ in range(limit.burst):
        bucket, wait = bucket.take(limit, now)
        assert not wait
    bucket, wait = bucket.take(limit, now)
    assert 0 < wait <= 1 / limit.per_s
    early, left = bucket.take(limit, now + wait * 0.9)
    assert left > 0
    _, left = early.take(limit, now + wait)
    assert not left


def test_burst_then_the_rate() -> None:
    limit, bucket = Rates(10, 20, 0), Bucket.full(Rates(10, 20, 0), MIDNIGHT)
    for n in range(20):
        bucket, wait = bucket.take(limit, MIDNIGHT)
        assert not wait
        assert bucket.state(limit) == State(20, 19 - n, MIDNIGHT + (n + 1) / 10)
    assert bucket.take(limit, MIDNIGHT)[1] == pytest.approx(0.1)
    granted = 0
    for tenth in range(1, 101):  # ten seconds
        for _ in range(3):
            bucket, wait = bucket.take(limit, MIDNIGHT + tenth / 10)
            granted += not wait
    assert granted == 100


def test_a_clock_set_back_fills_no_bucket_and_stops_none() -> None:
    limit = Rates(1, 2, 0)
    bucket = Bucket(0.0, MIDNIGHT)
    assert bucket.take(limit, MIDNIGHT - 3600)[1] == 1
    back, _ = bucket.take(limit, MIDNIGHT - 3600)
    assert back.take(limit, MIDNIGHT - 3599)[1] == 0


def test_a_day_begins_at_midnight_utc() -> None:
    evening = Daily(day(MIDNIGHT - 1), 7)
    assert evening.on(MIDNIGHT - 0.001) is evening
    assert evening.on(MIDNIGHT) == Daily(day(MIDNIGHT), 0)
    assert evening.state(Rates(per_day=10)) == State(10, 3, MIDNIGHT)


def test_a_clock_set_back_over_midnight_gives_no_second_day_and_one_far_wrong_locks_nobody_out() -> None:
    today = Daily(day(MIDNIGHT), 7)
    assert today.on(MIDNIGHT - 60) is today
    wrong = Daily(day(MIDNIGHT + 400 * DAY_S), 7)
    assert wrong.on(MIDNIGHT) == Daily(day(MIDNIGHT), 0)


def test_what_a_caller_is_told() -> None:
    error = limited("Slowly.", State(20, 0, MIDNIGHT + 1.2), 0.05)
    assert error.status == 429
    assert error.message == "Slowly. Again in 1 s."
    assert error.headers == {
        "x-ratelimit-limit": "20",
        "x-ratelimit-remaining": "0",
        "x-ratelimit-reset": str(int(MIDNIGHT) + 2),
        "retry-after": "1",
    }


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"per_s": -1}, "ratePerS"),
        ({"per_s": float("nan")}, "ratePerS"),
        ({"per_s": 1e-320}, "ratePerS"),
        ({"per_s": float("inf")}, "ratePerS"),
        ({"burst": 0}, "rateBurst"),
        ({"burst": 10**9}, "rateBurst"),
        ({"per_day": -1}, "quotaPerDay"),
        ({"per_day": 10**12}, "quotaPerDay"),
    ],
)
def test_a_rate_out_of_range_is_named(given: dict[str, float], named: str) -> None:
    with pytest.raises(BadRequest, match=named):
        Rates().changed(**{"per_s": None, "burst": None, "per_day": None, **given})  # type: ignore[arg-type]
    assert Rates().changed(None, None, None) == Rates()


@given(rates | st.just(Rates(0, 1, 0)), rates | st.just(Rates(0, 1, 0)))
def test_within_is_never_more(one: Rates, other: Rates) -> None:
    if one.within(other):
        assert one.per_s <= (other.per_s or 1e9)
        assert one.per_s or not other.per_s
        assert not other.per_s or one.burst <= other.burst
    assert one.within(one)
    assert not Rates(0, 1, 5).within(Rates(1, 1, 5))
    assert not Rates(1, 1, 0).within(Rates(1, 1, 5))
    assert Rates(1, 1, 5).within(Rates(0, 1, 0))
