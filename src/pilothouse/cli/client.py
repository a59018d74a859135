"""The HTTP side of the wire: one method per thing a command does. The live side is `viewer`."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, TypeVar
from urllib.parse import quote

import aiohttp
import msgspec

from pilothouse.cli import wire
from pilothouse.cli.errors import Failure, NoServer, Refused
from pilothouse.cli.pause import Pause

T = TypeVar("T")

CONNECT_S = 10
"""A server that takes longer to shake hands is as good as away."""
ANSWER_S = 60
"""An answer; making a session may clone a repository, so this is generous."""
RETRY_S = 30
"""How long a repeatable request waits for a server that is being restarted."""
ANSWER_MAX = 64 * 1024 * 1024
"""Bytes of one JSON answer: an approval carries its whole input."""
PAGE = 200

CUT = (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, TimeoutError)
"""The server is not there, or has just gone."""

KEY_HELP = (
    "Set PILOTHOUSE_API_KEY to a key of that server; on its own machine "
    "`pilothouse keys create --plain` prints a new one."
)


@dataclass(frozen=True, slots=True)
class Endpoint:
    url: str
    """Without a slash at its end; it may have a path."""
    key: str
    fingerprint: str = ""
    """Of this machine's own server: SHA-256 of its certificate, which names it to others and need not name it to us."""

    @property
    def tls(self) -> aiohttp.Fingerprint | bool:
        """How its certificate is checked: by the fingerprint, else as everybody does."""
        return aiohttp.Fingerprint(bytes.fromhex(self.fingerprint)) if self.fingerprint else True

    def __repr__(self) -> str:
        return f"Endpoint({self.url!r})"


Find = Callable[[], Awaitable[Endpoint]]
"""Where the server is now: this machine's own may come back on another port."""


