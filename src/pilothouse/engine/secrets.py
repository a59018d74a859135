"""Secrets of sessions: kept sealed, handed to shells and agents when they start, shown to nobody.

A secret belongs to a session, to a project (`engine.rules`: a session's source) or to an account, and reaches the
sessions of that account; of two with one name the narrower counts. The document `secret` has the value sealed; in
memory it is open while it is used.

What has been replaced or removed is still masked while this server runs: shells and agents that started before have it.
"""

from __future__ import annotations

import asyncio
import contextlib
import posixpath
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from urllib.parse import quote
from weakref import WeakValueDictionary

import msgspec
from msgspec import Struct

from pilothouse.core import events as ev
from pilothouse.core import secret as rules
from pilothouse.core.access import ORGANISATION, Principal
from pilothouse.core.chain import Value
from pilothouse.core.errors import BadRequest, NotFound, TooLarge, TooMany, Unavailable
from pilothouse.core.ids import SessionId
from pilothouse.core.redact import LEAST, Masks
from pilothouse.core.secret import For, Given, Where
from pilothouse.engine.audit import Audit, Entry, Who
from pilothouse.engine.ports import Clock, Delete, EventStore, Put, SealBroken, Sealer, StoreFailed
from pilothouse.engine.records import SessionRecord
from pilothouse.engine.rules import project

FORMER_MAX = 20
"""Values of one place that were replaced or removed and are still masked: a day's worth of changes."""
USED_EVERY_S = 60.0
"""`lastUsedAt` is written at most this often per secret."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a secret counts."""

    where: Where
    key: str
    organisation: str = ORGANISATION
    account: str = ""
    project: str = ""
    session: SessionId | None = None

    @property
    def object(self) -> str:
        """As the audit names it."""
        return f"session:{self.session}" if self.session else f"account:{self.account}"


class SecretRecord(Struct, kw_only=True, omit_defaults=True, rename="camel"):
    name: str
    where: Where
    project: str = ""
    sealed: bytes
    size: int
    use: For = "shells"
    file: bool = False
    masked: bool = True
    """Whether it is long enough to be looked for in what is written."""
    set_at: float
    set_by: str
    last_used_at: float | None = None


@dataclass(slots=True)
class _Open:
    record: SecretRecord
    value: str


def of_session(session: SessionRecord) -> Place:
    return Place("session", session.id, session.organisation, session=session.id)


def of_account(who: Principal, source: ev.Source | None = None) -> Place:
    """Of the caller's account, or of its project. Raises BadRequest."""
    return _place(who.organisation, who.account, "" if source is None else _named(source))


def _named(source: ev.Source) -> str:
    """As `engine.rules.project` names it."""
    if (source.git is None) == (source.dir is None):
        raise BadRequest("project: either git or dir")
    if source.dir is not None and (not source.dir.startswith("/") or "\0" in source.dir or len(source.dir) > 4096):
        raise BadRequest("dir: an absolute path")
    return f"git:{source.git}" if source.git else f"dir:{posixpath.normpath(str(source.dir))}"


def _place(organisation: str, account: str, name: str = "") -> Place:
    key = f"{organisation}/{quote(account, safe='')}"
    if name:
        return Place("project", f"project:{key}/{quote(name, safe='')}", organisation, account, name)
    return Place("account", f"account:{key}", organisation, account)


def _reaching(session: SessionRecord) -> list[Place]:
    """What comes later counts more."""
    name = project(session)
    own = _place(session.organisation, session.owner)
    return [own, *([_place(session.organisation, session.owner, name)] if name else []), of_session(session)]


