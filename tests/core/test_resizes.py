"""Which size a shell had where in its output."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pilothouse.core.resizes import SIZES_MAX, Sizes
from pilothouse.core.shell import USUAL, Size

STEPS = st.lists(st.tuples(st.integers(0, 30), st.integers(1, 4)), max_size=60)


@given(STEPS, st.integers(0, 900))
def test_the_size_at_every_place_is_the_last_one_before_it(steps: list[tuple[int, int]], asked: int) -> None:
    sizes, there, at = Sizes(USUAL), {0: USUAL}, 0
    for step, cols in steps:
        at += step
        there[at] = Size(cols, 1)
        sizes.note(at, there[at])
    want = there[max(place for place in there if place <= asked)]
    size, until = sizes.at(asked)
    assert size == want
    if until is not None:
        assert until > asked
        assert sizes.at(until)[0] != want
    assert Sizes(USUAL, sizes.all()).at(asked) == (size, until)
    sizes.forget(asked)
    assert sizes.at(asked) == (size, until)
    assert len([place for place, _ in sizes.all() if place <= asked]) == 1


def test_they_are_bounded() -> None:
    sizes = Sizes(USUAL)
    for at in range(10 * SIZES_MAX):
        sizes.note(at, Size(1 + at % 2, 1))
    assert len(sizes.all()) == SIZES_MAX
    assert sizes.at(0)[0] == sizes.all()[0][1]
