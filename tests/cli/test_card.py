"""What a typed answer means, and what a card must never leave out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.cli import card, wire
from pilothouse.cli.card import Decision
from pilothouse.cli.style import Style
from pilothouse.core import events as ev

ITEM = wire.Approval(
    approval_id="a",
    tool="Bash",
    input={"command": "x" * 200_000 + "rm -rf /"},
    input_hash="h",
    session_id="s",
    job_id=None,
    tool_id="t",
    reason="",
    created_at="",
    state="pending",
    options=[
        ev.Option(id="once", label="Once", outcome="approved"),
        ev.Option(id="never", label="Never", outcome="denied", rule="Bash(rm:*)"),
    ],
)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("y", Decision(True)),
        (" YES ", Decision(True)),
        ("n", Decision(False)),
        ("no use make", Decision(False, message="use make")),
        ("1", Decision(True, option="once")),
        ("2 because", Decision(False, option="never", message="because")),
        ("e", "edit"),
        ("", None),
        ("0", None),
        ("3", None),
        ("²", None),
        ("1" * 5000, None),
        ("y but only once", None),
        ("maybe", None),
    ],
)
def test_typed_answers(typed: str, meant: object) -> None:
    assert card.decide(typed, ITEM) == meant


@given(st.text())
def test_only_a_clear_yes_approves(typed: str) -> None:
    decision = card.decide(typed, ITEM)
    if isinstance(decision, Decision) and decision.approved:
        assert typed.split()[0].lower() in {"y", "yes", "1"}


def test_c34_the_input_is_never_cut() -> None:
    assert "rm -rf /" in card.approval(ITEM, Style())
    assert "[Bash(rm:*)]" in card.approval(ITEM, Style())


@pytest.mark.parametrize("content", ["", "[]", "1", "{", '{"a":' * 100_000])
def test_edits_that_are_no_object(content: str) -> None:
    assert isinstance(card.edited(content), str)


def test_answers_to_questions() -> None:
    one = ev.Question(question="?", options=[ev.Choice(label="Red"), ev.Choice(label="Blue")])
    several = ev.Question(question="?", multi=True, options=one.options)
    assert card.answer("2", one) == "Blue"
    assert card.answer("green", one) == "green"
    assert [card.answer(bad, one) for bad in ("", " ", "3", "1,2", "0")] == [None] * 5
    assert card.answer("2, 1,2", several) == "Blue, Red"
    assert card.answer("3", ev.Question(question="how many?")) == "3"
