"""What a holder does about a shell that it has lent: the clock in hand, the test as the server and as the program."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from pilothouse.adapters.shells import holding, lending
from pilothouse.adapters.shells.lending import RESIZES, Borrowed, Loan
from pilothouse.adapters.shells.memory import Memory
from pilothouse.core import shellwire as wire
from pilothouse.core.scrollback import Window
from pilothouse.core.seam import Seams
from pilothouse.core.shell import SCROLLBACK_MIN, Exit, ShellId
from tests.adapters.shells.test_holding import START, Room, Server, grant

HELLO = wire.say(wire.HELLO, {"proto": 1, "lend": True})
TYPIST = 5
PATIENCE_S = 20
"""With the kernel, which takes its time to pass on what was written."""


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    room = Room(os.path.relpath(tmp_path / "s"), lends=True)
    yield room
    for server in room.servers:
        server.sock.close()
        for fd in server.fds:
            os.close(fd)
    room.holding.close()
    room.selector.close()
    for fd in room.slaves.values():
        os.close(fd)


class Borrower:
    """A server's hold on the one shell."""

    def __init__(self, server: Server) -> None:
        self.server = server
        memory, *loan = server.fds[-4:]
        del server.fds[-4:]
        self.memory = Memory(memory, SCROLLBACK_MIN)
        os.close(memory)
        lent = next(r for r in reversed(server.got) if r.kind == wire.LENT)
        self.window = Window(self.memory.output, lent.offset)
        seams = Seams(wire.as_number(lent.payload))
        seams.feed(self.window.read(seams.end, lent.offset - seams.end))
        self.borrowed = Borrowed(self.memory, Loan(*loan), self.window, seams)

    def read(self) -> None:
        select.select([self.borrowed.fd], [], [], PATIENCE_S)
        self.borrowed.read(100_000)
        self.borrowed.look()

    def close(self) -> None:
        self.borrowed.close()
        self.window.release()
        self.memory.close()


def kinds(records: list[wire.Record]) -> list[int]:
    return [record.kind for record in records]


def server(room: Room) -> Server:
    made = Server(room, greet=False)
    room.servers.append(made)
    made.say(HELLO)
    return made


def borrower(room: Room) -> Borrower:
    made = server(room)
    made.say(wire.say(wire.START, START), grant(100_000))
    assert kinds(made.got) == [wire.WELCOME, wire.SHELL, wire.LENT]
    return Borrower(made)


def test_a_server_that_does_not_ask_is_lent_nothing(room: Room) -> None:
    asked = room.server()
    asked.say(wire.say(wire.START, START), grant(100_000))
    room.says(b"hello")
    assert wire.LENT not in kinds(asked.got) and room.head == 5


def test_what_is_lent_is_left_alone_and_read_on_when_the_server_has_gone(room: Room) -> None:
    mine = borrower(room)
    os.write(room.slaves["s"], b"one")
    room.turn()
    assert room.head == 0
    mine.read()
    assert mine.borrowed.type(TYPIST, 0, b"typed") == (5, 5)
    os.write(room.slaves["s"], b"two")
    mine.close()
    mine.server.close()
    assert room.head == 3, "it is held for who typed"
    again = server(room)
    (shell,) = [r for r in again.got if r.kind == wire.SHELL]
    assert (shell.offset, wire.said(shell.payload)["typists"]) == (3, {f"{TYPIST:x}": 5})
    other = Borrower(again)
    other.read()
    assert other.window.read(0, 100) == b"onetwo"
    select.select([room.slaves["s"]], [], [], PATIENCE_S)
    assert os.read(room.slaves["s"], 100) == b"typed"
    other.close()


def test_the_next_server_waits_until_the_one_before_has_let_go(room: Room) -> None:
    mine = borrower(room)
    other = server(room)
    assert mine.server.hung_up() and other.got == []
    os.write(room.slaves["s"], b"late")
    mine.read()
    mine.close()
    assert other.say() == []
    mine.server.close()
    assert kinds(other.say()) == [wire.WELCOME, wire.SHELL, wire.LENT]
    assert other.got[1].offset == 4
    Borrower(other).close()


def test_the_newest_of_those_who_wait_is_welcome(room: Room) -> None:
    mine = borrower(room)
    early, late = server(room), server(room)
    mine.close()
    mine.server.close()
    assert early.hung_up()
    assert kinds(late.say()) == [wire.WELCOME, wire.SHELL, wire.LENT]
    Borrower(late).close()


def test_a_server_that_talks_nonsense_has_its_loan_until_it_goes(room: Room) -> None:
    mine = borrower(room)
    mine.server.say(wire.record(0x70, 1))
    assert mine.server.hung_up()
    os.write(room.slaves["s"], b"x")
    room.turn()
    assert room.head == 0
    mine.close()
    mine.server.close()
    room.turn()
    room.seconds += wire.HOLD_S
    room.turn()
    assert room.says(b"yz") == 2 and room.head == 3


def test_an_ended_shell_is_asked_back_and_its_end_comes_after_its_last_byte(room: Room) -> None:
    mine = borrower(room)
    os.write(room.slaves["s"], b"bye")
    os.close(room.slaves.pop("s"))
    room.holding.exited(ShellId("s"), Exit(3))
    assert kinds(mine.server.say()) == [wire.RECALL]
    mine.close()
    got = mine.server.say(wire.record(wire.RETURN, 1), grant(100_000))
    assert (got[-1].kind, got[-1].offset, wire.as_exited(got[-1].payload)) == (wire.ENDED, 3, (3, 0))


