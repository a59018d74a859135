"""Viewers of one session, each on a wire of its own and with a character of its own, and each an exact witness.

A viewer keeps its cursor and a digest of every event's bytes, and says at once when a number is missing, comes twice
or comes late. It returns by its cursor after every cut, as the page and the command line do.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import random
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
import msgspec
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

AGAIN_S = (0.05, 0.25)
"""Between two tries to come back."""
POLL_S = 0.25
SLOW_EVERY, SLOW_S = 40, 0.4
"""A slow viewer rests this long after so many events."""
RESTLESS_S = (0.5, 4.0)
"""How long a restless one stays."""
QUIET_S = 30.0
"""A connection on which nothing comes for so long is given up: it may be dead without having said so."""

Breach = Callable[[str, str], None]
Heard = Callable[[dict[str, Any]], None]


@dataclass
class Where:
    """How the server is reached. It changes when the server does."""

    port: int
    relay: int
    key: str

    def url(self, relayed: bool) -> str:
        return f"http://127.0.0.1:{self.relay if relayed else self.port}"

    @property
    def headers(self) -> dict[str, str]:
        return {"x-api-key": self.key}


class _Head(msgspec.Struct):
    seq: int
    session_id: str = msgspec.field(name="sessionId")


class _Frame(msgspec.Struct):
    type: str
    seq: int | None = None
    session_id: str | None = msgspec.field(name="sessionId", default=None)
    gap: bool = False
    epoch: str | None = None


class Page(msgspec.Struct):
    epoch: str
    oldest: int
    head: int
    gap: bool
    events: list[msgspec.Raw]


_frame = msgspec.json.Decoder(_Frame)
_head = msgspec.json.Decoder(_Head)
_page = msgspec.json.Decoder(Page)


def digest(body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=8).digest()


@dataclass
class _Goal:
    seq: int
    down: float
    back: float
    reached: asyncio.Future[float]


@dataclass(eq=False)
class Viewer:
    """`wire`: chat, sse or poll. `heard` is told each event (once), for whoever acts on them."""

    name: str
    session: str
    where: Where
    breach: Breach
    wire: str = "chat"
    relayed: bool = False
    slow: bool = False
    restless: bool = False
    heard: Heard | None = None
    seen: list[bytes] = field(default_factory=list)
    """Digests, by seq: the first is of event 1."""
    connects: int = 0
    epoch: str = ""
    _connected: float = 0.0
    _goals: list[_Goal] = field(default_factory=list)
    _task: asyncio.Task[None] | None = None

    @property
    def prompt(self) -> bool:
        return not self.slow

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name=f"viewer-{self.name}")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        dice = random.Random(f"{self.session}{self.name}")
        follow = {"chat": self._chat, "sse": self._sse, "poll": self._poll}[self.wire]
        while True:
            stay = dice.uniform(*RESTLESS_S) if self.restless else None
            with contextlib.suppress(OSError, TimeoutError, EOFError, httpx.HTTPError, WebSocketException):
                try:
                    async with asyncio.timeout(stay):
                        await follow()
                except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                    self.breach("broken", f"{self.name} of {self.session} after {len(self.seen)}: {error!r}")
            self._connected = 0.0
            await asyncio.sleep(dice.uniform(*AGAIN_S))

    # --- the wires

    async def _chat(self) -> None:
        url = self.where.url(self.relayed).replace("http", "ws") + "/ws"
        more: dict[str, Any] = {"max_queue": 1} if self.slow else {}
        async with connect(
            url, additional_headers=self.where.headers, max_size=None, open_timeout=5, close_timeout=0.2,
            compression=None, ping_interval=None, **more,
        ) as socket:  # fmt: skip
            self.connects += 1
            asked = {"type": "subscribe", "chatId": self.session, "after": len(self.seen)}
            await socket.send(json.dumps(asked | ({"epoch": self.epoch} if self.epoch else {})))
            while True:
                async with asyncio.timeout(QUIET_S):
                    text = await socket.recv(decode=False)
                await self._framed(bytes(text))

    async def _framed(self, body: bytes) -> None:
        frame = _frame.decode(body)
        if frame.session_id is not None and frame.seq is not None:
            self._take(frame.seq, body)
            if self.slow and frame.seq % SLOW_EVERY == 0:
                await asyncio.sleep(SLOW_S)
        elif frame.type == "subscribed":
            self._told(frame.epoch or "", frame.gap)
            self._arrived()
        elif frame.type == "gap":
            self.breach("lost", f"{self.name} of {self.session} was told of a gap after {len(self.seen)}")

    async def _sse(self) -> None:
        headers = self.where.headers | {"accept": "text/event-stream", "last-event-id": str(len(self.seen))}
        timeout = httpx.Timeout(5, read=QUIET_S)
        async with (
            client(self.where.url(self.relayed), headers, timeout) as http,
            http.stream("GET", f"/api/sessions/{self.session}/events?after={len(self.seen)}") as stream,
        ):
            if stream.status_code != 200:
                return
            self.connects += 1
            self._arrived()
            async for kind, data in _messages(stream):
                if kind == "gap":
                    self.breach("lost", f"{self.name} of {self.session} was told of a gap after {len(self.seen)}")
                else:
                    self._take(_head.decode(data).seq, data)

    async def _poll(self) -> None:
        async with client(self.where.url(self.relayed), self.where.headers, httpx.Timeout(5)) as http:
            while True:
                page = await fetch(http, self.session, len(self.seen), self.epoch)
                self.connects += not self._connected
                self._told(page.epoch, page.gap)
                for event in page.events:
                    body = bytes(event)
                    self._take(_head.decode(body).seq, body)
                self._arrived()
                if not page.events:
                    await asyncio.sleep(POLL_S)

    # --- what came

    def _told(self, epoch: str, gap: bool) -> None:
        if gap or (self.epoch and epoch != self.epoch):
            self.breach("lost", f"{self.name} of {self.session} was told of another log after {len(self.seen)}")
        self.epoch = epoch

    def _take(self, seq: int, body: bytes) -> None:
        last = len(self.seen)
        if seq <= last:
            same = self.seen[seq - 1] == digest(body)
            self.breach("doubled" if same else "reordered", f"{self.name} of {self.session}: {seq} after {last}")
            return
        if seq > last + 1:
            self.breach("lost", f"{self.name} of {self.session}: {seq} after {last}")
            self.seen += [b""] * (seq - last - 1)
        self.seen.append(digest(body))
        if self.heard is not None:
            self.heard(json.loads(body))
        self._check()

    def _arrived(self) -> None:
        """It is connected (anew, or still)."""
        self._connected = time.monotonic()
        self._check()

    def _check(self) -> None:
        for goal in list(self._goals):
            if len(self.seen) >= goal.seq and self._connected > goal.down:
                self._goals.remove(goal)
                if not goal.reached.done():
                    goal.reached.set_result(max(time.monotonic() - goal.back, 0.0))

    async def whole(self, seq: int, down: float, back: float, patience: float) -> float | None:
        """How long after `back` it was connected anew (the server went at `down`; who waits at its door may be let in
        before anybody knows that it is back) and had everything up to `seq`. None: not within patience."""
        goal = _Goal(seq, down, back, asyncio.get_running_loop().create_future())
        self._goals.append(goal)
        self._check()
        try:
            return await asyncio.wait_for(goal.reached, patience)
        except TimeoutError:
            self._goals.remove(goal)
            return None

    async def reaches(self, seq: int, patience: float) -> bool:
        """Until it has everything up to `seq`, connected or not."""
        end = time.monotonic() + patience
        while len(self.seen) < seq:
            if time.monotonic() > end:
                return False
            await asyncio.sleep(0.05)
        return True


def client(url: str, headers: dict[str, str], timeout: httpx.Timeout) -> httpx.AsyncClient:
    """`verify`: reading the system's certificates for each of thousands of clients would be most of their work."""
    return httpx.AsyncClient(base_url=url, headers=headers, timeout=timeout, verify=False)


