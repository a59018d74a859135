"""Webhooks of an organisation: where its events are sent, and the secrets they are signed with.

Address and secrets are sealed together: an address often is a secret too. While a secret is being changed both are
good, so that a receiver has time to change its own.
"""

from __future__ import annotations

import asyncio
import dataclasses
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec
from msgspec import Struct

from pilothouse.core import reach, webhook
from pilothouse.core.access import ORGANISATION
from pilothouse.core.chain import Value
from pilothouse.core.errors import BadRequest, Conflict, NotFound, TooMany, Unavailable
from pilothouse.core.ids import SessionId
from pilothouse.engine import records
from pilothouse.engine.audit import SERVER, Audit, Entry, Who
from pilothouse.engine.couriers import Couriers
from pilothouse.engine.deliveries import DeliveryRecord, Request, Withheld
from pilothouse.engine.members import line
from pilothouse.engine.ports import Clock, Delete, EventStore, Put, SealBroken, Sealer

WEBHOOKS_MAX = 20
"""Of one organisation: each has a lane of its own, with connections of its own."""
GRACE_S = 24 * 3600.0
"""For so long an old secret is still signed with, unless something else is said."""
GRACE_MAX_S = 7 * 24 * 3600.0
DISABLED = "The webhook is disabled."


class Kept(Struct, frozen=True):
    value: str
    until: float | None = None


class Sealed(Struct, frozen=True):
    """What nobody reads in the database."""

    url: str
    secrets: list[Kept]

    def __repr__(self) -> str:
        return "Sealed()"


class WebhookRecord(records.Record, kw_only=True):
    id: str
    organisation: str = ORGANISATION
    name: str
    shown: str
    """The address without what may be secret in it."""
    events: list[str]
    sealed: bytes
    created_at: float
    created_by: str
    disabled: str = ""
    """Why: "by PERSON", or what its receiver answered."""
    wanted_from: dict[str, float] = {}
    """Events that it has not wanted without a break since it was made."""

    def since(self, type: str) -> float:
        return max(self.created_at, self.wanted_from.get(type, 0.0))


@dataclass(frozen=True, slots=True)
class _Webhook:
    record: WebhookRecord
    open: Sealed | None = field(repr=False)
    """None: it cannot be opened."""


