"""Who is told of what when they are not looking: a person's browsers (web push) and Slack-compatible webhooks.

A notifier belongs to an account. A browser's belongs to the sign-in too, and ends with it: the next person at the same
browser is not told what was meant for another.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from pilothouse.core import notice, reach, webhook
from pilothouse.core.access import Principal
from pilothouse.core.chain import Value
from pilothouse.core.errors import BadRequest, Conflict, NotFound, TooMany, Unavailable
from pilothouse.engine import records
from pilothouse.engine.audit import SERVER, Entry, Who
from pilothouse.engine.identity import Identity
from pilothouse.engine.notifier import Keys, NotifierRecord, Sealed, Wish
from pilothouse.engine.ports import Clock, Delete, EventStore, Put, SealBroken, Sealer, StoreFailed
from pilothouse.engine.vapid import Push

OWN_MAX = 20
"""Of one account."""


@dataclass(frozen=True, slots=True)
class Notifier:
    record: NotifierRecord
    open: Sealed | None = field(repr=False)


class Notifiers:
    """All are in memory: each event asks who wants it."""

    def __init__(
        self,
        store: EventStore,
        clock: Clock,
        identity: Identity,
        sealer: Sealer,
        push: Push,
        private: Sequence[reach.Target] = (),
    ) -> None:
        self._store = store
        self._clock = clock
        self._audit = identity.audit
        self._members = identity.members
        self._sealer = sealer
        self._push = push
        self._private = tuple(private)
        self._changing = asyncio.Lock()
        self.here: dict[str, Notifier] = {}
        """By id; for who tells them."""
        self._ending: set[asyncio.Task[None]] = set()
        self.on_end: list[Callable[[str], Awaitable[None]]] = []
        """Called with the id of one that is no more."""
        identity.members.on_leave.append(self._leave)
        identity.on_revoke.append(self._revoked)

    async def load(self) -> None:
        """Once, before anything is sent."""
        for id, doc in await self._store.scan("notifier", limit=records.EVERY):
            record = records.load(doc, NotifierRecord)
            self.here[id] = Notifier(record, self._opened(record))

    # --- a person's own ---

    def of(self, who: Principal) -> list[NotifierRecord]:
        """Newest first."""
        return self._of(who.organisation, who.account)

    def get(self, who: Principal, id: str) -> NotifierRecord:
        """Raises NotFound: also for somebody else's."""
        found = self.here.get(id)
        if found is None or (found.record.organisation, found.record.account) != (who.organisation, who.account):
            raise NotFound
        return found.record

    async def subscribe(self, who: Who, url: str, keys: Keys, wish: Wish, usual: str = "Browser") -> NotifierRecord:
        """A browser that somebody is signed in with, called `usual` where nobody names it. The same browser again
        changes what it is told. Raises BadRequest, Conflict, TooMany, Unavailable."""
        principal = who.principal
        assert principal is not None
        kind, _, sign_in = principal.credential.partition(":")
        if kind != "signin":
            raise Conflict("A browser subscribes for the person who is signed in with it.")
        url = webhook.check_url(url, self._private)
        try:
            self._push.check(keys.p256dh, keys.auth)
        except ValueError as error:
            raise BadRequest(f"keys: {error}") from None
        same = [n.record for n in self.here.values() if n.open == Sealed(url=url, keys=keys)]
        for record in same:  # whoever used this browser before is not told here any more
            await self.end(record, who)
        before = next((r for r in same if r.account == principal.account), None)
        return await self._make(who, "push", Sealed(url=url, keys=keys), wish, usual, sign_in=sign_in, before=before)

    async def slack(self, who: Who, url: str, wish: Wish) -> NotifierRecord:
        """Raises BadRequest, TooMany, Unavailable."""
        return await self._make(who, "slack", Sealed(url=webhook.check_url(url, self._private)), wish, "Slack")

    async def change(self, who: Who, id: str, wish: Wish, enabled: bool | None) -> NotifierRecord:
        """What happened while it was off, or not wanted, is not told. Raises BadRequest, NotFound, Unavailable."""
        assert who.principal is not None
        changes = wish.changes()
        async with self._changing:
            record = self.get(who.principal, id)
            if enabled is not None:
                changes["disabled"] = "" if enabled else record.disabled or "switched off"
            changed = records.copy(record, **changes)
            # Of more sessions than before nobody can say which are new: all begins anew.
            again = (record.disabled and not changed.disabled) or (record.sessions, changed.sessions) == ("own", "all")
            changed.wanted_from = webhook.wanted_from(
                changed.events, record.events, record.wanted_from, again=bool(again), now=self._clock.now()
            )
            await self._keep(changed, who, "notifier.change")
            self.here[id] = Notifier(changed, self.here[id].open)
        return changed

    async def disable(self, record: NotifierRecord, why: str) -> None:
        """By the server: its receiver is gone."""
        async with self._changing:
            found = self.here.get(record.id)
            if found is not None and not found.record.disabled:
                changed = records.copy(found.record, disabled=why)
                await self._keep(changed, SERVER, "notifier.disable")
                self.here[changed.id] = Notifier(changed, found.open)

    async def remove(self, who: Who, id: str) -> None:
        """Raises NotFound, Unavailable."""
        assert who.principal is not None
        await self.end(self.get(who.principal, id), who)

    # ---

    def _of(self, organisation: str, account: str) -> list[NotifierRecord]:
        found = [n.record for n in self.here.values()]
        mine = [r for r in found if (r.organisation, r.account) == (organisation, account)]
        return sorted(mine, key=lambda r: r.id, reverse=True)

    async def _make(
        self,
        who: Who,
        kind: Literal["push", "slack"],
        open: Sealed,
        wish: Wish,
        name: str,
        *,
        sign_in: str = "",
        before: NotifierRecord | None = None,
    ) -> NotifierRecord:
        principal = who.principal
        assert principal is not None
        usual: dict[str, object] = {
            "name": name,
            "events": list(notice.NEEDS),
            "sessions": "own",
        }
        if before is not None:
            usual = {"name": before.name, "events": before.events, "sessions": before.sessions}
        chosen = usual | wish.changes()
        async with self._members.staying(principal.organisation, principal.account), self._changing:
            if len(self.of(principal)) >= OWN_MAX:
                raise TooMany(f"You have {OWN_MAX} already; remove some.")
            id = records.new_id()
            record = NotifierRecord(
                id=id, organisation=principal.organisation, account=principal.account, kind=kind,
                shown=webhook.origin(open.url), sealed=self._seal(f"notifier:{id}", msgspec.json.encode(open)),
                created_at=self._clock.now(), sign_in=sign_in, **chosen,  # type: ignore[arg-type]
            )  # fmt: skip
            await self._keep(record, who, "notifier.create")
            self.here[id] = Notifier(record, open)
        return record

    async def _keep(self, record: NotifierRecord, who: Who, action: str) -> None:
        put = Put("notifier", record.id, msgspec.json.encode(record), records.shelf(record.organisation))
        await self._audit.commit(who, [_entry(action, record)], put)

    async def end(self, record: NotifierRecord, who: Who = SERVER) -> None:
        """Harmless when it has ended. Raises Unavailable."""
        async with self._changing:
            if record.id not in self.here:
                return
            await self._audit.commit(who, [_entry("notifier.remove", record)], Delete("notifier", record.id))
            del self.here[record.id]
        for call in self.on_end:
            await call(record.id)

    async def _leave(self, organisation: str, account: str, who: Who) -> None:
        for record in self._of(organisation, account):
            await self.end(record, who)

    def _revoked(self, credential: str) -> None:
        kind, _, name = credential.partition(":")
        ended = [n.record for n in self.here.values() if kind == "signin" and n.record.sign_in == name]
        for record in ended:
            task = asyncio.get_running_loop().create_task(self._end_quietly(record), name="notifier")
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)

    async def _end_quietly(self, record: NotifierRecord) -> None:
        with contextlib.suppress(Unavailable, StoreFailed):  # it is asked again before anything is sent
            await self.end(record)

    def _seal(self, about: str, secret: bytes) -> bytes:
        try:
            return self._sealer.seal(secret, about)
        except SealBroken as error:
            raise Unavailable(f"Nothing can be sealed: {error}") from None

    def _opened(self, record: NotifierRecord) -> Sealed | None:
        try:
            return msgspec.json.decode(self._sealer.unseal(record.sealed, f"notifier:{record.id}"), type=Sealed)
        except (SealBroken, msgspec.MsgspecError):
            return None


def _entry(action: str, record: NotifierRecord) -> Entry:
    details: dict[str, Value] = {
        "kind": record.kind,
        "account": record.account,
        "to": record.shown,
        "events": list(record.events),
        "sessions": record.sessions,
    }
    return Entry(action, f"notifier:{record.id}", details=details, organisation=record.organisation)
