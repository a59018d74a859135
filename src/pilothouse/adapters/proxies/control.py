"""The proxy's side of its control socket (see `wire`)."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import struct
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TypeVar

import msgspec
from aiohttp import web

import pilothouse
from pilothouse.adapters.proxies import wire
from pilothouse.adapters.proxies.asks import Answer
from pilothouse.adapters.proxies.desk import Desk
from pilothouse.core import reach
from pilothouse.core.errors import BadRequest, Forbidden, NotFound, PilothouseError
from pilothouse.core.ids import JobId, is_segment, is_uuid, session_id

T = TypeVar("T")
_encode = msgspec.json.Encoder().encode


class Control:
    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._instance = secrets.token_hex(8)

    def application(self) -> web.Application:
        app = web.Application(client_max_size=wire.BODY_MAX, middlewares=[_guard])
        app.add_routes(
            [
                web.get("/hello", self._hello),
                web.post("/configure", self._configure),
                web.get("/state", self._state),
                web.post("/admit", self._admit),
                web.post("/drop", self._drop),
                web.post("/reach", self._reach),
                web.post("/forget", self._forget),
                web.get("/contacts", self._contacts),
                web.get("/asking", self._asking),
                web.post("/answer", self._answered),
                web.get("/spent", self._spent),
                web.get("/usage", self._usage),
                web.get("/alive", self._alive),
            ]
        )
        return app

    async def _hello(self, request: web.Request) -> web.Response:
        return _answer(
            wire.Hello(
                wire.PROTO,
                pilothouse.__version__,
                self._desk.ledger.proxy_id,
                self._instance,
                self._desk.upstream is not None,
            )
        )

    async def _configure(self, request: web.Request) -> web.Response:
        asked = await _body(request, wire.Configure)
        await self._desk.configure(asked.model, asked.egress)
        return await self._state(request)

    async def _state(self, request: web.Request) -> web.Response:
        upstream = self._desk.upstream
        if upstream is None:
            return _answer({"provider": "", "demo": False, "model": "", "ready": False, "detail": "not configured"})
        missing = await upstream.ready()
        return _answer(
            {
                "provider": upstream.provider,
                "demo": upstream.demo,
                "model": upstream.model,
                "ready": not missing,
                "detail": missing or upstream.label,
            }
        )

    async def _admit(self, request: web.Request) -> web.Response:
        asked = await _body(request, wire.Admit)
        _check_job(asked.job)
        await self._desk.admit(session_id(asked.session), asked.job, asked.budget)
        return web.Response(status=204)

    async def _drop(self, request: web.Request) -> web.Response:
        asked = await _body(request, wire.Drop)
        await self._desk.drop(session_id(asked.session))
        return web.Response(status=204)

    async def _spent(self, request: web.Request) -> web.Response:
        session, job = session_id(request.query.get("session")), JobId(request.query.get("job", ""))
        _check_job(job)
        record = self._desk.ledger.spent(session, job)
        if record is None:
            raise NotFound("no call of this job has been metered")
        return _answer(record)

    async def _usage(self, request: web.Request) -> web.StreamResponse:
        return await _follow(request, self._desk.ledger.follow(_marks(request)))

    # --- what sessions reach besides the model ---

    async def _reach(self, request: web.Request) -> web.Response:
        asked = await _body(request, wire.Reach)
        policy = reach.policy(asked.policy, "policy")
        domains = reach.domains(asked.domains, "domains")
        self._desk.reach(session_id(asked.session), reach.Reach(policy, domains, asked.ask_s))
        return web.Response(status=204)

    async def _forget(self, request: web.Request) -> web.Response:
        asked = await _body(request, wire.Drop)
        self._desk.contacts.forget(session_id(asked.session))
        return web.Response(status=204)

    async def _contacts(self, request: web.Request) -> web.StreamResponse:
        return await _follow(request, self._desk.contacts.follow(_marks(request)))

    async def _asking(self, request: web.Request) -> web.StreamResponse:
        return await _follow(request, self._desk.asks.follow())

    async def _answered(self, request: web.Request) -> web.Response:
        given = await _body(request, wire.Answer)
        denied = given.remember and not given.allow
        self._desk.asks.answer(given.id, Answer(given.allow, given.message, denied))
        return web.Response(status=204)

    async def _alive(self, request: web.Request) -> web.StreamResponse:
        response = await _stream(request)
        while True:
            await response.write(b"\n")
            await asyncio.sleep(wire.BEAT_S)


def _check_job(job: JobId | None) -> None:
    if job is not None and not (is_uuid(job) or is_segment(job)):
        raise BadRequest("job id: expected a UUID or a channel segment")


async def _follow(request: web.Request, records: AsyncGenerator[object, None]) -> web.StreamResponse:
    """A line for each, an empty one when there has been none for long. It ends with its reader."""
    response = await _stream(request)
    following = asyncio.ensure_future(anext(records))
    try:
        while True:
            done, _ = await asyncio.wait({following}, timeout=wire.BEAT_S)
            if not done:
                await response.write(b"\n")
                continue
            await response.write(_encode(following.result()) + b"\n")
            following = asyncio.ensure_future(anext(records))
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await records.aclose()


def _marks(request: web.Request) -> dict[str, int]:
    return dict(_mark(text) for text in request.query.getall("mark", []))


def _mark(text: str) -> tuple[str, int]:
    proxy_id, _, n = text.rpartition(":")
    if not proxy_id or not n.isascii() or not n.isdigit() or len(n) > 18:
        raise BadRequest("mark: expected PROXYID:N")
    return proxy_id, int(n)


async def _stream(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"content-type": "application/x-ndjson"})
    await response.prepare(request)
    await response.write(b"\n")
    return response


async def _body(request: web.Request, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(await request.read(), type=kind)
    except msgspec.MsgspecError as error:
        raise BadRequest(str(error)) from None


def _answer(body: object) -> web.Response:
    return web.Response(body=_encode(body), content_type="application/json")


@web.middleware
async def _guard(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    try:
        sock = request.transport.get_extra_info("socket") if request.transport is not None else None
        if sock is None or _peer_uid(sock) not in (os.getuid(), 0):
            raise Forbidden("this socket is its owner's")
        return await handler(request)
    except PilothouseError as error:
        return web.Response(
            status=error.status,
            body=_encode(wire.Problem(error.code, error.message)),
            content_type="application/json",
        )


def _peer_uid(sock: socket.socket) -> int:
    _, uid, _ = struct.unpack("iII", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("iII")))
    return int(uid)
