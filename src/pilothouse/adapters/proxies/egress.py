"""The egress listener of a session: an HTTP CONNECT proxy with an allow-list.

`CONNECT host:port` for a host on the list, ports 443 and 80. The name is looked up outside of the session, every
address must be a public one, and the connection goes to the address that was checked. Anything else gets one sentence
that names the host. Plain `GET http://…` is refused: over TLS only.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeAlias

from pilothouse.engine.upstream import EgressSettings

PORTS = frozenset({80, 443})
HEAD_MAX = 8 * 1024
"""Of a request's head."""
_NAME = re.compile(r"(?=.{1,253}\Z)([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z")
_PIECE = 64 * 1024

Resolve: TypeAlias = Callable[[str, int], Awaitable[list[str]]]


@dataclass(frozen=True, slots=True)
class Limits:
    head_s: float = 10.0
    connect_s: float = 15.0
    idle_s: float = 300.0
    """Without a byte either way; a slow download still moves."""
    total_s: float = 3600.0
    connections_max: int = 64
    """At one time and session: package managers open a dozen."""


class Refused(Exception):
    """Not passed on; the message says why."""


def allowed(host: str, port: int, settings: EgressSettings) -> bool:
    if settings.policy != "allow" or port not in PORTS:
        return False
    for rule in settings.domains:
        rule = rule.lower()
        if rule == "*" or host == rule or (rule.startswith("*.") and host.endswith(rule[1:])):
            return True
    return False


async def resolve(host: str, port: int) -> list[str]:
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(info[4][0]) for info in found]


class EgressDoor:
    """One per session; `connected` is the callback of its listener."""

    def __init__(
        self,
        settings: Callable[[], EgressSettings],
        limits: Limits | None = None,
        lookup: Resolve = resolve,
        public: Callable[[str], bool] = lambda address: ipaddress.ip_address(address).is_global,
    ) -> None:
        self._settings = settings
        self._limits = limits or Limits()
        self._lookup = lookup
        self._public = public
        self._open = 0

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open += 1
        try:
            if self._open > 4 * self._limits.connections_max:
                return  # too many to even be told why
            async with asyncio.timeout(self._limits.total_s):
                await self._serve(reader, writer)
        except Refused as why:
            with suppress(OSError):
                writer.write(_reply(403, "Forbidden", f"Pilothouse: {why}\n"))
                await writer.drain()
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            self._open -= 1
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(self._limits.head_s):
            head = await reader.readuntil(b"\r\n\r\n")
        if self._open > self._limits.connections_max:
            raise Refused(f"at most {self._limits.connections_max} connections at one time")
        host, port = _target(head)
        if not allowed(host, port, self._settings()):
            raise Refused(f"this session may not reach {host}:{port}; an administrator can allow it under [egress]")
        address = await self._checked(host, port)
        try:
            async with asyncio.timeout(self._limits.connect_s):
                far_reader, far_writer = await asyncio.open_connection(address, port)
        except (OSError, TimeoutError):
            writer.write(_reply(502, "Bad Gateway", f"Pilothouse: {host}:{port} does not answer\n"))
            await writer.drain()
            return
        try:
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            await self._join(reader, writer, far_reader, far_writer)
        finally:
            far_writer.close()

    async def _checked(self, host: str, port: int) -> str:
        try:
            addresses = await self._lookup(host, port)
        except OSError:
            raise Refused(f"{host} has no address") from None
        if not addresses or not all(self._public(address) for address in addresses):
            raise Refused(f"{host} does not lead to a public address")
        return addresses[0]

    async def _join(
        self,
        near: asyncio.StreamReader,
        near_out: asyncio.StreamWriter,
        far: asyncio.StreamReader,
        far_out: asyncio.StreamWriter,
    ) -> None:
        """Both ways until both have ended, or nothing has moved for too long."""
        now = asyncio.get_running_loop().time
        moved = [now()]

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            while data := await source.read(_PIECE):
                moved[0] = now()
                sink.write(data)
                await sink.drain()
            with suppress(OSError, NotImplementedError):
                sink.write_eof()

        async def watch() -> None:
            while (left := moved[0] + self._limits.idle_s - now()) > 0:  # noqa: ASYNC110
                await asyncio.sleep(left)  # the time that is left, not a poll

        async def both() -> None:
            await asyncio.gather(pump(near, far_out), pump(far, near_out))

        tasks = [asyncio.create_task(both()), asyncio.create_task(watch())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def _target(head: bytes) -> tuple[str, int]:
    if len(head) > HEAD_MAX:
        raise Refused("the request's head is too large")
    words = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
    if len(words) != 3 or words[0] != "CONNECT":
        raise Refused("only CONNECT, for https, is served here")
    host, colon, port = words[1].lower().rpartition(":")
    host = host.rstrip(".")
    if not colon or not port.isascii() or not port.isdigit() or not 0 < int(port[:6]) < 65536 or not _NAME.match(host):
        raise Refused("the target must be a name and a port")
    return host, int(port)


def _reply(status: int, phrase: str, text: str) -> bytes:
    body = text.encode()
    return (
        f"HTTP/1.1 {status} {phrase}\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {len(body)}\r\n"
        "connection: close\r\n\r\n"
    ).encode() + body
