"""Sign-in tickets and cookies, and what holds for every credential: who is told when one ends, how long one stands.
Only hashes are kept; the secrets are 256 random bits, so one SHA-256 is enough.

ticket  43 characters in the fragment of the sign-in link; used once, within TICKET_S
cookie  43 characters; valid COOKIE_S, or as long as its issuer's sign-ins are; ended by sign-out
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Callable

import msgspec
from msgspec import Struct

from pilothouse.core.access import ORGANISATION, Principal
from pilothouse.core.errors import Conflict, NotFound, Unauthenticated, Unavailable
from pilothouse.engine import signins
from pilothouse.engine.audit import SERVER, Audit, Entry, Who
from pilothouse.engine.keys import Keys
from pilothouse.engine.links import Links
from pilothouse.engine.members import ACCOUNT, Members
from pilothouse.engine.ports import Clock, Delete, EventStore, Op, Put, StoreFailed
from pilothouse.engine.signins import SignIn, Visit

TICKET_S = 600.0
COOKIE_S = 30 * 86_400.0
SWEEP_MAX = 1000
"""Tickets and sign-ins looked at at a time: old ones are removed when a ticket is made."""


class Timed(Struct, kw_only=True, rename="camel"):
    """A ticket, and what a sign-in has of it."""

    account: str
    organisation: str = ORGANISATION
    expires_at: float


class Identity:
    def __init__(self, store: EventStore, clock: Clock, audit: Audit | None = None) -> None:
        self._store = store
        self._clock = clock
        self._audit = audit or Audit(store, clock)
        self.members = Members(store, clock, self._audit)
        self.keys = Keys(store, clock, self._audit, self.members, self._ended)
        self.links = Links(store, clock, self._audit, self.members)
        self._redeeming = asyncio.Lock()
        self._changing = asyncio.Lock()
        """Held while a credential goes from store to memory or ends: else one that ends at that moment came back."""
        self._cookies: dict[str, SignIn] = {}
        self.on_revoke: list[Callable[[str], None]] = []
        """Called with the credential that is no longer good."""
        self.standing: dict[str, Callable[[str], float | None]] = {}
        """By kind of credential, for those that are kept elsewhere: what `left` says of one."""
        self.links.on_revoke = self._ended
        self.members.on_leave += [self._leave, self.links.leave]

    @property
    def audit(self) -> Audit:
        return self._audit

    async def load(self) -> None:
        """Once, before anybody is served."""
        await self.members.load()

    async def ticket(
        self, account: str = ACCOUNT, organisation: str = ORGANISATION, who: Who = SERVER
    ) -> tuple[str, float]:
        """A sign-in ticket for a member, and when it ends. Raises NotFound when there is no such member, Conflict for
        one that is disabled."""
        if self.members.find(organisation, account).disabled:
            raise Conflict("This account is disabled; enable it first.")
        await self._sweep()
        text = secrets.token_urlsafe(32)
        made = Timed(account=account, organisation=organisation, expires_at=self._clock.now() + TICKET_S)
        entry = Entry("ticket.create", f"member:{account}", organisation=organisation)
        async with self.members.staying(organisation, account):
            await self._audit.commit(who, [entry], Put("ticket", _hash(text), msgspec.json.encode(made)))
        return text, made.expires_at

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
        digest = _hash(cookie)
        entry.created_at = entry.last_seen_at = self._clock.now()
        who = Who(self._person(digest, entry), entry.address)
        noted = Entry("signin", details={"by": entry.via or "ticket"})
        try:
            async with self.members.staying(entry.organisation, entry.account) as member:
                if member.disabled:
                    raise Unauthenticated("This account is disabled.")
                await self._audit.commit(who, [noted], *also, _put(digest, entry))
                self._cookies[digest] = entry
        except NotFound:
            raise Unauthenticated("This account is no member any more.") from None
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
                    entry = self._cookies[digest] = signins.decode(doc)
        if entry is None:
            raise Unauthenticated
        if entry.expires_at < self._clock.now():
            raise Unauthenticated("The sign-in has ended; sign in again.")
        await self._seen(digest, entry)
        if digest not in self._cookies:
            raise Unauthenticated("The sign-in was ended at this moment.")
        return self._person(digest, entry)

    def _person(self, digest: str, entry: SignIn) -> Principal:
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

    async def sign_out(self, cookie: str, who: Who = SERVER) -> None:
        await self.end(_hash(cookie), who)

    async def end(self, digest: str, who: Who = SERVER) -> None:
        """Ends a sign-in by its id; harmless when it has ended. Whoever ends its own signs out."""
        async with self._changing:
            doc = await self._store.get("signin", digest)
            if doc is None:
                return
            entry = signins.decode(doc)
            own = who.principal is not None and who.principal.credential == f"signin:{digest}"
            about = Entry("signin.end", f"signin:{digest}", "ok", {"account": entry.account}, entry.organisation)
            await self._audit.commit(who, [Entry("signout") if own else about], Delete("signin", digest))
            self._cookies.pop(digest, None)
        self._ended(f"signin:{digest}")

    async def _leave(self, organisation: str, account: str, who: Who) -> None:
        """Ends every ticket and sign-in of a member."""
        async for digest, entry in signins.every(self._store):
            if (entry.organisation, entry.account) == (organisation, account):
                await self.end(digest, who)
        after = ""
        while rows := await self._store.scan("ticket", after=after, limit=SWEEP_MAX):
            for after, doc in rows:
                found = msgspec.json.decode(doc, type=Timed)
                if (found.organisation, found.account) == (organisation, account):
                    await self._commit(Delete("ticket", after))

    @staticmethod
    def csrf(cookie: str) -> str:
        """What a page must send with every change: only one that could read `/api/me` has it."""
        return hashlib.sha256(b"csrf:" + cookie.encode()).hexdigest()

    def left(self, principal: Principal) -> float | None:
        """Seconds that an open socket's credential still stands; 0 when it does not, None when it has no end."""
        kind, _, name = principal.credential.partition(":")
        if kind in self.standing:
            return self.standing[kind](name)
        if kind == "key" and not self.keys.good(name):
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
