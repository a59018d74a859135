"""Requests: to whom, how long, which of them again.

A request is sent again when its connection was lost, and only where twice is the same as once: it reads (GET), or it
carries a word (`Idempotency-Key`, `clientMessageId`, `key`), the caller's or, below `/api`, one of ours, the same with
each try. A server that has never answered is not waited for, unless it took a change that carries a word and went: the
change may have been made. One that has is probably being restarted, and is, for `RETRY_S` from when the connection was
lost: an answer may take hours.
"""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

import aiohttp
import msgspec

from pilothouse.client.errors import ClientError, Conflict, Malformed, NoServer, NotFound, refused
from pilothouse.client.pause import Patience
from pilothouse.core.api import Problem

T = TypeVar("T")

CONNECT_S = 10
"""A server that takes longer to shake hands is as good as away."""
ANSWER_S = 60
"""An answer; making a session may clone a repository, so this is generous. A stream says something more often."""
RETRY_S = 30
"""How long a repeatable request waits for a server that is being restarted, from when its connection was lost."""
ANSWER_MAX = 64 * 1024 * 1024
"""Bytes of one JSON answer, and of one event of a stream: an approval carries its whole input."""
CUTS_MAX = 5
"""Connections cut by a server that has never answered: it is none of ours, or speaks TLS where we do not."""
PAGE = 200

_CLIMBS = frozenset({".", ".."})
CUT = (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, TimeoutError)
"""The server is not there, or has just gone."""
AWAY = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)
"""Of these: nothing was sent."""
LOST = {
    "made": "This was made, and the connection was lost with the answer, which shows a secret once: take back what was "
    "made, and make it again.",
    "begun": "The server went in the middle of this: see whether it was done before you do it again.",
}
"""What is said of a change whose word was ours, by the `reason` of the conflict."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    url: str
    """Without a slash at its end; it may have a path."""
    key: str
    fingerprint: str = ""
    """Of its certificate, SHA-256 in hex, where it need not be one that everybody trusts."""

    @property
    def tls(self) -> aiohttp.Fingerprint | bool:
        """How its certificate is checked: by the fingerprint, else as everybody does."""
        return aiohttp.Fingerprint(bytes.fromhex(self.fingerprint)) if self.fingerprint else True

    def __repr__(self) -> str:
        return f"Endpoint({self.url!r})"


def checked(url: str, name: str = "url") -> str:
    """The address of a server, without a slash at its end. Raises NoServer, which names where it was said."""
    try:
        parts = urlsplit(url)
        fine = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        fine = False
    if not fine:
        raise NoServer(f"{name}: {url!r} is no address of a server, such as http://127.0.0.1:8420")
    return url.rstrip("/")


Find = Callable[[], Awaitable[Endpoint]]
"""Where the server is now: one on this machine may come back on another port."""


@dataclass(frozen=True, slots=True)
class Sent:
    """One server-sent event."""

    name: str
    data: bytes


class Transport:
    def __init__(self, find: Find, now: Callable[[], float] = time.monotonic) -> None:
        self._find = find
        self._now = now
        self._met = False
        """The server has answered once."""
        self.endpoint = Endpoint("", "")

    async def open(self) -> None:
        self.endpoint = await self._find()
        # No proxy, netrc or cookie of the environment: the key goes to the named server and nowhere else.
        self.http = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=ANSWER_S),
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def close(self) -> None:
        await self.http.close()

    async def find_again(self) -> None:
        self.endpoint = await self._find()

    @property
    def headers(self) -> dict[str, str]:
        return {"x-api-key": self.endpoint.key} if self.endpoint.key else {}

    async def ask(
        self,
        kind: type[T],
        method: str,
        path: str,
        *,
        body: object = None,
        params: Mapping[str, str] | None = None,
        key: str | None = None,
        repeat: bool = False,
    ) -> T:
        """The answer as `kind`; see `send`. Raises Malformed."""
        return read(kind, await self.send(method, path, body=body, params=params, key=key, repeat=repeat))

    async def send(
        self,
        method: str,
        path: str,
        *,
        body: object = None,
        params: Mapping[str, str] | None = None,
        key: str | None = None,
        repeat: bool = False,
    ) -> bytes:
        """The answer's body. `body` becomes JSON; `key` an `Idempotency-Key`. `repeat`: twice is the same as once.
        Raises NoServer, Refused."""
        own = key is None and method != "GET" and path.startswith("/api/")
        key = uuid.uuid4().hex if own else key
        sent, cuts = False, 0
        patience = Patience(RETRY_S if repeat or key is not None or method == "GET" else 0)
        while True:
            answered: float | None = None
            try:
                async with self.request(method, path, body=body, params=params, key=key) as answer:
                    self._met, answered = True, self._now()
                    await check(answer, self.endpoint)
                    return await _whole(answer)
            except Conflict as error:
                raise _in_words(error) if own and sent else error from None
            except CUT as error:
                cut = not isinstance(error, AWAY)
                sent, cuts = sent or cut, cuts + cut
                # One that says nothing for a minute is not being restarted, and would take as long again.
                silent = answered is None and isinstance(error, aiohttp.SocketTimeoutError)
                if isinstance(error, aiohttp.SocketTimeoutError):
                    answered = None  # nor is one whole that fell silent after its head
                wait = None if silent else patience.lost(self._now(), answered)
                there = self._met or (method != "GET" and key is not None and sent and cuts <= CUTS_MAX)
                if not there or wait is None:
                    unknown = sent and method != "GET"
                    raise (_lost if unknown else unreachable)(self.endpoint, error) from None
            await asyncio.sleep(wait)
            with suppress(NoServer):  # being restarted: the old address is tried until the time is up
                await self.find_again()

    async def each(self, kind: type[T], path: str, params: Mapping[str, str] | None = None) -> AsyncGenerator[T, None]:
        """Every item of a paged list. Raises what `ask` does."""
        cursor: str | None = None
        while True:
            query = {**(params or {}), "limit": str(PAGE), **({"cursor": cursor} if cursor else {})}
            page = await self.ask(_Page, "GET", path, params=query)
            for item in page.items:
                yield read(kind, item)
            if not page.next or page.next == cursor:
                return
            cursor = page.next

    @asynccontextmanager
    async def download(self, path: str, params: Mapping[str, str] | None = None) -> AsyncIterator[AsyncIterator[bytes]]:
        """The body in chunks, as they come. Raises NoServer when it breaks off."""
        try:
            async with self.request("GET", path, params=params) as answer:
                await check(answer, self.endpoint)
                yield answer.content.iter_chunked(64 * 1024)
        except CUT as error:
            raise NoServer(f"The server at {self.endpoint.url} broke off the download: {why(error)}") from None

    async def stream(self, path: str, params: Mapping[str, str] | None = None) -> AsyncGenerator[Sent, None]:
        """Server-sent events of one connection, until it ends. Raises NoServer, Refused, Malformed."""
        try:
            async with self.request("GET", path, params=params, accept="text/event-stream") as answer:
                self._met = True
                await check(answer, self.endpoint)
                rest = b""
                async for piece in answer.content.iter_any():
                    *whole, rest = (rest + piece).split(b"\n\n")
                    if len(rest) > ANSWER_MAX:
                        raise Malformed(f"The server's answer is longer than {ANSWER_MAX} bytes.")
                    for said in map(_sent, whole):
                        if said is not None:
                            yield said
        except CUT as error:
            raise unreachable(self.endpoint, error) from None

    def request(
        self,
        method: str,
        path: str,
        *,
        body: object = None,
        params: Mapping[str, str] | None = None,
        key: str | None = None,
        accept: str = "",
    ) -> Any:
        """One request, as aiohttp has it. A redirect would carry the key to wherever it points: none is followed. An id
        that would lead to another address is none. Raises NotFound for that."""
        if not _CLIMBS.isdisjoint(unquote(path.partition("?")[0]).split("/")):
            raise NotFound(Problem(title="Not Found", status=404, code="not_found", detail=f"{path!r}: that is no id."))
        headers = dict(self.headers)
        headers |= {"idempotency-key": key} if key is not None else {}
        headers |= {"accept": accept} if accept else {}
        headers |= {"content-type": "application/json"} if body is not None else {}
        return self.http.request(
            method,
            self.endpoint.url + path,
            headers=headers,
            data=None if body is None else msgspec.json.encode(body),
            params=params,
            allow_redirects=False,
            ssl=self.endpoint.tls,
        )


class _Page(msgspec.Struct, frozen=True):
    items: list[msgspec.Raw]
    next: str | None = None


def read(kind: type[T], body: bytes | msgspec.Raw) -> T:
    """Raises Malformed."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise Malformed(f"The server's answer is not what this version understands: {error}") from None


