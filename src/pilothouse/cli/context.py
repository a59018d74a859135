"""What every command starts from: the person's terminal and a connected client, inside one event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import click

from pilothouse.cli.client import Client
from pilothouse.cli.local import Server
from pilothouse.cli.settings import Settings
from pilothouse.cli.terminal import Terminal

Work = Callable[[Client, Terminal], Awaitable[int]]


def connected(context: click.Context, work: Work, *, start: bool = False) -> None:
    """Runs `work` and exits with what it returns. `start`: a missing server is started for as long as that takes."""
    settings: Settings = context.obj

    async def whole() -> int:
        terminal = Terminal(color=settings.color, editor=settings.editor)
        async with Server(settings, start=start) as server, Client(server.find) as client:
            return await work(client, terminal)

    context.exit(asyncio.run(whole()))
