"""A runner in memory, told by the test what to say, and the ports around it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Mapping, Sequence

import msgspec

from pilothouse.core import events as ev
from pilothouse.core import limits, link
from pilothouse.core.access import SCOPES, Principal
from pilothouse.core.contacts import Contact
from pilothouse.core.errors import Unavailable
from pilothouse.core.ids import JobId, SessionId
from pilothouse.core.limits import Caps, State
from pilothouse.core.reach import Asking, Reach
from pilothouse.engine.ports import (
    Budget,
    LimitHit,
    ModelState,
    Probe,
    SandboxSpec,
    SandboxState,
    SealBroken,
    UsageRecord,
    Wire,
    Workspace,
)
from pilothouse.engine.shells import Shells

_names = itertools.count(1)


LOCAL = Principal("person", "local", "local", "local", frozenset(SCOPES), "signin:test")
"""Whoever has this machine."""


class MemoryWire:
    """One connection between a link and a `ScriptedRunner`."""

    def __init__(self, runner: ScriptedRunner) -> None:
        self.runner = runner
        self.to_server: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.assembler = link.Assembler()
        self.open = True

    async def send(self, message: bytes) -> None:
        if not self.open:
            raise ConnectionResetError
        whole = self.assembler.feed(message)
        assert not isinstance(whole, link.Broken), whole
        if whole is not None:
            parsed = link.parse_server(whole)
            assert not isinstance(parsed, link.Broken), parsed
            self.runner.hear(self, parsed)

    async def receive(self) -> bytes | None:
        return await self.to_server.get()

    async def close(self) -> None:
        self.cut()

    def cut(self) -> None:
        if self.open:
            self.open = False
            self.to_server.put_nowait(None)


class ScriptedRunner:
    """The runner's end of the link: keeps events until acknowledged, knows commands by id, repeats open asks."""

    def __init__(self, agent: str = "echo") -> None:
        self.id = f"runner-{next(_names)}"
        self.agent = agent
        self.n = 0
        self.kept: list[tuple[int, bytes]] = []
        self.asks: dict[str, tuple[int, bytes]] = {}
        self.commands: list[link.Command] = []
        self.repeats = 0
        self.acked = 0
        self.fences: list[int] = []
        self.env: dict[str, str] = {}
        """What the server handed down last."""
        self.wire: MemoryWire | None = None
        self.heard = asyncio.Condition()
        self.deaf = False
        """Commands are not answered."""
        self.forgets_acks = False
        """Everything is sent again after every attach, whatever the server says it has."""
        self._waiting: list[asyncio.Event] = []

    def connect(self) -> MemoryWire:
        wire = MemoryWire(self)
        first = self.kept[0][0] if self.kept else self.n + 1
        hello = link.Hello(
            proto=1, runner_id=self.id, agent=self.agent, agent_version="1.2.3", first=first, last=self.n
        )
        wire.to_server.put_nowait(msgspec.json.encode(link.FromRunner(hello=hello)))
        return wire

    def hear(self, wire: MemoryWire, message: link.FromServer) -> None:
        if message.attach is not None:
            self.fences.append(message.attach.fence)
            self.env = message.attach.env
            if self.wire is not None and self.wire is not wire:
                self.wire.cut()
            self.wire = wire
            self._ack(message.attach.acked)
            again = {n for n, _ in self.kept}
            for n, raw in [*[a for a in self.asks.values() if a[0] not in again], *self.kept]:
                self._send(n, raw)
        if message.ack is not None:
            self._ack(message.ack)
        if message.cmd is not None and not self.deaf:
            if message.cmd.id in {c.id for c in self.commands}:
                self.repeats += 1
            else:
                self.commands.append(message.cmd)
                if isinstance(message.cmd, link.PermissionAnswer | link.QuestionAnswer):
                    self.asks.pop(message.cmd.request_id, None)
            wire.to_server.put_nowait(msgspec.json.encode(link.FromRunner(done=message.cmd.id)))
        for waiting in self._waiting:
            waiting.set()

    def _ack(self, n: int) -> None:
        self.acked = max(self.acked, n)
        if self.forgets_acks:
            return
        self.kept = [k for k in self.kept if k[0] > n]

    def _send(self, n: int, raw: bytes) -> None:
        if self.wire is not None and self.wire.open:
            for frame in link.split(raw, f"f{n}"):
                self.wire.to_server.put_nowait(frame)

    def say(self, *happened: ev.Event) -> None:
        for event in happened:
            self.n += 1
            raw = link.encode_event(self.n, event)
            self.kept.append((self.n, raw))
            if isinstance(event, link.PermissionAsk | link.QuestionAsk):
                self.asks[event.request_id] = (self.n, raw)
            self._send(self.n, raw)

    def say_raw(self, raw: bytes) -> None:
        self.n += 1
        message = b'{"n":%d,"ev":%b}' % (self.n, raw)
        self.kept.append((self.n, message))
        self._send(self.n, message)

    async def command(self, kind: type[link.Command], count: int = 1) -> link.Command:
        """The `count`-th command of a kind, once it is there."""
        while True:
            found = [c for c in self.commands if isinstance(c, kind)]
            if len(found) >= count:
                return found[count - 1]
            waiting = asyncio.Event()
            self._waiting.append(waiting)
            await waiting.wait()
            self._waiting.remove(waiting)

    def end_turn(self, turn: str, outcome: ev.Outcome = "succeeded", result: str = "done") -> None:
        self.say(link.TurnEnded(turn_id=turn, outcome=outcome, result=result, num_turns=1, duration_ms=5))


