"""Names of channels: what is one, what matches, and that nothing else passes."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.core import channels
from pilothouse.core.channels import BadChannel

GRAMMAR = re.compile(
    r"/?[A-Za-z0-9](?:[A-Za-z0-9-]{0,48}[A-Za-z0-9])?(?:/[A-Za-z0-9](?:[A-Za-z0-9-]{0,48}[A-Za-z0-9])?){0,4}/?\Z"
)
WORD = st.text("ABCxyz019", min_size=1, max_size=3)
SEGMENT = WORD | st.builds("{}{}{}".format, WORD, st.text("a0-", max_size=44), WORD)
NAMES = st.lists(SEGMENT, min_size=1, max_size=5)
ALMOST = st.text(alphabet="ab9-/*_.\n\0 é", max_size=20) | st.lists(
    SEGMENT | st.text("a-/", max_size=60), max_size=7
).map("/".join)


@given(ALMOST)
def test_a_channel_is_what_the_grammar_says(text: str) -> None:
    if GRAMMAR.match(text):
        found = channels.channel(text)
        assert found.path == "/" + text.removeprefix("/").removesuffix("/")
        assert channels.pattern(text).channel == found
    else:
        with pytest.raises(BadChannel):
            channels.channel(text)


@given(NAMES, st.sampled_from(["", "/"]), st.sampled_from(["", "/"]))
def test_slashes_at_the_ends_do_not_count(parts: list[str], before: str, after: str) -> None:
    found = channels.channel(f"{before}{'/'.join(parts)}{after}")
    assert found == channels.channel("/".join(parts))
    assert found.segments == tuple(parts)
    assert found.namespace == parts[0]


@given(NAMES, NAMES)
def test_a_wildcard_matches_what_is_deeper_and_the_registry_finds_the_same(one: list[str], other: list[str]) -> None:
    channel = channels.channel("/".join(one))
    for place in (one[:4], other[:4]):
        pattern = channels.pattern("/".join([*place, "*"]))
        assert pattern.wild
        deeper = len(one) > len(place) and one[: len(place)] == place
        assert pattern.matches(channel) == deeper
        assert (pattern.path in channel.wildcards()) == deeper
    assert channels.pattern("/".join(other)).matches(channel) == (one == other)
    assert all(channels.pattern(path).matches(channel) for path in channel.wildcards())


@pytest.mark.parametrize("text", [
    "", "/", "//", "a//b", "/a/b//", "a/b/c/d/e/f", "x" * 51, "a/" + "x" * 51, "-a", "a-", "a_b", "a.b", "a:b", "a b",
    "a\n", "a\0", "é", "ａ", "*", "/*", "a/*/b", "a/b*", "a/**", "a/b/c/d/e/*", None, 7, ["a"], "a" * 10_000, " a",
    "a\u2028",
])  # fmt: skip
def test_c15_what_is_no_pattern(text: object) -> None:
    with pytest.raises(BadChannel) as refused:
        channels.pattern(text)
    assert refused.value.message.isprintable(), "what is shown cannot forge a line"
    assert len(refused.value.message) < 200


@pytest.mark.parametrize("text", ["a/*", "/a/b/*/"])
def test_nothing_is_published_to_a_wildcard(text: str) -> None:
    with pytest.raises(BadChannel, match="subscribing"):
        channels.channel(text)
    assert channels.pattern(text).wild
