"""Approvals: what must be asked is asked once, shown exactly, answered once, and kept.

An ask of the runner becomes a decision of the policy (answered at once) or an approval: a document and the event
`approval_required` in one transaction. The answer is a transaction too (`approval_resolved`, the document, a
remembered rule), and only then goes down the link. A runner that asks again after a reconnect gets the answer again.

The proxy asks too, for a domain (`engine.domains`): the same approval, whose answer goes to the proxy.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import msgspec

from pilothouse.core import approval, link, places, policy, second, tools
from pilothouse.core import events as ev
from pilothouse.core.errors import AlreadyResolved, BadRequest, Forbidden, NotFound, PilothouseError
from pilothouse.core.ids import ApprovalId
from pilothouse.core.options import options
from pilothouse.core.said import shallow
from pilothouse.engine import allowance, records
from pilothouse.engine.attendance import NOBODY
from pilothouse.engine.audit import SERVER, Entry, Who
from pilothouse.engine.kit import worth_noting
from pilothouse.engine.live import Live, Words, whole
from pilothouse.engine.ports import Op
from pilothouse.engine.records import ApprovalRecord, JobRecord, RuleRecord, SessionRecord
from pilothouse.engine.rules import Rules

PENDING_MAX = 50
"""Open approvals of one session: an agent asks for a handful at a time."""
PENDING_SIZE = 32 * 1024 * 1024
"""Bytes of them together: one input may have megabytes, and an agent may ask about nothing else."""
NOTED = 1000
"""Decisions of one session that the server's log has, before it names only the ten-thousandth and so on."""
ANSWERED_KEPT = 500
"""Answered ones remembered in memory, to answer a runner that asks again."""

_Key: TypeAlias = tuple[str, str, str]
"""Who asked (the kind first, so that no runner can name itself like a proxy) and its own word for the ask."""


