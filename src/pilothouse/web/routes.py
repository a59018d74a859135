"""The route table: every address, its policy, the scope it needs and where, who answers. Nothing else is served.

The scope is asked of the caller's organisation (`on="organisation"`), or of the session that the address leads to
(`on="session"`, `core.access.rights`): there the handler's look-up asks (`Call.session` and its like), and before that
the credential alone is asked. A share link reaches what says `links`.

`routes()` makes the Starlette routes from it; the tests walk the same table and ask each entry as nobody, from a
foreign Host, from a foreign Origin. A public entry says why it is public.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Literal

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pilothouse.core.access import Principal, Scope
from pilothouse.core.bucket import State
from pilothouse.core.errors import Forbidden, PilothouseError, Unauthenticated, Unavailable
from pilothouse.engine.audit import Who
from pilothouse.engine.ports import StoreFailed
from pilothouse.web import (
    admit,
    api,
    artifacts,
    audit,
    cors,
    events,
    headless,
    hooks,
    keys,
    members,
    metrics,
    network,
    notifications,
    openapi,
    query,
    reference,
    repeats,
    secrets,
    sharing,
    shells,
    signin,
    usage,
    wire,
    work,
)
from pilothouse.web.access import WHO, named
from pilothouse.web.asked import Asked
from pilothouse.web.call import Call, Handler, Platform
from pilothouse.web.guard import SAFE, Guard, Once, Policy
from pilothouse.web.peer import peer
from pilothouse.web.printed import Printed
from pilothouse.web.traced import traced

Own = Callable[[Request, Platform, Guard], Awaitable[Response]]

BODIES = frozenset({"POST", "PUT", "PATCH"})
"""Methods whose body is read before the handler is asked; with an `Idempotency-Key`, which stands for the body too, it
always is."""


@dataclass(frozen=True)
class Entry:
    method: str
    path: str
    policy: Policy
    scope: Scope | None
    handler: Handler | None
    """None for a WebSocket: its door is in `web.chat`, `web.terminal`, `web.runtimes`, `web.realtime`."""
    reason: str = ""
    """Why a public one is public."""
    on: Literal["organisation", "session"] = "organisation"
    links: bool = False
    """Whether a share link may come here. A session that is not its own does not exist for it in any case."""
    counted: bool = False
    """It starts a job, which counts for the day."""
    pages: bool = False
    """Pages of `cors_origins` may read the answer, refusals too."""
    own: Own | None = None
    """Instead of a handler: it asks the guard itself and refuses in the words of another protocol."""
    kept: bool = True
    """Of a change: its answer may be kept for who sends it again, which one that shows a secret may not."""
    again: bool = False
    """Of a change: twice is the same as once."""
    now: Handler | None = None
    """Of a change whose answer is not kept: who sends it again is told by this how it is now."""

    @property
    def keyed(self) -> bool:
        """Whether it takes an `Idempotency-Key`, by `web.repeats`. Signing out ends what a key would belong to."""
        changes = self.method not in SAFE | {"WS"} and self.handler is not None
        return changes and self.policy == "cookie-same-origin" and self.path != "/api/signout"


AGAIN = frozenset({"PUT", "PATCH", "DELETE"})
"""Methods of which twice is the same as once."""


def _own(
    method: str,
    path: str,
    scope: Scope,
    handler: Handler,
    *,
    links: bool = False,
    kept: bool = True,
    again: bool = False,
    now: Handler | None = None,
    on: Literal["organisation", "session"] = "organisation",
) -> Entry:
    kept, again = kept and now is None, again or method in AGAIN  # of what is told as it is now no answer is kept
    policy: Policy = "cookie-same-origin"
    return Entry(method, path, policy, scope, handler, on=on, links=links, kept=kept, again=again, now=now)


_in = functools.partial(_own, on="session")
"""Of one session."""


def _preflights(*paths: str, own: Own = events.preflight) -> list[Entry]:
    """For pages of `cors_origins`."""
    reason = "a preflight has no credential; it says what a page may send"
    return [Entry("OPTIONS", path, "public", None, None, reason, own=own) for path in paths]


PLACES_MAX = 4
"""Documents that are kept: they differ by the path that we are below alone, and a server is below one."""


@functools.lru_cache(maxsize=PLACES_MAX)
def _document_below(base: str) -> Printed:
    """Where we are below a path, it says so."""
    below = {"servers": [{"url": base}]} if base else {}
    return Printed.of(msgspec.json.encode(openapi.document(TABLE) | below), "application/json")


@functools.lru_cache(maxsize=1)
def _page() -> Printed:
    return Printed.of(reference.page(openapi.document(TABLE)).encode(), "text/html; charset=utf-8")


async def _document(call: Call) -> Response:
    return _document_below(call.base).answer(call.request)


async def _reference(call: Call) -> Response:
    return _page().answer(call.request)


DOCUMENTATION = "it says what our sources say, and nothing of this server"

TABLE: tuple[Entry, ...] = (
    # First: a busy publisher calls it thousands of times a second, and routes are tried one after another.
    Entry("POST", "/event", "credential", "run", None, own=events.post),
    *_preflights("/event", "/event/history", "/event/presence"),
    Entry("GET", "/event/history", "credential", "read", None, own=events.history),
    Entry("GET", "/event/presence", "credential", "read", None, own=events.presence),
    Entry("GET", "/healthz", "public", None, api.healthz, "a probe has no key; it says only that the process answers"),
    Entry("GET", "/metrics", "credential", "metrics", metrics.metrics),
    Entry("GET", "/readyz", "public", None, api.readyz, "a probe has no key; it says only ready or why not"),
    Entry("POST", "/api/signin", "public", None, signin.by_secret, "signing in is how one gets a credential"),
    Entry("GET", "/api/signin/providers", "public", None, signin.providers, "the page offers them to who signs in"),
    Entry(
        "GET", "/api/signin/oidc/{provider}", "public", None, signin.begin, "signing in begins here; nothing is kept"
    ),
    Entry(
        "GET",
        "/api/signin/oidc/{provider}/callback",
        "public",
        None,
        signin.finish,
        "the provider sends browsers back here; what they bring is checked",
    ),
    # For programs. What starts a job is counted by `engine.calls`, which knows whether it does.
    Entry("POST", "/invoke", "credential", "run", headless.invoked, on="session", pages=True),
    Entry("POST", "/trigger", "credential", "run", headless.trigger, on="session", pages=True),
    *_preflights("/invoke", "/trigger", own=cors.preflight),
    _own("POST", "/api/signout", "read", signin.out, links=True),
    _own("GET", "/api/signins", "read", signin.every),
    _own("DELETE", "/api/signins/{id}", "read", signin.end),
    Entry("GET", "/openapi.json", "public", None, _document, DOCUMENTATION),
    Entry("GET", "/docs", "public", None, _reference, DOCUMENTATION),
    _own("GET", "/api/me", "read", api.me, links=True),
    _own("POST", "/api/tickets", "admin", keys.make_ticket, kept=False, again=True),
    _own("GET", "/api/keys", "admin", keys.list_keys),
    _own("POST", "/api/keys", "admin", keys.make_key, kept=False),
    _own("DELETE", "/api/keys/{id}", "admin", keys.revoke_key),
    _own("GET", "/api/audit", "admin", audit.list_audit),
    _own("GET", "/api/audit/head", "admin", audit.audit_head),
    _own("GET", "/api/usage", "read", usage.get_usage),
    _own("GET", "/api/usage.csv", "read", usage.get_csv),
    _own("GET", "/api/organisations", "admin", members.list_organisations),
    _own("POST", "/api/organisations", "admin", members.make_organisation),
    _own("GET", "/api/members", "admin", members.list_members),
    _own("PUT", "/api/members/{account:path}", "admin", members.put_member),
    _own("DELETE", "/api/members/{account:path}", "admin", members.remove_member),
    _own("GET", "/api/sessions", "read", api.list_sessions),
    _own("POST", "/api/sessions", "run", api.make_session),
    _in("GET", "/api/sessions/{id}", "read", api.get_session, links=True),
    _in("PATCH", "/api/sessions/{id}", "run", api.change_session),
    _in("DELETE", "/api/sessions/{id}", "admin", api.delete_session),
    _in("PUT", "/api/sessions/{id}/grants/{account:path}", "admin", sharing.put_grant),
    _in("DELETE", "/api/sessions/{id}/grants/{account:path}", "admin", sharing.remove_grant),
    _in("GET", "/api/sessions/{id}/links", "admin", sharing.list_links),
    _in("POST", "/api/sessions/{id}/links", "admin", sharing.make_link, kept=False),
    _in("DELETE", "/api/sessions/{id}/links/{link}", "admin", sharing.revoke_link),
    _in("POST", "/api/sessions/{id}/stop", "run", api.stop_session, again=True),
    _in("GET", "/api/sessions/{id}/limits", "read", api.session_limits),
    _in("GET", "/api/sessions/{id}/events", "read", work.session_events, links=True),
    _in("GET", "/api/sessions/{id}/network", "read", network.get_network),
    _in("GET", "/api/sessions/{id}/network/stream", "read", network.stream_network),
    _in("PUT", "/api/sessions/{id}/egress", "run", network.put_egress),
    _in("GET", "/api/sessions/{id}/texts/{digest}", "read", api.text, links=True),
    replace(_in("POST", "/api/sessions/{id}/jobs", "run", work.make_job, again=True, now=work.same_job), counted=True),
    _in("GET", "/api/sessions/{id}/jobs", "read", work.list_jobs, links=True),
    _in("GET", "/api/sessions/{id}/files", "read", work.list_files),
    _in("GET", "/api/sessions/{id}/files/content", "read", work.get_file),
    _in("GET", "/api/sessions/{id}/files/zip", "read", work.get_zip),
    _in("GET", "/api/sessions/{id}/artifacts", "read", artifacts.list_of_session),
    _in("GET", "/api/jobs/{id}/artifacts", "read", artifacts.list_of_job),
    _in("GET", "/api/jobs/{id}/artifacts/zip", "read", artifacts.get_zip),
    _in("GET", "/api/jobs/{id}/artifacts/tar", "read", artifacts.get_tar),
    _in("GET", "/api/artifacts/{id}", "read", artifacts.get_artifact),
    _in("GET", "/api/artifacts/{id}/content", "read", artifacts.get_content),
    _in("POST", "/api/artifacts/{id}/links", "read", artifacts.make_link, kept=False, again=True),
    Entry(
        "GET",
        "/api/artifacts/{id}/signed",
        "public",
        None,
        artifacts.get_signed,
        "the address is signed for this artifact and a few minutes, and is the credential",
    ),
    _in("GET", "/api/jobs/{id}", "read", work.get_job, links=True),
    _in("GET", "/api/jobs/{id}/events", "read", work.job_events, links=True),
    _in("POST", "/api/jobs/{id}/interrupt", "run", work.interrupt_job, again=True),
    _own("GET", "/api/approvals", "read", api.list_approvals),
    _in("GET", "/api/approvals/{id}", "read", api.get_approval, links=True),
    _in("POST", "/api/approvals/{id}", "approve", api.decide, links=True, again=True, now=api.get_approval),
    _own("GET", "/api/questions", "read", api.list_questions),
    _in("POST", "/api/questions/{id}", "approve", api.answer, links=True, again=True, now=api.answered),
    _own("GET", "/api/rules", "read", api.list_rules),
    _own("DELETE", "/api/rules/{id}", "admin", api.remove_rule),
    _own("GET", "/api/secrets", "run", secrets.list_own),
    _own("PUT", "/api/secrets/{name}", "run", secrets.put_own),
    _own("DELETE", "/api/secrets/{name}", "run", secrets.remove_own),
    _in("GET", "/api/sessions/{id}/secrets", "run", secrets.list_of_session),
    _in("PUT", "/api/sessions/{id}/secrets/{name}", "admin", secrets.put_in_session),
    _in("DELETE", "/api/sessions/{id}/secrets/{name}", "admin", secrets.remove_from_session),
    _in("GET", "/api/sessions/{id}/shells", "read", shells.list_shells, links=True),
    _in("POST", "/api/sessions/{id}/shells", "run", shells.make_shell),
    _in("DELETE", "/api/sessions/{id}/shells/{shellId}", "run", shells.end_shell),
    # What leaves for elsewhere.
    _own("GET", "/api/webhooks", "admin", hooks.list_webhooks),
    _own("POST", "/api/webhooks", "admin", hooks.make_webhook, kept=False),
    _own("GET", "/api/webhooks/{id}", "admin", hooks.get_webhook),
    _own("PATCH", "/api/webhooks/{id}", "admin", hooks.change_webhook),
    _own("DELETE", "/api/webhooks/{id}", "admin", hooks.remove_webhook),
    _own("POST", "/api/webhooks/{id}/rotate", "admin", hooks.rotate_secret, kept=False),
    _own("POST", "/api/webhooks/{id}/ping", "admin", hooks.ping),
    _own("GET", "/api/webhooks/{id}/deliveries", "admin", hooks.list_deliveries),
    _own("POST", "/api/webhooks/{id}/deliveries/{delivery}/replay", "admin", hooks.replay),
    _own("POST", "/api/webhooks/{id}/replay", "admin", hooks.replay_dead),
    _own("GET", "/api/notifications", "read", notifications.list_notifiers),
    _own("POST", "/api/notifications", "read", notifications.make_notifier),
    _own("GET", "/api/notifications/key", "read", notifications.push_key),
    _own("PATCH", "/api/notifications/{id}", "read", notifications.change_notifier),
    _own("DELETE", "/api/notifications/{id}", "read", notifications.remove_notifier),
    _own("POST", "/api/notifications/{id}/test", "read", notifications.test_notifier),
    _own("GET", "/api/notifications/{id}/deliveries", "read", notifications.list_deliveries),
    Entry("WS", "/api/sessions/{id}/shells/{shellId}", "cookie-same-origin", "read", None, on="session", links=True),
    Entry("WS", "/runtimes/{runtime}/ws/shells", "credential", "run", None),
    Entry("WS", "/event/realtime", "credential", "read", None),
    Entry("WS", "/ws", "cookie-same-origin", "read", None, on="session", links=True),
)


def routes(platform: Platform, guard: Guard, table: tuple[Entry, ...] = TABLE) -> list[Route]:
    return [
        Route(entry.path, _counted(entry, platform, guard), methods=[entry.method])
        for entry in table
        if entry.method != "WS"
    ]


def _counted(entry: Entry, platform: Platform, guard: Guard) -> Callable[[Request], Awaitable[Response]]:
    endpoint = _endpoint(entry, platform, guard)
    if platform.traces is not None and entry.handler is not None and entry.scope not in {None, "metrics"}:
        endpoint = traced(platform.traces, entry.method, entry.path, endpoint)
    return metrics.counting(platform.metrics, entry.method, entry.path, endpoint)


async def _after_body(asked: Asked, caller: Principal, platform: Platform) -> Principal:
    """Who it is once all has come: a body may take a minute, in which the right to it may end. Raises
    Unauthenticated."""
    await asked.read()
    if platform.left(caller) == 0:
        raise Unauthenticated
    return platform.identity.members.now(caller)


async def _alone(own: Own, platform: Platform, guard: Guard, request: Request) -> Response:
    return await own(request, platform, guard)


def _endpoint(entry: Entry, platform: Platform, guard: Guard) -> Callable[[Request], Awaitable[Response]]:
    if entry.own is not None:
        return functools.partial(_alone, entry.own, platform, guard)
    handler = entry.handler
    assert handler is not None
    handling = admit.of_the_day(handler) if entry.counted else handler
    known = query.KNOWN[entry.method, entry.path] if entry.policy != "public" else None  # others send browsers there

    async def answer(request: Request, caller: Principal | None) -> Response:
        if caller is not None and entry.scope is not None:
            (caller.need_at_most if entry.on == "session" else caller.need)(entry.scope)
        if known and request.url.query:
            query.check(request.url.query, known)
        call = Call(request, platform, caller, entry.scope or "read")
        if entry.keyed:
            return await repeats.once(call, handling, again=entry.again, keep=entry.kept, now=entry.now)
        return await handling(call)

    async def endpoint(request: Request) -> Response:
        answered = await asked_for(request)
        return cors.crossing(answered, Once.of(request), guard) if entry.pages else answered

    async def asked_for(request: Request) -> Response:
        address = peer(request)
        caller: Principal | None = None
        state: State | None = None
        try:
            asked, request = Asked.of(request)
            once = Once.of(request)
            checked = guard.check(entry.policy, request.method, once, asked=asked, links=entry.links, address=address)
            caller = await admit.admit(checked, platform, asked, address)
            if caller is not None:
                request.scope[WHO] = named(caller)
                if request.method in BODIES or (entry.keyed and repeats.HEADER in request.headers):
                    caller = await _after_body(asked, caller, platform)
            state = admit.counted(platform.gate, caller)
            return admit.told(await answer(request, caller), state)
        except StoreFailed:
            platform.metrics.refused.add((Unavailable.code,))
            return admit.told(wire.problem(Unavailable("The store does not answer; try again.")), state)
        except PilothouseError as error:
            platform.metrics.refused.add((error.code,))
            if isinstance(error, Forbidden):
                await admit.forbidden(platform, Who(caller, address), f"{entry.method} {entry.path}", error)
                if entry.pages:
                    error.details["message"] = "Forbidden"  # as API gateways say it
            return admit.told(wire.problem(error), state)  # it counted as well

    return endpoint
