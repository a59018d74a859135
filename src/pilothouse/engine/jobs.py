"""Jobs of one session: accepted, queued, started, ended; one after another; exactly one `complete` each.

`_drive` is the one task that starts jobs. A job ends by `finish`, whoever calls it: the turn ended, the runner is
gone, the time is up, nobody could start it. `finish` works once per job, since the state `done` leads nowhere.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections import deque
from collections.abc import Coroutine, Sequence
from typing import Any

from pilothouse.core import events as ev
from pilothouse.core import job as life
from pilothouse.core import link
from pilothouse.core.attach import Picture
from pilothouse.core.errors import Conflict, PilothouseError, TooMany
from pilothouse.core.ids import JobId
from pilothouse.engine import records
from pilothouse.engine.approvals import Approvals
from pilothouse.engine.link import LinkLostError
from pilothouse.engine.live import Live, whole
from pilothouse.engine.ports import Budget, Mark, Op, Put, UsageRecord
from pilothouse.engine.questions import Questions
from pilothouse.engine.records import JobRecord, Kept

INTERRUPT_S = 20.0
"""An agent that has not stopped this long after an interrupt is stopped with its sandbox."""
SPENT_S = 3.0
"""The proxy answers with a job's total within this, or the agent's own figure counts."""
OPEN_S = 2.0
"""A sandbox opens within this; what takes longer is a clone."""
AGAIN_S = 0.2
"""After a failure that nobody foresaw: it may come again at once."""
ADMIT_AGAIN_S = 2.0
TITLE_MAX = 80


class Jobs:
    def __init__(self, live: Live, approvals: Approvals, questions: Questions, owner: object) -> None:
        self._live = live
        self._approvals = approvals
        self._questions = questions
        self._owner = owner
        self.queue: deque[JobRecord] = deque()
        self.running: JobRecord | None = None
        """The job that was handed to the agent; `live.current` is the one whose turn is open."""
        self.known: dict[JobId, JobRecord] = {}
        """Jobs that are not done."""
        self._default_model = ""
        self.agent_usage: dict[JobId, link.AgentUsage] = {}
        self._ended: dict[JobId, asyncio.Event] = {}
        self._wake = asyncio.Event()
        self._prepared = asyncio.Event()
        """Set unless a sandbox is being opened for a job."""
        self._prepared.set()
        self._task: asyncio.Task[None] | None = None
        approvals.job = lambda: live.current or self.running

    @property
    def busy(self) -> bool:
        return bool(self.known)

    # --- acts of people ---

    @whole
    async def submit(
        self, job: JobRecord, *, client_message_id: str | None, attachments: Sequence[Picture] = ()
    ) -> JobRecord:
        """Accepts a prompt: from here on it is in the log. The same `client_message_id` gives the same job."""
        key = f"{self._live.record.id}:{client_message_id}"
        async with self._live.act():
            if client_message_id is not None:
                known = await self._live.kit.store.get("resend", key)
                if known is not None:
                    return await self.get(JobId(known.decode()))
            if len(self.queue) >= self._live.kit.limits.queue_max:
                raise TooMany(f"{len(self.queue)} jobs wait in this session already.")
            chat = ev.Chat(
                job_id=job.id,
                message=job.prompt,
                attachments=[p.meta for p in attachments] or None,
                by=job.by,
                client_message_id=client_message_id,
            )
            job.first_seq = self._live.head + 1
            session = self._live.changed(
                title=self._live.record.title or _title(job.prompt), last_active_at=self._live.now()
            )
            happened: list[ev.Event] = [chat]
            if session.title != self._live.record.title:
                happened.append(
                    ev.SessionEvent(
                        agent=session.agent, isolation=session.isolation, title=session.title, source=session.source
                    )
                )
            job.pictures = [Kept(media_type=p.meta.media_type, digest=p.digest) for p in attachments]
            sid = self._live.record.id
            ops: list[Op] = [Put("text", f"{sid}:{p.digest}", p.data, sid) for p in attachments]
            ops += [records.put(job), records.put(session)]
            if client_message_id is not None:
                ops.append(Put("resend", key, job.id.encode(), self._live.record.id))
            await self._live.commit(happened, *ops)
            self._live.record = session
            self._add(job)
            self.queue.append(job)
            self._wake.set()
            return job

    @whole
    async def steer(self, message: str, by: str, client_message_id: str | None) -> JobRecord:
        """Adds to the running job. Raises Conflict when none runs."""
        async with self._live.act():
            job = self._live.current or self.running
            if job is None or job.state != "running":
                raise Conflict("No job is running that the message could join.")
            key = f"{self._live.record.id}:{client_message_id}"
            if client_message_id is not None and await self._live.kit.store.get("resend", key) is not None:
                return job
            ops = [Put("resend", key, job.id.encode(), self._live.record.id)] if client_message_id is not None else []
            chat = ev.Chat(job_id=job.id, message=message, by=by, client_message_id=client_message_id, steer=True)
            await self._live.commit([chat], *ops)
            self._live.send(link.Steer(id=records.new_id(), message=message))
            return job

    @whole
    async def interrupt(self, by: str, job_id: JobId | None = None) -> None:
        """The running job, or the one named. Raises Conflict when there is nothing to interrupt."""
        async with self._live.act():
            running = self._live.current or self.running
            if job_id is None and running is None:
                raise Conflict("No job is running.")
            if job_id is not None:
                running = self.known.get(job_id)
            if running is None:
                raise Conflict("The job is done already.")
            if running.state == "queued":
                running.interrupted_by = by
                await self._finish(running, "interrupted", "Interrupted before it started.", insist=False)
            elif not running.interrupted_by:
                running.interrupted_by = by
                self._live.send(link.Interrupt(id=records.new_id()))
                self._later(running)

    async def get(self, job_id: JobId) -> JobRecord:
        doc = await self._live.kit.store.get("job", job_id)
        assert doc is not None
        return self.known.get(job_id) or records.load(doc, JobRecord)

    # --- the drive ---

    def start(self) -> None:
        if self._task is None:
            self._task = asyncio.create_task(self._drive(), name="drive")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def restore(self, jobs: Sequence[JobRecord]) -> None:
        """After a restart of the server: what waits goes on waiting, what runs is taken up again."""
        for job in jobs:
            self._add(job)
            if job.state == "queued":
                self.queue.append(job)
            elif job.by == "agent":
                self._live.current = job
                self._live.background(self._limit(job))
            else:
                self.running = job
        # Its turn has begun, most likely, and the runner does not say so twice. If not, it will.
        self._live.current = self._live.current or self.running
        self._wake.set()

    def _add(self, job: JobRecord) -> None:
        self.known[job.id] = job
        self._ended[job.id] = asyncio.Event()

    async def _drive(self) -> None:
        """For as long as the session is in memory. What nobody foresaw costs the job, never the session."""
        attached = self._live.record.state not in {"active", "idle"}
        while True:
            try:
                if not attached:
                    attached = True
                    await self._reattach()
                await self._drive_jobs()
            except Exception as error:  # noqa: BLE001  a drive that died in silence would leave every job for ever
                self._live.kit.note("drive_failed", session=self._live.record.id, error=repr(error)[:500])
                failed = self.running or (self.queue[0] if self.queue else None)
                await asyncio.sleep(AGAIN_S)
                if failed is not None:
                    await self.finish(failed, "failed", "The server failed at this; its log says where.", reason="bug")

    async def _drive_jobs(self) -> None:
        while True:
            if self.running is not None:
                await self._hand_over(self.running)
            elif self._live.current is None and self.queue:
                await self._run(self.queue[0])
            else:
                self._wake.clear()
                if self._live.current is None and (self.running or self.queue):
                    continue
                await self._wake.wait()

    async def _run(self, job: JobRecord) -> None:
        live = self._live
        self._prepared.clear()
        try:
            hello = await live.ready(self._owner)
            await self.admit(job)
            state = await live.kit.models.state()
        except PilothouseError as error:
            await self.finish(job, "failed", error.message, reason=error.code)
            return
        finally:
            self._prepared.set()
        async with live.lock:
            if job.id not in self.known:  # interrupted while it was being prepared
                if live.record.state not in {"active", "idle"}:  # the sandbox is there now: somebody must stop it
                    session = live.changed(state="idle")
                    await live.commit([], records.put(session), insist=True)
                    live.record = session
                return
            if self.queue and self.queue[0] is job:
                self.queue.popleft()
            life.step(job.state, "start")
            job.state, job.started_at, job.runner_id, job.turn_id = "running", live.now(), hello.runner_id, job.id
            self._default_model = state.model
            model = job.model or live.record.model or state.model
            session = live.changed(state="active", last_active_at=live.now())
            started = ev.JobStarted(
                job_id=job.id,
                agent=hello.agent,
                agent_version=hello.agent_version,
                model=model,
                demo=state.demo,
                permission_mode=job.permission_mode,
                by=job.by,
            )
            await live.commit([started], records.put(job), records.put(session), insist=True)
            live.record = session
            self.running = job
        await self._hand_over(job)

    async def _reattach(self) -> None:
        """After a restart of the server. The runner that has the jobs goes on with them, or nobody does."""
        live = self._live
        try:
            state = await live.state()
            if not (state.alive and state.runner):
                if state.alive:
                    await live.kit.sandboxes.stop(live.record.id)  # what a runner that died left behind
                await self.lost("The session ended while the server was away.", "session_lost")
                async with live.lock:
                    record = live.changed(state="stopped")
                    await live.commit([], records.put(record), insist=True)
                    live.record = record
                return
            hello = await live.ready(self._owner, running=True)
            for job in [j for j in self.known.values() if j.state == "running"]:
                if job.runner_id != hello.runner_id:
                    text = "The runner ended while the server was away."
                    await self.finish(job, "failed", text, reason="session_lost")
                else:
                    live.background(self._admit_again(job))
        except PilothouseError as error:
            # Nobody watches its jobs any more, so its agent must not go on with them.
            with contextlib.suppress(PilothouseError):
                await live.kit.sandboxes.stop(live.record.id)
            await self.lost(error.message, error.code)

    async def _admit_again(self, job: JobRecord) -> None:
        """The proxy knows the job already; a new one must be told, as soon as there is one."""
        while job.id in self.known:
            try:
                await self.admit(job)
                return
            except PilothouseError as error:
                self._live.kit.note("proxy_away", session=self._live.record.id, why=error.message[:200])
                await self._live.kit.clock.sleep(ADMIT_AGAIN_S)

    async def _hand_over(self, job: JobRecord) -> None:
        """Gives the prompt to the runner (again: it knows the id) and waits for the end of the job."""
        live = self._live
        ended = self._ended.get(job.id)
        if ended is None or live.link is None:
            await self.finish(job, "failed", "The runner was gone before it had the prompt.", reason="runner_lost")
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
            await self._limit(job)  # from here on the clock runs, whether the runner says that it has the prompt or not
            await ended.wait()
        finally:
            handing.cancel()

    async def _hand(self, job: JobRecord, handing: Coroutine[Any, Any, None]) -> None:
        try:
            await handing
        except (LinkLostError, ValueError) as error:
            await self.finish(job, "failed", f"The agent did not take the prompt: {error}", reason="agent_failed")

    async def _limit(self, job: JobRecord) -> None:
        """Until the job has ended or its time is up; then it is interrupted."""
        ended = self._ended.get(job.id)
        if ended is None or job.started_at is None:
            return
        left = records.seconds(job.started_at) + job.timeout_s - self._live.kit.clock.now()
        try:
            async with asyncio.timeout(max(left, 0.0)):
                await ended.wait()
        except TimeoutError:
            job.late = True
            self._live.send(link.Interrupt(id=records.new_id()))
            self._later(job)

    async def _pictures(self, job: JobRecord) -> list[dict[str, str]]:
        out = []
        for kept in job.pictures:
            data = await self._live.kit.store.get("text", f"{self._live.record.id}:{kept.digest}")
            if data is not None:
                out.append({"mediaType": kept.media_type, "data": base64.b64encode(data).decode()})
        return out

    def _later(self, job: JobRecord) -> None:
        """Whoever does not stop when interrupted is stopped."""
        ended = self._ended.get(job.id)

        async def force() -> None:
            if ended is None:
                return
            try:
                async with asyncio.timeout(INTERRUPT_S):
                    await ended.wait()
            except TimeoutError:
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
            await self.finish(job, "interrupted", text, reason="stopped")
            await self.lost(text, "stopped")
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

    # --- turns, from the runner; the caller has the lock ---

    def turn_started(
        self, runner: link.Hello, turn: link.TurnStarted, demo: bool, model: str
    ) -> tuple[list[ev.Event], list[Op]]:
        job = self.known.get(JobId(turn.turn_id))
        if job is not None and job.state == "running":
            self._live.current = job
            return [], []
        if self._live.current is not None and self._live.current.turn_id == turn.turn_id:
            return [], []
        now = self._live.now()
        own = JobRecord(
            id=JobId(records.new_id()),
            session_id=self._live.record.id,
            state="running",
            prompt="",
            by="agent",
            created_at=now,
            started_at=now,
            permission_mode=self._live.record.permission_mode,
            first_seq=self._live.head + 1,
            runner_id=runner.runner_id,
            turn_id=turn.turn_id,
            timeout_s=self._live.kit.limits.job_timeout_s,
        )
        self._add(own)
        self._live.current = own
        self._live.background(self._limit(own))
        started = ev.JobStarted(
            job_id=own.id, agent=runner.agent, agent_version=runner.agent_version, model=model, demo=demo,
            permission_mode=own.permission_mode, by="agent",
        )  # fmt: skip
        return [started], [records.put(own)]

    def left_open(self, turn_id: str) -> bool:
        """Whether a turn of the agent's own is open that another one is about to follow."""
        current = self._live.current
        return current is not None and current.by == "agent" and current.turn_id != turn_id

    async def end_left_open(self) -> None:
        """Turns follow one another: a runner that says otherwise would leave a job without an end. Needs the lock."""
        if self._live.current is not None:
            text = "The agent began another turn before it had ended this one."
            await self._finish(self._live.current, "failed", text, reason="runner_protocol")

    async def turn_ended(self, turn: link.TurnEnded, mark: Mark) -> bool:
        """False: it is no turn of ours."""
        job = self._live.current
        if job is None or job.turn_id != turn.turn_id:
            job = self.known.get(JobId(turn.turn_id))
        if job is None or job.state != "running":
            return False
        outcome, reason, result = turn.outcome, turn.reason, turn.result
        if self._live.ending and outcome != "succeeded":
            # The runner's last words as it was told to go; the person's act is what happened.
            outcome, reason, result = "interrupted", "stopped", self._live.ending
        elif job.interrupted_by and outcome != "succeeded":
            outcome = "interrupted"
        await self._finish(
            job, outcome, result, reason=reason, num_turns=turn.num_turns, duration_ms=turn.duration_ms, mark=mark
        )
        return True

    # --- the end ---

    async def finish(self, job: JobRecord, outcome: ev.Outcome, result: str, *, reason: str | None = None) -> None:
        async with self._live.lock:
            await self._finish(job, outcome, result, reason=reason)

    async def _finish(
        self,
        job: JobRecord,
        outcome: ev.Outcome,
        result: str,
        *,
        reason: str | None = None,
        num_turns: int = 0,
        duration_ms: int | None = None,
        mark: Mark | None = None,
        insist: bool = True,
    ) -> None:
        """Needs the lock. Cancels what is open, then `usage` and `complete` in one transaction. Until that is done the
        job is as it was. With `insist` False raises Unavailable."""
        if job.id not in self.known:
            return
        live = self._live
        if job.late:
            outcome, reason, result = "failed", "timeout", f"The job took longer than its {job.timeout_s} s."
        done = records.copy(job, state=life.step(job.state, "end"))
        started = records.seconds(job.started_at) if job.started_at else live.kit.clock.now()
        elapsed = max(int((live.kit.clock.now() - started) * 1000), 0)
        happened, ops = self._cancel_open(job)
        total = await self._total(job)
        usage = self._usage(job, total)
        if usage is not None:
            happened.append(usage)
            done.total_cost = usage.total_cost
        if outcome == "failed" and total is not None and total.refused == "budget":
            outcome, reason = "budget_exceeded", "budget"
        complete = ev.Complete(
            job_id=job.id,
            outcome=outcome,
            result=result,
            total_cost=done.total_cost,
            duration_ms=duration_ms if duration_ms is not None else elapsed,
            num_turns=num_turns,
            reason=reason,
        )
        happened.append(complete)
        done.outcome, done.result, done.reason, done.ended_at = outcome, result[:100_000], reason, live.now()
        done.num_turns, done.duration_ms = num_turns, complete.duration_ms
        done.last_seq = live.head + len(happened)
        session = live.changed(
            total_cost=live.record.total_cost + done.total_cost,
            last_active_at=live.now(),
            state="idle" if live.record.state == "active" else live.record.state,
        )
        await live.commit(happened, *ops, records.put(done), records.put(session), mark=mark, insist=insist)
        live.record = session
        for name in job.__struct_fields__:
            setattr(job, name, getattr(done, name))
        self._forget(job)

    def _cancel_open(self, job: JobRecord) -> tuple[list[ev.Event], list[Op]]:
        if job.started_at is None:
            return [], []  # it never had the agent
        if self._live.current is not None and self._live.current.id != job.id:
            return [], []
        if self._live.current is None and self.running is not None and self.running.id != job.id:
            return [], []
        events, ops = self._approvals.cancel_all()
        more, more_ops = self._questions.cancel_all()
        return events + more, ops + more_ops

    def _forget(self, job: JobRecord) -> None:
        self.known.pop(job.id, None)
        if job in self.queue:
            self.queue.remove(job)
        if self.running is not None and self.running.id == job.id:
            self.running = None
        if self._live.current is not None and self._live.current.id == job.id:
            self._live.current = None
        ended = self._ended.pop(job.id, None)
        if ended is not None:
            ended.set()
        self.agent_usage.pop(job.id, None)
        self._live.touched = self._live.kit.clock.now()
        self._wake.set()

    async def _total(self, job: JobRecord) -> UsageRecord | None:
        """What the proxy metered; None when the job made no call or the proxy cannot be asked."""
        if job.started_at is None:
            return None
        try:
            async with asyncio.timeout(SPENT_S):
                return await self._live.kit.models.spent(self._live.record.id, job.id)
        except (TimeoutError, PilothouseError):
            return None

    def _usage(self, job: JobRecord, total: UsageRecord | None) -> ev.Usage | None:
        """The job's totals as the proxy metered them, else the agent's own figures."""
        if total is not None:
            return totals(job.id, total)
        own = self.agent_usage.get(job.id)
        if own is None:
            return None
        return ev.Usage(
            job_id=job.id, input_tokens=own.input_tokens, output_tokens=own.output_tokens,
            cache_read_tokens=own.cache_read_tokens, cache_write_tokens=own.cache_write_tokens,
            total_cost=own.total_cost, measured="agent",
        )  # fmt: skip

    async def settled(self) -> None:
        """Until no sandbox is being opened, or it takes long: then whoever opens it sees `ends` and stops it."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(OPEN_S):
                await self._prepared.wait()

    async def abandon(self, text: str, reason: str) -> None:
        """What only waits is not started any more."""
        for job in list(self.queue):
            await self.finish(job, "interrupted", text, reason=reason)

    async def lost(self, text: str, reason: str) -> None:
        """The runner is gone: whatever it had in hand has failed, nothing of it is run again."""
        for job in [j for j in self.known.values() if j.state == "running"]:
            outcome: ev.Outcome = "interrupted" if job.interrupted_by or reason == "stopped" else "failed"
            await self.finish(job, outcome, text, reason=reason)
        if not (self._approvals.pending or self._questions.pending):
            return
        async with self._live.lock:  # asked between two turns
            happened, ops = self._approvals.cancel_all()
            more, more_ops = self._questions.cancel_all()
            await self._live.commit([*happened, *more], *ops, *more_ops, insist=True)


def totals(job: JobId, total: UsageRecord) -> ev.Usage:
    return ev.Usage(
        job_id=job,
        input_tokens=total.input_tokens,
        output_tokens=total.output_tokens,
        cache_read_tokens=total.cache_read_tokens,
        cache_write_tokens=total.cache_write_tokens,
        total_cost=total.cost_usd,
        measured="proxy",
    )


def _title(prompt: str) -> str:
    line = next((text.strip() for text in prompt.splitlines() if text.strip()), "")
    return line if len(line) <= TITLE_MAX else line[: TITLE_MAX - 1] + "…"


def _least(a: float | None, b: float | None) -> float | None:
    given = [x for x in (a, b) if x is not None]
    return min(given) if given else None
