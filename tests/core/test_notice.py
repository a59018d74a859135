"""Hostile words in what people are told: one short line, and nothing of it is a mark, a mention or a link."""

from __future__ import annotations

import json

import pytest

from pilothouse.core import notice
from pilothouse.core.notice import Notice

HOSTILE = [
    "<!channel> look", "<https://evil.example|Approve here>", "</a>&amp;<@U123>", "*bold* _it_ ~no~ `code`",
    "[click](https://evil.example)", "https://evil.example/steal", "www.evil.example", "@here @all #general",
    "a\nb\r\nc\x00\x1b[31m", "\u202egnp.exe", "x" * 10_000, "\u200b", "", "   ", "\ud800", "|", "<http://x|",
]  # fmt: skip


@pytest.mark.parametrize("words", HOSTILE)
def test_hostile_words_are_words(words: str) -> None:
    said = Notice(what="approval", session="s-1", title=words, about=words, id="a")
    document = json.loads(notice.slack(said, "https://pilothouse.example"))
    text = document["text"]
    link = "\n<https://pilothouse.example/#/s/s-1|Open the session>"
    assert text.endswith(link)
    rest = text.removesuffix(link)
    assert "<" not in rest
    assert ">" not in rest
    assert "\n" not in rest
    assert "://" not in rest
    assert rest.replace("&amp;", "").replace("&lt;", "").replace("&gt;", "").count("&") == 0
    plain = rest.removeprefix("*").replace("* in ", " in ", 1)
    for mark in "*_~`[]()@#|":
        at = plain.find(mark)
        while at >= 0:
            assert plain[at - 1] == plain[at + 1] == "\u200b", (mark, plain)
            at = plain.find(mark, at + 1)
    pushed = json.loads(notice.pushed(said))
    assert len(notice.pushed(said)) < 2000
    for part in (pushed["title"], pushed["body"]):
        assert part
        assert part.isprintable()
        assert len(part) < 120
    assert pushed["path"] == "#/s/s-1"


def test_they_say_what_happened() -> None:
    for outcome, words in (("succeeded", "Job done"), ("failed", "Job failed"), ("new", "Job finished")):
        assert notice.headline(Notice(what="job", about=outcome)) == words
    assert notice.headline(Notice(what="approval", about="Bash")) == "Approval wanted: Bash"
    assert json.loads(notice.pushed(Notice(what="test")))["path"] == "#/settings"
    assert "<" not in json.loads(notice.slack(Notice(what="test"), "https://p"))["text"]


def test_a_line_is_cut_where_it_says_so() -> None:
    assert notice.line("a" * 81, 80) == "a" * 79 + "…"
    assert notice.line("a  b\tc", 80) == "a b c"
