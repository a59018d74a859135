"""Who is calling, and from where. Every route and every socket passes here before anything else runs.

1. `Host` must be a name of ours: a page that rebinds its own name to this address is refused. Where a trusted proxy
   tells of another `Host` that the client asked for, both must be.
2. `Origin`, where one is sent, must be ours exactly (scheme, host and port); other origins only with a key, and only
   those of `cors_origins`. `null` is foreign.
3. By the route's policy:

| policy | credential | cross-origin |
|---|---|---|
| `cookie-same-origin` | a key, else the cookie; a change by cookie also needs `Origin` and CSRF token | with a key |
| `credential` | a key; cookies are never read | `cors_origins` |
| `public` | none; the reason stands in the route table | no |

A WebSocket opened by cookie needs an `Origin` even though it is a GET: browsers send cookies across origins there.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import Literal, Protocol

from starlette.requests import HTTPConnection

from pilothouse.core import hosts
from pilothouse.core.access import Principal
from pilothouse.core.errors import Forbidden, PilothouseError, Unauthenticated
from pilothouse.engine.identity import Identity
from pilothouse.web.front import SEEN, Seen
from pilothouse.web.socket import UpgradeRequest

Policy = Literal["cookie-same-origin", "credential", "public"]
COOKIE = "pilothouse"
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
LOOPBACK = hosts.LOOPBACK


class MisdirectedHost(PilothouseError):
    """This server does not answer to that host name."""

    code = "bad_host"
    status = 421


class Headers(Protocol):
    def get(self, name: str, /) -> str | None: ...


class Once:
    """Headers as the guard reads them. One that comes twice is ambiguous: `Host` and `Origin` are then nobody's, any
    other is taken for absent."""

    def __init__(self, every: Callable[[str], list[str]], seen: Seen | None = None) -> None:
        self._every = every
        self.seen = seen or Seen()

    @classmethod
    def of(cls, request: HTTPConnection) -> Once:
        return cls(request.headers.getlist, request.scope.get(SEEN))

    @classmethod
    def upgrade(cls, request: UpgradeRequest) -> Once:
        return cls(request.all, Seen(request.secure, request.received))

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
    """TLS is ours; asked only where nobody has seen how the request came."""
    behind_proxy: bool = False
    """A TLS proxy stands in front."""

    def schemes(self, seen: bool | None, name: str) -> tuple[str, ...]:
        """How a page must have come to be ours."""
        if seen is not None:
            return ("https",) if seen else ("http",)
        if self.behind_proxy:  # which speaks TLS; this machine's own browser may come without it
            return ("http", "https") if name in LOOPBACK else ("https",)
        return ("https",) if self.secure else ("http",)


class Guard:
    def __init__(self, identity: Identity, trust: Callable[[], Trust]) -> None:
        self.identity = identity
        self._trust = trust

    def host(self, headers: Headers) -> str:
        """The `Host` as sent. Raises MisdirectedHost."""
        host = headers.get("host") or ""
        received = headers.seen.received if isinstance(headers, Once) else None
        for given in (host,) if received is None else (host, received):
            if split_port(given) not in self._trust().hosts:
                raise MisdirectedHost
        return host

    def origin(self, headers: Headers, host: str, *, keyed: bool) -> str | None:
        """The `Origin`, if there is one. Raises Forbidden for a foreign one."""
        origin = headers.get("origin")
        if origin is None:
            return None
        trust = self._trust()
        seen = headers.seen.secure if isinstance(headers, Once) else None
        ours = {f"{scheme}://{host}" for scheme in trust.schemes(seen, split_port(host))}
        if origin in ours or (keyed and origin in trust.cors_origins):
            return origin
        raise Forbidden(f"Origin {origin[:100]!r} is foreign here.", code="foreign_origin")

    async def check(self, policy: Policy, method: str, headers: Headers, *, socket: bool = False) -> Principal | None:
        """The caller, None on public routes. Raises MisdirectedHost, Forbidden, Unauthenticated."""
        host = self.host(headers)
        key = _key(headers)
        origin = self.origin(headers, host, keyed=key is not None and policy != "public")
        if policy == "public":
            return None
        if key is not None:
            return await self.identity.by_key(key)
        if policy == "credential":
            raise Unauthenticated("Give a key: `x-api-key: …` or `Authorization: Bearer …`.")
        cookie = cookie_of(headers)
        if cookie is None:
            raise Unauthenticated
        site = headers.get("sec-fetch-site")
        if site not in {None, "same-origin", "none"}:
            raise Forbidden("The request comes from another site.", code="foreign_origin")
        if socket or method not in SAFE:
            if origin is None:
                raise Forbidden("A change by cookie needs an Origin.", code="foreign_origin")
            token = headers.get("x-csrf-token") or ""
            if not socket and not hmac.compare_digest(token.encode(), self.identity.csrf(cookie).encode()):
                raise Forbidden("The CSRF token is missing or wrong; reload the page.", code="csrf")
        return await self.identity.by_cookie(cookie)


def split_port(host: str) -> str:
    """The name in a `Host` header; empty where there is none."""
    return hosts.of_header(host)


def cookie_of(headers: Headers) -> str | None:
    try:
        jar = SimpleCookie(headers.get("cookie") or "")
    except CookieError:
        return None
    found = jar.get(COOKIE)
    return found.value if found is not None and found.value else None


def _key(headers: Headers) -> str | None:
    """The key that the caller gives, if any. One that is given and wrong is never passed over for a cookie."""
    given = headers.get("x-api-key")
    if given is not None:
        return given
    scheme, _, token = (headers.get("authorization") or "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None
