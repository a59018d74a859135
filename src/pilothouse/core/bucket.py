"""How often somebody may: a token bucket and a count for each UTC day. Time is an argument, in seconds since 1970.

A bucket holds `burst` tokens and gets `per_s` new ones each second; each act takes one. A day begins at 00:00 UTC.
A clock that is set back gives nobody a second day: one that had begun goes on with its count. A bucket is not filled by
it, and goes on filling from there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from pilothouse.core.errors import BadRequest, RateLimited

DAY_S = 86_400
PER_S_MIN = 1e-5
"""Hardly once a day."""
PER_S_MAX = 1e6
BURST_MAX = 1_000_000
QUOTA_MAX = 1_000_000_000
"""Bounds of what may be set: beyond them a limit limits nothing."""
_DUST = 1e-3
"""Of a token, that may be lacking and is owed: times of today have a resolution of some 1e-7 s, and whoever waits as
told is to be let through."""


@dataclass(frozen=True, slots=True)
class Rates:
    """Of one key or person. 0: no limit."""

    per_s: float = 10.0
    burst: int = 20
    per_day: int = 1000

    def changed(self, per_s: float | None, burst: int | None, per_day: int | None) -> Rates:
        """With those that are given. Raises BadRequest naming one that is out of range."""
        made = replace(
            self,
            per_s=self.per_s if per_s is None else per_s,
            burst=self.burst if burst is None else burst,
            per_day=self.per_day if per_day is None else per_day,
        )
        if made.per_s != 0 and not PER_S_MIN <= made.per_s <= PER_S_MAX:
            raise BadRequest(f"ratePerS: 0 (no limit), or from {PER_S_MIN:g} to {PER_S_MAX:g}")
        if not 1 <= made.burst <= BURST_MAX:
            raise BadRequest(f"rateBurst: from 1 to {BURST_MAX}")
        if not 0 <= made.per_day <= QUOTA_MAX:
            raise BadRequest(f"quotaPerDay: from 0 (no limit) to {QUOTA_MAX}")
        return made

    def within(self, other: Rates) -> bool:
        """Whether nobody may more by these."""
        often = not other.per_s or (0 < self.per_s <= other.per_s and self.burst <= other.burst)
        return often and (not other.per_day or 0 < self.per_day <= other.per_day)


@dataclass(frozen=True, slots=True)
class State:
    """A limit as its bearer is told: how many at most, how many are left, and when all are there again."""

    limit: int
    remaining: int
    reset_at: float


@dataclass(frozen=True, slots=True)
class Bucket:
    level: float
    at: float

    @classmethod
    def full(cls, rates: Rates, now: float) -> Bucket:
        return cls(float(rates.burst), now)

    def filled(self, rates: Rates, now: float) -> Bucket:
        """As it is now."""
        passed = max(now - self.at, 0.0)
        return Bucket(min(self.level + passed * rates.per_s, float(rates.burst)), now)

    def take(self, rates: Rates, now: float) -> tuple[Bucket, float]:
        """The bucket after one act, and 0; or the bucket as it is, and the seconds until the act is due."""
        here = self.filled(rates, now)
        if here.level >= 1 - _DUST:
            return Bucket(here.level - 1, now), 0.0
        return here, (1 - here.level) / rates.per_s

    def state(self, rates: Rates) -> State:
        """As of its last act."""
        missing = rates.burst - self.level
        return State(rates.burst, max(int(self.level + _DUST), 0), self.at + missing / rates.per_s)


@dataclass(frozen=True, slots=True)
class Daily:
    """Acts counted on one UTC day, numbered from 1970-01-01."""

    day: int
    used: int

    def on(self, now: float) -> Daily:
        """The count that holds now."""
        today = day(now)
        return self if self.day - 1 <= today <= self.day else Daily(today, 0)

    def state(self, rates: Rates) -> State:
        return State(rates.per_day, max(rates.per_day - self.used, 0), float((self.day + 1) * DAY_S))


def day(now: float) -> int:
    return int(now // DAY_S)


def limited(message: str, state: State, wait: float, *, code: str = RateLimited.code) -> RateLimited:
    """What whoever comes too often is told. At least a second: `Retry-After` knows no less."""
    seconds = max(math.ceil(wait - _DUST), 1)
    return RateLimited(
        f"{message} Again in {seconds} s.",
        code=code,
        limit=state.limit,
        remaining=state.remaining,
        resetAt=math.ceil(state.reset_at),
        retryAfterS=seconds,
    )
