"""One open connection on its transport, and the one timer for all of them. Frames are taken apart by `web.readers`."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, ParamSpec, cast

from picows import WSFrame, WSMsgType
from uvicorn.server import ServerState

from pilothouse.core.run import BINARY, TEXT, Run, header
from pilothouse.engine.viewing import GONE
from pilothouse.web.kernel import unacknowledged
from pilothouse.web.readers import Reader, Readers
from pilothouse.web.socket import (
    Accept,
    Frames,
    Hearer,
    Inbox,
    Limits,
    Listener,
    Message,
    Valve,
    close_answer,
    is_utf8,
    reason_bytes,
)

JOINED_MAX = 8192
"""Bytes of a message, up to which it is copied behind its header."""
SWEEP_S = 1.0
"""How often the one timer looks at all connections."""
MISTAKE_S = 0.01
"""From the close frame that tells of a mistake to the connection's end."""

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_CLOSE, _PING, _PONG = 8, 9, 10
_DATA = WSMsgType.BINARY
_FINAL_BINARY = 0x80 | BINARY
_MASKED = 0x80
KEY_MAX = 6 + 16
"""Bytes of a frame that is taken apart here: what a key says, or a short word that is pasted."""
_HEADERS = tuple(header(BINARY, size) for size in range(126))

_log = logging.getLogger(__name__)
P = ParamSpec("P")


def take_over(socket: HotSocket, accept: Accept, key: str, transport: asyncio.Transport) -> None:
    """Answers the upgrade and makes the socket the transport's protocol. Reading may be paused, and goes on here."""
    transport.write(_handshake(accept, key))
    transport.set_protocol(socket)
    socket.connection_made(transport)
    transport.resume_reading()


