"""The model listener of a session: the agent's calls in, with nothing of the session's own authority, metered out.

Whatever comes in is hostile. Passed on are three endpoints, a few headers and the body; the credential is the
upstream's affair. Errors have the shape of the Messages API, so that agents show them:

    400 malformed   402 a budget is used up (agents do not try again)   404 405 not an endpoint   413 too large
    408 the body did not come   429 too many at once   502 504 the provider   503 no provider configured yet
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web

from pilothouse.adapters.proxies.ledger import Ledger
from pilothouse.core.ids import JobId, SessionId
from pilothouse.core.metering import Meter
from pilothouse.core.prices import FREE, Tokens
from pilothouse.engine.ports import Budget
from pilothouse.engine.upstream import Answer, Request, Upstream, UpstreamCut, UpstreamFailed

ENDPOINTS = {
    "/v1/messages": "POST",
    "/v1/messages/count_tokens": "POST",
    "/v1/models": "GET",
}
_SENT = ("anthropic-beta", "anthropic-version", "content-type", "user-agent", "x-app", "x-claude-code-session-id")
_GIVEN = ("content-type", "cache-control", "retry-after", "request-id", "x-should-retry")
_GIVEN_PREFIX = "anthropic-ratelimit-"
_TARGET_MAX = 2048
_REFUSED_S = frozenset({401, 403})
HUNG_UP = 499
"""Recorded when the agent hangs up first."""


@dataclass(frozen=True, slots=True)
class Limits:
    body_max: int = 64 * 1024 * 1024
    """A whole conversation with images; the providers take half of it."""
    body_s: float = 60.0
    """For the body to arrive; the agent is on the same machine."""
    calls_max: int = 16
    """At one time and session: sub-agents in parallel, not a flood."""
    configured_s: float = 60.0
    """After a restart calls wait for the server to say where the model is."""
    error_max: int = 64 * 1024
    """Of a provider's error."""


@dataclass(slots=True)
class Seat:
    """One admitted session: who pays at the moment."""

    session: SessionId
    job: JobId | None
    budget: Budget
    calls: int = 0


class ModelDoor:
    """Serves the calls of all sessions; `handler` makes the one of a session."""

    def __init__(self, ledger: Ledger, upstream: Callable[[], Upstream | None], limits: Limits | None = None) -> None:
        self._ledger = ledger
        self._upstream = upstream
        self._limits = limits or Limits()
        self.configured = asyncio.Event()

    def server(self, seat: Seat) -> web.Server:
        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            return await self._handle(seat, request)

        return web.Server(
            handle,
            handler_cancellation=True,
            access_log=None,
            keepalive_timeout=75,
            max_line_size=_TARGET_MAX + 64,
            lingering_time=1,
        )

    async def _handle(self, seat: Seat, request: web.BaseRequest) -> web.StreamResponse:
        if refusal := _unfit(request):
            return refusal
        if seat.calls >= self._limits.calls_max:
            return problem(429, f"at most {self._limits.calls_max} calls at one time", {"retry-after": "1"})
        seat.calls += 1
        try:
            return await self._take(seat, request)
        finally:
            seat.calls -= 1

    async def _take(self, seat: Seat, request: web.BaseRequest) -> web.StreamResponse:
        body = await self._body(request)
        if isinstance(body, web.Response):
            return body
        path = request.raw_path.partition("?")[0]
        model, streamed = _asked(body) if request.method == "POST" else ("", False)
        if model is None:
            return problem(400, "the body must be a JSON object with a model")
        upstream = await self._configured()
        if upstream is None:
            return problem(503, "Pilothouse's proxy has not been told where the model is")
        if upstream.demo:
            model = upstream.model  # it answers to any name, and no record shall look like a real model's
        if path != "/v1/messages":
            return await self._pass(upstream, request, body)
        if why := self._ledger.over(seat.session, seat.job, seat.budget):
            self._ledger.write(seat.session, seat.job, model, 402, Tokens(), FREE, refused="budget")
            return problem(402, why, {"x-should-retry": "false"})
        return await _Call(self._ledger, self._limits, upstream, seat, model, streamed).run(request, body)

    async def _body(self, request: web.BaseRequest) -> bytes | web.Response:
        most = self._limits.body_max
        if request.content_length is not None and request.content_length > most:
            return problem(413, f"the body may have at most {most} bytes")
        data = bytearray()
        try:
            async with asyncio.timeout(self._limits.body_s):
                async for piece in request.content.iter_any():
                    data += piece
                    if len(data) > most:
                        return problem(413, f"the body may have at most {most} bytes")
        except TimeoutError:
            return problem(408, f"the body did not arrive within {self._limits.body_s:g} s")
        return bytes(data)

    async def _configured(self) -> Upstream | None:
        try:
            async with asyncio.timeout(self._limits.configured_s):
                await self.configured.wait()
        except TimeoutError:
            return None
        return self._upstream()

    async def _pass(self, upstream: Upstream, request: web.BaseRequest, body: bytes) -> web.StreamResponse:
        """What costs nothing is passed on whole."""
        try:
            async with upstream.call(_outgoing(request, body)) as answer:
                data = bytearray()
                async for piece in answer.body:
                    data += piece
                    if len(data) > self._limits.body_max:
                        return problem(502, "the provider's answer is too large")
                if answer.status in _REFUSED_S:
                    return _credential(upstream, answer.status)
                return web.Response(status=answer.status, headers=_incoming(answer), body=bytes(data))
        except (UpstreamFailed, UpstreamCut) as error:
            return problem(getattr(error, "status", 502), str(error))


