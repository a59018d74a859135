"""Jobs of one session: accepted, queued, started, ended; one after another; exactly one `complete` each.

`drive` starts them. A job ends by `finish`, whoever calls it: the turn ended, the runner is
gone, the time is up, nobody could start it. `finish` works once per job, since the state `done` leads nowhere.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence

from pilothouse.core import events as ev
from pilothouse.core import job as life
from pilothouse.core import link
from pilothouse.core.attach import Picture
from pilothouse.core.errors import Conflict, NotFound, TooMany
from pilothouse.core.ids import JobId
from pilothouse.engine import records, tallies
from pilothouse.engine.approvals import Approvals
from pilothouse.engine.artifacts import Collected
from pilothouse.engine.bills import Bills
from pilothouse.engine.drive import Drive
from pilothouse.engine.live import Live, whole
from pilothouse.engine.ports import Mark, Op, Put
from pilothouse.engine.questions import Questions
from pilothouse.engine.records import JobRecord, Kept

TITLE_MAX = 80
RESULT_KEPT = 100_000
"""Characters of a job's result in its record; the log has all of it."""


class Jobs:
    def __init__(self, live: Live, approvals: Approvals, questions: Questions, owner: object) -> None:
        self._live = live
        self._approvals = approvals
        self._questions = questions
        self.queue: deque[JobRecord] = deque()
        self.running: JobRecord | None = None
        """The job that was handed to the agent; `live.current` is the one whose turn is open."""
        self.known: dict[JobId, JobRecord] = {}
        """Jobs that are not done."""
        self.coming = 0
        """How many are being accepted: they have their room already."""
        self.bills = Bills(live)
        self.ended: dict[JobId, asyncio.Event] = {}
        self.collected: dict[JobId, Collected | None] = {}
        """What the jobs made whose end has come but is not in the log yet; None while it is being collected."""
        self.wake = asyncio.Event()
        self.last_askers: list[str] = []
        """Of the newest job: a turn that the agent begins by itself goes on with their words."""
        self.last_headless = False
        """Likewise."""
        self.awaited: Counter[JobId] = Counter()
        """How many callers wait for a job's end."""
        self.drive = Drive(self, live, owner)
        approvals.job = lambda: live.current or self.running
        approvals.words = questions.words = self.words

    @property
    def busy(self) -> bool:
        return bool(self.known or self.coming)

    # --- acts of people ---

    async def submit(
        self,
        job: JobRecord,
        *,
        client_message_id: str | None,
        attachments: Sequence[Picture] = (),
        also: Sequence[Op] = (),
    ) -> JobRecord:
        """Accepts a prompt: from here on it is in the log. The same `client_message_id` gives the same job. `also`:
        what is kept with it. Nothing is awaited between the check for room and this."""
        self.coming += 1
        return await self._accept(job, client_message_id, attachments, also)

    @whole
    async def _accept(
        self, job: JobRecord, client_message_id: str | None, attachments: Sequence[Picture], also: Sequence[Op]
    ) -> JobRecord:
        try:
            return await self._accepted(job, client_message_id, attachments, also)
        finally:
            self.coming -= 1

    async def _accepted(
        self, job: JobRecord, client_message_id: str | None, attachments: Sequence[Picture], also: Sequence[Op]
    ) -> JobRecord:
        key = f"{self._live.record.id}:{client_message_id}"
        async with self._live.act():
            if client_message_id is not None and (known := await self._said(client_message_id)) is not None:
                return known
            await self._live.no_secret("prompt", job.prompt)
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
            ops += [records.put(job), records.put(session), *also]
            if client_message_id is not None:
                ops.append(Put("resend", key, job.id.encode(), self._live.record.id))
            await self._live.commit(happened, *ops)
            self._live.record = session
            self._add(job)
            before = self.last_askers if len(self.known) > 1 else []
            self.last_askers = list(dict.fromkeys([*before, *job.askers]))
            self.last_headless = job.headless
            self.queue.append(job)
            self.wake.set()
            return job

    async def said(self, client_message_id: str) -> JobRecord:
        """The job of a prompt that was given, or joined, with this word. Raises NotFound."""
        known = await self._said(client_message_id)
        if known is None:
            raise NotFound
        return known

    async def _said(self, client_message_id: str) -> JobRecord | None:
        known = await self._live.kit.store.get("resend", f"{self._live.record.id}:{client_message_id}")
        return None if known is None else await self.get(JobId(known.decode()))

    @whole
    async def steer(self, message: str, by: str, client_message_id: str | None, account: str = "") -> JobRecord:
        """Adds to the running job. Raises Conflict when none runs."""
        async with self._live.act():
            if client_message_id is not None and (known := await self._said(client_message_id)) is not None:
                return known
            job = self._live.current or self.running
            if job is None or job.state != "running":
                raise Conflict("No job is running that the message could join.")
            key = f"{self._live.record.id}:{client_message_id}"
            await self._live.no_secret("message", message)
            ops = [Put("resend", key, job.id.encode(), self._live.record.id)] if client_message_id is not None else []
            chat = ev.Chat(job_id=job.id, message=message, by=by, client_message_id=client_message_id, steer=True)
            askers = job.askers or [self._live.record.owner]
            askers = askers if account in {"", *askers} else [*askers, account]
            await self._live.commit([chat], *ops, records.put(records.copy(job, askers=askers)))
            job.askers = self.last_askers = askers
            self._live.send(link.Steer(id=records.new_id(), message=message))
            return job

    def words(self, job_id: JobId | None, account: str) -> tuple[list[Op], Callable[[], None]]:
        """As `live.Words`: why something was denied, an answer. From then on theirs is one of the accounts that
        asked."""
        job = self._live.current or self.running
        askers = (job.askers or [self._live.record.owner]) if job is not None else []
        if job is None or job.id != job_id or account in {"", *askers}:
            return [], lambda: None
        known, more = job, [*askers, account]

        def heard() -> None:
            known.askers = self.last_askers = more

        return [records.put(records.copy(known, askers=more))], heard

    @whole
    async def interrupt(self, by: str, job_id: JobId | None = None) -> None:
        """The running job, or the one named. Raises Conflict when there is nothing to interrupt."""
        async with self._live.act():
            running = self._live.current or self.running
            if job_id is None and running is None:
                raise Conflict("No job is running.")
            if job_id is not None:
                running = self.known.get(job_id)
            if running is None or running.id in self.collected:
                raise Conflict("The job is done already.")
            if running.state == "queued":
                running.interrupted_by = by
                await self._finish(running, "interrupted", "Interrupted before it started.", insist=False)
            elif not running.interrupted_by:
                running.interrupted_by = by
                self._live.send(link.Interrupt(id=records.new_id()))
                self.drive.later(running)

    async def get(self, job_id: JobId) -> JobRecord:
        doc = await self._live.kit.store.get("job", job_id)
        assert doc is not None
        return self.known.get(job_id) or records.load(doc, JobRecord)

    @contextlib.contextmanager
    def awaiting(self, job: JobRecord) -> Iterator[None]:
        """For a caller who waits for the job's end."""
        self.awaited[job.id] += 1
        try:
            yield
        finally:
            self.awaited[job.id] -= 1
            if not self.awaited[job.id]:
                del self.awaited[job.id]

    async def end_of(self, job: JobRecord) -> JobRecord:
        """The job, which is one that `submit` or `get` gave, once it has ended. Raises NotFound when its session was
        deleted before, StoreFailed."""
        ended = self.ended.get(job.id)
        if ended is not None:
            await ended.wait()
        if job.state == "done":
            return job
        doc = await self._live.kit.store.get("job", job.id)  # it was read, perhaps, an instant before its end
        found = None if doc is None else records.load(doc, JobRecord)
        if found is None or found.state != "done":
            raise NotFound
        return found

    def gone(self) -> None:
        """The session is deleted: nobody waits any longer."""
        for ended in self.ended.values():
            ended.set()

    def restore(self, jobs: Sequence[JobRecord]) -> None:
        """After a restart of the server: what waits goes on waiting, what runs is taken up again."""
        for job in jobs:
            self._add(job)
            if job.state == "queued":
                self.queue.append(job)
            elif job.by == "agent":
                self._live.current = job
                self._live.background(self.drive.limit(job))
            else:
                self.running = job
        # Its turn has begun, most likely, and the runner does not say so twice. If not, it will.
        self._live.current = self._live.current or self.running
        self.wake.set()

    def _add(self, job: JobRecord) -> None:
        self.known[job.id] = job
        self.ended[job.id] = asyncio.Event()

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
            askers=list(self.last_askers),
            headless=self.last_headless,
            permission_mode=self._live.record.permission_mode,
            first_seq=self._live.head + 1,
            runner_id=runner.runner_id,
            turn_id=turn.turn_id,
            timeout_s=self._live.kit.limits.job_timeout_s,
            model=model if demo else None,
            demo=demo,
        )
        self._add(own)
        self._live.current = own
        self._live.background(self.drive.limit(own))
        if self._live.artifacts is not None:
            self._live.artifacts.begun(self._live.record.id, own.id)
        started = ev.JobStarted(
            job_id=own.id, agent=self._live.record.agent, agent_version=runner.agent_version, model=model, demo=demo,
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
        job = self._ended_by(turn)
        if job is None:
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
        await self.collect(job)
        async with self._live.lock:
            await self._finish(job, outcome, result, reason=reason)

    async def collect(self, job: JobRecord) -> None:
        """Its files, before its end. Without the lock: that may take a while, and others have something to say."""
        artifacts = self._live.artifacts
        if artifacts is None or job.started_at is None or job.id not in self.known or self.collected.get(job.id):
            return
        self.collected.setdefault(job.id, None)
        masks = await self._live.known_masks()
        done = await artifacts.collect(
            self._live.record.id, job, place=self._live.place, shown=masks.text if masks else str
        )
        if job.id in self.known:
            self.collected[job.id] = done

    async def collect_for(self, turn: link.TurnStarted | link.TurnEnded) -> None:
        """The job that is about to end with what the runner says."""
        if isinstance(turn, link.TurnEnded):
            job = self._ended_by(turn)
        else:
            job = self._live.current if self.left_open(turn.turn_id) else None
        if job is not None:
            await self.collect(job)

    def _ended_by(self, turn: link.TurnEnded) -> JobRecord | None:
        job = self._live.current
        if job is None or job.turn_id != turn.turn_id:
            job = self.known.get(JobId(turn.turn_id))
        return job if job is not None and job.state == "running" else None

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
        made = self.collected.get(job.id) or Collected()
        happened, ops = [*happened, *made.events], [*ops, *made.ops]
        total = await self.bills.metered(job)
        usage = self.bills.usage(job, total)
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
        if usage is not None and usage.measured == "agent" and not job.metered:
            ops.append(tallies.of_agent(live.record, job, usage, live.now()))
        done.outcome, done.result, done.reason, done.ended_at = outcome, result[:RESULT_KEPT], reason, live.now()
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
        ended = self.ended.pop(job.id, None)
        if ended is not None:
            ended.set()
        self.bills.close(job.id)
        self.collected.pop(job.id, None)
        if self._live.artifacts is not None:
            self._live.artifacts.ended(self._live.record.id, job.id)
        self._live.touched = self._live.kit.clock.now()
        self.wake.set()

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


def _title(prompt: str) -> str:
    line = next((text.strip() for text in prompt.splitlines() if text.strip()), "")
    return line if len(line) <= TITLE_MAX else line[: TITLE_MAX - 1] + "…"
