"""The load of `bench/fanout.py`, in a process of its own, the same for every contender: plain sockets, one thread, one
epoll. The order comes as JSON on standard input's first line, the answer is one line of JSON.

It connects in steps up to the largest number of subscribers and notes memory at each, then loads the largest number,
lets connections go, loads the next smaller, and so on. A load is

closed   `window` events in flight: the next one is published when all subscribers have one of them. Several publishers
         by HTTP, each waiting for its answer
open     events at a fixed rate, each stamped with the time at which it was due

Every event has `@T=` and the time in ns as 16 hexadecimal digits; a delivery is one of these in what a socket gives, so
frames need not be taken apart. All are counted; one subscriber in eight has the times of its own looked at. Processor
time and memory are what the kernel counts for the contender's processes.

mode `dialog` subscribes to one channel and gives the time from each stamp (wall clock, decimal) to its arrival.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fan.wires import DIGITS, PATIENCE_S, WIRES, Publisher, Wire

MARK = b"@T="
WALL = re.compile(rb"@T=([0-9]+);")
ROOM = 1 << 18
STALL_S = 10.0
"""Without a delivery that is due: the contender has lost some."""
CHUNK = 32
"""Connections made at one time."""
SETTLE_S = 0.5
QUIET = 0.05
"""Of a processor: the contender has done what there was to do."""
TIMED = 8
"""Every so manieth subscriber's deliveries are timed, of more than a hundred."""
PONG = b"\x8a\x80\0\0\0\0"


def processor_s(pids: list[int]) -> float:
    """Seconds that these processes have run, threads together."""
    total = 0
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):
                total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def memory(pids: list[int]) -> int:
    """Bytes of PSS that are no file's."""
    total = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith(("Pss_Anon:", "Pss_Shmem:")):
                total += int(line.split()[1]) * 1024
    return total


class Crowd:
    """All subscribers, and what they have been given."""

    def __init__(self, wire: Wire, port: int) -> None:
        self._wire = wire
        self._port = port
        self.socks: list[socket.socket] = []
        self.count = 0
        self.times: list[int] = []
        self._carry: dict[int, bytes] = {}
        self._timed: set[int] = set()
        self._poll = select.epoll()
        self._room = bytearray(ROOM)
        self._rooms = [self._room]
        self._publishers: dict[int, Publisher] = {}

    # --- who is there ---

    def grow(self, size: int) -> None:
        while len(self.socks) < size:
            self._more(min(CHUNK, size - len(self.socks)))

    def _more(self, count: int) -> None:
        fresh = []
        for _ in range(count):
            sock = socket.create_connection(("127.0.0.1", self._port), timeout=PATIENCE_S)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.sendall(self._wire.upgrade())
            fresh.append(sock)
        kept = [_until(sock, b"\r\n\r\n", b"") for sock in fresh]
        steps = [self._wire.steps(len(self.socks) + number) for number in range(count)]
        for turn in zip(*steps, strict=True):
            for sock, (said, _) in zip(fresh, turn, strict=True):
                if said:
                    sock.sendall(said)
            kept = [_until(s, mark, had) for s, (_, mark), had in zip(fresh, turn, kept, strict=True)]
        for sock in fresh:
            sock.setblocking(False)
            self._poll.register(sock, select.EPOLLIN)
        self.socks += fresh

    def shrink(self, size: int) -> None:
        for sock in self.socks[size:]:
            self._poll.unregister(sock)
            sock.close()
        del self.socks[size:]

    def alive(self) -> None:
        """A sign of life of each, unasked: contenders' pings are passed over."""
        for sock in self.socks:
            with contextlib.suppress(BlockingIOError):
                sock.send(PONG)

    def hear(self, publishers: list[Publisher]) -> None:
        for fd in self._publishers:
            self._poll.unregister(fd)
        self._publishers = {one.sock.fileno(): one for one in publishers}
        for fd in self._publishers:
            self._poll.register(fd, select.EPOLLIN)

    # --- what they get ---

    def begin(self) -> None:
        step = TIMED if len(self.socks) > 100 else 1
        self._timed = {sock.fileno() for sock in self.socks[::step]}
        self.count, self.times = 0, []

    def pump(self, seconds: float) -> bool:
        """What has arrived. False: nothing did, for so long."""
        room, rooms, timed, carry = self._room, self._rooms, self._timed, self._carry
        found = self._poll.poll(seconds, 512)
        for fd, _ in found:
            if fd in self._publishers:
                self._publishers[fd].heard()
                continue
            try:
                size = os.readv(fd, rooms)
            except BlockingIOError:
                continue
            if not size:
                raise SystemExit("a connection was closed")
            self.count += room.count(MARK, 0, size)
            if fd in carry:  # a mark came in two pieces
                self.count += (carry.pop(fd) + bytes(room[:2])).count(MARK)
            last = room[size - 1]
            if last == MARK[0] or (last == MARK[1] and room[size - 2] == MARK[0]):
                carry[fd] = bytes(room[max(size - 2, 0) : size])
            if fd in timed:
                now = time.monotonic_ns()
                for piece in bytes(room[:size]).split(MARK)[1:]:
                    if len(piece) >= DIGITS:
                        self.times.append(now - int(piece[:DIGITS], 16))
        return bool(found)


def _until(sock: socket.socket, mark: bytes, had: bytes) -> bytes:
    """What came up to the mark and behind it."""
    while mark not in had:
        got = sock.recv(65536)
        if not got:
            raise SystemExit(f"refused: {had[:300]!r}")
        had += got
    if mark == b"\r\n\r\n" and not had.startswith(b"HTTP/1.1 101"):
        raise SystemExit(f"no WebSocket: {had[:300]!r}")
    return had.partition(mark)[2]


