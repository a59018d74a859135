"""A holder's shells with the clock in hand: what happens while there is no server, and what a broken server cannot do.
The programs are the test itself, on the other side of real PTYs."""

from __future__ import annotations

import errno
import itertools
import os
import selectors
import signal
import socket
import tty
from collections.abc import Iterator
from pathlib import Path

import pytest

from pilothouse.adapters.shells import memory
from pilothouse.adapters.shells.holding import Holding
from pilothouse.adapters.shells.memory import Memory
from pilothouse.adapters.shells.order import Order
from pilothouse.adapters.shells.pty import Typing
from pilothouse.core import shellwire as wire
from pilothouse.core.audience import VIEWERS_MAX
from pilothouse.core.scrollback import Window
from pilothouse.core.seam import GRAIN, Seams
from pilothouse.core.shell import MEMORY_MAX, SCROLLBACK_MIN, Exit, ShellId

START = {"id": "s", "argv": ["sh"], "env": {}, "cwd": "", "cols": 80, "rows": 24, "scrollback": SCROLLBACK_MIN}


class Room:
    """A holder with its selector turned by hand."""

    def __init__(self, path: str, *, lends: bool = False) -> None:
        self.path = path
        self.seconds = 1000.0
        self.selector = selectors.DefaultSelector()
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(path)
        listening.listen(8)
        self.servers: list[Server] = []
        self.slaves: dict[str, int] = {}
        self.masters: dict[str, int] = {}
        self.kills: list[tuple[str, int]] = []
        self.readied: list[int] = []
        """How many had been started when it was said that one more is going to be."""
        self.holding = Holding(
            self.selector,
            listening,
            (os.getuid(),),
            self.start,
            lambda shell, number: self.kills.append((shell, number)),
            lambda: self.seconds,
            lends=lends,
            ready=lambda: self.readied.append(len(self.slaves)),
        )

    def start(self, order: Order) -> None:
        master, slave = os.openpty()
        tty.setraw(slave)
        os.set_blocking(slave, False)
        self.slaves[order.id] = slave
        self.holding.opened(order.id, master)

    def turn(self) -> None:
        while found := self.selector.select(0.005):
            for key, _ in found:
                if self.selector.get_map().get(key.fd) is key:
                    key.data()
        self.holding.tick()

    def says(self, data: bytes) -> int:
        """The program writes; how much of it went."""
        done = idle = 0
        start = self.read
        while done < len(data) and idle < (200 if self.reads else 10):
            try:
                done += os.write(self.slaves["s"], data[done : done + 4096])
            except BlockingIOError:
                before = self.read
                self.turn()
                idle = 0 if self.read > before else idle + 1
        for count in range(200):  # the kernel takes its time to pass it on
            self.turn()
            if count >= 4 and (self.read >= start + done or not self.reads):
                break
        return done

    @property
    def reads(self) -> bool:
        """Whether the first may be read on."""
        return next(iter(self.holding._shells.values())).limit > 0

    @property
    def read(self) -> int:
        """How much has been read of the first."""
        line = next(iter(self.holding._shells.values())).line
        return line.kept.head + line.held

    @property
    def head(self) -> int:
        """Of the first."""
        return next(iter(self.holding._shells.values())).line.kept.head

    def server(self) -> Server:
        self.servers.append(Server(self))
        return self.servers[-1]


class Server:
    def __init__(self, room: Room, *, greet: bool = True) -> None:
        self.room = room
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        self.sock.connect(room.path)
        self.sock.setblocking(False)
        self.records = wire.Records()
        self.got: list[wire.Record] = []
        self.fds: list[int] = []
        if greet:
            self.say(wire.say(wire.HELLO, {"proto": 1}))

    def say(self, *records: bytes) -> list[wire.Record]:
        """What came back, and since the last time."""
        for record in records:
            self.sock.send(record)
        self.room.turn()
        new: list[wire.Record] = []
        while True:
            try:
                data, fds, _, _ = socket.recv_fds(self.sock, 65_536, 8)
            except (BlockingIOError, ConnectionResetError):
                break
            self.fds += fds
            if not data:
                break
            new += self.records.feed(data)
        self.got += new
        return new

    def hung_up(self) -> bool:
        self.room.turn()
        self.sock.setblocking(False)
        try:
            while self.sock.recv(65_536):
                pass
        except BlockingIOError:
            return False
        except ConnectionResetError:
            return True
        return True

    def close(self) -> None:
        self.sock.close()
        for fd in self.fds:
            os.close(fd)
        self.fds.clear()
        self.room.turn()


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    room = Room(os.path.relpath(tmp_path / "s"))
    yield room
    for server in room.servers:
        server.sock.close()
        for fd in server.fds:
            os.close(fd)
    room.holding.close()
    room.selector.close()
    for fd in room.slaves.values():
        os.close(fd)