async def fetch(http: httpx.AsyncClient, session: str, after: int, epoch: str = "") -> Page:
    """A page of the log, its events as they are in it."""
    params: dict[str, str | int] = {"after": after, "limit": 500} | ({"epoch": epoch} if epoch else {})
    answer = await http.get(f"/api/sessions/{session}/events", params=params)
    answer.raise_for_status()
    return _page.decode(answer.content)


async def _messages(stream: httpx.Response) -> AsyncIterator[tuple[str, bytes]]:
    """Whole messages only: what a cut leaves in the middle never was one."""
    kind, data, rest = "message", b"", b""
    async for piece in stream.aiter_bytes():
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            line = line.rstrip(b"\r")
            if line.startswith(b"event:"):
                kind = line[6:].strip().decode()
            elif line.startswith(b"data:"):
                data += line[5:].strip()
            elif not line:
                if data:
                    yield kind, data
                kind, data = "message", b""


def crowd(session: str, where: Where, breach: Breach, heard: Heard) -> list[Viewer]:
    """Everybody who watches a session. The first is the harness's own eye."""
    return [
        Viewer("eye", session, where, breach, heard=heard),
        Viewer("chat", session, where, breach, relayed=True),
        Viewer("sse", session, where, breach, wire="sse", relayed=True),
        Viewer("poll", session, where, breach, wire="poll"),
        Viewer("slow", session, where, breach, relayed=True, slow=True),
        Viewer("restless", session, where, breach, restless=True),
    ]