def given(**fields: object) -> dict[str, str]:
    """Those that are not None, for a query."""
    return {name: str(value) for name, value in fields.items() if value is not None}


def unreachable(endpoint: Endpoint, error: BaseException) -> NoServer:
    return NoServer(f"No Pilothouse server answers at {endpoint.url}: {why(error)}")


def _lost(endpoint: Endpoint, error: BaseException) -> NoServer:
    text = f"The connection to the server at {endpoint.url} was lost ({why(error)})"
    return NoServer(f"{text}, and it is not known whether this was done.")


def _in_words(error: Conflict) -> Conflict:
    """For who has given no key."""
    detail = LOST.get(error.problem.reason or "")
    return error if detail is None else Conflict(msgspec.structs.replace(error.problem, detail=detail))


async def check(answer: aiohttp.ClientResponse, endpoint: Endpoint) -> None:
    """Raises Refused for what is no success."""
    if not 200 <= answer.status < 300:
        headers = {name.lower(): value for name, value in answer.headers.items()}
        raise refused(endpoint.url, answer.status, await answer.content.read(64 * 1024), headers)


def why(error: BaseException) -> str:
    if isinstance(error, ClientError):
        return str(error)
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, aiohttp.ClientPayloadError):
        return "the answer ended too early"  # its own words look like a status of the server's
    if isinstance(error, aiohttp.ClientConnectorError) and isinstance(error.os_error, ConnectionError):
        return os.strerror(error.os_error.errno or 0)  # its own words are about sockets and TLS settings
    if isinstance(error, aiohttp.ClientConnectorError) and error.os_error.strerror:
        return error.os_error.strerror
    return str(error) or type(error).__name__


async def _whole(answer: aiohttp.ClientResponse) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for part in answer.content.iter_chunked(64 * 1024):
        size += len(part)
        if size > ANSWER_MAX:
            raise Malformed(f"The server's answer is longer than {ANSWER_MAX} bytes.")
        parts.append(part)
    return b"".join(parts)


def _sent(block: bytes) -> Sent | None:
    """None for a comment, and for what has no data."""
    name, data = "message", []
    for line in block.split(b"\n"):
        if line.startswith(b"event:"):
            name = line[6:].strip().decode(errors="replace")
        elif line.startswith(b"data:"):
            data.append(line[5:].removeprefix(b" "))
    return Sent(name, b"\n".join(data)) if data else None
