"""Sums, periods, and a CSV that no spreadsheet works out."""

from __future__ import annotations

import csv
import io

import pytest

from pilothouse.core import tally
from pilothouse.core.errors import BadRequest
from pilothouse.core.ids import SessionId
from pilothouse.core.tally import FIELDS, SUMS, Table, Tally

S, T = SessionId("s"), SessionId("t")


def one(**more: object) -> Tally:
    usual = {"day": "2026-11-22", "organisation": "default", "session": S, "calls": 1, "input_tokens": 3}
    return Tally(**{**usual, **more})  # type: ignore[arg-type]


def test_an_id_tells_person_key_and_model_apart() -> None:
    kinds = [one(), one(person="ann"), one(key="ann"), one(model="ann"), one(person="a", key="nn"), one(session=T)]
    assert len({t.id for t in kinds}) == len(kinds)
    assert one(person="ann").id == one(person="ann", calls=9, key_name="other").id
    assert one().id.startswith("default:2026-11-22:s:")


def test_rows_by_what_is_asked_for() -> None:
    table = Table(("day", "person"))
    table.add([one(person="ann", cost_usd=1.0), one(person="bob", cost_usd=2.0), one(person="ann", session=T)])
    table.add([one(person="ann", day="2026-11-21", refused=1, calls=0)])
    assert [(r.day, r.person, r.calls, r.refused, r.input_tokens, r.cost_usd) for r in table.rows()] == [
        ("2026-11-21", "ann", 0, 1, 3, 0.0),
        ("2026-11-22", "bob", 1, 0, 3, 2.0),
        ("2026-11-22", "ann", 2, 0, 6, 1.0),
    ]
    assert (table.total.calls, table.total.tokens) == (3, 12)


def test_a_table_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tally, "ROWS_MAX", 3)
    table = Table(("session",))
    table.add(one(session=SessionId(str(n % 3))) for n in range(100))
    with pytest.raises(BadRequest, match="by: more than 3 rows"):
        table.add([one(session=SessionId("4"))])


@pytest.mark.parametrize("text", ["", "days", "day,day", "day,", "Day", "day model", "organisation", "x" * 9999])
def test_bad_fields_are_named(text: str) -> None:
    with pytest.raises(BadRequest, match=r"^by: ") as refused:
        tally.fields(text)
    assert len(refused.value.message) < 200


def test_fields_in_the_order_asked_for() -> None:
    assert tally.fields("model,day") == ("model", "day")
    assert tally.fields(",".join(FIELDS)) == FIELDS


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [
        (None, None, ("2026-10-24", "2026-11-22")),
        ("2026-11-22", None, ("2026-11-22", "2026-11-22")),
        (None, "2024-03-01", ("2024-02-01", "2024-03-01")),
        ("2025-11-22", "2026-11-22", ("2025-11-22", "2026-11-22")),
        (None, "0001-01-02", ("0001-01-01", "0001-01-02")),
    ],
)
def test_periods(first: str | None, last: str | None, expected: tuple[str, str]) -> None:
    assert tally.period(first, last, "2026-11-22") == expected


@pytest.mark.parametrize(
    ("first", "last", "named"),
    [
        ("2026-11-23", None, "from"),
        ("2025-11-21", None, "from"),
        ("2026-02-30", None, "from"),
        ("20261122", None, "from"),
        ("2026-W47-7", None, "from"),
        ("2026-11-22T00:00", None, "from"),
        ("", None, "from"),
        (None, "yesterday", "to"),
        (None, "2026-11-22:", "to"),
        (None, "9" * 5000, "to"),
    ],
)
def test_bad_periods_are_named(first: str | None, last: str | None, named: str) -> None:
    with pytest.raises(BadRequest, match=f"^{named}: "):
        tally.period(first, last, "2026-11-22")


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", "＝"])
def test_no_cell_is_a_formula(start: str) -> None:
    text = f'{start}HYPERLINK("http://x"),1\nx\'"'
    table = Table(("model", "key"))
    table.add([one(model=text, key="k", key_name=text)])
    found = list(csv.DictReader(io.StringIO(tally.to_csv(("model", "key"), table.rows()).decode(), newline="")))
    assert [(row["model"], row["key"], row["key_name"]) for row in found] == [(f"'{text}", "k", f"'{text}")]


def test_a_csv_has_every_sum_as_a_number() -> None:
    table = Table(("day", "session"))
    table.add([one(cost_usd=0.1234567, guessed_cost_usd=1e-9)])
    lines = tally.to_csv(("day", "session"), table.rows()).decode().split("\r\n")
    assert lines[0] == ",".join(("day", "session", "session_title", *SUMS))
    assert lines[1:] == ["2026-11-22,s,,1,0,3,0,0,0,0.123457,0,0.000000,0,0.000000", ""]


def test_days_are_of_utc() -> None:
    assert tally.day(1795305599) == "2026-11-21"
    assert tally.day(1795305600) == "2026-11-22"
