"""What model calls cost, in USD per million tokens: list prices as published by the providers.

As of 2026-11 for the families named; a model in none of them is priced like the dearest one here and the record says
that the price is a guess, so that a budget errs on the careful side.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Price:
    input: float
    output: float
    cache_write: float
    cache_read: float
    guessed: bool = False


@dataclass(frozen=True, slots=True)
class Tokens:
    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0

    @property
    def total(self) -> int:
        return self.input + self.output + self.cache_read + self.cache_write


def _list(given: float, made: float) -> Price:
    """Writing to the cache costs a quarter more than reading afresh, reading from it a tenth."""
    return Price(given, made, given * 1.25, given * 0.1)


_FAMILIES: tuple[tuple[re.Pattern[str], Price], ...] = tuple(
    (re.compile(pattern), _list(given, made))
    for pattern, given, made in (
        (r"claude-opus-4-(?:[5-9]|1\d)\b", 5.0, 25.0),
        (r"claude-opus-4|claude-3-opus", 15.0, 75.0),
        (r"claude-sonnet-4|claude-3-[57]-sonnet|claude-3-sonnet", 3.0, 15.0),
        (r"claude-haiku-4-5", 1.0, 5.0),
        (r"claude-3-5-haiku", 0.8, 4.0),
        (r"claude-3-haiku", 0.25, 1.25),
    )
)
FREE = Price(0.0, 0.0, 0.0, 0.0)
GUESS = Price(15.0, 75.0, 18.75, 1.5, guessed=True)


def price_of(model: str) -> Price:
    return next((price for pattern, price in _FAMILIES if pattern.search(model)), GUESS)


def cost(price: Price, tokens: Tokens) -> float:
    return (
        tokens.input * price.input
        + tokens.output * price.output
        + tokens.cache_write * price.cache_write
        + tokens.cache_read * price.cache_read
    ) / MILLION
