"""What the proxy tells of the sessions' network: contacts, into the ledger; wishes, to the session that they concern.

A contact is one document, overwritten with every change: whole and cumulative, so a batch that comes again changes
nothing. A wish is a connection that waits for a person (`engine.domains`).
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import msgspec

from pilothouse.core.contacts import Contact
from pilothouse.core.errors import PilothouseError
from pilothouse.core.ids import SessionId
from pilothouse.core.reach import Asking
from pilothouse.engine.kit import Kit
from pilothouse.engine.ports import Mark, Put, StoreFailed
from pilothouse.engine.sessions import Sessions

AGAIN_S = 1.0
"""Pause before asking a proxy again that went away."""


@dataclass(slots=True)
class _Settling:
    task: asyncio.Task[None]
    again: bool = False


class NetworkIntake:
    def __init__(self, kit: Kit, sessions: Sessions) -> None:
        self._kit = kit
        self._sessions = sessions
        self._tasks: list[asyncio.Task[None]] = []
        self._asking: list[Asking] = []
        self._concerned: set[SessionId] = set()
        """Sessions that something waited for when it was last told."""
        self._settling: dict[SessionId, _Settling] = {}

    def start(self) -> None:
        for what, once in (("contacts", self._contacts), ("asking", self._wishes)):
            self._tasks.append(asyncio.create_task(self._ever(what, once), name=what))

    async def close(self) -> None:
        tasks = [*self._tasks, *(settling.task for settling in self._settling.values())]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _ever(self, what: str, once: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await once()
            except (PilothouseError, StoreFailed) as error:
                self._kit.note(f"{what}_wait", why=str(error)[:200])
            except Exception as error:  # noqa: BLE001  an intake that died in silence would lose what comes later
                self._kit.note(f"{what}_failed", error=repr(error)[:500])
            await self._kit.clock.sleep(AGAIN_S)

    # --- contacts ---

    async def _contacts(self) -> None:
        known = await self._kit.store.scan("contacts")
        marks = [(key, await self._kit.store.marked(f"contacts:{key}")) for key, _ in known]
        async for batch in self._kit.models.contacts(marks):
            await self._take(batch)

    async def _take(self, batch: list[Contact]) -> None:
        last = batch[-1]
        if last.n <= await self._kit.store.marked(f"contacts:{last.proxy_id}"):
            return
        of: dict[SessionId, list[Contact]] = {}
        for contact in batch:
            of.setdefault(contact.session, []).append(contact)
        for sid, rows in of.items():
            await self._keep(sid, rows)
        await self._kit.store.commit(
            Mark(f"contacts:{last.proxy_id}", last.n),
            Put("contacts", last.proxy_id, b"{}"),
        )

    async def _keep(self, sid: SessionId, rows: list[Contact]) -> None:
        puts = [Put("contact", f"{sid}:{_digest(row)}", msgspec.json.encode(row), sid) for row in rows]
        here = self._sessions.here(sid)
        async with here.live.lock if here is not None else contextlib.nullcontext():
            if await self._kit.store.get("session", sid) is None:
                await self._kit.models.forget(sid)  # deleted while they were on their way
                return
            await self._kit.store.commit(*puts)
        self._kit.bells.ring(sid)

    # --- wishes ---

    async def _wishes(self) -> None:
        async for asking in self._kit.models.asking():
            self._asking = asking
            concerned = {ask.session for ask in asking}
            for sid in concerned | self._concerned | self._sessions.asked_for_network():
                self._settle(sid)
            self._concerned = concerned

    def _settle(self, sid: SessionId) -> None:
        """One at a time for a session, and again when more has come meanwhile."""
        running = self._settling.get(sid)
        if running is not None:
            running.again = True
            return
        task = asyncio.create_task(self._settle_all(sid), name="domains")
        self._settling[sid] = _Settling(task)

    async def _settle_all(self, sid: SessionId) -> None:
        try:
            while True:
                self._settling[sid].again = False
                await self._settle_once(sid)
                if not self._settling[sid].again:
                    return
        except PilothouseError as error:
            self._kit.note("asking_failed", session=sid, why=error.message[:200])
        finally:
            del self._settling[sid]

    async def _settle_once(self, sid: SessionId) -> None:
        mine = [ask for ask in self._asking if ask.session == sid]
        session = self._sessions.here(sid)
        if session is not None:
            await session.domains.settle(mine)
            return
        for ask in mine:
            await self._kit.models.answer(ask.id, False, "nobody works in this session", remember=False)


def _digest(row: Contact) -> str:
    """Of what makes it one row. A host's name is no part of an id: it is the agent's text."""
    name = f"{row.proxy_id}\n{row.host}\n{row.port}\n{row.reason}"
    return hashlib.sha256(name.encode()).hexdigest()[:32]
