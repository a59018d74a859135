"""Which WebSocket door is behind which path, for both ways of serving them."""

from __future__ import annotations

from pilothouse.core import agentcore
from pilothouse.web import realtime
from pilothouse.web.call import Platform
from pilothouse.web.chat import ChatDoor
from pilothouse.web.front import Front
from pilothouse.web.guard import Guard
from pilothouse.web.hub import Hub
from pilothouse.web.metrics import CountedDoor
from pilothouse.web.realtime import Realtime
from pilothouse.web.runtimes import RuntimeShells
from pilothouse.web.socket import Accept, Door, Find, Refuse, UpgradeRequest
from pilothouse.web.terminal import PATH, TerminalDoor


def doors(platform: Platform, guard: Guard, hub: Hub) -> Find:
    """Every door of a server."""

    def counted(door: Door, name: str) -> Door:
        return CountedDoor(door, name, platform.metrics)

    chat, opener = counted(ChatDoor(platform, guard, hub), "chat"), platform.opener
    events = counted(Realtime(platform, guard, hub), "events") if platform.channels is not None else None
    if opener is None:
        return finder(chat, events=events)
    terminal = counted(TerminalDoor(platform, guard, hub, opener), "terminal")
    return finder(chat, terminal, counted(RuntimeShells(platform, guard, hub, opener), "runtime"), events)


def finder(chat: Door, terminal: Door | None = None, runtimes: Door | None = None, events: Door | None = None) -> Find:
    def find(path: str) -> Door | None:
        if path == "/ws":
            return chat
        if realtime.PATH.match(path):
            return events
        if PATH.match(path):
            return terminal
        if path.startswith("/runtimes/") and path.endswith(agentcore.SHELLS):
            return runtimes
        return None

    return find


class AnyDoor(Door):
    """All of them as one, where an ASGI server has one route for every WebSocket."""

    def __init__(self, find: Find, front: Front) -> None:
        self._find = find
        self._front = front

    async def authorize(self, request: UpgradeRequest) -> Accept | Refuse:
        door = self._find(self._front.inner(request.path))
        if door is None:
            return Refuse(404, [("content-type", "text/plain")], b"There is no socket at this address.")
        return await door.authorize(request)
