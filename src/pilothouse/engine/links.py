"""Share links: one session, for whoever has the link, until it ends or is revoked.

link    id (12 hex digits) + `_` + 43 characters, in the fragment of an address: `#link=…`; only its hash is kept
cookie  the same text: redeeming a link moves it out of the address, and nothing more

A link acts in the place of the member who made it, narrowed to one session and to `watch`, `approve` or `type`. So it
opens no more than its maker may there now, ends with its maker's membership, and an approval by link counts as its
maker's own.
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

from pilothouse.core import access
from pilothouse.core.access import SCOPES_OF_LINK, LinkRight, Principal
from pilothouse.core.errors import BadRequest, NotFound, TooMany, Unauthenticated, Unavailable
from pilothouse.core.ids import SessionId
from pilothouse.engine.audit import SERVER, Audit, Entry, Who
from pilothouse.engine.members import Members
from pilothouse.engine.ports import Clock, Delete, EventStore, Op, Put, StoreFailed

LINK_S = 7 * 86_400.0
"""Of a link that says nothing else."""
LINK_MAX_S = 30 * 86_400.0
LINK_MIN_S = 60.0
LINKS_MAX = 50
"""Of one session that still stand: more is no list that anybody looks through."""
BATCH = 1000
_LINK = re.compile(r"([0-9a-f]{12})_([A-Za-z0-9_-]{43})\Z")
_NAME = re.compile(r"[^\x00-\x1f\x7f]{1,100}\Z")


class Link(Struct, frozen=True, kw_only=True, rename="camel"):
    id: str
    session_id: SessionId
    organisation: str
    right: LinkRight
    name: str
    hash: str
    made_by: str
    """The account."""
    created_at: float
    expires_at: float


class Links:
    def __init__(self, store: EventStore, clock: Clock, audit: Audit, members: Members) -> None:
        self._store = store
        self._members = members
        self._audit = audit
        self._clock = clock
        self._changing = asyncio.Lock()
        """Held while one goes from store to memory or ends: else one that ends at that moment came back."""
        self._known: dict[str, Link] = {}
        self.on_revoke: Callable[[str], None] = lambda _: None

    async def make(
        self,
        maker: Principal,
        session: SessionId,
        right: str,
        *,
        name: str | None = None,
        seconds: float | None = None,
        address: str = "",
    ) -> tuple[Link, str]:
        """A new link and its only showing. That `maker` may share the session so far has been checked. Raises
        BadRequest, TooMany, Unavailable."""
        allowed = access.link_right(right)
        lasts = LINK_S if seconds is None else seconds
        if not LINK_MIN_S <= lasts <= LINK_MAX_S:
            raise BadRequest(f"expiresInS: from {LINK_MIN_S:g} to {LINK_MAX_S:g}")
        name = right if name is None else name
        if not _NAME.match(name):
            raise BadRequest("name: one line of 1 to 100 characters")
        async with self._members.staying(maker.organisation, maker.account), self._changing:
            if len(await self._of(session)) >= LINKS_MAX:
                raise TooMany(f"There are {LINKS_MAX} links to this session already; revoke some.")
            secret = secrets.token_urlsafe(32)
            now = self._clock.now()
            link = Link(
                id=secrets.token_hex(6),
                session_id=session,
                organisation=maker.organisation,
                right=allowed,
                name=name,
                hash=_hash(secret),
                made_by=maker.account,
                created_at=now,
                expires_at=now + lasts,
            )
            about = {"session": f"session:{session}", "right": allowed, "name": name}
            entry = Entry("link.create", f"link:{link.id}", details={**about})
            put = Put("link", link.id, msgspec.json.encode(link), session)
            await self._audit.commit(Who(maker, address), [entry], put)
            self._known[link.id] = link
            return link, f"{link.id}_{secret}"

    async def of(self, session: SessionId) -> list[Link]:
        """Those that stand, newest first; what is over goes."""
        async with self._changing:
            return await self._of(session)

    async def _of(self, session: SessionId) -> list[Link]:
        now = self._clock.now()
        standing: list[Link] = []
        for name, doc in await self._store.scan("link", owner=session):
            link = msgspec.json.decode(doc, type=Link)
            if link.expires_at > now:
                standing.append(link)
                continue
            await self._commit(Delete("link", name))
            self._known.pop(name, None)
        return sorted(standing, key=lambda link: -link.created_at)

    async def revoke(self, session: SessionId, link_id: str, who: Who = SERVER) -> None:
        """Raises NotFound, Unavailable."""
        async with self._changing:
            link = await self._read(link_id)
            if link is None or link.session_id != session:
                raise NotFound
            about = {"session": f"session:{session}", "name": link.name}
            entry = Entry("link.revoke", f"link:{link_id}", details={**about}, organisation=link.organisation)
            await self._audit.commit(who, [entry], Delete("link", link_id))
            self._known.pop(link_id, None)
        self.on_revoke(f"link:{link_id}")

    async def leave(self, organisation: str, account: str, who: Who = SERVER) -> None:
        """Ends every link that a member has made."""
        after = ""
        while rows := await self._store.scan("link", after=after, limit=BATCH):
            after = rows[-1][0]
            for name, doc in rows:
                link = msgspec.json.decode(doc, type=Link)
                if (link.organisation, link.made_by) == (organisation, account):
                    await self.revoke(link.session_id, name, who)

    def forget(self, session: SessionId) -> None:
        """The session is deleted, and its documents with it."""
        gone = [name for name, link in self._known.items() if link.session_id == session]
        for name in gone:
            del self._known[name]
            self.on_revoke(f"link:{name}")

    async def by_secret(self, text: str) -> Principal:
        """Raises Unauthenticated."""
        match = _LINK.match(text)
        if match is None:
            raise Unauthenticated("That is no share link of this server.")
        async with self._changing:
            link = await self._read(match[1])
        if link is None or not hmac.compare_digest(link.hash, _hash(match[2])):
            raise Unauthenticated("The share link is unknown, or was revoked.")
        if link.expires_at <= self._clock.now():
            raise Unauthenticated("The share link has ended; ask for another.")
        return Principal(
            "link",
            link.id,
            link.name,
            link.made_by,
            SCOPES_OF_LINK[link.right],
            f"link:{link.id}",
            organisation=link.organisation,
            expires_at=link.expires_at,
            session=link.session_id,
            most=SCOPES_OF_LINK[link.right],
        )

    def good(self, link_id: str) -> bool:
        """Of one that has been shown since the server started: whether it still stands."""
        return link_id in self._known

    async def _read(self, link_id: str) -> Link | None:
        if link_id not in self._known and (doc := await self._store.get("link", link_id)) is not None:
            self._known[link_id] = msgspec.json.decode(doc, type=Link)
        return self._known.get(link_id)

    async def _commit(self, *ops: Op) -> None:
        try:
            await self._store.commit(*ops)
        except StoreFailed as error:
            raise Unavailable("The store cannot write; nothing was changed.") from error


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()
