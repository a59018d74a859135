"""An engine that posts to whoever the test says, and what came there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from pilothouse.adapters.outgoing.push import WebPush
from pilothouse.core import events as ev
from pilothouse.core import webhook
from pilothouse.core.access import ORGANISATION
from pilothouse.engine.deliveries import Answer, DeliveryRecord, Request
from pilothouse.engine.identity import Identity
from pilothouse.engine.outgoing import Outgoing, Outside
from pilothouse.engine.sessions import Session
from pilothouse.engine.webhooks import WebhookRecord
from tests.engine.conftest import Bench

URL = "https://hooks.example/in?token=hidden"


@dataclass
class Receiver:
    """Whoever is posted to."""

    got: list[Request] = field(default_factory=list)
    answer: Callable[[Request], Answer | Exception] = field(default=lambda request: Answer(204))
    slow: set[str] = field(default_factory=set)
    """Addresses that never answer."""
    came: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def post(self, request: Request) -> Answer:
        async with self.came:
            self.got.append(request)
            self.came.notify_all()
        if request.url in self.slow:
            await asyncio.Event().wait()
        answer = self.answer(request)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def until(self, count: int) -> list[Request]:
        async with self.came, asyncio.timeout(10):
            await self.came.wait_for(lambda: len(self.got) >= count)
        return self.got

    def said(self) -> list[tuple[str, str]]:
        """Type and id of all that came."""
        return [(msgspec.json.decode(r.body)["type"], r.headers["webhook-id"]) for r in self.got]


@dataclass
class House:
    bench: Bench
    outside: Receiver = field(default_factory=Receiver)
    outgoing: Outgoing = field(init=False)
    identity: Identity = field(init=False)

    async def start(self) -> None:
        bench = self.bench
        self.identity = Identity(bench.store, bench.clock, bench.sessions.kit.audit)
        await self.identity.load()
        outside = Outside(self.outside, WebPush(), bench.sealer, lambda: "https://pilothouse.example")
        self.outgoing = Outgoing.made(bench.sessions, self.identity, outside)
        self.outgoing.couriers._chance = lambda: 1.0
        await self.outgoing.start()

    async def webhook(self, **options: Any) -> tuple[WebhookRecord, str]:
        wish = {"name": "ci", "url": URL, "events": webhook.EVENTS, **options}
        return await self.outgoing.webhooks.create(ORGANISATION, **wish)

    async def finished(self, outcome: ev.Outcome = "succeeded", result: str = "done") -> Session:
        session = await self.bench.session(title="Fix it")
        job, runner = await self.bench.run(session)
        runner.end_turn(job.id, outcome, result)
        await self.bench.until(session, ev.Complete)
        return session

    async def state(self, target: str, state: str, count: int = 1) -> list[DeliveryRecord]:
        """All deliveries of a target, once so many have come to this state."""
        for _ in range(2000):
            found = await self.outgoing.couriers.deliveries.page(target, "", "", 100)
            if sum(record.state == state for record in found) >= count:
                return found
            await asyncio.sleep(0)
        raise AssertionError([record.state for record in found])

    async def restart(self) -> None:
        """`kill -9` and a new server."""
        await self.outgoing.close()
        await self.bench.restart()
        await self.start()
