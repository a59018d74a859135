"""Who is calling, and from where. Every route and every socket passes here before anything else runs.

1. `Host` must be a name of ours: a page that rebinds its own name to this address is refused. Where a trusted proxy
   tells of another `Host` that the client asked for, both must be.
2. `Origin`, where one is sent, must be ours exactly (scheme, host and port); other origins only with a key, and only
   those of `cors_origins`. `null` is foreign.
3. By the route's policy (a token is a signed one of a configured issuer):

| policy | credential | cross-origin |
|---|---|---|
| `cookie-same-origin` | key or token, else the cookie; a change by cookie: with `Origin` and CSRF token | with a key |
| `credential` | a key or token; cookies are never read | `cors_origins` |
| `public` | none; the reason stands in the route table | no |

A signed request (`core.sigv4`, in header or address) counts as one with a key, on every route that takes one. What is
given and wrong is never passed over for another, and two in one request are refused; a cookie beside one is not
looked at, since browsers send it unasked.

A share link is a cookie of its own, which counts where there is no sign-in, and only on routes that say so. Whatever is
shown, the role that the account has now decides what it may.

A WebSocket opened by cookie needs an `Origin` even though it is a GET: browsers send cookies across origins there.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from typing import Any, Literal, Protocol

from starlette.requests import HTTPConnection

from pilothouse.core import bearer, hosts, proof, sigv4
from pilothouse.core.access import Principal
from pilothouse.core.errors import BadSignature, Forbidden, PilothouseError, Unauthenticated
from pilothouse.core.token import looks_like
from pilothouse.engine.bearers import Bearers
from pilothouse.engine.identity import Identity
from pilothouse.engine.keypairs import KeyPairs
from pilothouse.web.asked import Asked
from pilothouse.web.front import SEEN, Seen
from pilothouse.web.socket import UpgradeRequest

Policy = Literal["cookie-same-origin", "credential", "public"]
COOKIE = "pilothouse"
LINK_COOKIE = "pilothouse_link"
"""Beside the other: who follows a link stays signed in, and who signs in is no longer the link's visitor."""
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
LOOPBACK = hosts.LOOPBACK


class MisdirectedHost(PilothouseError):
    """This server does not answer to that host name."""

    code = "bad_host"
    status = 421


class Headers(Protocol):
    def get(self, name: str, /) -> str | None: ...


class Once:
    """Headers as the guard reads them. One that comes twice is ambiguous: `Host`, `Origin` and `Sec-Fetch-Site`
    are then nobody's, any other is taken for absent."""

    def __init__(self, every: Callable[[str], list[str]], seen: Seen | None = None) -> None:
        self._every = every
        self.seen = seen or Seen()

    @classmethod
    def of(cls, request: HTTPConnection) -> Once:
        return cls(request.headers.getlist, request.scope.get(SEEN))

    @classmethod
    def upgrade(cls, request: UpgradeRequest) -> Once:
        return cls(request.all, Seen(request.secure, request.received))

    def all(self, name: str) -> list[str]:
        return self._every(name)

    def get(self, name: str) -> str | None:
        found = self._every(name)
        if name in {"host", "origin", "sec-fetch-site"} and len(found) > 1:
            return "repeated"
        return found[0] if len(found) == 1 else None


