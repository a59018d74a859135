"""Remembered answers, by session or by project.

A *project* is a session's source: the git URL without credentials, or the host directory. A session without a source
has none.
"""

from __future__ import annotations

from pilothouse.core import events as ev
from pilothouse.core import policy
from pilothouse.core.access import Principal
from pilothouse.core.errors import NotFound
from pilothouse.engine import records
from pilothouse.engine.audit import Audit, Entry, Who
from pilothouse.engine.ports import Clock, Delete, EventStore
from pilothouse.engine.records import RuleRecord, SessionRecord

RULES_MAX = 2000
"""Rules read at start; a person remembers dozens."""


def project(session: SessionRecord) -> str | None:
    source = session.source
    if source is None:
        return None
    return f"git:{source.git}" if source.git else f"dir:{source.dir}"


def _may_see(who: Principal, rule: RuleRecord) -> bool:
    return who.organisation == rule.organisation and (who.role == "admin" or who.account == rule.owner)


class Rules:
    def __init__(self, store: EventStore, clock: Clock, audit: Audit | None = None) -> None:
        self._store = store
        self._audit = audit or Audit(store, clock)
        self._clock = clock
        self._all: dict[str, RuleRecord] = {}

    async def load(self) -> None:
        for _, doc in await self._store.scan("rule", limit=RULES_MAX):
            self.add(records.load(doc, RuleRecord))

    def add(self, rule: RuleRecord) -> None:
        self._all[rule.id] = rule

    def all(self, who: Principal) -> list[RuleRecord]:
        """Those of one's own sessions, newest first; an admin's are the whole organisation's."""
        return sorted((r for r in self._all.values() if _may_see(who, r)), key=lambda r: r.id, reverse=True)

    def make(self, session: SessionRecord, option: ev.Option, tool: str, by: str) -> RuleRecord:
        """A rule for an option that the person chose; not yet stored."""
        scoped = option.scope == "project"
        return RuleRecord(
            id=records.new_id(),
            owner=session.owner,
            organisation=session.organisation,
            scope="project" if scoped else "session",
            session_id=None if scoped else session.id,
            project=project(session) if scoped else None,
            tool=tool,
            rule=option.rule or tool,
            outcome=option.outcome,
            by=by,
            created_at=records.stamp(self._clock.now()),
        )

    def of(self, session: SessionRecord) -> list[policy.Rule]:
        """The rules that hold in a session."""
        here = project(session)
        return [
            policy.Rule(policy.pattern(r.rule), r.outcome)
            for r in self._all.values()
            if (r.organisation, r.owner) == (session.organisation, session.owner)
            and (r.session_id == session.id if r.scope == "session" else here is not None and r.project == here)
        ]

    async def remove(self, rule_id: str, who: Who) -> None:
        """Raises NotFound."""
        found = self._all.get(rule_id)
        if found is None or who.principal is None or not _may_see(who.principal, found):
            raise NotFound
        await self._audit.commit(who, [Entry("rule.remove", f"rule:{rule_id}")], Delete("rule", rule_id))
        self._all.pop(rule_id, None)

    def forget(self, session: SessionRecord) -> None:
        """The session is deleted; its documents went with it."""
        self._all = {k: r for k, r in self._all.items() if r.session_id != session.id}
