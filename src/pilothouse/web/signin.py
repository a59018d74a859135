"""Signing in and out, and who is signed in. See `protocol/http.md`.

With a provider a browser leaves for another site and comes back from it. Our own cookie is `SameSite=Strict` and would
not be sent on that way back, so what the sign-in began with is in a cookie of its own, `Lax`, for a few minutes; and
the answer is a page of ours that leads on to the page: from there the new cookie is sent.
"""

from __future__ import annotations

import html
from http.cookies import CookieError, SimpleCookie

from starlette.responses import Response

from pilothouse.core import useragent
from pilothouse.core.api import Everything
from pilothouse.core.api.access import Followed, Out, Provider, Shown, SignIn
from pilothouse.core.errors import BadRequest, Forbidden, NotFound, PilothouseError, RateLimited, Unauthenticated
from pilothouse.engine import records
from pilothouse.engine.audit import Entry, Who
from pilothouse.engine.identity import COOKIE_S
from pilothouse.engine.providers import BEGUN_S, Providers
from pilothouse.engine.signins import Visit
from pilothouse.web import admit, wire
from pilothouse.web.call import Call
from pilothouse.web.guard import COOKIE, LINK_COOKIE, cookie_of
from pilothouse.web.peer import peer

BEGUN = "pilothouse-begun"
ANSWER = ("code", "state", "iss", "error")
"""What a provider's answer is read for."""


async def by_secret(call: Call) -> Response:
    given = await wire.body(call.request, Shown)
    if (given.ticket is None) == (given.link is None):
        raise BadRequest("ticket: either it or link")
    if given.link is not None:
        return await _follow(call, given.link)
    try:
        cookie = await call.platform.identity.redeem(given.ticket or "", _visit(call))
    except Unauthenticated:
        await _wrong(call, given.ticket or "")
        raise
    answer = Response(status_code=204)
    _signed_in(call, answer, cookie, COOKIE_S)
    return answer


async def _wrong(call: Call, shown: str) -> None:
    """Counts against the caller's address. Raises RateLimited."""
    await admit.wrong(call.platform, call.who.address, shown, "signin")


async def _follow(call: Call, link: str) -> Response:
    identity = call.platform.identity
    try:
        visitor = identity.members.now(await identity.links.by_secret(link))
    except Unauthenticated:
        await _wrong(call, link)
        raise
    who = Who(visitor, call.who.address)
    await identity.audit.counted(who, Entry("signin", visitor.credential, details={"by": "link"}))
    answer = wire.Reply(Followed(session=str(visitor.session)))
    _signed_in(call, answer, link, identity.left(visitor) or 0, LINK_COOKIE)
    return answer


async def out(call: Call) -> Response:
    given = Out()
    if call.request.headers.get("content-length", "0") != "0" or "transfer-encoding" in call.request.headers:
        given = await wire.body(call.request, Out)
    if given.everywhere:
        if call.principal.kind != "person":
            raise Forbidden("A key signs nobody out.")
        await call.signins.end_own(call.principal, call.who.address)
    cookie = cookie_of(call.request.headers)
    if call.principal.kind == "person" and cookie is not None:
        await call.platform.identity.sign_out(cookie, call.who)
    answer = Response(status_code=204)
    gone = LINK_COOKIE if call.principal.kind == "link" else COOKIE
    answer.delete_cookie(gone, httponly=True, samesite="strict", secure=call.secure, path=f"{call.base}/")
    return answer


# --- with a provider ---


async def providers(call: Call) -> Response:
    known = call.platform.providers
    listed = known.all() if known is not None else []
    return wire.Reply(Everything(items=[Provider(id=one.name, label=one.label or one.name) for one in listed]))


async def begin(call: Call) -> Response:
    try:
        if call.request.headers.get("sec-fetch-site") not in {None, "same-origin", "none"}:
            raise Forbidden("Signing in begins on the page itself.", code="foreign_origin")
        begun = await _known(call).begin(call.request.path_params["provider"], _redirect(call))
    except PilothouseError as error:
        return _sorry(call, error)
    answer = Response(status_code=303, headers={"location": begun.url, "cache-control": "no-store"})
    answer.set_cookie(
        _begun(call),
        begun.secret,
        max_age=BEGUN_S,
        httponly=True,
        samesite="lax",
        secure=call.secure,
        path="/",
    )
    return answer


