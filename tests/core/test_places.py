"""Paths of a session that cannot mount, read as the rules know them."""

from __future__ import annotations

import pytest

from pilothouse.core import policy
from pilothouse.core.places import USUAL, Place, usual

ELSEWHERE = Place("/run/s/1/workspace", "/run/s/1/home")


def verdict(tool: str, place: Place, **given: object) -> str:
    return policy.decide(tool, usual(given, place), mode="acceptEdits").verdict


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/run/s/1/workspace/a.py", "allow"),
        ("/run/s/1/workspace", "allow"),
        ("a.py", "allow"),
        ("/run/s/1/workspace/../home/x", "ask"),
        ("/run/s/1/workspace/../../2/workspace/x", "ask"),
        ("/run/s/1/workspace-2/x", "ask"),
        ("/run/s/2/workspace/x", "ask"),
        ("/workspace/x", "ask"),
        ("/run/s/1/home/x", "ask"),
        ("/etc/passwd", "ask"),
    ],
)
def test_edits_go_ahead_where_the_workspace_really_is(path: str, expected: str) -> None:
    assert verdict("Write", ELSEWHERE, file_path=path, content="x") == expected


def test_a_search_names_its_place_in_its_pattern_too() -> None:
    assert verdict("Glob", ELSEWHERE, pattern="/run/s/1/workspace/**") == "allow"
    assert verdict("Glob", ELSEWHERE, pattern="**/*.py") == "allow"
    assert verdict("Glob", ELSEWHERE, pattern="/workspace/**") == "ask"
    assert verdict("Glob", ELSEWHERE, pattern="/etc/**") == "ask"


def test_plans_are_the_agents_own() -> None:
    plan = {"file_path": "/run/s/1/home/.claude/plans/a.md", "content": "x"}
    assert policy.decide("Write", usual(plan, ELSEWHERE), mode="plan").verdict == "allow"


def test_the_usual_place_changes_nothing() -> None:
    given = {"file_path": "/workspace/x", "command": "/run/s/1/workspace", "n": 3}
    assert usual(given, USUAL) is given
    assert usual("text", ELSEWHERE) == "text"
    assert usual(given, ELSEWHERE)["command"] == "/run/s/1/workspace"
