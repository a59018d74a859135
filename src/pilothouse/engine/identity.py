"""Keys, sign-in tickets and cookies. Only hashes are kept; the secrets are 256 random bits, so one SHA-256 is enough.

key     `ph_` + id (12 hex digits) + `_` + 43 characters; shown once
ticket  43 characters in the fragment of the sign-in link; used once, within TICKET_S
cookie  43 characters; valid COOKIE_S, ended by sign-out
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

from pilothouse.core.access import Principal, Scope
from pilothouse.core.bucket import Rates
from pilothouse.core.errors import BadRequest, NotFound, Unauthenticated, Unavailable
from pilothouse.engine.audit import SERVER, Audit, Entry, Who
from pilothouse.engine.ports import Clock, Delete, EventStore, Op, Put, StoreFailed

TICKET_S = 600.0
COOKIE_S = 30 * 86_400.0
ACCOUNT = "local"
"""The one account there is: whoever has the printed link, or a key made by it."""
KEYS_MAX = 1000
SWEEP_MAX = 1000
"""Tickets and sign-ins looked at in one go: old ones are removed when a ticket is made."""
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
    created_at: float
    last_used_at: float | None = None
    rates: Rates | None = None
    """How often it may, where that is not as configured."""


class Timed(Struct, kw_only=True, rename="camel"):
    """A ticket or a cookie."""

    account: str
    expires_at: float


class Identity:
    def __init__(self, store: EventStore, clock: Clock, audit: Audit | None = None) -> None:
        self._store = store
        self._audit = audit or Audit(store, clock)
        self._clock = clock
        self._redeeming = asyncio.Lock()
        self._changing = asyncio.Lock()
        """Held while a credential goes from store to memory or ends: else one that ends at that moment came back."""
        self._keys: dict[str, KeyRecord] = {}
        self._cookies: dict[str, Timed] = {}
        self.on_revoke: list[Callable[[str], None]] = []
        """Called with the credential that is no longer good."""

    # --- keys ---

    async def create(
        self, name: str, scopes: tuple[Scope, ...], who: Who = SERVER, rates: Rates | None = None
    ) -> tuple[KeyRecord, str]:
        """A new key and its only showing."""
        if not _NAME.match(name):
            raise BadRequest("name: one line of 1 to 100 characters")
        if len(await self.keys()) >= KEYS_MAX:
            raise BadRequest(f"There are {KEYS_MAX} keys already; revoke some.")
        secret = secrets.token_urlsafe(32)
        record = KeyRecord(
            id=secrets.token_hex(6),
            name=name,
            scopes=list(scopes),
            hash=_hash(secret),
            created_at=self._clock.now(),
            rates=rates,
        )
        entry = Entry("key.create", f"key:{record.id}", details={"name": name, "scopes": list(scopes)})
        await self._audit.commit(who, [entry], Put("key", record.id, msgspec.json.encode(record)))
        self._keys[record.id] = record
        return record, f"ph_{record.id}_{secret}"

    async def keys(self) -> list[KeyRecord]:
        found = await self._store.scan("key", limit=KEYS_MAX)
        return sorted((msgspec.json.decode(doc, type=KeyRecord) for _, doc in found), key=lambda k: -k.created_at)

    async def revoke(self, key_id: str, who: Who = SERVER) -> None:
        async with self._changing:
            doc = await self._store.get("key", key_id)
            if doc is None:
                raise NotFound
            name = msgspec.json.decode(doc, type=KeyRecord).name
            entry = Entry("key.revoke", f"key:{key_id}", details={"name": name})
            await self._audit.commit(who, [entry], Delete("key", key_id))
            self._keys.pop(key_id, None)
        self._ended(f"key:{key_id}")

    async def by_key(self, text: str) -> Principal:
        """Raises Unauthenticated."""
        match = _KEY.match(text)
        if match is None:
            raise Unauthenticated("That is no key of this server.")
        record = self._keys.get(match[1]) or await self._read_key(match[1])
        if record is None or not hmac.compare_digest(record.hash, _hash(match[2])):
            raise Unauthenticated("That is no key of this server.")
        await self._used(record)
        if record.id not in self._keys:
            raise Unauthenticated("That key was revoked at this moment.")
        return Principal(
            "key",
            record.id,
            record.name,
            record.account,
            frozenset(record.scopes),
            credential=f"key:{record.id}",
            rates=record.rates,
        )

    async def _read_key(self, key_id: str) -> KeyRecord | None:
        async with self._changing:
            doc = await self._store.get("key", key_id)
            if doc is None:
                return None
            return self._keys.setdefault(key_id, msgspec.json.decode(doc, type=KeyRecord))

    async def _used(self, record: KeyRecord) -> None:
        now = self._clock.now()
        if record.last_used_at is not None and now - record.last_used_at <= USED_EVERY_S:
            return
        record.last_used_at = now
        async with self._changing:
            if record.id not in self._keys:
                return  # revoked meanwhile: writing it down would bring it back
            try:
                await self._store.commit(Put("key", record.id, msgspec.json.encode(record)))
            except StoreFailed:
                return  # a full disk must not lock people out

    # --- people ---

    async def ticket(self, who: Who = SERVER) -> tuple[str, float]:
        """A sign-in ticket and when it ends."""
        await self._sweep()
        text = secrets.token_urlsafe(32)
        until = self._clock.now() + TICKET_S
        doc = msgspec.json.encode(Timed(account=ACCOUNT, expires_at=until))
        await self._audit.commit(who, [Entry("ticket.create")], Put("ticket", _hash(text), doc))
        return text, until

    async def _sweep(self) -> None:
        """Tickets and sign-ins whose time is over."""
        now = self._clock.now()
        for kind in ("ticket", "signin"):
            for name, doc in await self._store.scan(kind, limit=SWEEP_MAX):
                if msgspec.json.decode(doc, type=Timed).expires_at < now:
                    await self._commit(Delete(kind, name))
                    self._cookies.pop(name, None)

    async def redeem(self, ticket: str, address: str = "") -> str:
        """A cookie for a ticket, which is used up. Raises Unauthenticated."""
        async with self._redeeming:
            doc = await self._store.get("ticket", _hash(ticket))
            if doc is None:
                raise Unauthenticated("The sign-in link is unknown or was used already; make another.")
            found = msgspec.json.decode(doc, type=Timed)
            if found.expires_at < self._clock.now():
                await self._commit(Delete("ticket", _hash(ticket)))
                raise Unauthenticated("The sign-in link is too old; make another.")
            cookie = secrets.token_urlsafe(32)
            entry = Timed(account=found.account, expires_at=self._clock.now() + COOKIE_S)
            digest = _hash(cookie)
            await self._audit.commit(
                Who(_person(entry, digest), address),
                [Entry("signin", details={"by": "ticket"})],
                Delete("ticket", _hash(ticket)),
                Put("signin", digest, msgspec.json.encode(entry)),
            )
            self._cookies[digest] = entry
            return cookie

    async def by_cookie(self, cookie: str) -> Principal:
        """Raises Unauthenticated."""
        digest = _hash(cookie)
        entry = self._cookies.get(digest)
        if entry is None and len(cookie) == 43:
            async with self._changing:
                doc = await self._store.get("signin", digest)
                if doc is not None:
                    entry = self._cookies[digest] = msgspec.json.decode(doc, type=Timed)
        if entry is None:
            raise Unauthenticated
        if entry.expires_at < self._clock.now():
            raise Unauthenticated("The sign-in has ended; sign in again.")
        return _person(entry, digest)

    async def sign_out(self, cookie: str, who: Who = SERVER) -> None:
        digest = _hash(cookie)
        async with self._changing:
            await self._audit.commit(who, [Entry("signout")], Delete("signin", digest))
            self._cookies.pop(digest, None)
        self._ended(f"signin:{digest}")

    @staticmethod
    def csrf(cookie: str) -> str:
        """What a page must send with every change: only one that could read `/api/me` has it."""
        return hashlib.sha256(b"csrf:" + cookie.encode()).hexdigest()

    def left(self, principal: Principal) -> float | None:
        """Seconds that an open socket's credential still stands; 0 when it does not, None when it has no end."""
        kind, _, name = principal.credential.partition(":")
        if kind == "key":
            return None if name in self._keys else 0.0
        entry = self._cookies.get(name)
        return max(entry.expires_at - self._clock.now(), 0.0) if entry is not None else 0.0

    def _ended(self, credential: str) -> None:
        for told in list(self.on_revoke):
            told(credential)

    async def _commit(self, *ops: Op) -> None:
        try:
            await self._store.commit(*ops)
        except StoreFailed as error:
            raise Unavailable("The store cannot write; nothing was changed.") from error


def _person(entry: Timed, digest: str) -> Principal:
    every: tuple[Scope, ...] = ("read", "run", "approve", "admin")
    return Principal("person", entry.account, entry.account, entry.account, frozenset(every), f"signin:{digest}")


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()