class FakeSandboxes:
    """Sandboxes that isolate nothing and run nothing but `ScriptedRunner`s."""

    def __init__(self) -> None:
        self.runners: dict[SessionId, ScriptedRunner] = {}
        self.dead: dict[SessionId, str] = {}
        self.started: list[SessionId] = []
        self.deleted: list[SessionId] = []
        self.refuse: Exception | None = None
        self.specs: dict[SessionId, SandboxSpec] = {}
        self.shells: Shells | None = None
        self.hit: asyncio.Queue[LimitHit] = asyncio.Queue()

    async def probe(self) -> Probe:
        return Probe("none", True, "A fake.")

    def check(self, source: ev.Source) -> ev.Source:
        return source

    async def open(self, spec: SandboxSpec) -> SandboxState:
        if self.refuse is not None:
            raise self.refuse
        self.specs[spec.session] = spec
        self.dead.pop(spec.session, None)
        return await self.state(spec.session)

    async def runner(self, session: SessionId) -> SandboxState:
        if session not in self.runners:
            self.runners[session] = ScriptedRunner()
            self.started.append(session)
        return await self.state(session)

    async def connect(self, session: SessionId) -> Wire:
        if session not in self.runners:
            raise Unavailable("no runner")
        return self.runners[session].connect()

    async def list(self) -> list[SandboxState]:
        return [await self.state(s) for s in self.runners]

    async def state(self, session: SessionId) -> SandboxState:
        alive = session not in self.dead
        held = len(await self.shells.find(session)) if self.shells is not None and alive else 0
        return SandboxState(
            session,
            alive,
            alive and session in self.runners,
            len(self.started),
            self.dead.get(session, ""),
            shells=held,
        )

    def files(self, session: SessionId) -> Workspace:
        raise NotImplementedError

    async def limits(self, session: SessionId, asked: Mapping[str, float]) -> Sequence[State]:
        return limits.planned(Caps().changed(asked), {})

    async def hits(self) -> AsyncIterator[LimitHit]:
        while True:
            yield await self.hit.get()

    async def stop(self, session: SessionId) -> None:
        self.die(session, "stopped")

    def die(self, session: SessionId, how: str = "signal 9") -> None:
        self.dead[session] = how
        runner = self.runners.pop(session, None)
        if runner is not None and runner.wire is not None:
            runner.wire.cut()

    async def delete(self, session: SessionId) -> None:
        self.die(session)
        self.deleted.append(session)

    async def close(self) -> None:
        return


class FakeModels:
    """A proxy that meters what the test says."""

    def __init__(self) -> None:
        self.admitted: list[tuple[SessionId, JobId | None, Budget]] = []
        self.totals: dict[JobId, UsageRecord] = {}
        self.reaches: dict[SessionId, Reach] = {}
        self.forgotten: list[SessionId] = []
        self.marks: list[tuple[str, int]] = []
        self.met: asyncio.Queue[list[Contact] | None] = asyncio.Queue()
        self.asked: asyncio.Queue[list[Asking] | None] = asyncio.Queue()
        self.answers: list[tuple[str, bool, str, bool]] = []
        self.answered = asyncio.Event()
        self.demo = True

    async def state(self) -> ModelState:
        return ModelState("demo" if self.demo else "anthropic", self.demo, "demo-1", True)

    async def admit(self, session: SessionId, job: JobId | None, budget: Budget) -> None:
        self.admitted.append((session, job, budget))

    async def spent(self, session: SessionId, job: JobId) -> UsageRecord | None:
        return self.totals.get(job)

    async def drop(self, session: SessionId) -> None:
        return

    async def usage(self, marks: Sequence[tuple[str, int]]) -> AsyncIterator[UsageRecord]:
        return
        yield

    async def reach(self, session: SessionId, reach: Reach) -> None:
        self.reaches[session] = reach

    async def forget(self, session: SessionId) -> None:
        self.forgotten.append(session)

    async def contacts(self, marks: Sequence[tuple[str, int]]) -> AsyncIterator[list[Contact]]:
        """What the test puts into `met`, as far as it was not taken; None ends it."""
        self.marks = list(marks)
        while (batch := await self.met.get()) is not None:
            yield batch

    async def asking(self) -> AsyncIterator[list[Asking]]:
        while (asking := await self.asked.get()) is not None:
            yield asking

    async def answer(self, ask_id: str, allow: bool, message: str, *, remember: bool) -> None:
        self.answers.append((ask_id, allow, message, remember))
        self.answered.set()

    async def close(self) -> None:
        return


class PlainSealer:
    """Hides nothing; a secret opens for what it belongs to alone."""

    broken = ""
    """Why nothing opens."""

    def seal(self, secret: bytes, about: str) -> bytes:
        return about.encode() + b"=" + secret

    def unseal(self, sealed: bytes, about: str) -> bytes:
        prefix = about.encode() + b"="
        if self.broken or not sealed.startswith(prefix):
            raise SealBroken(self.broken or "another's")
        return sealed.removeprefix(prefix)


async def some_turns() -> None:
    """What goes on by itself is done: so many turns of the loop, however long a busy machine takes for them."""
    for _ in range(50):
        await asyncio.sleep(0.001)


class HandClock:
    """Time that moves when the test says so."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self._now = now
        self._sleepers: list[tuple[float, asyncio.Event]] = []

    def now(self) -> float:
        return self._now

    async def sleep(self, seconds: float) -> None:
        woken = asyncio.Event()
        self._sleepers.append((self._now + seconds, woken))
        await woken.wait()

    async def wind(self, seconds: float) -> None:
        self._now += seconds
        for at, woken in list(self._sleepers):
            if at <= self._now:
                self._sleepers.remove((at, woken))
                woken.set()
        for _ in range(20):
            await asyncio.sleep(0)