def grant(upto: int, typed_in: bool = True) -> bytes:
    return wire.record(wire.GRANT, 1, wire.TYPED_IN if typed_in else 0, upto)


def test_who_starts_programs_is_told_before_an_order_is_looked_at(room: Room) -> None:
    server = room.server()
    server.say(wire.say(wire.START, START))
    server.say(wire.say(wire.START, {**START, "id": "t"}))
    server.say(wire.say(wire.START, {**START, "id": "../u"}))
    assert (room.readied, sorted(room.slaves)) == ([0, 1, 2], ["s", "t"])


def test_a_shell_that_was_typed_in_waits_a_minute_for_a_new_server(room: Room) -> None:
    server = room.server()
    server.say(wire.say(wire.START, START), grant(100_000))
    assert room.says(b"x" * 50_000) == 50_000
    server.close()
    room.says(b"y" * 400_000)
    assert room.head == 100_000, "read to its grant, no further"
    room.seconds += wire.HOLD_S - 1
    room.turn()
    assert room.head == 100_000
    assert room.holding.pause() == 1.0
    room.seconds += 1
    room.turn()
    assert room.says(b"z" * 2_000_000) == 2_000_000
    assert room.head > 2_000_000


def test_the_largest_scrollback_is_found_by_a_new_server(room: Room) -> None:
    room.server().say(wire.say(wire.START, START), grant(100_000))
    room.says(b"x")
    (held,) = room.holding._shells.values()
    kept, head = held.line.kept, 1 << 50
    kept.head, kept._seams = head, Seams(head, [*range(head - MEMORY_MAX, head, GRAIN), head])
    server = room.server()
    server.say()
    (told,) = [r for r in server.got if r.kind == wire.SHELL]
    seams = wire.said(told.payload)["seams"]
    assert len(seams) <= wire.SEAMS_MAX
    assert (seams[-1], told.offset) == (head, head)
    assert max(b - a for a, b in itertools.pairwise(seams)) <= 5 * GRAIN


def test_a_shell_for_which_there_is_no_memory_leaves_the_others_alone(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = room.server()
    server.say(wire.say(wire.START, START), grant(100_000))
    before = len(os.listdir("/proc/self/fd"))

    def none(name: str, capacity: int) -> int:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.setattr(memory, "make", none)
    server.say(wire.say(wire.START, START | {"id": "t"}))
    (failed,) = [r for r in server.got if r.kind == wire.FAILED]
    assert "no memory" in wire.said(failed.payload)["message"]
    assert len(os.listdir("/proc/self/fd")) == before + 1, "the test's own side of the PTY, and nothing else"
    assert room.says(b"hello") == 5
    assert room.head == 5


def test_everybody_who_looks_at_a_shell_may_type_in_it_by_turns() -> None:
    typing = Typing()
    for turn in range(2):
        for typist in range(2 * VIEWERS_MAX):
            typing.take(typist, turn, b"x")
    assert typing.backlog == 4 * VIEWERS_MAX


def test_a_shell_in_which_nobody_typed_does_not_wait(room: Room) -> None:
    server = room.server()
    server.say(wire.say(wire.START, START), grant(10, typed_in=False))
    server.close()
    assert room.says(b"x" * 1_000_000) == 1_000_000
    assert room.head == 1_000_000


def test_a_new_server_finds_what_there_is_where_it_was(room: Room) -> None:
    server = room.server()
    server.say(wire.say(wire.START, START), grant(1_000_000))
    room.says(b"0123456789")
    server.say(wire.record(wire.INPUT, 1, 0, 0, wire.number(7) + b"typed"))
    memory = Memory(server.fds[0], SCROLLBACK_MIN)
    memory.seen = 6
    memory.close()
    server.close()
    again = room.server()
    welcome, shell = again.got
    assert wire.said(welcome.payload) == {"proto": 1, "shells": 1, "masks": True}
    body = wire.said(shell.payload)
    assert (shell.offset, body["id"], body["oldest"], body["typists"]) == (10, "s", 0, {"7": 5})
    memory = Memory(again.fds[0], body["capacity"])
    window = Window(memory.output, shell.offset)
    assert (memory.seen, window.read(0, 100)) == (6, b"0123456789")
    window.release()
    memory.close()
    assert os.read(room.slaves["s"], 100) == b"typed"
    room.says(b"abc")
    assert room.head == 10, "what it may overwrite is for the server to say"
    again.say(grant(100))
    assert room.head == 13
    again.close()


def test_the_end_of_a_shell_comes_after_its_last_byte(room: Room) -> None:
    server = room.server()
    server.say(wire.say(wire.START, START), grant(20_000))
    room.says(b"x" * 30_000)
    os.close(room.slaves.pop("s"))
    room.holding.exited(ShellId("s"), Exit(3))
    assert not [r for r in server.say() if r.kind == wire.ENDED]
    got = server.say(grant(50_000))
    assert (got[-1].kind, got[-1].offset, wire.as_exited(got[-1].payload)) == (wire.ENDED, 30_000, (3, 0))
    server.close()


def test_something_else_that_holds_the_terminal_open_does_not_hold_up_the_end(room: Room) -> None:
    server = room.server()
    server.say(wire.say(wire.START, START), grant(20_000))
    room.says(b"bye")
    room.holding.exited(ShellId("s"), Exit(0, 9))
    assert not [r for r in server.say() if r.kind == wire.ENDED]
    room.seconds += 1
    got = server.say()
    assert (got[-1].kind, got[-1].offset, wire.as_exited(got[-1].payload)) == (wire.ENDED, 3, (0, 9))
    server.close()


def test_a_kill_comes_after_the_hang_up_and_not_after_the_end(room: Room) -> None:
    server = room.server()
    server.say(wire.say(wire.START, START), wire.record(wire.SIGNAL, 1, signal.SIGHUP))
    assert room.kills == [("s", signal.SIGHUP)]
    room.seconds += 4
    room.turn()
    assert room.kills == [("s", signal.SIGHUP), ("s", signal.SIGKILL)]
    server.say(wire.record(wire.SIGNAL, 1, signal.SIGHUP))
    room.holding.exited(ShellId("s"), Exit(0, 9))
    room.seconds += 4
    room.turn()
    assert len(room.kills) == 3
    server.close()


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"argv": []}, "argv"),
        ({"argv": "sh"}, "argv"),
        ({"argv": ["sh\0"]}, "argv"),
        ({"env": {"A": 1}}, "env"),
        ({"env": None}, "env"),
        ({"cwd": None}, "cwd"),
        ({"cols": 0}, "width"),
        ({"rows": 1001}, "height"),
        ({"scrollback": 1}, "scrollback"),
        ({"scrollback": 1 << 40}, "scrollback"),
    ],
)
def test_an_order_that_cannot_be_carried_out_is_answered(room: Room, wrong: dict[str, object], says: str) -> None:
    server = room.server()
    (answer,) = server.say(wire.say(wire.START, START | wrong))
    assert answer.kind == wire.FAILED
    assert says in wire.said(answer.payload)["message"]
    assert room.slaves == {}
    server.close()


