"""When to try again what could not be delivered. Pure: the time and the chance are arguments."""

from __future__ import annotations

import email.utils
from dataclasses import dataclass

RETRY_AFTER_MAX = 86_400.0
"""Seconds. A receiver that asks for more is asked again after a day: it may have meant something else."""


@dataclass(frozen=True, slots=True)
class Patience:
    """`first_s` before the second attempt, four times as long before each further one, never over `most_s`."""

    first_s: float
    most_s: float
    attempts: int

    def pause(self, attempts: int, chance: float, wished: float | None = None) -> float | None:
        """Seconds until the next attempt after so many, or None: there is none. `chance` (0 to 1) spreads those that
        failed together; `wished` is what the receiver asked for, and never shortens it."""
        if attempts >= self.attempts:
            return None
        usual = min(self.first_s * 4.0 ** (attempts - 1), self.most_s)
        return max(usual * (0.5 + chance / 2), wished or 0.0)


WEBHOOK = Patience(5.0, 6 * 3600.0, 10)
"""10 to 20 hours in all: long enough for a night in which nobody looks at a receiver that is down."""
NOTICE = Patience(2.0, 120.0, 5)
"""Some minutes: who is told later than that is told of something old."""


def retry_after(text: str, now: float) -> float | None:
    """`Retry-After`: seconds or a date. None for what is neither."""
    text = text.strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:12]), RETRY_AFTER_MAX)
    try:
        at = email.utils.parsedate_to_datetime(text)
        return min(max(at.timestamp() - now, 0.0), RETRY_AFTER_MAX)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
