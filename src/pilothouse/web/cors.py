"""Pages of `cors_origins`: what a browser is told so that they may call the doors for programs, and read the answers.

The guard decides who may; this only says it in headers. Cookies are never meant: such pages bring a key or a token.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from pilothouse.core.errors import PilothouseError
from pilothouse.web import wire
from pilothouse.web.call import Platform
from pilothouse.web.guard import Guard, Once

METHODS = "POST,OPTIONS"
HEADERS = (
    "accept,authorization,content-type,idempotency-key,last-event-id,x-api-key,"
    "amz-sdk-invocation-id,amz-sdk-request,x-amz-content-sha256,x-amz-date,x-amz-security-token,x-amz-user-agent"
)
"""What clients send from a page; `*` would not stand for `authorization`."""
EXPOSED = "retry-after,x-ratelimit-limit,x-ratelimit-remaining,x-ratelimit-reset"
PREFLIGHT_S = 600


async def preflight(request: Request, platform: Platform, guard: Guard) -> Response:
    """What a browser asks before such a page may call."""
    once = Once.of(request)
    try:
        guard.place(once)
    except PilothouseError as error:
        return wire.problem(error)
    headers = {
        "access-control-allow-methods": METHODS,
        "access-control-allow-headers": HEADERS,
        "access-control-max-age": str(PREFLIGHT_S),
    }
    return crossing(Response(status_code=204, headers=headers), once, guard)


def crossing(answer: Response, once: Once, guard: Guard) -> Response:
    """The answer, for a page that may read it."""
    answer.headers["vary"] = "origin"
    origin = once.get("origin")
    if origin is not None and origin in guard.trust.cors_origins:
        answer.headers["access-control-allow-origin"] = origin
        answer.headers["access-control-expose-headers"] = EXPOSED
        answer.headers["cross-origin-resource-policy"] = "cross-origin"
    return answer
