"""Calls of programs: how many `/trigger` takes, and what a job costs in time over the agent's own command line.

    python bench/headless.py [--rounds 9] [--loads 3] [--clients 100] [--quick] [--json]

accepted       100 clients, each on a connection of its own, call `/trigger` for the echo agent at the same moment; how
               many a second are accepted and how long an answer takes. "there": in 20 sessions that run, four calls of
               each client one after another. "new": one call of each client, in a session of its own that is made for
               it: sandboxes open meanwhile, on the same processors.
first text     from the call to the first text of the answer. Claude Code by hand (its process told a prompt on standard
               input) and `/invoke` as a stream, in turns, both with the same demo model, which answers at once. Warm:
               the process, or the session, has answered before. Cold: the process is started; the session is made, of a
               sandbox with a runner that is kept ready, and Claude Code is started in it. What we add is the
               median over the pairs of ours less the other one.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from call.client import Client
from call.contenders import Direct, Pilothouse, demo_model
from terminal.contenders import Missing

CLIENTS_A_SESSION, EACH = 5, 4
"""Calls of one client into a session: five of them fill its queue of 20, and no call is refused."""
REST_S = 0.5
"""After a job, before the next: what it leaves to do is done."""
SPARE_S = 4.0
"""The next sandbox is made two seconds after one was taken, in one more."""
WARM_MS, COLD_MS = 60.0, 250.0
"""Added to the first text at most: the design's figures."""
PROMPT = "demo: say hello from the model"
Figures = dict[str, list[float]]


def quantile(values: list[float], part: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * part))]


def idle(who: Pilothouse, seconds: float = 60.0) -> None:
    """Until no job is under way."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        items: list[dict[str, Any]] = who.ask("GET", "/api/sessions?limit=200")["items"]
        if not any(item["running"] for item in items):
            return
        time.sleep(0.1)
    raise RuntimeError("jobs do not end")


async def accepted(who: Pilothouse, given: argparse.Namespace, figures: Figures) -> None:
    client = Client(who.port, who.key)
    sessions = -(-given.clients // CLIENTS_A_SESSION)
    made = [str(who.ask("POST", "/api/sessions", {"agent": "echo"})["id"]) for _ in range(sessions)]
    there = [{"prompt": "say x", "session_id": session} for session in made]
    await client.triggered(sessions, 1, lambda n: there[n])  # their runners start
    await asyncio.to_thread(idle, who)
    for _ in range(given.loads):
        rate, times = await client.triggered(given.clients, EACH, lambda n: there[n % sessions])
        figures["there accepted/s"].append(rate)
        figures["there ms"] += [t * 1000 for t in times]
        await asyncio.to_thread(idle, who)
    rate, times = await client.triggered(given.clients, 1, lambda n: {"prompt": "say x", "agent": "echo"})
    figures["new accepted/s"].append(rate)
    figures["new ms"] += [t * 1000 for t in times]
    await asyncio.to_thread(idle, who, 300.0)


async def first(who: Pilothouse, direct: Direct, rounds: int, figures: Figures) -> None:
    client = Client(who.port, who.key)
    for number in range(rounds + 1):  # the first for the caches of the disk
        for order in ("ours", "by hand") if number % 2 else ("by hand", "ours"):
            await asyncio.sleep(SPARE_S)
            if order == "ours":
                cold, session = await client.first({"prompt": PROMPT})
                await asyncio.sleep(REST_S)
                warm, _ = await client.first({"prompt": PROMPT, "session_id": session})
                who.ask("POST", f"/api/sessions/{session}/stop")
            else:
                cold = await asyncio.to_thread(direct.first, PROMPT)
                await asyncio.sleep(REST_S)
                warm = await asyncio.to_thread(direct.first, PROMPT)
                direct.end()
            if number:
                figures[f"{order} cold ms"].append(cold * 1000)
                figures[f"{order} warm ms"].append(warm * 1000)


async def measure(given: argparse.Namespace) -> Figures:
    figures: Figures = defaultdict(list)
    with demo_model() as model, tempfile.TemporaryDirectory(prefix="ph-hand-") as name:
        for part in ("first", "accepted"):
            who = Pilothouse(model)
            who.start()
            try:
                if part == "accepted":
                    await accepted(who, given, figures)
                else:
                    await first(who, Direct(model, Path(name)), given.rounds, figures)
            finally:
                who.stop()
    return figures


def added(figures: Figures, kind: str) -> float:
    """Milliseconds, of pairs."""
    pairs = zip(figures[f"ours {kind} ms"], figures[f"by hand {kind} ms"], strict=True)
    return statistics.median(ours - hand for ours, hand in pairs)


def shown(figures: Figures) -> None:
    for kind in ("there", "new"):
        times = figures[f"{kind} ms"]
        rate = statistics.median(figures[f"{kind} accepted/s"])
        spread = f"p50 {quantile(times, 0.5):.0f} ms, p99 {quantile(times, 0.99):.0f} ms"
        print(f"/trigger, sessions {kind:6}  {rate:7.0f} accepted a second, {spread} ({len(times)} calls)")
    for kind, most in (("warm", WARM_MS), ("cold", COLD_MS)):
        ours, hand = (statistics.median(figures[f"{who} {kind} ms"]) for who in ("ours", "by hand"))
        print(f"first text, {kind}  /invoke {ours:.0f} ms, by hand {hand:.0f} ms (medians)")
        value = added(figures, kind)
        met = "ok    " if value <= most else "MISSED"
        print(f"{met}  added to the first text, {kind}: {value:.0f} ms (at most {most:g})")


def main() -> None:
    parser = argparse.ArgumentParser(description="What calls of programs cost.")
    parser.add_argument("--rounds", type=int, default=9, help="pairs, warm and cold")
    parser.add_argument("--loads", type=int, default=3)
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--quick", action="store_true", help="a few of each")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    if given.quick:
        given.rounds, given.loads, given.clients = 2, 1, min(given.clients, 20)
    try:
        figures = asyncio.run(measure(given))
    except Missing as error:
        print(f"missing: {error}")
        return
    if given.json:
        print(json.dumps(figures))
    else:
        shown(figures)


if __name__ == "__main__":
    main()