@pytest.mark.parametrize(
    "nonsense",
    [
        b"\xff" * 64,
        wire.say(wire.HELLO, {"proto": 2}),
        wire.say(wire.START, START | {"id": "../x"}),
        wire.record(wire.START, 0, 0, 0, b"[]"),
        wire.record(0x70, 1),
        wire.record(wire.RESIZE, 1, 0, 0, b"x"),
        wire.record(wire.RESIZE, 1, 0, 0, wire.pair(0, 24)),
        wire.record(wire.INPUT, 1, 0, 0, b""),
    ],
)
def test_a_server_that_talks_nonsense_is_hung_up_on_and_its_shell_goes_on(room: Room, nonsense: bytes) -> None:
    server = room.server()
    server.say(wire.say(wire.START, START), grant(100))
    server.say(nonsense)
    assert server.hung_up()
    server.close()
    again = room.server()
    assert [r.kind for r in again.got] == [wire.WELCOME, wire.SHELL]
    again.close()


def test_nothing_is_said_before_hello(room: Room) -> None:
    server = Server(room, greet=False)
    server.say(wire.say(wire.START, START))
    assert server.hung_up() and room.slaves == {}
    server.close()


def test_a_server_that_does_not_read_costs_nothing_and_is_told_when_it_does(room: Room) -> None:
    server = room.server()
    server.say(wire.say(wire.START, START), grant(1 << 40, typed_in=False))
    for n in range(1, 3_000):  # each of them a record of its own, more than its socket holds
        os.write(room.slaves["s"], b"x" * 10)
        while room.head < n * 10:
            for key, _ in room.selector.select(0.1):
                key.data()
    assert room.holding.outlet.waiting <= 2
    got = [*server.say(), *server.say()]
    assert [r for r in got if r.kind == wire.OUTPUT][-1].offset == room.head
    assert len(got) < 2_900
    server.close()


def test_a_session_may_have_any_number_of_shells_one_after_another(room: Room) -> None:
    server = room.server()
    room.holding._slot = 250  # of these there were so many before
    for number in range(12):
        server.say(wire.say(wire.START, START | {"id": f"n{number}"}))
        shell = next(record for record in reversed(server.got) if record.kind == wire.SHELL)
        assert wire.said(shell.payload)["id"] == f"n{number}"
        server.say(wire.record(wire.GRANT, shell.slot, 0, 100_000))
        os.close(room.slaves.pop(f"n{number}"))
        room.holding.exited(ShellId(f"n{number}"), Exit(0))
        assert server.say()[-1].kind == wire.ENDED
        server.say(wire.record(wire.FORGET, shell.slot))
        os.close(server.fds.pop())
    assert room.holding.held == 0
