"""The sessions of an organisation: which of them somebody may see, and for whom else one is.

They are kept under their organisation, in the order of making, so that a list is one walk down a shelf.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Generic, Protocol, TypeVar

from pilothouse.core import access
from pilothouse.core.access import Grant, Principal
from pilothouse.core.chain import Value
from pilothouse.core.errors import TooMany
from pilothouse.core.ids import SessionId
from pilothouse.engine import records
from pilothouse.engine.audit import SERVER, Entry, Who
from pilothouse.engine.kit import Kit
from pilothouse.engine.live import Live, whole
from pilothouse.engine.records import SessionRecord

PAGE = 200
"""Sessions read at once for a list."""
BEFORE = "local"
"""What every session was kept under, before there were organisations: the one account."""
GRANTS_MAX = 200
"""Of one session: who shares with more makes it open to the organisation."""


class Holder(Protocol):
    """A session in memory, as far as it matters here."""

    live: Live


S = TypeVar("S", bound=Holder)


class Shelf(Generic[S]):
    def __init__(self, kit: Kit, here: Mapping[SessionId, S]) -> None:
        self._kit = kit
        self._here = here
        self.on_share: list[Callable[[], None]] = []
        """Called when a session is for others than a moment ago: what is open is looked at again."""

    async def page(self, who: Principal, cursor: str, limit: int) -> list[SessionRecord]:
        """Those that `who` may see. A page is full while there are more, whatever lies between them."""
        out: list[SessionRecord] = []
        shelf = records.shelf(who.organisation)
        while True:
            found = await self._kit.store.scan("session", owner=shelf, after=cursor, limit=PAGE, newest=True)
            for _, doc in found:
                record = self._current(records.load(doc, SessionRecord))
                if "read" in access.rights(who, record):
                    out.append(record)
                if len(out) == limit:
                    return out
            if len(found) < PAGE:
                return out
            cursor = found[-1][0]

    async def visible(self, session_id: SessionId, who: Principal) -> bool:
        """As `get`, without waking it."""
        here = self._here.get(session_id)
        if here is not None:
            return not here.live.removed and "read" in access.rights(who, here.live.record)
        doc = await self._kit.store.get("session", session_id)
        return doc is not None and "read" in access.rights(who, records.load(doc, SessionRecord))

    def _current(self, record: SessionRecord) -> SessionRecord:
        here = self._here.get(record.id)
        return here.live.record if here else record

    @whole
    async def share(
        self,
        session: Holder,
        *,
        private: bool | None = None,
        account: str = "",
        grant: Grant | None = None,
        who: Who = SERVER,
    ) -> SessionRecord:
        """Who else may see it: `private`, or the grant of an account, which None takes away."""
        live = session.live
        async with live.act():
            changes: dict[str, object] = {} if private is None else {"private": private}
            if account:
                others = {k: v for k, v in live.record.grants.items() if k != account}
                if grant is not None and len(others) >= GRANTS_MAX:
                    raise TooMany(f"{GRANTS_MAX} accounts have a grant in this session already.")
                changes["grants"] = others if grant is None else {**others, account: grant}
            record = live.changed(**changes)
            about: dict[str, Value] = {} if private is None else {"private": private}
            if account:
                about |= {"account": account, "right": grant or ""}
            entry = Entry("session.share", f"session:{record.id}", "ok", about, record.organisation)
            async with self._kit.audit.noting(who, entry) as noted:
                await live.commit([], records.put(record), *noted)
            live.record = record
        for told in list(self.on_share):
            told()
        return record

    # --- start ---

    async def migrate(self) -> None:
        """Sessions that were made before there were organisations go where `page` looks for them."""
        after = ""
        while found := await self._kit.store.scan("session", owner=BEFORE, after=after, limit=500):
            await self._kit.store.commit(*[records.put(records.load(doc, SessionRecord)) for _, doc in found])
            after = found[-1][0]
