"""Things as the API shows them."""

from __future__ import annotations

from typing import Any

import msgspec

from pilothouse.engine import records
from pilothouse.engine.identity import KeyRecord
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
}


def _plain(record: Any) -> dict[str, Any]:
    built: dict[str, Any] = msgspec.to_builtins(record)
    return {k: v for k, v in built.items() if k not in _HIDDEN}


async def session(sessions: Sessions, record: SessionRecord) -> dict[str, Any]:
    here = sessions.here(record.id)
    head = here.live.head if here else await sessions.kit.log.head(record.id)
    return {
        "title": "",
        "state": "new",
        "totalCost": 0.0,
        **_plain(record),
        "running": bool(here and here.jobs.busy),
        "pendingApprovals": len(here.approvals.pending) if here else 0,
        "pendingQuestions": len(here.questions.pending) if here else 0,
        "head": head,
    }


def job(record: JobRecord) -> dict[str, Any]:
    return {"state": record.state, "totalCost": record.total_cost, **_plain(record)}


def approval(record: ApprovalRecord) -> dict[str, Any]:
    return {"state": record.state, **_plain(record)}


def question(record: QuestionRecord) -> dict[str, Any]:
    return {"state": record.state, **_plain(record)}


def rule(record: RuleRecord) -> dict[str, Any]:
    return _plain(record)


def key(record: KeyRecord) -> dict[str, Any]:
    out: dict[str, Any] = {
        "id": record.id,
        "name": record.name,
        "scopes": record.scopes,
        "createdAt": records.stamp(record.created_at),
    }
    if record.rates is not None:
        out["ratePerS"] = record.rates.per_s
        out["rateBurst"] = record.rates.burst
        out["quotaPerDay"] = record.rates.per_day
    if record.last_used_at is not None:
        out["lastUsedAt"] = records.stamp(record.last_used_at)
    return out