class Client:
    """Use as a context manager. `find` is asked again whenever the connection was lost."""

    def __init__(self, find: Find) -> None:
        self._find = find
        self._met = False
        """The server has answered once: if it is away now, it is probably being restarted."""

    async def __aenter__(self) -> Client:
        self.endpoint = await self._find()
        # No proxy, netrc or cookie of the environment: the key goes to the named server and nowhere else.
        self.http = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=ANSWER_S),
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.http.close()

    async def find_again(self) -> None:
        self.endpoint = await self._find()

    @property
    def headers(self) -> dict[str, str]:
        return {"x-api-key": self.endpoint.key} if self.endpoint.key else {}

    # --- sessions and jobs -------------------------------------------------------------------------------------

    async def make_session(self, **fields: Any) -> wire.Session:
        return await self._ask(wire.Session, "POST", "/api/sessions", json=_given(fields))

    async def session(self, id: str) -> wire.Session:
        return await self._ask(wire.Session, "GET", f"/api/sessions/{id}")

    async def sessions(self) -> list[wire.Session]:
        return await self._all(wire.Session, "/api/sessions")

    async def limits(self, id: str) -> list[wire.Limit]:
        return (await self._ask(wire.Limits, "GET", f"/api/sessions/{id}/limits")).limits

    async def stop(self, id: str) -> None:
        await self._send("POST", f"/api/sessions/{id}/stop")

    async def submit(self, session: str, prompt: str, **fields: Any) -> wire.Job:
        """Repeatable: the server knows the message by its id."""
        body = {"prompt": prompt, "clientMessageId": str(uuid.uuid4()), **_given(fields)}
        return await self._ask(wire.Job, "POST", f"/api/sessions/{session}/jobs", json=body, repeat=True)

    async def jobs(self, session: str) -> list[wire.Job]:
        return await self._all(wire.Job, f"/api/sessions/{session}/jobs")

    async def job(self, id: str) -> wire.Job:
        return await self._ask(wire.Job, "GET", f"/api/jobs/{id}")

    async def interrupt(self, job: str) -> None:
        await self._send("POST", f"/api/jobs/{job}/interrupt", repeat=True)

    async def events(self, path: str, after: int) -> wire.Log:
        return await self._ask(wire.Log, "GET", path, params={"after": str(after), "limit": "500"})

    # --- approvals and questions -------------------------------------------------------------------------------

    async def approval(self, id: str) -> wire.Approval:
        return await self._ask(wire.Approval, "GET", f"/api/approvals/{id}")

    async def approvals(self) -> list[wire.Approval]:
        return await self._all(wire.Approval, "/api/approvals", state="pending")

    async def decide(self, approval: wire.Approval, approved: bool, **fields: Any) -> wire.Approval:
        """The hash binds the answer to the input that the person saw."""
        body = {"approved": approved, "inputHash": approval.input_hash, **_given(fields)}
        path = f"/api/approvals/{approval.approval_id}"
        return await self._ask(wire.Approval, "POST", path, json=body, repeat=True)

    async def questions(self) -> list[wire.Waiting]:
        return await self._all(wire.Waiting, "/api/questions", state="pending")

    async def answer(self, id: str, answers: dict[str, str]) -> None:
        await self._send("POST", f"/api/questions/{id}", json={"answers": answers}, repeat=True)

    # --- files -------------------------------------------------------------------------------------------------

    async def files(self, session: str, path: str) -> wire.Listing:
        return await self._ask(wire.Listing, "GET", f"/api/sessions/{session}/files", params={"path": path})

    async def artifacts(self, job: str) -> list[wire.Artifact]:
        return await self._all(wire.Artifact, f"/api/jobs/{job}/artifacts")

    @asynccontextmanager
    async def download(self, path: str, params: dict[str, str]) -> AsyncIterator[AsyncIterator[bytes]]:
        """The body in chunks."""
        try:
            async with self._request("GET", path, params=params) as answer:
                await _check(answer, self.endpoint)
                yield answer.content.iter_chunked(64 * 1024)
        except CUT as error:
            raise NoServer(f"The server at {self.endpoint.url} broke off the download: {_why(error)}") from None

    # --- shells ------------------------------------------------------------------------------------------------

    async def shells(self, session: str) -> list[wire.Shell]:
        return await self._all(wire.Shell, f"/api/sessions/{session}/shells")

    async def open_shell(self, session: str, **fields: Any) -> wire.Shell:
        return await self._ask(wire.Shell, "POST", f"/api/sessions/{session}/shells", json=_given(fields))

    async def end_shell(self, session: str, shell: str) -> None:
        await self._send("DELETE", f"/api/sessions/{session}/shells/{shell}")

    # --- secrets -----------------------------------------------------------------------------------------------

    async def secrets(self, path: str) -> list[wire.Secret]:
        return await self._all(wire.Secret, f"{path}/secrets")

    async def set_secret(self, path: str, body: dict[str, Any]) -> wire.Secret:
        return await self._ask(wire.Secret, "PUT", path, json=body, repeat=True)

    async def remove_secret(self, path: str, source: dict[str, str]) -> None:
        await self._send("DELETE", path, params=source)

    # --- network -----------------------------------------------------------------------------------------------

    async def network(self, session: str) -> wire.Network:
        return await self._ask(wire.Network, "GET", f"/api/sessions/{session}/network")

    async def change_egress(self, session: str, wish: dict[str, Any]) -> wire.Network:
        return await self._ask(wire.Network, "PUT", f"/api/sessions/{session}/egress", json=wish, repeat=True)

    async def follow_network(self, session: str) -> AsyncGenerator[wire.Network, None]:
        """All, then what changes; ends when the server goes. Raises NoServer, Refused."""
        patient = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S)
        try:
            async with self._request("GET", f"/api/sessions/{session}/network/stream", timeout=patient) as answer:
                await _check(answer, self.endpoint)
                rest = b""
                async for piece in answer.content.iter_any():
                    *whole, rest = (rest + piece).split(b"\n\n")
                    if len(rest) > ANSWER_MAX:
                        raise Failure(f"The server's answer is longer than {ANSWER_MAX} bytes.")
                    for event in whole:
                        if event.startswith(b"data: "):
                            yield _read(wire.Network, event[6:])
        except CUT as error:
            raise unreachable(self.endpoint, error) from None

    # --- the event API -----------------------------------------------------------------------------------------

    async def publish(self, channel: str, events: list[str], key: str) -> wire.Published:
        """Repeatable: the server knows the request by its key."""
        body = {"channel": channel, "events": events, "key": key}
        return await self._ask(wire.Published, "POST", "/event", json=body, repeat=True)

    # --- access ------------------------------------------------------------------------------------------------

    async def ticket(self, account: str | None = None, organisation: str | None = None) -> wire.Ticket:
        return await self._ask(
            wire.Ticket, "POST", "/api/tickets", params=_given({"account": account, "organisation": organisation})
        )

    async def make_key(self, wish: dict[str, Any], organisation: str | None) -> wire.Key:
        params = _given({"organisation": organisation})
        return await self._ask(wire.Key, "POST", "/api/keys", json=_given(wish), params=params)

    async def keys(self) -> list[wire.Key]:
        return await self._all(wire.Key, "/api/keys")

    async def revoke_key(self, id: str) -> None:
        await self._send("DELETE", f"/api/keys/{id}")

    # --- members -----------------------------------------------------------------------------------------------

    async def members(self, organisation: str | None) -> list[wire.Member]:
        return await self._all(wire.Member, "/api/members", **_given({"organisation": organisation}))

    async def set_member(
        self, account: str, organisation: str | None, role: str | None, name: str | None, disabled: bool | None
    ) -> wire.Member:
        body = _given({"role": role, "name": name, "disabled": disabled})
        path = f"/api/members/{quote(account, safe='')}"
        return await self._ask(
            wire.Member, "PUT", path, json=body, params=_given({"organisation": organisation}), repeat=True
        )

    async def remove_member(self, account: str, organisation: str | None) -> None:
        path = f"/api/members/{quote(account, safe='')}"
        await self._send("DELETE", path, params=_given({"organisation": organisation}))

    async def organisations(self) -> list[wire.Organisation]:
        return await self._all(wire.Organisation, "/api/organisations")

    async def make_organisation(self, id: str, name: str | None) -> wire.Organisation:
        return await self._ask(wire.Organisation, "POST", "/api/organisations", json=_given({"id": id, "name": name}))

    async def audit(self, after: int, organisation: str | None = None) -> list[bytes]:
        """Up to PAGE records with a higher number, as they were sealed."""
        query = {"after": str(after), "limit": str(PAGE), **_given({"organisation": organisation})}
        return [bytes(item) for item in (await self._ask(wire.AuditPage, "GET", "/api/audit", params=query)).items]

    async def audit_head(self, organisation: str | None = None) -> wire.AuditHead:
        params = _given({"organisation": organisation})
        return await self._ask(wire.AuditHead, "GET", "/api/audit/head", params=params)

    # --- the request -------------------------------------------------------------------------------------------

    async def _all(self, kind: type[T], path: str, **params: str) -> list[T]:
        """Every page of a list."""
        items: list[T] = []
        cursor: str | None = None
        while True:
            query = {**params, "limit": str(PAGE), **({"cursor": cursor} if cursor else {})}
            body = await self._send("GET", path, params=query)
            page = _read(_Page, body)
            items += [_convert(kind, item) for item in page.items]
            if not page.next or page.next == cursor:
                return items
            cursor = page.next

    async def _ask(self, kind: type[T], method: str, path: str, **options: Any) -> T:
        return _read(kind, await self._send(method, path, **options))

    async def _send(self, method: str, path: str, *, repeat: bool = False, **options: Any) -> bytes:
        """One request. `repeat`: doing it twice is the same as once, so a lost connection is tried again.

        Only a server that has answered before is waited for.
        """
        give_up = asyncio.get_running_loop().time() + (RETRY_S if repeat or method == "GET" else 0)
        pause = Pause(2.0, 0.1)
        while True:
            wait = pause.next_s()
            try:
                async with self._request(method, path, **options) as answer:
                    self._met = True
                    await _check(answer, self.endpoint)
                    return await _body(answer)
            except CUT as error:
                if not self._met or asyncio.get_running_loop().time() + wait > give_up:
                    raise unreachable(self.endpoint, error) from None
            await asyncio.sleep(wait)
            with suppress(NoServer):  # being restarted: the old address is tried until the time is up
                await self.find_again()

    def _request(self, method: str, path: str, **options: Any) -> Any:
        # A redirect would carry the key to wherever it points, so it is not followed.
        return self.http.request(
            method,
            self.endpoint.url + path,
            headers=self.headers,
            allow_redirects=False,
            ssl=self.endpoint.tls,
            **options,
        )


