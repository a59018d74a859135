"""The load of `bench/terminals.py`, in a process of its own, the same for every contender: plain sockets, one thread,
no event loop, so that it is never what limits. The order comes as JSON on standard input's first line.

cat     one shell types `cat` of a file; from the keystroke to the end of the output
echo    one shell, `cat` in it, a key every few ms; from each key to the frame that brings it back. Alone in its
        process: nothing else that arrives can make a time longer
flood   many shells: "ready" once each has said something; further ones come as a line, "ready" again; at the line "go"
        all run `yes`, "warm" after a while; at "stop" it says how much came since

Every answer is one line of JSON. Processor time is what the kernel counts for the contender's processes.
"""

from __future__ import annotations

import contextlib
import json
import random
import selectors
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

PATIENCE_S = 60.0
SETTLE_S = 0.25
GAP_S = (0.008, 0.016)
"""Between an echo and the next key."""
LINE = 60
"""Keys, then a return: a line of a terminal has an end."""
FLOOD = b"yes abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnopqrstuvwxyz0123456789abcdefgh"
TEXT = r"\033[32m%s\033[0m the quick brown fox jumps over the lazy dog, and back"
_ROOM = 1 << 20


def processor_s(pids: list[int]) -> float:
    """Seconds that these processes have run, threads together."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{pid}/task").iterdir():
                with contextlib.suppress(OSError):
                    total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


class Wire:
    """What a contender's frames look like: here just the bytes."""

    opcode = 2

    def input(self, data: bytes) -> bytes:
        return data

    def output(self, room: bytearray, body: int, until: int) -> int:
        """How many of the shell's bytes that message holds."""
        return until - body


class Ours(Wire):
    """A byte for the channel."""

    def input(self, data: bytes) -> bytes:
        return b"\0" + data

    def output(self, room: bytearray, body: int, until: int) -> int:
        return until - body - 1 if room[body] == 1 else 0


class Terminado(Wire):
    """`["stdin", text]`, `["stdout", text]`; `["setup", {}]` is none."""

    opcode = 1

    def input(self, data: bytes) -> bytes:
        return json.dumps(["stdin", data.decode()]).encode()

    def output(self, room: bytearray, body: int, until: int) -> int:
        if not room.startswith(b'["stdout"', body):
            return 0
        escapes = room.count(b"\\u001b", body, until)
        return until - body - len('["stdout", ""]') - room.count(b"\\", body, until) - 4 * escapes


WIRES: dict[str, Callable[[], Wire]] = {"ours": Ours, "plain": Wire, "terminado": Terminado}


class Shell:
    """One WebSocket. `read` takes what has arrived; bodies are looked at, not copied."""

    def __init__(self, wire: Wire, port: int, path: str, headers: list[str]) -> None:
        self._wire = wire
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        lines = [f"GET {path} HTTP/1.1", f"Host: 127.0.0.1:{port}", "Upgrade: websocket", "Connection: Upgrade",
                 "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", *headers]  # fmt: skip
        self.sock.sendall("\r\n".join([*lines, "", ""]).encode())
        self._room = bytearray(_ROOM)
        self._view = memoryview(self._room)
        self._kept = 0
        """Bytes at the beginning of the room that make no whole frame yet."""
        self.frames = self.bytes = 0
        self.tail = b""
        """The last of what was read, frames' heads among it."""
        self._switch()

    def _switch(self) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            got = self.sock.recv(1)
            if not got:
                break
            head += got
        if not head.startswith(b"HTTP/1.1 101"):
            raise SystemExit(f"no WebSocket: {head[:300]!r}")

    def send(self, data: bytes) -> None:
        self._frame(self._wire.opcode, self._wire.input(data))

    def _frame(self, opcode: int, body: bytes) -> None:
        size = bytes((0x80 | len(body),)) if len(body) < 126 else b"\xfe" + struct.pack(">H", len(body))
        self.sock.sendall(bytes((0x80 | opcode,)) + size + b"\0\0\0\0" + body)

    def read(self) -> int:
        """How many bytes of output one `recv` brought."""
        count = self.sock.recv_into(self._view[self._kept :])
        if not count:
            raise SystemExit("the connection was closed")
        end, at, before = self._kept + count, 0, self.bytes
        self.tail = self.tail[-64:] + bytes(self._view[max(self._kept, end - 4096) : end])
        for opcode, body, until in self._frames(end):
            at = until
            if opcode == 9:
                self._frame(10, bytes(self._view[body:until]))
            elif opcode == 8:
                raise SystemExit("the connection was closed")
            elif output := self._wire.output(self._room, body, until):
                self.frames += 1
                self.bytes += output
        self._kept = end - at
        if at and self._kept:
            self._view[: self._kept] = self._view[at:end]
        return self.bytes - before

    def _frames(self, end: int) -> Iterator[tuple[int, int, int]]:
        room, at = self._room, 0
        while end - at >= 2:
            size, body = room[at + 1], at + 2
            if size == 126:
                size, body = (room[body] << 8) | room[body + 1], body + 2
            elif size == 127:
                size, body = int.from_bytes(room[body : body + 8]), body + 8
            if body + size > end:
                return
            yield room[at] & 15, body, body + size
            at = body + size

    def until(self, mark: bytes) -> None:
        while mark not in self.tail:
            self.read()

    def quiet(self, seconds: float = SETTLE_S) -> None:
        """Until nothing has come for so long."""
        self.sock.settimeout(seconds)
        with contextlib.suppress(TimeoutError):
            while True:
                self.read()
        self.sock.settimeout(PATIENCE_S)