class _Call:
    """One metered call."""

    def __init__(
        self, ledger: Ledger, limits: Limits, upstream: Upstream, seat: Seat, model: str, streamed: bool
    ) -> None:
        self._ledger = ledger
        self._limits = limits
        self._upstream = upstream
        self._session, self._job = seat.session, seat.job  # of when it began
        self._model = model
        self._meter = Meter(streamed)
        self._status = HUNG_UP
        self._since = time.time()

    async def run(self, request: web.BaseRequest, body: bytes) -> web.StreamResponse:
        refused = ""
        try:
            async with self._upstream.call(_outgoing(request, body)) as answer:
                self._status = answer.status
                if answer.status != 200:
                    return await self._failed(answer)
                return await self._stream(request, answer)
        except UpstreamFailed as error:
            self._status = error.status
            refused = "no credential" if error.status == 401 else ""
            return problem(error.status, str(error), {"x-should-retry": "false"} if error.status == 401 else {})
        finally:
            self._meter.end()
            price = self._upstream.price(self._model)
            tokens = self._meter.tokens
            self._ledger.write(
                self._session, self._job, self._model, self._status, tokens, price, refused, since=self._since,
                guessed=not self._meter.finished and tokens.total > 0,
            )  # fmt: skip

    async def _failed(self, answer: Answer) -> web.Response:
        if answer.status in _REFUSED_S:
            return _credential(self._upstream, answer.status)
        data = bytearray()
        try:
            async for piece in answer.body:
                data += piece
                if len(data) > self._limits.error_max:
                    break
        except UpstreamCut:
            return problem(answer.status, "the model provider refused the call")
        if 300 <= answer.status < 400:
            return problem(502, f"the model provider redirects ({answer.status}); set its final base URL")
        return web.Response(status=answer.status, headers=_incoming(answer), body=bytes(data[: self._limits.error_max]))

    async def _stream(self, request: web.BaseRequest, answer: Answer) -> web.StreamResponse:
        response = web.StreamResponse(status=200, headers=_incoming(answer))
        response.enable_chunked_encoding()
        await response.prepare(request)
        try:
            async for piece in answer.body:
                self._meter.feed(piece)
                await response.write(piece)
            await response.write_eof()
        except UpstreamCut:
            # A proper end would make the agent take half an answer for a whole one.
            if request.transport is not None:
                request.transport.abort()
        except (ConnectionError, asyncio.CancelledError):
            self._status = HUNG_UP
            raise
        return response


def problem(status: int, text: str, headers: dict[str, str] | None = None) -> web.Response:
    """A refusal of ours, in the words of the Messages API."""
    kinds = {402: "billing_error", 404: "not_found_error", 413: "request_too_large", 429: "rate_limit_error"}
    kind = kinds.get(status, "api_error" if status >= 500 else "invalid_request_error")
    body = {"type": "error", "error": {"type": kind, "message": f"Pilothouse: {text}"}}
    return web.json_response(body, status=status, headers=headers)


def _credential(upstream: Upstream, status: int) -> web.Response:
    """In our own words: a provider's may quote the key. Trying again would not help."""
    kind = "authentication_error" if status == 401 else "permission_error"
    text = f"Pilothouse: {upstream.label} refused the configured credential ({status})"
    body = {"type": "error", "error": {"type": kind, "message": text}}
    return web.json_response(body, status=status, headers={"x-should-retry": "false"})


def _unfit(request: web.BaseRequest) -> web.Response | None:
    target = request.raw_path
    path = target.partition("?")[0]
    if not target.startswith("/") or ".." in path or "%" in path or "//" in path or len(target) > _TARGET_MAX:
        return problem(400, "the request target must be a plain path")
    if "content-length" in request.headers and "transfer-encoding" in request.headers:
        return problem(400, "Content-Length and Transfer-Encoding in one request")
    method = ENDPOINTS.get(path)
    if method is None:
        if path == "/" and request.method in ("HEAD", "GET"):
            return web.Response(text="Pilothouse model proxy\n")
        return problem(404, "this endpoint is not served to sessions")
    if request.method != method:
        return problem(405, f"{path} takes {method}", {"allow": method})
    return None


def _asked(body: bytes) -> tuple[str, bool] | tuple[None, bool]:
    try:
        asked = json.loads(body)
        model = asked["model"]
    except (ValueError, RecursionError, KeyError, TypeError):
        return None, False
    if not isinstance(model, str) or not 0 < len(model) <= 200:
        return None, False
    return model, asked.get("stream") is True


def _outgoing(request: web.BaseRequest, body: bytes) -> Request:
    headers = {name: request.headers[name] for name in _SENT if name in request.headers}
    return Request(request.method, request.raw_path, headers, body)


def _incoming(answer: Answer) -> dict[str, str]:
    return {n: v for n, v in answer.headers.items() if n in _GIVEN or n.startswith(_GIVEN_PREFIX)}
