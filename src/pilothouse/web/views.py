"""Things as the API shows them: what the engine keeps, as the types of `core.api`."""

from __future__ import annotations

from typing import Any, TypeVar

from pilothouse.core import access, api
from pilothouse.core.access import IN_SESSIONS, Principal
from pilothouse.core.api import access as shown
from pilothouse.core.api import jobs, sessions
from pilothouse.engine import records
from pilothouse.engine.keypairs import PairRecord
from pilothouse.engine.keys import KeyRecord
from pilothouse.engine.links import Link
from pilothouse.engine.members import Member, Organisation
from pilothouse.engine.records import ApprovalRecord, JobRecord, QuestionRecord, RuleRecord, SessionRecord
from pilothouse.engine.sessions import Sessions

S = TypeVar("S", bound=api.Answer)


def _of(kind: type[S], record: Any, **more: Any) -> S:
    """The fields of `kind` as `record` has them; `more` are those that it has not, or that are shown otherwise."""
    same = {name: getattr(record, name) for name in kind.__struct_fields__ if name not in more}
    return kind(**same, **more)


def principal(who: Principal) -> shown.Principal:
    scopes = sorted(who.scopes)
    if who.session is not None:
        return shown.Principal(kind=who.kind, id=who.id, name=who.name, scopes=scopes, session=who.session)
    return _of(shown.Principal, who, scopes=scopes)


def organisation(record: Organisation) -> sessions.Organisation:
    return _of(sessions.Organisation, record, created_at=records.stamp(record.created_at))


def member(record: Member) -> sessions.Member:
    return _of(sessions.Member, record, created_at=records.stamp(record.created_at))


def link(record: Link) -> sessions.Link:
    return _of(sessions.Link, record, **_term(record))


def made_link(record: Link, url: str) -> sessions.MadeLink:
    return _of(sessions.MadeLink, record, url=url, **_term(record))


def _term(record: Link) -> dict[str, str]:
    return {"created_at": records.stamp(record.created_at), "expires_at": records.stamp(record.expires_at)}


async def session(all: Sessions, record: SessionRecord, who: Principal) -> sessions.Session:
    """As `who` sees it: a share link's bearer does not learn whose it is, and only those who share learn with whom."""
    may = access.rights(who, record)
    here = all.here(record.id)
    return _of(
        sessions.Session,
        record,
        owner=None if who.session else record.owner,
        private=None if who.session else record.private,
        grants=record.grants if "admin" in may else None,
        rights=[s for s in IN_SESSIONS if s in may],
        running=bool(here and here.jobs.busy),
        pending_approvals=len(here.approvals.pending) if here else 0,
        pending_questions=len(here.questions.pending) if here else 0,
        head=here.live.head if here else await all.kit.log.head(record.id),
    )


def job(record: JobRecord) -> jobs.Job:
    return _of(jobs.Job, record, pictures=[_of(jobs.Picture, one) for one in record.pictures])


def approval(record: ApprovalRecord) -> jobs.Approval:
    return _of(jobs.Approval, record)


def question(record: QuestionRecord) -> jobs.AgentQuestion:
    return _of(jobs.AgentQuestion, record)


def rule(record: RuleRecord) -> jobs.Rule:
    return _of(jobs.Rule, record)


def key(record: KeyRecord | PairRecord) -> shown.Key:
    return shown.Key(**_credential(record))


def made_key(record: KeyRecord | PairRecord, **secret: Any) -> shown.MadeKey:
    return shown.MadeKey(**_credential(record), **secret)


def _credential(record: KeyRecord | PairRecord) -> dict[str, Any]:
    ends = record.expires_at if isinstance(record, PairRecord) else None
    rates = record.rates
    return {
        "id": record.id,
        "kind": "sigv4" if isinstance(record, PairRecord) else "key",
        "name": record.name,
        "scopes": list(record.scopes),
        "account": record.account,
        "created_at": records.stamp(record.created_at),
        "last_used_at": None if record.last_used_at is None else records.stamp(record.last_used_at),
        "expires_at": None if ends is None else records.stamp(ends),
        "rate_per_s": rates.per_s if rates else None,
        "rate_burst": rates.burst if rates else None,
        "quota_per_day": rates.per_day if rates else None,
    }