class Webhooks:
    """Also a `deliveries.Sender`. All are in memory: each event asks who wants it."""

    def __init__(
        self, store: EventStore, clock: Clock, audit: Audit, sealer: Sealer, private: Sequence[reach.Target] = ()
    ) -> None:
        self._store = store
        self._clock = clock
        self._audit = audit
        self._sealer = sealer
        self._private = tuple(private)
        self._changing = asyncio.Lock()
        self._webhooks: dict[str, _Webhook] = {}
        self.couriers: Couriers | None = None
        """Set by whoever makes both."""

    async def load(self) -> None:
        """Once, before anything is sent."""
        for id, doc in await self._store.scan("webhook", limit=records.EVERY):
            record = records.load(doc, WebhookRecord)
            self._webhooks[id] = _Webhook(record, self._opened(record))

    # --- asked ---

    def all(self, organisation: str) -> list[WebhookRecord]:
        """Newest first."""
        found = [w.record for w in self._webhooks.values() if w.record.organisation == organisation]
        return sorted(found, key=lambda r: r.id, reverse=True)

    def get(self, organisation: str, id: str) -> WebhookRecord:
        """Raises NotFound: also for another organisation's."""
        return self._find(organisation, id).record

    def enabled(self, organisation: str, id: str) -> WebhookRecord:
        """One that something can be sent to. Raises NotFound, Conflict when it is disabled."""
        record = self.get(organisation, id)
        if record.disabled:
            raise Conflict(f"The webhook is disabled ({record.disabled}); enable it first.")
        return record

    def wanting(self, organisation: str, type: str, at: float) -> list[WebhookRecord]:
        """Those to whom an event is promised."""
        return [r for r in self.all(organisation) if type in r.events and not r.disabled and at >= r.since(type)]

    def since(self, organisation: str) -> float | None:
        """From when on somebody wants events."""
        wanting = [r for r in self.all(organisation) if not r.disabled]
        return min((r.since(type) for r in wanting for type in r.events), default=None)

    # --- changed by admins ---

    async def create(
        self, organisation: str, *, name: str, url: str, events: Sequence[str], who: Who = SERVER
    ) -> tuple[WebhookRecord, str]:
        """A new one, and the only showing of its secret. Raises BadRequest, TooMany, Unavailable."""
        name, url, wanted = line(name), webhook.check_url(url, self._private), webhook.check_events(events)
        async with self._changing:
            if len(self.all(organisation)) >= WEBHOOKS_MAX:
                raise TooMany(f"Your organisation has {WEBHOOKS_MAX} webhooks already; remove some.")
            id, secret = records.new_id(), webhook.secret(secrets.token_bytes(webhook.KEY_BYTES))
            open = Sealed(url=url, secrets=[Kept(secret)])
            by = who.principal.label if who.principal else "server"
            record = WebhookRecord(
                id=id, organisation=organisation, name=name, shown=webhook.shown(url), events=wanted,
                sealed=self._seal(id, open), created_at=self._clock.now(), created_by=by,
            )  # fmt: skip
            await self._put(_Webhook(record, open), who, "webhook.create")
        return record, secret

    async def change(
        self,
        organisation: str,
        id: str,
        *,
        name: str | None = None,
        url: str | None = None,
        events: Sequence[str] | None = None,
        enabled: bool | None = None,
        who: Who = SERVER,
    ) -> WebhookRecord:
        """What happened while it was disabled, or did not want it, it is not told. Raises BadRequest, NotFound,
        Unavailable."""
        async with self._changing:
            found = self._find(organisation, id)
            record, open = found.record, found.open
            changes: dict[str, object] = {}
            if name is not None:
                changes["name"] = line(name)
            if events is not None:
                changes["events"] = webhook.check_events(events)
            if url is not None:
                url = webhook.check_url(url, self._private)
                open = Sealed(url=url, secrets=self._readable(found).secrets)
                changes |= {"shown": webhook.shown(url), "sealed": self._seal(id, open)}
            if enabled is not None:
                by = who.principal.label if who.principal else "server"
                changes["disabled"] = "" if enabled else record.disabled or f"by {by}"
            changes["wanted_from"] = webhook.wanted_from(
                record.events if events is None else webhook.check_events(events), record.events, record.wanted_from,
                again=bool(enabled and record.disabled), now=self._clock.now(),
            )  # fmt: skip
            changed = _Webhook(records.copy(record, **changes), open)
            await self._put(changed, who, "webhook.change")
            return changed.record

    async def rotate(self, organisation: str, id: str, grace_s: float, who: Who = SERVER) -> str:
        """A new secret, shown once; the one before is signed with as well for `grace_s`. Raises BadRequest,
        NotFound, Unavailable."""
        if not 0 <= grace_s <= GRACE_MAX_S:
            raise BadRequest(f"graceS: from 0 to {GRACE_MAX_S:.0f}")
        async with self._changing:
            found = self._find(organisation, id)
            before, now = self._readable(found), self._clock.now()
            secret = webhook.secret(secrets.token_bytes(webhook.KEY_BYTES))
            # One before that: whoever rotates twice in a hurry means the first one to be over.
            old = [Kept(before.secrets[0].value, now + grace_s)] if grace_s else []
            open = Sealed(url=before.url, secrets=[Kept(secret), *old])
            record = records.copy(found.record, sealed=self._seal(id, open))
            await self._put(_Webhook(record, open), who, "webhook.rotate")
            return secret

    async def remove(self, organisation: str, id: str, who: Who = SERVER) -> None:
        """With all its deliveries. Raises NotFound, Unavailable."""
        async with self._changing:
            record = self._find(organisation, id).record
            await self._audit.commit(who, [_entry("webhook.remove", record)], Delete("webhook", id))
            del self._webhooks[id]
        if self.couriers is not None:
            self.couriers.drop(id)
            await self.couriers.deliveries.forget(id)

    async def ping(self, organisation: str, id: str) -> DeliveryRecord:
        """A delivery that says nothing. Raises NotFound, Conflict when it is disabled."""
        record = self.enabled(organisation, id)
        assert self.couriers is not None
        now = self._clock.now()
        made = self.delivery(record, webhook.Ping(webhook_id=id, name=record.name), now, "", secrets.randbits(53))
        await self._store.commit(*await self.couriers.promise([made]))
        self.couriers.accepted([made])
        return made

    def delivery(self, record: WebhookRecord, data: webhook.Data, at: float, session: str, seq: int) -> DeliveryRecord:
        type = webhook.TYPES[data.__class__]
        return DeliveryRecord(
            id=webhook.message_id(record.id, session, seq, type, at),
            target=record.id,
            kind="webhook",
            type=type,
            session_id=SessionId(session) if session else None,
            body=webhook.body(data, records.stamp(at)).decode(),
            created_at=at,
        )

    # --- as a sender ---

    async def request(self, delivery: DeliveryRecord) -> Request | Withheld:
        found = self._webhooks.get(delivery.target)
        if found is None or found.record.disabled:
            return Withheld(DISABLED, dead=True)
        open, now = self._readable(found), self._clock.now()
        good = [kept.value for kept in open.secrets if kept.until is None or kept.until > now]
        body = delivery.body.encode()
        return Request(open.url, webhook.headers(good, delivery.id, int(now), body), body)

    async def gone(self, delivery: DeliveryRecord, status: int) -> None:
        """410: it shall not be asked again. A 404 may be a mistake that is mended."""
        if status != 410:
            return
        async with self._changing:
            found = self._webhooks.get(delivery.target)
            if found is None or found.record.disabled:
                return
            record = records.copy(found.record, disabled="its receiver answered 410 (gone)")
            await self._put(_Webhook(record, found.open), SERVER, "webhook.disable")

    def patience(self, status: int | None) -> bool:
        return status != 410

    # ---

    def _find(self, organisation: str, id: str) -> _Webhook:
        found = self._webhooks.get(id)
        if found is None or found.record.organisation != organisation:
            raise NotFound
        return found

    async def _put(self, changed: _Webhook, who: Who, action: str) -> None:
        record = changed.record
        put = Put("webhook", record.id, msgspec.json.encode(record), records.shelf(record.organisation))
        org = record.organisation
        await self._audit.commit(dataclasses.replace(who, org=org), [_entry(action, record)], put)
        self._webhooks[record.id] = changed

    def _seal(self, id: str, open: Sealed) -> bytes:
        try:
            return self._sealer.seal(msgspec.json.encode(open), f"webhook:{id}")
        except SealBroken as error:
            raise Unavailable(f"No webhook can be kept: {error}") from None

    def _opened(self, record: WebhookRecord) -> Sealed | None:
        try:
            return msgspec.json.decode(self._sealer.unseal(record.sealed, f"webhook:{record.id}"), type=Sealed)
        except (SealBroken, msgspec.MsgspecError):
            return None

    def _readable(self, found: _Webhook) -> Sealed:
        """Raises Unavailable."""
        if found.open is None:
            raise Unavailable(
                "The webhook's secret cannot be read: bring back the key file that sealed it and start the server "
                "again, or remove the webhook."
            )
        return found.open


def _entry(action: str, record: WebhookRecord) -> Entry:
    """For the audit: never the whole address."""
    details: dict[str, Value] = {
        "name": record.name,
        "events": list(record.events),
        "to": webhook.origin(record.shown),
        "disabled": record.disabled,
    }
    return Entry(action, f"webhook:{record.id}", details=details, organisation=record.organisation)
