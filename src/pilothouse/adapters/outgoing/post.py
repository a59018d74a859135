"""A POST to an address that somebody named, as `engine.deliveries.Poster`.

`https` to public addresses only, unless the configuration lists the `HOST:PORT` (`webhooks.allow_private`), which may
be plain `http` too. A name is looked up for each connection, every address that it has is checked, and the connection
goes to one of them. No redirect is followed, no cookie kept, nothing compressed. An attempt ends after `ATTEMPT_S`; of
an answer nothing is read but its head.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

import aiohttp

from pilothouse.adapters import outward
from pilothouse.core import reach, webhook
from pilothouse.engine.deliveries import Answer, NotSent, Request

ATTEMPT_S = 15.0
"""From looking up the name to the head of the answer."""


class Post:
    def __init__(
        self,
        private: Iterable[reach.Target] = (),
        public: Callable[[str], bool] = reach.public,
        seconds: float = ATTEMPT_S,
    ) -> None:
        self._private = frozenset(private)
        self._public = public
        self._seconds = seconds
        self._open: dict[bool, aiohttp.ClientSession] = {}

    async def post(self, request: Request) -> Answer:
        """Raises NotSent."""
        try:
            where = webhook.target(request.url)
        except ValueError as error:
            raise NotSent(f"The address is none: {error}.") from None
        listed = where in self._private
        if not listed and not request.url.startswith("https://"):
            raise NotSent("An address that is not https is asked only where it is listed as private.")
        if not listed and outward.leads_inside(where.host, self._public):
            raise NotSent(f"{reach.not_public(where.host)}.")
        timeout = aiohttp.ClientTimeout(total=self._seconds)
        try:
            async with self._session(listed).post(
                request.url, data=request.body, headers=request.headers, allow_redirects=False, timeout=timeout
            ) as answer:
                return Answer(answer.status, answer.headers.get("retry-after", "")[:100])
        except TimeoutError:
            raise NotSent(f"No answer within {self._seconds:g} s.") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise NotSent(_why(error)) from None

    def _session(self, listed: bool) -> aiohttp.ClientSession:
        """Without a bound of its own: each lane has one, and they must not wait for each other."""
        if listed not in self._open:
            self._open[listed] = outward.session(outward.anywhere if listed else self._public, 0, once=True)
        return self._open[listed]

    async def close(self) -> None:
        await asyncio.gather(*[session.close() for session in self._open.values()])


def _why(error: Exception) -> str:
    """In words of ours: a library's may have the whole address in them, which may be a secret."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientConnectorSSLError):
        return "Its certificate is not good."
    if isinstance(error, aiohttp.ClientConnectorError):
        text = error.os_error.strerror or type(error.os_error).__name__
        return f"It cannot be reached: {text}."
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "It hung up without an answer."
    return f"It cannot be reached ({type(error).__name__})."
