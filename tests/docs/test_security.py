"""The table of checks in SECURITY.md and the tests that bear their ids say the same."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "SECURITY.md").read_text()
ROWS = {int(n): cells for n, cells in re.findall(r"^\| C(\d+) \| (.*) \|$", PAGE, re.MULTILINE)}
CHECKS = 34


def borne() -> dict[int, set[str]]:
    """The files with tests that bear an id, by id."""
    found: dict[int, set[str]] = {}
    for path in (ROOT / "tests").rglob("test_*.py"):
        for number in re.findall(r"^(?:async )?def test_c(\d\d)_\w+\(", path.read_text(), re.MULTILINE):
            found.setdefault(int(number), set()).add(path.relative_to(ROOT).as_posix())
    return found


def test_every_check_is_in_the_table_once() -> None:
    assert list(ROWS) == list(range(1, CHECKS + 1))


def test_a_check_has_the_tests_that_it_names_or_says_with_what_it_comes() -> None:
    there = borne()
    for number, cells in ROWS.items():
        named = set(re.findall(r"`(tests/[\w/.]+)`", cells))
        assert named == there.get(number, set()), f"C{number}"
        assert named or "comes with" in cells, f"C{number}"
