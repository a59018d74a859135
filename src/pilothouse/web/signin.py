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
from pilothouse.core.errors import BadRequest, Forbidden, NotFound, PilothouseError
from pilothouse.engine import records
from pilothouse.engine.identity import COOKIE_S
from pilothouse.engine.providers import BEGUN_S, Providers
from pilothouse.engine.signins import Visit
from pilothouse.web import wire
from pilothouse.web.call import Call
from pilothouse.web.guard import COOKIE, LINK_COOKIE, cookie_of

BEGUN = "pilothouse-begun"
ANSWER = ("code", "state", "iss", "error")
"""What a provider's answer is read for."""


class Given(wire.Body):
    """A ticket, or a share link's secret."""

    ticket: str | None = None
    link: str | None = None


async def by_ticket(call: Call) -> Response:
    given = await wire.body(call.request, Given)
    if (given.ticket is None) == (given.link is None):
        raise BadRequest("ticket: either it or link")
    identity = call.platform.identity
    answer = Response(status_code=204)
    if given.ticket is not None:
        _signed_in(call, answer, await identity.redeem(given.ticket, _visit(call)), COOKIE_S)
    else:
        link = given.link or ""
        lasts = identity.left(identity.members.now(await identity.links.by_secret(link)))
        _signed_in(call, answer, link, lasts or 0, LINK_COOKIE)
    return answer


class Out(wire.Body):
    everywhere: bool = False


async def out(call: Call) -> Response:
    given = Out()
    if call.request.headers.get("content-length", "0") != "0" or "transfer-encoding" in call.request.headers:
        given = await wire.body(call.request, Out)
    if given.everywhere:
        if call.principal.kind != "person":
            raise Forbidden("Only a person signs out everywhere.")
        await call.signins.end_own(call.principal)
    cookie = cookie_of(call.request.headers)
    if call.principal.kind == "person" and cookie is not None:
        await call.platform.identity.sign_out(cookie)
    answer = Response(status_code=204)
    gone = LINK_COOKIE if call.principal.kind == "link" else COOKIE
    answer.delete_cookie(gone, httponly=True, samesite="strict", secure=call.platform.secure, path="/")
    return answer


# --- with a provider ---


async def providers(call: Call) -> Response:
    known = call.platform.providers
    listed = known.all() if known is not None else []
    return wire.Reply({"items": [{"id": one.name, "label": one.label or one.name} for one in listed]})


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
        secure=call.platform.secure,
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
        return _done(call, _sorry(call, error))
    answer = _page("Signed in", "You are signed in.", _root(call), "Go on", at_once=True)
    _signed_in(call, answer, cookie, entry.expires_at - call.platform.kit.clock.now())
    return _done(call, answer)


def _known(call: Call) -> Providers:
    if call.platform.providers is None:
        raise NotFound("There is no such provider.")
    return call.platform.providers


# --- who is signed in ---


async def every(call: Call) -> Response:
    current = call.principal.credential.partition(":")[2]
    found = await call.signins.all(call.principal)
    items = [
        {
            "id": digest,
            "account": one.account,
            "name": one.name or one.account,
            "via": one.via or None,
            "createdAt": records.stamp(one.created_at),
            "lastSeenAt": records.stamp(one.last_seen_at),
            "expiresAt": records.stamp(one.expires_at),
            "address": one.address,
            "agent": one.agent,
            "own": one.account == call.principal.account,
            "current": digest == current,
        }
        for digest, one in found
    ]
    return wire.Reply({"items": items, "next": None})


async def end(call: Call) -> Response:
    await call.signins.end(call.principal, call.request.path_params["id"])
    return Response(status_code=204)


# --- parts ---


def _visit(call: Call) -> Visit:
    client = call.request.client
    return Visit(
        address=client.host if client is not None else "",
        agent=useragent.summary(call.request.headers.get("user-agent")),
    )


def _signed_in(call: Call, answer: Response, cookie: str, seconds: float, name: str = COOKIE) -> None:
    answer.set_cookie(
        name, cookie, max_age=int(seconds), httponly=True, samesite="strict", secure=call.platform.secure, path="/"
    )


def _redirect(call: Call) -> str:
    """Our own address for the answer, as the provider has it registered. `Host` is ours: the guard has seen it."""
    scheme = "https" if call.platform.secure else "http"
    provider = call.request.path_params["provider"]
    root = call.request.scope.get("root_path", "")
    return f"{scheme}://{call.request.headers['host']}{root}/api/signin/oidc/{provider}/callback"


def _root(call: Call) -> str:
    """The page, from wherever this address is: relative, so that a sub-path works."""
    depth = call.request.url.path.count("/") - str(call.request.scope.get("root_path", "")).count("/") - 1
    return "../" * depth


def _begun(call: Call) -> str:
    """With TLS under the one prefix that no sibling of this host can set a cookie for."""
    return f"__Host-{BEGUN}" if call.platform.secure else BEGUN


def _secret(call: Call) -> str:
    try:
        jar = SimpleCookie(call.request.headers.get("cookie") or "")
    except CookieError:
        return ""
    found = jar.get(_begun(call))
    return found.value if found is not None else ""


def _done(call: Call, answer: Response) -> Response:
    answer.delete_cookie(_begun(call), httponly=True, samesite="lax", secure=call.platform.secure, path="/")
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
