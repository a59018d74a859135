"""`/ws`: the runner's end of the link, one WebSocket at a time. Format and rules: `core.link`.

| close code | why |
|---|---|
| 1001 | the runner ends |
| 1008 | not the link's protocol; the reason says what |
| 1009 | a message over `MESSAGE_MAX` |
| 4409 | fenced: another attach holds the link |
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

import msgspec
from aiohttp import WSMsgType, web

from pilothouse.core import link
from pilothouse.core.errors import BadRequest
from pilothouse.core.outbox import Done, Fence
from pilothouse.runner.desk import Desk, take_environment

FENCED = 4409
ATTACH_SECONDS = 30.0
"""A connection that says nothing is let go."""
HEARTBEAT_SECONDS = 20.0
"""A server whose host has vanished is noticed within twice this."""


class Link:
    """Who is attached, if anybody."""

    def __init__(self, desk: Desk, runner_id: str) -> None:
        self._desk = desk
        self._runner_id = runner_id
        self._fence = Fence()
        self._current: _Connection | None = None
        self._given: frozenset[str] = frozenset()
        """Names that the server has handed down."""

    @property
    def attached(self) -> bool:
        return self._current is not None

    async def handle(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(max_msg_size=link.MESSAGE_MAX + 1, heartbeat=HEARTBEAT_SECONDS, compress=False)
        await socket.prepare(request)
        connection = _Connection(socket, self._desk)
        try:
            await connection.send(link.encode(link_hello(self._desk, self._runner_id)))
            await self._serve(connection)
        except _Bad as bad:
            await connection.close(bad.code, str(bad))
        except ConnectionError:
            pass  # the other side went away in the middle of a send; what it missed is kept
        return socket

    async def _serve(self, connection: _Connection) -> None:
        try:
            async with asyncio.timeout(ATTACH_SECONDS):
                first = await connection.receive()
        except TimeoutError:
            raise _Bad("no attach") from None
        if first is None:
            return
        if first.attach is None:
            raise _Bad("the first message must be attach")
        await self._attach(connection, first.attach)
        pump = asyncio.create_task(connection.pump(first.attach.acked))
        try:
            while (message := await connection.receive()) is not None:
                await self._hear(connection, message, first.attach.fence)
        finally:
            pump.cancel()
            with suppress(asyncio.CancelledError):
                await pump
            if self._current is connection:
                self._current, self._desk.report = None, None
                self._fence.detach(first.attach.fence)

    async def _attach(self, connection: _Connection, attach: link.Attach) -> None:
        if attach.proto != link.PROTO:
            raise _Bad(f"protocol {attach.proto}; this runner speaks {link.PROTO}")
        if not 0 <= attach.acked <= self._desk.feed.outbox.last:
            raise _Bad(f"acked {attach.acked}, but the last event is {self._desk.feed.outbox.last}")
        try:
            take_environment(attach.env, self._given)
            self._given = frozenset(attach.env)
        except BadRequest as refused:
            raise _Bad(refused.message) from refused
        if not self._fence.attach(attach.fence):
            raise _Bad("another server is attached", FENCED)
        before, self._current = self._current, connection
        self._desk.report = connection.report
        if before is not None:
            await before.close(FENCED, "another server attached")
        self._desk.feed.acknowledged(attach.acked)
        await self._desk.feed.repeat_asks()

    async def _hear(self, connection: _Connection, message: link.FromServer, fence: int) -> None:
        if not self._fence.holds(fence):
            raise _Bad("another server is attached", FENCED)
        if message.ack is not None and not self._desk.feed.acknowledged(message.ack):
            raise _Bad(f"ack {message.ack}, but the last event is {self._desk.feed.outbox.last}")
        if message.cmd is not None:
            await self._desk.take(message.cmd)

    async def close(self) -> None:
        if self._current is not None:
            await self._current.close(1001, "the runner ends")


class _Bad(Exception):
    def __init__(self, why: str, code: int = 1008) -> None:
        super().__init__(why)
        self.code = code


class _Named(msgspec.Struct):
    id: str


class _AnyCommand(msgspec.Struct):
    cmd: _Named


_any_command = msgspec.json.Decoder(_AnyCommand)


class _Connection:
    """One WebSocket: whole messages in, whole messages out."""

    def __init__(self, socket: web.WebSocketResponse, desk: Desk) -> None:
        self._socket = socket
        self._desk = desk
        self._assembler = link.Assembler()
        self._sending = asyncio.Lock()
        self._fragments = 0

    async def send(self, message: bytes) -> None:
        async with self._sending:
            self._fragments += 1
            for frame in link.split(message, str(self._fragments)):
                await self._socket.send_frame(frame, WSMsgType.TEXT)

    async def report(self, id: str, done: Done) -> None:
        answer = link.FromRunner(done=id, error=done.error or None)
        with suppress(ConnectionError):
            # Lost with the connection, but not for good: the server repeats a command that it saw no answer for.
            await self.send(link.encode(answer))

    async def pump(self, acked: int) -> None:
        """Everything kept, then everything new, to the other side."""
        with suppress(ConnectionError):
            async for message in self._desk.feed.follow(acked):
                await self.send(message)

    async def receive(self) -> link.FromServer | None:
        """The next whole message; None when the connection has ended."""
        while True:
            frame = await self._socket.receive()
            if frame.type is WSMsgType.TEXT:
                data: bytes = frame.data.encode()
            elif frame.type is WSMsgType.BINARY:
                data = frame.data
            else:
                return None
            whole = self._assembler.feed(data)
            if isinstance(whole, link.Broken):
                raise _Bad(whole.why[:100])
            if whole is None:
                continue
            message = link.parse_server(whole)
            if not isinstance(message, link.Broken):
                return message
            await self._refuse(whole, message.why)

    async def _refuse(self, whole: bytes, why: str) -> None:
        """A command that cannot be read but has an id is answered; anything else ends the connection."""
        try:
            named = _any_command.decode(whole)
        except (msgspec.MsgspecError, ValueError):
            raise _Bad(why[:100]) from None
        await self.report(named.cmd.id[:200], Done(f"bad_command: {why}"))

    async def close(self, code: int, why: str) -> None:
        with suppress(ConnectionError):
            await self._socket.close(code=code, message=why.encode()[:120])


def link_hello(desk: Desk, runner_id: str) -> link.FromRunner:
    facts, outbox = desk.agent.facts, desk.feed.outbox
    return link.FromRunner(
        hello=link.Hello(
            proto=link.PROTO,
            runner_id=runner_id,
            agent=facts.name,
            agent_version=facts.version,
            capabilities=list(facts.capabilities),
            model=facts.model,
            first=outbox.first,
            last=outbox.last,
        )
    )
