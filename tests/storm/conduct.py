"""The two runs: a storm of cuts while much is published, and a server that is started again under many subscribers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import resource
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

from tests.journeys.program import Program, installation
from tests.storm.figures import Figures, Return, longest
from tests.storm.publishers import Publisher, check
from tests.storm.swarm import Swarm

CHANNEL = "kept/storm"
SETTINGS = '[[namespaces]]\nname = "kept"\nhistory = 1000000\n'
BACK_S = 120.0
"""Patience for all to come back, or to become whole. What is late is told from what never comes."""
AFTER_S = 1.0
"""At the end, for what comes twice."""
PAGE = 1000
HOWS: dict[str, int] = {"kill -9": signal.SIGKILL, "SIGTERM": signal.SIGTERM}


@dataclass(frozen=True)
class Options:
    subscribers: int = 1000
    publishers: int = 10
    events: int = 20_000
    ends: tuple[str, ...] = ("kill -9", "SIGTERM", "kill -9", "kill -9")
    """How the server is ended, one after another while events are published."""
    cut_s: float = 20.0
    seed: int = 1
    fixed_s: float = 0.0
    say: Callable[[str], None] = lambda _: None


@contextlib.asynccontextmanager
async def _running(place: Path) -> AsyncIterator[Program]:
    settings = place / "pilothouse.toml"
    settings.write_text(SETTINGS)
    settings.chmod(0o600)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    async with installation(demo=False, PILOTHOUSE_CONFIG=str(settings)) as (made, _):
        made.port = made.url.rpartition(":")[2]
        yield made


async def storm(options: Options, place: Path) -> Figures:
    """Much is published, connections are cut all the time, and the server is ended now and then."""
    figures = Figures(options.seed, options.subscribers, options.publishers, options.say)
    began = time.monotonic()
    async with _running(place) as program:
        swarm = Swarm(program.url, program.key, CHANNEL, figures, options.cut_s, options.fixed_s)
        await _gather(swarm, options, figures)
        total, chance = options.events, random.Random(options.seed)
        publishers = [
            Publisher(who, CHANNEL, program.key, figures, random.Random(chance.random()))
            for who in range(options.publishers)
        ]
        share = [total // len(publishers) + (who < total % len(publishers)) for who in range(len(publishers))]
        sending = [asyncio.create_task(p.run(lambda: program.url, n)) for p, n in zip(publishers, share, strict=True)]
        for number, how in enumerate(options.ends, 1):
            due = total * number // (len(options.ends) + 1)
            while sum(p.acknowledged for p in publishers) < due:
                await asyncio.sleep(0.01)
            _measure(program, figures)
            await _again(program, swarm, figures, how, chance.random() / 2, all_back=False)
        await asyncio.gather(*sending)
        options.say(f"published after {time.monotonic() - began:.0f} s")
        await _whole(swarm, total, figures)
        await _compare(program, swarm, figures, {p.who: n for p, n in zip(publishers, share, strict=True)})
        figures.took = time.monotonic() - began
    return figures


async def restart(options: Options, place: Path) -> Figures:
    """Events go on while the server is ended, each way once, and all come back."""
    figures = Figures(options.seed, options.subscribers, 1, options.say)
    began = time.monotonic()
    async with _running(place) as program:
        swarm = Swarm(program.url, program.key, CHANNEL, figures, fixed_s=options.fixed_s)
        await _gather(swarm, options, figures)
        publisher = Publisher(0, CHANNEL, program.key, figures, random.Random(options.seed))
        sending = asyncio.create_task(publisher.run(lambda: program.url, 1_000_000, pause_s=0.2))
        for how in options.ends:
            await asyncio.sleep(1)
            _measure(program, figures)
            await _again(program, swarm, figures, how, 0.0, all_back=True)
        await asyncio.sleep(1)
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        log = await _log(program)
        await _whole(swarm, len(log), figures)
        await _compare(program, swarm, figures, None)
        figures.took = time.monotonic() - began
    return figures


async def _gather(swarm: Swarm, options: Options, figures: Figures) -> None:
    since = time.monotonic()
    swarm.begin(options.subscribers, options.seed)
    if not await swarm.until(lambda: swarm.came() == options.subscribers, BACK_S):
        figures.breach("late", f"{options.subscribers - swarm.came()} never came")
    figures.first_s = time.monotonic() - since
    figures.accept_s = longest(swarm.accepts)
    options.say(f"{options.subscribers} subscribed after {figures.first_s:.2f} s")


async def _again(program: Program, swarm: Swarm, figures: Figures, how: str, pause: float, *, all_back: bool) -> None:
    """Ends the server and starts it again."""
    one = Return(how)
    _settle(swarm, figures)
    at = time.monotonic()
    await program.kill(HOWS[how])
    one.stopped_s = time.monotonic() - at
    await asyncio.sleep(pause)
    swarm.since = asyncio.get_running_loop().time()
    await program.start()
    up = time.monotonic()
    one.down_s = up - at - one.stopped_s
    wanted = len(swarm.all) if all_back else len(swarm.all) * 9 // 10  # others are being cut all the time
    if not await swarm.until(lambda: swarm.back() >= wanted, BACK_S):
        figures.breach("late", f"{wanted - swarm.back()} did not come back")
    one.back_s = time.monotonic() - up
    one.accept_s, one.errors, one.closes = longest(swarm.accepts), Counter(swarm.errors), Counter(swarm.closes)
    _settle(swarm, figures)
    figures.returns.append(one)
    figures.say(f"{how}: away {one.stopped_s + one.down_s:.2f} s, back after {one.back_s:.2f} s more")


def _settle(swarm: Swarm, figures: Figures) -> None:
    """What was counted until now goes to the whole, and counting begins anew."""
    figures.errors += swarm.errors
    figures.closes += swarm.closes
    figures.accept_s = max(figures.accept_s, longest(swarm.accepts))
    swarm.errors.clear()
    swarm.closes.clear()
    swarm.accepts.clear()


async def _whole(swarm: Swarm, total: int, figures: Figures) -> None:
    if not await swarm.until(lambda: all(who.at >= total for who in swarm.all), BACK_S):
        behind = [who.at for who in swarm.all if who.at < total]
        figures.breach("late", f"{len(behind)} are behind, the last one at {min(behind)} of {total}")
    swarm.cut_s = 0.0
    await asyncio.sleep(AFTER_S)


async def _compare(program: Program, swarm: Swarm, figures: Figures, published: dict[int, int] | None) -> None:
    """What the subscribers have with the log, as it is told by HTTP."""
    log = await _log(program)
    heard = [_row(frame) for frame in swarm.frames]
    if heard != log:
        at = next((n for n, (a, b) in enumerate(zip(heard, log, strict=False)) if a != b), min(len(heard), len(log)))
        figures.breach("differs", f"subscribers have {len(heard)}, the log {len(log)}; they differ from {at + 1} on")
    check(figures, log, published or {0: len(log)})
    figures.events = len(log)
    _measure(program, figures)
    await swarm.end()
    _settle(swarm, figures)


def _row(frame: bytes) -> dict[str, object]:
    row = json.loads(frame)
    return {name: row[name] for name in ("event", "at", "seq")}


async def _log(program: Program) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    async with program.http() as http:
        while True:
            asked = {"channel": CHANNEL, "after": str(len(rows)), "limit": str(PAGE)}
            page = (await http.get("/event/history", params=asked)).json()
            rows += page["events"]
            if len(rows) >= page["head"] or not page["events"]:
                return rows


def _measure(program: Program, figures: Figures) -> None:
    """Of the server that is there now."""
    assert program.process is not None
    with contextlib.suppress(OSError, StopIteration):
        status = Path(f"/proc/{program.process.pid}/status").read_text().splitlines()
        peak = next(line for line in status if line.startswith("VmHWM"))
        figures.memory_mb = max(figures.memory_mb, int(peak.split()[1]) / 1024)
        words = Path(f"/proc/{program.process.pid}/stat").read_text().rpartition(")")[2].split()
        figures.processor_s += (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")
