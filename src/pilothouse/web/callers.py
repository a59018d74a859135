"""Who calls the event API: one question for a connection, a subscribe and a publish, by HTTP or in a frame."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from pilothouse.core import bearer, modes
from pilothouse.core.access import Principal
from pilothouse.core.appsync import Refusal
from pilothouse.core.channels import Channel, Pattern
from pilothouse.core.errors import BadRequest, Conflict, Forbidden, NotFound, PilothouseError, TooMany, Unauthenticated
from pilothouse.core.handler import identity
from pilothouse.core.modes import Mode, NothingShown, Shown
from pilothouse.core.namespaces import Namespace, Operation
from pilothouse.core.publish import Event
from pilothouse.core.token import parse
from pilothouse.engine.audit import Who
from pilothouse.engine.channels import By, Published
from pilothouse.engine.gate import holder
from pilothouse.engine.handlers import NOBODY, Asker, HandlerFailed
from pilothouse.web import admit
from pilothouse.web.asked import Asked
from pilothouse.web.call import Platform
from pilothouse.web.guard import Guard

NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Caller:
    mode: Mode
    principal: Principal
    known: Mapping[str, Any] = field(default_factory=lambda: NOTHING, repr=False)
    """What is verified besides: a token's claims, or what the custom authorizer says."""
    told: Mapping[str, str] = field(default_factory=lambda: NOTHING, repr=False)
    """Headers, as the user's code is told them."""
    address: str = ""

    @property
    def asker(self) -> Asker:
        return Asker(identity(self.mode, self.principal, self.known, self.address), self.told)

    def bare(self) -> Caller:
        """Without what handlers are told, which may be many kilobytes."""
        return Caller(self.mode, self.principal)


@dataclass(frozen=True, slots=True)
class Signed:
    """What a signature in a frame is about: the headers in it, the address for HTTP, and what clients sign for such a
    frame."""

    headers: Mapping[str, Any]
    path: str
    payload: Mapping[str, Any]


