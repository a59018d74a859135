from __future__ import annotations

import pytest

from pilothouse.core import secret as rules
from pilothouse.core.errors import BadRequest, TooLarge


@pytest.mark.parametrize("name", ["A", "TOKEN", "AWS_ACCESS_KEY_ID", "X9_", "PATHS", "HOMEPAGE", "A" * 100])
def test_names(name: str) -> None:
    assert rules.check_name(name) == name


@pytest.mark.parametrize(
    "name", ["", "a", "Token", "9A", "_A", "A-B", "A B", "A=B", "A\n", "A\0", "Ä", "A" * 101, "../A"]
)
def test_what_is_no_name(name: str) -> None:
    with pytest.raises(BadRequest, match="is no name: A-Z"):
        rules.check_name(name)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("PATH", "PATH may not"),
        ("HOME", "HOME may not"),
        ("IFS", "IFS may not"),
        ("NODE_OPTIONS", "NODE_OPTIONS may not"),
        ("HTTPS_PROXY", "HTTPS_PROXY may not"),
        ("LD_PRELOAD", "names that begin with LD_ may not"),
        ("ANTHROPIC_API_KEY", "names that begin with ANTHROPIC_ may not"),
        ("PILOTHOUSE_STARTUP", "names that begin with PILOTHOUSE_ may not"),
        ("PYTHONSTARTUP", "names that begin with PYTHON may not"),
        ("BASH_ENV", "names that begin with BASH may not"),
    ],
)
def test_a_name_that_steers_programs_is_refused_by_name(name: str, said: str) -> None:
    with pytest.raises(BadRequest, match=said):
        rules.check_name(name)


def test_values() -> None:
    for value in ("x", "a\nb", "ü" * (rules.VALUE_MAX // 2), " spaces "):
        assert rules.check_value(value) == value
    for value, error, said in (
        ("", BadRequest, "empty"),
        ("secret\0value", BadRequest, "NUL"),
        ("secret\ud800", BadRequest, "UTF-8"),
        ("x" * (rules.VALUE_MAX + 1), TooLarge, f"at most {rules.VALUE_MAX}"),
    ):
        with pytest.raises(error, match=said) as caught:
            rules.check_value(value)
        assert "secret" not in caught.value.message


def test_whom_it_is_for() -> None:
    assert [rules.check_use(use) for use in ("shells", "agents", "both")] == ["shells", "agents", "both"]
    with pytest.raises(BadRequest, match="'all' is none of shells, agents, both"):
        rules.check_use("all")
    both = rules.Given("A", "the value", "both")
    assert (both.shells, both.agents) == (True, True)
    assert "the value" not in repr(both)
