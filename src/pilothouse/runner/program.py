"""Arguments, the inherited socket, signals: the thin shell around the runner."""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import importlib
import json
import os
import signal
import socket
import sys
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

import structlog
from aiohttp import web

from pilothouse.adapters.agents.port import Make
from pilothouse.core.link import RunnerEvent
from pilothouse.core.outbox import Outbox
from pilothouse.runner.app import make_app
from pilothouse.runner.desk import Desk
from pilothouse.runner.feed import Feed
from pilothouse.runner.socket import Link
from pilothouse.runner.status import Status

AGENTS = {"claude": "pilothouse.adapters.agents.claude", "echo": "pilothouse.adapters.agents.echo"}
"""Modules with a `make`. Imported when chosen: an agent's library can cost a second."""
OWN = ("PYTHON", "LD_", "VIRTUAL_ENV")
"""Variables that are the runner's own. The agent's shell must not inherit them: with our LD_LIBRARY_PATH the
session's own programs would load our libraries."""
PR_SET_DUMPABLE = 4
CLOSE_SECONDS = 5.0
"""For the agent to end by itself; the sandbox ends what is left."""
_log = structlog.get_logger("runner")


def run(argv: Sequence[str] | None) -> int:
    arguments = _parse(argv)
    hide()
    shed_own_environment()
    if arguments.probe:
        return asyncio.run(probe(arguments))
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    try:
        listener = socket.socket(fileno=arguments.fd)
        listener.getsockname()
    except OSError as error:
        _log.error("bad_fd", fd=arguments.fd, error=str(error))
        return 2
    listener.set_inheritable(False)
    listener.setblocking(False)
    make: Make = importlib.import_module(AGENTS[arguments.agent]).make
    asyncio.run(serve(listener, make, arguments.workspace, arguments.model))
    return 0


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="pilothouse runner", description="The program beside the agent.")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--fd", type=int, help="an inherited listening socket")
    what.add_argument("--probe", action="store_true", help="prove that this agent asks before it acts; 0 if it does")
    parser.add_argument("--agent", choices=sorted(AGENTS), required=True)
    parser.add_argument("--model", default="", help="the model to begin with; the agent's own default without")
    parser.add_argument("--workspace", type=Path, default=Path.cwd(), help="the agent's working directory")
    return parser.parse_args(argv)


async def probe(arguments: argparse.Namespace) -> int:
    """One line of JSON: whether this version of the agent asks."""

    async def unheard(_: RunnerEvent) -> None:
        pass

    make: Make = importlib.import_module(AGENTS[arguments.agent]).make
    agent = make(unheard, arguments.workspace, arguments.model)
    verdict = await agent.probe()
    facts = agent.facts
    await agent.close()
    answer = {"agent": facts.name, "version": facts.version, "asks": verdict.asks, "detail": verdict.detail}
    sys.stdout.write(json.dumps(answer) + "\n")
    return 0 if verdict.asks else 1


def hide() -> None:
    """Makes this process untraceable and unreadable for others of its uid, the agent foremost: approvals live here."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_DUMPABLE)")


def shed_own_environment() -> None:
    for name in list(os.environ):
        if name.startswith(OWN):
            del os.environ[name]


async def serve(listener: socket.socket, make: Make, workspace: Path, model: str) -> None:
    """Serves until the shutdown command or a signal."""
    loop = asyncio.get_running_loop()
    feed = Feed(Outbox())
    status = Status(time.time)
    feed.taps.append(status.hear)
    agent = make(feed.emit, workspace, model)
    desk = Desk(agent, feed, status)
    link = Link(desk, uuid.uuid4().hex)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, desk.stopped.set)
    server = web.AppRunner(make_app(desk, link, workspace), access_log=None, shutdown_timeout=CLOSE_SECONDS)
    await server.setup()
    await web.SockSite(server, listener).start()
    _log.info("serving", agent=agent.facts.name, version=agent.facts.version)
    await desk.stopped.wait()
    await link.close()
    try:
        async with asyncio.timeout(CLOSE_SECONDS):
            await agent.close()
    except TimeoutError:
        _log.warning("agent_still_running")
    await desk.close()
    await feed.close()
    await server.cleanup()
