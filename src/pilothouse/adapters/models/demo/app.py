"""The demo model's HTTP server: an `aiohttp` application."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from typing import Any

from aiohttp import web

from pilothouse.adapters.models.demo import answer as a
from pilothouse.adapters.models.demo import conversation, wire
from pilothouse.adapters.models.demo.desk import Desk, Entry
from pilothouse.adapters.models.demo.player import Played, play

MODEL = "demo"
"""The id that the demo model goes by; it answers to any other too."""
BODY_MAX = 64 * 1024 * 1024
"""A request holds the whole conversation, images included."""
PACE = 0.03
"""Seconds between two words: text that a person can follow."""

_DESK: web.AppKey[Desk] = web.AppKey("desk", Desk)
_PACE: web.AppKey[float] = web.AppKey("pace", float)


def application(pace: float = PACE, control: bool = False) -> web.Application:
    """`control` adds the endpoints of the standalone server and makes `hold` wait."""
    app = web.Application(client_max_size=BODY_MAX)
    app[_DESK] = Desk(controlled=control)
    app[_PACE] = pace
    app.add_routes(
        [
            web.post("/v1/messages", _messages),
            web.post("/v1/messages/count_tokens", _count),
            web.get("/v1/models", _models),
            web.get("/", _root),
        ]
    )
    if control:
        app.add_routes([web.get("/demo/calls", _calls), web.post("/demo/release/{name}", _release)])
    return app


async def _root(request: web.Request) -> web.Response:
    return web.Response(text="Pilothouse demo model\n")


async def _models(request: web.Request) -> web.Response:
    model = {"type": "model", "id": MODEL, "display_name": "Demo model", "created_at": "2026-01-01T00:00:00Z"}
    return web.json_response({"data": [model], "has_more": False, "first_id": MODEL, "last_id": MODEL})


async def _calls(request: web.Request) -> web.Response:
    return web.json_response(request.app[_DESK].report())


async def _release(request: web.Request) -> web.Response:
    request.app[_DESK].release(request.match_info["name"])
    return web.Response(status=204)


def _refusal(status: int, text: str, retry_after: int | None = None) -> web.Response:
    headers = {} if retry_after is None else {"retry-after": str(retry_after)}
    return web.json_response(wire.error(status, text), status=status, headers=headers)


async def _body(request: web.Request) -> dict[str, Any] | web.Response:
    try:
        body = json.loads(await request.read())
    except ValueError as error:
        return _refusal(400, f"the body is not JSON: {error}")
    return body if isinstance(body, dict) else _refusal(400, "the body is not a JSON object")


async def _count(request: web.Request) -> web.Response:
    body = await _body(request)
    if isinstance(body, web.Response):
        return body
    return web.json_response({"input_tokens": wire.tokens(json.dumps(body))})


async def _messages(request: web.Request) -> web.StreamResponse:
    body = await _body(request)
    if isinstance(body, web.Response):
        return body
    try:
        talk = conversation.read(body, request.headers.get("x-claude-code-session-id", ""))
    except ValueError as error:
        return _refusal(400, str(error))
    played = play(talk)
    desk = request.app[_DESK]
    stream = body.get("stream") is True
    entry = desk.enter(request.path, stream, talk.model, talk.session, talk.prompt, played.step)
    try:
        if failed := await _failure(desk, talk, played, entry):
            return failed
        if not stream:
            return await _whole(desk, body, played, entry, talk)
        return await _streamed(request, desk, body, played, entry, talk)
    except (ConnectionError, asyncio.CancelledError):
        desk.leave(entry, "hangup")
        raise


def _key(talk: conversation.Conversation, played: Played, what: object) -> str:
    text = f"{talk.session}\0{talk.prompt}\0{played.step}\0{what!r}"
    return hashlib.sha256(text.encode()).hexdigest()


async def _failure(desk: Desk, talk: conversation.Conversation, played: Played, entry: Entry) -> web.Response | None:
    for at, part in enumerate(played.answer):
        if not isinstance(part, a.Fail) or not desk.strikes(_key(talk, played, (at, part)), part.times):
            continue
        desk.leave(entry, f"error {part.status}")
        return _refusal(part.status, f"the script asked for status {part.status}", part.retry_after)
    return None


def _wants_thinking(body: dict[str, Any]) -> bool:
    thinking = body.get("thinking")
    return isinstance(thinking, dict) and thinking.get("type") in ("enabled", "adaptive")


async def _whole(
    desk: Desk, body: dict[str, Any], played: Played, entry: Entry, talk: conversation.Conversation
) -> web.Response:
    for part in played.answer:
        if isinstance(part, a.Cut) and desk.strikes(_key(talk, played, "cut"), part.times):
            desk.leave(entry, "cut")
            return _refusal(500, "the script asked for a cut")
        await _act(desk, part)
    given = wire.tokens(json.dumps(body))
    made = wire.message(played.answer, _ids(entry), talk.model, given, _wants_thinking(body))
    desk.leave(entry, "done")
    return web.json_response(made)


def _ids(entry: Entry) -> str:
    """Names of messages and tool calls must differ between servers too: a conversation outlives its endpoint."""
    return f"{time.time_ns():x}{entry.n:04x}"


async def _act(desk: Desk, part: object) -> None:
    match part:
        case a.Hold(name):
            await desk.hold(name)
        case a.Delay(seconds):
            await asyncio.sleep(seconds)
        case a.Hang():
            await asyncio.Event().wait()


async def _streamed(
    request: web.Request,
    desk: Desk,
    body: dict[str, Any],
    played: Played,
    entry: Entry,
    talk: conversation.Conversation,
) -> web.StreamResponse:
    response = web.StreamResponse(
        headers={"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache"}
    )
    response.enable_chunked_encoding()
    await response.prepare(request)
    pace = request.app[_PACE]
    given = wire.tokens(json.dumps(body))
    for frame in wire.frames(played.answer, _ids(entry), talk.model, given, _wants_thinking(body)):
        match frame:
            case bytes():
                await response.write(frame)
                if pace and b"_delta" in frame:
                    await asyncio.sleep(pace)
            case a.Cut(times):
                if desk.strikes(_key(talk, played, "cut"), times):
                    desk.leave(entry, "cut")
                    if request.transport is not None:
                        request.transport.close()
                    return response
            case a.Garbage():
                await response.write(b"event: nonsense\ndata: {not json\n\n\xff\xfe\x00\n\n")
            case _:
                await _act(desk, frame)
    await response.write_eof()
    desk.leave(entry, "done")
    return response