class Callers:
    def __init__(self, platform: Platform, guard: Guard) -> None:
        self._platform = platform
        self._guard = guard
        self._ways = platform.ways

    @property
    def tells(self) -> bool:
        """Whether code of the user's is told headers: where it is not, nobody needs to keep them."""
        channels = self._platform.channels
        return self._ways.authorizer is not None or (channels is not None and channels.handlers.some)

    def asks_others(self, headers: Iterable[tuple[str, Any]]) -> bool:
        """Whether the custom authorizer would be asked."""
        if self._ways.authorizer is None:
            return False
        try:
            return self._shown(headers).mode == "AWS_LAMBDA"
        except Unauthenticated:
            return False

    async def of(
        self,
        operation: Operation,
        headers: Iterable[tuple[str, Any]],
        by: Signed | Asked,
        address: str,
        where: Channel | Pattern | None = None,
        besides: Mapping[str, str] | None = None,
    ) -> Caller:
        """Raises Unauthenticated, Forbidden, RateLimited, Unavailable, MisdirectedHost. A wrong credential counts
        against its address. `besides`: headers that came with the connection."""
        given, ways = list(headers), self._ways
        shown = self._shown(given)
        if operation == "connect" and shown.mode not in ways.connect:
            raise Forbidden
        try:
            every = {**(besides or {}), **told(given)} if self.tells else {}
            if shown.mode == "AWS_LAMBDA":
                found = await self._custom(shown.text, operation, where, every)
                return replace(found, told=every, address=address)
            return await self._ours(shown, by, address, every)
        except Unauthenticated:
            await admit.wrong(self._platform, address, _mark(given), "credential.refuse")
            raise

    def at_hand(
        self,
        operation: Operation,
        headers: Iterable[tuple[str, Any]],
        address: str,
        besides: Mapping[str, str] | None = None,
    ) -> Caller | None:
        """The same for a key, where nothing has to be read or written and nothing is wrong. None: `of` says."""
        given = list(headers)
        key = self.key(given)
        if key is None or (operation == "connect" and "API_KEY" not in self._ways.connect):
            return None
        found = self.by_key(key)
        if found is None or not self.tells:
            return found
        return replace(found, told={**(besides or {}), **told(given)}, address=address)

    def key(self, headers: Iterable[tuple[str, Any]]) -> str | None:
        """The key that is shown, of whomever. None: it is something else, or nothing."""
        try:
            shown = self._shown(headers)
        except Unauthenticated:
            return None
        return shown.text if shown.mode == "API_KEY" else None

    def by_key(self, key: str) -> Caller | None:
        """Whose it is now, where nothing has to be read or written and nothing is wrong. None: `of` says."""
        try:
            who = self._guard.key_at_hand(key)
        except Unauthenticated:
            return None
        return None if who is None else Caller("API_KEY", who, NOTHING)

    def _shown(self, headers: Iterable[tuple[str, Any]]) -> Shown:
        """Raises Unauthenticated."""
        try:
            return modes.shown(headers, self._ways.issuers, custom=self._ways.authorizer is not None)
        except NothingShown:
            raise Unauthenticated from None

    async def _ours(self, shown: Shown, by: Signed | Asked, address: str, every: Mapping[str, str]) -> Caller:
        if shown.mode == "API_KEY":
            return Caller(shown.mode, await self._guard.event_key(shown.text), {}, every, address)
        if shown.mode == "AWS_IAM":
            if isinstance(by, Asked):
                who = await self._guard.event_request(by)
            else:
                who = await self._guard.signed_event(by.headers, by.path, by.payload)
            return Caller(shown.mode, who, {}, every, address)
        who = await self._guard.event_token(shown.text, address)
        return Caller(shown.mode, who, parse(shown.text).claims, every, address)

    async def _custom(
        self, token: str, operation: Operation, where: Channel | Pattern | None, headers: Mapping[str, str]
    ) -> Caller:
        if self._ways.authorizer is None:
            raise Unauthenticated
        found = await self._ways.authorizer.admit(token, operation, where, headers)
        return Caller("AWS_LAMBDA", found.principal, found.context or {})

    def still(self, caller: Caller) -> Caller:
        """As it is now: some time has passed since it was asked. Raises Unauthenticated."""
        identity = self._platform.identity
        if identity.left(caller.principal) == 0:
            raise Unauthenticated
        if caller.mode == "AWS_LAMBDA":
            return caller
        now = identity.members.now(caller.principal)
        return caller if now is caller.principal else replace(caller, principal=now)

    async def may(
        self, caller: Caller, operation: Operation, where: Channel | Pattern, address: str, route: str
    ) -> Namespace:
        """Raises Forbidden: also where there is no such namespace. Whoever is refused is in the audit."""
        found = self.namespace(caller, operation, where)
        if found is None:
            error = Forbidden()
            await admit.forbidden(self._platform, Who(caller.principal, address), route, error)
            raise error
        return found

    def namespace(self, caller: Caller, operation: Operation, where: Channel | Pattern) -> Namespace | None:
        """None: it may not, or there is none."""
        assert self._platform.channels is not None
        found = self._platform.channels.namespace(where.namespace)
        may = found is not None and found.may(operation, caller.mode, caller.principal, wild=where.wild)
        return found if may else None

    async def look(self, caller: Caller, namespace: Namespace, channel: Channel) -> None:
        """Who asks for what was published, without a subscription, needs the same word. Raises HandlerFailed,
        Unauthenticated, Forbidden."""
        assert self._platform.channels is not None
        await self._platform.channels.handlers.subscribe(namespace, Pattern(channel.path), caller.asker)
        if not namespace.may("subscribe", caller.mode, self.still(caller).principal):
            raise Forbidden

    async def publish(
        self, caller: Caller, namespace: Namespace, channel: Channel, events: Sequence[Event], key: str | None
    ) -> Published:
        """Raises Bad, PilothouseError, StoreFailed: nothing was published."""
        who, platform = caller.principal, self._platform
        assert platform.channels is not None
        if namespace.built_in:
            if platform.dialogs is None:
                raise Forbidden
            if key is not None:
                raise BadRequest("key: not where the server publishes")
            return await platform.dialogs.publish(who, channel, events)

        def check() -> None:
            if not namespace.may("publish", caller.mode, self.still(caller).principal):
                raise Forbidden

        by = By(holder(who), caller.asker if namespace.on_publish else NOBODY, check)
        return await platform.channels.publish(who.organisation, channel, events, by, key)


def refusal(error: PilothouseError) -> Refusal:
    """In AppSync's words. Of a refused caller nothing is told but that it is refused."""
    if isinstance(error, Unauthenticated):
        return Refusal()
    if isinstance(error, Forbidden | NotFound):
        return Refusal(status=403)
    if isinstance(error, TooMany):
        return Refusal("LimitExceededError", error.message, 429)
    if isinstance(error, HandlerFailed):
        return Refusal("HandlerError", error.message, 403)
    if isinstance(error, Conflict):
        return Refusal("ConflictException", error.message, 409)
    if error.status >= 500:
        return Refusal("ServiceUnavailableException", error.message, error.status)
    return Refusal("BadRequestException", error.message, error.status)


def told(given: Iterable[tuple[str, Any]]) -> dict[str, str]:
    """Headers as the user's code is told them: without cookies, and no credential of ours."""
    hidden = {"cookie", "x-api-key", "sec-websocket-protocol", "x-amz-security-token"}
    every = [(name.lower(), value) for name, value in given if isinstance(value, str)]
    return {name: value for name, value in every if name not in hidden and not _is_ours(name, value)}


def _is_ours(name: str, value: str) -> bool:
    return name == "authorization" and (bearer.of_raw_header(value) is not None or value.startswith("AWS4-"))


def _mark(headers: Iterable[tuple[str, Any]]) -> str:
    """What was shown, to know the same again. Of a signature, whose it is."""
    given = [str(value) for name, value in headers if name.lower() in {"x-api-key", "authorization"}]
    return " ".join(one.partition(",")[0] if one.startswith("AWS4-") else one for one in given)
