"""Bytes through a PTY that is set up for them, with the kernel as the judge."""

from __future__ import annotations

import os
import pty
import random
import select
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.cli.piped import END, PIECE, QUOTE, READY, Piped, meant, wrapped

SIDES = [(True, True), (True, False), (False, True)]
"""Which of input and output are pipes; with neither nothing is wrapped."""


def through(command: list[str], pieces: list[bytes], *, source: bool = True, sink: bool = True) -> tuple[bytes, int]:
    """What `command` writes when it is given these, and its status."""
    words = wrapped(command, source=source, sink=sink)
    master, slave = pty.openpty()
    process = subprocess.Popen(words, stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
    os.close(slave)
    os.set_blocking(master, False)
    piped, got, waiting = Piped(), bytearray(), b""
    todo = [*(piped.take(piece) for piece in pieces), piped.end()]
    while True:
        ready = got.startswith(READY)
        readable, writable, _ = select.select([master], [master] if ready and (waiting or todo) else [], [], 30)
        assert readable or writable, "nothing goes on"
        if readable:
            try:
                data = os.read(master, 65536)
            except OSError:
                break  # the last one has closed the other side
            got += data
        elif writable:
            waiting = waiting or todo.pop(0)
            waiting = waiting[os.write(master, waiting) :]
    os.close(master)
    return bytes(got[len(READY) :]), process.wait()


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\n", b"x", b"no newline", b"x" * PIECE, b"x" * PIECE + b"\n", b"y" * (5 * PIECE + 1), b"\n\n",
        bytes(range(256)) * 3, END * 3, QUOTE, b"\x03\x1a\x1c\x11\x13\x7f\x15\r\n", b"a\x00b\xff\xff",
    ],
)  # fmt: skip
def test_every_byte_passes_as_it_is(data: bytes) -> None:
    assert through(["cat"], [data]) == (data, 0)


def test_much_of_it_in_odd_pieces() -> None:
    dice = random.Random(4)
    data = dice.randbytes(200_000) + b"z" * 50_000 + b"line\n" * 5_000
    pieces, at = [], 0
    while at < len(data):
        pieces.append(data[at : (at := at + dice.randrange(1, 9000))])
    assert through(["cat"], pieces) == (data, 0)


@pytest.mark.parametrize(("source", "sink"), SIDES)
def test_any_bytes_by_every_side(source: bool, sink: bool) -> None:
    data = random.Random(8).randbytes(300_000)
    assert through(["cat"], [data], source=source, sink=sink) == (data, 0)


@pytest.mark.parametrize(("source", "sink"), SIDES)
def test_the_status_is_the_command_s(source: bool, sink: bool) -> None:
    for words, pieces, expected in (
        (["sh", "-c", "cat >/dev/null; exit 7"], [b"x"], (b"", 7)),
        (["sh", "-c", "kill -9 $$"], [], (b"", 137)),  # and no shell says a word of that
        (["true"], [b"x" * 3000], (b"", 0)),
        (["sh", "-c", "exit 5"], [], (b"", 5)),
    ):
        assert through(words, pieces, source=source, sink=sink) == expected
    assert through(["nosuch"], [], source=source, sink=sink)[1] == 127


@pytest.mark.parametrize(("source", "sink"), SIDES)
def test_a_pipe_is_no_terminal_for_the_command(source: bool, sink: bool) -> None:
    """Programs ask: `tar` refuses a terminal, an interpreter begins a dialogue, `ls` colours its output."""
    asks = "for n in 0 1 2; do test -t $n && echo $n; done; ls /proc/self/fd"
    terminals = [n for n, pipe in (("0", source), ("1", sink), ("2", False)) if not pipe]
    said = through(["sh", "-c", asks], [], source=source, sink=sink)[0].decode().split()
    assert said == [*terminals, "0", "1", "2", "3"]  # the last is what ls itself looks into


def test_a_command_may_end_before_its_input_and_close_what_it_does_not_need() -> None:
    assert through(["head", "-n", "1"], [b"first\nsecond\n"]) == (b"first\n", 0)
    assert through(["sh", "-c", "exec <&-; sleep 0.3; echo on"], [b"x" * 3000]) == (b"on\n", 0)
    assert through(["sh", "-c", "exec >&-; sleep 0.3; exit 6"], [b""]) == (b"", 6)


def test_its_errors_are_among_its_output() -> None:
    assert through(["sh", "-c", "echo wrong >&2"], []) == (b"wrong\n", 0)


def test_what_was_wrapped_is_known_again() -> None:
    for source, sink in SIDES:
        assert meant(wrapped(["make", "-k", "x y"], source=source, sink=sink)) == ["make", "-k", "x y"]
    assert meant(["a", "b", "c", "d", "e"]) == ["a", "b", "c", "d", "e"]


@given(st.lists(st.binary(max_size=3 * PIECE), max_size=6))
def test_no_piece_ends_it_too_early(pieces: list[bytes]) -> None:
    """A plain end of file comes only behind something, until the last."""
    piped = Piped()
    sent = b"".join(piped.take(piece) for piece in pieces)
    since, at, plain = 0, 0, bytearray()
    while at < len(sent):
        if sent[at : at + 1] == QUOTE:
            plain += sent[at + 1 : at + 2]
            at, since = at + 2, since + 1
            continue
        if sent[at : at + 1] == END:
            assert since
            since = 0
        else:
            plain += sent[at : at + 1]
            since = 0 if sent[at : at + 1] == b"\n" else since + 1
        assert since <= PIECE
        at += 1
    assert bytes(plain) == b"".join(pieces)
    assert piped.end() == (END * 2 if since else END)


def test_the_page_knows_what_was_wrapped() -> None:
    words = Path(__file__).parents[2] / "frontend" / "src" / "features" / "terminals" / "words.ts"
    assert f'const WRAPPED = "{wrapped(["tar", "x"])[3]}";' in words.read_text()
