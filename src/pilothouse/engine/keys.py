"""API keys. Only their hashes are kept; the secret is 256 random bits, so one SHA-256 is enough.

key     `ph_` + id (12 hex digits) + `_` + 43 characters; shown once
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
import secrets
from collections.abc import Callable

import msgspec
from msgspec import Struct

from pilothouse.core.access import ORGANISATION, Principal, Scope
from pilothouse.core.bucket import Rates
from pilothouse.core.chain import Value
from pilothouse.core.errors import BadRequest, NotFound, Unauthenticated
from pilothouse.engine import records
from pilothouse.engine.audit import SERVER, Audit, Entry, Who
from pilothouse.engine.members import ACCOUNT, Members
from pilothouse.engine.ports import Clock, Delete, EventStore, Put, StoreFailed

KEYS_MAX = 1000
"""Of one organisation: none uses up another's."""
USED_EVERY_S = 60.0
"""`lastUsedAt` is written at most this often per key."""
_KEY = re.compile(r"ph_([0-9a-f]{12})_([A-Za-z0-9_-]{43})\Z")
_NAME = re.compile(r"[^\x00-\x1f\x7f]{1,100}\Z")


class KeyRecord(Struct, kw_only=True, omit_defaults=True, rename="camel"):
    id: str
    name: str
    scopes: list[Scope]
    hash: str
    account: str = ACCOUNT
    organisation: str = ORGANISATION
    created_at: float
    last_used_at: float | None = None
    rates: Rates | None = None
    """How often it may, where that is not as configured."""


class Keys:
    def __init__(
        self, store: EventStore, clock: Clock, audit: Audit, members: Members, ended: Callable[[str], None]
    ) -> None:
        """`ended` is told the credential that is no longer good."""
        self._store = store
        self._clock = clock
        self._audit = audit
        self._members = members
        self._ended = ended
        self._changing = asyncio.Lock()
        """Held while one goes from store to memory or ends: else one that ends at that moment came back."""
        self._known: dict[str, KeyRecord] = {}
        self._principals: dict[str, Principal] = {}
        members.on_leave.append(self._leave)

    async def create(
        self,
        name: str,
        scopes: tuple[Scope, ...],
        who: Who = SERVER,
        rates: Rates | None = None,
        *,
        account: str = ACCOUNT,
        organisation: str = ORGANISATION,
    ) -> tuple[KeyRecord, str]:
        """A new key of a member, and its only showing. Raises NotFound when there is no such member."""
        self._members.find(organisation, account)
        if not _NAME.match(name):
            raise BadRequest("name: one line of 1 to 100 characters")
        if len(await self.all(organisation)) >= KEYS_MAX:
            raise BadRequest(f"Your organisation has {KEYS_MAX} keys already; revoke some.")
        secret = secrets.token_urlsafe(32)
        record = KeyRecord(
            id=secrets.token_hex(6), name=name, scopes=list(scopes), hash=_hash(secret), account=account,
            organisation=organisation, created_at=self._clock.now(), rates=rates,
        )  # fmt: skip
        about: dict[str, Value] = {"name": name, "scopes": list(scopes), "account": account}
        entry = Entry("key.create", f"key:{record.id}", details=about, organisation=organisation)
        async with self._members.staying(organisation, account):
            await self._audit.commit(who, [entry], Put("key", record.id, msgspec.json.encode(record)))
            self._known[record.id] = record
        return record, f"ph_{record.id}_{secret}"

    async def all(self, organisation: str | None = None) -> list[KeyRecord]:
        """Of one organisation, or all."""
        found = [msgspec.json.decode(d, type=KeyRecord) for _, d in await self._store.scan("key", limit=records.EVERY)]
        mine = [k for k in found if organisation in {None, k.organisation}]
        return sorted(mine, key=lambda k: -k.created_at)

    async def revoke(self, key_id: str, organisation: str | None = None, who: Who = SERVER) -> None:
        """Raises NotFound: also for one of another organisation than the one named."""
        async with self._changing:
            doc = await self._store.get("key", key_id)
            found = None if doc is None else msgspec.json.decode(doc, type=KeyRecord)
            if found is None or organisation not in {None, found.organisation}:
                raise NotFound
            about: dict[str, Value] = {"name": found.name, "account": found.account}
            entry = Entry("key.revoke", f"key:{key_id}", details=about, organisation=found.organisation)
            await self._audit.commit(who, [entry], Delete("key", key_id))
            self._known.pop(key_id, None)
            self._principals.pop(key_id, None)
        self._ended(f"key:{key_id}")

    async def by_secret(self, text: str) -> Principal:
        """Raises Unauthenticated."""
        match = _KEY.match(text)
        if match is None:
            raise Unauthenticated("That is no key of this server.")
        record = self._known.get(match[1]) or await self._read(match[1])
        if record is None or not hmac.compare_digest(record.hash, _hash(match[2])):
            raise Unauthenticated("That is no key of this server.")
        await self._used(record)
        if record.id not in self._known:
            raise Unauthenticated("That key was revoked at this moment.")
        return self._principal(record)

    def at_hand(self, text: str) -> Principal | None:
        """Whose it is, where it is known and its use need not be written down; else `by_secret` says."""
        match = _KEY.match(text)
        record = None if match is None else self._known.get(match[1])
        if match is None or record is None or not hmac.compare_digest(record.hash, _hash(match[2])):
            return None
        return None if self._is_due(record, self._clock.now()) else self._principal(record)

    def _principal(self, record: KeyRecord) -> Principal:
        """Made once: of a record nothing of it changes."""
        found = self._principals.get(record.id)
        if found is None:
            scopes = frozenset(record.scopes)
            found = self._principals[record.id] = Principal(
                "key",
                record.id,
                record.name,
                record.account,
                scopes,
                credential=f"key:{record.id}",
                organisation=record.organisation,
                most=scopes,
                rates=record.rates,
            )
        return found

    def good(self, key_id: str) -> bool:
        """Of one that has been shown since the server started: whether it still stands."""
        return key_id in self._known

    async def _leave(self, organisation: str, account: str, who: Who) -> None:
        """Ends every key of a member."""
        for key in await self.all(organisation):
            if key.account == account:
                await self.revoke(key.id, who=who)

    async def _read(self, key_id: str) -> KeyRecord | None:
        async with self._changing:
            doc = await self._store.get("key", key_id)
            if doc is None:
                return None
            return self._known.setdefault(key_id, msgspec.json.decode(doc, type=KeyRecord))

    @staticmethod
    def _is_due(record: KeyRecord, now: float) -> bool:
        """Whether its use is to be written down."""
        return record.last_used_at is None or now - record.last_used_at > USED_EVERY_S

    async def _used(self, record: KeyRecord) -> None:
        now = self._clock.now()
        if not self._is_due(record, now):
            return
        record.last_used_at = now
        async with self._changing:
            if record.id not in self._known:
                return  # revoked meanwhile: writing it down would bring it back
            try:
                await self._store.commit(Put("key", record.id, msgspec.json.encode(record)))
            except StoreFailed:
                return  # a full disk must not lock people out


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()
