"""Things as the API shows them."""

from __future__ import annotations

from typing import Any

import msgspec

from pilothouse.core import access
from pilothouse.core.access import IN_SESSIONS, Principal
from pilothouse.engine import records
from pilothouse.engine.keypairs import PairRecord
from pilothouse.engine.keys import KeyRecord
from pilothouse.engine.links import Link
from pilothouse.engine.members import Member, Organisation
from pilothouse.engine.records import ApprovalRecord, JobRecord, QuestionRecord, RuleRecord, SessionRecord
from pilothouse.engine.sessions import Sessions

_HIDDEN = {
    "owner",
    "organisation",
    "runnerId",
    "requestId",
    "turnId",
    "agentSessionId",
    "interruptedBy",
    "late",
    "mode",
    "logBytes",
    "origin",
    "egress",
    "grants",
    "private",
    "askers",
}


def _plain(record: Any) -> dict[str, Any]:
    built: dict[str, Any] = msgspec.to_builtins(record)
    return {k: v for k, v in built.items() if k not in _HIDDEN}


def principal(who: Principal) -> dict[str, Any]:
    shown: dict[str, Any] = {"kind": who.kind, "id": who.id, "name": who.name, "scopes": sorted(who.scopes)}
    if who.session is not None:
        return shown | {"session": who.session}
    return shown | {"account": who.account, "organisation": who.organisation, "role": who.role}


def organisation(record: Organisation) -> dict[str, Any]:
    return {"id": record.id, "name": record.name, "createdAt": records.stamp(record.created_at)}


def member(record: Member) -> dict[str, Any]:
    return {
        "account": record.account,
        "name": record.name,
        "organisation": record.organisation,
        "role": record.role,
        "createdAt": records.stamp(record.created_at),
        "disabled": record.disabled,
    }


def link(record: Link) -> dict[str, Any]:
    return {
        "id": record.id,
        "name": record.name,
        "right": record.right,
        "madeBy": record.made_by,
        "createdAt": records.stamp(record.created_at),
        "expiresAt": records.stamp(record.expires_at),
    }


async def session(sessions: Sessions, record: SessionRecord, who: Principal) -> dict[str, Any]:
    """As `who` sees it: a share link's bearer does not learn whose it is, and only those who share learn with whom."""
    may = access.rights(who, record)
    here = sessions.here(record.id)
    head = here.live.head if here else await sessions.kit.log.head(record.id)
    return {
        "title": "",
        "state": "new",
        "totalCost": 0.0,
        **_plain(record),
        **({} if who.session else {"owner": record.owner, "private": record.private}),
        **({"grants": record.grants} if "admin" in may else {}),
        "rights": [s for s in IN_SESSIONS if s in may],
        "running": bool(here and here.jobs.busy),
        "pendingApprovals": len(here.approvals.pending) if here else 0,
        "pendingQuestions": len(here.questions.pending) if here else 0,
        "head": head,
    }


OF_JOBS = frozenset({"key", "trace"})
"""What a job has for usage and traces alone."""


def job(record: JobRecord) -> dict[str, Any]:
    shown = {"state": record.state, "totalCost": record.total_cost, **_plain(record)}
    return {name: value for name, value in shown.items() if name not in OF_JOBS}


def approval(record: ApprovalRecord) -> dict[str, Any]:
    return {"state": record.state, **_plain(record)}


def question(record: QuestionRecord) -> dict[str, Any]:
    return {"state": record.state, **_plain(record)}


def rule(record: RuleRecord) -> dict[str, Any]:
    return _plain(record)


def key(record: KeyRecord) -> dict[str, Any]:
    return _credential("key", record)


def pair(record: PairRecord) -> dict[str, Any]:
    out = _credential("sigv4", record)
    if record.expires_at is not None:
        out["expiresAt"] = records.stamp(record.expires_at)
    return out


def _credential(kind: str, record: KeyRecord | PairRecord) -> dict[str, Any]:
    out: dict[str, Any] = {
        "id": record.id,
        "kind": kind,
        "name": record.name,
        "scopes": record.scopes,
        "account": record.account,
        "createdAt": records.stamp(record.created_at),
    }
    if record.rates is not None:
        out["ratePerS"] = record.rates.per_s
        out["rateBurst"] = record.rates.burst
        out["quotaPerDay"] = record.rates.per_day
    if record.last_used_at is not None:
        out["lastUsedAt"] = records.stamp(record.last_used_at)
    return out
