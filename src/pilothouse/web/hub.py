"""Who has a socket open, and who watches what."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, defaultdict
from collections.abc import Callable, Collection
from itertools import chain
from typing import Protocol

from pilothouse.core import access, chat
from pilothouse.core.access import Principal
from pilothouse.core.errors import Unauthenticated
from pilothouse.core.ids import SessionId
from pilothouse.engine.members import Members
from pilothouse.engine.ports import Row
from pilothouse.engine.records import SessionRecord
from pilothouse.web.socket import Frames, Socket

FRAMED_MAX = 256 * 1024
"""Bytes of frames remembered per watched session: what is new, not a replay from the start."""

LINGER_S = 10.0
"""A page that was cut off comes back within a few seconds."""


class Viewer(Protocol):
    """An open socket of somebody."""

    socket: Socket

    @property
    def principal(self) -> Principal: ...

    @property
    def door(self) -> str:
        """Through which it came; empty for one that is part of another."""
        ...

    def recheck(self) -> None: ...
    def revoked(self) -> None:
        """Its credential has ended."""
        ...

    def away(self) -> None:
        """The server goes: it may come back."""
        ...


class Hub:
    """Who watches what: the count that `viewers` frames tell."""

    def __init__(self) -> None:
        self._viewers: defaultdict[SessionId, set[Viewer]] = defaultdict(set)
        self._open: defaultdict[str, set[Viewer]] = defaultdict(set)
        self._left: set[Viewer] = set()
        """A moment ago: who reloads a page is there again in the next one."""
        self._framed: dict[SessionId, tuple[int, int, Frames]] = {}

    def count(self, session: SessionId) -> int:
        return len(self._viewers[session]) if session in self._viewers else 0

    def doors(self) -> Counter[str]:
        """How many are open, by door."""
        return Counter(viewer.door for mine in self._open.values() for viewer in mine)

    @property
    def viewers(self) -> int:
        """Of all sessions."""
        return sum(map(len, self._viewers.values()))

    def joined(self, session: SessionId, viewer: Viewer) -> None:
        self._viewers[session].add(viewer)
        self._tell(session)

    def left(self, session: SessionId, viewer: Viewer) -> None:
        self._viewers[session].discard(viewer)
        self._tell(session)
        if not self._viewers[session]:
            del self._viewers[session]
            self._framed.pop(session, None)

    def _tell(self, session: SessionId) -> None:
        frame = chat.encode_frame(chat.Viewers(chat_id=session, viewers=len(self._viewers[session])))
        for viewer in self._viewers[session]:
            viewer.socket.send_text(frame)

    def frames(self, session: SessionId, rows: list[Row]) -> Frames:
        """The rows as WebSocket frames, made once for all viewers that are at the same place."""
        first, last = rows[0].seq, rows[-1].seq
        known = self._framed.get(session)
        if known is not None and known[:2] == (first, last):
            return known[2]
        made = Frames.of([row.body for row in rows])
        if len(made.raw) <= FRAMED_MAX:
            self._framed[session] = (first, last, made)
        return made

    def opened(self, connection: Viewer) -> None:
        self._open[connection.principal.credential].add(connection)

    def closed(self, connection: Viewer) -> None:
        self._left.add(connection)
        asyncio.get_running_loop().call_later(LINGER_S, self._left.discard, connection)
        credential = connection.principal.credential
        self._open[credential].discard(connection)
        if not self._open[credential]:
            del self._open[credential]

    def revoked(self, credential: str) -> None:
        for connection in list(self._open.get(credential, ())):
            connection.revoked()

    def recheck(self) -> None:
        """Somebody may do less than a moment ago."""
        for mine in list(self._open.values()):
            for connection in list(mine):
                connection.recheck()

    def approver(self, members: Members, session: SessionRecord, besides: Collection[str]) -> bool:
        """Whether somebody is here who may approve in this session, and is none of these accounts: who is signed in, or
        follows the session by another credential."""
        following = self._viewers.get(session.id, ())
        for one in chain(self._left, *self._open.values()):
            if one.principal.kind in {"person", "link"} or (one.principal.kind == "key" and one in following):
                with contextlib.suppress(Unauthenticated):
                    now = members.now(one.principal)
                    if "approve" in access.rights(now, session) and now.account not in besides:
                        return True
        return False

    def aways(self) -> list[Callable[[], None]]:
        """What sends each of them away, who may come back."""
        return [connection.away for mine in self._open.values() for connection in mine]

    def all_away(self) -> None:
        """The server goes now."""
        for away in self.aways():
            away()
