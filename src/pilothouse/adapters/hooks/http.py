"""An address as a hook: a POST of the event's JSON, its answer the JSON that comes back.

    content-type: application/json
    x-pilothouse-signature: t=SECONDS,v1=HEX        HMAC-SHA256 of `SECONDS.BODY` by `events.hook_secret`

200 and JSON is an answer, 204 is null; anything else is a failure. `https` only, to public addresses only, unless the
configuration lists the `HOST:PORT` in `events.hooks_allow_private`; no redirect is followed; a name is looked up and
the connection goes to an address that was checked.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import msgspec

from pilothouse.adapters import outward
from pilothouse.core import reach
from pilothouse.engine.hooks import HookFailed

ANSWER_MAX = 5 * 1024 * 1024
"""Bytes; Lambda's bound for handlers."""
CONNECTIONS_MAX = 32
SIGNATURE = "x-pilothouse-signature"


class HttpHook:
    def __init__(
        self, url: str, secret: str, private: frozenset[str] = frozenset(), public: Callable[[str], bool] = reach.public
    ) -> None:
        """`private`: targets as `reach.target` reads them."""
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        self.name = f"{parts.scheme}://{parts.netloc}"
        self._url = url
        self._host = parts.hostname or ""
        self._private = _listed(self._host, port, private)
        self._https = parts.scheme == "https"
        self._secret = secret.encode()
        self._public = public
        self._session: aiohttp.ClientSession | None = None

    async def call(self, event: Mapping[str, Any], seconds: float) -> Any:
        """Raises HookFailed."""
        if not self._https and not self._private:
            raise HookFailed("an address that is not https is asked only where it is listed as private")
        if not self._private and outward.leads_inside(self._host, self._public):
            raise HookFailed(f"{self._host} is no public address")
        body = msgspec.json.encode(event)
        headers = {"content-type": "application/json", SIGNATURE: self._signed(body, int(time.time()))}
        timeout = aiohttp.ClientTimeout(total=seconds)
        try:
            async with self._open().post(
                self._url, data=body, headers=headers, allow_redirects=False, timeout=timeout
            ) as answer:
                return await _read(answer)
        except TimeoutError:
            raise HookFailed("it takes too long", "TimeoutError") from None
        except (aiohttp.ClientError, OSError) as error:
            raise HookFailed(f"it cannot be reached ({error or type(error).__name__})") from None

    def _signed(self, body: bytes, now: int) -> str:
        if not self._secret:
            return f"t={now}"
        digest = hmac.new(self._secret, b"%d.%b" % (now, body), hashlib.sha256).hexdigest()
        return f"t={now},v1={digest}"

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = outward.session(outward.anywhere if self._private else self._public, CONNECTIONS_MAX)
        return self._session

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()


def _listed(host: str, port: int, private: frozenset[str]) -> bool:
    """However the two are written. What is no target of a list is not on it."""
    try:
        where = reach.Target(reach.host(f"[{host}]" if ":" in host else host), port)
    except reach.BadTarget:
        return False
    return where in map(reach.target, private)


async def _read(answer: aiohttp.ClientResponse) -> Any:
    if answer.status == 204:
        return None
    if answer.status != 200:
        raise HookFailed(f"it answered {answer.status}", answer.headers.get("x-amz-function-error", "")[:100])
    try:
        raw = await outward.read(answer, ANSWER_MAX)
    except outward.TooLong:
        raise HookFailed(f"its answer has more than {ANSWER_MAX} bytes") from None
    try:
        return msgspec.json.decode(raw)
    except (ValueError, RecursionError, msgspec.MsgspecError):
        raise HookFailed("its answer is no JSON", "MarshalError") from None
