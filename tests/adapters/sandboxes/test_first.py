"""A first process that has been taken over: what it says to its holder costs its own session, and nothing else."""

from __future__ import annotations

import array
import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pilothouse.adapters.sandboxes import fdpass, launch, profile
from pilothouse.adapters.sandboxes.holder import Holder
from pilothouse.adapters.sandboxes.order import Order, Running

SESSION = "01a1fca5-a696-7da8-a592-78b242187567"


@dataclass
class Taken:
    first: socket.socket
    """The first process's end of its socket."""
    control: Path
    pid: int

    def ask(self, **message: object) -> dict[str, object]:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(20)
            sock.connect(str(self.control))
            lines = fdpass.Lines(sock)
            for said in ({"verb": "hello", "proto": 1}, message):
                fdpass.send(sock, said)
                answer = fdpass.wait(lines)
            return answer

    def ended(self) -> dict[str, object]:
        """The state, once the sandbox has been ended."""
        end = time.monotonic() + 20
        while (state := self.ask(verb="state"))["alive"]:
            assert time.monotonic() < end, "it goes on"
            time.sleep(0.01)
        return state


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def closed(before: int) -> None:
    """Until there are no more of them than there were; the holder, a thread here, may have some in its hands."""
    end = time.monotonic() + 20
    while descriptors() > before + 2:
        assert time.monotonic() < end, f"{descriptors()} are open, and {before} were"
        time.sleep(0.01)


@pytest.fixture
def taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Taken]:
    """A real holder in a thread; its sandbox is a process that sleeps."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    pid = os.posix_spawn("/bin/sleep", ["sleep", "60"], os.environ)
    err, err_in = os.pipe()  # of bwrap's words
    running = Running(
        pid, ours, fdpass.Lines(ours), err, [], {}, "/", profile.Interpreter("x", (), (), "", ""),
        os.pidfd_open(pid),
    )  # fmt: skip
    monkeypatch.setattr(launch, "launch", lambda order, prepared: running)
    control, runner = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
    control.bind(str(tmp_path / "c"))
    control.listen()
    order = Order(
        SESSION,
        "bubblewrap",
        "echo",
        {},
        profile.Place("", str(tmp_path), str(tmp_path)),
        running.command,
        "",
        None,
        "",
        "",
        "",
        (os.geteuid(),),
    )
    terminals = socket.socket(socket.AF_UNIX)
    terminals.bind(str(tmp_path / "t"))
    terminals.listen()
    made = Holder(order, (), control, runner, terminals)
    made.start()
    serving = threading.Thread(target=made.serve, daemon=True)
    serving.start()
    taken = Taken(theirs, tmp_path / "c", pid)
    yield taken
    with contextlib.suppress(OSError, fdpass.Broken):
        taken.ask(verb="stop")
    serving.join(20)
    assert not serving.is_alive()
    os.close(err_in)
    for sock in (ours, theirs, control, runner, terminals):
        sock.close()


@pytest.mark.parametrize("line", [
    b"not json\n", b"[]\n", b"7\n", b"\xff\xfe\n", b"[" * 60_000 + b"\n", b"x" * 70_000, b"x" * 70_000 + b"\n", b"\n",
], ids=lambda line: repr(line[:12]))  # fmt: skip
def test_what_is_no_message_ends_the_session(taken: Taken, line: bytes) -> None:
    with contextlib.suppress(BrokenPipeError):
        taken.first.sendall(line)
    assert taken.ended()["exit"] == "signal 9"


@pytest.mark.parametrize("message", [
    {}, {"exit": 99, "status": "exit 0"}, {"exit": None}, {"exit": [1], "status": {}},
    {"exit": True, "status": "x" * 9999}, {"exit": 2**70, "status": 1}, {"started": 1}, {"ready": "again", "pid": 1},
    {"exit": "1"}, {"verb": "stop"},
])  # fmt: skip
def test_what_means_nothing_is_passed_over(taken: Taken, message: dict[str, object]) -> None:
    for _ in range(50):
        taken.first.sendall(json.dumps(message).encode() + b"\n")
    assert taken.ask(verb="state")["alive"] is True


def test_a_line_that_never_ends_is_not_kept(taken: Taken) -> None:
    taken.first.settimeout(1)
    with contextlib.suppress(BrokenPipeError, ConnectionResetError, TimeoutError):
        for _ in range(1000):
            taken.first.sendall(b"x" * 65_536)
    assert taken.ended()["alive"] is False


def test_descriptors_it_sends_are_closed(taken: Taken) -> None:
    """With a line, without one, more than may come, again and again."""
    before = descriptors()
    for count in (1, 3, 8, 8, 3):
        for data in (b" ", b'{"x":1}\n'):
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0] * count))]
            for _ in range(20):
                taken.first.sendmsg([data], rights)
    assert taken.ask(verb="state")["alive"] is True
    closed(before)
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0] * 200))]
    with contextlib.suppress(OSError):
        for _ in range(50):
            taken.first.sendmsg([b"x"], rights)
    taken.ask(verb="state")
    closed(before)


def test_one_that_does_not_listen_is_ended(taken: Taken) -> None:
    """What the holder has to say to it fills its socket: the holder does not wait for it."""
    with contextlib.ExitStack() as stack:
        for _ in range(40):
            sock = stack.enter_context(socket.socket(socket.AF_UNIX))
            sock.connect(str(taken.control))
            fdpass.send(sock, {"verb": "hello", "proto": 1})
            fdpass.send(sock, {"verb": "run", "argv": ["x" * 30_000]})
        assert taken.ended()["alive"] is False
