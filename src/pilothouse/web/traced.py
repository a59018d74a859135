"""A request as a span, where there are traces: of callers who are known, or anybody could fill the collector."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response

from pilothouse.core.traceparent import HEADER
from pilothouse.engine.traces import Traces
from pilothouse.web.access import WHO
from pilothouse.web.call import TRACE

Endpoint = Callable[[Request], Awaitable[Response]]


def traced(traces: Traces, method: str, route: str, endpoint: Endpoint) -> Endpoint:
    async def answer(request: Request) -> Response:
        place, parent = traces.begins(request.headers.getlist(HEADER))
        request.scope[TRACE] = str(place)
        since, status = time.time(), 500
        try:
            done = await endpoint(request)
            status = done.status_code
            return done
        finally:
            if WHO in request.scope:
                traces.request(place, parent, method, route, status, since, time.time())

    return answer
