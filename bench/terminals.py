"""Terminals: what a byte of output, a keystroke and an idle shell cost, against programs that do nothing else.

    python bench/terminals.py [--rounds 3] [--floods 50] [--megabytes 64] [--seconds 4] [--only NAME] [--quick] [--json]

pilothouse   the real server: login, a sandbox for each session, shells in holders that outlive the server
node-pty     node-pty and ws, bytes as they come, no login, no sandbox: what most web terminals are made of
terminado    terminado on tornado, what Jupyter's terminals are made of; likewise

In each round every contender in turn: memory for each of the idle shells; keys while all of those run `yes`. Then, as
they all are there and have worked, of one after the other, several times round: `cat` of a file, and keys into a quiet
terminal. Half of such an echo is the machine waking up, which it does now faster and now slower. Processor time is the
kernel's, of all of a contender's processes but the shells and what runs in them. Memory is PSS of the same: for one
shell more where there are some, without what is a file's, and, in a line of its own, all of it with what a session
costs once, however many shells are in it. Ratios are medians over the rounds of ours divided by theirs in the same
round: on a busy machine read those.

While somebody types we hold back the floods of others (`engine/turns.py`), which the line `flood MB/s` shows.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from terminal.contenders import EVERY, SHELLS_A_SESSION, Contender, Missing, Pilothouse, memory

CLIENT = Path(__file__).parent / "terminal" / "client.py"
WARM_S = 0.7
"""Of a flood before it counts."""
IDLE_S = 0.7
"""From the last prompt until memory is read."""
CATS = 3
"""Times that each shows its file in a round."""
TYPINGS = 5
"""Times that each is typed into in a round."""
PEER = "node-pty"
Figures = dict[str, float]


@dataclass(frozen=True)
class Line:
    """One line of the table, and what we want of it: ours divided by node-pty's, or ours alone."""

    name: str
    digits: int
    more_is_better: bool = False
    ratio: float | None = None
    own: float | None = None
    compared: bool = True


LINES = (
    Line("cat MB/s", 1, more_is_better=True, ratio=1.0),
    Line("cat CPU ms/MB", 2, ratio=0.5),
    Line("cat bytes/frame", 0, compared=False),
    Line("echo p50 ms", 3, ratio=0.6),
    Line("echo p99 ms", 3, ratio=1.0),
    Line("flooded echo p50 ms", 3, ratio=0.15),
    Line("flooded echo p99 ms", 3, ratio=1.0),
    Line("flood MB/s", 1, more_is_better=True, compared=False),
    Line("flood CPU ms/MB", 2, compared=False),
    Line("KB/idle shell", 1, ratio=1.0),
    Line("MB/idle shell with its session", 3, own=2.5, compared=False),
)


class Client:
    """The load client, running."""

    def __init__(self, who: Contender, mode: str, paths: list[str], **more: object) -> None:
        order = {"wire": who.wire, "port": who.port, "headers": who.headers, "paths": paths, "mode": mode}
        self._process = subprocess.Popen([sys.executable, str(CLIENT)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.tell(json.dumps(order | {"pids": who.pids()} | more))

    def tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()

    def answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the load client failed")
        return json.loads(line)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


@contextlib.contextmanager
def client(who: Contender, mode: str, paths: list[str], **more: object) -> Iterator[Client]:
    made = Client(who, mode, paths, **more)
    try:
        yield made
    finally:
        made.close()


def quantile(values: list[float], part: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * part))]


def typed(who: Contender, seconds: float, at: int = 0) -> list[float]:
    """Of every key the milliseconds until its echo."""
    with client(who, "echo", who.paths(1, at), seconds=seconds) as typist:
        times: list[float] = typist.answer()["ms"]
    return times


def echoes(name: str, times: list[float]) -> Figures:
    return {f"{name} p50 ms": quantile(times, 0.5), f"{name} p99 ms": quantile(times, 0.99)}


