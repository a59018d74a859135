"""`POST /event`: publish by HTTP, as AppSync Events has it. See `protocol/events.md`.

It answers in AppSync's words, refusals of everybody's limits and of the store included. A 429 or a 5xx is said only
where nothing was published: clients send the same request again.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from pilothouse.core import publish
from pilothouse.core.appsync import Refusal
from pilothouse.core.errors import NotFound, PilothouseError, RateLimited, Unavailable
from pilothouse.core.publish import Bad
from pilothouse.engine import records
from pilothouse.engine.ports import StoreFailed
from pilothouse.web import wire
from pilothouse.web.access import WHO, named
from pilothouse.web.asked import Asked
from pilothouse.web.call import Platform
from pilothouse.web.callers import Callers, refusal
from pilothouse.web.guard import Guard, MisdirectedHost, Once
from pilothouse.web.peer import peer

METHODS = "POST,OPTIONS"
HEADERS = "authorization,content-type,x-amz-content-sha256,x-amz-date,x-amz-security-token,x-amz-user-agent,x-api-key"
"""What clients send from a page; `*` would not stand for `authorization`."""
EXPOSED = "x-amzn-requestid,x-amzn-errortype"
REQUEST_ID = "x-amzn-requestid"
ERROR_TYPE = "x-amzn-errortype"
PREFLIGHT_S = 600


async def post(request: Request, platform: Platform, guard: Guard) -> Response:
    once = Once.of(request)
    try:
        guard.place(once)
    except PilothouseError as error:
        return _refuse(refusal(error), error)
    try:
        answer = await _publish(request, platform, Callers(platform, guard))
    except Bad as error:
        answer = _refuse(Refusal(error.type, str(error), 400))
    except StoreFailed:
        answer = _refuse(refusal(Unavailable("The store does not answer; try again.")))
    except PilothouseError as error:
        answer = _refuse(refusal(error), error)
    return _crossing(answer, once)


async def _publish(request: Request, platform: Platform, callers: Callers) -> Response:
    if platform.channels is None:
        raise NotFound
    asked, request = Asked.of(request)
    address = peer(request)
    where = None
    if callers.asks_others(asked.headers):  # who is asked about a channel has to be told which
        where = publish.request(await asked.read()).channel
    caller = await callers.of("publish", asked.headers, asked, address, where)
    request.scope[WHO] = named(caller.principal)
    platform.gate.request(caller.principal)
    body = await asked.read()
    caller = callers.still(caller)
    wanted = publish.request(body)
    await callers.may(caller, "publish", wanted.channel, address, "POST /event")
    done = await platform.channels.publish(caller.principal.organisation, wanted.channel, wanted.events)
    return wire.Reply({"failed": done.failed, "successful": done.taken}, headers={"x-amzn-appsync-tokensconsumed": "1"})


async def preflight(request: Request, platform: Platform, guard: Guard) -> Response:
    """What a browser asks before a page of `cors_origins` may publish."""
    once = Once.of(request)
    try:
        guard.place(once)
    except PilothouseError as error:
        return _refuse(refusal(error), error)
    headers = {
        "access-control-allow-methods": METHODS,
        "access-control-allow-headers": HEADERS,
        "access-control-max-age": str(PREFLIGHT_S),
    }
    return _crossing(Response(status_code=204, headers=headers), once)


def _refuse(why: Refusal, error: PilothouseError | None = None) -> Response:
    headers = {ERROR_TYPE: why.type}
    if isinstance(error, RateLimited):
        headers |= error.headers
    status = error.status if isinstance(error, MisdirectedHost) else why.status
    problem = {"errorType": why.type, "message": why.message}
    return wire.Reply({"errors": [problem], "message": why.message}, status, headers)  # Amplify reads the outer one


def _crossing(answer: Response, once: Once) -> Response:
    """The guard has let the origin pass."""
    answer.headers[REQUEST_ID] = records.new_id()
    origin = once.get("origin")
    if origin is not None:
        answer.headers.update(
            {
                "access-control-allow-origin": origin,
                "access-control-expose-headers": EXPOSED,
                "cross-origin-resource-policy": "cross-origin",
                "vary": "origin",
            }
        )
    return answer
