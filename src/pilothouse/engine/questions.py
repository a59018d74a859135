"""Questions of the agent to the person: asked once, answered once, kept; like approvals, but answered in words."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from pilothouse.core import events as ev
from pilothouse.core import link
from pilothouse.core.errors import AlreadyResolved, BadRequest, NotFound
from pilothouse.core.ids import QuestionId
from pilothouse.engine import records
from pilothouse.engine.attendance import NO_ANSWER
from pilothouse.engine.audit import SERVER, Entry, Who
from pilothouse.engine.live import Live, Words, whole
from pilothouse.engine.ports import Op
from pilothouse.engine.records import QuestionRecord

PENDING_MAX = 20
"""Open questions of one session."""
ANSWER_MAX = 10_000
"""Characters of one answer."""
ANSWERED_KEPT = 200
TOLD_NOBODY = "The person did not answer in time. Go on with your best judgement, or stop if you cannot."
TOLD_TOO_MANY = "Too many questions are open already."


class Questions:
    def __init__(self, live: Live) -> None:
        self._live = live
        self.pending: dict[QuestionId, QuestionRecord] = {}
        self._by_request: dict[tuple[str, str], QuestionRecord] = {}
        self._answered: dict[tuple[str, str], link.QuestionAnswer] = {}
        self._timers: dict[QuestionId, asyncio.Task[None]] = {}
        self.words: Words = lambda _, __: ([], lambda: None)
        """Set by `Jobs`, who says what it is."""

    def asked(self, runner: str, ask: link.QuestionAsk) -> tuple[list[ev.Event], list[Op], link.Command | None]:
        key = (runner, ask.request_id)
        if key in self._answered:
            return [], [], self._answered[key]
        if key in self._by_request:
            return [], [], None
        job = self._live.current
        why = TOLD_TOO_MANY if len(self.pending) >= PENDING_MAX else ""
        if self._live.kit.attendance.missing(job, self._live.record):
            why = NO_ANSWER
        if why:
            told = link.QuestionAnswer(id=f"auto-{ask.request_id}", request_id=ask.request_id, message=why)
            self._keep_answer(key, told)
            return [], [], told
        now = self._live.kit.clock.now()
        record = QuestionRecord(
            question_id=QuestionId(records.new_id()),
            session_id=self._live.record.id,
            job_id=job.id if job else None,
            questions=ask.questions,
            expires_at=records.stamp(now + self._live.kit.limits.approval_timeout_s),
            created_at=records.stamp(now),
            runner_id=runner,
            request_id=ask.request_id,
        )
        self._keep(record)
        event = ev.QuestionEvent(
            job_id=record.job_id,
            question_id=record.question_id,
            questions=record.questions,
            expires_at=record.expires_at,
        )
        return [event], [records.put(record)], None

    def cancelled(self, runner: str, request_id: str) -> tuple[list[ev.Event], list[Op]]:
        record = self._by_request.get((runner, request_id))
        return self._end(record, "cancelled", "agent") if record else ([], [])

    def cancel_all(self, by: str = "server") -> tuple[list[ev.Event], list[Op]]:
        happened: list[ev.Event] = []
        ops: list[Op] = []
        for record in list(self.pending.values()):
            events, puts = self._end(record, "cancelled", by)
            happened += events
            ops += puts
        return happened, ops

    def _end(self, record: QuestionRecord, state: str, by: str) -> tuple[list[ev.Event], list[Op]]:
        assert state in {"expired", "cancelled"}
        ended = records.copy(record, state=state, resolved_by=by)
        self._drop(ended)
        return [_answered_event(ended)], [records.put(ended)]

    @whole
    async def answer(
        self, question_id: QuestionId, answers: dict[str, str], *, by: str, account: str = "", who: Who = SERVER
    ) -> QuestionRecord:
        """The first answer wins. `account`: whose it is, where that matters. Raises NotFound, AlreadyResolved,
        BadRequest, Unavailable."""
        async with self._live.act():
            record = self.pending.get(question_id)
            if record is None:
                stored = await self._live.kit.store.get("question", question_id)
                found = records.load(stored, QuestionRecord) if stored is not None else None
                if found is None or found.session_id != self._live.record.id:
                    raise NotFound
                raise AlreadyResolved(
                    f"It was {found.state} already by {found.resolved_by or 'somebody'}.",
                    outcome=found.state,
                    by=found.resolved_by or "",
                )
            _check(record, answers)
            await self._live.no_secret("answers", *answers.values())
            decided = records.copy(record, state="answered", answers=answers, resolved_by=by)
            session = f"session:{decided.session_id}"
            entry = Entry("question.answer", f"question:{question_id}", details={"session": session})
            said, heard = self.words(record.job_id, account)
            async with self._live.kit.audit.noting(who, entry) as noted:
                await self._live.commit([_answered_event(decided)], records.put(decided), *said, *noted)
            heard()
            self._drop(decided)
            self._live.send(self._answered[(decided.runner_id, decided.request_id)])
            return decided

    async def _expire(self, question_id: QuestionId, at: float) -> None:
        clock = self._live.kit.clock
        while (left := at - clock.now()) > 0:
            await clock.sleep(left)
        async with self._live.lock:
            record = self.pending.get(question_id)
            if record is None:
                return
            events, ops = self._end(record, "expired", "server")
            await self._live.commit(events, *ops, insist=True)
            self._live.send(self._answered[(record.runner_id, record.request_id)])

    def restore(self, found: Sequence[QuestionRecord]) -> None:
        grace = self._live.kit.clock.now() + self._live.kit.limits.restart_grace_s
        for record in found:
            if record.state == "pending":
                self._keep(record, not_before=grace)
            else:
                self._remember(record)

    def close(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _keep(self, record: QuestionRecord, not_before: float = 0.0) -> None:
        self.pending[record.question_id] = record
        self._by_request[(record.runner_id, record.request_id)] = record
        if record.expires_at is not None:
            at = max(records.seconds(record.expires_at), not_before)
            self._timers[record.question_id] = asyncio.create_task(self._expire(record.question_id, at), name="expiry")

    def _drop(self, record: QuestionRecord) -> None:
        self.pending.pop(record.question_id, None)
        self._by_request.pop((record.runner_id, record.request_id), None)
        timer = self._timers.pop(record.question_id, None)
        if timer is not None and timer is not asyncio.current_task():
            timer.cancel()
        self._remember(record)

    def _remember(self, record: QuestionRecord) -> None:
        answered = record.state == "answered"
        told = link.QuestionAnswer(
            id=record.question_id,
            request_id=record.request_id,
            answers=record.answers,
            message=None if answered else TOLD_NOBODY,
        )
        self._keep_answer((record.runner_id, record.request_id), told)

    def _keep_answer(self, key: tuple[str, str], told: link.QuestionAnswer) -> None:
        self._answered[key] = told
        while len(self._answered) > ANSWERED_KEPT:
            del self._answered[next(iter(self._answered))]


def _check(record: QuestionRecord, answers: dict[str, str]) -> None:
    texts = [q.question for q in record.questions]
    for question, given in answers.items():
        if question not in texts:
            raise BadRequest(f"answers: there is no question {question[:100]!r}")
        if len(given) > ANSWER_MAX:
            raise BadRequest(f"answers: at most {ANSWER_MAX} characters each")
    missing = [t for t in texts if not answers.get(t, "").strip()]
    if missing:
        raise BadRequest(f"answers: {missing[0][:100]!r} has no answer")


def _answered_event(record: QuestionRecord) -> ev.QuestionAnswered:
    assert record.state != "pending"
    return ev.QuestionAnswered(
        job_id=record.job_id,
        question_id=record.question_id,
        answers=record.answers,
        by=record.resolved_by or "",
        outcome=record.state,
    )
