"""A session in which something happens: its state, its lock, its link, and the one way to change it.

Every change is a `commit`: events and documents in one transaction, then memory. Two kinds of callers:

* a person's act (`act()`): takes the lock, fails with `Unavailable` when the store cannot write: nothing changed;
* what the runner said (`insist=True`): it has happened already, so the commit is tried until the store takes it, and
  the runner is not acknowledged before. Memory is ahead of the store only inside that wait.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any, ParamSpec, TypeAlias, TypeVar

import msgspec

from pilothouse.core import cut, link
from pilothouse.core import events as ev
from pilothouse.core.errors import NotFound, Unavailable
from pilothouse.core.ids import JobId
from pilothouse.core.places import USUAL
from pilothouse.core.redact import Masks
from pilothouse.engine import allowance, records
from pilothouse.engine.artifacts import Artifacts
from pilothouse.engine.kit import Kit
from pilothouse.engine.link import LinkLostError, RunnerLink
from pilothouse.engine.ports import Mark, Op, Put, Row, SandboxSpec, SandboxState, StoreFailed, Wire
from pilothouse.engine.records import JobRecord, SessionRecord
from pilothouse.engine.secrets import Secrets
from pilothouse.engine.veil import veiled

Words: TypeAlias = Callable[[JobId | None, str], tuple[list[Op], Callable[[], None]]]
"""Somebody's words that reach the agent in a job: what to commit with them, and what to call once that is done."""
LOCK_S = 10.0
"""A person's act waits this long for the session: longer means that the store is not taking what comes first."""
READY_S = 120.0
"""From nothing to a runner that answers: cloning a repository is in it."""
RETRY_S = 0.25
"""Pause between tries of a commit that must succeed."""
LOG_MAX = 2 * 1024**3
"""Bytes that one session may log in its life, texts kept beside the log included. A long day's work takes a hundredth;
what takes more is a loop, and the disk is everybody's."""


P = ParamSpec("P")
T = TypeVar("T")