async def finish(call: Call) -> Response:
    query = call.request.query_params
    once = {name: query[name] for name in ANSWER if len(query.getlist(name)) == 1}
    try:
        cookie, entry = await _known(call).finish(
            call.request.path_params["provider"], once, _secret(call), _redirect(call), _visit(call)
        )
    except PilothouseError as error:
        return _done(call, _sorry(call, await _noted(call, error, once.get("state", ""))))
    answer = _page("Signed in", "You are signed in.", _root(call), "Go on", at_once=True)
    _signed_in(call, answer, cookie, entry.expires_at - call.platform.kit.clock.now())
    return _done(call, answer)


async def _noted(call: Call, error: PilothouseError, shown: str) -> PilothouseError:
    """What is answered to a sign-in that was refused, which the audit hears of."""
    try:
        if isinstance(error, Unauthenticated):
            await _wrong(call, shown)
    except RateLimited as limited:
        return limited
    if isinstance(error, Forbidden):
        entry = Entry("signin", outcome="refused", details={"why": error.code})
        await call.platform.kit.audit.counted(call.who, entry)
    return error


def _known(call: Call) -> Providers:
    if call.platform.providers is None:
        raise NotFound("There is no such provider.")
    return call.platform.providers


# --- who is signed in ---


async def every(call: Call) -> Response:
    current = call.principal.credential.partition(":")[2]
    found = await call.signins.all(call.principal)
    items = [
        SignIn(
            id=digest,
            account=one.account,
            name=one.name or one.account,
            via=one.via or None,
            created_at=records.stamp(one.created_at),
            last_seen_at=records.stamp(one.last_seen_at),
            expires_at=records.stamp(one.expires_at),
            address=one.address,
            agent=one.agent,
            own=one.account == call.principal.account,
            current=digest == current,
        )
        for digest, one in found
    ]
    return wire.everything(items)


async def end(call: Call) -> Response:
    await call.signins.end(call.principal, call.request.path_params["id"], call.who.address)
    return Response(status_code=204)


# --- parts ---


def _visit(call: Call) -> Visit:
    return Visit(
        address=peer(call.request),
        agent=useragent.summary(call.request.headers.get("user-agent")),
    )


def _signed_in(call: Call, answer: Response, cookie: str, seconds: float, name: str = COOKIE) -> None:
    answer.set_cookie(
        name, cookie, max_age=int(seconds), httponly=True, samesite="strict", secure=call.secure, path=f"{call.base}/"
    )


def _redirect(call: Call) -> str:
    """Our own address for the answer, as the provider has it registered. `Host` is ours: the guard has seen it."""
    scheme = "https" if call.secure else "http"
    provider = call.request.path_params["provider"]
    return f"{scheme}://{call.request.headers['host']}{call.base}/api/signin/oidc/{provider}/callback"


def _root(call: Call) -> str:
    """The page, from wherever this address is: relative, so that a sub-path works."""
    depth = str(call.request.scope["path"]).count("/") - call.base.count("/") - 1
    return "../" * depth


def _begun(call: Call) -> str:
    """With TLS under the one prefix that no sibling of this host can set a cookie for."""
    return f"__Host-{BEGUN}" if call.secure else BEGUN


def _secret(call: Call) -> str:
    try:
        jar = SimpleCookie(call.request.headers.get("cookie") or "")
    except CookieError:
        return ""
    found = jar.get(_begun(call))
    return found.value if found is not None else ""


def _done(call: Call, answer: Response) -> Response:
    answer.delete_cookie(_begun(call), httponly=True, samesite="lax", secure=call.secure, path="/")
    return answer


def _sorry(call: Call, error: PilothouseError) -> Response:
    return _page("Sign-in failed", error.message, _root(call), "Back to signing in", status=error.status)


def _page(title: str, text: str, href: str, label: str, *, at_once: bool = False, status: int = 200) -> Response:
    """A page of few words for who has no page yet."""
    onward = f'<meta http-equiv="refresh" content="0;url={html.escape(href)}">' if at_once else ""
    body = PAGE.format(
        title=html.escape(title),
        text=html.escape(text),
        href=html.escape(href),
        label=html.escape(label),
        onward=onward,
        role="status" if at_once else "alert",
    )
    return Response(body, status, {"cache-control": "no-store"}, "text/html; charset=utf-8")


PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title} - Pilothouse</title>
{onward}
<style>
:root {{ color-scheme: light dark; }}
body {{ margin: 0; min-height: 100vh; display: grid; place-items: center; font: 16px/1.5 system-ui, sans-serif; }}
main {{ max-width: 26rem; padding: 2rem; }}
h1 {{ font-size: 1.35rem; margin: 0 0 .5rem; }}
a {{ display: inline-block; padding: .4rem 0; }}
</style>
</head>
<body>
<main>
<h1>{title}</h1>
<p role="{role}">{text}</p>
<a href="{href}">{label}</a>
</main>
</body>
</html>
"""
