"""The server's client to the proxy on its own host: `ModelProxy` over the control socket (see `wire`).

The proxy outlives the server, and may be restarted itself. The client remembers what it has said, watches the proxy's
life, and says it again to a new one, so that the sessions that were served are served on.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from pilothouse.adapters.proxies import wire
from pilothouse.core import errors
from pilothouse.core.contacts import Contact
from pilothouse.core.errors import NotFound, PilothouseError, Unavailable
from pilothouse.core.ids import JobId, SessionId
from pilothouse.core.reach import Asking, Reach
from pilothouse.engine.ports import Budget, ModelState, UsageRecord
from pilothouse.engine.upstream import EgressSettings, ModelSettings

PATIENCE_S = 20.0
"""For a proxy that is just being started again."""
AGAIN_S = 0.1
ANSWER_S = 30.0
_BASE = "http://proxy"

_encode = msgspec.json.Encoder().encode
_record = msgspec.json.Decoder(UsageRecord)
_contacts = msgspec.json.Decoder(list[Contact])
_asking = msgspec.json.Decoder(list[Asking])


class LocalProxy:
    def __init__(self, runtime: Path, patience_s: float = PATIENCE_S) -> None:
        self._path = runtime / wire.SOCKET
        self._patience = patience_s
        self._http: aiohttp.ClientSession | None = None
        self._settings: wire.Configure | None = None
        self._admitted: dict[SessionId, wire.Admit] = {}
        self._reaches: dict[SessionId, wire.Reach] = {}
        self._instance = ""
        self._lock = asyncio.Lock()
        self._watching: asyncio.Task[None] | None = None

    async def configure(self, model: ModelSettings, egress: EgressSettings) -> ModelState:
        """Where the model is and what else sessions may reach; kept, and said again to a restarted proxy."""
        self._settings = wire.Configure(model, egress)
        self._instance = ""
        if self._watching is None:
            self._watching = asyncio.create_task(self._watch(), name="proxy")
        return await self.state()

    async def state(self) -> ModelState:
        body = await self._ask("GET", "/state")
        return msgspec.convert(body, ModelState)

    async def admit(self, session: SessionId, job: JobId | None, budget: Budget) -> None:
        asked = wire.Admit(session, job, budget)
        self._admitted[session] = asked
        await self._ask("POST", "/admit", asked)

    async def drop(self, session: SessionId) -> None:
        self._admitted.pop(session, None)
        self._reaches.pop(session, None)
        await self._ask("POST", "/drop", wire.Drop(session))

    async def spent(self, session: SessionId, job: JobId) -> UsageRecord | None:
        try:
            body = await self._ask("GET", "/spent", params={"session": session, "job": job})
        except NotFound:
            return None
        return msgspec.convert(body, UsageRecord)

    async def usage(self, marks: Sequence[tuple[str, int]]) -> AsyncIterator[UsageRecord]:
        async for line in self._lines("/usage", marks):
            yield _record.decode(line)

    async def reach(self, session: SessionId, reach: Reach) -> None:
        said = wire.Reach(session, reach.policy, [str(domain) for domain in reach.domains], reach.ask_s)
        self._reaches[session] = said
        await self._ask("POST", "/reach", said)

    async def forget(self, session: SessionId) -> None:
        await self._ask("POST", "/forget", wire.Drop(session))

    async def contacts(self, marks: Sequence[tuple[str, int]]) -> AsyncIterator[list[Contact]]:
        async for line in self._lines("/contacts", marks):
            yield _contacts.decode(line)

    async def asking(self) -> AsyncIterator[list[Asking]]:
        async for line in self._lines("/asking"):
            yield _asking.decode(line)

    async def answer(self, ask_id: str, allow: bool, message: str, *, remember: bool) -> None:
        await self._ask("POST", "/answer", wire.Answer(ask_id, allow, message, remember))

    async def _lines(self, path: str, marks: Sequence[tuple[str, int]] = ()) -> AsyncGenerator[bytes, None]:
        """What a stream of the proxy's says, until it ends."""
        await self._ready()
        params = [("mark", f"{proxy_id}:{n}") for proxy_id, n in marks]
        timeout = aiohttp.ClientTimeout(total=None, sock_read=3 * wire.BEAT_S)
        with suppress(aiohttp.ClientError, OSError, TimeoutError):
            async with self._session().get(_BASE + path, params=params, timeout=timeout) as response:
                if response.status != 200:
                    raise _refusal(await response.read(), response.status)
                async for line in _whole(response.content):
                    if line.strip():
                        yield line

    async def close(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        if self._http is not None:
            await self._http.close()

    def _session(self) -> aiohttp.ClientSession:
        if self._http is None:
            self._http = aiohttp.ClientSession(connector=aiohttp.UnixConnector(path=str(self._path), limit=0))
        return self._http

    async def _watch(self) -> None:
        """Holds a stream open; when it ends, the proxy that answers next is told everything."""
        timeout = aiohttp.ClientTimeout(total=None, sock_read=3 * wire.BEAT_S)
        while True:
            with suppress(aiohttp.ClientError, OSError, TimeoutError, PilothouseError):
                await self._ready()
                async with self._session().get(_BASE + "/alive", timeout=timeout) as response:
                    async for _ in response.content:
                        pass
            await asyncio.sleep(AGAIN_S)

    async def _ready(self) -> None:
        """A proxy answers and knows what this one has been told. Raises Unavailable."""
        async with self._lock:
            try:
                async with asyncio.timeout(self._patience):
                    while not await self._greeted():  # noqa: ASYNC110 - another process
                        await asyncio.sleep(AGAIN_S)
            except TimeoutError:
                raise Unavailable("the model proxy does not answer") from None

    async def _greeted(self) -> bool:
        try:
            hello = msgspec.convert(await self._once("GET", "/hello"), wire.Hello)
            if hello.proto != wire.PROTO:
                raise Unavailable(f"the model proxy speaks protocol {hello.proto}, this server {wire.PROTO}")
            if hello.instance == self._instance or self._settings is None:
                return True
            await self._once("POST", "/configure", self._settings)
            for reach in list(self._reaches.values()):
                await self._once("POST", "/reach", reach)
            for asked in list(self._admitted.values()):
                await self._once("POST", "/admit", asked)
            self._instance = hello.instance
        except (aiohttp.ClientError, OSError):
            return False
        return True

    async def _ask(self, method: str, path: str, body: object = None, params: dict[str, str] | None = None) -> Any:
        """Every verb is harmless to repeat, so one that broke off is said again."""
        for _ in range(3):
            await self._ready()
            with suppress(aiohttp.ClientError, OSError):
                return await self._once(method, path, body, params)
        raise Unavailable("the model proxy does not answer")

    async def _once(self, method: str, path: str, body: object = None, params: dict[str, str] | None = None) -> Any:
        data = None if body is None else _encode(body)
        timeout = aiohttp.ClientTimeout(total=ANSWER_S)
        async with self._session().request(method, _BASE + path, data=data, params=params, timeout=timeout) as response:
            answer = await response.read()
            if response.status >= 400:
                raise _refusal(answer, response.status)
            return json.loads(answer) if answer else None


async def _whole(content: aiohttp.StreamReader) -> AsyncGenerator[bytes, None]:
    """Lines of any length: a list of contacts is longer than what aiohttp takes for one."""
    rest = bytearray()
    async for piece in content.iter_any():
        rest += piece
        if b"\n" not in piece:
            continue
        *lines, last = rest.split(b"\n")
        for line in lines:
            yield bytes(line)
        rest = bytearray(last)


_KINDS = {kind.status: kind for kind in (errors.BadRequest, errors.Forbidden, errors.NotFound, errors.Unavailable)}


def _refusal(answer: bytes, status: int) -> PilothouseError:
    try:
        problem = msgspec.json.decode(answer, type=wire.Problem)
    except msgspec.MsgspecError:
        problem = wire.Problem("error", f"the model proxy answered {status}")
    return _KINDS.get(status, Unavailable)(problem.message)
