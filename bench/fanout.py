"""Fan-out: what it costs to give an event to many subscribers, against servers that do nothing else.

    python bench/fanout.py [--rounds 2] [--seconds 1.2] [--sizes 1,100,1000,5000] [--only NAME] [--quick] [--json]

pilothouse     the real server, in AppSync's protocol, published by HTTP with a key; a channel without a history
with history   the same, every event committed to the store before anybody gets it
nats           nats-server's WebSocket; published by its own protocol, without an answer
ws             node and ws, a loop over all clients for a POST
socket.io      node and socket.io, a room
starlette      Starlette on uvicorn, a queue and a task for each socket: what one writes by hand

In each round every contender in turn: connections in steps up to the most, with their memory; then for each number of
subscribers, the most first, a closed load (four events in flight, from four publishers) and an open one (40 events a
second; at more than 1,000 subscribers fewer, for at most 40,000 deliveries). Each server has one processor and the
client the other one, where there are two: a server with threads gains nothing by them. Processor time is the kernel's
for the server's process; ratios are medians over the rounds of ours divided by theirs in the same round.

The client is one Python thread for all (`fan/client.py`), some 3 us for each read of a socket. Where it has no time
left (`--json` says how much it took) a server rests in a closed load, finds less to put together, and takes more for
each delivery than it would behind a faster client: nats-server and we, who put events together, look worse than we are.

At the end the way from an agent to a browser: the echo agent runs a program in its sandbox that prints the time, and a
subscriber of `/dialog/JOB` looks at the clock when it comes.
"""

from __future__ import annotations

import argparse
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

from fan.contenders import EVERY, Contender, Kept, Nats, Pilothouse, Ws, on, processors
from terminal.contenders import Missing

HERE = Path(__file__).parent
WARM_S = 0.4
"""Of a load before it counts."""
WINDOW = 4
RATE = 40.0
DELIVERIES = 40_000.0
"""A second, at most, in an open load: what one processor carries of what cannot be put together."""
TOKENS = 150
GAP_S = 0.02
DESIGN = 1000
"""Subscribers that the design's figures are for."""
Figures = dict[str, float]


@dataclass(frozen=True)
class Wish:
    """What we want of a line: ours divided by a peer's."""

    line: str
    ours: str
    peer: str
    most: float


WISHES = (
    Wish(f"{DESIGN} closed CPU us", Pilothouse.name, Nats.name, 0.4),
    Wish(f"{DESIGN} closed CPU us", Pilothouse.name, Ws.name, 0.15),
    Wish(f"{DESIGN} closed CPU us", Kept.name, Nats.name, 0.5),
    Wish(f"{DESIGN} open p99 ms", Pilothouse.name, Nats.name, 0.6),
)
IDLE, IDLE_KB = 5000, 20.0
"""So many idle connections, at most so much each."""
MORE = ("deliveries/s", "connects/s")
"""Lines where more is better."""
NOT_COMPARED = ("open deliveries/s",)