class Secrets:
    def __init__(self, store: EventStore, clock: Clock, audit: Audit, sealer: Sealer) -> None:
        self._store = store
        self._clock = clock
        self._audit = audit
        self._sealer = sealer
        self._changing = asyncio.Lock()
        self._places: dict[str, dict[str, _Open]] = {}
        self._former: defaultdict[str, deque[str]] = defaultdict(lambda: deque(maxlen=FORMER_MAX))
        self._masks: dict[SessionId, tuple[int, Masks | None]] = {}
        self._shared: WeakValueDictionary[frozenset[str], Masks] = WeakValueDictionary()
        """Sessions of one account hide the same, mostly; a long value is megabytes of ways to look for it."""
        self._changes = 0
        self.on_change: list[Callable[[], Awaitable[None]]] = []
        """Called after one has been set or removed."""

    # --- what people do

    async def set(
        self, place: Place, name: str, value: str, *, use: str = "shells", file: bool = False, who: Who
    ) -> SecretRecord:
        """Sets or replaces it. Raises BadRequest, TooLarge, TooMany, Unavailable; then nothing has changed."""
        name, value, given = rules.check_name(name), rules.check_value(value), rules.check_use(use)
        if file and given != "shells":
            raise BadRequest("file: only shells get files; an agent has its environment")
        async with self._changing:
            await self._readable()
            there = await self._open(place)
            others = [o for n, o in there.items() if n != name]
            if len(others) >= rules.REACH_MAX:
                raise TooMany(f"There are {rules.REACH_MAX} secrets already; remove some.")
            size = len(value.encode())
            if sum(o.record.size for o in others) + size > rules.TOTAL_MAX:
                raise TooLarge(f"value: with it the secrets have more than {rules.TOTAL_MAX} bytes together")
            try:
                sealed = self._sealer.seal(value.encode(), _about(place, name))
            except SealBroken as error:
                raise Unavailable(f"No secret can be kept: {error}") from None
            by = who.principal.label if who.principal else "server"
            record = SecretRecord(
                name=name, where=place.where, project=place.project, sealed=sealed, size=size, use=given, file=file,
                masked=size >= LEAST, set_at=self._clock.now(), set_by=by,
            )  # fmt: skip
            await self._audit.commit(
                who,
                [self._entry("secret.set", place, record)],
                Put("secret", _id(place, name), _doc(record), place.key),
            )
            self._replace(place, name, _Open(record, value))
        await self._changed()
        return record

    async def remove(self, place: Place, name: str, who: Who) -> None:
        """Raises NotFound, Unavailable. One that cannot be read any more is removed as well."""
        async with self._changing:
            doc = await self._store.get("secret", _id(place, name))
            if doc is None:
                raise NotFound(f"No secret {name} is set for this {place.where}.")
            entry = self._entry("secret.remove", place, msgspec.json.decode(doc, type=SecretRecord))
            await self._audit.commit(who, [entry], Delete("secret", _id(place, name)))
            self._replace(place, name, None)
        await self._changed()

    async def all(self, place: Place) -> list[SecretRecord]:
        """Without opening them."""
        docs = await self._store.scan("secret", owner=place.key)
        return sorted((msgspec.json.decode(doc, type=SecretRecord) for _, doc in docs), key=lambda r: r.name)

    async def reaching(self, session: SessionRecord) -> list[SecretRecord]:
        """Those that a shell or an agent of the session would be given now, by name."""
        found: dict[str, SecretRecord] = {}
        for place in _reaching(session):
            found |= {record.name: record for record in await self.all(place)}
        return [found[name] for name in sorted(found)]

    async def of_every_project(self, who: Principal) -> list[SecretRecord]:
        """The caller's account's and those of its projects."""
        prefix = _place(who.organisation, who.account).key.removeprefix("account:")
        found = await self.all(_place(who.organisation, who.account))
        after = f"project:{prefix}/"
        for key, doc in await self._store.scan("secret", after=after, limit=1000):
            if not key.startswith(f"project:{prefix}/"):
                break
            found.append(msgspec.json.decode(doc, type=SecretRecord))
        return sorted(found, key=lambda r: (r.name, r.project))

    async def leave(self, organisation: str, account: str, who: Who) -> None:
        """A member goes, and its secrets with it."""
        principal = Principal("person", account, account, account, frozenset(), "", organisation=organisation)
        for record in await self.of_every_project(principal):
            with contextlib.suppress(NotFound):
                await self.remove(_place(organisation, account, record.project), record.name, who)

    # --- what shells and agents get

    async def given(self, session: SessionRecord) -> list[Given]:
        """All that reach the session. Raises Unavailable when one cannot be opened."""
        found: dict[str, _Open] = {}
        async with self._changing:
            for place in _reaching(session):
                found |= await self._open(place)
        if len(found) > rules.REACH_MAX or sum(o.record.size for o in found.values()) > rules.TOTAL_MAX:
            raise Unavailable(
                f"More secrets reach this session than {rules.REACH_MAX}, or than {rules.TOTAL_MAX} bytes; remove some."
            )
        return [Given(name, o.value, o.record.use, o.record.file) for name, o in sorted(found.items())]

    async def used(self, session: SessionRecord, names: Sequence[str]) -> None:
        """They have been given to somebody."""
        now = self._clock.now()
        async with self._changing:
            for place in _reaching(session):
                for name, opened in self._places.get(place.key, {}).items():
                    last = opened.record.last_used_at
                    if name in names and (last is None or now - last > USED_EVERY_S):
                        opened.record.last_used_at = now
                        with contextlib.suppress(StoreFailed):  # a full disk must keep nobody from working
                            await self._store.commit(Put("secret", _id(place, name), _doc(opened.record), place.key))

    async def masks(self, session: SessionRecord) -> Masks | None:
        """What must not be seen of this session: every value that reaches it or did. Raises Unavailable."""
        known = self._masks.get(session.id)
        if known is not None and known[0] == self._changes:
            return known[1]
        changes = self._changes
        values = frozenset(await self.hidden(session))
        made = self._shared.get(values) if values else None
        if values and made is None:
            made = self._shared[values] = Masks(values)
        self._masks[session.id] = (changes, made or None)
        return made or None

    async def hidden(self, session: SessionRecord) -> list[str]:
        """Every value that reaches the session or did. Raises Unavailable."""
        values: list[str] = []
        async with self._changing:
            for place in _reaching(session):
                values += [o.value for o in (await self._open(place)).values()]
                values += self._former.get(place.key, ())
        return values

    async def no_value(self, session: SessionRecord, field: str, *texts: str) -> None:
        """Raises BadRequest when one of these texts has a secret's value in it: they are kept, and shown."""
        masks = await self.masks(session)
        if masks is not None and any(masks.spans(text.encode("utf-8", "replace")) for text in texts):
            raise BadRequest(f"{field}: it has the value of a secret in it; say the secret's name instead")

    def forget(self, session: SessionId) -> None:
        """It does not run any more."""
        self._masks.pop(session, None)
        self._places.pop(session, None)
        self._former.pop(session, None)

    # ---

    async def _open(self, place: Place) -> dict[str, _Open]:
        """Needs the lock. Raises Unavailable."""
        known = self._places.get(place.key)
        if known is None:
            known = {}
            for record in await self.all(place):
                known[record.name] = _Open(
                    record, self._unsealed(record.sealed, _about(place, record.name), record.name)
                )
            self._places[place.key] = known
        return known

    def _unsealed(self, sealed: bytes, about: str, name: str) -> str:
        try:
            return self._sealer.unseal(sealed, about).decode()
        except (SealBroken, UnicodeDecodeError) as error:
            raise Unavailable(
                f"The secret {name} cannot be read: {error}. Bring that file back and start the server again, or "
                "remove the secret."
            ) from None

    async def _readable(self) -> None:
        """Nothing new is sealed while what is there cannot be opened: the key that is missing may come back, and would
        not open the new one. Raises Unavailable."""
        for key, doc in await self._store.scan("secret", limit=1):
            record = msgspec.json.decode(doc, type=SecretRecord)
            self._unsealed(record.sealed, f"secret:{key}", record.name)

    def _replace(self, place: Place, name: str, opened: _Open | None) -> None:
        there = self._places.setdefault(place.key, {}) if opened else self._places.get(place.key, {})
        before = there.pop(name, None)
        if before is not None and (opened is None or before.value != opened.value):
            self._former[place.key].append(before.value)
        if opened is not None:
            there[name] = opened
        self._changes += 1

    async def _changed(self) -> None:
        for call in self.on_change:
            await call()

    @staticmethod
    def _entry(action: str, place: Place, record: SecretRecord) -> Entry:
        details: dict[str, Value] = {"name": record.name, "where": place.where, "for": record.use}
        if record.file:
            details["file"] = True
        if place.project:
            details["project"] = place.project
        return Entry(action, place.object, details=details, organisation=place.organisation)


def _id(place: Place, name: str) -> str:
    return f"{place.key}/{name}"


def _about(place: Place, name: str) -> str:
    return f"secret:{_id(place, name)}"


def _doc(record: SecretRecord) -> bytes:
    return msgspec.json.encode(record)
