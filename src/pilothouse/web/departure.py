"""How a server leaves, so that nobody is let in only to be thrown out, and not everybody comes back in one instant.

    the port is closed      who comes now is refused by the kernel, at once, and comes again
    all are sent away       with 1001, in an order by chance, spread over a time that grows with their number; who is
                            still there is served
    requests under way      have `server.DRAIN_S` to end

A second signal hurries all of it. `docs/install.md` says how long it takes at most.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import socket
from collections.abc import Callable, Sequence

import uvicorn

from pilothouse.web.hub import Hub
from pilothouse.web.streams import Streams

AWAY_PER_S = 1000
"""How many are sent away in a second: about as many as the next server lets in, on a machine that is busy."""
AWAY_S = 3.0
"""For all of them, however many: with what comes after it a stop stays below the ten seconds after which containers
are killed."""
STEP_S = 0.02
Away = Callable[[], None]


async def until_signal(server: uvicorn.Server, listening: socket.socket, hub: Hub, streams: Streams) -> None:
    """Serves until SIGTERM or SIGINT, then leaves."""
    loop = asyncio.get_running_loop()
    told, hurry = asyncio.Event(), asyncio.Event()

    def leave() -> None:
        if told.is_set():
            server.force_exit = True
            hurry.set()
        told.set()

    serving = loop.create_task(server._serve([listening]), name="serve")
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, leave)
    waiting = loop.create_task(told.wait(), name="signal")
    await asyncio.wait((serving, waiting), return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if told.is_set() and server.started:
        close_port(server, listening)
        await send_away([*hub.aways(), *streams.aways()], hurry)
        hub.all_away()  # who was on the way in when the port was closed
        streams.all_away()
    server.should_exit = True
    await serving


def close_port(server: uvicorn.Server, listening: socket.socket) -> None:
    for each in server.servers:
        each.close()
    listening.close()


async def send_away(everybody: Sequence[Away], hurry: asyncio.Event) -> None:
    """Returns when all have been told; `hurry` has all that are left told at once."""
    left = random.sample(everybody, len(everybody))
    steps = max(round(min(len(left) / AWAY_PER_S, AWAY_S) / STEP_S), 1)
    each = -(-len(left) // steps)
    while left:
        now, left = (left, []) if hurry.is_set() else (left[:each], left[each:])
        for away in now:
            away()
        if left:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STEP_S):
                    await hurry.wait()
