from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.core import shellwire as wire

RECORDS = st.lists(
    st.builds(
        wire.Record,
        st.integers(0, 255),
        st.integers(0, 255),
        st.integers(0, 65_535),
        st.integers(0, 2**64 - 1),
        st.binary(max_size=50),
    ),
    max_size=20,
)


@given(RECORDS, st.lists(st.integers(0, 1500), max_size=10))
def test_records_arrive_whole_however_they_are_cut(sent: list[wire.Record], cuts: list[int]) -> None:
    stream = b"".join(wire.record(r.kind, r.slot, r.flags, r.offset, r.payload) for r in sent)
    at, got, records = 0, list[wire.Record](), wire.Records()
    for cut in [*sorted(c % (len(stream) + 1) for c in cuts), len(stream)]:
        got += records.feed(stream[at:cut])
        at = cut
    assert got == sent


def test_a_record_that_is_too_long_breaks() -> None:
    stream = wire.record(wire.OUTPUT)[:4] + (wire.PAYLOAD_MAX + 1).to_bytes(4, "little") + bytes(8)
    with pytest.raises(wire.Broken, match="131073"):
        list(wire.Records().feed(stream))
    with pytest.raises(wire.Broken):
        wire.say(wire.START, {"env": "x" * wire.PAYLOAD_MAX})


@pytest.mark.parametrize("payload", [b"", b"[]", b"nonsense", b"\xff", b"[" * 10_000])
def test_what_should_be_json_and_is_not_breaks(payload: bytes) -> None:
    with pytest.raises(wire.Broken):
        wire.said(payload)


@given(st.binary(max_size=20))
def test_payloads_of_the_wrong_size_break(payload: bytes) -> None:
    for read, size in ((wire.as_number, 8), (wire.as_pair, 4), (wire.as_exited, 8), (wire.as_taken, 12)):
        if len(payload) != size:
            with pytest.raises(wire.Broken):
                read(payload)


def test_payloads() -> None:
    assert wire.as_number(wire.number(2**64 - 1)) == 2**64 - 1
    assert wire.as_pair(wire.pair(80, 1000)) == (80, 1000)
    assert wire.as_exited(wire.exited(255, 9)) == (255, 9)
    assert wire.as_taken(wire.taken(7, 65_536)) == (7, 65_536)
    assert wire.typed(wire.number(7) + b"x") == (7, b"x")
    for bad in (wire.number(7), wire.number(7) + bytes(65_537)):
        with pytest.raises(wire.Broken):
            wire.typed(bad)