def test_a_shell_that_does_not_listen_is_killed_though_it_is_lent(room: Room) -> None:
    mine = borrower(room)
    mine.server.say(wire.record(wire.SIGNAL, 1, signal.SIGHUP))
    room.seconds += holding.KILL_S
    room.turn()
    assert room.kills == [("s", signal.SIGHUP), ("s", signal.SIGKILL)]
    assert room.holding.pause() is None
    mine.close()


def test_where_something_is_hidden_nothing_is_lent(room: Room) -> None:
    mine = borrower(room)
    assert kinds(mine.server.say(wire.say(wire.HIDE, {"hidden": ["hunter2-hunter2"]}))) == [wire.RECALL]
    mine.close()
    mine.server.say(wire.record(wire.RETURN, 1), grant(100_000))
    room.says(b"it is hunter2-hunter2.")
    (held,) = room.holding._shells.values()
    assert held.line.kept.read(0, 100) == b"it is ***************."
    room.seconds += 10 * holding.LEND_S
    assert wire.LENT not in kinds(mine.server.say())
    mine.server.say(wire.say(wire.START, START | {"id": "t"}))
    assert wire.LENT not in kinds(mine.server.got[3:])


def test_what_came_back_is_lent_again_once_everything_is_typed(room: Room) -> None:
    mine = borrower(room)
    full = b"x" * 65_536
    count, gone = mine.borrowed.type(TYPIST, 0, full) or (0, 0)
    assert gone < count <= len(full)
    mine.close()
    mine.server.say(wire.record(wire.RETURN, 1), wire.record(wire.INPUT, 1, 0, count, wire.number(TYPIST) + b"end"))
    room.seconds += holding.LEND_S
    assert wire.LENT not in kinds(mine.server.say()), "there is something to be typed"
    got = b""
    while len(got) < count + 3:
        select.select([room.slaves["s"]], [], [], PATIENCE_S)
        got += os.read(room.slaves["s"], 65_536)
        room.turn()
    assert got == full[:count] + b"end"
    room.seconds += 2 * holding.LEND_S
    assert wire.LENT in kinds(mine.server.say())
    typed = [r for r in mine.server.got if r.kind == wire.TYPED]
    assert (typed[-1].offset, wire.as_taken(typed[-1].payload)) == (count + 3, (TYPIST, 0))


def test_what_is_not_wanted_again_is_not_lent_again(room: Room) -> None:
    mine = borrower(room)
    mine.close()
    mine.server.say(wire.record(wire.RETURN, 1, wire.KEEP), grant(100_000))
    room.seconds += 10 * holding.LEND_S
    assert mine.server.say() == []
    room.says(b"hello")
    assert room.head == 5


SECRET = b"hunter2-hunter2"


def test_what_is_hidden_is_masked_though_the_server_died_before_it_gave_the_terminal_back(room: Room) -> None:
    mine = borrower(room)
    mine.server.say(wire.say(wire.HIDE, {"hidden": [SECRET.decode()]}), grant(100_000, typed_in=False))
    mine.close()
    mine.server.close()
    room.says(b"it is " + SECRET + b".")
    (held,) = room.holding._shells.values()
    assert held.line.kept.read(0, 100) == b"it is ***************."


def test_what_was_under_way_when_it_came_back_is_told(room: Room) -> None:
    """A server that could not go on reading leaves it in the pipe; the program may have nothing more to say."""
    mine = borrower(room)
    os.write(room.slaves["s"], b"prompt")
    select.select([mine.borrowed.fd], [], [], PATIENCE_S)
    assert os.splice(mine.borrowed.fd, mine.borrowed._loan.output, 4096) == 6
    mine.close()
    got = mine.server.say(wire.record(wire.RETURN, 1, wire.KEEP), grant(100_000))
    assert [(r.kind, r.offset) for r in got] == [(wire.OUTPUT, 6)]


def test_who_has_borrowed_it_can_see_whether_a_resize_was_done(room: Room) -> None:
    mine = borrower(room)
    (held,) = room.holding._shells.values()
    assert mine.borrowed.page[RESIZES] == 0
    mine.server.say(wire.record(wire.RESIZE, 1, 0, 0, wire.pair(100, 30)))
    assert os.get_terminal_size(room.slaves["s"]) == (100, 30)
    assert mine.borrowed.page[RESIZES] == 1
    mine.close()
    mine.server.say(wire.record(wire.RETURN, 1), wire.record(wire.RESIZE, 1, 0, 0, wire.pair(90, 30)))
    room.seconds += holding.LEND_S
    assert kinds(mine.server.say()) == [wire.LENT]
    assert held.memory.page[lending.RESIZES] == 2
    mine.server.close()
    late = Borrower(server(room))
    assert late.borrowed.page[RESIZES] == 0, "what another server asked for is not counted"
    late.close()


def test_a_terminal_that_cannot_be_lent_costs_no_descriptors(room: Room) -> None:
    first = server(room)
    first.say(wire.say(wire.START, START), grant(100_000))
    first.close()
    (held,) = room.holding._shells.values()
    os.set_blocking(held.line.fd, True)
    before = len(os.listdir("/proc/self/fd"))
    again = server(room)
    os.set_blocking(held.line.fd, False)
    assert wire.LENT not in kinds(again.got)
    again.close()
    assert len(os.listdir("/proc/self/fd")) == before