class Load:
    """One number of subscribers, loaded."""

    def __init__(self, crowd: Crowd, wire: Wire, order: dict[str, Any]) -> None:
        self._crowd = crowd
        self._pids: list[int] = order["pids"]
        self._seconds, self._warm = float(order["seconds"]), float(order["warm"])
        self._window = int(order["window"])
        self._publishers = [wire.publisher() for _ in range(self._window)]
        self._sent = 0
        crowd.hear(self._publishers)

    def close(self) -> None:
        self._crowd.hear([])
        for one in self._publishers:
            one.sock.close()

    def closed(self) -> dict[str, float]:
        return self._measured(self._keep_in_flight)

    def open(self, rate: float) -> dict[str, float]:
        due = time.monotonic_ns()

        def keep_rate() -> float:
            nonlocal due
            now = time.monotonic_ns()
            while due <= now and self._publish(due):
                due += int(1e9 / rate)
            return max((due - now) / 1e9, 0.0)

        return self._measured(keep_rate)

    def _keep_in_flight(self) -> float:
        size = len(self._crowd.socks)
        while (self._sent + 1 - self._window) * size <= self._crowd.count and self._publish(time.monotonic_ns()):
            pass
        return 0.1

    def _publish(self, stamp: int) -> bool:
        """False: everybody waits for an answer."""
        for one in self._publishers:
            if not one.busy:
                one.publish(stamp)
                self._sent += 1
                return True
        return False

    def _measured(self, keep: Callable[[], float]) -> dict[str, float]:
        crowd = self._crowd
        crowd.begin()
        self._sent = 0
        self._until(time.monotonic() + self._warm, keep)
        crowd.times, counted, took, began = [], crowd.count, processor_s(self._pids), time.monotonic()
        own = time.process_time()
        self._until(began + self._seconds, keep)
        seconds, took, counted = time.monotonic() - began, processor_s(self._pids) - took, crowd.count - counted
        own, times = time.process_time() - own, sorted(crowd.times)
        self._drain()
        if not times:
            raise SystemExit("nothing was delivered")
        return {
            "deliveries/s": counted / seconds,
            "CPU us": took * 1e6 / max(counted, 1),
            "p50 ms": times[len(times) // 2] / 1e6,
            "p99 ms": times[min(len(times) - 1, len(times) * 99 // 100)] / 1e6,
            "busy": took / seconds,
            "client": own / seconds,
        }

    def _until(self, end: float, keep: Callable[[], float]) -> None:
        last = time.monotonic()
        while (now := time.monotonic()) < end:
            if self._crowd.pump(min(keep(), max(end - now, 0.0))):
                last = now
            elif now - last > STALL_S:
                raise SystemExit("deliveries are missing")

    def _drain(self) -> None:
        """What was published comes to everybody."""
        wanted, last = self._sent * len(self._crowd.socks), time.monotonic()
        while self._crowd.count < wanted or any(one.busy for one in self._publishers):
            if self._crowd.pump(0.1):
                last = time.monotonic()
            elif time.monotonic() - last > STALL_S:
                raise SystemExit(f"{wanted - self._crowd.count} deliveries are missing")
        if self._crowd.count > wanted:
            raise SystemExit(f"{self._crowd.count - wanted} deliveries too many")


def settle(pids: list[int]) -> None:
    """Until the contender rests."""
    end = time.monotonic() + 20 * SETTLE_S
    while time.monotonic() < end:
        before = processor_s(pids)
        time.sleep(SETTLE_S)
        if processor_s(pids) - before < QUIET * SETTLE_S:
            return


def run_fan(order: dict[str, Any]) -> dict[str, Any]:
    wire, pids = WIRES[order["wire"]](order), order["pids"]
    crowd, found = Crowd(wire, order["port"]), dict[str, dict[str, Any]]()
    settle(pids)
    base, took = memory(pids), 0.0
    for size in sorted(order["sizes"]):
        began = time.monotonic()
        crowd.grow(size)
        took += time.monotonic() - began
        settle(pids)
        found[str(size)] = {"KB/connection": (memory(pids) - base) / size / 1e3}
    rate = len(crowd.socks) / took
    for size in sorted(order["sizes"], reverse=True):
        crowd.shrink(size)
        crowd.alive()
        settle(pids)
        load = Load(crowd, wire, order)
        found[str(size)]["closed"] = load.closed()
        crowd.alive()
        found[str(size)]["open"] = load.open(min(order["rate"], order["deliveries"] / size))
        load.close()
    crowd.shrink(0)
    return {"sizes": found, "connects/s": rate}


def run_dialog(order: dict[str, Any]) -> dict[str, Any]:
    """One subscriber; ends when the job does."""
    wire = WIRES[order["wire"]](order)
    sock = socket.create_connection(("127.0.0.1", order["port"]), timeout=PATIENCE_S)
    sock.sendall(wire.upgrade())
    had = _until(sock, b"\r\n\r\n", b"")
    for said, mark in wire.steps(0):
        sock.sendall(said)
        had = _until(sock, mark, had)
    say("ready")
    times, had = dict[bytes, float](), b""
    while b'complete\\"' not in had:
        got = sock.recv(65536)
        now = time.time_ns()
        if not got:
            raise SystemExit("the connection was closed")
        had += got
        end = 0
        for stamp in WALL.finditer(had):
            times.setdefault(stamp[1], (now - int(stamp[1])) / 1e6)  # the tool's result has them all once more
            end = stamp.end()
        had = had[end:]
    return {"ms": sorted(times.values())}


def say(answer: dict[str, Any] | str) -> None:
    print(json.dumps(answer), flush=True)


def main() -> None:
    order = json.loads(sys.stdin.readline())
    say({"fan": run_fan, "dialog": run_dialog}[order["mode"]](order))


if __name__ == "__main__":
    main()
