"""The HTTP API's handlers for what a session reaches and has contacted. See `protocol/http.md`."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import msgspec
from starlette.responses import Response

from pilothouse.core import second, tools
from pilothouse.core.api.sessions import Wish
from pilothouse.core.errors import PilothouseError
from pilothouse.engine import allowance
from pilothouse.engine.network import Network, View
from pilothouse.engine.records import Egress
from pilothouse.web import wire
from pilothouse.web.call import Call, streamed
from pilothouse.web.streams import alive, opening


def wished(call: Call, wish: Wish | None) -> Egress | None:
    """Raises BadRequest, Forbidden."""
    if wish is None:
        return None
    limits = call.platform.kit.limits
    asks_second = second.needed(limits.second_approver, tools.NETWORK, {})
    return allowance.wished(wish.policy, wish.domains, limits.egress, call.principal, second_person=asks_second)


async def get_network(call: Call) -> Response:
    return wire.Reply(await _network(call).view(await call.session()))


async def put_egress(call: Call) -> Response:
    session = await call.session()
    egress = wished(call, await wire.body(call.request, Wish))
    return wire.Reply(await _network(call).change(session, egress, call.principal.label, call.who))


async def stream_network(call: Call) -> Response:
    session = await call.session()
    views = _network(call).follow(session.live.record.id, call.principal)
    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    return streamed(call, session, alive(_sse(views)), "text/event-stream", headers, endless=True)


async def _sse(views: AsyncGenerator[View, None]) -> AsyncGenerator[bytes, None]:
    yield opening()
    try:
        async for view in views:
            yield b"data: %b\n\n" % msgspec.json.encode(view)
    except PilothouseError:
        return  # the session is gone: asking again says so
    finally:
        await views.aclose()


def _network(call: Call) -> Network:
    return Network(call.platform.kit, call.platform.sessions)
