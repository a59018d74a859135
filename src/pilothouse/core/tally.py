"""What was used, added up: by day, person, key, session and model. The sums are kept in documents, each in the same
commit as the record it counts, so no record is counted twice and none is forgotten.

    id       ORGANISATION:DAY:SESSION:DIGEST     DIGEST tells person, key and model apart
             ORGANISATION:DAY:SESSION:agent:JOB  what the agent itself said of a job that the proxy did not meter

so that the days of one organisation stand together. A day is a day of UTC. Fields: `Tally`.
"""

from __future__ import annotations

import csv
import datetime
import hashlib
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import msgspec
from msgspec import Struct

from pilothouse.core.errors import BadRequest
from pilothouse.core.ids import JobId, SessionId

Field = Literal["day", "person", "key", "session", "model"]
FIELDS: tuple[Field, ...] = ("day", "person", "key", "session", "model")
DAYS = 30
"""Shown when nobody says which."""
DAYS_MAX = 366
"""Asked for at once."""
ROWS_MAX = 20_000
"""Of one answer: more is no table for anybody, and a file of some MB."""
SUMS = (
    "calls", "refused", "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "cost_usd",
    "guessed_tokens", "guessed_cost_usd", "agent_tokens", "agent_cost_usd",
)  # fmt: skip
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""What a cell begins with that a spreadsheet would work out instead of showing."""


class Sums(Struct, kw_only=True, omit_defaults=True, rename="camel"):
    calls: int = 0
    """Passed on to a provider, those that failed there included."""
    refused: int = 0
    """Not passed on: a budget was used up, or there was no credential."""
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cost_usd: float = 0.0
    guessed_tokens: int = 0
    """Among them: of answers that broke off, counted by the text that had passed."""
    guessed_cost_usd: float = 0.0
    """Among it: of models that are in no price list."""
    agent_tokens: int = 0
    """Among them: the agent's own word, where nothing was metered."""
    agent_cost_usd: float = 0.0

    @property
    def tokens(self) -> int:
        return self.input_tokens + self.output_tokens + self.cache_read_tokens + self.cache_write_tokens

    def add(self, other: Sums) -> None:
        for name in SUMS:
            setattr(self, name, getattr(self, name) + getattr(other, name))


class Tally(Sums, kw_only=True, omit_defaults=True, rename="camel"):
    day: str
    organisation: str
    session: SessionId
    person: str = ""
    """The account of whoever prompted; what no job asked for is the session's owner's."""
    key: str = ""
    """Id of the key that prompted."""
    key_name: str = ""
    model: str = ""

    @property
    def id(self) -> str:
        told = "\0".join((self.person, self.key, self.model)).encode("utf-8", "surrogatepass")
        digest = hashlib.sha256(told).hexdigest()[:16]
        return f"{self.organisation}:{self.day}:{self.session}:{digest}"

    def agent_id(self, job: JobId) -> str:
        return f"{self.organisation}:{self.day}:{self.session}:agent:{job}"


class Row(Sums, kw_only=True, rename="camel", omit_defaults=False):
    """Of an answer: the fields that were asked for, and the sums."""

    day: str | msgspec.UnsetType = msgspec.UNSET
    person: str | msgspec.UnsetType = msgspec.UNSET
    person_name: str | msgspec.UnsetType = msgspec.UNSET
    key: str | msgspec.UnsetType = msgspec.UNSET
    key_name: str | msgspec.UnsetType = msgspec.UNSET
    session: str | msgspec.UnsetType = msgspec.UNSET
    session_title: str | msgspec.UnsetType = msgspec.UNSET
    model: str | msgspec.UnsetType = msgspec.UNSET


NAMES: Mapping[Field, str] = {"person": "person_name", "key": "key_name", "session": "session_title"}
"""What people call it, beside it."""


def day(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%d")


def fields(text: str) -> tuple[Field, ...]:
    """Raises BadRequest naming a word that is none."""
    given = text.split(",")
    for word in given:
        if word not in FIELDS:
            raise BadRequest(f"by: {word[:50]!r} is none of {', '.join(FIELDS)}")
        if given.count(word) > 1:
            raise BadRequest(f"by: {word!r} twice")
    return tuple(field for word in given for field in FIELDS if field == word)


def period(first: str | None, last: str | None, today: str) -> tuple[str, str]:
    """Both days are in it. Raises BadRequest naming what is wrong."""
    end = _date("to", last) if last is not None else datetime.date.fromisoformat(today)
    usual = datetime.timedelta(days=min(DAYS - 1, end.toordinal() - 1))
    start = _date("from", first) if first is not None else end - usual
    if start > end:
        raise BadRequest("from: it is after `to`")
    if (end - start).days >= DAYS_MAX:
        raise BadRequest(f"from: at most {DAYS_MAX} days at once")
    return start.isoformat(), end.isoformat()


def _date(name: str, text: str) -> datetime.date:
    try:
        found = datetime.date.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or found.isoformat() != text:
        raise BadRequest(f"{name}: a day such as 2026-11-22")
    return found


class Table:
    """Rows that grow while tallies come in."""

    def __init__(self, by: Sequence[Field]) -> None:
        self._by = by
        self._rows: dict[tuple[str, ...], Row] = {}
        self.total = Sums()

    def add(self, tallies: Iterable[Tally]) -> None:
        """Raises BadRequest when it grows too long."""
        for tally in tallies:
            values = tuple([getattr(tally, field) for field in self._by])
            row = self._rows.get(values)
            if row is None:
                if len(self._rows) >= ROWS_MAX:
                    raise BadRequest(f"by: more than {ROWS_MAX} rows; ask for fewer days or fewer fields")
                row = self._rows[values] = Row(**dict(zip(self._by, values, strict=True)))
            if "key" in self._by:
                row.key_name = tally.key_name  # ids do not change their name; a later tally says the same
            row.add(tally)
            self.total.add(tally)

    def rows(self) -> list[Row]:
        """By day, where it is asked for; the dearest first."""
        dated = "day" in self._by
        return sorted(self._rows.values(), key=lambda r: (str(r.day) if dated else "", -r.cost_usd, -r.tokens))


def to_csv(by: Sequence[Field], rows: Iterable[Row]) -> bytes:
    """RFC 4180, UTF-8, a line of names first. Text that a spreadsheet would take for a formula has a `'` before it."""
    columns: list[str] = []
    for field in by:
        columns += [field, *([NAMES[field]] if field in NAMES else [])]
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow([*columns, *SUMS])
    for row in rows:
        words = [guarded(_word(getattr(row, name))) for name in columns]
        writer.writerow([*words, *(_number(getattr(row, name)) for name in SUMS)])
    return out.getvalue().encode("utf-8", "replace")


def guarded(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA) else text


def _word(value: object) -> str:
    return value if isinstance(value, str) else ""


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.6f}"
