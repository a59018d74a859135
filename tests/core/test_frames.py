"""Frames: the table, every bad input by name and close code, and that nothing hostile raises."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.core import frames
from pilothouse.core.errors import BadRequest
from pilothouse.core.frames import Close, Control, Fault, Heartbeat, Incoming, Resize, Stdin, decode
from pilothouse.core.shell import Exit, ShellId, Size, shell_id

GOOD = b"\x00x"


@pytest.mark.parametrize(
    ("message", "frame"),
    [
        (b"\x00ls\r", Stdin(b"ls\r")),
        (b"\x00", Stdin(b"")),
        (b"\x00\xff\x00\xfe", Stdin(b"\xff\x00\xfe")),
        (b'\x04{"width":80,"height":24}', Resize(Size(80, 24))),
        (b'\x04{"width": 1, "height": 1000}', Resize(Size(1, 1000))),
        (b"\x05", Heartbeat(b"")),
        (b"\x05abc", Heartbeat(b"abc")),
        (b"\xff", Close()),
        (b"\xffwhatever", Close()),
    ],
)
def test_what_a_client_may_send(message: bytes, frame: frames.Frame) -> None:
    assert decode(message) == frame


def test_the_longest_message_is_taken_and_one_byte_more_is_not() -> None:
    assert decode(b"\x00" + bytes(65_536)) == Stdin(bytes(65_536))
    assert decode(b"\x00" + bytes(65_537)) == frames.OVERSIZE
    assert (frames.OVERSIZE.close, frames.OVERSIZE.fatal) == (1009, True)


@pytest.mark.parametrize(
    ("message", "name", "close", "says"),
    [
        (b"", "empty", 1003, "empty message"),
        (b"\x01x", "direction", 1003, "STDOUT"),
        (b"\x02x", "direction", 1003, "STDERR"),
        (b"\x03{}", "direction", 1003, "STATUS"),
        (b"\x06x", "channel", 1003, "0x06"),
        (b"\x10{}", "channel", 1003, "0x10"),
        (b"\xfe", "channel", 1003, "0xfe"),
        (b'\x04{"width":0,"height":24}', "resize", 1008, "width: expected 1 to 1000"),
        (b'\x04{"width":80,"height":1001}', "resize", 1008, "height: expected 1 to 1000"),
        (b'\x04{"width":-1,"height":24}', "resize", 1008, "width"),
        (b'\x04{"width":NaN,"height":24}', "resize", 1008, "width: expected a whole number"),
        (b'\x04{"width":80.0,"height":24}', "resize", 1008, "width"),
        (b'\x04{"width":true,"height":24}', "resize", 1008, "width"),
        (b'\x04{"width":"80","height":24}', "resize", 1008, "width"),
        (b'\x04{"width":1e400,"height":24}', "resize", 1008, "width"),
        (b'\x04{"height":24}', "resize", 1008, "width"),
        (b"\x04[80,24]", "resize", 1008, "expected an object"),
        (b"\x04", "resize", 1008, "not JSON"),
        (b"\x04\xff\xfe{", "resize", 1008, "not JSON"),
        (b"\x04" + b"[" * 60_000, "resize", 1008, "not JSON"),
        (b'\x04{"width":' + b"9" * 60_000 + b"}", "resize", 1008, "not JSON"),
    ],
)
def test_what_a_client_may_not_send_is_named(message: bytes, name: str, close: int, says: str) -> None:
    fault = decode(message)
    assert isinstance(fault, Fault)
    assert (fault.name, fault.close, fault.fatal) == (name, close, False)
    assert says in fault.message


def test_control_is_spoken_only_where_it_is_wanted() -> None:
    assert decode(b"\x10{}", control=True) == Control(b"{}")


@given(st.binary(max_size=200), st.booleans())
def test_hostile_bytes_never_raise(message: bytes, control: bool) -> None:
    assert isinstance(decode(message, control=control), frames.Frame | Fault)


@given(st.binary(max_size=300))
def test_input_and_output_are_bytes_and_stay_as_they_are(data: bytes) -> None:
    assert decode(b"\x00" + data) == Stdin(data)
    assert frames.stdout(data) == b"\x01" + data
    assert frames.stdout(memoryview(data)) == b"\x01" + data


def test_five_text_messages_in_a_row_close_and_four_do_not() -> None:
    incoming = Incoming()
    for at in range(4):
        assert incoming.take(b"x", at, text=True) == frames.TEXT
    assert incoming.take(GOOD, 4) == Stdin(b"x")
    for at in range(4):
        assert incoming.take(b"x", 10 + at, text=True) == frames.TEXT
    last = incoming.take(b"x", 20, text=True)
    assert isinstance(last, Fault)
    assert (last.name, last.close, last.fatal) == ("text", 1003, True)


def test_faults_of_different_kinds_count_together() -> None:
    incoming = Incoming()
    for message in (b"", b"\x01", b"\x06", b"\x04"):
        assert not incoming.take(message, 0).fatal  # type: ignore[union-attr]
    last = incoming.take(b"\x04", 0)
    assert isinstance(last, Fault)
    assert (last.name, last.close, last.fatal) == ("resize", 1008, True)


def test_250_frames_in_a_second_are_taken_and_the_next_is_not() -> None:
    incoming = Incoming()
    for n in range(250):
        assert incoming.take(GOOD, 5 + n * 0.003) == Stdin(b"x")
    assert incoming.take(GOOD, 5.9) == frames.RATE
    assert (frames.RATE.close, frames.RATE.fatal) == (1008, True)


def test_the_second_of_the_rate_is_any_second() -> None:
    incoming = Incoming()
    for n in range(250):
        assert incoming.take(GOOD, 0.875 + n / 2048) == Stdin(b"x")
    assert incoming.take(GOOD, 1.8745) == frames.RATE
    assert incoming.take(GOOD, 1.875) == Stdin(b"x")


@given(st.lists(st.floats(0, 0.2), min_size=1, max_size=600))
def test_the_rate_is_that_of_a_sliding_window(gaps: list[float]) -> None:
    incoming, now, taken = Incoming(), 0.0, list[float]()
    for gap in gaps:
        now += gap / 40
        recent = [t for t in taken if now - t < 1.0]
        found = incoming.take(GOOD, now)
        assert (found == frames.RATE) == (len(recent) >= 250)
        if found != frames.RATE:
            taken.append(now)


def read(frame: bytes) -> dict[str, object]:
    assert frame[0] == 3
    found = json.loads(frame[1:])
    assert isinstance(found, dict)
    assert (found["kind"], found["apiVersion"]) == ("Status", "v1")
    return found


def test_status_of_an_attach() -> None:
    shell = ShellId("s1")
    new = read(frames.attached(shell, reconnected=False))
    assert new["metadata"] == {"shellId": "s1", "reconnected": False}
    assert new["status"] == "Success"
    again = read(frames.attached(shell, reconnected=True, dropped=7, offset=3))
    assert again["metadata"] == {"shellId": "s1", "reconnected": True, "bytesDropped": 7, "offset": 3}


def test_status_of_an_end() -> None:
    assert read(frames.ended(Exit(0))) == {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}
    three = read(frames.ended(Exit(3)))
    assert three["message"] == "command terminated with exit code 3"
    assert three["details"] == {"causes": [{"reason": "ExitCode", "message": "3"}]}
    killed = read(frames.ended(Exit.of(-9)))
    assert killed["details"] == {
        "causes": [{"reason": "ExitCode", "message": "137"}, {"reason": "Signal", "message": "9"}]
    }
    broken = read(frames.failed("no sandbox"))
    assert (broken["reason"], broken["code"], broken["metadata"]) == ("InternalError", 500, {})


def test_nothing_sent_is_longer_than_clients_take() -> None:
    assert len(frames.stderr("é" * 70_000)) <= frames.SEND_MAX
    frames.stderr("é" * 70_000)[1:].decode()
    assert len(frames.heartbeat(bytes(70_000))) == frames.SEND_MAX


@pytest.mark.parametrize("text", ["a", "A-_9", "0" * 128])
def test_shell_ids(text: str) -> None:
    assert shell_id(text) == text


@pytest.mark.parametrize("text", ["", "-a", "_a", "0" * 129, "a/b", "a\n", "a b", "ä", None, 7, "../x"])
def test_no_shell_ids(text: object) -> None:
    with pytest.raises(BadRequest, match="shellId"):
        shell_id(text)


@given(st.lists(st.floats(0, 0.05), max_size=800))
def test_a_plain_client_is_never_sent_more_than_it_could_send(gaps: list[float]) -> None:
    pace, now, sent = frames.Pace(), 1.0, list[float]()
    for gap in gaps:
        now += gap / 10
        wait = pace.wait(now)
        if wait:
            assert wait <= 1 / frames.PACE
        else:
            sent.append(now)
        assert sum(now - at < 1 for at in sent) < frames.RATE_MAX


def test_what_is_slow_is_not_paced() -> None:
    pace = frames.Pace()
    assert all(pace.wait(1.0 + n / 100) == 0 for n in range(1000))
