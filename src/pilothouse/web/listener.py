"""The port with TLS. What comes is looked at before a handshake is begun:

    first byte 0x16   a TLS handshake: to the one TLS context that is current at this moment
    a capital letter  plain HTTP: told in plain HTTP that this port speaks TLS
    anything else     closed

Until its handshake is done a connection costs a timer and a small task; it has `HANDSHAKE_S` for all of it, and there
are at most `HANDSHAKES_MAX` of them: one more ends the oldest, which is the likeliest to be nobody's.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import ssl
from collections.abc import Callable
from typing import Any

import uvicorn

HANDSHAKE_S = 10.0
HANDSHAKES_MAX = 512
AGAIN_S = 0.5
"""After accepting failed for lack of descriptors or memory."""
CLOSE_S = 5.0
"""For the other side's part of closing TLS."""
BATCH = 64
"""Connections accepted at one go, so that a flood of them leaves time for the others."""
_SHORT = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_BODY = b"This port speaks TLS: use https:// and wss://.\n"
PLAIN_ANSWER = (
    b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-type: text/plain; charset=utf-8\r\n"
    b"content-length: %d\r\n\r\n%s" % (len(_BODY), _BODY)
)

Make = Callable[[], asyncio.BaseProtocol]
Context = Callable[[], ssl.SSLContext]


class TlsServer(uvicorn.Server):
    """uvicorn, on a listening socket of ours."""

    def __init__(self, config: uvicorn.Config, context: Context, handshake_s: float = HANDSHAKE_S) -> None:
        super().__init__(config)
        self._context = context
        self._handshake_s = handshake_s
        self.listeners: list[Listener] = []

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        def make() -> asyncio.BaseProtocol:
            kind: Any = self.config.http_protocol_class
            made: asyncio.BaseProtocol = kind(
                config=self.config, server_state=self.server_state, app_state=self.lifespan.state
            )
            return made

        await self.lifespan.startup()
        self.listeners = [Listener(each, make, self._context, self._handshake_s) for each in sockets or []]
        self.servers = list(self.listeners)  # type: ignore[arg-type]  # it asks them to close, and no more
        self.started = True


class Listener:
    def __init__(self, listening: socket.socket, make: Make, context: Context, handshake_s: float) -> None:
        self._listening = listening
        self._make = make
        self._context = context
        self._handshake_s = handshake_s
        self._loop = asyncio.get_running_loop()
        self._again: asyncio.TimerHandle | None = None
        self.pending: dict[asyncio.Task[None], None] = {}
        """Oldest first."""
        listening.setblocking(False)
        self._loop.add_reader(listening, self._accept)

    def close(self) -> None:
        """Also when it is closed already."""
        if self._listening.fileno() < 0:
            return
        if self._again is not None:
            self._again.cancel()
        self._loop.remove_reader(self._listening)
        for task in self.pending:
            task.cancel()

    async def wait_closed(self) -> None:
        await asyncio.gather(*self.pending, return_exceptions=True)

    def _accept(self) -> None:
        for _ in range(BATCH):
            try:
                connection, _ = self._listening.accept()
            except (BlockingIOError, ConnectionError):
                return
            except OSError as error:
                if error.errno in _SHORT:
                    self._pause()
                return
            connection.setblocking(False)
            with contextlib.suppress(OSError):  # the loops do it for what they accept themselves
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if len(self.pending) >= HANDSHAKES_MAX:
                oldest = next(iter(self.pending))
                del self.pending[oldest]
                oldest.cancel()
            task = self._loop.create_task(self._begin(connection))
            self.pending[task] = None
            task.add_done_callback(lambda done: self.pending.pop(done, None))

    def _pause(self) -> None:
        """The socket stays readable, so it would be asked again at once."""
        self._loop.remove_reader(self._listening)
        self._again = self._loop.call_later(AGAIN_S, self._loop.add_reader, self._listening, self._accept)

    async def _begin(self, connection: socket.socket) -> None:
        until = self._loop.time() + self._handshake_s
        taken = False
        try:
            async with asyncio.timeout_at(until):
                first = await self._first(connection)
            if first == b"\x16":
                taken = True  # closed by the transport from here on, however this ends
                await self._loop.connect_accepted_socket(
                    self._make,
                    connection,
                    ssl=self._context(),
                    ssl_handshake_timeout=max(until - self._loop.time(), 0.01),
                    ssl_shutdown_timeout=CLOSE_S,
                )
            elif first.isupper():
                await _tell(connection)
        except (OSError, TimeoutError):
            pass  # a client that does not speak TLS with us has nothing more to be told
        finally:
            if not taken:
                connection.close()

    async def _first(self, connection: socket.socket) -> bytes:
        """The first byte, which stays where it is; empty when the client goes."""
        seen: asyncio.Future[None] = self._loop.create_future()

        def readable() -> None:
            if not seen.done():
                seen.set_result(None)

        self._loop.add_reader(connection, readable)
        try:
            await seen
        finally:
            self._loop.remove_reader(connection)
        return connection.recv(1, socket.MSG_PEEK)


async def _tell(connection: socket.socket) -> None:
    with contextlib.suppress(BlockingIOError):
        connection.recv(65536)  # what is left unread would end the connection before its answer is read
    connection.send(PLAIN_ANSWER)
    connection.shutdown(socket.SHUT_WR)