def flooded(who: Contender, floods: int, seconds: float) -> Figures:
    """Idle shells first, then they flood, and somebody types in one more, in a session of its own."""
    sessions, bare = -(-floods // SHELLS_A_SESSION), memory(who.pids())
    with client(who, "flood", who.paths(sessions, among=sessions), warm=WARM_S) as flood:
        flood.answer()
        time.sleep(IDLE_S)
        first = memory(who.pids(), files=False)
        flood.tell(json.dumps(who.paths(floods - sessions, among=sessions)))
        flood.answer()
        time.sleep(IDLE_S)
        pids = who.pids()
        full, alone = memory(pids), memory(pids, files=False)
        figures = {"KB/idle shell": (alone - first) / max(1, floods - sessions) / 1e3}
        figures["MB/idle shell with its session"] = (full - bare) / floods / 1e6
        flood.tell("go")
        flood.answer()
        figures |= echoes("flooded echo", typed(who, seconds, at=sessions))
        flood.tell("stop")
        found = flood.answer()
    return figures | {"flood MB/s": found["mb_s"], "flood CPU ms/MB": found["ms_mb"]}


def shown(who: Contender, given: argparse.Namespace) -> Figures:
    """`cat` of a file."""
    with client(who, "cat", who.paths(1), bytes=given.megabytes * 1_000_000) as cat:
        found = cat.answer()
    who.done()
    return {"cat MB/s": found["mb_s"], "cat CPU ms/MB": found["ms_mb"], "cat bytes/frame": found["frame"]}


def measured(contenders: list[Contender], given: argparse.Namespace) -> list[Figures]:
    """One round: all are started anew, so that every round finds the same memory."""
    found, times = list[Figures](), [list[float]() for _ in contenders]
    files = [list[Figures]() for _ in contenders]
    with contextlib.ExitStack() as started:
        for who in contenders:
            started.callback(who.stop)
            who.start()
            found.append(flooded(who, given.floods, given.seconds))
            who.done()
        for _ in range(CATS):
            for who, those in zip(contenders, files, strict=True):
                those.append(shown(who, given))
        for _ in range(TYPINGS):
            for who, keys in zip(contenders, times, strict=True):
                keys += typed(who, given.seconds / 2)
                who.done()
    medians = [{name: statistics.median(one[name] for one in those) for name in those[0]} for those in files]
    every = zip(found, medians, times, strict=True)
    return [figures | file | echoes("echo", keys) for figures, file, keys in every]


def table(rounds: dict[str, list[Figures]]) -> None:
    ours = rounds[Pilothouse.name]
    peers = [name for name in rounds if name != Pilothouse.name]
    print(f"{'':32}" + "".join(f"{name:>12}" for name in rounds) + "".join(f"{'/ ' + name:>14}" for name in peers))
    for line in LINES:
        medians = [statistics.median(r[line.name] for r in found) for found in rounds.values()]
        row = f"{line.name:32}" + "".join(f"{value:12.{line.digits}f}" for value in medians)
        if line.compared:
            row += "".join(f"{ratio(line, ours, rounds[name]):14.2f}" for name in peers)
        print(row)
    print()
    for line in LINES:
        if line.own is not None:
            wish(line.name, statistics.median(r[line.name] for r in ours), line.own, more=line.more_is_better)
        elif line.ratio is not None:
            for name in peers:
                goal = line.ratio if name == PEER else 1.0
                wish(f"{line.name} / {name}", ratio(line, ours, rounds[name]), goal, more=line.more_is_better)


def ratio(line: Line, ours: list[Figures], theirs: list[Figures]) -> float:
    """Ours divided by theirs, the median of the rounds."""
    return statistics.median(a[line.name] / max(b[line.name], 1e-9) for a, b in zip(ours, theirs, strict=True))


def wish(what: str, value: float, goal: float, *, more: bool) -> None:
    met = value >= goal if more else value <= goal
    print(f"{'ok    ' if met else 'MISSED'}  {what}: {value:.2f} ({'at least' if more else 'at most'} {goal:g})")


def ready(only: str | None) -> list[Contender]:
    """Those that can be had here."""
    found: list[Contender] = []
    for make in EVERY:
        who = make()
        if only is not None and who.name != only:
            continue
        try:
            who.prepare()
        except Missing as why:
            print(f"skipped: {who.name}: {why}", file=sys.stderr)
        else:
            found.append(who)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="What terminals cost.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--floods", type=int, default=50, help="shells that flood while somebody types")
    parser.add_argument("--megabytes", type=int, default=64, help="of the file that is shown")
    parser.add_argument("--seconds", type=float, default=4.0, help=f"of typing; idle, {TYPINGS} times half of it")
    parser.add_argument("--only", help="one contender by name")
    parser.add_argument("--quick", action="store_true", help="one short round")
    parser.add_argument("--json", action="store_true", help="every round's figures, and nothing else")
    given = parser.parse_args()
    if given.quick:
        given.rounds, given.seconds, given.megabytes = 1, 2.0, 32
    began, contenders = time.monotonic(), ready(given.only)
    rounds: dict[str, list[Figures]] = defaultdict(list)
    for number in range(given.rounds):
        at = number % max(1, len(contenders))
        order = contenders[at:] + contenders[:at]
        for who, figures in zip(order, measured(order, given), strict=True):
            rounds[who.name].append(figures)
    if given.json or Pilothouse.name not in rounds:
        print(json.dumps(rounds, indent=1))
        return
    took = time.monotonic() - began
    print(f"{given.rounds} rounds, {given.floods} floods, {given.megabytes} MB, {took:.0f} s, ", end="")
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors; medians, and ours divided by theirs\n")
    table({who.name: rounds[who.name] for who in contenders})


if __name__ == "__main__":
    main()
