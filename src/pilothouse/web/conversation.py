"""One connection of the event API: its frames in turn, its subscriptions, and the rights that they stand on.

A subscribe may take long to be judged and is then a task of its own; a publish waits for those that came before it, so
that who subscribes and then publishes hears itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AbstractContextManager
from typing import Any

from pilothouse.core import appsync
from pilothouse.core.access import Principal
from pilothouse.core.appsync import Publish, Refusal, Reply, Subscribe, Unsubscribe
from pilothouse.core.channels import Channel, Pattern
from pilothouse.core.errors import BadRequest, Forbidden, PilothouseError, TooMany, Unauthenticated, Unavailable
from pilothouse.core.namespaces import Namespace, Operation
from pilothouse.core.publish import Bad
from pilothouse.engine.channels import Channels, Place, Subscription
from pilothouse.engine.dialogs import Following, Spot
from pilothouse.engine.fanout import AWAY, Lost, Subscriber
from pilothouse.engine.handlers import HandlerFailed
from pilothouse.engine.ports import StoreFailed
from pilothouse.engine.sessions import Session
from pilothouse.web.call import Platform
from pilothouse.web.callers import NOTHING, Caller, Callers, Signed, refusal, told
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


class _Live(Subscriber):
    """A live subscription, and by whose right."""

    __slots__ = ("caller", "conversation", "id", "leave", "namespace", "place", "wild")

    def __init__(self, conversation: Conversation, step: Subscribe, caller: Caller, namespace: Namespace) -> None:
        super().__init__(conversation.socket, appsync.data_head(step.id))
        self.conversation = conversation
        self.id = step.id
        self.caller = caller
        self.namespace = namespace
        self.wild = step.pattern.wild
        self.place: Subscription | Following
        self.leave: Callable[[], None] | None = None

    def missed(self, lost: Lost) -> None:
        self.conversation.gap(self.id, lost)

    def end(self, socket: Socket) -> None:
        socket.detach(self)
        self.place.end()
        del self.place  # it knows this one
        if self.leave is not None:
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
    """One connection: who hears it. Also what the hub knows of it."""

    __slots__ = (
        "_address",
        "_asking",
        "_callers",
        "_ending",
        "_held",
        "_hub",
        "_others",
        "_path",
        "_platform",
        "_pulse",
        "_room",
        "_told",
        "_wire",
        "caller",
        "socket",
    )
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
        room: AbstractContextManager[None],
    ) -> None:
        """`room`: taken while it is open."""
        self._platform = platform
        self._hub = hub
        self._callers = callers
        self._pulse = pulse
        self._path = sys.intern(path)  # thousands have the same
        self._address = address
        self._told = told(headers) if callers.tells else NOTHING
        self._room: AbstractContextManager[None] | None = room
        self.caller = caller.bare()
        self.socket: Socket
        self._wire = appsync.Connection(_now())
        self._held: dict[str, _Live] = {}
        self._others: dict[str, _Other] | None = None
        self._asking: dict[asyncio.Task[None], None] | None = None
        """A set, but for its size. Of thousands almost all have neither of these."""
        self._ending: asyncio.Task[None] | None = None

    @property
    def principal(self) -> Principal:
        return self.caller.principal

    @property
    def _channels(self) -> Channels:
        assert self._platform.channels is not None
        return self._platform.channels

    # --- what the socket calls ---

    def opened(self, socket: Socket) -> Coroutine[Any, Any, None] | None:
        self.socket = socket
        room, self._room = self._room, None
        assert room is not None
        try:
            room.__enter__()
        except TooMany as error:
            return turn_away(socket, refusal(error))
        self._room = room
        self._hub.opened(self)
        self._pulse.add(socket)
        if self._platform.left(self.principal) is not None:
            self._ending = asyncio.create_task(self._end_with_credential(), name="credential")
        return None

    def heard(self, data: bytes, text: bool) -> Coroutine[Any, Any, None] | None:
        if self._room is None:
            return None  # it was turned away
        step = self._wire.take(data, text=text, now=_now())
        match step:
            case Reply():
                for frame in step.frames:
                    self.socket.send_text(frame)
            case Subscribe():
                if not self._subscribe_at_once(step):
                    self._ask(self._subscribe(step))
            case Unsubscribe():
                self._release(step.id)
                self._say(self._wire.unsubscribed(step))
            case Publish():
                return self._publish(step)
        return None

    def ended(self) -> None:
        if self._room is None:
            return
        self._room.__exit__(None, None, None)
        if self._ending is not None:
            self._ending.cancel()
        self._pulse.remove(self.socket)
        self._hub.closed(self)
        for other in (self._others or {}).values():
            self._hub.closed(other)
            other.close()
        for task in list(self._asking or ()):
            task.cancel()
        for held in self._held.values():
            held.end(self.socket)
        self._held.clear()  # they know it, as it knows them

    def _ask(self, asking: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(asking, name="subscribe")
        waiting = self._asking = {} if self._asking is None else self._asking
        waiting[task] = None
        task.add_done_callback(lambda done: waiting.pop(done, None))

    def _say(self, frame: bytes | None) -> None:
        if frame is not None:
            self.socket.send_text(frame)

    def _subscribe_at_once(self, step: Subscribe) -> bool:
        """Where nobody has to be waited for, and nothing is wrong. Everything else is `_subscribe`'s."""
        caller = self._callers.at_hand("subscribe", step.authorization.items(), self._address, self._told)
        namespace = None if caller is None else self._callers.namespace(caller, "subscribe", step.pattern)
        if caller is None or namespace is None or namespace.on_subscribe or step.presence:
            return False
        place = self._channels.place_at_once(caller.principal.organisation, step.pattern, step.after)
        if place is None:
            return False
        self._begin(step, place, caller, namespace)
        return True

    async def _subscribe(self, step: Subscribe) -> None:
        try:
            caller = await self._caller("subscribe", step, {"channel": step.said}, step.pattern)
            namespace = await self._callers.may(caller, "subscribe", step.pattern, self._address, ROUTE)
            if step.presence and (step.pattern.wild or not namespace.presence):
                raise BadRequest(f"presence: {nobody_counted(step.pattern)}")
            if namespace.on_subscribe:
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
        held = self._live(step, cursor, place.gap, caller, namespace)
        if held is None:
            return
        held.place = self._channels.subscribe(place, held)
        if namespace.presence and not step.pattern.wild:
            id = step.id
            tell = (lambda said: self._say(appsync.presence(id, said))) if step.presence else None
            held.leave = self._channels.presences.enter(
                place.organisation, place.pattern.path, caller.principal.label, tell
            )
        self._hold(held)

    def _begin_dialog(self, step: Subscribe, spot: Spot, caller: Caller, namespace: Namespace) -> None:
        dialogs = self._platform.dialogs
        assert dialogs is not None
        cursor = None if spot.session is None else (spot.head, spot.oldest)
        held = self._live(step, cursor, spot.gap, caller, namespace)
        if held is not None:
            id = step.id
            held.place = dialogs.subscribe(spot, held, lambda: self._ended(id))
            self._hold(held)

    def _live(
        self, step: Subscribe, cursor: tuple[int, int] | None, gap: Lost | None, caller: Caller, namespace: Namespace
    ) -> _Live | None:
        """Says that it is live. None: nobody waits for it any more."""
        more: dict[str, object] = {}
        if cursor is not None:
            more = {"seq": cursor[0], "oldest": cursor[1], "epoch": self._channels.epoch, "gap": gap is not None}
        frame = self._wire.subscribed(step, **more)
        if frame is None:
            return None
        self.socket.send_text(frame)
        if gap is not None:
            self.gap(step.id, gap)
        mine = caller.principal is self.principal and caller.mode == self.caller.mode
        held = _Live(self, step, self.caller if mine else caller.bare(), namespace)
        self.socket.attach(held)
        return held

    def _hold(self, held: _Live) -> None:
        self._held[held.id] = held
        credential = held.caller.principal.credential
        if credential == self.principal.credential:
            return
        others = self._others = {} if self._others is None else self._others
        if credential not in others:
            other = others[credential] = _Other(self, held.caller.principal)
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
        others = self._others or {}
        if credential in others and all(o.caller.principal.credential != credential for o in self._held.values()):
            other = others.pop(credential)
            self._hub.closed(other)
            other.close()
        return True

    def drop(self, credential: str) -> None:
        """All subscriptions by it."""
        for id, held in list(self._held.items()):
            if held.caller.principal.credential == credential:
                self._ended(id)

    def gap(self, id: str, lost: Lost) -> None:
        self._say(appsync.gap(id, lost.start, lost.end))

    async def _publish(self, step: Publish) -> None:
        if self._asking:
            await asyncio.wait(self._asking)
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


def _now() -> float:
    return asyncio.get_running_loop().time()


def _why(error: PilothouseError | StoreFailed) -> Refusal:
    if isinstance(error, StoreFailed):
        return refusal(Unavailable("The store does not answer; try again."))
    return refusal(error)
