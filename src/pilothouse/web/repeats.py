"""`Idempotency-Key`: a change that is sent again is not made again (`engine.repeats`).

An answer that was given before says `Idempotent-Replayed: true`; who may not see any more what it is about is refused
as everywhere.
"""

from __future__ import annotations

import functools
from dataclasses import replace

from starlette.requests import Request
from starlette.responses import Response

from pilothouse.core.errors import BadRequest
from pilothouse.core.ids import is_uuid
from pilothouse.engine import repeats
from pilothouse.engine.repeats import Answer
from pilothouse.web import notifications
from pilothouse.web.call import Call, Handler

HEADER = "idempotency-key"
KEY_MAX = 200
REPLAYED = "idempotent-replayed"
KEPT = ("cache-control", "content-type", "location")


def key(request: Request, *names: str) -> str | None:
    """The first of these headers that is there, with its name. Raises BadRequest naming it."""
    for name in names:
        given = request.headers.getlist(name)
        if len(given) > 1:
            raise BadRequest(f"{name}: given twice")
        if given:
            if not 0 < len(given[0]) <= KEY_MAX or not given[0].isprintable():
                raise BadRequest(f"{name}: 1 to {KEY_MAX} printable characters")
            return f"{name}:{given[0]}"
    return None


async def once(
    call: Call, handler: Handler, *, again: bool = False, keep: bool = True, now: Handler | None = None
) -> Response:
    """The handler's answer, or the one that it gave before, or that of `now`. Raises what they do, Conflict."""
    given = key(call.request, HEADER)
    if given is None:
        return await handler(call)
    made: list[Response] = []

    async def act(word: str, by: Handler = handler) -> Answer:
        answer = await by(replace(call, word=word))
        made.append(answer)
        headers = {name: answer.headers[name] for name in KEPT if name in answer.headers}
        return Answer(answer.status_code, headers, bytes(answer.body))

    scope = call.request.scope
    asked = {
        "method": call.request.method,
        "path": scope["raw_path"].decode("latin-1"),
        "query": scope["query_string"].decode("latin-1"),
    }
    same = repeats.same(asked, await call.request.body())
    answer, replayed = await call.platform.repeats.once(
        call.principal,
        given,
        same,
        act,
        again=again,
        keep=keep,
        now=functools.partial(act, by=now) if now else None,
        session=_session(call),
    )
    if made:
        response = made[0]
    else:
        if answer.body:
            await _seen(call)
        response = Response(answer.body, answer.status, answer.headers)
    if replayed:
        response.headers[REPLAYED] = "true"
    return response


def _session(call: Call) -> str:
    named = call.request.path_params.get("id", "") if _kind(call) == "sessions" else ""
    return named if is_uuid(named) else ""


def _kind(call: Call) -> str:
    """Of what the path names."""
    return call.request.url.path.removeprefix(call.base).split("/")[2]


async def _seen(call: Call) -> None:
    """Raises NotFound, Forbidden: what the path names is not the caller's any more."""
    if _session(call):
        await call.session()
    if _kind(call) == "notifications":
        notifications.own(call)
