"""A session's wish to reach a domain that is not on its list, as an approval of its running job.

It comes from the proxy, never from a runner: the tool is `network`, a name that no runner can ask with. The proxy tells
all that waits, again and again, so taking it up is a comparison: what is new is asked or refused, what nobody waits for
any more is cancelled, what was answered is answered again.
"""

from __future__ import annotations

from collections.abc import Sequence

from pilothouse.core import approval, policy, tools
from pilothouse.core import events as ev
from pilothouse.core.errors import BadRequest
from pilothouse.core.ids import ApprovalId
from pilothouse.core.options import DENY
from pilothouse.core.reach import Asking
from pilothouse.engine import records
from pilothouse.engine.approvals import PENDING_MAX, Approvals
from pilothouse.engine.live import Live
from pilothouse.engine.ports import Op
from pilothouse.engine.records import ApprovalRecord

REASON = "A program in the session wants to connect to a domain that is not on the session's list."
OPTIONS = [
    ev.Option(id="allow_once", label="Allow once", outcome="approved", scope="once"),
    ev.Option(id="allow_session", label="Allow for this session", outcome="approved", scope="session"),
    DENY,
]


class Domains:
    def __init__(self, live: Live, approvals: Approvals) -> None:
        self._live = live
        self._approvals = approvals

    async def settle(self, asking: Sequence[Asking]) -> None:
        """`asking`: all of this session's that wait now."""
        live = self._live
        events: list[ev.Event] = []
        ops: list[Op] = []
        refused: list[tuple[str, str]] = []
        async with live.lock:
            known = {a.id for a in asking}
            for record in [r for r in self._approvals.pending.values() if r.origin == "proxy"]:
                if record.request_id not in known:
                    happened, puts = self._approvals.withdrawn(record)
                    events, ops = events + happened, ops + puts
            for ask in asking:
                if self._approvals.again(ask.id):
                    continue
                if why := self._refusal():
                    refused.append((ask.id, why))
                    continue
                happened, puts = self._approvals.open(self._record(ask))
                events, ops = events + happened, ops + puts
            if events or ops:
                await live.commit(events, *ops, insist=True)
        for ask_id, why in refused:
            await live.kit.models.answer(ask_id, False, why, remember=False)

    def _refusal(self) -> str:
        """Why nobody is asked; "" when somebody is."""
        job = self._approvals.job()
        if job is None or job.state != "running":
            return "it is not among the domains of this session, and no job is running for which it could be asked"
        try:
            mode = policy.mode(job.permission_mode)
        except BadRequest:
            return "the permission mode of this job is not known"
        if mode not in policy.NETWORK_ASKED:
            return f"it is not among the domains of this session, and the permission mode {mode} asks nobody"
        if self._live.kit.attendance.missing(job, self._live.record):
            return "it is not among the domains of this session, and nobody who could allow it can be reached"
        if len(self._approvals.pending) >= PENDING_MAX:
            return f"{PENDING_MAX} approvals are open already"
        return ""

    def _record(self, ask: Asking) -> ApprovalRecord:
        live = self._live
        now = live.kit.clock.now()
        job = self._approvals.job()
        shown = {"host": ask.host, "port": ask.port}
        second_person = self._approvals.second(tools.NETWORK, shown)
        hold = min(ask.hold_s, live.kit.limits.approval_timeout_s)
        return ApprovalRecord(
            approval_id=ApprovalId(records.new_id()),
            session_id=live.record.id,
            job_id=job.id if job else None,
            tool_id=f"{tools.NETWORK}-{ask.id}",
            tool=tools.NETWORK,
            input=shown,
            input_hash=approval.input_hash(shown),
            options=self._approvals.offered(OPTIONS, second_person),
            second_approver=second_person,
            askers=self._approvals.askers(),
            reason=REASON,
            expires_at=records.stamp(now + hold),
            created_at=records.stamp(now),
            origin="proxy",
            request_id=ask.id,
        )
