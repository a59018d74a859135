"""Publishers that send again, under the same key, until they have an answer."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable
from dataclasses import dataclass

import aiohttp

from tests.storm.figures import Figures

BATCH = 5
"""Events of a request at most, as the protocol has it."""
TEXT = "x" * 120
AGAIN_S = 0.3


@dataclass
class Publisher:
    who: int
    channel: str
    key: str
    figures: Figures
    chance: random.Random
    acknowledged: int = 0

    async def run(self, url: Callable[[], str], count: int, pause_s: float = 0.0) -> None:
        async with aiohttp.ClientSession(headers={"x-api-key": self.key}) as http:
            while self.acknowledged < count:
                size = min(self.chance.randint(1, BATCH), count - self.acknowledged)
                await self._publish(http, url, size)
                self.acknowledged += size
                if pause_s:
                    await asyncio.sleep(pause_s)

    async def _publish(self, http: aiohttp.ClientSession, url: Callable[[], str], size: int) -> None:
        first = self.acknowledged
        text = TEXT[: self.chance.randrange(len(TEXT))]
        events = [json.dumps([self.who, first + n, text]) for n in range(size)]
        body = {"channel": self.channel, "events": events, "key": f"{self.who}-{first}"}
        while True:
            try:
                timeout = aiohttp.ClientTimeout(30)
                async with http.post(url() + "/event", json=body, timeout=timeout) as answer:
                    if answer.status == 200:
                        done = await answer.json()
                        if len(done["successful"]) != size:
                            self.figures.breach("log", f"not taken: {done}")
                        return
                    if answer.status < 500:
                        self.figures.breach("log", f"publish: {answer.status} {await answer.text()}")
                        return
            except (aiohttp.ClientError, OSError, TimeoutError):
                pass  # whether it was published nobody knows: that is what the key is for
            self.figures.repeats += 1
            await asyncio.sleep(AGAIN_S * self.chance.random())


def check(figures: Figures, log: list[dict[str, object]], published: dict[int, int]) -> None:
    """The log has exactly what was acknowledged, each once, each publisher's in its order."""
    if [row["seq"] for row in log] != list(range(1, len(log) + 1)):
        figures.breach("log", "its numbers are not 1, 2, 3 …")
    seen: dict[int, list[int]] = {who: [] for who in published}
    for row in log:
        who, number, _ = json.loads(str(row["event"]))
        seen[who].append(number)
    for who, count in published.items():
        if seen[who] != list(range(count)):
            wrong = next((at for at, n in enumerate(seen[who]) if at != n), len(seen[who]))
            figures.breach("log", f"publisher {who}: {len(seen[who])} of {count}, wrong from {wrong} on")
