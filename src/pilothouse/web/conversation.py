"""One connection of the event API: its frames in turn, its subscriptions, and the rights that they stand on.

A subscribe may take long to be judged and is then a task of its own; a publish waits for those that came before it, so
that who subscribes and then publishes hears itself.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

from pilothouse.core import appsync
from pilothouse.core.access import Principal
from pilothouse.core.appsync import Publish, Refusal, Reply, Subscribe, Unsubscribe
from pilothouse.core.channels import Channel, Pattern
from pilothouse.core.errors import BadRequest, Forbidden, PilothouseError, TooMany, Unauthenticated, Unavailable
from pilothouse.core.namespaces import Namespace, Operation
from pilothouse.core.publish import Bad
from pilothouse.engine.channels import Place, Subscription
from pilothouse.engine.dialogs import Following, Spot
from pilothouse.engine.fanout import AWAY, Lost, Subscriber
from pilothouse.engine.handlers import HandlerFailed
from pilothouse.engine.ports import StoreFailed
from pilothouse.engine.sessions import Session
from pilothouse.web.call import Platform
from pilothouse.web.callers import Caller, Callers, Signed, refusal, told
from pilothouse.web.events import nobody_counted
from pilothouse.web.hub import Hub
from pilothouse.web.pulse import Pulse
from pilothouse.web.socket import Headers, Socket
from pilothouse.web.streams import lapse

ROUTE = "WS /event/realtime"
PATIENCE_S = 0.25
"""For a stranger to say something, so that it hears why it is refused."""


async def turn_away(socket: Socket, why: Refusal) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE_S):
            await socket.receive()
    socket.send_text(appsync.connection_error(why))
    socket.close(1000)


@dataclass
class _Held:
    """A live subscription, and by whose right."""

    caller: Caller
    namespace: Namespace
    wild: bool
    who: Subscriber
    place: Subscription | Following
    leave: Callable[[], None] = lambda: None

    def end(self, socket: Socket) -> None:
        socket.detach(self.who)
        self.place.end()
        self.leave()


class _Other:
    """What the hub knows of a credential that holds subscriptions and not the connection."""

    door = ""

    def __init__(self, conversation: Conversation, principal: Principal) -> None:
        self.socket = conversation.socket
        self.principal = principal
        self._conversation = conversation
        self.ending: asyncio.Task[None] | None = None

    def close(self) -> None:
        if self.ending is not None:
            self.ending.cancel()

    def revoked(self) -> None:
        self._conversation.drop(self.principal.credential)

    def recheck(self) -> None: ...

    def away(self) -> None: ...


class Conversation:
    """One connection. Also what the hub knows of it."""

    door = "events"

    def __init__(
        self,
        platform: Platform,
        hub: Hub,
        callers: Callers,
        pulse: Pulse,
        caller: Caller,
        path: str,
        headers: Headers,
        address: str,
    ) -> None:
        assert platform.channels is not None
        self._platform = platform
        self._channels = platform.channels
        self._hub = hub
        self._callers = callers
        self._pulse = pulse
        self._path = path
        self._address = address
        self._told = told(headers) if callers.tells else {}
        self.principal = caller.principal
        self.socket: Socket
        self._now = asyncio.get_running_loop().time
        self._wire = appsync.Connection(self._now())
        self._held: dict[str, _Held] = {}
        self._others: dict[str, _Other] = {}
        self._asking: dict[asyncio.Task[None], None] = {}
        """A set, but for its size: of thousands almost all are empty."""

    async def serve(self, socket: Socket, room: AbstractContextManager[None]) -> None:
        self.socket = socket
        try:
            with room:
                await self._serve()
        except TooMany as error:
            await turn_away(socket, refusal(error))

    async def _serve(self) -> None:
        self._hub.opened(self)
        self._pulse.add(self.socket)
        ends = self._platform.left(self.principal) is not None
        ending = asyncio.create_task(self._end_with_credential(), name="credential") if ends else None
        try:
            while (message := await self.socket.receive()) is not None:
                await self._take(message.data, text=message.text)
        finally:
            if ending is not None:
                ending.cancel()
            self._pulse.remove(self.socket)
            self._hub.closed(self)
            for other in self._others.values():
                self._hub.closed(other)
                other.close()
            for task in list(self._asking):
                task.cancel()
            for held in self._held.values():
                held.end(self.socket)

    async def _take(self, data: bytes, *, text: bool) -> None:
        step = self._wire.take(data, text=text, now=self._now())
        match step:
            case Reply():
                for frame in step.frames:
                    self.socket.send_text(frame)
            case Subscribe():
                task = asyncio.create_task(self._subscribe(step), name="subscribe")
                self._asking[task] = None
                task.add_done_callback(lambda done: self._asking.pop(done, None))
            case Unsubscribe():
                self._release(step.id)
                self._say(self._wire.unsubscribed(step))
            case Publish():
                if self._asking:
                    await asyncio.wait(self._asking)
                await self._publish(step)
        await self.socket.writable()  # who asks without reading waits for itself

    def _say(self, frame: bytes | None) -> None:
        if frame is not None:
            self.socket.send_text(frame)

    async def _subscribe(self, step: Subscribe) -> None:
        try:
            caller = await self._caller("subscribe", step, {"channel": step.said}, step.pattern)
            namespace = await self._callers.may(caller, "subscribe", step.pattern, self._address, ROUTE)
            if step.presence and (step.pattern.wild or not namespace.presence):
                raise BadRequest(f"presence: {nobody_counted(step.pattern)}")
            await self._channels.handlers.subscribe(namespace, step.pattern, caller.asker)
            begin = await self._placed(step, self._callers.still(caller), namespace)
        except HandlerFailed as error:
            self._say(self._wire.refused(step, Refusal("Unauthorized", error.message, 403)))
            return
        except (PilothouseError, StoreFailed) as error:
            self._say(self._wire.refused(step, _why(error)))
            return
        begin()

    async def _placed(self, step: Subscribe, caller: Caller, namespace: Namespace) -> Callable[[], None]:
        """What makes it live, without waiting. Raises PilothouseError, StoreFailed: also when the right to it has ended
        while a handler took its time."""
        who, session = caller.principal, None
        if namespace.built_in:
            if self._platform.dialogs is None:
                raise Forbidden
            spot = await self._platform.dialogs.place(who, step.pattern, step.after, step.epoch)
            session, begin = spot.session, lambda: self._begin_dialog(step, spot, caller, namespace)
        else:
            place = await self._channels.place(who.organisation, step.pattern, step.after, step.epoch)
            begin = lambda: self._begin(step, place, caller, namespace)  # noqa: E731
        if not self._stands(caller, namespace, session, wild=step.pattern.wild):
            raise Forbidden
        return begin

    def _begin(self, step: Subscribe, place: Place, caller: Caller, namespace: Namespace) -> None:
        cursor = None if place.journal is None else (place.journal.head, place.oldest)
        who = self._live(step, cursor, place.gap)
        if who is None:
            return
        held = _Held(caller, namespace, step.pattern.wild, who, self._channels.subscribe(place, who))
        if namespace.presence and not step.pattern.wild:
            tell = (lambda said: self._say(appsync.presence(step.id, said))) if step.presence else None
            held.leave = self._channels.presences.enter(
                place.organisation, place.pattern.path, caller.principal.label, tell
            )
        self._hold(step.id, held)

    def _begin_dialog(self, step: Subscribe, spot: Spot, caller: Caller, namespace: Namespace) -> None:
        dialogs = self._platform.dialogs
        assert dialogs is not None
        who = self._live(step, None if spot.session is None else (spot.head, spot.oldest), spot.gap)
        if who is not None:
            following = dialogs.subscribe(spot, who, lambda: self._ended(step.id))
            self._hold(step.id, _Held(caller, namespace, step.pattern.wild, who, following))

    def _live(self, step: Subscribe, cursor: tuple[int, int] | None, gap: Lost | None) -> Subscriber | None:
        """Says that it is live. None: nobody waits for it any more."""
        more: dict[str, object] = {}
        if cursor is not None:
            more = {"seq": cursor[0], "oldest": cursor[1], "epoch": self._channels.epoch, "gap": gap is not None}
        frame = self._wire.subscribed(step, **more)
        if frame is None:
            return None
        self.socket.send_text(frame)
        if gap is not None:
            self._gap(step.id, gap)
        who = Subscriber(self.socket, appsync.data_head(step.id), lambda lost: self._gap(step.id, lost))
        self.socket.attach(who)
        return who

    def _hold(self, id: str, held: _Held) -> None:
        held.caller = replace(held.caller, told={}, known={})  # they were for handlers, and may be many kilobytes
        self._held[id] = held
        credential = held.caller.principal.credential
        if credential != self.principal.credential and credential not in self._others:
            other = self._others[credential] = _Other(self, held.caller.principal)
            self._hub.opened(other)
            if self._platform.left(other.principal) is not None:
                other.ending = asyncio.create_task(self._lapse_of(other), name="credential")

    async def _lapse_of(self, other: _Other) -> None:
        await lapse(lambda: self._platform.left(other.principal), self._platform.kit.clock.sleep)
        other.revoked()

    def _ended(self, id: str) -> None:
        """A subscription ends by the server's will; the client is told."""
        if self._release(id):
            self._say(self._wire.ended(id, Refusal()))

    def _release(self, id: str) -> bool:
        """Whether there was such a subscription. A credential that holds no other is forgotten."""
        held = self._held.pop(id, None)
        if held is None:
            return False
        held.end(self.socket)
        credential = held.caller.principal.credential
        if credential in self._others and all(o.caller.principal.credential != credential for o in self._held.values()):
            other = self._others.pop(credential)
            self._hub.closed(other)
            other.close()
        return True

    def drop(self, credential: str) -> None:
        """All subscriptions by it."""
        for id, held in list(self._held.items()):
            if held.caller.principal.credential == credential:
                self._ended(id)

    def _gap(self, id: str, lost: Lost) -> None:
        self._say(appsync.gap(id, lost.start, lost.end))

    async def _publish(self, step: Publish) -> None:
        signed = {"channel": step.said, "events": [event.text for event in step.events]}
        try:
            caller = await self._caller("publish", step, signed, step.channel)
            namespace = await self._callers.may(caller, "publish", step.channel, self._address, ROUTE)
            done = await self._callers.publish(caller, namespace, step.channel, step.events, step.key)
        except (PilothouseError, StoreFailed) as error:
            self._say(self._wire.refused(step, _why(error)))
            return
        except Bad as error:
            self._say(self._wire.refused(step, Refusal(error.type, str(error), 400)))
            return
        self._say(self._wire.published(step, done.taken, done.failed))

    async def _caller(
        self, operation: Operation, step: Subscribe | Publish, payload: Mapping[str, Any], where: Channel | Pattern
    ) -> Caller:
        signed = Signed(step.authorization, self._path, payload)
        return await self._callers.of(operation, step.authorization.items(), signed, self._address, where, self._told)

    async def _end_with_credential(self) -> None:
        await lapse(lambda: self._platform.left(self.principal), self._platform.kit.clock.sleep)
        self.revoked()

    # --- what the hub calls ---

    def revoked(self) -> None:
        """The client comes back with another credential, if it has one."""
        self.socket.close(AWAY, "the credential has ended")

    def away(self) -> None:
        self.socket.close(AWAY, "the server restarts")

    def recheck(self) -> None:
        """Somebody may do less than a moment ago."""
        if self._platform.left(self.principal) == 0:
            self.revoked()
            return
        for id, held in list(self._held.items()):
            session = held.place.spot.session if isinstance(held.place, Following) else None
            if not self._stands(held.caller, held.namespace, session, wild=held.wild):
                self._ended(id)

    def _stands(self, caller: Caller, namespace: Namespace, session: Session | None, *, wild: bool) -> bool:
        """Whether it may at this moment."""
        if self._platform.left(caller.principal, session) == 0:
            return False
        try:
            now = self._callers.still(caller).principal
        except Unauthenticated:
            return False
        return namespace.may("subscribe", caller.mode, now, wild=wild)


def _why(error: PilothouseError | StoreFailed) -> Refusal:
    if isinstance(error, StoreFailed):
        return refusal(Unavailable("The store does not answer; try again."))
    return refusal(error)
