from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pilothouse.adapters.stores.memory import MemoryStore
from pilothouse.core import events as ev
from pilothouse.core.storing import ArtifactSettings
from pilothouse.engine.artifacts import Artifacts
from pilothouse.engine.kit import Kit, Limits
from pilothouse.engine.log import Log
from pilothouse.engine.ports import Blobs
from pilothouse.engine.records import JobRecord
from pilothouse.engine.rules import Rules
from pilothouse.engine.secrets import Secrets
from pilothouse.engine.sessions import Session, Sessions
from tests.engine.fakes import FakeModels, FakeSandboxes, HandClock, PlainSealer, ScriptedRunner
from tests.engine.folders import keeping


@dataclass
class Bench:
    """An engine on fakes; `restart` is what `kill -9` of the server leaves behind."""

    limits: Limits = field(default_factory=Limits)
    store: MemoryStore = field(default_factory=MemoryStore)
    sandboxes: FakeSandboxes = field(default_factory=FakeSandboxes)
    models: FakeModels = field(default_factory=FakeModels)
    clock: HandClock = field(default_factory=HandClock)
    serial: int = 0
    sealer: PlainSealer = field(default_factory=PlainSealer)
    home: Path | None = None
    """Where artifacts are kept; None: they are not collected."""
    remote: Blobs | None = None
    settings: ArtifactSettings = field(default_factory=ArtifactSettings)
    artifacts: Artifacts | None = None
    secrets: Secrets = field(init=False)
    sessions: Sessions = field(init=False)

    async def start(self) -> None:
        self.serial += 1
        log = Log(self.store, self.clock)
        kit = Kit(self.store, log, self.sandboxes, self.models, self.clock, self.limits, serial=self.serial)
        rules = Rules(self.store, self.clock)
        self.secrets = Secrets(self.store, self.clock, kit.audit, self.sealer)
        if self.home is not None:
            self.artifacts = await keeping(self.home, kit, self.sealer, self.remote, self.settings)
            self.artifacts.start()
        self.sessions = Sessions(kit, rules, await self.sandboxes.probe(), self.secrets, self.artifacts)
        await self.sessions.start()

    async def restart(self) -> None:
        await self.close()
        await self.start()

    async def close(self) -> None:
        await self.sessions.close()
        if self.artifacts is not None:
            await self.artifacts.close()

    async def session(self, **options: str) -> Session:
        return await self.sessions.create(owner="local", agent="echo", **options)  # type: ignore[arg-type]

    async def run(self, session: Session, prompt: str = "do it", **options: object) -> tuple[JobRecord, ScriptedRunner]:
        """A job that the agent has begun to work on."""
        made = self.sessions.job(session, prompt, "tester", **options)  # type: ignore[arg-type]
        job = await session.jobs.submit(made, client_message_id=None)
        from pilothouse.core import link

        while session.live.record.id not in self.sandboxes.runners:
            import asyncio

            await asyncio.sleep(0)
        runner = self.sandboxes.runners[session.live.record.id]
        while not any(c.id == job.id for c in runner.commands):
            await runner.command(link.Prompt, sum(isinstance(c, link.Prompt) for c in runner.commands) + 1)
        runner.say(link.TurnStarted(turn_id=job.id))
        return job, runner

    async def events(self, session: Session) -> list[ev.LogEvent]:
        page = await self.store.read(session.live.record.id, 0, 10_000)
        return [ev.decode(row.body) for row in page.rows]

    async def until(self, session: Session, kind: type[ev.Event], count: int = 1) -> list[ev.LogEvent]:
        """The log up to the `count`-th event of a kind, once it is there."""
        seen: list[ev.LogEvent] = []
        async for row in self.sessions.kit.log.follow(session.live.record.id):
            seen.append(ev.decode(row.body))  # type: ignore[union-attr]
            if sum(isinstance(e, kind) for e in seen) == count:
                return seen
        raise AssertionError("the log ended")


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    await made.start()
    yield made
    await made.close()
