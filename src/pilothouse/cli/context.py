"""What every command starts from: the person's terminal and a connected client, inside one event loop."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable

import click

from pilothouse.cli.client import Client
from pilothouse.cli.errors import Failure
from pilothouse.cli.local import Server
from pilothouse.cli.settings import Settings
from pilothouse.cli.terminal import Terminal

Work = Callable[[Client, Terminal], Awaitable[int]]


def connected(context: click.Context, work: Work, *, start: bool = False) -> None:
    """Runs `work` and exits with what it returns. `start`: a missing server is started for as long as that takes."""
    settings: Settings = context.obj

    async def whole() -> int:
        _end_tidily()
        terminal = Terminal(color=settings.color, editor=settings.editor)
        async with Server(settings, start=start) as server, Client(server.find) as client:
            return await work(client, terminal)

    try:
        context.exit(asyncio.run(whole()))
    except asyncio.CancelledError:
        raise Failure("ended by a signal") from None


def _end_tidily() -> None:
    """A command that is told to end takes the server that it started with it."""
    me = asyncio.current_task()
    assert me is not None
    for number in (signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, me.cancel)
