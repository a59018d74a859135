"""How this server asks addresses that somebody named: no name leads inside.

A name is looked up once for each connection, every address that it has is checked, and the connection goes to one that
was checked: what the name says a moment later changes nothing. A host that is a number is checked as it stands. There
are no cookies, no proxy of the environment, no compression; redirects are the caller's to refuse (`allow_redirects`).
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from pilothouse.core import reach

May = Callable[[str], bool]
"""Whether an address may be connected to."""
LOOKUPS_MAX = 16
"""Names that are looked up at a time, in threads that do nothing else: where nobody answers for a name, a look-up takes
half a minute, and what is not asked outside must not wait for it."""
HEADERS = {"accept": "application/json", "accept-encoding": "identity", "user-agent": "pilothouse"}


class TooLong(ValueError):
    """The answer has more bytes than were wanted."""


def anywhere(address: str) -> bool:
    return True


def is_number(host: str) -> bool:
    """Whether nobody would look it up: an address, or what some readers take for one (`127.1`, `2130706433`)."""
    return ":" in host or host.replace(".", "").isdigit()


def leads_inside(host: str, may: May = reach.public) -> bool:
    """A host that is not looked up has to be a good address as it stands."""
    return is_number(host) and not may(host)


def session(
    may: May, connections: int, *, timeout: aiohttp.ClientTimeout | None = None, once: bool = False
) -> aiohttp.ClientSession:
    """Inside the event loop. `once`: a connection serves one request."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            resolver=Checked(may), use_dns_cache=False, limit=connections, force_close=once
        ),
        timeout=timeout or aiohttp.ClientTimeout(),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers=HEADERS,
        auto_decompress=False,
        trust_env=False,
    )  # fmt: skip


async def read(answer: aiohttp.ClientResponse, most: int) -> bytes:
    """Raises TooLong."""
    raw = bytearray()
    async for chunk in answer.content.iter_any():
        raw += chunk
        if len(raw) > most:
            raise TooLong(f"the answer has more than {most} bytes")
    return bytes(raw)


class Checked(AbstractResolver):
    """Every address of the name is one that we may connect to, or there is none."""

    def __init__(self, may: May) -> None:
        self._may = may
        self._threads = ThreadPoolExecutor(LOOKUPS_MAX, "lookup")  # they end with this object, if nobody closes it

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await asyncio.get_running_loop().run_in_executor(
            self._threads, lambda: socket.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM)
        )
        out: list[ResolveResult] = []
        for kind, _, proto, _, address in found:
            where = str(address[0])
            if not self._may(where):
                raise OSError(errno.EACCES, reach.not_public(host))
            out.append(
                ResolveResult(
                    hostname=host, host=where, port=port, family=kind, proto=proto, flags=socket.AI_NUMERICHOST
                )
            )
        return out

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