def whole(act: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """An act that is done whole or not at all: a caller who leaves in the middle does not end it there. Its commit
    would happen all the same, and memory would not know: an approval answered in the log and open here."""

    @functools.wraps(act)
    async def run(*args: P.args, **kwargs: P.kwargs) -> T:
        task = asyncio.get_running_loop().create_task(act(*args, **kwargs))
        task.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody may be left to see it
        return await asyncio.shield(task)

    return run


class Live:
    """One session. Its parts (`jobs`, `approvals`, `questions`) work on it and are set by `engine.sessions`."""

    def __init__(
        self,
        kit: Kit,
        record: SessionRecord,
        secrets: Secrets | None = None,
        artifacts: Artifacts | None = None,
    ) -> None:
        self.kit = kit
        self.record = record
        self.secrets = secrets
        self.artifacts = artifacts
        self.lock = asyncio.Lock()
        self.link: RunnerLink | None = None
        self.current: JobRecord | None = None
        """The job whose turn the agent is working on."""
        self.head = 0
        """The log's head; nobody else appends to this session. It follows the store, see `head_for`."""
        self.logged = record.log_bytes
        """Bytes in the log and beside it; the record has it as of its last writing."""
        self.attaches = 0
        self.stuck = False
        """The store refuses what the runner said; readiness says so."""
        self.touched = kit.clock.now()
        self.removed = False
        self.away = False
        """Put to rest: another object stands for the session now, or soon."""
        self.ends = 0
        """How often its processes have been ended: whoever is opening them sees that they are not wanted any more."""
        self.ending = ""
        """Why its processes are being ended, when they are: what its jobs are told."""
        self.place = USUAL
        """Where its agent finds workspace and home."""
        self._opening = asyncio.Lock()
        """Two who opened it at once would clone its repository twice."""
        self._sends: set[asyncio.Task[None]] = set()

    # --- changing ---

    @contextlib.asynccontextmanager
    async def act(self) -> AsyncIterator[None]:
        """The lock, for a person's act. Raises Unavailable; NotFound when the session is being deleted."""
        try:
            async with asyncio.timeout(LOCK_S):
                await self.lock.acquire()
        except TimeoutError:
            raise Unavailable("The session is waiting for the store; try again.") from None
        try:
            if self.removed:
                raise NotFound
            if self.away:
                raise Unavailable("The session was put to rest at this moment; try again.")
            self.touched = self.kit.clock.now()
            yield
        finally:
            self.lock.release()

    async def commit(
        self, happened: Sequence[ev.Event], *ops: Op, mark: Mark | None = None, insist: bool = False
    ) -> list[Row]:
        """Appends events (long fields cut) and writes documents, all or nothing. Needs the lock."""
        rows: list[ev.Event] = []
        texts: list[Put] = []
        masks = await self.known_masks()
        for event in happened:
            event = veiled(masks, event) if masks else event
            shorter, wholes = cut.cut(event, f"/api/sessions/{self.record.id}/texts/")
            rows.append(shorter)
            texts += [Put("text", f"{self.record.id}:{w.digest}", w.text, self.record.id) for w in wholes]
        while not self.removed:
            try:
                done = await self.kit.log.append(self.record.id, rows, *texts, *ops, mark=mark)
                self.stuck = False
                if done:
                    self.head = done[-1].seq
                    size = sum(len(row.body) for row in done) + sum(len(text.doc) for text in texts)
                    self.logged += size
                return list(done)
            except StoreFailed as error:
                if not insist:
                    raise Unavailable("The store cannot write; nothing was changed.") from error
                if not self.stuck:
                    self.kit.note("store_failed", session=self.record.id, error=str(error))
                self.stuck = True
                await asyncio.sleep(RETRY_S)
        return []

    # --- secrets ---

    async def masks(self) -> Masks | None:
        """What nobody shall read in what this session's agent says. Raises Unavailable when that cannot be known."""
        return await self.secrets.masks(self.record) if self.secrets is not None else None

    async def known_masks(self) -> Masks | None:
        """For what is no agent's word: people's words are looked at before, and ours have none."""
        try:
            return await self.masks()
        except Unavailable:
            return None

    async def no_secret(self, field: str, *texts: str) -> None:
        """Raises BadRequest when one of these texts, which are about to be kept, has a secret's value in it."""
        if self.secrets is not None:
            await self.secrets.no_value(self.record, field, *texts)

    async def environment(self) -> dict[str, str]:
        """What the agent is given besides. Raises Unavailable."""
        if self.secrets is None:
            return {}
        given = {one.name: one.value for one in await self.secrets.given(self.record) if one.agents}
        await self.secrets.used(self.record, list(given))
        return given

    @property
    def full(self) -> bool:
        return self.logged > LOG_MAX

    def now(self) -> str:
        return records.stamp(self.kit.clock.now())

    def session_event(self) -> ev.SessionEvent:
        r = self.record
        return ev.SessionEvent(agent=r.agent, isolation=r.isolation, title=r.title or None, source=r.source)

    # --- the runner ---

    async def ready(self, owner: Any, *, running: bool = False) -> link.Hello:
        """Opens sandbox, runner and link as needed. Raises Unavailable, BadRequest (source). `running`: there is a
        runner, and only the link to it is wanted; what is needed to open a sandbox may be missing by now."""
        ends = self.ends
        try:
            async with asyncio.timeout(READY_S):
                while True:
                    if self.ending:
                        raise Unavailable(self.ending)
                    sandboxes, sid = self.kit.sandboxes, self.record.id
                    if not running:
                        await self._open()
                    self.place = (await (sandboxes.state(sid) if running else sandboxes.runner(sid))).place
                    await self._still(ends)
                    if self.link is None or self.link.over.is_set():
                        self.link = RunnerLink(owner, self._connect, self._fence)
                        self.link.start()
                    hello = await self.link.greeting()
                    if hello is not None:
                        return hello
                    if running:
                        raise Unavailable("The runner ended.")
        except TimeoutError:
            raise Unavailable("The runner did not answer.") from None

    async def shelter(self) -> None:
        """Opens the sandbox and no more: shells need no runner. Raises Unavailable, BadRequest (source)."""
        if self.ending:
            raise Unavailable(self.ending)
        ends = self.ends
        await self._open()
        await self._still(ends)
        async with self.act():
            if self.record.state not in {"active", "idle"}:  # somebody must stop it one day
                record = self.changed(state="idle", last_active_at=self.now())
                await self.commit([], records.put(record))
                self.record = record

    async def _open(self) -> None:
        spec = SandboxSpec(self.record.id, self.record.agent, self.record.source, limits=self.record.limits)
        await self.tell_reach()  # before: a clone needs it
        async with self._opening:
            await self.kit.sandboxes.open(spec)

    async def _still(self, ends: int) -> None:
        """What has been ended meanwhile is not brought back. Raises Unavailable."""
        if ends != self.ends:
            await self.kit.sandboxes.stop(self.record.id)
            raise Unavailable("The session was stopped.")

    async def _connect(self) -> Wire:
        return await self.kit.sandboxes.connect(self.record.id)

    def _fence(self) -> int:
        self.attaches += 1
        return self.kit.serial * 1_000_000 + self.attaches

    def send(self, command: link.Command) -> None:
        """Sends in the background; sent again after a reconnect; a runner that is gone hears nothing."""
        self.background(self._send(command))

    def background(self, work: Coroutine[Any, Any, None]) -> None:
        """A task that ends with the session."""
        task = asyncio.create_task(work)
        self._sends.add(task)
        task.add_done_callback(self._sent)

    def _sent(self, task: asyncio.Task[None]) -> None:
        self._sends.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.kit.note("background_failed", session=self.record.id, error=repr(error)[:500])

    async def _send(self, command: link.Command) -> None:
        if isinstance(command, link.PermissionAnswer) and self.artifacts is not None:
            await self.artifacts.ready(self.record.id)  # how the workspace was before a tool changes it
        if self.link is None:
            return
        try:
            await self.link.command(command)
        except LinkLostError:
            return
        except ValueError as error:
            self.kit.note("command_refused", session=self.record.id, command=command.id, error=str(error)[:200])

    async def tell_reach(self) -> None:
        """Tells the proxy what the session may reach. Raises Unavailable; a proxy that comes back is told then."""
        await self.kit.models.reach(self.record.id, allowance.of(self.record, self.kit.limits.egress))

    async def state(self) -> SandboxState:
        return await self.kit.sandboxes.state(self.record.id)

    async def unlink(self) -> None:
        """Drops the link; the runner stays."""
        if self.link is not None:
            await self.link.close()
            self.link = None

    async def let_go(self) -> None:
        """Drops the link and whatever is being sent."""
        await self.unlink()
        for task in list(self._sends):
            task.cancel()

    async def head_for(self, after: int) -> int:
        """The log's head for whoever has read up to `after`. What is read from the store may be ahead of what has been
        counted here: that is no other log."""
        return self.head if after <= self.head else await self.kit.log.head(self.record.id)

    def changed(self, **changes: Any) -> SessionRecord:
        """The record with changes; assign it after the commit."""
        return msgspec.structs.replace(self.record, log_bytes=self.logged, **changes)
