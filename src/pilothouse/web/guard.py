"""Who is calling, and from where. Every route and every socket passes here before anything else runs.

1. `Host` must be a name of ours: a page that rebinds its own name to this address is refused.
2. `Origin`, where one is sent, must be ours exactly (scheme, host and port); other origins only with a key, and only
   those of `cors_origins`. `null` is foreign.
3. By the route's policy (a token is a signed one of a configured issuer):

| policy | credential | cross-origin |
|---|---|---|
| `cookie-same-origin` | key or token, else the cookie; a change by cookie: with `Origin` and CSRF token | with a key |
| `credential` | a key or token; cookies are never read | `cors_origins` |
| `public` | none; the reason stands in the route table | no |

A share link is a cookie of its own, which counts where there is no sign-in, and only on routes that say so. Whoever it
is, the role that the account has now decides what it may.

A WebSocket opened by cookie needs an `Origin` even though it is a GET: browsers send cookies across origins there.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import Literal, Protocol

from pilothouse.core import bearer
from pilothouse.core.access import Principal
from pilothouse.core.errors import Forbidden, PilothouseError, Unauthenticated
from pilothouse.engine.bearers import Bearers
from pilothouse.engine.identity import Identity

Policy = Literal["cookie-same-origin", "credential", "public"]
COOKIE = "pilothouse"
LINK_COOKIE = "pilothouse_link"
"""Beside the other: who follows a link stays signed in, and who signs in is no longer the link's visitor."""
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
LOOPBACK = frozenset({"127.0.0.1", "localhost", "[::1]"})


class MisdirectedHost(PilothouseError):
    """This server does not answer to that host name."""

    code = "bad_host"
    status = 421


class Headers(Protocol):
    def get(self, name: str, /) -> str | None: ...


class Once:
    """Headers as the guard reads them. One that comes twice is ambiguous: `Host` and `Origin` are then nobody's, any
    other is taken for absent."""

    def __init__(self, every: Callable[[str], list[str]]) -> None:
        self._every = every

    def get(self, name: str) -> str | None:
        found = self._every(name)
        if name in {"host", "origin"} and len(found) > 1:
            return "repeated"
        return found[0] if len(found) == 1 else None


@dataclass(frozen=True)
class Trust:
    """Names and origins that are ours."""

    hosts: frozenset[str]
    cors_origins: frozenset[str] = frozenset()
    secure: bool = False
    """TLS is ours, or a proxy's in front."""
    behind_proxy: bool = False


class Guard:
    def __init__(self, identity: Identity, trust: Callable[[], Trust], bearers: Bearers | None = None) -> None:
        self.identity = identity
        self._trust = trust
        self._bearers = bearers

    def host(self, headers: Headers) -> str:
        """The `Host` as sent. Raises MisdirectedHost."""
        host = headers.get("host") or ""
        if split_port(host.lower()) not in self._trust().hosts:
            raise MisdirectedHost
        return host

    def origin(self, headers: Headers, host: str, *, keyed: bool) -> str | None:
        """The `Origin`, if there is one. Raises Forbidden for a foreign one."""
        origin = headers.get("origin")
        if origin is None:
            return None
        trust = self._trust()
        schemes: tuple[str, ...] = ("https",) if trust.secure else ("http",)
        if trust.behind_proxy:  # which speaks TLS; this machine's own browser may come without it
            schemes = ("http", "https") if split_port(host.lower()) in LOOPBACK else ("https",)
        if origin in {f"{scheme}://{host}" for scheme in schemes} or (keyed and origin in trust.cors_origins):
            return origin
        raise Forbidden(f"Origin {origin[:100]!r} is foreign here.", code="foreign_origin")

    async def check(
        self, policy: Policy, method: str, headers: Headers, *, socket: bool = False, links: bool = False
    ) -> Principal | None:
        """The caller, None on public routes; by a share link only where `links`. Raises MisdirectedHost, Forbidden,
        Unauthenticated."""
        who = await self._shown(policy, method, headers, socket=socket)
        if who is None:
            return None
        if who.session is not None and not links:
            raise Forbidden("A share link opens its own session only.", code="link")
        return await self.identity.members.met(who)

    async def _shown(self, policy: Policy, method: str, headers: Headers, *, socket: bool) -> Principal | None:
        """Whose credential it is, before it is asked what its account may."""
        host = self.host(headers)
        key = _key(headers)
        origin = self.origin(headers, host, keyed=key is not None and policy != "public")
        if policy == "public":
            return None
        if self._bearers is not None and (signed := bearer.signed(headers)) is not None:
            return await self._bearers.principal(signed)
        if key is not None:
            return await self.identity.by_key(key)
        if policy == "credential":
            raise Unauthenticated("Give a key: `x-api-key: …` or `Authorization: Bearer …`.")
        cookie, link = cookie_of(headers), cookie_of(headers, LINK_COOKIE)
        if cookie is None and link is None:
            raise Unauthenticated
        site = headers.get("sec-fetch-site")
        if site not in {None, "same-origin", "none"}:
            raise Forbidden("The request comes from another site.", code="foreign_origin")
        changes = socket or method not in SAFE
        if changes and origin is None:
            raise Forbidden("A change by cookie needs an Origin.", code="foreign_origin")
        who = await self._by_cookie(cookie, link)
        if changes and not socket:
            token = headers.get("x-csrf-token") or ""
            shown = (link if who.kind == "link" else cookie) or ""
            if not hmac.compare_digest(token.encode(), self.identity.csrf(shown).encode()):
                raise Forbidden("The CSRF token is missing or wrong; reload the page.", code="csrf")
        return who

    async def _by_cookie(self, cookie: str | None, link: str | None) -> Principal:
        """Who is signed in, else who follows a link. Raises Unauthenticated."""
        if cookie is not None:
            try:
                return await self.identity.by_cookie(cookie)
            except Unauthenticated:
                if link is None:
                    raise
        return await self.identity.links.by_secret(link or "")


def split_port(host: str) -> str:
    """The name in a `Host` header."""
    if host.startswith("["):
        name, bracket, rest = host.partition("]")
        return name + bracket if rest == "" or (rest.startswith(":") and rest[1:].isdigit()) else ""
    name, colon, port = host.partition(":")
    return name if not colon or port.isdigit() else ""


def cookie_of(headers: Headers, name: str = COOKIE) -> str | None:
    try:
        jar = SimpleCookie(headers.get("cookie") or "")
    except CookieError:
        return None
    found = jar.get(name)
    return found.value if found is not None and found.value else None


def _key(headers: Headers) -> str | None:
    """The key that the caller gives, if any. One that is given and wrong is never passed over for a cookie."""
    given = headers.get("x-api-key")
    if given is not None:
        return given
    return bearer.of_header(headers.get("authorization"))