class Approvals:
    def __init__(self, live: Live, rules: Rules) -> None:
        self._live = live
        self._rules = rules
        self.pending: dict[ApprovalId, ApprovalRecord] = {}
        self._by_request: dict[_Key, ApprovalRecord] = {}
        self._answered: dict[_Key, link.PermissionAnswer] = {}
        self._sizes: dict[ApprovalId, int] = {}
        self._decisions = 0
        self._timers: dict[ApprovalId, asyncio.Task[None]] = {}
        self._deadlines: dict[ApprovalId, float] = {}
        self.job: Callable[[], JobRecord | None] = lambda: self._live.current
        """Whose ask it is; set by `Jobs`, who knows the job that was handed over too."""
        self.words: Words = lambda _, __: ([], lambda: None)
        """Set by `Jobs`, who says what it is."""

    # --- asks, from the runner; the caller has the lock and commits ---

    def asked(self, runner: str, ask: link.PermissionAsk) -> tuple[list[ev.Event], list[Op], link.Command | None]:
        """Events and documents to commit, or the answer to send at once."""
        key = ("runner", runner, ask.request_id)
        if key in self._answered:
            return [], [], self._answered[key]
        if key in self._by_request:
            return [], [], None
        job = self.job()
        decision, second_person = self._decide(ask), self.second(ask.tool, places.usual(ask.input, self._live.place))
        if second_person and decision.verdict == "allow":
            decision = policy.Decision("ask", second.REASON)
        if decision.verdict == "ask" and len(self.pending) >= PENDING_MAX:
            decision = policy.Decision("deny", f"{PENDING_MAX} approvals are open already.")
        if decision.verdict == "ask" and self._nobody(job, second_person):
            decision = policy.Decision("deny", NOBODY)
        size = _size(ask.input, ask.diff) if decision.verdict == "ask" else 0
        if sum(self._sizes.values()) + size > PENDING_SIZE:
            decision = policy.Decision("deny", "What is asked is too long to be looked at.")
        self._note(ask.tool, decision)
        if decision.verdict != "ask":
            answer = link.PermissionAnswer(
                id=f"auto-{ask.request_id}",
                request_id=ask.request_id,
                behavior=decision.verdict,
                message=decision.reason if decision.verdict == "deny" else None,
            )
            self._remember(key, answer)
            return [], [], answer
        now = self._live.kit.clock.now()
        record = ApprovalRecord(
            approval_id=ApprovalId(records.new_id()),
            session_id=self._live.record.id,
            job_id=job.id if job else None,
            tool_id=ask.tool_id,
            tool=ask.tool,
            input=ask.input,
            input_hash=approval.input_hash(ask.input),
            options=self.offered(
                options(
                    ask.tool, places.usual(ask.input, self._live.place), project=self._live.record.source is not None
                ),
                second_person,
            ),
            second_approver=second_person,
            askers=self.askers(),
            reason=ask.reason[:500] or decision.reason,
            diff=ask.diff or None,
            expires_at=records.stamp(now + self._live.kit.limits.approval_timeout_s),
            created_at=records.stamp(now),
            runner_id=runner,
            request_id=ask.request_id,
        )
        events, ops = self.open(record)
        return events, ops, None

    def _nobody(self, job: JobRecord | None, second_person: bool) -> bool:
        besides = self.askers() if second_person else ()
        return self._live.kit.attendance.missing(job, self._live.record, besides)

    def second(self, tool: str, tool_input: Any) -> bool:
        return second.needed(self._live.kit.limits.second_approver, tool, tool_input)

    def _edited(self, record: ApprovalRecord, edited: Any) -> bool:
        """Whether a second person would have to agree to it as well, and nobody could have."""
        return record.second_approver or (
            shallow(edited) and self.second(record.tool, places.usual(edited, self._live.place))
        )

    def askers(self) -> list[str]:
        """Whose words the agent works on. Of a job that does not know, it is the session's owner."""
        job = self.job()
        return list(job.askers) if job is not None and job.askers else [self._live.record.owner]

    @staticmethod
    def offered(every: list[ev.Option], second_person: bool) -> list[ev.Option]:
        """What needs a second person needs one each time."""
        return [o for o in every if o.scope in {None, "once"}] if second_person else every

    def open(self, record: ApprovalRecord) -> tuple[list[ev.Event], list[Op]]:
        """A new one, to be committed."""
        self._keep(record)
        return [_required(record)], [records.put(record)]

    def again(self, ask_id: str) -> bool:
        """Whether this ask of the proxy's is known; one that has its answer gets it again."""
        key = ("proxy", "", ask_id)
        if key in self._answered:
            self._live.background(self._tell_proxy(self._answered[key], remember=False))
        return key in self._answered or key in self._by_request

    def withdrawn(self, record: ApprovalRecord) -> tuple[list[ev.Event], list[Op]]:
        """Nobody waits for it any more."""
        return self._end(record, "cancel", "agent")

    def _note(self, tool: str, decision: policy.Decision) -> None:
        self._decisions += 1
        if worth_noting(self._decisions, NOTED):
            session = self._live.record.id
            self._live.kit.note(
                "tool_decision", session=session, tool=tool, verdict=decision.verdict, why=decision.reason
            )

    def _decide(self, ask: link.PermissionAsk) -> policy.Decision:
        if tools.reserved(ask.tool):
            return policy.Decision("deny", f"No tool may be called {tools.NETWORK}.")
        job = self.job()
        try:
            mode = policy.mode(job.permission_mode if job else self._live.record.permission_mode)
            allowed = policy.allowed_tools(job.allowed_tools) if job and job.allowed_tools is not None else None
        except BadRequest:  # a document of another version: fail closed
            return policy.Decision("ask", "The permission mode of this job is not known.")
        seen = places.usual(ask.input, self._live.place)
        return policy.decide(ask.tool, seen, mode=mode, allowed=allowed, rules=self._rules.of(self._live.record))

    def cancelled(self, runner: str, request_id: str) -> tuple[list[ev.Event], list[Op]]:
        record = self._by_request.get(("runner", runner, request_id))
        return self._end(record, "cancel", "agent") if record else ([], [])

    def cancel_all(self, by: str = "server") -> tuple[list[ev.Event], list[Op]]:
        """Every open approval ends; their runner is gone or their job is over."""
        happened: list[ev.Event] = []
        ops: list[Op] = []
        for record in list(self.pending.values()):
            events, puts = self._end(record, "cancel", by)
            happened += events
            ops += puts
        return happened, ops

    def _end(self, record: ApprovalRecord, step: approval.Step, by: str) -> tuple[list[ev.Event], list[Op]]:
        ended = records.copy(
            record, state=approval.step(record.state, step), resolved_at=self._live.now(), resolved_by=by
        )
        self._drop(ended)
        if ended.origin == "proxy":
            self._tell(ended)  # a connection that is refused is not refused too early
        return [_resolved(ended)], [records.put(ended)]

    # --- answers, from people ---

    @whole
    async def decide(
        self,
        approval_id: ApprovalId,
        *,
        approved: bool,
        by: str,
        account: str = "",
        beyond: bool = True,
        edits: bool = True,
        input_hash: str | None = None,
        option_id: str | None = None,
        message: str | None = None,
        updated_input: Any = None,
        who: Who = SERVER,
    ) -> ApprovalRecord:
        """The first valid answer wins. `account`: whose it is, where that matters; `beyond`: whether it may be
        remembered for other sessions too; `edits`: whether it may be about another input. Raises NotFound,
        AlreadyResolved, Conflict (stale hash), Forbidden (a second person is needed), BadRequest, Unavailable; in each
        case nothing has changed."""
        async with self._live.act():
            record = self.pending.get(approval_id) or await self._stored(approval_id)
            after = approval.step(record.state, "approve" if approved else "deny", by=record.resolved_by)
            await self._in_time(record)
            if record.second_approver and approved:
                now = self.askers() if record.job_id and (job := self.job()) and job.id == record.job_id else []
                second.check([*record.askers, *now], account)
            if updated_input is not None and self._edited(record, updated_input):
                raise Forbidden(second.EDITED, code="second_approver")
            approval.check_hash(input_hash, record.input_hash)
            option = _option(record, option_id, approved)
            if option is not None and option.scope == "project" and not beyond:
                raise Forbidden("You may answer in this session only, not for the whole project.")
            if updated_input is not None and not edits:
                raise Forbidden("Another input is another command: that needs the right 'run' in this session.")
            if updated_input is not None and record.origin == "proxy":
                raise BadRequest("updatedInput: a connection is allowed as it was asked for, or not")
            if updated_input is not None and (not approved or not isinstance(updated_input, dict)):
                raise BadRequest("updatedInput: an object, and only with an approval")
            if not shallow(updated_input):
                raise BadRequest("updatedInput: nested too deeply")
            if message is not None and len(message) > 10_000:
                raise BadRequest("message: at most 10000 characters")
            await self._live.no_secret("message", message or "")
            await self._live.no_secret("updatedInput", msgspec.json.encode(updated_input).decode())
            decided = records.copy(
                record,
                state=after,
                resolved_at=self._live.now(),
                resolved_by=by,
                option_id=option.id if option else None,
                message=message,
                updated_input=updated_input,
                mode=option.mode if option else None,
            )
            rule = self._rule(decided, option, by)
            happened: list[ev.Event] = [_resolved(decided)]
            ops: list[Op] = [records.put(decided)]
            if rule is not None:
                ops.append(records.put(rule))
            said, heard = self.words(record.job_id, account if message and not approved else "")
            ops += said
            session, job = self._allowed(decided, option), self.job()
            if session is not self._live.record:
                ops.append(records.put(session))
            if decided.mode is not None:
                session = self._live.changed(permission_mode=decided.mode)
                happened.append(ev.SessionUpdate(job_id=record.job_id, mode=decided.mode))
                ops.append(records.put(session))
                if job is not None and job.id == record.job_id:
                    ops.append(records.put(records.copy(job, permission_mode=decided.mode)))
            async with self._live.kit.audit.noting(who, *_entries(decided, rule)) as noted:
                await self._live.commit(happened, *ops, *noted)
            heard()
            widened = session.egress is not self._live.record.egress
            self._live.record = session
            if decided.mode is not None and job is not None and job.id == record.job_id:
                job.permission_mode = decided.mode
            if rule is not None:
                self._rules.add(rule)
            self._drop(decided)
            self._tell(decided)
            if widened:
                self._live.background(self._live.tell_reach())
                self._live.kit.bells.ring(session.id)
            return decided

    def _allowed(self, decided: ApprovalRecord, option: ev.Option | None) -> SessionRecord:
        """The session's record, with the domain that a person allowed for it, if that is what was decided."""
        if decided.origin != "proxy" or option is None or option.scope != "session":
            return self._live.record
        return self._live.changed(egress=allowance.added(self._live.record, decided.input))

    def _tell(self, record: ApprovalRecord) -> None:
        """The answer, to whoever asked."""
        answer = self._answered[_key(record)]
        if record.origin == "proxy":
            self._live.background(self._tell_proxy(answer, remember=record.state == "denied"))
        else:
            self._live.send(answer)

    async def _tell_proxy(self, answer: link.PermissionAnswer, *, remember: bool) -> None:
        """One that is lost is not missed: the proxy goes on asking."""
        try:
            await self._live.kit.models.answer(
                answer.request_id, answer.behavior == "allow", answer.message or "", remember=remember
            )
        except PilothouseError as error:
            self._live.kit.note("proxy_away", session=self._live.record.id, why=error.message[:200])

    async def _in_time(self, record: ApprovalRecord) -> None:
        """An answer after the deadline is too late even if the timer has not run yet. Raises AlreadyResolved."""
        until = self._deadlines.get(record.approval_id)
        if until is None or self._live.kit.clock.now() < until:
            return
        await self._expire_now(record)
        text = "The time to answer is over; the action was not performed."
        raise AlreadyResolved(text, outcome="expired", by="server")

    async def _stored(self, approval_id: ApprovalId) -> ApprovalRecord:
        doc = await self._live.kit.store.get("approval", approval_id)
        if doc is None:
            raise NotFound
        record = records.load(doc, ApprovalRecord)
        if record.session_id != self._live.record.id:
            raise NotFound
        return record

    def _rule(self, record: ApprovalRecord, option: ev.Option | None, by: str) -> RuleRecord | None:
        if option is None or option.rule is None or option.scope not in {"session", "project"}:
            return None
        return self._rules.make(self._live.record, option, record.tool, by)

    # --- time, restart ---

    async def _expire(self, approval_id: ApprovalId, at: float) -> None:
        clock = self._live.kit.clock
        while (left := at - clock.now()) > 0:
            await clock.sleep(left)
        async with self._live.lock:
            record = self.pending.get(approval_id)
            if record is None:
                return
            await self._expire_now(record)

    async def _expire_now(self, record: ApprovalRecord) -> None:
        events, ops = self._end(record, "expire", "server")
        await self._live.commit(events, *ops, insist=True)
        if record.origin == "runner":
            self._tell(record)

    def restore(self, found: Sequence[ApprovalRecord]) -> None:
        """After a restart of the server: the open ones wait on, the answered ones can be answered again."""
        grace = self._live.kit.clock.now() + self._live.kit.limits.restart_grace_s
        for record in found:
            if record.state == "pending":
                self._keep(record, not_before=grace)
            else:
                self._remember(_key(record), _answer(record))

    def close(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _keep(self, record: ApprovalRecord, not_before: float = 0.0) -> None:
        self.pending[record.approval_id] = record
        self._sizes[record.approval_id] = _size(record.input, record.diff)
        self._by_request[_key(record)] = record
        if record.expires_at is not None:
            at = self._deadlines[record.approval_id] = max(records.seconds(record.expires_at), not_before)
            self._timers[record.approval_id] = asyncio.create_task(self._expire(record.approval_id, at), name="expiry")

    def _drop(self, record: ApprovalRecord) -> None:
        """It has ended: out of the open ones, its answer at hand."""
        self.pending.pop(record.approval_id, None)
        self._deadlines.pop(record.approval_id, None)
        self._sizes.pop(record.approval_id, None)
        key = _key(record)
        self._by_request.pop(key, None)
        timer = self._timers.pop(record.approval_id, None)
        if timer is not None and timer is not asyncio.current_task():
            timer.cancel()
        self._remember(key, _answer(record))

    def _remember(self, key: _Key, answer: link.PermissionAnswer) -> None:
        self._answered[key] = answer
        while len(self._answered) > ANSWERED_KEPT:
            del self._answered[next(iter(self._answered))]


def _entries(decided: ApprovalRecord, rule: RuleRecord | None) -> list[Entry]:
    """For the audit: what was decided about which input. The input itself is in the session's log, and may hold
    anything."""
    session = f"session:{decided.session_id}"
    entries = [
        Entry(
            "approval.approve" if decided.state == "approved" else "approval.deny",
            f"approval:{decided.approval_id}",
            details={
                "session": session,
                "tool": decided.tool,
                "inputHash": decided.input_hash,
                "edited": decided.updated_input is not None,
                "option": decided.option_id or "",
            },
        )
    ]
    if rule is not None:
        about = {"session": session, "tool": rule.tool, "scope": rule.scope, "answer": rule.outcome}
        entries.append(Entry("rule.remember", f"rule:{rule.id}", details=dict(about)))
    return entries


def _size(*parts: Any) -> int:
    """Bytes that an open approval holds."""
    return sum(len(msgspec.json.encode(part)) for part in parts)


def _key(record: ApprovalRecord) -> _Key:
    return (record.origin, record.runner_id, record.request_id)


def _option(record: ApprovalRecord, option_id: str | None, approved: bool) -> ev.Option | None:
    outcome = "approved" if approved else "denied"
    if option_id is None:
        if approved and record.tool == "ExitPlanMode":
            return next(o for o in record.options if o.outcome == "approved")
        return None
    option = next((o for o in record.options if o.id == option_id), None)
    if option is None:
        raise BadRequest(f"optionId: {option_id[:50]!r} is none of {', '.join(o.id for o in record.options)}")
    if option.outcome != outcome:
        raise BadRequest(f"optionId: {option_id!r} means {option.outcome}, the answer says {outcome}")
    return option


def _required(record: ApprovalRecord) -> ev.ApprovalRequired:
    return ev.ApprovalRequired(
        job_id=record.job_id,
        approval_id=record.approval_id,
        tool_id=record.tool_id,
        tool=record.tool,
        input=record.input,
        input_hash=record.input_hash,
        changes=record.changes,
        diff=record.diff,
        options=record.options,
        reason=record.reason,
        expires_at=record.expires_at,
        second_approver=record.second_approver,
    )


def _resolved(record: ApprovalRecord) -> ev.ApprovalResolved:
    assert record.state != "pending"
    return ev.ApprovalResolved(
        job_id=record.job_id,
        approval_id=record.approval_id,
        outcome=record.state,
        by=record.resolved_by or "",
        option_id=record.option_id,
        message=record.message,
        updated_input=record.updated_input,
    )


def _answer(record: ApprovalRecord) -> link.PermissionAnswer:
    if record.state == "approved":
        return link.PermissionAnswer(
            id=record.approval_id,
            request_id=record.request_id,
            behavior="allow",
            updated_input=record.updated_input,
            mode=record.mode,
        )
    return link.PermissionAnswer(
        id=record.approval_id,
        request_id=record.request_id,
        behavior="deny",
        message=record.message or approval.TOLD[record.state],
    )