@dataclass(frozen=True, slots=True)
class Given:
    kind: Literal["key", "signature", "token"]
    text: str = field(default="", repr=False)


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
    def __init__(
        self,
        identity: Identity,
        trust: Callable[[], Trust],
        *,
        pairs: KeyPairs | None = None,
        bearers: Bearers | None = None,
    ) -> None:
        """Without `pairs` no signature is believed, without `bearers` no token."""
        self.identity = identity
        self._trust = trust
        self._pairs = pairs
        self._bearers = bearers

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

    async def check(
        self,
        policy: Policy,
        method: str,
        headers: Once,
        *,
        socket: bool = False,
        asked: Asked | None = None,
        links: bool = False,
        address: str = "",
    ) -> Principal | None:
        """The caller, None on public routes; by a share link only where `links`. `address`: from where, for the audit.
        Raises MisdirectedHost, Forbidden,
        Unauthenticated, and what reading the body raises, which a signature covers."""
        who = await self._shown(policy, method, headers, asked, socket=socket)
        if who is None:
            return None
        if who.session is not None and not links:
            raise Forbidden("A share link opens its own session only.", code="link")
        return await self.identity.members.met(who, address)

    async def _shown(
        self, policy: Policy, method: str, headers: Once, asked: Asked | None, *, socket: bool
    ) -> Principal | None:
        """Whose credential it is, before it is asked what its account may."""
        host = self.host(headers)
        given = _given(headers, asked) if policy != "public" else None
        origin = self.origin(headers, host, keyed=given is not None)
        if policy == "public":
            return None
        if given is not None:
            return await self._by_given(given, asked)
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

    async def _by_given(self, given: Given, asked: Asked | None) -> Principal:
        if given.kind == "signature" and asked is not None:
            return await self._signed(asked)
        if given.kind == "token" and self._bearers is not None:
            return await self._bearers.principal(given.text)
        return await self.identity.keys.by_secret(given.text)

    async def _signed(self, asked: Asked) -> Principal:
        if self._pairs is None:
            raise BadSignature("Signed requests are not taken here.", reason="scope")
        claim = sigv4.from_request(asked.method, asked.path, asked.query, asked.headers)
        return await self._pairs.by_claim(claim, asked.payload)

    @property
    def trust(self) -> Trust:
        """The same object for as long as nothing of it changes."""
        return self._trust()

    def place(self, headers: Once) -> None:
        """What holds of any request, where a protocol has its own credentials. Raises MisdirectedHost, Forbidden."""
        self.origin(headers, self.host(headers), keyed=True)

    async def event_key(self, text: str) -> Principal:
        """Raises Unauthenticated."""
        return await self.identity.members.met(await self.identity.keys.by_secret(text))

    def key_at_hand(self, text: str) -> Principal | None:
        """The same where nothing has to be read or written; None where something has, or it is no key. Raises
        Unauthenticated."""
        found = self.identity.keys.at_hand(text)
        return None if found is None else self.identity.members.now(found)

    async def event_token(self, text: str, address: str) -> Principal:
        """Raises Unauthenticated, Forbidden, Unavailable."""
        if self._bearers is None:
            raise Unauthenticated
        return await self.identity.members.met(await self._bearers.principal(text), address)

    async def event_request(self, asked: Asked) -> Principal:
        """Who signed a publish by HTTP. Raises BadSignature, and what reading the body raises."""
        if self._pairs is None:
            raise BadSignature("Signed requests are not taken here.", reason="scope")
        claim = sigv4.from_request(asked.method, asked.path, asked.query, asked.headers)
        who = await self._pairs.by_claim(claim, asked.payload, services=frozenset({"appsync"}))
        return await self.identity.members.met(who)

    async def signed_event(
        self, authorization: Mapping[str, Any], path: str, payload: Mapping[str, Any], service: str = "appsync"
    ) -> Principal:
        """Who signed a frame of the event API: `authorization` is its object, `path` the address for HTTP, `payload`
        what the client signs for that kind of frame. Its `host` must be a name of ours. Raises BadSignature,
        MisdirectedHost."""
        if self._pairs is None:
            raise BadSignature("Signed requests are not taken here.", reason="scope")
        claim = sigv4.from_event(authorization, path)
        if split_port(claim.host.lower()) not in self._trust().hosts:
            raise MisdirectedHost

        async def hashes() -> Iterator[str]:
            return proof.event_digests(payload)

        who = await self._pairs.by_claim(claim, hashes, services=frozenset({service}))
        return await self.identity.members.met(who)


def split_port(host: str) -> str:
    """The name in a `Host` header; empty where there is none."""
    return hosts.of_header(host)


def cookie_of(headers: Headers, name: str = COOKIE) -> str | None:
    try:
        jar = SimpleCookie(headers.get("cookie") or "")
    except CookieError:
        return None
    found = jar.get(name)
    return found.value if found is not None and found.value else None


def _given(headers: Once, asked: Asked | None) -> Given | None:
    """The credential that the caller gives by itself, other than a cookie, which a browser sends unasked. One that is
    given and wrong is never passed over for another. Raises Unauthenticated for two."""
    keys, authorizations = headers.all("x-api-key"), list(filter(bearer.ours, headers.all("authorization")))
    tokens = [token for one in authorizations if (token := bearer.of_header(one)) is not None]
    if asked is not None and sigv4.present(asked.query, authorizations):
        if keys or tokens:
            raise BadSignature("Two credentials: a signature, and a key or token", reason="malformed")
        return Given("signature")
    if len(keys) + len(tokens) > 1:
        raise Unauthenticated("Two credentials in one request: give one.")
    if keys:
        return Given("key", keys[0])
    if tokens:
        return Given("token" if looks_like(tokens[0]) else "key", tokens[0])
    if authorizations:
        raise Unauthenticated("Authorization: expected `Bearer` and a key or token, or a signature.")
    return None
