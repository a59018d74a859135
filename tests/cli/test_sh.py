"""What is typed at `pilothouse sh`: the escapes, as people and pastes send them. The rest runs in the journeys."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.cli.attach import _ended
from pilothouse.cli.errors import Refused
from pilothouse.cli.raw import Escapes
from pilothouse.core import frames
from pilothouse.core.shell import Exit


@pytest.mark.parametrize(
    ("typed", "passed", "asked"),
    [
        (b"ls\r", b"ls\r", ""),
        (b"~.", b"", "leave"),
        (b"ls\r~.", b"ls\r", "leave"),
        (b"a~.", b"a~.", ""),
        (b"~~.", b"~.", ""),
        (b"~x", b"~x", ""),
        (b"~?", b"", "help"),
        (b"~?ls\r", b"ls\r", "help"),
        (b"~?~.", b"", "leave"),
        (b"\r~", b"\r", ""),
        (b"cd ~/x\r", b"cd ~/x\r", ""),
        (b"~/bin/x\r", b"~/bin/x\r", ""),
    ],
)
def test_escapes(typed: bytes, passed: bytes, asked: str) -> None:
    assert Escapes().take(typed) == (passed, asked)


@given(st.lists(st.sampled_from([b"~", b".", b"?", b"\r", b"\n", b"x", b"\xff"]), max_size=30), st.data())
def test_it_is_the_same_however_it_arrives(keys: list[bytes], data: st.DataObject) -> None:
    """Split anywhere, up to where we leave; and without a tilde at the beginning of a line nothing is held."""
    whole = b"".join(keys)
    at = data.draw(st.integers(0, len(whole)))
    once, twice = Escapes(), Escapes()
    expected = once.take(whole)
    first = twice.take(whole[:at])
    if first[1] == "leave":
        assert expected == first
        return
    second = twice.take(whole[at:])
    assert expected == (first[0] + second[0], second[1] or first[1])


@pytest.mark.parametrize("exit", [Exit(0), Exit(7), Exit(255), Exit(0, 9)])
def test_the_exit_status_is_the_shell_s(exit: Exit) -> None:
    assert _ended(json.loads(frames.ended(exit)[1:])).status == exit.status


def test_a_server_that_failed_is_no_exit() -> None:
    with pytest.raises(Refused, match="broken"):
        _ended(json.loads(frames.failed("broken")[1:]))
    assert _ended({"status": "Failure"}).status == 1
