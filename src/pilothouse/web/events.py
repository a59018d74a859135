"""`/event`: publish by HTTP, as AppSync Events has it, and what is ours beside it. See `protocol/events.md`.

It answers in AppSync's words, refusals of everybody's limits and of the store included. A 429 or a 5xx is said only
where nothing was published: clients send the same request again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from pilothouse.core import channels, publish
from pilothouse.core.access import Principal
from pilothouse.core.api import channels as api
from pilothouse.core.appsync import Refusal
from pilothouse.core.bucket import State
from pilothouse.core.channels import Channel, Pattern
from pilothouse.core.errors import BadRequest, NotFound, PilothouseError, RateLimited, Unavailable
from pilothouse.core.namespaces import BUILT_IN
from pilothouse.core.publish import Bad, Failed, Taken
from pilothouse.engine import records
from pilothouse.engine.ports import StoreFailed
from pilothouse.web import admit, wire
from pilothouse.web.access import WHO, named
from pilothouse.web.asked import Asked
from pilothouse.web.call import Platform
from pilothouse.web.callers import Caller, Callers, refusal
from pilothouse.web.guard import Guard, MisdirectedHost, Once
from pilothouse.web.peer import peer

METHODS = "GET,POST,OPTIONS"
HEADERS = "authorization,content-type,x-amz-content-sha256,x-amz-date,x-amz-security-token,x-amz-user-agent,x-api-key"
"""What clients send from a page; `*` would not stand for `authorization`."""
EXPOSED = "x-amzn-requestid,x-amzn-errortype"
IDEMPOTENCY = "idempotency-key"
REQUEST_ID = "x-amzn-requestid"
ERROR_TYPE = "x-amzn-errortype"
PREFLIGHT_S = 600
ACCEPTED = {"cache-control": "no-store", "x-amzn-appsync-tokensconsumed": "1"}
HISTORY_PAGE = 100
HISTORY_MAX = 1000


_encode = msgspec.json.Encoder().encode
Act = Callable[[Request, Platform, Callers], Awaitable[Response]]


async def _answered(request: Request, platform: Platform, guard: Guard, act: Act) -> Response:
    once = Once.of(request)
    try:
        guard.place(once)
    except PilothouseError as error:
        return _refuse(refusal(error), error)
    try:
        answer = await act(request, platform, Callers(platform, guard))
    except (Bad, StoreFailed, PilothouseError) as error:
        platform.metrics.refused.add((code(error),))
        answer = refused(error)
    return crossing(answer, once)


def code(error: Bad | StoreFailed | PilothouseError) -> str:
    """As other refusals are counted."""
    if isinstance(error, PilothouseError):
        return error.code
    return Unavailable.code if isinstance(error, StoreFailed) else BadRequest.code


def refused(error: Bad | StoreFailed | PilothouseError) -> Response:
    """In AppSync's words."""
    if isinstance(error, Bad):
        return _refuse(Refusal(error.type, str(error), 400))
    if isinstance(error, StoreFailed):
        return _refuse(refusal(Unavailable("The store does not answer; try again.")))
    return _refuse(refusal(error), error)


async def post(request: Request, platform: Platform, guard: Guard) -> Response:
    return await _answered(request, platform, guard, _publish)


async def history(request: Request, platform: Platform, guard: Guard) -> Response:
    return await _answered(request, platform, guard, _history)


async def presence(request: Request, platform: Platform, guard: Guard) -> Response:
    return await _answered(request, platform, guard, _presence)


async def _publish(request: Request, platform: Platform, callers: Callers) -> Response:
    asked, request = Asked.of(request)

    def met(who: Principal) -> None:
        request.scope[WHO] = named(who)

    body, state = await publishing(asked, peer(request), platform, callers, met)
    return accepted(body, state)


def accepted(body: bytes, state: State | None) -> Response:
    answer = Response(body, headers=ACCEPTED, media_type="application/json")
    return admit.told(answer, state)


