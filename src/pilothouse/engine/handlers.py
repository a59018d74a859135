"""Handlers of namespaces: the user's code between a publish and those who get it, or before somebody subscribes.

What is asked and answered is in `core.handler`. A handler that fails, is late or answers rubbish stops what it was
asked about and nothing else. One that is only told (`EVENT`, and whatever the server publishes) is told in order, by a
task of its own; what it does not keep up with, beyond `BACKLOG` or `BACKLOG_BYTES`, is dropped and noted: it delays
nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pilothouse.core import handler
from pilothouse.core.channels import Channel, Pattern
from pilothouse.core.errors import PilothouseError, Unauthenticated
from pilothouse.core.handler import NoAnswer, Outcome
from pilothouse.core.namespaces import Namespace
from pilothouse.core.publish import Bad, Event
from pilothouse.engine.hooks import Bounded, HookFailed
from pilothouse.engine.kit import Note, silent, worth_noting

BACKLOG = 1000
"""Calls that one handler may be behind with."""
BACKLOG_BYTES = 16 * 1024 * 1024
"""The same in bytes of events: a thousand calls could hold a gigabyte."""
DENIED = "UnauthorizedException"
"""What a handler raises to say that the caller may not; Powertools lets it through as it is."""


class HandlerFailed(PilothouseError):
    """The handler of this namespace failed, or said no."""

    code = "handler_failed"
    status = 403


@dataclass(frozen=True, slots=True)
class Asker:
    """On whose behalf a handler is asked. The server's own: nobody's."""

    identity: Mapping[str, Any] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


NOBODY = Asker()


class Handlers:
    def __init__(self, hooks: Mapping[str, Bounded] | None = None, note: Note = silent) -> None:
        """`hooks` by the name that namespaces call them."""
        self._hooks = dict(hooks or {})
        self._note = note
        self._backlogs: dict[str, _Backlog] = {}

    @property
    def some(self) -> bool:
        """Whether anybody is ever asked."""
        return bool(self._hooks)

    async def publish(
        self, namespace: Namespace, channel: Channel, events: Sequence[tuple[str, Event]], who: Asker
    ) -> Outcome:
        """What is to go out. Raises Bad, HandlerFailed, Unauthenticated."""
        if not namespace.on_publish:
            return Outcome(events)
        if namespace.invoke == "EVENT":
            self.tell(namespace, channel, events, who)
            return Outcome(events)
        asked = handler.asked("PUBLISH", channel, who.identity, who.headers, events)
        answer = await self._ask(namespace.on_publish, asked)
        try:
            return handler.published(answer, [id for id, _ in events])
        except NoAnswer as error:
            self._hooks[namespace.on_publish].said(str(error))
            raise HandlerFailed from None

    async def subscribe(self, namespace: Namespace, pattern: Pattern, who: Asker) -> None:
        """Raises HandlerFailed, Unauthenticated."""
        if not namespace.on_subscribe:
            return
        asked = handler.asked("SUBSCRIBE", pattern, who.identity, who.headers)
        if namespace.invoke == "EVENT":
            self._backlog(namespace.on_subscribe).add(asked, 0)
            return
        answer = await self._ask(namespace.on_subscribe, asked)
        try:
            handler.subscribed(answer)
        except NoAnswer as error:
            self._hooks[namespace.on_subscribe].said(str(error))
            raise HandlerFailed from None

    def tell(self, namespace: Namespace, channel: Channel, events: Sequence[tuple[str, Event]], who: Asker) -> None:
        """Nobody waits for what it does. Raises Bad."""
        if namespace.on_publish:
            asked = handler.asked("PUBLISH", channel, who.identity, who.headers, events)
            self._backlog(namespace.on_publish).add(asked, sum(len(event.raw) for _, event in events))

    def tell_own(self, namespace: Namespace, channel: Channel, events: Sequence[tuple[str, Event]]) -> None:
        """Of what the server publishes: it has happened, and nothing that a handler cannot hold undoes it."""
        try:
            self.tell(namespace, channel, events, NOBODY)
        except Bad as error:
            self._note("handler_not_told", hook=namespace.on_publish, channel=channel.path, error=str(error))

    async def _ask(self, name: str, asked: Mapping[str, Any]) -> Any:
        try:
            return await self._hooks[name].call(asked)
        except HookFailed as error:
            if error.type == DENIED:
                raise Unauthenticated from None
            raise HandlerFailed from None

    def _backlog(self, name: str) -> _Backlog:
        found = self._backlogs.get(name)
        if found is None:
            found = self._backlogs[name] = _Backlog(name, self._hooks[name], self._note)
        return found

    async def close(self) -> None:
        for backlog in self._backlogs.values():
            await backlog.close()


class _Backlog:
    """Calls of one handler, one after another."""

    def __init__(self, name: str, hook: Bounded, note: Note) -> None:
        self._name = name
        self._hook = hook
        self._note = note
        self._waiting: deque[tuple[Mapping[str, Any], int]] = deque()
        self._size = 0
        self._dropped = 0
        self._task: asyncio.Task[None] | None = None

    def add(self, asked: Mapping[str, Any], size: int) -> None:
        if len(self._waiting) >= BACKLOG or (self._waiting and self._size + size > BACKLOG_BYTES):
            self._dropped += 1
            if worth_noting(self._dropped):
                self._note("handler_behind", hook=self._name, dropped=self._dropped)
            return
        self._waiting.append((asked, size))
        self._size += size
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run(), name="handler")

    async def _run(self) -> None:
        while self._waiting:
            asked, size = self._waiting.popleft()
            self._size -= size
            with contextlib.suppress(HookFailed):  # the hook has noted it
                await self._hook.call(asked)

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
