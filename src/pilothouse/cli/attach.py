"""One shell on the person's terminal, through cuts and restarts: output by offset, input by what the shell has of it.

What is typed is kept until the server says that the shell has it; a connection that was lost is taken up where it
broke, so nothing is typed twice and nothing is shown twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from pilothouse.cli.client import CONNECT_S, CUT, Client, refused, unreachable
from pilothouse.cli.errors import NoServer, Refused
from pilothouse.cli.mute import ALL, QUESTIONS, Mute
from pilothouse.cli.piped import READY, Piped
from pilothouse.cli.raw import HELP, Escapes, Raw
from pilothouse.client.pause import Pause
from pilothouse.core import frames

GIVE_UP_S = 300.0
"""A server that has not come back after this is gone."""
PAUSE_MAX_S = 3.0
HEARTBEAT_S = 20.0
KEPT_MAX = 1024 * 1024
"""Bytes typed and not yet known to have arrived; above it, what is typed waits."""
SEEN_STEP = 128 * 1024
"""Bytes of output, after which the server is told that they are here, and no sooner than SEEN_S after the last time."""
SEEN_S = 0.02
_GOING = {frames.AWAY, frames.POLICY, frames.BROKEN, 1006, 1012}
"""After these a client comes back."""


@dataclass
class Ended:
    """How it ended: with the shell's status, or because the person left."""

    status: int | None = None
    message: str = ""
    left: bool = False


class _Cut(Exception):
    """The connection ended and may be made again."""


class _Anew(Exception):
    """It is made again on purpose."""


