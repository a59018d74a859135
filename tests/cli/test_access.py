"""`keys` and `ticket` against a real server: what it finds wrong is told as what was typed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.here import running


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("--sigv4", "--expires", "10"), 2, "Error: --expires: from 60 to "),
        (("--rate-per-s", "0.0000001"), 2, "Error: --rate-per-s: 0 (no limit), or from "),
        (("--rate-burst", "99999999"), 2, "Error: --rate-burst: from 1 to "),
        (("--quota-per-day", "9999999999"), 2, "Error: --quota-per-day: from 0 (no limit) to "),
        (("--name", "x" * 101), 2, "Error: --name: one line of 1 to 100 characters"),
        (("--account", "nobody@x"), 1, "Error: There is no member nobody@x, or it is not yours to see."),
        (("--account", "a", "--organisation", "red"), 1, "Error: There is no member a in the organisation red, or "),
    ],
)
async def test_what_is_wrong_with_a_key_is_told_as_its_option(
    tmp_path: Path, words: tuple[str, ...], status: int, said: str
) -> None:
    async with running("keys", tmp_path) as keys:
        assert (await keys("list"))[0] == 0
        got, out, err = await keys("create", *words)
        assert (got, out) == (status, "")
        assert said in err


async def test_a_link_for_nobody(tmp_path: Path) -> None:
    async with running("ticket", tmp_path) as ticket:
        assert "There is no member nobody, or" in (await ticket("--account", "nobody"))[2]
