"""The route table: every address, its policy, the scope it needs, who answers. Nothing else is served.

`routes()` makes the Starlette routes from it; the tests walk the same table and ask each entry as nobody, from a
foreign Host, from a foreign Origin. A public entry says why it is public.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pilothouse.core.access import Scope
from pilothouse.core.errors import PilothouseError, Unavailable
from pilothouse.engine.ports import StoreFailed
from pilothouse.web import api, network, wire, work
from pilothouse.web.access import WHO, named
from pilothouse.web.call import Call, Handler, Platform
from pilothouse.web.guard import Guard, Once, Policy


@dataclass(frozen=True)
class Entry:
    method: str
    path: str
    policy: Policy
    scope: Scope | None
    handler: Handler | None
    """None for a WebSocket: its door is in `web.chat`."""
    reason: str = ""
    """Why a public one is public."""


def _own(method: str, path: str, scope: Scope, handler: Handler) -> Entry:
    return Entry(method, path, "cookie-same-origin", scope, handler)


TABLE: tuple[Entry, ...] = (
    Entry("GET", "/healthz", "public", None, api.healthz, "a probe has no key; it says only that the process answers"),
    Entry("GET", "/readyz", "public", None, api.readyz, "a probe has no key; it says only ready or why not"),
    Entry("POST", "/api/signin", "public", None, api.signin, "signing in is how one gets a credential"),
    _own("POST", "/api/signout", "read", api.signout),
    _own("GET", "/api/me", "read", api.me),
    _own("POST", "/api/tickets", "admin", api.make_ticket),
    _own("GET", "/api/keys", "admin", api.list_keys),
    _own("POST", "/api/keys", "admin", api.make_key),
    _own("DELETE", "/api/keys/{id}", "admin", api.revoke_key),
    _own("GET", "/api/sessions", "read", api.list_sessions),
    _own("POST", "/api/sessions", "run", api.make_session),
    _own("GET", "/api/sessions/{id}", "read", api.get_session),
    _own("PATCH", "/api/sessions/{id}", "run", api.change_session),
    _own("DELETE", "/api/sessions/{id}", "admin", api.delete_session),
    _own("POST", "/api/sessions/{id}/stop", "run", api.stop_session),
    _own("GET", "/api/sessions/{id}/limits", "read", api.session_limits),
    _own("GET", "/api/sessions/{id}/events", "read", work.session_events),
    _own("GET", "/api/sessions/{id}/network", "read", network.get_network),
    _own("GET", "/api/sessions/{id}/network/stream", "read", network.stream_network),
    _own("PUT", "/api/sessions/{id}/egress", "run", network.put_egress),
    _own("GET", "/api/sessions/{id}/texts/{digest}", "read", api.text),
    _own("POST", "/api/sessions/{id}/jobs", "run", work.make_job),
    _own("GET", "/api/sessions/{id}/jobs", "read", work.list_jobs),
    _own("GET", "/api/sessions/{id}/files", "read", work.list_files),
    _own("GET", "/api/sessions/{id}/files/content", "read", work.get_file),
    _own("GET", "/api/sessions/{id}/files/zip", "read", work.get_zip),
    _own("GET", "/api/jobs/{id}", "read", work.get_job),
    _own("GET", "/api/jobs/{id}/events", "read", work.job_events),
    _own("POST", "/api/jobs/{id}/interrupt", "run", work.interrupt_job),
    _own("GET", "/api/approvals", "read", api.list_approvals),
    _own("GET", "/api/approvals/{id}", "read", api.get_approval),
    _own("POST", "/api/approvals/{id}", "approve", api.decide),
    _own("GET", "/api/questions", "read", api.list_questions),
    _own("POST", "/api/questions/{id}", "approve", api.answer),
    _own("GET", "/api/rules", "read", api.list_rules),
    _own("DELETE", "/api/rules/{id}", "admin", api.remove_rule),
    Entry("WS", "/ws", "cookie-same-origin", "read", None),
)


def routes(platform: Platform, guard: Guard, table: tuple[Entry, ...] = TABLE) -> list[Route]:
    return [
        Route(entry.path, _endpoint(entry, platform, guard), methods=[entry.method])
        for entry in table
        if entry.handler is not None
    ]


def _endpoint(entry: Entry, platform: Platform, guard: Guard) -> Callable[[Request], Awaitable[Response]]:
    handler = entry.handler
    assert handler is not None

    async def endpoint(request: Request) -> Response:
        try:
            caller = await guard.check(entry.policy, request.method, Once.of(request))
            if caller is not None:
                request.scope[WHO] = named(caller)
                if entry.scope is not None:
                    caller.need(entry.scope)
            return await handler(Call(request, platform, caller))
        except StoreFailed:
            return wire.problem(Unavailable("The store does not answer; try again."))
        except PilothouseError as error:
            return wire.problem(error)

    return endpoint
