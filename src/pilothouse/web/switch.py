"""Doors behind uvicorn, on uvicorn's own port.

uvicorn hands every upgraded connection to what is given as `ws`, as it would to its own: constructor with `config`,
`server_state`, `app_state`, then `connection_made`, then `data_received` with the whole request, then it makes the
object the transport's protocol. `Switch` is that object for as long as it takes to know whose connection it is: a
door's goes to picows (`hot`), everything else to uvicorn's sans-io implementation.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import socket as sockets
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, cast

from uvicorn.config import Config
from uvicorn.protocols.utils import get_remote_addr, is_ssl
from uvicorn.server import ServerState

from pilothouse.web.access import AccessLog
from pilothouse.web.front import Front
from pilothouse.web.head import Quick, Upgraded
from pilothouse.web.hot import HotSocket, Keepalive, take_over
from pilothouse.web.plain import plain_options
from pilothouse.web.socket import Door, Find, Limits, Refuse, UpgradeRequest, ask


def hot_options(
    find: Find,
    limits: Limits,
    front: Front | None = None,
    log: AccessLog | None = None,
    quick: Quick | None = None,
) -> dict[str, Any]:
    """For `uvicorn.Config`: doors through picows, other WebSockets as `plain_options` has them."""
    keeper = Keepalive(limits)
    before = front or Front()

    def switch(config: Config, server_state: ServerState, app_state: dict[str, Any]) -> Switch:
        return Switch(Doors(find, limits, before, log), keeper, (config, server_state, app_state))

    return {**plain_options(limits, quick), "ws": switch}


@dataclass(frozen=True, slots=True)
class Doors:
    """What a connection is asked against."""

    find: Find
    limits: Limits
    front: Front
    log: AccessLog | None


class Switch(asyncio.Protocol):
    """Between uvicorn's HTTP protocol and the one that serves the connection. uvloop goes on holding it, so it is to be
    small and to hold nothing from then on."""

    __slots__ = ("_asking", "_doors", "_keeper", "_limits", "_other", "_state", "_transport", "_uvicorn")

    def __init__(self, doors: Doors, keeper: Keepalive, uvicorn: tuple[Config, ServerState, dict[str, Any]]) -> None:
        self._doors = doors
        self._limits = doors.limits
        self._keeper = keeper
        self._uvicorn = uvicorn
        self._state = uvicorn[1]
        self._transport: asyncio.Transport
        self._other: Upgraded | None = None
        self._asking: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._state.connections.add(self)  # type: ignore[arg-type]

    def data_received(self, data: bytes) -> None:
        if self._other is not None:
            self._other.data_received(data)
            return
        if self._asking is not None:
            return  # nothing may be sent before the answer
        request, key = _parse(data, self._transport)
        request = self._doors.front.upgrade(request)
        door = self._doors.find(self._doors.front.inner(request.path)) if self._is_tcp() else None
        if door is None:
            self._hand_over(data)
            return
        self._transport.pause_reading()
        self._asking = asyncio.ensure_future(self._answer(door, request, key))
        self._state.tasks.add(self._asking)
        self._asking.add_done_callback(self._state.tasks.discard)

    def connection_lost(self, exc: Exception | None) -> None:
        self._state.connections.discard(self)
        if self._asking is not None:
            self._asking.cancel()
        if self._other is not None:
            self._other.connection_lost(exc)

    def shutdown(self) -> None:
        """uvicorn asks every connection to come to its end."""
        self._refuse(Refuse(503, [("retry-after", "1")], b"restarting"))

    def _is_tcp(self) -> bool:
        """picows sets TCP options on whatever it gets."""
        family = self._transport.get_extra_info("socket").family
        return family in (sockets.AF_INET, sockets.AF_INET6)

    def _hand_over(self, data: bytes) -> None:
        """uvicorn is about to make this object the protocol, so the change has to come after it."""
        self._state.connections.discard(self)
        config, state, app_state = self._uvicorn
        self._other = Upgraded(config=config, server_state=state, app_state=app_state)
        self._other.connection_made(self._transport)
        self._other.data_received(data)
        asyncio.get_running_loop().call_soon(self._step_aside, self._other)

    def _step_aside(self, other: asyncio.BaseProtocol) -> None:
        if not self._transport.is_closing():
            self._transport.set_protocol(other)

    async def _answer(self, door: Door, request: UpgradeRequest, key: str | Refuse) -> None:
        answer = key if isinstance(key, Refuse) else await ask(door, request, self._limits, self._doors.log)
        if self._transport.is_closing():
            return
        if isinstance(answer, Refuse) or isinstance(key, Refuse):
            self._refuse(answer if isinstance(answer, Refuse) else cast(Refuse, key))
            return
        socket = HotSocket(answer, self._limits, self._keeper, self._state)
        self._state.connections.discard(self)
        take_over(socket, answer, key, self._transport)
        self._asking = None

    def _refuse(self, answer: Refuse) -> None:
        lines = [f"HTTP/1.1 {answer.status} {_phrase(answer.status)}".encode()]
        lines += [name + b": " + value for name, value in self._state.default_headers]
        lines += [f"{name}: {value}".encode("latin-1") for name, value in answer.headers]
        lines += [b"content-length: %d" % len(answer.body), b"connection: close", b"", answer.body]
        self._transport.write(b"\r\n".join(lines))
        self._transport.close()


def _parse(data: bytes, transport: asyncio.Transport) -> tuple[UpgradeRequest, str | Refuse]:
    """The request that uvicorn has parsed and written out again, and its key or what is wrong with the handshake."""
    first, *lines = data.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
    method, target, _ = first.split(" ", 2)
    path, _, query = target.partition("?")
    headers = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
    request = UpgradeRequest(path, query, headers, get_remote_addr(transport), is_ssl(transport))
    if method != "GET":
        return request, Refuse(405, [("allow", "GET")])
    if request.header("sec-websocket-version") != "13":
        return request, Refuse(426, [("sec-websocket-version", "13"), ("upgrade", "websocket")], b"version 13")
    key = request.header("sec-websocket-key") or ""
    try:
        whole = len(base64.b64decode(key, validate=True)) == 16
    except (binascii.Error, ValueError):
        whole = False
    return request, key if whole else Refuse(400, (), b"Sec-WebSocket-Key: 16 bytes as base64, once")


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
