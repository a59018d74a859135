"""How each contender is spoken to."""

from __future__ import annotations

import json
import re
import socket
import struct
from collections.abc import Callable
from typing import Any

DIGITS = 16
"""Of the time in an event."""
LENGTH = re.compile(rb"content-length: *([0-9]+)", re.IGNORECASE)
EVENT = 200
"""Bytes of an event's JSON."""
PATIENCE_S = 60.0


def frame(text: bytes, opcode: int = 1) -> bytes:
    size = bytes((0x80 | len(text),)) if len(text) < 126 else b"\xfe" + struct.pack(">H", len(text))
    return bytes((0x80 | opcode,)) + size + b"\0\0\0\0" + text


class Wire:
    """How a contender is spoken to: a WebSocket whose messages are the events, and `POST /publish`."""

    def __init__(self, order: dict[str, Any]) -> None:
        self.order = order
        self.channel = order.get("channel", "")

    def upgrade(self) -> bytes:
        handshake = ["Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="]
        lines = [f"GET {self.order['path']} HTTP/1.1", "Host: 127.0.0.1", "Upgrade: websocket", "Connection: Upgrade"]
        lines += [*handshake, *self.order["headers"]]
        return "\r\n".join([*lines, "", ""]).encode()

    def steps(self, number: int) -> list[tuple[bytes, bytes]]:
        """What is said, and what its answer has in it; then it is subscribed."""
        return []

    def event(self) -> bytes:
        """JSON with a stamp to be filled in."""
        text = json.dumps({"t": "@T=" + "%" * DIGITS, "pad": ""}, separators=(",", ":"))
        return text.replace('"pad":"', '"pad":"' + "x" * (EVENT - len(text))).encode()

    def body(self) -> bytes:
        return self.event()

    def request(self) -> bytes:
        """A publish, with the stamp to be filled in."""
        body, path = self.body(), self.order["publish"]
        lines = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", "content-type: application/json",
                 f"content-length: {len(body)}", *self.order["headers"]]  # fmt: skip
        return "\r\n".join([*lines, "", ""]).encode() + body

    def publisher(self) -> Publisher:
        return Publisher(self.order["port"], self.request())


class AppSync(Wire):
    def upgrade(self) -> bytes:
        return super().upgrade()[:-2] + b"Sec-WebSocket-Protocol: aws-appsync-event-ws\r\n\r\n"

    def steps(self, number: int) -> list[tuple[bytes, bytes]]:
        key = self.order["headers"][0].partition(": ")[2]
        id = f"{number:08x}-cf23-4cb8-9fcb-152ae4fd1e69"
        said = {"type": "subscribe", "id": id, "channel": self.channel, "authorization": {"x-api-key": key}}
        subscribe = frame(json.dumps(said).encode()), b"subscribe_success"
        return [(frame(b'{"type":"connection_init"}'), b"connection_ack"), subscribe]

    def body(self) -> bytes:
        return json.dumps({"channel": self.channel, "events": [self.event().decode()]}).encode()


class SocketIo(Wire):
    def steps(self, number: int) -> list[tuple[bytes, bytes]]:
        return [(b"", b'0{"sid"'), (frame(b"40"), b'40{"sid"'), (frame(b'42["join"]'), b"joined")]


class Nats(Wire):
    def steps(self, number: int) -> list[tuple[bytes, bytes]]:
        said = b'CONNECT {"verbose":false,"pedantic":false}\r\nSUB bench 1\r\nPING\r\n'
        return [(b"", b"INFO "), (frame(said, 2), b"PONG")]

    def request(self) -> bytes:
        event = self.event()
        return b"PUB bench %d\r\n%b\r\n" % (len(event), event)

    def publisher(self) -> Publisher:
        """By its own protocol, which answers nothing."""
        made = Publisher(self.order["publish"], self.request(), answers=False)
        made.sock.sendall(b'CONNECT {"verbose":false,"pedantic":false}\r\n')
        return made


WIRES: dict[str, Callable[[dict[str, Any]], Wire]] = {
    "appsync": AppSync,
    "plain": Wire,
    "socketio": SocketIo,
    "nats": Nats,
}


class Publisher:
    def __init__(self, port: int, request: bytes, *, answers: bool = True) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._before, _, self._after = request.partition(b"%" * DIGITS)
        self._answers = answers
        self._heard = b""
        self.busy = False

    def publish(self, stamp: int) -> None:
        self.sock.sendall(b"%b%016x%b" % (self._before, stamp, self._after))
        self.busy = self._answers

    def heard(self) -> None:
        got = self.sock.recv(65536)
        self._heard += got
        if not got or (self._answers and not self._heard.startswith(b"HTTP/1.1 2")):
            raise SystemExit(f"a publish failed: {self._heard[:300]!r}")
        head, end, body = self._heard.partition(b"\r\n\r\n")
        size = LENGTH.search(head)
        if not self._answers or (end and size is not None and len(body) >= int(size[1])):
            self._heard, self.busy = b"", False
