"""A viewer of one session over the chat socket: events in order, once each, through cuts and restarts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass
from typing import TypeAlias

import aiohttp

from pilothouse.cli.client import CONNECT_S, CUT, Client, refused, unreachable
from pilothouse.cli.errors import Failure, NoServer, Refused
from pilothouse.client.pause import Pause
from pilothouse.core import chat

GIVE_UP_S = 300
"""A server that has not come back after this is not being restarted but gone."""
PAUSE_MAX_S = 5.0
EVENT_MAX = 16 * 1024 * 1024
"""Bytes of one message. Several long fields may stand in one event."""

Item: TypeAlias = chat.EventFrame | chat.Gap | chat.CaughtUp


@dataclass(slots=True)
class Cursor:
    """Where a viewer is in the log."""

    after: int = 0
    epoch: str | None = None


class _Hole(Exception):
    """The next event is not the next: ask again from the cursor."""


class _Closed(Exception):
    """The socket ended and may be opened again."""


class Viewer:
    def __init__(self, client: Client, session: str, after: int, notice: Callable[[str], None]) -> None:
        self._client = client
        self._session = session
        self._notice = notice
        self.cursor = Cursor(after)

    async def follow(self) -> AsyncGenerator[Item, None]:
        """Never ends by itself: leave it when you have seen enough. Raises `Refused` and `NoServer`."""
        pause, lost_at = Pause(PAUSE_MAX_S), None
        clock = asyncio.get_running_loop().time
        ever = False
        while True:
            try:
                async for item in self._once():
                    if lost_at is not None:
                        self._notice("connected again")
                    lost_at, ever = None, True
                    pause.reset()
                    yield item
            except (*CUT, aiohttp.ClientError, _Closed, _Hole, NoServer) as error:
                if not ever and not isinstance(error, _Closed | _Hole):
                    raise unreachable(self._client.endpoint, error) from None
                if lost_at is None:
                    lost_at = clock()
                    self._notice("connection lost, connecting again …")
                if clock() - lost_at > GIVE_UP_S:
                    raise unreachable(self._client.endpoint, error) from None
            await asyncio.sleep(pause.next_s())
            try:
                await self._client.find_again()
            except NoServer:
                continue

    async def _once(self) -> AsyncIterator[Item]:
        """One connection, from the cursor until it ends."""
        client = self._client
        url = client.endpoint.url.replace("http", "ws", 1) + "/ws"
        try:
            async with asyncio.timeout(CONNECT_S):
                socket = await client.http.ws_connect(
                    url,
                    headers=client.headers,
                    heartbeat=chat.PING_EVERY_S,
                    max_msg_size=EVENT_MAX,
                    ssl=client.endpoint.tls,
                )
        except aiohttp.WSServerHandshakeError as error:
            if error.status >= 500:
                raise _Closed from None
            raise refused(client.endpoint, error.status, b"") from None
        async with socket:
            ask = chat.Subscribe(chat_id=self._session, after=self.cursor.after, epoch=self.cursor.epoch)
            await socket.send_str(chat.encode_client(ask).decode())
            async for message in socket:
                if message.type is aiohttp.WSMsgType.TEXT:
                    item = self._take(message.data)
                    if item is not None:
                        yield item
                elif message.type is aiohttp.WSMsgType.ERROR:
                    raise _Closed
            _left(socket.close_code)

    def _take(self, data: str) -> Item | None:
        """One message of the server: moves the cursor, passes on what is new."""
        message = chat.parse_server(data)
        if isinstance(message, chat.Rejected):
            raise Refused(message.message, status=0, code=message.code)
        if isinstance(message, chat.Subscribed):
            return self._subscribed(message)
        if isinstance(message, chat.Gap):
            self.cursor.after = max(self.cursor.after, message.to)
            return message
        if isinstance(message, chat.CaughtUp):
            return message
        if not isinstance(message, chat.EventFrame) or message.session_id != self._session:
            return None
        if message.seq <= self.cursor.after:
            return None
        if message.first > self.cursor.after + 1:
            raise _Hole
        self.cursor.after = message.seq
        return message

    def _subscribed(self, message: chat.Subscribed) -> chat.Gap | None:
        first = self.cursor.epoch is None
        other = not first and self.cursor.epoch != message.epoch
        self.cursor.epoch = message.epoch
        start = message.oldest - 1 if message.oldest > 0 else 0
        if first and self.cursor.after > message.head:  # a number that a person gave
            self._notice(f"there is nothing after event {self.cursor.after}; the last one is {message.head}")
            self.cursor.after = message.head
        elif other or (message.gap and self.cursor.after > message.head):
            # A cursor beyond the log's end belongs to another log, too.
            self._notice("the session's log is another one; it is shown from its start")
            self.cursor.after = 0
        if start <= self.cursor.after:
            return None
        lost_from, self.cursor.after = self.cursor.after + 1, start
        return chat.Gap(chat_id=self._session, from_=lost_from, to=start)


def _left(code: int | None) -> None:
    if chat.comes_back(code) or code == 1000:  # 1000 without our asking: somebody in between ended it
        raise _Closed
    words = {chat.CLOSE_SIGN_IN: "the key is no longer valid", chat.CLOSE_FORBIDDEN: "you may not see this session"}
    raise Failure(f"The server closed the connection: {words.get(code or 0, f'code {code}')}.")
