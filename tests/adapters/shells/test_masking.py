"""What a holder masks: before it has an offset, so that nobody ever sees it at one."""

from __future__ import annotations

import os

import pytest

from pilothouse.adapters.shells import hidden
from pilothouse.adapters.shells.memory import Memory
from pilothouse.core import shellwire as wire
from pilothouse.core.redact import PIECE
from pilothouse.core.scrollback import Window
from pilothouse.core.shell import SCROLLBACK_MIN, Exit, ShellId
from tests.adapters.shells.test_holding import START, Room, Server, grant, room  # noqa: F401  a fixture

VALUE = "pQ9r8Ls7Mt6Nu5Ov4Pw3Qx2Ry1Sz0Ta9Ub8Vc7Wd"
FAR = 10_000_000
SECRETS = START | {"secrets": {"TOKEN": VALUE}}


def opened(room: Room, start: dict[str, object] = SECRETS) -> Server:  # noqa: F811
    server = room.server()
    server.say(wire.say(wire.START, start), grant(FAR))
    return server


def kept(server: Server, head: int) -> bytes:
    """All that anybody could be sent."""
    memory = Memory(server.fds[0], SCROLLBACK_MIN)
    window = Window(memory.output, head)
    found = window.read(window.oldest, SCROLLBACK_MIN)
    window.release()
    memory.close()
    return found


def test_c27_a_value_is_masked_before_it_has_an_offset(room: Room) -> None:  # noqa: F811
    server = opened(room)
    room.says(b"<" + VALUE.encode() + b">\r\n")
    assert room.head == len(VALUE) + 4
    assert kept(server, room.head) == b"<" + b"*" * len(VALUE) + b">\r\n"


def test_c27_a_value_in_two_reads_is_held_back_and_masked(room: Room) -> None:  # noqa: F811
    server = opened(room)
    for cut in (1, 5, 17, PIECE, len(VALUE) - 1):
        before = room.head
        room.says(b"x=" + VALUE[:cut].encode())
        assert room.head <= before + 2 + max(0, cut - PIECE + 1) + (cut if cut >= PIECE else 0)
        room.says(VALUE[cut:].encode() + b"\r\n")
        assert room.head == before + len(VALUE) + 4
    assert kept(server, room.head) == (b"x=" + b"*" * len(VALUE) + b"\r\n") * 5


def test_what_waits_comes_after_a_moment(room: Room) -> None:  # noqa: F811
    """An echo of what begins like a value is seen; one that has nothing to do with it is seen at once."""
    server = opened(room)
    room.says(b"pQ")
    assert room.head == 0
    assert room.holding.pause() == pytest.approx(hidden.QUIET_S)
    room.seconds += hidden.QUIET_S
    room.turn()
    assert room.head == 2
    room.says(b"9r8Ls7")
    assert room.head == 2
    assert room.holding.pause() == pytest.approx(hidden.PAUSE_S)
    room.says(b"-")
    assert room.head == 9
    assert kept(server, room.head) == b"pQ9r8Ls7-"
    room.says(b"ls")
    assert room.head == 11


def test_c27_what_was_let_go_too_early_is_masked_where_it_is_kept(room: Room) -> None:  # noqa: F811
    server = opened(room)
    room.says(b"$ " + VALUE[:9].encode())
    room.seconds += hidden.PAUSE_S
    room.turn()
    assert kept(server, room.head) == b"$ " + VALUE[:9].encode(), "whoever looks at this moment sees the beginning"
    room.says(VALUE[9:].encode())
    assert kept(server, room.head) == b"$ " + b"*" * len(VALUE)


def test_c27_half_of_a_value_is_not_let_go(room: Room) -> None:  # noqa: F811
    server = opened(room)
    room.says(VALUE[: PIECE // 2].encode())
    room.seconds += hidden.PAUSE_S
    room.turn()
    assert kept(server, room.head) == b"*" * (PIECE // 2)


def test_c27_every_shell_of_a_session_hides_what_one_was_given(room: Room) -> None:  # noqa: F811
    """An old shell can read the environment of a new one, and files that an agent was given something for."""
    server = room.server()
    server.say(wire.say(wire.START, START), grant(FAR))
    room.says(VALUE.encode())
    server.say(wire.say(wire.START, SECRETS | {"id": "other"}))
    room.says(VALUE.encode())
    server.say(*wire.hide(["an-agents-own-value"]))
    room.says(b"an-agents-own-value")
    assert kept(server, room.head) == VALUE.encode() + b"*" * (len(VALUE) + 19)


def test_c27_masks_outlive_the_server(room: Room) -> None:  # noqa: F811
    server = opened(room)
    room.says(b"a" + VALUE[:20].encode())
    server.close()
    assert room.head == 1
    again = room.server()
    again.say(grant(FAR))
    room.says(VALUE[20:].encode())
    assert kept(again, room.head) == b"a" + b"*" * len(VALUE)


def test_a_flood_with_values_in_it_has_every_byte_at_its_place(room: Room) -> None:  # noqa: F811
    server = opened(room)
    line = b"%07d " + VALUE.encode() + b" and more\r\n"
    expected = b""
    for first in range(0, 10_000, 1000):
        some = b"".join(line % n for n in range(first, first + 1000))
        expected += some.replace(VALUE.encode(), b"*" * len(VALUE))
        assert room.says(some) == len(some)
    room.seconds += 1
    room.turn()
    assert room.head == len(expected)
    assert kept(server, room.head) == expected[-SCROLLBACK_MIN:]


def test_what_is_held_back_waits_while_the_shell_may_not_be_read(room: Room) -> None:  # noqa: F811
    """It is not let go because nothing comes, when nothing comes because nobody reads."""
    server = room.server()
    server.say(wire.say(wire.START, SECRETS), grant(12))
    room.says(b"0123456789" + VALUE.encode())
    assert room.head == 10
    room.seconds += 100
    room.turn()
    assert room.head == 10
    assert room.holding.pause() is None
    server.say(grant(FAR))
    room.turn()
    assert kept(server, room.head) == b"0123456789" + b"*" * len(VALUE)


def test_the_last_bytes_of_a_shell_are_not_held_back(room: Room) -> None:  # noqa: F811
    server = opened(room)
    room.says(b"bye " + VALUE[:3].encode())
    os.close(room.slaves.pop("s"))
    room.holding.exited(ShellId("s"), Exit(0))
    room.turn()
    assert room.head == 7
    assert kept(server, room.head) == b"bye " + VALUE[:3].encode()


def test_the_oldest_values_make_room() -> None:
    values = hidden.Hidden()
    assert values.add([f"value-number-{n}" for n in range(hidden.VALUES_MAX)])
    assert not values.add(["value-number-1"])
    assert values.add(["one more value"])
    assert values.masks is not None
    assert values.masks.mask(b"value-number-0 one more value") == b"value-number-0 **************"
