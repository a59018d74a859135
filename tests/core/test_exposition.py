"""The text format, read back by Prometheus's own parser."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from pilothouse.core.exposition import Family, Sample, counter, encode, gauge, split
from pilothouse.core.meters import OTHER, Counter, Histogram


def read(*families: Family) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (s.name, tuple(sorted(s.labels.items()))): s.value
        for family in text_string_to_metric_families(encode(families).decode())
        for s in family.samples
    }


@pytest.mark.parametrize("value", [0, 1, -3, 0.1, 1e-9, 2**60, 1e300, math.inf, -math.inf])
def test_numbers_come_back(value: float) -> None:
    assert read(gauge("g", "x", value)) == {("g", ()): value}


def test_nan_comes_back() -> None:
    assert math.isnan(next(iter(read(gauge("g", "x", math.nan)).values())))


LINES = "\r\x85\u2028\u2029\x0b\x0c\x1c\x1d\x1e"
"""What Python's parser takes for the end of a line, and the format does not."""


@given(st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters=LINES)))
def test_any_label_value_comes_back(text: str) -> None:
    assert read(gauge("g", text.replace("\n", " "), 1, ("label", text))) == {("g", (("label", text),)): 1}


def test_families_are_told_apart() -> None:
    text = encode([counter("a_total", "A thing.", 2), split("b", "Another\nthing.", "kind", [("x", 1), ("y", 2.5)])])
    assert text == (
        b"# HELP a_total A thing.\n# TYPE a_total counter\na_total 2\n"
        b'# HELP b Another\\nthing.\n# TYPE b gauge\nb{kind="x"} 1\nb{kind="y"} 2.5\n'
    )
    assert encode([Family("empty", "counter", "")]) == b"# HELP empty \n# TYPE empty counter\n"
    assert Sample(1).labels == ()


def test_a_histogram_is_cumulative() -> None:
    spread = Histogram("h_seconds", "x", "route", bounds=(0.1, 1.0))
    for seconds in (0.05, 0.1, 0.5, 7):
        spread.add(seconds, ("/",))
    label = ("route", "/")
    assert read(spread.family()) == {
        ("h_seconds_bucket", (("le", "0.1"), label)): 2,
        ("h_seconds_bucket", (("le", "1"), label)): 3,
        ("h_seconds_bucket", (("le", "+Inf"), label)): 4,
        ("h_seconds_sum", (label,)): pytest.approx(7.65),
        ("h_seconds_count", (label,)): 4,
    }
    assert spread.count("/") == 4


def test_no_meter_grows_without_end() -> None:
    count, spread = Counter("c_total", "x", "model", most=3), Histogram("h", "x", "model", bounds=(1.0,), most=3)
    for n in range(100):
        count.add((f"model-{n}",))
        spread.add(0.5, (f"model-{n}",))
    assert count.value(OTHER) == 97
    assert count.total == 100
    assert spread.count(OTHER) == 97
    assert len(count.family().samples) == 4
    count.add(("model-1",), 5)
    assert count.value("model-1") == 6


def test_what_has_no_labels_is_there_from_the_start() -> None:
    assert read(Counter("c_total", "x").family()) == {("c_total", ()): 0}
    assert read(Histogram("h", "x", bounds=(1.0,)).family())[("h_count", ())] == 0
