"""Many subscribers of one channel with a history. Each comes back with its cursor, however often it is cut; what each
hears is compared, byte by byte, with what all others have heard under that number."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from tests.storm.figures import Figures
from tests.storm.wire import Connection

COME_S = 30.0
"""For a connection to be made and subscribed; then it is tried anew."""
STALL_S = 2.0
"""How long one that does not read for a while does not."""


def backoff(attempt: int, chance: float) -> float:
    """Seconds, as the page waits (`net/closing.ts`)."""
    span = min(15.0, 0.4 * 2.0 ** min(attempt, 10))
    assert isinstance(span, float)
    return span / 4 + chance * span * 0.75


@dataclass
class Swarm:
    url: str
    key: str
    channel: str
    figures: Figures
    cut_s: float = 0.0
    """The mean time after which a connection is cut; 0: never."""
    fixed_s: float = 0.0
    """Come back after this time, as Amplify does, instead of by chance."""
    frames: list[bytes] = field(default_factory=list)
    epoch: str | None = None
    all: list[Subscriber] = field(default_factory=list)
    since: float = 0.0
    """Connections that began before are of an earlier server."""
    accepts: list[float] = field(default_factory=list)
    """Seconds for the answer to an upgrade."""
    errors: Counter[str] = field(default_factory=Counter)
    closes: Counter[str] = field(default_factory=Counter)
    stopping: bool = False

    def begin(self, count: int, seed: int) -> None:
        """All at once."""
        self.all = [Subscriber(self, number, random.Random(f"{seed}.{number}")) for number in range(count)]

    def back(self) -> int:
        """How many are subscribed to the server of now."""
        return sum(who.subscribed_at > self.since for who in self.all)

    def came(self) -> int:
        """How many have been subscribed at any time."""
        return sum(who.came for who in self.all)

    async def until(self, done: Callable[[], bool], seconds: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not done():
                    await asyncio.sleep(0.02)
        return done()

    async def end(self) -> None:
        self.stopping = True
        for who in self.all:
            who.task.cancel()
            if who.connection is not None:
                who.connection.transport.abort()
        await asyncio.gather(*[who.task for who in self.all], return_exceptions=True)


class Subscriber:
    def __init__(self, swarm: Swarm, number: int, chance: random.Random) -> None:
        self.at = 0
        self.frames = swarm.frames
        self.subscribed_at = 0.0
        self.came = False
        self.connection: Connection | None = None
        self._had = 0
        self._swarm = swarm
        self._figures = swarm.figures
        self._name = f"subscriber {number}"
        self._chance = chance
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        swarm, figures, attempt = self._swarm, self._swarm.figures, 0
        loop = asyncio.get_running_loop()
        while not swarm.stopping:
            made: Connection | None = None
            try:
                async with asyncio.timeout(COME_S):
                    made = await self._come()
                figures.connections += 1
                self.subscribed_at, self.came, attempt = loop.time(), True, 0
                swarm.accepts.append(made.answered - made.connected)
                cutting = loop.call_later(self._chance.expovariate(1 / swarm.cut_s), self._cut) if swarm.cut_s else None
                try:
                    swarm.closes[await made.gone] += 1
                finally:
                    figures.delivered += self.at - self._had
                    if cutting is not None:
                        cutting.cancel()
            except (OSError, TimeoutError) as error:
                swarm.errors[_called(error)] += 1
                if made is None and self.connection is not None:
                    self.connection.transport.abort()
            self.connection, self.subscribed_at = None, 0.0
            chance = self._chance.random()
            await asyncio.sleep(swarm.fixed_s or backoff(attempt, chance))
            attempt += 1

    async def _come(self) -> Connection:
        swarm, where = self._swarm, urlsplit(self._swarm.url)
        assert where.hostname is not None
        assert where.port is not None
        made = Connection(self)
        await asyncio.get_running_loop().create_connection(lambda: made, where.hostname, where.port)
        self.connection, self._had = made, self.at
        made.open(where.netloc, swarm.key, swarm.channel, self.at, swarm.epoch)
        await made.live
        return made

    def _cut(self) -> None:
        """Ends it in one of the ways that connections end, or makes it slow."""
        made, figures = self.connection, self._figures
        if made is None or made.gone.done() or not self._swarm.cut_s:
            return
        kind = self._chance.choice(("reset", "left", "stalled", "half"))
        figures.cuts[kind] += 1
        if kind == "reset":
            made.transport.abort()
        elif kind == "left":
            made.transport.close()
        else:
            with contextlib.suppress(RuntimeError):
                made.transport.pause_reading()
            after = self._chance.random() * STALL_S
            asyncio.get_running_loop().call_later(after, self._on, made, kind == "half")

    def _on(self, made: Connection, abort: bool) -> None:
        if made.transport.is_closing():
            return
        if abort:
            made.transport.abort()
            return
        made.transport.resume_reading()
        if self._swarm.cut_s:
            asyncio.get_running_loop().call_later(self._chance.expovariate(1 / self._swarm.cut_s), self._cut)

    # --- what it hears ---

    def other(self, payload: bytes) -> None:
        said = json.loads(payload)
        kind = said["type"]
        if kind == "data":
            self._data(said["seq"], payload)
        elif kind == "subscribe_success":
            self._live(said)
        elif kind == "gap":
            self._figures.breach("gap", f"{self._name}: {said}")
        elif kind != "ka":
            made = self.connection
            if made is not None and not made.live.done():
                what = said["errors"][0]["errorType"] if said.get("errors") else kind
                made.live.set_exception(ConnectionError(what))
                made.transport.close()

    def _live(self, said: dict[str, object]) -> None:
        if said["gap"]:
            self._figures.breach("gap", f"{self._name} at {self.at}: {said}")
        self._swarm.epoch = str(said["epoch"])
        if self.connection is not None and not self.connection.live.done():
            self.connection.live.set_result(None)

    def _data(self, seq: int, payload: bytes) -> None:
        if seq == self.at + 1 == len(self.frames) + 1:
            self.frames.append(payload)
            self.at = seq
            return
        kind = "doubled" if seq <= self.at else "lost" if seq > self.at + 1 else "differs"
        self._figures.breach(kind, f"{self._name} has {self.at}, got {seq}: {payload[:80]!r}")
        self.at = max(self.at, seq)


def _called(error: Exception) -> str:
    """Without the address in it."""
    if isinstance(error, ConnectionError) and not error.errno:
        return str(error)
    return type(error).__name__
