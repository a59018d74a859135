"""Keys, sign-in tickets and cookies. Only hashes are kept; the secrets are 256 random bits, so one SHA-256 is enough.

key     `ph_` + id (12 hex digits) + `_` + 43 characters; shown once
ticket  43 characters in the fragment of the sign-in link; used once, within TICKET_S
cookie  43 characters; valid COOKIE_S, or as long as its issuer's sign-ins are; ended by sign-out
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
from pilothouse.core.errors import BadRequest, NotFound, Unauthenticated, Unavailable
from pilothouse.engine import signins
from pilothouse.engine.links import Links
from pilothouse.engine.members import ACCOUNT, Members
from pilothouse.engine.ports import Clock, Delete, EventStore, Op, Put, StoreFailed
from pilothouse.engine.signins import SignIn, Visit

TICKET_S = 600.0
COOKIE_S = 30 * 86_400.0
KEYS_MAX = 1000
SWEEP_MAX = 1000
"""Tickets and sign-ins looked at at a time: old ones are removed when a ticket is made."""
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


class Timed(Struct, kw_only=True, rename="camel"):
    """A ticket, and what a sign-in has of it."""

    account: str
    organisation: str = ORGANISATION
    expires_at: float


class Identity:
    def __init__(self, store: EventStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self.members = Members(store, clock)
        self.links = Links(store, clock)
        self._redeeming = asyncio.Lock()
        self._changing = asyncio.Lock()
        """Held while a credential goes from store to memory or ends: else one that ends at that moment came back."""
        self._keys: dict[str, KeyRecord] = {}
        self._cookies: dict[str, SignIn] = {}
        self.on_revoke: list[Callable[[str], None]] = []
        """Called with the credential that is no longer good."""
        self.links.on_revoke = self._ended
        self.members.on_leave += [self._leave, self.links.leave]

    async def load(self) -> None:
        """Once, before anybody is served."""
        await self.members.load()

    # --- keys ---

    async def create(
        self, name: str, scopes: tuple[Scope, ...], *, account: str = ACCOUNT, organisation: str = ORGANISATION
    ) -> tuple[KeyRecord, str]:
        """A new key of a member, and its only showing. Raises NotFound when there is no such member."""
        self.members.find(organisation, account)
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
            account=account,
            organisation=organisation,
            created_at=self._clock.now(),
        )
        await self._commit(Put("key", record.id, msgspec.json.encode(record)))
        self._keys[record.id] = record
        return record, f"ph_{record.id}_{secret}"

    async def keys(self, organisation: str | None = None) -> list[KeyRecord]:
        """Of one organisation, or all."""
        found = [msgspec.json.decode(d, type=KeyRecord) for _, d in await self._store.scan("key", limit=KEYS_MAX)]
        mine = [k for k in found if organisation in {None, k.organisation}]
        return sorted(mine, key=lambda k: -k.created_at)

    async def revoke(self, key_id: str, organisation: str | None = None) -> None:
        """Raises NotFound: also for one of another organisation than the one named."""
        async with self._changing:
            doc = await self._store.get("key", key_id)
            if doc is None or organisation not in {None, msgspec.json.decode(doc, type=KeyRecord).organisation}:
                raise NotFound
            await self._commit(Delete("key", key_id))
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
            organisation=record.organisation,
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

    async def ticket(self, account: str = ACCOUNT, organisation: str = ORGANISATION) -> tuple[str, float]:
        """A sign-in ticket for a member, and when it ends. Raises NotFound when there is no such member."""
        self.members.find(organisation, account)
        await self._sweep()
        text = secrets.token_urlsafe(32)
        entry = Timed(account=account, organisation=organisation, expires_at=self._clock.now() + TICKET_S)
        await self._commit(Put("ticket", _hash(text), msgspec.json.encode(entry)))
        return text, entry.expires_at

    async def _sweep(self) -> None:
        """Tickets and sign-ins whose time is over."""
        now = self._clock.now()
        for kind in ("ticket", "signin"):
            after = ""
            while rows := await self._store.scan(kind, after=after, limit=SWEEP_MAX):
                for after, doc in rows:
                    if msgspec.json.decode(doc, type=Timed).expires_at < now:
                        await self._commit(Delete(kind, after))
                        self._cookies.pop(after, None)

    async def redeem(self, ticket: str, visit: Visit | None = None) -> str:
        """A cookie for a ticket, which is used up. Raises Unauthenticated."""
        async with self._redeeming:
            doc = await self._store.get("ticket", _hash(ticket))
            if doc is None:
                raise Unauthenticated("The sign-in link is unknown or was used already; make another.")
            found = msgspec.json.decode(doc, type=Timed)
            if found.expires_at < self._clock.now():
                await self._commit(Delete("ticket", _hash(ticket)))
                raise Unauthenticated("The sign-in link is too old; make another.")
            visit = visit or Visit()
            entry = SignIn(
                account=found.account,
                organisation=found.organisation,
                expires_at=self._clock.now() + COOKIE_S,
                address=visit.address,
                agent=visit.agent,
            )
            return await self.adopt(entry, Delete("ticket", _hash(ticket)))

    async def adopt(self, entry: SignIn, *also: Op) -> str:
        """A cookie for somebody who has proven who it is; `also` happens with it or not at all."""
        await self._sweep()
        await self._make_room(entry)
        cookie = secrets.token_urlsafe(32)
        entry.created_at = entry.last_seen_at = self._clock.now()
        await self._commit(*also, _put(_hash(cookie), entry))
        self._cookies[_hash(cookie)] = entry
        return cookie

    async def _make_room(self, entry: SignIn) -> None:
        whose = (entry.account, entry.organisation)
        every = signins.every(self._store)
        own = [(one.created_at, digest) async for digest, one in every if (one.account, one.organisation) == whose]
        for _, digest in sorted(own)[: max(len(own) - signins.OWN_MAX + 1, 0)]:
            await self.end(digest)

    async def by_cookie(self, cookie: str) -> Principal:
        """Raises Unauthenticated."""
        digest = _hash(cookie)
        entry = self._cookies.get(digest)
        if entry is None and len(cookie) == 43:
            async with self._changing:
                doc = await self._store.get("signin", digest)
                if doc is not None:
                    entry = self._cookies[digest] = msgspec.json.decode(doc, type=SignIn)
        if entry is None:
            raise Unauthenticated
        if entry.expires_at < self._clock.now():
            raise Unauthenticated("The sign-in has ended; sign in again.")
        await self._seen(digest, entry)
        if digest not in self._cookies:
            raise Unauthenticated("The sign-in was ended at this moment.")
        return signins.principal(digest, entry, self.members.named(entry.organisation, entry.account))

    async def _seen(self, digest: str, entry: SignIn) -> None:
        now = self._clock.now()
        if now - entry.last_seen_at <= signins.SEEN_EVERY_S:
            return
        entry.last_seen_at = now
        async with self._changing:
            if digest not in self._cookies:
                return  # ended meanwhile: writing it down would bring it back
            try:
                await self._store.commit(_put(digest, entry))
            except StoreFailed:
                return  # a full disk must not lock people out

    async def sign_out(self, cookie: str) -> None:
        await self.end(_hash(cookie))

    async def end(self, digest: str) -> None:
        """Ends a sign-in by its id; harmless when it has ended."""
        await self._end("signin", digest)

    async def _leave(self, organisation: str, account: str) -> None:
        """Ends every key, ticket and sign-in of a member."""
        for key in await self.keys(organisation):
            if key.account == account:
                await self.revoke(key.id)
        for kind in ("ticket", "signin"):
            after = ""
            while rows := await self._store.scan(kind, after=after, limit=SWEEP_MAX):
                after = rows[-1][0]
                for name, doc in rows:
                    found = msgspec.json.decode(doc, type=Timed)
                    if (found.organisation, found.account) == (organisation, account):
                        await self._end(kind, name)

    async def _end(self, kind: str, digest: str) -> None:
        async with self._changing:
            await self._commit(Delete(kind, digest))
            self._cookies.pop(digest, None)
        self._ended(f"{kind}:{digest}")

    @staticmethod
    def csrf(cookie: str) -> str:
        """What a page must send with every change: only one that could read `/api/me` has it."""
        return hashlib.sha256(b"csrf:" + cookie.encode()).hexdigest()

    def left(self, principal: Principal) -> float | None:
        """Seconds that an open socket's credential still stands; 0 when it does not, None when it has no end."""
        kind, _, name = principal.credential.partition(":")
        if kind == "key" and name not in self._keys:
            return 0.0
        if kind == "signin" and name not in self._cookies:
            return 0.0
        if kind == "link" and not self.links.good(name):
            return 0.0
        if principal.expires_at is None:
            return None
        return max(principal.expires_at - self._clock.now(), 0.0)

    def _ended(self, credential: str) -> None:
        for told in list(self.on_revoke):
            told(credential)

    async def _commit(self, *ops: Op) -> None:
        try:
            await self._store.commit(*ops)
        except StoreFailed as error:
            raise Unavailable("The store cannot write; nothing was changed.") from error


def _put(digest: str, entry: SignIn) -> Put:
    return Put("signin", digest, msgspec.json.encode(entry), entry.account)


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()
