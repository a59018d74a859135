"""Documents of issuers, over HTTPS. What they name as the next address is theirs, not ours: no address leads inside.

* `https` only; `http` only to this machine, for an issuer with `allow_private`
* a name is looked up, every address checked, and the connection goes to an address that was checked; one that is not
  public only for an issuer with `allow_private`, and only the issuer's own host
* no redirect is followed; an answer has one time-out and one size, and is a JSON object
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from pilothouse.adapters import outward
from pilothouse.core import reach
from pilothouse.core.claims import Issuer
from pilothouse.core.token import strict_object

TIMEOUT_S = 5.0
"""Below the handshake of a socket (10 s), so that who waits for it is told why."""
BYTES_MAX = 512 * 1024
"""A set of a hundred keys with their certificates has half of it."""
CONNECTIONS_MAX = 8
LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})


class NotFetched(Exception):
    """The document cannot be had; the message says why, for the server's log."""


class Away(NotFetched):
    """Nobody answers there at this moment, or says that it cannot."""


class Documents:
    """One per server. `close` it."""

    def __init__(self, public: Callable[[str], bool] = reach.public, timeout_s: float = TIMEOUT_S) -> None:
        self._public = public
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._sessions: dict[bool, aiohttp.ClientSession] = {}

    async def get(self, issuer: Issuer, url: str) -> dict[str, Any]:
        """Raises NotFetched."""
        return await self._ask("GET", issuer, url)

    async def post(
        self, issuer: Issuer, url: str, form: Mapping[str, str], headers: Mapping[str, str]
    ) -> dict[str, Any]:
        """Raises NotFetched, the document's `error` in its message if it has one."""
        return await self._ask("POST", issuer, url, data=form, headers=headers)

    async def _ask(self, method: str, issuer: Issuer, url: str, **what: Any) -> dict[str, Any]:
        session = self._session(may_be_private(issuer, url))
        check_address(issuer, url)
        host = (urlsplit(url).hostname or "").lower()
        if not may_be_private(issuer, url) and outward.leads_inside(host, self._public):
            raise NotFetched(f"{host} is no public address")
        try:
            async with session.request(method, url, allow_redirects=False, **what) as answer:
                raw = await outward.read(answer, BYTES_MAX)
                if answer.status >= 500:
                    raise Away(f"{host} answered {answer.status}")
                if method == "GET" and answer.status != 200:
                    raise NotFetched(f"{host} answered {answer.status}")
                found = strict_object(raw)
                if answer.status != 200:
                    raise NotFetched(f"{host} answered {answer.status} {str(found.get('error', ''))[:60]!r}")
                return found
        except TimeoutError:
            raise Away(f"{host} takes too long") from None
        except outward.TooLong as error:
            raise NotFetched(str(error)) from None
        except ValueError as error:
            raise NotFetched(f"{host} answered no JSON object ({error})") from None
        except (aiohttp.ClientError, OSError) as error:
            raise Away(f"{host} cannot be reached ({error or type(error).__name__})") from None

    def _session(self, private: bool) -> aiohttp.ClientSession:
        found = self._sessions.get(private)
        if found is None:
            may = outward.anywhere if private else self._public
            found = outward.session(may, CONNECTIONS_MAX, timeout=self._timeout, once=True)
            self._sessions[private] = found
        return found

    async def close(self) -> None:
        for session in self._sessions.values():
            await session.close()


def may_be_private(issuer: Issuer, url: str) -> bool:
    """Whether what is behind the URL may have no public address: the issuer's own host, where that is configured."""
    own = {urlsplit(issuer.issuer).netloc.lower(), urlsplit(issuer.discovery).netloc.lower()}
    return issuer.allow_private and urlsplit(url).netloc.lower() in own


def check_address(issuer: Issuer, url: str) -> None:
    """Raises NotFetched for a URL that is not asked, whatever stands behind it."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise NotFetched("an address of the issuer is no URL") from None
    if parts.username is not None or parts.password is not None or parts.fragment or not url.isprintable():
        raise NotFetched("an address of the issuer is no URL of a document")
    if not host or not host.isascii() or "%" in host:  # other spellings of a number are no numbers yet
        raise NotFetched("an address of the issuer has no host in plain letters")
    if parts.scheme == "http" and host.lower() in LOCAL and may_be_private(issuer, url):
        return
    if parts.scheme != "https":
        raise NotFetched(f"{host} is not asked but by https")
