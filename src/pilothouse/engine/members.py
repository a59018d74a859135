"""Organisations, and their members with a role each.

A member is (organisation, account): the same account name in two organisations is two people. All members are in
memory, so that what somebody may is asked at every act and never remembered: a role that changes holds from the next
act on, sockets that are open included.

`local` of `default` is whoever has this machine: its admin, always there, and not to be changed.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import re
from collections.abc import AsyncIterator, Awaitable, Callable

import msgspec
from msgspec import Struct

from pilothouse.core import access
from pilothouse.core.access import ORGANISATION, SCOPES, SCOPES_OF_ROLE, Principal, Role
from pilothouse.core.chain import Value
from pilothouse.core.errors import BadRequest, Conflict, NotFound, TooMany, Unauthenticated
from pilothouse.engine.audit import SERVER, Audit, Entry, Who
from pilothouse.engine.ports import Clock, Delete, EventStore, Put

ACCOUNT = "local"
MEMBERS_MAX = 20_000
"""Of all organisations: they are held in memory, some 300 bytes each."""
ORGANISATIONS_MAX = 1000
BATCH = 1000
SAID_EVERY_S = 60.0
"""`said_at` is written at most this often, where nothing else has changed."""
AHEAD_S = 60.0
"""How far ahead a token may be dated: an admin's word counts over those made before it by a fast clock."""
_ORGANISATION = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?\Z")
_ACCOUNT = re.compile(r"(?!\.{1,2}\Z)[!-~]{1,200}\Z")
"""`.` and `..` are no part of an address: every client would resolve them, and no request could name the member."""
_NAME = re.compile(r"[^\x00-\x1f\x7f]{1,100}\Z")


