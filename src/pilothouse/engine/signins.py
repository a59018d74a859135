"""People who are signed in: one record per sign-in, so that they see and end their own, and an admin all of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import msgspec
from msgspec import Struct

from pilothouse.core.access import ORGANISATION, SCOPES, Principal
from pilothouse.core.errors import Forbidden, NotFound
from pilothouse.engine.audit import Who
from pilothouse.engine.ports import Clock, EventStore

BATCH = 1000
OWN_MAX = 100
"""Sign-ins of one account: a person has a few browsers, a script that signs in without end ends its oldest."""
SEEN_EVERY_S = 60.0
"""`lastSeenAt` is written at most this often per sign-in."""


class Visit(Struct, frozen=True, kw_only=True):
    """From where somebody signs in."""

    address: str = ""
    agent: str = ""
    """A few words for the browser (`core.useragent`)."""


class SignIn(Struct, kw_only=True, omit_defaults=True, rename="camel"):
    """Kept under the hash of its cookie, which is also its id: nobody comes from it to the cookie."""

    account: str
    expires_at: float
    organisation: str = ORGANISATION
    name: str = ""
    via: str = ""
    """The issuer's name; "" by a printed link."""
    created_at: float = 0.0
    last_seen_at: float = 0.0
    address: str = ""
    agent: str = ""


def principal(digest: str, entry: SignIn, name: str) -> Principal:
    """May all that its account may, which its member's record says."""
    return Principal(
        "person",
        entry.account,
        name,
        entry.account,
        frozenset(SCOPES),
        f"signin:{digest}",
        organisation=entry.organisation,
        expires_at=entry.expires_at,
    )


class SignIns:
    def __init__(self, store: EventStore, clock: Clock, end: Callable[[str, Who], Awaitable[None]]) -> None:
        """`end` is `Identity.end`."""
        self._store = store
        self._clock = clock
        self._end = end

    async def all(self, who: Principal) -> list[tuple[str, SignIn]]:
        """Those that `who` may see, the newest first. Raises Forbidden."""
        if who.kind != "person" and "admin" not in who.scopes:
            raise Forbidden("A key sees no sign-ins.")
        now = self._clock.now()
        mine = [pair async for pair in every(self._store) if pair[1].expires_at >= now and _may(who, pair[1])]
        return sorted(mine, key=lambda pair: -pair[1].created_at)

    async def end(self, who: Principal, digest: str, address: str = "") -> None:
        """Raises NotFound for one that is not there or not theirs, Forbidden."""
        doc = await self._store.get("signin", digest)
        if doc is None or not _may(who, decode(doc)):
            raise NotFound
        await self._end(digest, Who(who, address))

    async def end_own(self, who: Principal, address: str = "") -> None:
        """Every sign-in of the caller's account, the caller's own included."""
        async for digest, entry in every(self._store):
            if (entry.account, entry.organisation) == (who.account, who.organisation):
                await self._end(digest, Who(who, address))


async def every(store: EventStore) -> AsyncIterator[tuple[str, SignIn]]:
    after = ""
    while rows := await store.scan("signin", after=after, limit=BATCH):
        for after, doc in rows:
            yield after, decode(doc)


def _may(who: Principal, entry: SignIn) -> bool:
    if who.organisation != entry.organisation or who.session is not None:
        return False
    return "admin" in who.scopes or (who.kind == "person" and who.account == entry.account)


def decode(doc: bytes) -> SignIn:
    return msgspec.json.decode(doc, type=SignIn)