class _Page(msgspec.Struct, frozen=True):
    items: list[Any]
    next: str | None = None


def _given(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def unreachable(endpoint: Endpoint, error: BaseException) -> NoServer:
    return NoServer(f"No Pilothouse server answers at {endpoint.url}: {_why(error)}")


def refused(endpoint: Endpoint, status: int, body: bytes) -> Refused:
    """An answer that is no success, for a person."""
    try:
        problem = msgspec.json.decode(body, type=wire.Problem)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        problem = wire.Problem()
    detail = problem.detail or problem.message or problem.title or f"the server at {endpoint.url} answered {status}"
    if status == 401:
        detail = f"{detail}\n{KEY_HELP}"
    return Refused(detail, status=status, code=problem.code, outcome=problem.outcome, by=problem.by)


async def _check(answer: aiohttp.ClientResponse, endpoint: Endpoint) -> None:
    if not 200 <= answer.status < 300:
        raise refused(endpoint, answer.status, await answer.content.read(64 * 1024))


async def _body(answer: aiohttp.ClientResponse) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for part in answer.content.iter_chunked(64 * 1024):
        size += len(part)
        if size > ANSWER_MAX:
            raise Failure(f"The server's answer is longer than {ANSWER_MAX} bytes.")
        parts.append(part)
    return b"".join(parts)


def _read(kind: type[T], body: bytes) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise Failure(f"The server's answer is not what this version understands: {error}") from None


def _convert(kind: type[T], item: Any) -> T:
    try:
        return msgspec.convert(item, kind)
    except msgspec.ValidationError as error:
        raise Failure(f"The server's answer is not what this version understands: {error}") from None


def _why(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, aiohttp.ClientConnectorError) and isinstance(error.os_error, ConnectionError):
        return os.strerror(error.os_error.errno or 0)  # its own words are about sockets and TLS settings
    if isinstance(error, aiohttp.ClientConnectorError) and error.os_error.strerror:
        return error.os_error.strerror
    return str(error) or type(error).__name__
