"""Key pairs for signed requests (`core.sigv4`): an access key id, a secret, and maybe a session token that every
request has to carry, signed.

    access key id      PHKA and 16 of A-Z 2-7
    secret access key  40 characters
    session token      43 characters; only if asked for. A pair without one refuses requests that bring one

The secret has to be read again to check a signature, so it is kept sealed, not hashed.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import re
import secrets
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field

import msgspec
from msgspec import Struct

from pilothouse.core import proof
from pilothouse.core.access import ORGANISATION, Principal, Scope
from pilothouse.core.bucket import Rates
from pilothouse.core.chain import Value
from pilothouse.core.errors import BadRequest, BadSignature, NotFound, Unavailable
from pilothouse.core.proof import SigningKeys
from pilothouse.core.sigv4 import SERVICES, Claim
from pilothouse.engine import records
from pilothouse.engine.audit import SERVER, Entry, Who
from pilothouse.engine.identity import Identity
from pilothouse.engine.ports import Clock, Delete, EventStore, Op, Put, SealBroken, Sealer, StoreFailed

PAIRS_MAX = 1000
"""Of one organisation: none uses up another's."""
EXPIRES_MIN_S, EXPIRES_MAX_S = 60, 366 * 86_400
USED_EVERY_S = 60.0
"""`lastUsedAt` is written at most this often per pair."""
CREDENTIAL = "sigv4"
"""`Principal.credential` is `sigv4:ID`."""
_ID = re.compile(r"PHKA[A-Z2-7]{16}\Z")
_NAME = re.compile(r"[^\x00-\x1f\x7f]{1,100}\Z")

Payload = Callable[[], Awaitable[Iterable[str]]]
"""The hashes of the payload that came; one has to be the signed one. Asked for late: it may have to be read."""


class PairRecord(Struct, kw_only=True, omit_defaults=True, rename="camel"):
    id: str
    name: str
    scopes: list[Scope]
    sealed: bytes
    account: str
    organisation: str = ORGANISATION
    created_at: float
    expires_at: float | None = None
    last_used_at: float | None = None
    rates: Rates | None = None
    """How often it may, where that is not as configured."""


class Secret(Struct, frozen=True, kw_only=True, rename="camel"):
    """What is sealed, and shown once."""

    secret_access_key: str
    session_token: str | None = None

    def __repr__(self) -> str:
        return "Secret()"


@dataclass(frozen=True, slots=True)
class _Pair:
    record: PairRecord
    secret: Secret = field(repr=False)


