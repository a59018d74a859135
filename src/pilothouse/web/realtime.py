"""The WebSocket of the event API, `/event/realtime`: `core.appsync` on a socket. See `protocol/events.md`.

The upgrade is always accepted where the address is ours: what is wrong with a credential is said in the protocol, since
a browser shows nobody the answer of a refused upgrade. It is said as the answer to the first frame, or after
`PATIENCE_S`: some clients do not listen before. From there on it is `web.conversation`.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager

from pilothouse.core import appsync, bearer
from pilothouse.core.appsync import Refusal
from pilothouse.core.errors import PilothouseError, TooMany, Unavailable
from pilothouse.core.token import BadToken
from pilothouse.engine.ports import StoreFailed
from pilothouse.web.access import named
from pilothouse.web.call import Platform
from pilothouse.web.callers import Caller, Callers, Signed, refusal
from pilothouse.web.chat import refuse
from pilothouse.web.conversation import Conversation, turn_away
from pilothouse.web.guard import Guard, Once
from pilothouse.web.hub import Hub
from pilothouse.web.peer import upgrade_peer
from pilothouse.web.pulse import Pulse
from pilothouse.web.socket import Accept, Door, Refuse, Socket, UpgradeRequest, attend

PATH = re.compile(r"/event/+realtime/?\Z")
"""Amplify adds `/realtime` to whatever it is given, a slash at the end or not."""
KIND = ":events"


class Realtime(Door):
    def __init__(self, platform: Platform, guard: Guard, hub: Hub) -> None:
        self._platform = platform
        self._guard = guard
        self._hub = hub
        self._callers = Callers(platform, guard)
        self._pulse = Pulse()

    def at_once(self, request: UpgradeRequest) -> Accept | None:
        address = upgrade_peer(request)
        try:
            self._guard.place(Once.upgrade(request))
            offers = request.subprotocols
            with self._platform.gate.knocking(address):
                caller = self._callers.at_hand("connect", _pairs(request, bearer.of_appsync(offers)), address)
        except (PilothouseError, BadToken):
            return None
        if caller is None:
            return None
        try:
            room = self._room(caller)
        except PilothouseError as error:
            return self._refused(refusal(error), address, _protocol(offers))
        return self._accept(request, caller, room, address, _protocol(offers))

    async def authorize(self, request: UpgradeRequest) -> Accept | Refuse:
        address, protocol = upgrade_peer(request), _protocol(request.subprotocols)
        try:
            self._guard.place(Once.upgrade(request))
            with self._platform.gate.knocking(address):
                caller, room = await self._let_in(request, address)
        except _Refused as refused:
            return self._refused(refused.why, address, protocol)
        except PilothouseError as error:  # of a page that is not ours: it is told nothing
            return refuse(error)
        return self._accept(request, caller, room, address, protocol)

    def _accept(
        self,
        request: UpgradeRequest,
        caller: Caller,
        room: AbstractContextManager[None],
        address: str,
        protocol: str | None,
    ) -> Accept:
        path = http_path(request.path)
        conversation = Conversation(
            self._platform, self._hub, self._callers, self._pulse, caller, path, request.headers, address, room
        )
        who = named(caller.principal)
        return Accept(functools.partial(attend, conversation), (), protocol, who, conversation)

    def _refused(self, why: Refusal, address: str, protocol: str | None) -> Accept:
        return Accept(lambda socket: self._refuse(socket, why, address), subprotocol=protocol)

    async def _refuse(self, socket: Socket, why: Refusal, address: str) -> None:
        """Strangers that wait to be told are counted too, and not with those of the address who wait to be known."""
        try:
            with self._platform.gate.knocking(address, " refused"):
                await turn_away(socket, why)
        except TooMany:
            socket.close(1000)

    async def _let_in(self, request: UpgradeRequest, address: str) -> tuple[Caller, AbstractContextManager[None]]:
        """Raises _Refused."""
        try:
            offered = bearer.of_appsync(request.subprotocols)
            headers = dict(request.headers) if offered is None else offered.headers
            signed = Signed(headers, http_path(request.path), {})
            caller = await self._callers.of("connect", _pairs(request, offered), signed, address)
            return caller, self._room(caller)
        except BadToken as error:
            raise _Refused(Refusal("SubProtocolNotSupportedError", str(error), 400)) from None
        except StoreFailed:
            raise _Refused(refusal(Unavailable("The store does not answer; try again."))) from None
        except PilothouseError as error:
            raise _Refused(refusal(error)) from None

    def _room(self, caller: Caller) -> AbstractContextManager[None]:
        """Raises RateLimited, TooMany."""
        self._platform.gate.request(caller.principal)
        return self._platform.gate.connected(caller.principal, KIND, self._platform.ways.connections)


class _Refused(Exception):
    def __init__(self, why: Refusal) -> None:
        super().__init__(why.type)
        self.why = why


def _protocol(offers: Sequence[str]) -> str | None:
    return appsync.PROTOCOL if appsync.PROTOCOL in offers else None


def _pairs(request: UpgradeRequest, offered: bearer.Offered | None) -> list[tuple[str, str]]:
    """The headers that say who it is, with what comes twice: from the subprotocol, or else those of the upgrade, since
    phones send these."""
    return list(request.headers) if offered is None else list(offered.headers.items())


def http_path(path: str) -> str:
    """Where the same client publishes by HTTP: what it signs, whatever it does."""
    return re.sub(r"/+realtime/?\Z", "", path)