def shells(order: dict[str, Any], paths: list[str]) -> list[Shell]:
    wire = WIRES[order["wire"]]()
    return [Shell(wire, order["port"], path, order["headers"]) for path in paths]


def say(answer: dict[str, Any] | str) -> None:
    print(json.dumps(answer), flush=True)


def run_cat(order: dict[str, Any]) -> None:
    (shell,) = shells(order, order["paths"])
    shell.quiet()
    size, name = order["bytes"], f"/tmp/ph-bench-{random.randrange(1 << 40):x}"
    make = f"yes \"$(printf '{TEXT}' $$)\" | head -c {size} > {name}; echo MADE$((40+2))\r"
    shell.send(make.encode())
    shell.until(b"MADE42")
    shell.quiet()
    frames, before, took = shell.frames, shell.bytes, processor_s(order["pids"])
    began = time.perf_counter()
    shell.send(f"cat {name}; echo DONE$((40+2))\r".encode())
    shell.until(b"DONE42")
    seconds = time.perf_counter() - began
    took = processor_s(order["pids"]) - took
    came, frames = shell.bytes - before, shell.frames - frames
    shell.send(f"rm {name}\r".encode())
    shell.quiet(0.1)
    say({"mb_s": size / 1e6 / seconds, "ms_mb": took * 1e3 / (size / 1e6), "frame": came / max(1, frames)})


def run_echo(order: dict[str, Any]) -> None:
    (shell,) = shells(order, order["paths"])
    shell.quiet()
    shell.send(b"PS1=; cat >/dev/null\r")
    shell.quiet()
    dice, times, end, took = random.Random(7), [], time.perf_counter() + order["seconds"], processor_s(order["pids"])
    began = time.perf_counter()
    while time.perf_counter() < end:
        for _ in range(LINE):
            shell.tail = b""
            sent = time.perf_counter()
            shell.send(b"q")
            while b"q" not in shell.tail:
                shell.read()
            times.append(time.perf_counter() - sent)
            time.sleep(dice.uniform(*GAP_S))
            if sent > end:
                break
        shell.send(b"\r")
        shell.quiet(0.03)
    took = processor_s(order["pids"]) - took
    say({"ms": [t * 1e3 for t in times], "busy": took / (time.perf_counter() - began)})


def run_flood(order: dict[str, Any]) -> None:
    every: list[Shell] = []
    for paths in (order["paths"], None):
        fresh = shells(order, json.loads(sys.stdin.readline()) if paths is None else paths)
        for shell in fresh:
            shell.read()
        every += fresh
        say("ready")
    selector = selectors.DefaultSelector()
    for shell in every:
        selector.register(shell.sock, selectors.EVENT_READ, shell)
    selector.register(sys.stdin, selectors.EVENT_READ)
    sys.stdin.readline()
    for shell in every:
        shell.send(FLOOD + b"\r")
    began, took, start = time.perf_counter(), processor_s(order["pids"]), [0, 0]
    warm = began + order["warm"]
    while True:
        for key, _ in selector.select():
            if not isinstance(key.data, Shell):
                seconds, took = time.perf_counter() - began, processor_s(order["pids"]) - took
                mb = (sum(s.bytes for s in every) - start[0]) / 1e6
                frames = sum(s.frames for s in every) - start[1]
                say({"mb_s": mb / seconds, "ms_mb": took * 1e3 / max(mb, 1e-3), "frame": mb * 1e6 / max(1, frames)})
                return
            key.data.read()
        if warm and time.perf_counter() >= warm:
            warm, began, took = 0.0, time.perf_counter(), processor_s(order["pids"])
            start = [sum(s.bytes for s in every), sum(s.frames for s in every)]
            say("warm")


def main() -> None:
    order = json.loads(sys.stdin.readline())
    {"cat": run_cat, "echo": run_echo, "flood": run_flood}[order["mode"]](order)


if __name__ == "__main__":
    main()