class HotSocket(asyncio.Protocol):
    """A `Socket`, and the protocol of its transport."""

    __slots__ = (
        "_accept",
        "_below",
        "_deaf",
        "_hearer",
        "_inbox",
        "_keeper",
        "_limits",
        "_loop",
        "_open",
        "_open_text",
        "_state",
        "_unsent",
        "_valves",
        "_wire",
        "_write",
        "closed",
        "closing_since",
        "gone_since",
        "heard",
        "pinged",
        "reader",
        "serving",
    )

    def __init__(self, accept: Accept, limits: Limits, keeper: Keepalive, state: ServerState) -> None:
        self.closed = False
        self.heard = 0.0
        self.pinged = 0.0
        self.closing_since: float | None = None
        self.gone_since: float | None = None
        self.serving: asyncio.Task[None] | None = None
        self.reader: Reader | None = None
        self._accept: Accept | None = accept
        self._limits = limits
        self._keeper = keeper
        self._state = state
        self._loop = asyncio.get_running_loop()
        self._wire: asyncio.Transport
        self._write: Callable[[bytes], object]
        self._hearer: Hearer | None = None
        self._inbox: Inbox | None = None
        """Made when somebody waits for messages, or they for somebody."""
        self._below: asyncio.Event | None = None
        self._deaf = False
        self._open: bytearray | None = None
        self._open_text = False
        self._unsent = False
        """Something was not written any more: of what was, nobody can tell how much has arrived."""
        self._valves: tuple[Valve, ...] = ()

    # --- what doors use

    def send_text(self, data: bytes) -> None:
        self._send(TEXT, data)

    def send_binary(self, data: bytes) -> None:
        if len(data) < 126 and self._below is None and not self.closed:  # an echo, as a rule
            self._write(_HEADERS[len(data)] + data)
        else:
            self._send(BINARY, data)

    def send_frames(self, frames: Frames) -> None:
        if not self.closed and not self._wire.is_closing():
            self._write(frames.raw)
            self._check_cut()

    def send_run(self, prefix: bytes, run: Run) -> bool:
        """Whoever closes the transport has said `closed` before."""
        if self._below is not None:
            return False
        if not self.closed:
            self._write(run.frames(prefix))
        return True

    def attach(self, valve: Valve) -> None:
        valve.write = self._write
        valve.open = self._below is None and not self.closed
        self._valves = (*self._valves, valve)

    def detach(self, valve: Valve) -> None:
        valve.open = False
        self._valves = tuple(one for one in self._valves if one is not valve)

    def buffered(self) -> int:
        return self._wire.get_write_buffer_size()

    def underway(self) -> int:
        if self._unsent or (self._wire.is_closing() and not self.closed):  # it has broken: its buffer is thrown away
            return GONE
        return self._wire.get_write_buffer_size() + unacknowledged(self._wire)

    async def writable(self) -> bool:
        while self._below is not None and not self.closed:
            await self._below.wait()
        return not self.closed

    def receive(self) -> Coroutine[Any, Any, Message | None]:
        return self._waiting().get()

    def listen(self, on_message: Listener) -> None:
        self._waiting().listen(on_message)

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Says so, then waits for the client to do the same; the sweep ends the wait."""
        if self.closed:
            return
        self._control(_CLOSE, code.to_bytes(2) + reason_bytes(reason))
        self._shut()

    # --- what the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._wire = cast(asyncio.Transport, transport)
        self._write = self._wire.write
        self._wire.set_write_buffer_limits(high=self._limits.high_water)
        self.heard = self.pinged = self._loop.time()
        self._state.connections.add(self)  # type: ignore[arg-type]
        self._keeper.add(self)
        accept, self._accept = self._accept, None  # what it came from need not be kept
        assert accept is not None
        self._hearer = accept.hearer
        if self._hearer is None:
            self._work(self._serve(accept.serve(self)))
        else:
            self._tell(self._hearer.opened, self)

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        # A key that somebody presses, as a rule: one whole frame of a few bytes, for somebody who listens.
        if 6 <= len(data) <= KEY_MAX and data[0] == _FINAL_BINARY and data[1] ^ _MASKED == len(data) - 6:
            inbox = self._inbox
            if inbox is not None and inbox.listener is not None and self.reader is None and self._open is None:
                self._pressed(inbox.listener, inbox, data)
                return
        self._keeper.readers.read(self, data)

    def _pressed(self, listener: Listener, inbox: Inbox, data: bytes) -> None:
        if self.closed:
            return
        size = len(data) - 6
        mask = int.from_bytes(data[2:6] * 4) >> 8 * (16 - size)
        try:
            if not listener((int.from_bytes(data[6:]) ^ mask).to_bytes(size), False):
                inbox.listener = None
        except Exception:  # noqa: BLE001 - the last one who can say so; the connection ends with it
            self._failed()
        self.heard = self._loop.time()

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone_since = self._loop.time()
        if self.reader is not None:
            self.reader.end()
            self.reader = None
        self._shut()
        self._write = _nowhere
        self._state.connections.discard(self)
        if self.serving is None or self.serving.done():
            self._keeper.remove(self)

    def pause_writing(self) -> None:
        self._below = asyncio.Event()
        self._turn_valves()

    def resume_writing(self) -> None:
        if self._below is not None:
            self._below.set()
            self._below = None
        self._turn_valves()

    # --- what the reader calls

    def on_frame(self, frame: WSFrame) -> None:
        kind = frame.msg_type
        odd = frame.rsv1 or frame.rsv2 or frame.rsv3 or self.closed or self._open is not None
        if kind == _DATA and frame.fin and not odd:  # a keystroke, as a rule: it waits for nothing else
            inbox = self._inbox
            if inbox is None or inbox.listener is None:
                self._put(frame.get_payload_as_bytes(), text=False)
            elif not inbox.listener(frame.get_payload_as_bytes(), False):
                inbox.listener = None
            self.heard = self._loop.time()
            return
        self.heard = self._loop.time()
        if frame.rsv1 or frame.rsv2 or frame.rsv3:
            self._fail(1002, "reserved bits")
        elif kind == WSMsgType.CLOSE:
            if not self.closed:
                self._control(_CLOSE, close_answer(frame.get_payload_as_bytes()).to_bytes(2))
                self._shut()
            self._wire.close()
        elif self.closed or kind == WSMsgType.PONG:
            return
        elif kind == WSMsgType.PING and self._below is not None:
            return  # who does not read needs no more to read: RFC 6455, 5.5.3, asks for an answer to the latest alone
        elif kind == WSMsgType.PING:
            self._control(_PONG, frame.get_payload_as_bytes())
        else:
            self._take(kind, frame)

    def on_mistake(self, said: bytes) -> None:
        self._deaf = True
        if not self.closed:
            self._write(said)
            self._shut()
        self._loop.call_later(MISTAKE_S, self._wire.close)

    # --- what uvicorn and the sweep call

    def shutdown(self) -> None:
        self.close(1012, "restarting")

    def ping(self, now: float) -> None:
        self.pinged = now
        self._control(_PING, b"")

    def abort(self) -> None:
        self._wire.abort()

    # ---

    def _work(self, doing: Coroutine[Any, Any, None]) -> None:
        self.serving = self._loop.create_task(doing)
        self._state.tasks.add(self.serving)
        self.serving.add_done_callback(self._state.tasks.discard)

    async def _serve(self, serving: Awaitable[None]) -> None:
        try:
            await serving
        except asyncio.CancelledError:
            self.close(1012, "restarting")
            raise
        except Exception:  # noqa: BLE001 - the last one who can say so; the connection ends with it
            self._failed()
        else:
            self.close(1000)
        finally:
            if self.gone_since is not None:
                self._keeper.remove(self)

    def _tell(self, hearer: Callable[P, Coroutine[Any, Any, None] | None], *said: P.args, **how: P.kwargs) -> None:
        """Makes a task where there is something to wait for."""
        try:
            more = hearer(*said, **how)
        except Exception:  # noqa: BLE001 - as above
            self._failed()
            return
        if more is not None or self._below is not None:
            self._work(self._hear(more))

    async def _hear(self, more: Coroutine[Any, Any, None] | None) -> None:
        """Waits, then hands over what has come meanwhile."""
        hearer = self._hearer
        assert hearer is not None
        try:
            if more is not None:
                await more
            await self.writable()
            while self._inbox is not None and (message := self._inbox.next()) is not None:
                more = hearer.heard(message.data, message.text)
                if more is not None:
                    await more
                await self.writable()
        except asyncio.CancelledError:
            self.close(1012, "restarting")
            raise
        except Exception:  # noqa: BLE001 - as above
            self._failed()
        finally:
            self.serving = None
            if self.closed:
                self._end()
            if self.gone_since is not None:
                self._keeper.remove(self)

    def _failed(self) -> None:
        _log.exception("a door failed")
        self.close(1011)

    def _end(self) -> None:
        """Tells the hearer, unless it is busy: then it is told when it has done."""
        if self._hearer is not None and self.serving is None:
            hearer, self._hearer = self._hearer, None
            hearer.ended()

    def _send(self, opcode: int, data: bytes) -> None:
        if self.closed or self._wire.is_closing():
            self._unsent = True
            return
        if len(data) <= JOINED_MAX:
            self._write(header(opcode, len(data)) + data)
        else:
            self._wire.writelines((header(opcode, len(data)), data))
        self._check_cut()

    def _control(self, opcode: int, data: bytes) -> None:
        if not self._wire.is_closing():
            self._write(header(opcode, len(data)) + data)

    def _take(self, kind: WSMsgType, frame: WSFrame) -> None:
        """Puts fragments together."""
        if (kind == WSMsgType.CONTINUATION) != (self._open is not None):
            self._fail(1002, "fragments out of order")
            return
        data = frame.get_payload_as_bytes()
        if self._open is not None:
            if len(self._open) + len(data) > self._limits.message:
                self._fail(1009, f"at most {self._limits.message} bytes")
                return
            self._open += data
            if not frame.fin:
                return
            data, text, self._open = bytes(self._open), self._open_text, None
        else:
            text = kind == WSMsgType.TEXT
            if not frame.fin:
                self._open, self._open_text = bytearray(data), text
                return
        if text and not is_utf8(data):
            self._fail(1007, "not UTF-8")
            return
        self._put(data, text=text)

    def _put(self, data: bytes, *, text: bool) -> None:
        if self._hearer is None or self.serving is not None:
            self._waiting().put(data, text)
        else:
            self._tell(self._hearer.heard, data, text)

    def _waiting(self) -> Inbox:
        if self._inbox is None:
            self._inbox = Inbox(self._limits.inbox, self._pause_reading, self._resume_reading)
            if self.closed:
                self._inbox.end()
        return self._inbox

    def _fail(self, code: int, reason: str) -> None:
        self.close(code, reason)
        self._wire.close()  # there is no telling where its next frame begins

    def _turn_valves(self) -> None:
        for valve in self._valves:
            valve.open = self._below is None and not self.closed

    def _shut(self) -> None:
        self.closed = True
        self._turn_valves()
        self._open = None
        if self.closing_since is None:
            self.closing_since = self._loop.time()
        if self._below is not None:
            self._below.set()
        if self._inbox is not None:
            self._inbox.end()
        if self._hearer is not None:
            self._loop.call_soon(self._end)  # not within a send: it may be among those that are being written to
        self._resume_reading()  # or the client's close frame would never be seen

    def _check_cut(self) -> None:
        if self._below is not None and self._wire.get_write_buffer_size() > self._limits.cut:
            self._shut()
            self._wire.abort()

    def _pause_reading(self) -> None:
        if not self.closed:
            self._wire.pause_reading()

    def _resume_reading(self) -> None:
        if not self._wire.is_closing():
            self._wire.resume_reading()


class Keepalive:
    """One timer for all connections: pings, silence, closings that do not end, doors that do not return."""

    def __init__(self, limits: Limits) -> None:
        self.readers = Readers(limits.message)
        self._limits = limits
        self._every = min(SWEEP_S, limits.ping_s / 4, limits.close_s / 2)
        self._all: set[HotSocket] = set()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, socket: HotSocket) -> None:
        self._all.add(socket)
        if self._timer is None:
            self._arm(asyncio.get_running_loop())

    def _arm(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = loop.call_later(self._every, self._sweep)

    def remove(self, socket: HotSocket) -> None:
        self._all.discard(socket)

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        held_up = now - self._timer.when() if self._timer is not None else 0.0
        for socket in tuple(self._all):
            if held_up > self._every:  # meanwhile nobody could be heard
                socket.heard += held_up
            self._look(socket, now)
        self._timer = None
        if self._all:
            self._arm(loop)

    def _look(self, socket: HotSocket, now: float) -> None:
        limits = self._limits
        if socket.gone_since is not None:
            if now - socket.gone_since > limits.grace_s and socket.serving is not None:
                socket.serving.cancel()
        elif socket.closing_since is not None:
            if now - socket.closing_since > limits.close_s:
                socket.abort()
        elif now - socket.heard > limits.silence_s:
            socket.close(1011, "no sign of life")
        elif now - socket.pinged > limits.ping_s:
            socket.ping(now)


def _nowhere(data: bytes) -> None:
    """In place of what the transport has, which has gone."""


def _handshake(accept: Accept, key: str) -> bytes:
    lines = ["HTTP/1.1 101 Switching Protocols", *(f"{name}: {value}" for name, value in accept.headers)]
    if accept.subprotocol is not None:
        lines.append(f"Sec-WebSocket-Protocol: {accept.subprotocol}")
    proof = base64.b64encode(hashlib.sha1(key.encode() + _GUID, usedforsecurity=False).digest()).decode()
    lines += ["Connection: upgrade", "Upgrade: websocket", f"Sec-WebSocket-Accept: {proof}", "", ""]
    return "\r\n".join(lines).encode("latin-1")
