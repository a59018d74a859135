"""The way in, for every route and socket: the guard says who it is, the gate how often, the audit hears of refusals."""

from __future__ import annotations

import math
from collections.abc import Awaitable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from urllib.parse import parse_qsl

from starlette.responses import Response

from pilothouse.core.access import Principal, Scope
from pilothouse.core.bucket import State
from pilothouse.core.errors import Forbidden, RateLimited, Unauthenticated
from pilothouse.engine.audit import Entry, Who
from pilothouse.engine.gate import Gate
from pilothouse.web.asked import Asked
from pilothouse.web.call import Call, Handler, Platform
from pilothouse.web.guard import COOKIE, LINK_COOKIE, Guard, Once, Policy, cookie_of
from pilothouse.web.peer import upgrade_peer
from pilothouse.web.socket import UpgradeRequest


async def admit(
    checked: Awaitable[Principal | None], platform: Platform, asked: Asked, address: str
) -> Principal | None:
    """What `Guard.check` says. A wrong credential counts against its address: raises RateLimited when there were too
    many."""
    try:
        return await checked
    except Unauthenticated:
        shown = _shown(asked)
        if shown:
            await wrong(platform, address, shown, "credential.refuse")
        raise


@dataclass(frozen=True)
class Caller:
    """Somebody who may open a socket, and the room that was taken for it."""

    principal: Principal
    who: Who
    room: AbstractContextManager[None]


async def upgrade(
    platform: Platform, guard: Guard, request: UpgradeRequest, policy: Policy, scope: Scope, *, links: bool = False
) -> Caller:
    """For a door. Raises PilothouseError; a refusal of somebody known is in the audit."""
    address, headers, asked = upgrade_peer(request), Once.upgrade(request), Asked.upgrade(request)
    principal: Principal | None = None
    try:
        with platform.gate.knocking(address):
            checked = guard.check(policy, "GET", headers, socket=True, asked=asked, links=links, address=address)
            principal = await admit(checked, platform, asked, address)
        assert principal is not None
        platform.gate.request(principal)
        principal.need_at_most(scope)
        return Caller(principal, Who(principal, address), platform.gate.connected(principal))
    except Forbidden as error:
        await forbidden(platform, Who(principal, address), f"WS {request.path[:200]}", error)
        raise


async def wrong(platform: Platform, address: str, shown: str, action: str) -> None:
    """A credential or sign-in that was wrong. Raises RateLimited."""
    await platform.kit.audit.counted(Who(None, address), Entry(action, outcome="refused"))
    platform.gate.wrong(address, shown)


async def forbidden(platform: Platform, who: Who, route: str, error: Forbidden) -> None:
    """Somebody known may not, or a page of somebody else's tried."""
    entry = Entry("access.refuse", f"route:{route}", "refused", {"why": error.code})
    await platform.kit.audit.counted(who, entry)


def counted(gate: Gate, caller: Principal | None) -> State | None:
    """A request of this caller; how many more there may be, for `told`. Raises RateLimited."""
    return None if caller is None else gate.request(caller)


def of_the_day(handler: Handler) -> Handler:
    """It starts a job, which counts for the day."""

    async def counting(call: Call) -> Response:
        async with call.platform.gate.job(call.principal) as taken:
            return told(await handler(call), taken)

    return counting


def told(answer: Response, state: State | None) -> Response:
    """An answer that tells of a day's limit already is left as it is."""
    for name, value in limits(state).items():
        answer.headers.setdefault(name, value)
    return answer


def limits(state: State | None) -> dict[str, str]:
    if state is None:
        return {}
    return RateLimited(limit=state.limit, remaining=state.remaining, resetAt=math.ceil(state.reset_at)).headers


def _shown(asked: Asked) -> str:
    """What the caller gave to be known by. Of a signature, whose it is: each request has another one, and a client
    whose clock is wrong is one client."""
    given = [*asked.all("x-api-key"), *map(_whose, asked.all("authorization"))]
    given += [value for name, value in parse_qsl(asked.query) if name == "X-Amz-Credential"]
    headers = Once(asked.all)
    given += [found for name in (COOKIE, LINK_COOKIE) if (found := cookie_of(headers, name))]
    return " ".join(filter(None, given))


def _whose(authorization: str) -> str:
    return authorization.partition(",")[0] if authorization.startswith("AWS4-") else authorization
