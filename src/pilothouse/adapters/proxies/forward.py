"""One plain HTTP request on its way to the far end, and its answer on the way back.

Both sides are parsed, so that what is passed on is exactly one request with one meaning. Headers that concern one hop
only are left out, `Host` is the host that was allowed, and nothing is added: no credential, no word of who asked. Each
connection carries one request; whatever follows it is not looked at.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TypeAlias

import h11

from pilothouse.adapters.proxies.heads import HEAD_MAX, Asked
from pilothouse.adapters.proxies.tunnel import PIECE, Moved, until_idle
from pilothouse.core.reach import BadTarget

Headers: TypeAlias = list[tuple[bytes, bytes]]
_HOP = frozenset(
    (
        *(b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection", b"te"),
        *(b"trailer", b"upgrade", b"http2-settings", b"expect"),
    )
)


class Cut(Exception):
    """The far end's answer is no HTTP, or broke off."""


class Forward:
    """`begin` before anybody is connected to; then `run`."""

    def __init__(self, asked: Asked, near: asyncio.StreamReader, near_out: asyncio.StreamWriter) -> None:
        self._asked = asked
        self._near = near
        self._near_out = near_out
        self._here = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_MAX)
        self._there = h11.Connection(h11.CLIENT, max_incomplete_event_size=4 * HEAD_MAX)
        self._request: h11.Request | None = None
        self.answered = False
        """Something of an answer has gone to the session."""

    def begin(self, head: bytes) -> None:
        """Raises BadTarget for what is not clean HTTP."""
        try:
            self._here.receive_data(head)
            event = self._here.next_event()
        except h11.RemoteProtocolError as error:
            raise BadTarget(f"the request is not HTTP: {str(error)[:80]}") from None
        if not isinstance(event, h11.Request):
            raise BadTarget("the request is not whole")
        if {b"content-length", b"transfer-encoding"} <= {name for name, _ in event.headers}:
            raise BadTarget("Content-Length and Transfer-Encoding in one request")
        self._request = event

    async def run(
        self, far: asyncio.StreamReader, far_out: asyncio.StreamWriter, idle_s: float, moved: Moved, early: bytes = b""
    ) -> None:
        """`early`: what came of the request's body already. Raises Cut."""
        if early:
            self._here.receive_data(early)
        last = [asyncio.get_running_loop().time()]

        def alive(into: int, out: int) -> None:
            last[0] = asyncio.get_running_loop().time()
            moved(into, out)

        async def both() -> None:
            sending = asyncio.create_task(self._send(far_out, alive))
            answering = asyncio.create_task(self._answer(far, alive))
            try:
                await asyncio.wait((sending, answering), return_when=asyncio.FIRST_COMPLETED)
                if not answering.done() and isinstance(sending.exception(), h11.ProtocolError):
                    raise Cut  # what was sent on is no whole request, so it gets no answer
                await answering
            finally:
                for task in (sending, answering):
                    task.cancel()
                await asyncio.gather(sending, answering, return_exceptions=True)

        try:
            await until_idle(both(), idle_s, lambda: last[0])
        except h11.ProtocolError:
            raise Cut from None

    async def _send(self, far_out: asyncio.StreamWriter, moved: Moved) -> None:
        request = self._request
        assert request is not None
        headers = [(b"host", _host(self._asked)), *_onward(request.headers, b"host"), (b"connection", b"close")]
        path = self._asked.path.encode()
        data: bytes | None = self._there.send(h11.Request(method=request.method, target=path, headers=headers))
        while data is not None:
            far_out.write(data)
            await far_out.drain()
            moved(0, len(data))
            data = await self._piece()

    async def _piece(self) -> bytes | None:
        """The next of the request's body as it goes out; None at its end."""
        while True:
            event = self._here.next_event()
            if event is h11.NEED_DATA:
                if self._here.they_are_waiting_for_100_continue:
                    go_on = h11.InformationalResponse(status_code=100, headers=[])
                    self._near_out.write(self._here.send(go_on) or b"")
                self._here.receive_data(await self._near.read(PIECE))
            elif isinstance(event, h11.Data):
                return self._there.send(h11.Data(data=bytes(event.data)))
            else:
                if isinstance(event, h11.EndOfMessage):
                    last = self._there.send(h11.EndOfMessage())
                    return last or None
                return None

    async def _answer(self, far: asyncio.StreamReader, moved: Moved) -> None:
        while True:
            event = self._there.next_event()
            if event is h11.NEED_DATA:
                data = await far.read(PIECE)
                moved(len(data), 0)
                self._there.receive_data(data)
                continue
            if isinstance(event, h11.Response):
                headers = [*_onward(event.headers), (b"connection", b"close")]
                await self._give(h11.Response(status_code=event.status_code, headers=headers, reason=event.reason))
            elif isinstance(event, h11.Data):
                await self._give(h11.Data(data=bytes(event.data)))
            elif isinstance(event, h11.EndOfMessage):
                await self._give(h11.EndOfMessage())
                return
            elif not isinstance(event, h11.InformationalResponse):
                raise Cut

    async def _give(self, event: h11.Event) -> None:
        data = self._here.send(event)
        self.answered = True
        if data:
            self._near_out.write(data)
            await self._near_out.drain()


def _host(asked: Asked) -> bytes:
    name = f"[{asked.target.host}]" if ":" in asked.target.host else asked.target.host
    return (name if asked.target.port == 80 else f"{name}:{asked.target.port}").encode()


def _onward(given: Iterable[tuple[bytes, bytes]], *besides: bytes) -> Headers:
    """What goes beyond this hop."""
    headers = list(given)
    left_out = {word.strip().lower() for name, value in headers if name == b"connection" for word in value.split(b",")}
    left_out -= {b"transfer-encoding", b"content-length"}  # how long the body is concerns everybody
    left_out |= {*_HOP, *besides}
    if any(name == b"transfer-encoding" for name, _ in headers):
        left_out.add(b"content-length")
    return [(name, value) for name, value in headers if name not in left_out]