async def publishing(
    asked: Asked, address: str, platform: Platform, callers: Callers, met: Callable[[Principal], None]
) -> tuple[bytes, State | None]:
    """A publish by HTTP: the answer's body, and what the caller is told of its limits. `met` hears who it is. Raises
    Bad, PilothouseError, StoreFailed: nothing was published."""
    if platform.channels is None:
        raise NotFound
    where = None
    if callers.asks_others(asked.headers):  # who is asked about a channel has to be told which
        where = publish.request(await asked.read()).channel
    caller = await callers.of("publish", asked.headers, asked, address, where)
    met(caller.principal)
    state = platform.gate.request(caller.principal)
    body = await asked.read()
    caller = callers.still(caller)
    wanted = publish.request(body)
    namespace = await callers.may(caller, "publish", wanted.channel, address, "POST /event")
    key = _key(asked) or wanted.key
    done = await callers.publish(caller, namespace, wanted.channel, wanted.events, key)
    return published(done.taken, done.failed), state


def published(taken: Sequence[Taken], failed: Sequence[Failed] = ()) -> bytes:
    """The answer's body."""
    return _encode(api.Published(failed=list(failed), successful=list(taken)))


def _key(asked: Asked) -> str | None:
    """Raises Bad."""
    given = asked.all(IDEMPOTENCY)
    if len(given) > 1:
        raise Bad("BadRequestException", "idempotency-key: given twice")
    return publish.key_of(given[0]) if given else None


async def _looked_at(request: Request, platform: Platform, callers: Callers, route: str) -> tuple[Caller, Channel]:
    """Whoever may subscribe to a channel may look at it."""
    asked, request = Asked.of(request)
    channel = wrong = None
    try:
        channel = channels.channel(request.query_params.get("channel", ""))
    except BadRequest as error:
        wrong = error  # for whoever may know anything of us
        if callers.asks_others(asked.headers):
            raise
    caller = await callers.of("subscribe", asked.headers, asked, peer(request), channel)
    if channel is None:
        raise wrong or NotFound
    request.scope[WHO] = named(caller.principal)
    platform.gate.request(caller.principal)
    namespace = await callers.may(caller, "subscribe", channel, peer(request), route)
    await callers.look(caller, namespace, channel)
    return caller, channel


async def _history(request: Request, platform: Platform, callers: Callers) -> Response:
    if platform.channels is None:
        raise NotFound
    caller, channel = await _looked_at(request, platform, callers, "GET /event/history")
    after = wire.number(request, "after", 0, 0, 2**53)
    asked = wire.number(request, "limit", HISTORY_PAGE, 1, HISTORY_MAX)
    if channel.namespace in BUILT_IN:
        raise BadRequest("channel: the log is at /api/sessions/{id}/events and /api/jobs/{id}/events")
    page = await platform.channels.history(caller.principal.organisation, channel, after, asked)
    if page is None:
        raise BadRequest(
            f"channel: it keeps no history; `history = N` in the namespace {channel.namespace} gives it one"
        )
    epoch, given = platform.channels.epoch, request.query_params.get("epoch")
    gap = after + 1 < page.oldest or after > page.head or (given is not None and given != epoch)
    rows = [msgspec.Raw(row.body) for row in page.rows]
    return wire.Reply(api.KeptHistory(epoch=epoch, oldest=page.oldest, head=page.head, gap=gap, events=rows))


async def _presence(request: Request, platform: Platform, callers: Callers) -> Response:
    if platform.channels is None:
        raise NotFound
    caller, channel = await _looked_at(request, platform, callers, "GET /event/presence")
    namespace = platform.channels.namespace(channel.namespace)
    if namespace is None or not namespace.presence:
        raise BadRequest(f"channel: {nobody_counted(channel)}")
    return wire.Reply(platform.channels.presences.of(caller.principal.organisation, channel.path).state())


def nobody_counted(channel: Channel | Pattern) -> str:
    """Why a channel has no presence, for who asks."""
    if channel.wild:
        return "a wildcard has no presence"
    if channel.namespace in BUILT_IN:
        return "where the server publishes there is no presence"
    return f"it has no presence; `presence = true` in the namespace {channel.namespace} gives it one"


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
    return crossing(Response(status_code=204, headers=headers), once)


def _refuse(why: Refusal, error: PilothouseError | None = None) -> Response:
    headers = {ERROR_TYPE: why.type}
    if isinstance(error, RateLimited):
        headers |= error.headers
    status = error.status if isinstance(error, MisdirectedHost) else why.status
    # Amplify reads the outer message.
    refused = api.Refused(errors=[api.Error(error_type=why.type, message=why.message)], message=why.message)
    return wire.Reply(refused, status, headers)


def crossing(answer: Response, once: Once) -> Response:
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