def asked(order: dict[str, Any]) -> Iterator[Any]:
    """What the client says, line by line."""
    with on(processors()[1]):
        argv = [sys.executable, "-m", "fan.client"]
        client = subprocess.Popen(argv, cwd=HERE, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert client.stdin is not None
        assert client.stdout is not None
        client.stdin.write(json.dumps(order).encode() + b"\n")
        client.stdin.flush()
        for line in client.stdout:
            yield json.loads(line)
        if client.wait():
            raise RuntimeError("the load client failed")
    finally:
        client.kill()
        client.wait()


def measured(who: Contender, given: argparse.Namespace) -> Figures:
    who.start()
    try:
        order = {"mode": "fan", "sizes": given.sizes, "seconds": given.seconds, "warm": WARM_S, "window": WINDOW}
        (found,) = asked(who.order() | order | {"rate": RATE, "deliveries": DELIVERIES})
        figures = {"connects/s": found["connects/s"]}
        for size, of in found["sizes"].items():
            figures[f"{size} KB/connection"] = of["KB/connection"]
            for load in ("closed", "open"):
                figures |= {f"{size} {load} {name}": value for name, value in of[load].items()}
        return figures | (through(who, given.tokens) if type(who) is Pilothouse else {})
    finally:
        who.stop()


def through(who: Pilothouse, tokens: int) -> Figures:
    """From an agent to a subscriber."""
    loop = f"i=0; while [ $i -lt {tokens} ]; do date '+@T=%s%N;'; sleep {GAP_S}; i=$((i+1)); done"
    job = who.job(f'sleep 1\nrun sh -c "{loop}"')
    client = asked(who.order() | {"mode": "dialog", "channel": f"/dialog/{job}"})
    _, found = client
    times = found["ms"]
    return {"token p50 ms": times[len(times) // 2], "token p99 ms": times[min(len(times) - 1, len(times) * 99 // 100)]}


def lines(sizes: list[int]) -> Iterator[str]:
    yield "connects/s"
    for size in sizes:
        if size >= DESIGN:  # of fewer it is the noise of a process that has just begun
            yield f"{size} KB/connection"
    for size in sizes:
        for load in ("closed", "open"):
            yield from (f"{size} {load} {name}" for name in ("deliveries/s", "CPU us", "p50 ms", "p99 ms"))


def ratio(line: str, ours: list[Figures], theirs: list[Figures]) -> float:
    """Ours divided by theirs, the median of the rounds."""
    return statistics.median(a[line] / max(b[line], 1e-9) for a, b in zip(ours, theirs, strict=True))


def peers(rounds: dict[str, list[Figures]]) -> list[str]:
    return [name for name in rounds if name not in {Pilothouse.name, Kept.name}]


def table(rounds: dict[str, list[Figures]], sizes: list[int]) -> None:
    ours = rounds[Pilothouse.name]
    print(f"{'':26}" + "".join(f"{n:>13}" for n in rounds) + "".join(f"{'/ ' + n:>12}" for n in peers(rounds)))
    for line in lines(sizes):
        medians = [statistics.median(each[line] for each in found) for found in rounds.values()]
        row = f"{line:26}" + "".join(f"{value:13,.{0 if value >= 1000 else 2}f}" for value in medians)
        if not line.endswith(NOT_COMPARED):
            row += "".join(f"{ratio(line, ours, rounds[name]):12.2f}" for name in peers(rounds))
        print(row)
    for name in ("token p50 ms", "token p99 ms"):
        print(f"{name:26}{statistics.median(each[name] for each in ours):13.2f}")


def verdict(rounds: dict[str, list[Figures]], sizes: list[int]) -> None:
    """What was met: level with everybody on every line, and the design's figures."""
    level = missed = 0
    for line in lines(sizes):
        for name in () if line.endswith(NOT_COMPARED) else peers(rounds):
            value = ratio(line, rounds[Pilothouse.name], rounds[name])
            if value >= 1 if line.endswith(MORE) else value <= 1:
                level += 1
            else:
                missed += 1
                print(f"MISSED  level with {name} in {line}: {value:.2f}")
    print(f"{'MISSED' if missed else 'ok    '}  level on {level} of {level + missed} lines")
    for wish in WISHES:
        if {wish.ours, wish.peer} <= set(rounds) and DESIGN in sizes:
            found = ratio(wish.line, rounds[wish.ours], rounds[wish.peer])
            said(f"{wish.ours} / {wish.peer}, {wish.line}", found, wish.most)
    if IDLE in sizes:
        line = f"{IDLE} KB/connection"
        said(f"pilothouse, {line}", statistics.median(each[line] for each in rounds[Pilothouse.name]), IDLE_KB)


def said(what: str, value: float, most: float) -> None:
    print(f"{'ok    ' if value <= most else 'MISSED'}  {what}: {value:.2f} (at most {most:g})")


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


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="What fan-out costs.")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=1.2, help="of each load")
    parser.add_argument("--sizes", type=lambda text: [int(n) for n in text.split(",")], default=[1, 100, 1000, 5000])
    parser.add_argument("--tokens", type=int, default=TOKENS, help="of an agent, on their way to a browser")
    parser.add_argument("--only", help="one contender by name")
    parser.add_argument("--quick", action="store_true", help="one short round, up to 1,000 subscribers")
    parser.add_argument("--json", action="store_true", help="every round's figures, and nothing else")
    given = parser.parse_args()
    if given.quick:
        given.rounds, given.seconds, given.sizes, given.tokens = 1, 0.8, [1, 100, 1000], 50
    return given


def main() -> None:
    given = arguments()
    began, contenders = time.monotonic(), ready(given.only)
    rounds: dict[str, list[Figures]] = defaultdict(list)
    for number in range(given.rounds):
        for who in contenders[number % len(contenders) :] + contenders[: number % len(contenders)]:
            rounds[who.name].append(measured(who, given))
    if given.json or Pilothouse.name not in rounds:
        print(json.dumps(rounds, indent=1))
        return
    took = time.monotonic() - began
    print(
        f"{given.rounds} rounds, {took:.0f} s, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors; ", end=""
    )
    print("medians, and pilothouse divided by the others\n")
    found = {who.name: rounds[who.name] for who in contenders}
    table(found, sorted(given.sizes))
    print()
    verdict(found, sorted(given.sizes))


if __name__ == "__main__":
    main()
