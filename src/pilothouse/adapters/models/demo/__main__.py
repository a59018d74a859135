"""`python -m pilothouse.adapters.models.demo`: the demo model alone, on loopback, with control endpoints."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from pathlib import Path

from aiohttp import web

from pilothouse.adapters.models.demo.app import PACE, application


async def serve(port: int, port_file: str | None, pace: float) -> None:
    runner = web.AppRunner(
        application(pace, control=True), handler_cancellation=True, access_log=None, shutdown_timeout=0.1
    )
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port)
    await site.start()
    chosen = runner.addresses[0][1]
    if port_file:
        Path(port_file).write_text(f"{chosen}\n")  # noqa: ASYNC240 - once, before anything is served
    sys.stdout.write(f"demo model on http://127.0.0.1:{chosen}\n")
    sys.stdout.flush()
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    await ended.wait()
    await runner.cleanup()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m pilothouse.adapters.models.demo", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0: any free one")
    parser.add_argument("--port-file", help="file to write the port to")
    parser.add_argument("--pace", type=float, default=PACE, help="seconds between two words")
    given = parser.parse_args()
    asyncio.run(serve(given.port, given.port_file, given.pace))


main()
