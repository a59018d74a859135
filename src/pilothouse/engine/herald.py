"""Tells the outside what happens in sessions: makes deliveries of the events in the logs.

Each session has a cursor in the store (`told`, by session). What an event leads to and the cursor beyond it are one
commit, and a server that starts looks at every log that has grown beyond its cursor: so of an event that is in the log
each target has exactly one delivery, whenever the server was killed. Where nobody wants anything, nothing is written.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

from pilothouse.core import events as ev
from pilothouse.core import webhook
from pilothouse.core.ids import SessionId
from pilothouse.engine import records
from pilothouse.engine.couriers import Couriers
from pilothouse.engine.deliveries import DeliveryRecord
from pilothouse.engine.log import BATCH
from pilothouse.engine.ports import Put, Row, StoreFailed
from pilothouse.engine.records import JobRecord, SessionRecord
from pilothouse.engine.sessions import Sessions
from pilothouse.engine.webhooks import Webhooks

AGAIN_S = 1.0
"""Pause after the store has failed."""
_STARTS = (b'{"type":"complete"', b'{"type":"approval_required"', b'{"type":"question"')
"""How the rows begin that somebody may want: an event is encoded with its type first."""

Told: TypeAlias = ev.Complete | ev.ApprovalRequired | ev.QuestionEvent


class People(Protocol):
    """Whoever is notified."""

    def since(self, organisation: str) -> float | None: ...

    def deliveries(
        self, session: SessionRecord, event: Told, job: JobRecord | None, at: float
    ) -> list[DeliveryRecord]: ...


class Herald:
    def __init__(
        self, sessions: Sessions, webhooks: Webhooks, couriers: Couriers, page: Callable[[], str], people: People
    ) -> None:
        """`page`: where people open ours."""
        self._sessions = sessions
        self._kit = sessions.kit
        self._webhooks = webhooks
        self._couriers = couriers
        self._page = page
        self._people = people
        self._grown: set[SessionId] = set()
        self._bell = asyncio.Event()
        self._telling = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        sessions.kit.log.on_rows.append(self._heard)
        sessions.on_end.append(self._safely)

    async def start(self) -> None:
        """After the sessions."""
        self._task = asyncio.create_task(self._run(), name="herald")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def _heard(self, session: SessionId, rows: Sequence[Row]) -> None:
        """Called by the log after each commit."""
        if any(row.body.startswith(_STARTS) for row in rows):
            self._grown.add(session)
            self._bell.set()

    async def settle(self, session: SessionId) -> None:
        """Before the log may go: what it has to tell is promised. Raises StoreFailed."""
        self._grown.discard(session)
        async with self._telling:
            await self._tell(session)

    async def _run(self) -> None:
        behind = True
        while True:
            try:
                if behind:
                    await self._catch_up()
                    behind = False
                await self._bell.wait()
                self._bell.clear()
                while self._grown:
                    await self._one(next(iter(self._grown)))
            except StoreFailed as error:
                self._kit.note("herald_waits", error=str(error)[:200])
                self._bell.set()
                await self._kit.clock.sleep(AGAIN_S)

    async def _one(self, session: SessionId) -> None:
        try:
            await self._safely(session)
        except StoreFailed:
            self._grown.add(session)
            raise

    async def _safely(self, session: SessionId) -> None:
        """As `settle`. Raises StoreFailed."""
        try:
            await self.settle(session)
        except StoreFailed:
            raise
        except Exception as error:  # noqa: BLE001  one log that breaks it must silence no other, and keep no session
            self._kit.note("herald_failed", session=session, error=repr(error)[:500])

    async def _catch_up(self) -> None:
        """Logs that have grown while nobody told of them."""
        after = ""
        while found := await self._kit.store.scan("session", after=after, limit=500):
            after = found[-1][0]
            for _, doc in found:
                record = records.load(doc, SessionRecord)
                since = self._since(record.organisation)
                active = record.state == "active"
                if since is None or (not active and records.seconds(record.last_active_at) < since):
                    continue
                await self._one(record.id)

    def _since(self, organisation: str) -> float | None:
        found = [self._webhooks.since(organisation), self._people.since(organisation)]
        return min((at for at in found if at is not None), default=None)

    # --- one log ---

    async def _tell(self, session: SessionId) -> None:
        here = self._sessions.here(session)
        doc = None if here is not None else await self._kit.store.get("session", session)
        record = here.live.record if here is not None else records.load(doc, SessionRecord) if doc else None
        if record is None or self._since(record.organisation) is None:
            return
        known = await self._kit.store.get("told", session)
        cursor = wrote = int(known or b"0")
        while True:
            page = await self._kit.log.page(session, cursor, BATCH)
            if 0 < cursor < page.oldest - 1:
                self._kit.note("told_too_late", session=session, missed=page.oldest - 1 - cursor)
            made: list[DeliveryRecord] = []
            for row in page.rows:
                cursor = row.seq
                if row.body.startswith(_STARTS):
                    made += await self._made(record, row)
            if made or cursor - wrote > BATCH:
                told = Put("told", session, str(cursor).encode(), session)
                await self._kit.store.commit(told, *await self._couriers.promise(made))
                self._couriers.accepted(made)
                wrote = cursor
            if not page.rows or cursor >= page.head:
                return

    async def _made(self, session: SessionRecord, row: Row) -> list[DeliveryRecord]:
        event = ev.decode(row.body)
        assert isinstance(event, ev.Complete | ev.ApprovalRequired | ev.QuestionEvent)
        at = records.seconds(event.at)
        doc = await self._kit.store.get("job", event.job_id) if event.job_id else None
        job = records.load(doc, JobRecord) if doc is not None else None
        made: list[DeliveryRecord] = []
        for data in self._data(session, event, job):
            for one in self._webhooks.wanting(session.organisation, webhook.TYPES[type(data)], at):
                made.append(self._webhooks.delivery(one, data, at, session.id, event.seq))
        return made + self._people.deliveries(session, event, job, at)

    def _data(self, session: SessionRecord, event: Told, job: JobRecord | None) -> list[webhook.Data]:
        title = session.title[: webhook.TITLE_MAX]
        url = link(self._page(), session.id)
        name = (job.name or None) if job else None
        if isinstance(event, ev.ApprovalRequired):
            return [
                webhook.ApprovalRequired(
                    session_id=session.id, session_title=title, job_id=event.job_id, job_name=name, url=url,
                    approval_id=event.approval_id, tool=event.tool[:100], input_hash=event.input_hash,
                    expires_at=event.expires_at, second_approver=event.second_approver,
                )
            ]  # fmt: skip
        if not isinstance(event, ev.Complete):
            return []
        data: list[webhook.Data] = [
            webhook.JobCompleted(
                session_id=session.id, session_title=title, job_id=event.job_id, job_name=name, url=url,
                outcome=event.outcome, reason=event.reason[:100] if event.reason else None,
                total_cost=event.total_cost, duration_ms=event.duration_ms, num_turns=event.num_turns,
            )
        ]  # fmt: skip
        if event.outcome == "budget_exceeded":
            data.append(
                webhook.BudgetExceeded(
                    session_id=session.id, session_title=title, job_id=event.job_id, job_name=name, url=url,
                    total_cost=event.total_cost, max_cost_usd=job.max_cost_usd if job else None,
                    max_tokens=job.max_tokens if job else None,
                )
            )  # fmt: skip
        return data


def link(page: str, session: str) -> str:
    """To a session on our own page."""
    return f"{page}/#/s/{session}"
