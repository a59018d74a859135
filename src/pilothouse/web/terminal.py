"""The door of our own viewers to a shell, `WS /api/sessions/{id}/shells/{shellId}`. See `protocol/terminal.md`."""

from __future__ import annotations

import re

from pilothouse.core import access, frames
from pilothouse.core.audience import Viewer, ViewerId
from pilothouse.core.errors import BadRequest, NotFound, PilothouseError, Unavailable
from pilothouse.core.shell import shell_id, size
from pilothouse.engine import records
from pilothouse.engine.opener import Opener
from pilothouse.engine.ports import StoreFailed
from pilothouse.web import admit
from pilothouse.web.access import named
from pilothouse.web.call import Platform
from pilothouse.web.chat import refuse
from pilothouse.web.guard import Guard
from pilothouse.web.hub import Hub
from pilothouse.web.socket import Accept, Door, Refuse, UpgradeRequest
from pilothouse.web.visit import Place, Visit, parameters

PATH = re.compile(r"/api/sessions/([^/]{1,100})/shells/([^/]{1,200})\Z")
_FIELDS = {"after", "typist", "role", "width", "height"}
_OFFSET_MAX = 2**53
_TYPIST_MAX = 2**64


class TerminalDoor(Door):
    def __init__(self, platform: Platform, guard: Guard, hub: Hub, opener: Opener) -> None:
        self._platform = platform
        self._guard = guard
        self._hub = hub
        self._opener = opener

    async def authorize(self, request: UpgradeRequest) -> Accept | Refuse:
        try:
            caller = await admit.upgrade(self._platform, self._guard, request, "cookie-same-origin", "read", links=True)
            place = await self._place(request, caller)
        except PilothouseError as error:
            return refuse(error)
        except StoreFailed:
            return refuse(Unavailable("The store does not answer; try again."))
        visit = Visit(self._platform, self._hub, self._opener.terminals, place, caller.who)
        return Accept(lambda socket: visit.serve(socket, caller.room), principal=named(caller.principal))

    async def _place(self, request: UpgradeRequest, caller: admit.Caller) -> Place:
        found = PATH.search(request.path)
        if found is None:
            raise NotFound
        session = await self._platform.sessions.get(found[1], caller.principal)
        asked = _query(request.query)
        terminal = await self._opener.find(session, shell_id(found[2]))
        may_type = access.types(caller.principal, session.live.record)
        role = asked.get("role", "type" if may_type else "watch")
        if role not in {"type", "watch"}:
            raise BadRequest("role: type or watch")
        shown = None
        if "width" in asked or "height" in asked:
            shown = size(*(_number(asked, edge, 10_000) for edge in ("width", "height")))
        viewer = Viewer(
            ViewerId(records.new_id()),
            caller.principal.label,
            "type" if role == "type" else "watch",
            may_type=may_type,
            size=shown,
            guest=caller.principal.session is not None,
        )
        after, typist = _number(asked, "after", _OFFSET_MAX), _number(asked, "typist", _TYPIST_MAX)
        return Place(session, terminal, viewer, after is None, after, typist)


def _query(query: str) -> dict[str, str]:
    """Raises BadRequest for what is unknown or given twice."""
    given = parameters(query)
    for name, values in given.items():
        if name not in _FIELDS and not name.startswith("X-Amz-"):
            raise BadRequest(f"{name[: frames.SHOWN_MAX]}: there is no such parameter")
        if len(values) > 1:
            raise BadRequest(f"{name[: frames.SHOWN_MAX]}: given twice")
    return {name: values[0] for name, values in given.items()}


def _number(asked: dict[str, str], name: str, below: int) -> int | None:
    text = asked.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 20 and int(text) < below):
        raise BadRequest(f"{name}: a whole number below {below}")
    return int(text)
