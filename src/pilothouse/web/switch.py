"""Doors behind uvicorn, on uvicorn's own port.

uvicorn's HTTP protocol (`web.head`) reads the head of every request and asks here about each upgrade. A door's goes to
`hot`, at once where the door can say at once; everything else to uvicorn's sans-io implementation. Nothing is read
twice, or by two who might differ.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from http import HTTPStatus
from typing import Any, cast

from uvicorn.server import ServerState

from pilothouse.web.access import AccessLog
from pilothouse.web.front import Front
from pilothouse.web.head import Http, Quick
from pilothouse.web.hot import HotSocket, Keepalive, take_over
from pilothouse.web.plain import plain_options
from pilothouse.web.socket import Accept, Door, Find, Limits, Refuse, UpgradeRequest, ask, ask_at_once


def hot_options(
    find: Find,
    limits: Limits,
    front: Front | None = None,
    log: AccessLog | None = None,
    quick: Quick | None = None,
) -> dict[str, Any]:
    """For `uvicorn.Config`: doors on their transports, other WebSockets as `plain_options` has them."""
    return plain_options(limits, quick, Switch(find, limits, front or Front(), log))


class Switch:
    def __init__(self, find: Find, limits: Limits, front: Front, log: AccessLog | None) -> None:
        self._find = find
        self._front = front
        self.limits = limits
        self.log = log
        self.keeper = Keepalive(limits)

    def take(self, asked: Http) -> bool:
        path, _, query = asked.url.decode("latin-1").partition("?")
        headers = [(name.decode("latin-1"), value.decode("latin-1").strip()) for name, value in asked.headers]
        request = self._front.upgrade(UpgradeRequest(path, query, headers, asked.client, asked.scheme == "https"))
        door = self._find(self._front.inner(request.path))
        if door is None:
            return False
        transport, state = asked.transport, asked.server_state
        state.connections.discard(asked)
        asked.parser = None  # type: ignore[assignment]  # they know each other
        key = _key(asked.scope["method"], request)
        answer = key if isinstance(key, Refuse) else ask_at_once(door, request, self.log)
        if answer is None:
            assert isinstance(key, str)
            Asking(self, state, transport, door, request, key)
        else:
            transport.set_protocol(asyncio.Protocol())  # nobody hears what comes behind what is refused
            self.answer(answer, key, transport, state)
        return True

    def answer(
        self, answer: Accept | Refuse, key: str | Refuse, transport: asyncio.Transport, state: ServerState
    ) -> None:
        if isinstance(answer, Refuse) or isinstance(key, Refuse):
            refuse(answer if isinstance(answer, Refuse) else cast(Refuse, key), transport, state)
        else:
            take_over(HotSocket(answer, self.limits, self.keeper, state), answer, key, transport)


class Asking(asyncio.Protocol):
    """A connection whose door has to wait before it can say. Nothing may be sent before the answer."""

    __slots__ = ("_asking", "_state", "_transport")

    def __init__(
        self,
        switch: Switch,
        state: ServerState,
        transport: asyncio.Transport,
        door: Door,
        request: UpgradeRequest,
        key: str,
    ) -> None:
        self._state = state
        self._transport = transport
        state.connections.add(self)  # type: ignore[arg-type]
        transport.pause_reading()
        transport.set_protocol(self)
        self._asking = asyncio.ensure_future(self._answer(switch, door, request, key))
        state.tasks.add(self._asking)
        self._asking.add_done_callback(state.tasks.discard)

    def connection_lost(self, exc: Exception | None) -> None:
        self._state.connections.discard(self)
        self._asking.cancel()

    def shutdown(self) -> None:
        """uvicorn asks every connection to come to its end."""
        refuse(Refuse(503, [("retry-after", "1")], b"restarting"), self._transport, self._state)

    async def _answer(self, switch: Switch, door: Door, request: UpgradeRequest, key: str) -> None:
        answer = await ask(door, request, switch.limits, switch.log)
        if self._transport.is_closing():
            return
        if isinstance(answer, Accept):
            self._state.connections.discard(self)
        switch.answer(answer, key, self._transport, self._state)


def refuse(answer: Refuse, transport: asyncio.Transport, state: ServerState) -> None:
    lines = [f"HTTP/1.1 {answer.status} {_phrase(answer.status)}".encode()]
    lines += [name + b": " + value for name, value in state.default_headers]
    lines += [f"{name}: {value}".encode("latin-1") for name, value in answer.headers]
    lines += [b"content-length: %d" % len(answer.body), b"connection: close", b"", answer.body]
    transport.write(b"\r\n".join(lines))
    transport.close()


def _key(method: str, request: UpgradeRequest) -> str | Refuse:
    """The key of the handshake, or what is wrong with it."""
    if method != "GET":
        return Refuse(405, [("allow", "GET")])
    if request.header("sec-websocket-version") != "13":
        return Refuse(426, [("sec-websocket-version", "13"), ("upgrade", "websocket")], b"version 13")
    key = request.header("sec-websocket-key") or ""
    try:
        whole = len(base64.b64decode(key, validate=True)) == 16
    except (binascii.Error, ValueError):
        whole = False
    return key if whole else Refuse(400, (), b"Sec-WebSocket-Key: 16 bytes as base64, once")


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
