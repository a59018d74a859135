"""The way in, for every route and socket: the guard says who it is, the gate how often, the audit hears of refusals."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable

from starlette.responses import Response

from pilothouse.core.access import Principal
from pilothouse.core.bucket import State
from pilothouse.core.errors import Forbidden, RateLimited, Unauthenticated
from pilothouse.engine.audit import Entry, Who
from pilothouse.engine.gate import Gate
from pilothouse.web.call import Platform
from pilothouse.web.guard import Headers, cookie_of


async def admit(
    checked: Awaitable[Principal | None], platform: Platform, headers: Headers, address: str
) -> Principal | None:
    """What `Guard.check` says. A wrong credential counts against its address: raises RateLimited when there were too
    many."""
    try:
        return await checked
    except Unauthenticated:
        shown = _shown(headers)
        if shown:
            await wrong(platform, address, shown, "credential.refuse")
        raise


async def wrong(platform: Platform, address: str, shown: str, action: str) -> None:
    """A credential or sign-in that was wrong. Raises RateLimited."""
    await platform.kit.audit.refused(Who(None, address), Entry(action, outcome="refused"))
    platform.gate.wrong(address, shown)


async def forbidden(platform: Platform, who: Who, route: str, error: Forbidden) -> None:
    """Somebody known may not, or a page of somebody else's tried."""
    entry = Entry("access.refuse", f"route:{route}", "refused", {"why": error.code})
    await platform.kit.audit.refused(who, entry)


async def counted(
    gate: Gate, caller: Principal | None, job: bool, answer: Callable[[], Awaitable[Response]]
) -> Response:
    """The answer, if this caller may have one now, with headers that say how many more. Raises RateLimited."""
    if caller is None:
        return await answer()
    state = gate.request(caller)
    if not job:
        return _told(await answer(), state)
    async with gate.job(caller) as taken:
        return _told(await answer(), taken or state)


def _told(answer: Response, state: State | None) -> Response:
    answer.headers.update(_limits(state))
    return answer


def _limits(state: State | None) -> dict[str, str]:
    if state is None:
        return {}
    return RateLimited(limit=state.limit, remaining=state.remaining, resetAt=math.ceil(state.reset_at)).headers


def _shown(headers: Headers) -> str:
    """What the caller gave to be known by. Of a signature, whose it is: each request has another one, and a client
    whose clock is wrong is one client."""
    key, given = headers.get("x-api-key") or "", headers.get("authorization") or ""
    if given.startswith("AWS4-"):
        given = given.partition(",")[0]
    return " ".join(filter(None, [key, given, cookie_of(headers) or ""]))
