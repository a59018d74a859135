"""`pilothouse usage` against the doors of a real server."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pilothouse.core import tally
from pilothouse.core.ids import SessionId
from pilothouse.core.tally import Tally
from pilothouse.engine import tallies
from tests.cli.conftest import Pilothouse
from tests.web.serving import Served, serving


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with serving() as running:
        yield running


async def test_a_table_a_csv_and_what_is_not_measured(served: Served, tmp_path: Path) -> None:
    pilothouse = Pilothouse(tmp_path / "home", served)  # type: ignore[arg-type]
    pilothouse.env["PILOTHOUSE_API_KEY"] = await served.key()
    today = tally.day(served.platform.kit.clock.now())

    def one(person: str, tokens: int, model: str, day: str = today) -> Tally:
        return Tally(
            day=day, organisation="default", session=SessionId("s"), person=person, model=model, calls=2,
            input_tokens=tokens, cost_usd=tokens / 100, guessed_cost_usd=0.25, agent_tokens=7,
        )  # fmt: skip

    every = [one("local", 150, "m\x1b[31m"), one("ann", 50, "n"), one("ann", 1, "n", "2020-01-01")]
    await served.platform.kit.store.commit(*map(tallies.put, every))

    told = await pilothouse("usage", "--by", "person,model")
    assert told.status == 0, told.err
    assert "\x1b" not in told.out
    head, first, second, total = [line.split() for line in told.out.splitlines()]
    assert head[:4] == ["PERSON", "MODEL", "CALLS", "INPUT"]
    assert (first[0], first[-6:], second[0]) == ("local", ["2", "150", "0", "0", "0", "$1.5000"], "ann")
    assert total == ["total", "4", "200", "0", "0", "0", "$2.0000"]
    assert "$0.5000 of it is a guess" in told.err
    assert "14 tokens ($0.0000) are the agent's own word" in told.err

    old = await pilothouse("usage", "--from", "2020-01-01", "--to", "2020-01-01", "--csv")
    assert [row["input_tokens"] for row in csv.DictReader(io.StringIO(old.out))] == ["1"]
    raw = await pilothouse("usage", "--by", "model", "--json")
    assert json.loads(raw.out)["total"]["inputTokens"] == 200
    nothing = await pilothouse("usage", "--from", "2021-01-01", "--to", "2021-01-02")
    assert nothing.out.split()[-6:] == ["0", "0", "0", "0", "0", "$0.0000"]

    for wrong, status, named in (
        (["--by", "week"], 2, "--by"),
        (["--csv", "--json"], 2, "--csv"),
        (["--from", "soon"], 1, "from"),
    ):
        ended = await pilothouse("usage", *wrong)
        assert (ended.status, named in ended.err) == (status, True), ended
