"""`traceparent`, from callers who may send anything."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.core.traceparent import Place, parse, span_id, trace_id

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
GOOD = f"00-{TRACE}-{SPAN}-01"


@pytest.mark.parametrize(
    ("text", "sampled"),
    [
        (GOOD, True),
        (f"00-{TRACE}-{SPAN}-00", False),
        (f"00-{TRACE}-{SPAN}-03", True),
        (f"00-{TRACE}-{SPAN}-fe", False),
        (f"cc-{TRACE}-{SPAN}-01", True),
        (f"cc-{TRACE}-{SPAN}-01-what-the-future-will-be-like", True),
    ],
)
def test_what_is_one(text: str, sampled: bool) -> None:
    assert parse([text]) == Place(TRACE, SPAN, sampled)


@pytest.mark.parametrize(
    "text",
    [
        "",
        GOOD + "-",
        GOOD + "-00",
        GOOD + " ",
        " " + GOOD,
        GOOD + "\n",
        GOOD.upper(),
        f"ff-{TRACE}-{SPAN}-01",
        f"cc-{TRACE}-{SPAN}-01.what",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE[1:]}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}0-01",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE}-{SPAN}",
        f"0-{TRACE}-{SPAN}-01",
        f"00_{TRACE}_{SPAN}_01",
        f"00-{TRACE[:-1]}٣-{SPAN}-01",
        f"cc-{TRACE}-{SPAN}-01-" + "x" * 10_000,
    ],
)
def test_what_is_none(text: str) -> None:
    assert parse([text]) is None


def test_one_that_comes_twice_is_none() -> None:
    assert parse([GOOD, GOOD]) is None
    assert parse([]) is None


@given(st.text())
def test_it_never_raises(text: str) -> None:
    found = parse([text])
    assert found is None or parse([str(found)]) == found


def test_ids_follow_from_words() -> None:
    place = Place(trace_id("job"), span_id("job", "job"), True)
    assert parse([str(place)]) == place
    assert trace_id("job") == trace_id("job") != trace_id("other")
    assert span_id("a", "bc") != span_id("ab", "c")
