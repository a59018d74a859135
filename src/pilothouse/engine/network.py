"""A session's network as people see and set it: its policy, and what it contacted and was refused.

Figures of a proxy that lost its home stay beside those of its successor, and are added up when they are read.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from dataclasses import replace

import msgspec

from pilothouse.core.access import Principal
from pilothouse.core.contacts import Contact, Verdict, verdict
from pilothouse.core.errors import PilothouseError
from pilothouse.core.ids import SessionId
from pilothouse.engine import allowance, records
from pilothouse.engine.audit import SERVER, Entry, Who
from pilothouse.engine.kit import Kit
from pilothouse.engine.live import whole
from pilothouse.engine.records import Egress
from pilothouse.engine.sessions import Session, Sessions

PACE_S = 0.25
"""A viewer gets changes at most so often."""
ROWS_MAX = 5000
"""Of one session: a proxy keeps about 500, and a session sees few proxies that have lost their home."""


class Seen(msgspec.Struct, frozen=True, rename="camel"):
    """A contact as people see it."""

    host: str
    port: int
    verdict: Verdict
    reason: str
    count: int
    first: str
    last: str
    bytes_in: int
    bytes_out: int


class View(msgspec.Struct, frozen=True):
    policy: str
    domains: list[str]
    contacts: list[Seen]


class Network:
    def __init__(self, kit: Kit, sessions: Sessions) -> None:
        self._kit = kit
        self._sessions = sessions

    async def view(self, session: Session) -> View:
        record = session.live.record
        reach = allowance.of(record, self._kit.limits.egress)
        found = await self._kit.store.scan("contact", owner=record.id, limit=ROWS_MAX)
        rows: dict[tuple[str, int, str], Contact] = {}
        for _, doc in found:
            row = _contact.decode(doc)
            key = (row.host, row.port, row.reason)
            rows[key] = _added(rows[key], row) if key in rows else row
        newest = sorted(rows.values(), key=lambda row: (-row.last, row.host, row.port))
        return View(reach.policy, [str(domain) for domain in reach.domains], [_seen(row) for row in newest])

    async def follow(self, sid: str, who: Principal) -> AsyncGenerator[View, None]:
        """All, then what has changed; to the end of the session. Raises NotFound."""
        told: dict[tuple[str, int, str], Seen] = {}
        before: tuple[str, list[str]] | None = None
        while True:
            latch = self._kit.bells.latch(SessionId(sid))
            view = await self.view(await self._sessions.get(sid, who))
            fresh = [seen for seen in view.contacts if told.get((seen.host, seen.port, seen.reason)) != seen]
            told |= {(seen.host, seen.port, seen.reason): seen for seen in fresh}
            if fresh or (view.policy, view.domains) != before:
                before = (view.policy, view.domains)
                yield View(view.policy, view.domains, fresh)
                await asyncio.sleep(PACE_S)
            await latch.wait()

    # --- policy ---

    @whole
    async def change(self, session: Session, egress: Egress | None, by: str, who: Who = SERVER) -> View:
        """What the session may reach from now on; connections that are open and no longer allowed end."""
        live = session.live
        async with live.act():
            record = live.changed(egress=egress)
            given = egress or Egress()
            entry = Entry(
                "network.change",
                f"session:{record.id}",
                details={"policy": given.policy or "as configured", "domains": given.domains or []},
            )
            async with self._kit.audit.noting(who, entry) as noted:
                await live.commit([], records.put(record), *noted)
            live.record = record
        reach = allowance.of(record, self._kit.limits.egress)
        self._kit.note("egress", session=record.id, policy=reach.policy, domains=len(reach.domains), by=by)
        self._kit.bells.ring(record.id)
        if session.jobs.busy or record.state in {"active", "idle"}:
            with contextlib.suppress(PilothouseError):  # a proxy that is away serves nobody, and is told when it comes
                await live.tell_reach()
        return await self.view(session)


_contact = msgspec.json.Decoder(Contact)


def _added(a: Contact, b: Contact) -> Contact:
    return replace(
        b,
        count=a.count + b.count,
        first=min(a.first, b.first),
        last=max(a.last, b.last),
        bytes_in=a.bytes_in + b.bytes_in,
        bytes_out=a.bytes_out + b.bytes_out,
    )


def _seen(row: Contact) -> Seen:
    return Seen(
        host=row.host,
        port=row.port,
        verdict=verdict(row.reason),
        reason=row.reason,
        count=row.count,
        first=records.stamp(row.first),
        last=records.stamp(row.last),
        bytes_in=row.bytes_in,
        bytes_out=row.bytes_out,
    )
