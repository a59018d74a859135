"""Nothing that an agent writes may move the cursor or hide from the person who decides."""

from __future__ import annotations

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from pilothouse.cli import text

anything = st.text(st.characters(codec=None, exclude_categories=[]))


@given(anything)
def test_plain_lets_no_control_through(words: str) -> None:
    shown = text.plain(words)
    assert all(c in "\n\t" or unicodedata.category(c) != "Cc" for c in shown)
    assert not set(shown) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c")


@given(anything)
def test_c34_exact_shows_every_character(words: str) -> None:
    shown = text.exact(words)
    assert all(
        c in "\n\t " or unicodedata.category(c) not in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs"} for c in shown
    )


def test_what_exact_shows() -> None:
    assert text.exact("ls -l | grep ä 漢字 é") == "ls -l | grep ä 漢字 é"
    assert text.exact("a\rb\x00\u200d\ufeff\u3164\ufe0f\U000e0041\u2028") == (
        "a<U+000D>b<U+0000><U+200D><U+FEFF><U+3164><U+FE0F><U+E0041><U+2028>"
    )


def test_pretty_input() -> None:
    assert text.pretty({"command": "a\nb", "n": 1}) == "command: \n  | a\n  | b\nn: 1"
    assert "<U+202E>" in text.pretty({"edits": [{"new": "\u202e"}]})
    assert "<U+202E>" in text.pretty({"\u202e": "x"})
    assert text.pretty("x\x1b") == '"x\\u001b"'


def test_line_and_size() -> None:
    assert text.line("a\nb  c", 10) == "a b c"
    assert text.line("abcdef", 4) == "abc…"
    assert [text.size(n) for n in (0, 999, 1500, 12345, 2_000_000, 3_000_000_000)] == [
        "0 B",
        "999 B",
        "1.5 kB",
        "12 kB",
        "2.0 MB",
        "3.0 GB",
    ]
