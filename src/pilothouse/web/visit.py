"""One viewer's connection to a shell, whichever door it came through: its messages go to the terminal, and it ends, or
may less, as soon as the right to it does.
"""

from __future__ import annotations

import asyncio
import dataclasses
from contextlib import AbstractContextManager
from dataclasses import dataclass
from urllib.parse import parse_qs

from pilothouse.core import access, chat, frames
from pilothouse.core.audience import Viewer
from pilothouse.core.errors import BadRequest, NotFound, PilothouseError, Unauthenticated
from pilothouse.engine.audit import Who
from pilothouse.engine.sessions import Session
from pilothouse.engine.terminal import Terminal
from pilothouse.engine.terminals import Terminals
from pilothouse.engine.viewing import Viewing
from pilothouse.web.call import Platform
from pilothouse.web.hub import Hub
from pilothouse.web.socket import Socket
from pilothouse.web.streams import lapse

PARAMETERS_MAX = 100
"""A presigned address has ten."""


def parameters(query: str) -> dict[str, list[str]]:
    """Raises BadRequest."""
    try:
        return parse_qs(query, keep_blank_values=True, max_num_fields=PARAMETERS_MAX) if query else {}
    except ValueError:
        raise BadRequest(f"query: more than {PARAMETERS_MAX} parameters") from None


@dataclass(frozen=True, slots=True)
class Place:
    """What somebody wants to look at, and how."""

    session: Session
    terminal: Terminal
    viewer: Viewer
    new: bool = False
    after: int | None = None
    typist: int | None = None


class Visit:
    __slots__ = ("_hub", "_place", "_platform", "_terminals", "_viewing", "principal", "socket")

    def __init__(self, platform: Platform, hub: Hub, terminals: Terminals, place: Place, who: Who) -> None:
        assert who.principal is not None
        self._platform = platform
        self._hub = hub
        self._terminals = terminals
        self._place = place
        self.principal = who.principal
        self.socket: Socket
        self._viewing: Viewing | None = None

    @property
    def door(self) -> str:
        return "runtime" if self._place.viewer.plain else "terminal"

    async def serve(self, socket: Socket, room: AbstractContextManager[None], life_s: float | None = None) -> None:
        """`life_s`: a connection lives no longer."""
        self.socket = socket
        with room:
            self._hub.opened(self)
            ends = [asyncio.create_task(self._lapse())] if self._platform.left(self.principal) is not None else []
            ends += [asyncio.create_task(self._old(life_s))] if life_s is not None else []
            try:
                if self._attach() and (viewing := self._viewing):
                    # A keystroke goes in as it comes: waking a task for each would make every echo later. Only when
                    # the shell does not read its input the next message waits.
                    socket.listen(viewing.take)
                    while (message := await socket.receive()) is not None:
                        await viewing.room()
                        await viewing.receive(message.data, message.text)
                        socket.listen(viewing.take)
            finally:
                for task in ends:
                    task.cancel()
                self._hub.closed(self)
                if self._viewing is not None:
                    self._viewing.leave()

    def _attach(self) -> bool:
        """As what it may be now: an upgrade can take long. Whether it looks at the shell."""
        place, may_type = self._place, self._may_type()
        if may_type is None:
            self.revoked()
            return False
        viewer = place.viewer
        if viewer.may_type != may_type:
            viewer = dataclasses.replace(viewer, may_type=may_type)
        try:
            self._viewing = self._terminals.attach(
                place.terminal, viewer, self.socket, new=place.new, after=place.after, typist=place.typist
            )
        except NotFound as error:
            self.socket.close(frames.BROKEN, error.message)  # who comes back finds another one, or none
            return False
        except PilothouseError as error:
            self.socket.send_binary(frames.failed(error.message))
            self.socket.close(frames.POLICY, error.message)
            return False
        return True

    async def _lapse(self) -> None:
        await lapse(lambda: self._platform.left(self.principal), self._platform.kit.clock.sleep)
        self.revoked()

    async def _old(self, life_s: float) -> None:
        await self._platform.kit.clock.sleep(life_s)
        self.socket.close(frames.POLICY, "the connection has lived its time; come back")

    # --- what the hub calls

    def revoked(self) -> None:
        """A client of the Shell API knows no code of ours; it comes back, and is refused. What it had typed and nobody
        had looked at is not typed any more."""
        code = frames.POLICY if self._place.viewer.plain else chat.CLOSE_SIGN_IN
        if self._viewing is None:
            self.socket.close(code, "sign in again")
        else:
            self._viewing.end(code, "sign in again")
            self._place.terminal.left(self._viewing)

    def away(self) -> None:
        if self._viewing is None:
            self.socket.close(frames.AWAY, "the server restarts")
        else:
            self._place.terminal.send_away(self._viewing)

    def recheck(self) -> None:
        """Who may not look any more goes; who may look and not type any more watches."""
        may_type = self._may_type()
        if may_type is None:
            self.revoked()
        elif self._viewing is not None:
            self._place.terminal.allow(self._viewing, may_type)

    def _may_type(self) -> bool | None:
        """None: it may not even be here."""
        session = self._place.session
        if self._platform.left(self.principal, session) == 0:
            return None
        try:
            now = self._platform.identity.members.now(self.principal)
        except Unauthenticated:
            return None
        record = (self._platform.sessions.here(session.live.record.id) or session).live.record
        may_type = access.types(now, record)
        return None if self._place.viewer.plain and not may_type else may_type
