"""The proxy's own way out: a name is looked up here, every address is checked, and the connection goes to the very
address that was checked, so a name that leads elsewhere the next moment gains nothing."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias

from pilothouse.core import reach
from pilothouse.core.contacts import Reason

LOOKUPS_MAX = 16
"""Threads for look-ups, of all sessions. They have their own: names that take long must hold up nothing else."""
TURNS = 3
"""Look-ups of one session at one time: its slow names hold up only its own."""
TRIED_MAX = 4
"""Addresses of one name that are tried."""
ADDRESSES_MAX = 64
"""Of one name; each is checked."""

Resolve: TypeAlias = Callable[[str, int], Awaitable[list[str]]]


class Unreachable(Exception):
    """`reason` is one of those of `core.contacts`; the message names the host."""

    def __init__(self, status: int, reason: Reason, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.reason: Reason = reason


class Outside:
    """One per proxy."""

    def __init__(
        self, private: tuple[str, ...] = (), lookup: Resolve | None = None, public: Callable[[str], bool] | None = None
    ) -> None:
        self.private = private
        self._threads: ThreadPoolExecutor | None = None
        self._lookup = lookup or self._resolve
        self._public = public or (lambda address: reach.public(address) and not own(address))

    @property
    def private(self) -> tuple[str, ...]:
        return tuple(map(str, self._private))

    @private.setter
    def private(self, listed: tuple[str, ...]) -> None:
        """`host:port` whose address need not be public. Raises BadTarget."""
        self._private = frozenset(reach.target(text) for text in listed)

    async def connect(
        self, target: reach.Target, seconds: float, turn: asyncio.Semaphore
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """`turn`: for a look-up. Raises Unreachable."""
        try:
            async with asyncio.timeout(seconds):
                addresses = await self._checked(target, turn)
                return await _first(addresses[:TRIED_MAX], target.port)
        except TimeoutError:
            raise Unreachable(504, "no_answer", f"{target} does not answer") from None
        except OSError as error:
            why = "refuses the connection" if isinstance(error, ConnectionRefusedError) else "cannot be reached"
            raise Unreachable(504, "no_answer", f"{target} {why}") from None

    async def _checked(self, target: reach.Target, turn: asyncio.Semaphore) -> list[str]:
        def over(looked: asyncio.Future[list[str]]) -> None:
            turn.release()
            if not looked.cancelled():
                looked.exception()  # nobody may be left to see it

        await turn.acquire()
        looking = asyncio.ensure_future(self._lookup(target.host, target.port))
        looking.add_done_callback(over)
        try:
            addresses = await asyncio.shield(looking)  # whoever gives up keeps the turn: the thread is busy still
        except (socket.gaierror, UnicodeError):
            addresses = []
        if not addresses:
            raise Unreachable(502, "not_found", f"there is no address for the name {target.host}")
        if target not in self._private and not all(map(self._public, addresses[:ADDRESSES_MAX])):
            raise Unreachable(403, "not_public", reach.not_public(target.host))
        return addresses[:ADDRESSES_MAX]

    async def _resolve(self, host: str, port: int) -> list[str]:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(LOOKUPS_MAX, "lookup")
        found = await asyncio.get_running_loop().run_in_executor(
            self._threads, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        )
        return list(dict.fromkeys(str(info[4][0]) for info in found))

    def close(self) -> None:
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)


def own(address: str) -> bool:
    """Whether the address is one of this machine's: behind it is what no firewall keeps from its own processes."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.bind((address, 0))
    except OSError:
        return False
    return True


async def _first(addresses: list[str], port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """The first that answers; each but the last gets a part of the time."""
    failed: OSError = OSError("no address")
    for address in addresses:
        try:
            async with asyncio.timeout(4.0 if address != addresses[-1] else None):
                return await asyncio.open_connection(address, port, limit=128 * 1024)
        except OSError as error:  # TimeoutError is one
            failed = error
    raise failed