@dataclass
class Attached:
    client: Client
    session: str
    shell: str
    raw: Raw
    notice: Callable[[str], None]
    watch: bool = False
    escapes: Escapes | None = field(default_factory=Escapes)
    """None: what is typed is passed on as it is."""
    piped: Piped | None = None
    """The command was wrapped by it, and waits for its input to be."""
    typist: int = field(default_factory=lambda: secrets.randbits(63))
    after: int | None = None
    _kept: bytearray = field(default_factory=bytearray)
    _acked: int = 0
    """All that the shell has; `_kept` begins there."""
    _room: asyncio.Event = field(default_factory=asyncio.Event)
    _socket: aiohttp.ClientWebSocketResponse | None = None
    _fitted: tuple[int, int] | None = None
    """The size that the server was told last."""
    _told: int = 0
    """Up to where the server knows that we have the output."""
    _telling: asyncio.Task[None] | None = None
    _left: asyncio.Event = field(default_factory=asyncio.Event)
    _placed: bool = False
    _ready: asyncio.Event = field(default_factory=asyncio.Event)
    _mute: Mute = field(default_factory=Mute)
    _live: int = 0
    """Of the output, where the replay ends."""
    _types: bool = True
    """Whether what is typed reaches the shell: another may have taken the typing."""
    _spoilt: bool = False
    """Some of what this typist sent came when it did not type any more: how much, nobody knows."""
    _warned: bool = False
    """That nothing typed reaches it: not for every key."""
    _answers: bool = False
    """Whether what a program asks is for this terminal: two answers to one question would be typed."""

    async def run(self) -> Ended:
        """To the shell's end, or until the person leaves. Raises Refused, NoServer."""
        typing = asyncio.create_task(self._type()) if not self.watch else asyncio.create_task(self._wait_to_leave())
        left = asyncio.create_task(self._left.wait())
        sizing = asyncio.create_task(self._resize())
        following = asyncio.create_task(self._follow())
        try:
            await asyncio.wait((left, following), return_when=asyncio.FIRST_COMPLETED)
            return following.result() if following.done() else Ended(message="left; the shell goes on", left=True)
        finally:
            tasks = [typing, left, sizing, following, *([self._telling] if self._telling else [])]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    # --- the connection

    async def _follow(self) -> Ended:
        clock = asyncio.get_running_loop().time
        lost_at: float | None = None
        pause = Pause(PAUSE_MAX_S)
        while True:
            try:
                return await self._once()
            except _Anew:
                continue
            except (*CUT, aiohttp.ClientError, _Cut, NoServer) as error:
                if self.after is None and lost_at is None and not isinstance(error, _Cut):
                    raise unreachable(self.client.endpoint, error) from None
                if self._placed:
                    lost_at, self._placed = clock(), False
                    pause.reset()
                    self.notice("connection lost, connecting again …")
                lost_at = clock() if lost_at is None else lost_at
                if clock() - lost_at > GIVE_UP_S:
                    raise unreachable(self.client.endpoint, error) from None
            except Refused as error:
                if lost_at is None or error.status not in {429, 503}:
                    raise
            await asyncio.sleep(pause.next_s())
            try:
                await self.client.find_again()
            except NoServer:
                continue

    async def _once(self) -> Ended:
        query = {"typist": str(self.typist), "role": "type" if self._types and not self.watch else "watch"}
        if self.after is not None:
            query["after"] = str(self.after)
        if not self.watch and (size := self.raw.size):
            query |= {"width": str(size[0]), "height": str(size[1])}
            self._fitted = size
        socket = await self._connect(query)
        beating = asyncio.create_task(self._beat(socket))
        try:
            return await self._hear(socket)
        finally:
            beating.cancel()
            self._socket = None
            await socket.close()

    async def _connect(self, query: dict[str, str]) -> aiohttp.ClientWebSocketResponse:
        client = self.client
        path = f"/api/sessions/{self.session}/shells/{self.shell}"
        url = client.endpoint.url.replace("http", "ws", 1) + path
        try:
            async with asyncio.timeout(CONNECT_S):
                return await client.http.ws_connect(
                    url, params=query, headers=client.headers, max_msg_size=0, compress=0, ssl=client.endpoint.tls
                )
        except aiohttp.WSServerHandshakeError as error:
            detail = {404: "There is no such shell.", 403: "You may not look at this shell."}.get(error.status)
            body = json.dumps({"detail": detail}).encode() if detail else b""
            raise refused(client.endpoint, error.status, body) from None

    async def _hear(self, socket: aiohttp.ClientWebSocketResponse) -> Ended:
        ended: Ended | None = None
        async for message in socket:
            data = message.data if isinstance(message.data, bytes) else b""
            if not data:
                continue
            channel, payload = data[0], data[1:]
            if channel == frames.STDOUT:
                self._show(payload, socket)
            elif channel == frames.STDERR:
                self.notice(payload.decode(errors="replace"))
            elif channel == frames.STATUS:
                ended = await self._status(json.loads(payload), socket) or ended
            elif channel == frames.CONTROL:
                self._control(json.loads(payload))
        if ended is not None:
            return ended
        if socket.close_code in _GOING or socket.close_code is None:
            raise _Cut
        if socket.close_code == frames.NORMAL:
            return Ended(message="the shell was closed")
        raise Refused("The server ended the connection; sign in again, or ask who may.", status=403)

    def _show(self, payload: bytes, socket: aiohttp.ClientWebSocketResponse) -> None:
        start = self.after or 0
        fresh = self.after == 0
        self.after = start + len(payload)
        if self.piped is not None and fresh and payload.startswith(READY):
            self._ready.set()
            payload = payload[len(READY) :]
        self.raw.write(self._heard(payload, start) if self.raw.screen else payload)
        if self._telling is None and self.after - self._told >= SEEN_STEP:
            self._telling = asyncio.create_task(self._tell(socket))

    def _heard(self, payload: bytes, start: int) -> bytes:
        """What a terminal is to hear of it: nothing again that was asked or done before, nor what others answer."""
        old = max(0, self._live - start)
        now = ALL if self.watch else None if self._answers else QUESTIONS
        said = self._mute.take(payload[:old], ALL) if old else b""
        return said + self._mute.take(payload[old:], now) if len(payload) > old else said

    async def _tell(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        """What is here: of that the server need keep no more for us."""
        with contextlib.suppress(*CUT, aiohttp.ClientError):
            self._told = self.after or 0
            said = json.dumps({"type": "seen", "offset": self._told}).encode()
            await socket.send_bytes(frames.control(said))
            await asyncio.sleep(SEEN_S)
        self._telling = None
        if self._placed and (self.after or 0) - self._told >= SEEN_STEP and not socket.closed:
            self._telling = asyncio.create_task(self._tell(socket))

    async def _status(self, status: dict[str, Any], socket: aiohttp.ClientWebSocketResponse) -> Ended | None:
        about = status.get("metadata") or {}
        if not about.get("shellId"):
            return _ended(status)
        if (missed := int(about.get("bytesDropped", 0))) and (self._placed or self.after is not None):
            self.notice(f"{missed} bytes of output were missed")
        if "offset" in about:
            self.after = int(about["offset"])
            self._live = int(about.get("live", 0))
            if not self._placed:
                self._placed = True
                self._taken(int(about.get("typed", 0)))
                if self._telling is not None:
                    self._telling.cancel()
                self._telling = asyncio.create_task(self._tell(socket))
                await self._send_again(socket)
                await self._fit()
        return None

    def _control(self, said: dict[str, Any]) -> None:
        if said.get("type") == "typed":
            self._taken(int(said["offset"]))
        elif said.get("type") == "presence":
            self._present(said["you"], said["viewers"])
        elif said.get("type") == "refused":
            self.notice(str(said.get("message", "")))

    def _present(self, you: str, viewers: list[dict[str, Any]]) -> None:
        """Who looks at the shell. Raises _Anew."""
        typing = [one["id"] for one in viewers if one["role"] == "type"]
        self._answers = typing[:1] == [you]
        if self.watch or (you in typing) is self._types:
            return
        self._types = you in typing
        if self.escapes is not None:
            self.escapes.yielded = not self._types
        self._warned = False
        if not self._types:  # what is on its way is refused, and must not be typed when it is our turn again
            self._spoilt = bool(self._kept) or self._spoilt
            self._kept.clear()
            self._room.set()
            may = any(one["mayType"] for one in viewers if one["id"] == you)
            self.notice("another types here now; ~t takes it back" if may else "you may only watch this shell")
            return
        self.notice("you type here now")
        if self._spoilt or self._kept:  # as another typist, of whom it is known how much arrived
            self._kept.clear()
            self._spoilt = self._placed = False
            self.typist, self._acked = secrets.randbits(63), 0
            raise _Anew

    # --- what is typed

    async def _type(self) -> None:
        if self.piped is not None:
            await self._ready.wait()
        async for data in self.raw.typed():
            typed, asked = (data, "") if self.escapes is None else self.escapes.take(data)
            typed = typed if self.piped is None else self.piped.take(typed)
            if asked == "help":
                self.raw.write(HELP)
            if not self._types:
                await self._yielded(asked, typed)
                typed = b""
            while len(self._kept) > KEPT_MAX:
                self._room.clear()
                await self._room.wait()
            await self._fit()
            self._kept += typed
            await self._send(typed)
            if asked == "leave":
                self._left.set()
                return
        if self.piped is None:
            self._left.set()
        else:
            self._kept += (end := self.piped.end())
            await self._send(end)

    async def _yielded(self, asked: str, typed: bytes) -> None:
        """What is typed while another types goes nowhere."""
        if asked == "take":
            await self._quietly(frames.control(b'{"type":"take"}'))
        elif typed.strip() and not self._warned:
            self._warned = True
            self.notice("you watch this shell: what you type does not reach it")

    async def _wait_to_leave(self) -> None:
        """Who watches types nothing but the escape, Ctrl-C or q."""
        async for data in self.raw.typed():
            if b"\x03" in data or data in {b"q", b"Q"} or (self.escapes and self.escapes.take(data)[1] == "leave"):
                self._left.set()
                return

    async def _send(self, typed: bytes) -> None:
        """The rest of what a broken connection did not take is sent again with all that is kept."""
        socket = self._socket
        for at in range(0, len(typed), frames.CHUNK):
            if self._socket is socket is not None and not socket.closed:
                await self._quietly(bytes([frames.STDIN]) + typed[at : at + frames.CHUNK])

    async def _send_again(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        """All that is kept. What is typed while this waits is kept too, and comes behind it. Raises _Cut."""
        at = 0
        while at < len(self._kept):
            piece = bytes(self._kept[at : at + frames.CHUNK])
            at += len(piece)
            try:
                await socket.send_bytes(bytes([frames.STDIN]) + piece)
            except (ConnectionError, aiohttp.ClientError):
                raise _Cut from None
        self._socket = socket

    async def _quietly(self, frame: bytes) -> None:
        """A connection that has just broken is seen where it is read."""
        socket = self._socket
        if socket is not None:
            try:
                await socket.send_bytes(frame)
            except (ConnectionError, aiohttp.ClientError):
                if self._socket is socket:
                    self._socket = None

    def _taken(self, offset: int) -> None:
        fresh = max(0, offset - self._acked)
        del self._kept[:fresh]
        self._acked = max(self._acked, offset)
        self._room.set()

    async def _resize(self) -> None:
        while not self.watch:
            await self.raw.resized.wait()
            self.raw.resized.clear()
            await self._fit()

    async def _fit(self) -> None:
        """The shell has the size of the terminal before it has what was typed in it, and after every return."""
        size = self.raw.size
        if size and size != self._fitted and self._socket is not None and not self.watch:
            self._fitted = size
            body = json.dumps({"width": size[0], "height": size[1]}).encode()
            await self._quietly(bytes([frames.RESIZE]) + body)

    async def _beat(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        """An answer tells how much of what was typed has arrived, and that somebody is there."""
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            try:
                await socket.send_bytes(bytes([frames.HEARTBEAT]))
            except (ConnectionError, aiohttp.ClientError):
                return


def _ended(status: dict[str, Any]) -> Ended:
    if status.get("status") == "Success":
        return Ended(0)
    if status.get("reason") == "InternalError":
        raise Refused(str(status.get("message", "")), status=int(status.get("code", 500)))
    causes = (status.get("details") or {}).get("causes") or []
    codes = [c.get("message") for c in causes if c.get("reason") == "ExitCode"]
    return Ended(int(codes[0]) if codes else 1, str(status.get("message", "")))
