"""One job after another against the agent: opened for, handed over, watched, ended when its time is up.

`_go_on` is the one loop that starts jobs of a session. What a job is, and its end, is in `jobs`.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Protocol

from pilothouse.core import events as ev
from pilothouse.core import job as life
from pilothouse.core import link
from pilothouse.core.errors import PilothouseError
from pilothouse.core.ids import JobId
from pilothouse.engine import records
from pilothouse.engine.artifacts import Collected
from pilothouse.engine.link import LinkLostError
from pilothouse.engine.live import Live
from pilothouse.engine.ports import Budget
from pilothouse.engine.records import JobRecord

INTERRUPT_S = 20.0
"""An agent that has not stopped this long after an interrupt is stopped with its sandbox."""
OPEN_S = 2.0
"""A sandbox opens within this; what takes longer is a clone."""
AGAIN_S = 0.2
"""After a failure that nobody foresaw: it may come again at once."""
ADMIT_AGAIN_S = 2.0
"""Between two tries to reach a proxy that is just being started again."""


class Docket(Protocol):
    """What the drive works through; `jobs.Jobs` is it."""

    queue: deque[JobRecord]
    running: JobRecord | None
    known: dict[JobId, JobRecord]
    ended: dict[JobId, asyncio.Event]
    collected: dict[JobId, Collected | None]
    wake: asyncio.Event

    async def finish(self, job: JobRecord, outcome: ev.Outcome, result: str, *, reason: str | None = None) -> None: ...

    async def lost(self, text: str, reason: str) -> None: ...


class Drive:
    def __init__(self, jobs: Docket, live: Live, owner: object) -> None:
        self._jobs = jobs
        self._live = live
        self._owner = owner
        self._default_model = ""
        self._prepared = asyncio.Event()
        """Set unless a sandbox is being opened for a job."""
        self._prepared.set()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        if self._task is None:
            self._task = asyncio.create_task(self._drive(), name="drive")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _drive(self) -> None:
        """For as long as the session is in memory. What nobody foresaw costs the job, never the session."""
        attached = self._live.record.state not in {"active", "idle"}
        while True:
            try:
                if not attached:
                    attached = True
                    await self._reattach()
                await self._go_on()
            except Exception as error:  # noqa: BLE001  a drive that died in silence would leave every job for ever
                self._live.kit.note("drive_failed", session=self._live.record.id, error=repr(error)[:500])
                failed = self._jobs.running or (self._jobs.queue[0] if self._jobs.queue else None)
                await asyncio.sleep(AGAIN_S)
                if failed is not None:
                    await self._jobs.finish(
                        failed, "failed", "The server failed at this; its log says where.", reason="bug"
                    )

    async def _go_on(self) -> None:
        while True:
            if self._jobs.running is not None:
                await self._hand_over(self._jobs.running)
            elif self._live.current is None and self._jobs.queue:
                await self._run(self._jobs.queue[0])
            else:
                self._jobs.wake.clear()
                if self._live.current is None and (self._jobs.running or self._jobs.queue):
                    continue
                await self._jobs.wake.wait()

    async def _run(self, job: JobRecord) -> None:
        live = self._live
        self._prepared.clear()
        asking = asyncio.create_task(live.kit.models.state(), name="model")  # meanwhile: it is a way of its own
        try:
            hello = await live.ready(self._owner)
            await self.admit(job)
            state = await asking
        except PilothouseError as error:
            await self._jobs.finish(job, "failed", error.message, reason=error.code)
            return
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            self._prepared.set()
        async with live.lock:
            if job.id not in self._jobs.known:  # interrupted while it was being prepared
                if live.record.state not in {"active", "idle"}:  # the sandbox is there now: somebody must stop it
                    session = live.changed(state="idle")
                    await live.commit([], records.put(session), insist=True)
                    live.record = session
                return
            if self._jobs.queue and self._jobs.queue[0] is job:
                self._jobs.queue.popleft()
            life.step(job.state, "start")
            job.state, job.started_at, job.runner_id, job.turn_id = "running", live.now(), hello.runner_id, job.id
            self._default_model = state.model
            job.demo = state.demo
            job.model = model = state.model if state.demo else job.model or live.record.model or state.model
            session = live.changed(state="active", last_active_at=live.now())
            started = ev.JobStarted(
                job_id=job.id,
                agent=live.record.agent,
                agent_version=hello.agent_version,
                model=model,
                demo=state.demo,
                permission_mode=job.permission_mode,
                by=job.by,
            )
            now = live.artifacts.now(live.record.id) if live.artifacts is not None else 0
            await live.commit([started], records.put(job), records.put(session), insist=True)
            live.record = session
            self._jobs.running = job
            if live.artifacts is not None:
                await live.artifacts.begin(live.record.id, job.id, now)
        await self._hand_over(job)

    async def _reattach(self) -> None:
        """After a restart of the server. The runner that has the jobs goes on with them, or nobody does."""
        live = self._live
        try:
            state = await live.state()
            if not (state.alive and state.runner):
                if state.alive and state.shells:  # they need no runner
                    await self._jobs.lost("The runner ended while the server was away.", "session_lost")
                    live.background(self._until_told(live.tell_reach))
                    return
                if state.alive:
                    await live.kit.sandboxes.stop(live.record.id)  # what a runner that died left behind
                await self._jobs.lost("The session ended while the server was away.", "session_lost")
                async with live.lock:
                    record = live.changed(state="stopped")
                    await live.commit([], records.put(record), insist=True)
                    live.record = record
                return
            hello = await live.ready(self._owner, running=True)
            live.background(self._until_told(live.tell_reach))
            for job in [j for j in self._jobs.known.values() if j.state == "running"]:
                if job.runner_id != hello.runner_id:
                    text = "The runner ended while the server was away."
                    await self._jobs.finish(job, "failed", text, reason="session_lost")
                else:
                    live.background(self._admit_again(job))
        except PilothouseError as error:
            # Nobody watches its jobs any more, so its agent must not go on with them.
            with contextlib.suppress(PilothouseError):
                await live.kit.sandboxes.stop(live.record.id)
            await self._jobs.lost(error.message, error.code)

    async def _admit_again(self, job: JobRecord) -> None:
        """The proxy knows the job already; a new one must be told, as soon as there is one."""

        async def admit() -> None:
            if job.id in self._jobs.known:
                await self._live.tell_reach()  # first: once it is served, what it may reach is known
                await self.admit(job)

        await self._until_told(admit)

    async def _until_told(self, tell: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await tell()
                return
            except PilothouseError as error:
                self._live.kit.note("proxy_away", session=self._live.record.id, why=error.message[:200])
                await self._live.kit.clock.sleep(ADMIT_AGAIN_S)

    async def _hand_over(self, job: JobRecord) -> None:
        """Gives the prompt to the runner (again: it knows the id) and waits for the end of the job."""
        live = self._live
        ended = self._jobs.ended.get(job.id)
        if ended is None or live.link is None:
            await self._jobs.finish(
                job, "failed", "The runner was gone before it had the prompt.", reason="runner_lost"
            )
            return
        prompt = link.Prompt(
            id=job.id,
            message=job.prompt,
            permission_mode=job.permission_mode,
            model=job.model or live.record.model or self._default_model or None,
            attachments=await self._pictures(job),
        )
        handing = asyncio.create_task(self._hand(job, live.link.command(prompt)), name="prompt")
        try:
            await self.limit(job)  # from here on the clock runs, whether the runner says that it has the prompt or not
            await ended.wait()
        finally:
            handing.cancel()

    async def _hand(self, job: JobRecord, handing: Coroutine[Any, Any, None]) -> None:
        try:
            await handing
        except (LinkLostError, ValueError) as error:
            await self._jobs.finish(job, "failed", f"The agent did not take the prompt: {error}", reason="agent_failed")

    async def limit(self, job: JobRecord) -> None:
        """Until the job has ended or its time is up; then it is interrupted."""
        ended = self._jobs.ended.get(job.id)
        if ended is None or job.started_at is None:
            return
        left = records.seconds(job.started_at) + job.timeout_s - self._live.kit.clock.now()
        try:
            async with asyncio.timeout(max(left, 0.0)):
                await ended.wait()
        except TimeoutError:
            if job.id in self._jobs.collected:  # its turn has ended; its files are not its own time
                await ended.wait()
                return
            job.late = True
            self._live.send(link.Interrupt(id=records.new_id()))
            self.later(job)

    async def _pictures(self, job: JobRecord) -> list[dict[str, str]]:
        out = []
        for kept in job.pictures:
            data = await self._live.kit.store.get("text", f"{self._live.record.id}:{kept.digest}")
            if data is not None:
                out.append({"mediaType": kept.media_type, "data": base64.b64encode(data).decode()})
        return out

    def later(self, job: JobRecord) -> None:
        """Whoever does not stop when interrupted is stopped."""
        ended = self._jobs.ended.get(job.id)

        async def force() -> None:
            if ended is None:
                return
            try:
                async with asyncio.timeout(INTERRUPT_S):
                    await ended.wait()
            except TimeoutError:
                if job.id not in self._jobs.collected:  # else it has stopped, and its files are being collected
                    await self._force(job)

        self._live.background(force())

    async def _force(self, job: JobRecord) -> None:
        live = self._live
        text = "The agent did not stop by itself; its session was stopped."
        live.kit.note("agent_stopped_by_force", session=live.record.id, job=job.id)
        live.ending = text
        try:
            await live.kit.sandboxes.stop(live.record.id)
            await live.unlink()  # or the next job would take the old runner's word for the new one's
        except PilothouseError as error:
            live.kit.note("stop_failed", session=live.record.id, error=error.message[:200])
        finally:
            await self._jobs.finish(job, "interrupted", text, reason="stopped")
            await self._jobs.lost(text, "stopped")
            live.ending = ""

    async def admit(self, job: JobRecord) -> None:
        """Tells the proxy whose calls these are from now on, and what they may cost. Raises Unavailable."""
        limits = self._live.kit.limits
        budget = Budget(
            max_cost_usd=_least(job.max_cost_usd, limits.job_max_cost_usd),
            max_tokens=job.max_tokens,
            session_max_cost_usd=limits.session_max_cost_usd,
        )
        await self._live.kit.models.admit(self._live.record.id, job.id, budget)

    async def settled(self) -> None:
        """Until no sandbox is being opened, or it takes long: then whoever opens it sees `ends` and stops it."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(OPEN_S):
                await self._prepared.wait()


def _least(a: float | None, b: float | None) -> float | None:
    given = [x for x in (a, b) if x is not None]
    return min(given) if given else None