class Member(Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    organisation: str
    account: str
    name: str
    role: Role
    created_at: float = 0.0
    disabled: bool = False
    said_at: float = 0.0
    """When the role was last said, by an admin here or by an issuer: what an issuer said earlier does not bring back
    what has been taken away since."""


class Organisation(Struct, frozen=True, kw_only=True, rename="camel"):
    id: str
    name: str
    created_at: float = 0.0


def check_account(account: str) -> None:
    """Whether anybody may be called that. Raises BadRequest."""
    if not _ACCOUNT.match(account):
        raise BadRequest("account: 1 to 200 printable ASCII characters without spaces, and not dots alone")


ROOT = Member(organisation=ORGANISATION, account=ACCOUNT, name=ACCOUNT, role="admin")
HOME = Organisation(id=ORGANISATION, name="Default")


class Members:
    def __init__(self, store: EventStore, clock: Clock, audit: Audit | None = None) -> None:
        self._store = store
        self._audit = audit or Audit(store, clock)
        self._clock = clock
        self._changing = asyncio.Lock()
        self._members: dict[tuple[str, str], Member] = {(ORGANISATION, ACCOUNT): ROOT}
        self._organisations: dict[str, Organisation] = {ORGANISATION: HOME}
        self.on_change: list[Callable[[], None]] = []
        """Called when somebody may do less, or more, than a moment ago: what is open is looked at again."""
        self.on_leave: list[Callable[[str, str, Who], Awaitable[None]]] = []
        """Called with organisation, account and whose act it is, before a member is removed: whoever comes again under
        the same name must find no credential of before."""

    async def load(self) -> None:
        """Once, before anybody is served."""
        for _, doc in await self._store.scan("organisation", limit=ORGANISATIONS_MAX):
            found = msgspec.json.decode(doc, type=Organisation)
            self._organisations[found.id] = found
        after = ""
        while rows := await self._store.scan("member", after=after, limit=BATCH):
            after = rows[-1][0]
            for _, doc in rows:
                member = msgspec.json.decode(doc, type=Member)
                self._members[member.organisation, member.account] = member

    # --- asked at every act ---

    def now(self, who: Principal) -> Principal:
        """The caller with the role that its account has now, within what the credential allows: a sign-in is the whole
        person, everything else as much as it says. Raises Unauthenticated when the account has none any more."""
        member = self._members.get((who.organisation, who.account))
        if member is None:
            raise Unauthenticated("This account is no member any more.")
        if member.disabled:
            raise Unauthenticated("This account is disabled.")
        most = who.most
        if most is None:
            most = frozenset(SCOPES) if who.credential.startswith("signin:") else who.scopes
        scopes = most & SCOPES_OF_ROLE[member.role]
        if who.role == member.role and who.most == most and who.scopes == scopes:
            return who
        return dataclasses.replace(who, role=member.role, most=most, scopes=most if scopes == most else scopes)

    async def met(self, who: Principal, address: str = "") -> Principal:
        """As `now`, for a credential that was just verified: an account for which an issuer's token speaks becomes a
        member by coming, and has the role that the groups of the newest token give. Raises Unauthenticated."""
        if who.issued_at is not None:
            known = self._members.get((who.organisation, who.account))
            name = who.name if known is None else known.name  # an access token often knows no name
            await self.seen(
                who.organisation, who.account, role=who.role, name=name, at=who.issued_at, who=Who(who, address)
            )
        return self.now(who)

    def find(self, organisation: str, account: str) -> Member:
        """Raises NotFound."""
        found = self._members.get((organisation, account))
        if found is None:
            raise NotFound
        return found

    @contextlib.asynccontextmanager
    async def staying(self, organisation: str, account: str) -> AsyncIterator[Member]:
        """A member that is not removed meanwhile: for who gives it something that ends with it. Raises NotFound."""
        async with self._changing:
            yield self.find(organisation, account)

    def named(self, organisation: str, account: str) -> str:
        """What others read: its name, or else the account."""
        found = self._members.get((organisation, account))
        return account if found is None else found.name

    def all(self, organisation: str) -> list[Member]:
        found = [m for m in self._members.values() if m.organisation == organisation]
        return sorted(found, key=lambda m: m.account)

    def organisations(self) -> list[Organisation]:
        return sorted(self._organisations.values(), key=lambda o: o.id)

    def organisation(self, name: str) -> Organisation:
        """Raises NotFound."""
        found = self._organisations.get(name)
        if found is None:
            raise NotFound
        return found

    # --- changed by admins ---

    async def make(self, id: str, name: str | None, who: Who = SERVER) -> Organisation:
        """Raises BadRequest, Conflict, TooMany, Unavailable."""
        if not _ORGANISATION.match(id):
            raise BadRequest("id: 1 to 40 of a-z, 0-9 and dashes, no dash at either end")
        name = id if name is None else line(name)
        async with self._changing:
            if id in self._organisations:
                raise Conflict(f"There is an organisation {id!r} already.")
            if len(self._organisations) >= ORGANISATIONS_MAX:
                raise TooMany(f"There are {ORGANISATIONS_MAX} organisations already.")
            made = Organisation(id=id, name=name, created_at=self._clock.now())
            entry = Entry("organisation.create", f"organisation:{id}", details={"name": name}, organisation=id)
            await self._audit.commit(who, [entry], Put("organisation", id, msgspec.json.encode(made)))
            self._organisations[id] = made
            return made

    async def put(
        self,
        organisation: str,
        account: str,
        *,
        role: str | None = None,
        name: str | None = None,
        disabled: bool | None = None,
        vouched_at: float | None = None,
        who: Who = SERVER,
    ) -> Member:
        """Adds a member, or changes what is given of one. `vouched_at`: an issuer said so then, who knows of no last
        admin. Raises BadRequest, NotFound, Conflict, TooMany, Unavailable."""
        check_account(account)
        wanted = None if role is None else access.role(role)
        name = None if name is None else line(name)
        async with self._changing:
            self.organisation(organisation)
            before = self._members.get((organisation, account))
            if before is None:
                if wanted is None:
                    raise BadRequest("role: a new member needs one")
                if len(self._members) >= MEMBERS_MAX:
                    raise TooMany(f"There are {MEMBERS_MAX} members already.")
                before = Member(
                    organisation=organisation,
                    account=account,
                    name=account,
                    role=wanted,
                    created_at=self._clock.now(),
                )
            after = msgspec.structs.replace(
                before,
                role=before.role if wanted is None else wanted,
                name=before.name if name is None else name,
                disabled=before.disabled if disabled is None else disabled,
                said_at=max(before.said_at, self._clock.now() + AHEAD_S) if vouched_at is None else vouched_at,
            )
            if vouched_at is None and (after.disabled or after.role != "admin"):
                self._keep_an_admin(before)
            entry = _entry(self._members.get((organisation, account)), after, vouched_at is not None)
            await self._audit.commit(who, [] if entry is None else [entry], _put(after))
            self._members[organisation, account] = after
        if (after.role, after.disabled) != (before.role, before.disabled):
            self._changed()
        return after

    async def seen(
        self, organisation: str, account: str, *, role: Role, name: str, at: float, who: Who = SERVER
    ) -> Member:
        """An account that an issuer vouched for `at` a time comes: as a member with the role that the issuer's groups
        give, in the organisation that the issuer's configuration names. Raises as `put` does, and Unauthenticated when
        it is disabled here."""
        known = self._members.get((organisation, account))
        if known is not None and known.disabled:
            raise Unauthenticated("This account is disabled.")
        if known is not None:
            new = (known.role, known.name) != (role, name) or at > known.said_at + SAID_EVERY_S
            if at <= known.said_at or not new:
                return known
        if organisation not in self._organisations:
            with contextlib.suppress(Conflict):  # somebody else of it came at the same moment
                await self.make(organisation, None, who)
        return await self.put(organisation, account, role=role, name=name, vouched_at=at, who=who)

    async def remove(self, organisation: str, account: str, who: Who = SERVER) -> None:
        """Raises NotFound, Conflict (the last admin), Unavailable."""
        async with self._changing:
            self._keep_an_admin(self.find(organisation, account))
            for leave in self.on_leave:
                await leave(organisation, account, who)
            entry = Entry("member.remove", f"member:{account}", organisation=organisation)
            await self._audit.commit(who, [entry], Delete("member", _key(organisation, account)))
            del self._members[organisation, account]
        self._changed()

    def _keep_an_admin(self, leaving: Member) -> None:
        """Raises Conflict when nobody would be left to let anybody in."""
        if (leaving.organisation, leaving.account) == (ORGANISATION, ACCOUNT):
            raise Conflict(f"{ACCOUNT!r} is whoever has this machine; it stays an admin.", code="last_admin")
        admins = {m.account for m in self.all(leaving.organisation) if m.role == "admin" and not m.disabled}
        if admins == {leaving.account}:
            raise Conflict("That is the organisation's last admin; make another first.", code="last_admin")

    def _changed(self) -> None:
        for told in list(self.on_change):
            told()


def _entry(before: Member | None, after: Member, vouched: bool) -> Entry | None:
    """For the audit. None: an issuer said again what it had said."""
    if vouched and before is not None and (before.role, before.disabled) == (after.role, after.disabled):
        return None
    details: dict[str, Value] = {"role": after.role, "name": after.name, "disabled": after.disabled}
    if vouched:
        details["by"] = "issuer"
    what = "member.add" if before is None else "member.change"
    return Entry(what, f"member:{after.account}", details=details, organisation=after.organisation)


def _key(organisation: str, account: str) -> str:
    return f"{organisation}:{account}"  # no organisation's id has a colon


def _put(member: Member) -> Put:
    return Put("member", _key(member.organisation, member.account), msgspec.json.encode(member), member.organisation)


def line(name: str) -> str:
    if not _NAME.match(name):
        raise BadRequest("name: one line of 1 to 100 characters")
    return name