class KeyPairs:
    def __init__(self, store: EventStore, clock: Clock, sealer: Sealer, identity: Identity, region: str = "") -> None:
        """`identity` is who is told of what ends, and asked what still stands; `region`: the only one that counts,
        empty: any."""
        self._store = store
        self._clock = clock
        self._sealer = sealer
        self._region = region
        self._told = identity.on_revoke
        self._changing = asyncio.Lock()
        """Held while a pair goes from store to memory or ends: else one that ends at that moment came back."""
        self._pairs: dict[str, _Pair] = {}
        self._keys = SigningKeys()
        self._members = identity.members
        self._audit = identity.audit
        identity.standing[CREDENTIAL] = self._left
        identity.members.on_leave.append(self._leave)

    async def create(
        self,
        name: str,
        scopes: tuple[Scope, ...],
        who: Who = SERVER,
        rates: Rates | None = None,
        *,
        account: str,
        organisation: str = ORGANISATION,
        expires_in_s: float | None = None,
        token: bool = False,
    ) -> tuple[PairRecord, Secret]:
        """A new pair of a member, and the only showing of its secret. Raises NotFound when there is no such member."""
        self._members.find(organisation, account)
        if not _NAME.match(name):
            raise BadRequest("name: one line of 1 to 100 characters")
        if expires_in_s is not None and not EXPIRES_MIN_S <= expires_in_s <= EXPIRES_MAX_S:
            raise BadRequest(f"expiresInS: from {EXPIRES_MIN_S} to {EXPIRES_MAX_S}")
        await self._sweep()
        if len(await self.all(organisation)) >= PAIRS_MAX:
            raise BadRequest(f"Your organisation has {PAIRS_MAX} key pairs already; revoke some.")
        id = "PHKA" + base64.b32encode(secrets.token_bytes(10)).decode()
        secret = Secret(
            secret_access_key=secrets.token_urlsafe(30), session_token=secrets.token_urlsafe(32) if token else None
        )
        now = self._clock.now()
        try:
            sealed = self._sealer.seal(msgspec.json.encode(secret), id)
        except SealBroken as error:
            raise Unavailable(f"No key pair can be kept: {error}") from None
        record = PairRecord(
            id=id, name=name, scopes=list(scopes), sealed=sealed, account=account, organisation=organisation,
            created_at=now, expires_at=None if expires_in_s is None else now + expires_in_s, rates=rates,
        )  # fmt: skip
        about: dict[str, Value] = {"name": name, "scopes": list(scopes), "account": account, "kind": "sigv4"}
        entry = Entry("key.create", f"key:{id}", details=about, organisation=organisation)
        async with self._members.staying(organisation, account):
            await self._audit.commit(who, [entry], Put("keypair", id, msgspec.json.encode(record)))
            self._pairs[id] = _Pair(record, secret)
        return record, secret

    async def all(self, organisation: str | None = None) -> list[PairRecord]:
        """Of one organisation, or all; newest first."""
        docs = await self._store.scan("keypair", limit=records.EVERY)
        found = [msgspec.json.decode(doc, type=PairRecord) for _, doc in docs]
        return sorted((p for p in found if organisation in {None, p.organisation}), key=lambda p: -p.created_at)

    @staticmethod
    def named(id: str) -> bool:
        """Whether this could be the id of a pair."""
        return _ID.match(id) is not None

    async def revoke(self, id: str, organisation: str | None = None, who: Who = SERVER) -> None:
        """Raises NotFound: also for one of another organisation than the one named."""
        async with self._changing:
            doc = await self._store.get("keypair", id)
            found = None if doc is None else msgspec.json.decode(doc, type=PairRecord)
            if found is None or organisation not in {None, found.organisation}:
                raise NotFound
            about: dict[str, Value] = {"name": found.name, "account": found.account, "kind": "sigv4"}
            entry = Entry("key.revoke", f"key:{id}", details=about, organisation=found.organisation)
            await self._audit.commit(who, [entry], Delete("keypair", id))
            self._forget(id)
        for told in list(self._told):
            told(f"{CREDENTIAL}:{id}")

    async def _leave(self, organisation: str, account: str, who: Who) -> None:
        """Ends every pair of a member."""
        for record in await self.all(organisation):
            if record.account == account:
                await self.revoke(record.id, who=who)

    async def by_claim(self, claim: Claim, payload: Payload, *, services: frozenset[str] = SERVICES) -> Principal:
        """Who signed. Where the claim declares its payload's hash, the signature is checked before the payload is asked
        for. Raises BadSignature, and what `payload` raises."""
        claim.check(self._clock.now(), services=services, region=self._region)
        pair = self._pairs.get(claim.access_key) or await self._read(claim.access_key)
        if pair is None:
            raise BadSignature("Credential: no such key pair, or it was revoked", reason="unknown_key")
        if self._left(claim.access_key) == 0:
            raise BadSignature("Credential: the key pair has ended", reason="unknown_key")
        key = self._keys.of(pair.secret.secret_access_key, claim)
        if claim.declared is not None and not proof.signed_by(claim, key, claim.declared):
            raise _mismatch()
        if not _fits(claim, key, await payload()):
            if claim.declared is None:
                raise _mismatch()
            raise BadSignature("X-Amz-Content-Sha256: the body has another hash", reason="payload")
        if not _same(claim.token, pair.secret.session_token):
            raise BadSignature(
                "X-Amz-Security-Token: not that of the key pair; a pair without a token takes none", reason="token"
            )
        self._keys.keep(claim, key)
        await self._used(pair.record)
        if claim.access_key not in self._pairs:
            self._keys.drop(claim.access_key)
            raise BadSignature("Credential: the key pair was revoked at this moment", reason="unknown_key")
        return _principal(pair.record)

    async def _read(self, id: str) -> _Pair | None:
        if not _ID.match(id):
            return None
        async with self._changing:
            doc = await self._store.get("keypair", id)
            if doc is None:
                return None
            record = msgspec.json.decode(doc, type=PairRecord)
            try:
                secret = msgspec.json.decode(self._sealer.unseal(record.sealed, id), type=Secret)
            except (SealBroken, msgspec.MsgspecError):
                raise BadSignature(
                    "Credential: the secret of this key pair cannot be read any more; make another",
                    reason="unknown_key",
                ) from None
            return self._pairs.setdefault(id, _Pair(record, secret))

    async def _used(self, record: PairRecord) -> None:
        now = self._clock.now()
        if record.last_used_at is not None and now - record.last_used_at <= USED_EVERY_S:
            return
        record.last_used_at = now
        async with self._changing:
            if record.id not in self._pairs:
                return  # revoked meanwhile: writing it down would bring it back
            try:
                await self._store.commit(Put("keypair", record.id, msgspec.json.encode(record)))
            except StoreFailed:
                return  # a full disk must not lock people out

    async def _sweep(self) -> None:
        """Pairs whose time is over."""
        now = self._clock.now()
        for record in await self.all():
            if record.expires_at is not None and record.expires_at <= now:
                async with self._changing:
                    await self._commit(Delete("keypair", record.id))
                    self._forget(record.id)

    def _forget(self, id: str) -> None:
        self._pairs.pop(id, None)
        self._keys.drop(id)

    def _left(self, id: str) -> float | None:
        """Seconds that the pair still stands, None without end."""
        pair = self._pairs.get(id)
        if pair is None:
            return 0.0
        until = pair.record.expires_at
        return None if until is None else max(until - self._clock.now(), 0.0)

    async def _commit(self, *ops: Op) -> None:
        try:
            await self._store.commit(*ops)
        except StoreFailed as error:
            raise Unavailable("The store cannot write; nothing was changed.") from error


def _fits(claim: Claim, key: bytes, hashes: Iterable[str]) -> bool:
    if claim.declared is not None:
        return claim.declared in hashes
    return any(proof.signed_by(claim, key, one) for one in hashes)


def _same(given: str | None, kept: str | None) -> bool:
    if given is None or kept is None:
        return given is kept
    return hmac.compare_digest(given.encode(errors="replace"), kept.encode())


def _mismatch() -> BadSignature:
    return BadSignature(
        "The signature does not match the request: compare the secret, the method, the address and the signed headers",
        reason="mismatch",
    )


def _principal(record: PairRecord) -> Principal:
    return Principal(
        "key",
        record.id,
        record.name,
        record.account,
        frozenset(record.scopes),
        credential=f"{CREDENTIAL}:{record.id}",
        organisation=record.organisation,
        expires_at=record.expires_at,
        rates=record.rates,
    )
