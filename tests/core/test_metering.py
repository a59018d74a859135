"""Counting tokens from bytes as they pass."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from pilothouse.core.metering import LINE_MAX, Meter
from pilothouse.core.prices import GUESS, Tokens, cost, price_of


def sse(**event: object) -> bytes:
    return b"event: x\r\ndata: " + json.dumps(event).encode() + b"\r\n\r\n"


START = sse(
    type="message_start",
    message={
        "usage": {
            "input_tokens": 10,
            "cache_read_input_tokens": 7,
            "cache_creation_input_tokens": 5,
            "output_tokens": 1,
        }
    },
)
TEXT = sse(type="content_block_delta", delta={"type": "text_delta", "text": "abcdefgh"})
END = sse(type="message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 30}) + sse(
    type="message_stop"
)


@given(st.integers(1, 50))
def test_any_cut_of_the_bytes_counts_the_same(step: int) -> None:
    meter, data = Meter(True), START + TEXT + END
    for at in range(0, len(data), step):
        meter.feed(data[at : at + step])
    assert (meter.tokens, meter.finished) == (Tokens(10, 30, 7, 5), True)


def test_an_answer_that_breaks_off_is_counted_by_its_text() -> None:
    meter = Meter(True)
    meter.feed(START + TEXT * 10)
    assert (meter.tokens, meter.finished) == (Tokens(10, 20, 7, 5), False)


def test_a_whole_answer() -> None:
    meter = Meter(False)
    meter.feed(b'{"type":"message","usage":{"input_tokens":3,')
    meter.feed(b'"output_tokens":4}}')
    meter.end()
    assert meter.tokens == Tokens(3, 4)


@given(st.lists(st.binary()))
def test_garbage_counts_nothing_and_raises_nothing(pieces: list[bytes]) -> None:
    for streamed in (True, False):
        meter = Meter(streamed)
        for piece in pieces:
            meter.feed(piece)
        meter.end()
        assert meter.tokens.total == 0


def test_a_line_without_an_end_is_let_go() -> None:
    meter = Meter(True)
    for _ in range(5):
        meter.feed(b"data: " + b"x" * LINE_MAX)
    meter.feed(b"\n" + START)
    assert meter.tokens.input == 10


def test_figures_that_cannot_be_are_ignored() -> None:
    meter = Meter(True)
    meter.feed(sse(type="message_delta", usage={"output_tokens": -5, "input_tokens": 10**12}))
    assert meter.tokens == Tokens()


def test_prices() -> None:
    assert cost(price_of("us.anthropic.claude-sonnet-4-5-20250929-v1:0"), Tokens(1_000_000, 1_000_000)) == 18.0
    assert price_of("claude-opus-4-1-20250805").input == 15.0
    assert price_of("claude-opus-4-5").input == 5.0
    assert price_of("something-new") is GUESS
    assert GUESS.guessed
