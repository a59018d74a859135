"""The outgoing HTTP that the providers share: one `aiohttp` session, named time limits, bytes as they come."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp
from yarl import URL

from pilothouse.engine.upstream import Answer, UpstreamCut, UpstreamFailed

_PIECE = 64 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    connect_s: float = 15.0
    """A provider that does not take a connection for so long is away."""
    silence_s: float = 330.0
    """Nothing at all from the provider: an answer that is not streamed thinks for minutes, a streamed one sends pings.
    Shorter than the agent's own ten minutes, so that the agent hears why."""


class Client:
    def __init__(self, limits: Limits, connector: aiohttp.BaseConnector | None = None) -> None:
        self._limits = limits
        self._connector = connector
        self._session: aiohttp.ClientSession | None = None

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            timeout = aiohttp.ClientTimeout(
                total=None, sock_connect=self._limits.connect_s, sock_read=self._limits.silence_s
            )
            self._session = aiohttp.ClientSession(
                connector=self._connector or aiohttp.TCPConnector(limit=0),
                timeout=timeout,
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session

    @asynccontextmanager
    async def send(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> AsyncIterator[Answer]:
        try:
            response = await self._opened().request(
                method, URL(url, encoded=True), headers=headers, data=body or None, allow_redirects=False
            )
        except TimeoutError:
            raise UpstreamFailed("the model provider did not answer in time", 504) from None
        except (aiohttp.ClientError, OSError) as error:
            raise UpstreamFailed(f"the model provider cannot be reached ({type(error).__name__})") from None
        try:
            head = {name.lower(): value for name, value in response.headers.items()}
            yield Answer(response.status, head, _pieces(response))
        finally:
            response.close()  # at its end the connection has gone back already; before it, the provider sees us hang up

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()


async def _pieces(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    try:
        async for piece in response.content.iter_any():
            yield piece
    except TimeoutError:
        raise UpstreamCut("the model provider went silent") from None
    except (aiohttp.ClientError, OSError) as error:
        raise UpstreamCut(f"the answer broke off ({type(error).__name__})") from None
