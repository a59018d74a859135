"""The proxy: the sessions' only way out, on the host. It holds the model credential, meters, and keeps to budgets.

    pilothouse proxy --home DIR --runtime DIR

It serves the sessions that the server admits, on sockets that it fetches from their holders, and keeps its records in
`<home>/proxy`. It outlives the server: a streaming answer is not cut when the server restarts. Told to end (SIGTERM),
it lets the answers under way finish; new calls wait in the sockets' backlogs for the next proxy.
"""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

from aiohttp import web

from pilothouse.adapters.models.registry import connect
from pilothouse.adapters.proxies import wire
from pilothouse.adapters.proxies.contacts import Contacts
from pilothouse.adapters.proxies.control import Control
from pilothouse.adapters.proxies.desk import Desk
from pilothouse.adapters.proxies.ledger import Ledger
from pilothouse.adapters.proxies.listeners import from_holders
from pilothouse.adapters.sandboxes.kernel import PR_SET_DUMPABLE, prctl
from pilothouse.adapters.sandboxes.owner import named
from pilothouse.adapters.sandboxes.privilege import become, own_parts

DRAIN_S = 30.0
"""For answers under way, when told to end."""


async def serve(home: Path, runtime: Path) -> None:
    desk = Desk(Ledger(home), Contacts(home), from_holders(runtime), connect)
    control = Control(desk).application()
    runner = web.AppRunner(control, handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    path = runtime / wire.SOCKET
    with suppress(FileNotFoundError):
        path.unlink()  # the lock says that whoever made it is gone
    before = os.umask(0o177)
    try:
        await web.UnixSite(runner, str(path)).start()
    finally:
        os.umask(before)
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    await ended.wait()
    desk.stop_accepting()
    with suppress(TimeoutError):
        async with asyncio.timeout(DRAIN_S):
            while desk.busy():  # noqa: ASYNC110 - an end, once
                await asyncio.sleep(0.05)
    await runner.cleanup()
    await desk.close()


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="pilothouse proxy", description="The sessions' way to the model.")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--runtime", type=Path, required=True)
    parser.add_argument("--user", default="", help="UID:GID to become, when started by root")
    given = parser.parse_args(argv)
    if given.user:
        become(named(given.user), (given.home, given.runtime, *own_parts()))
    prctl(PR_SET_DUMPABLE, 0)  # the server shares the uid, and need not read the credential here
    home = given.home / "proxy"
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (home / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            sys.stderr.write(f"pilothouse proxy: another one serves {given.home}\n")
            return 1
        asyncio.run(serve(home, given.runtime))
    return 0
