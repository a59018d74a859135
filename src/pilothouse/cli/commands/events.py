"""`pilothouse pub` and `pilothouse sub`: the event API on the command line."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from typing import Any

import click
import msgspec

from pilothouse.cli.client import Client
from pilothouse.cli.context import connected
from pilothouse.cli.errors import FAILED, Failure, Refused
from pilothouse.cli.listener import Hole, Item, Listener, Told
from pilothouse.cli.terminal import Terminal
from pilothouse.cli.text import plain
from pilothouse.core import channels
from pilothouse.core.appsync import NOT_AUTHORIZED
from pilothouse.core.channels import BadChannel
from pilothouse.core.namespaces import BUILT_IN
from pilothouse.core.publish import EVENT_MAX, EVENTS_MAX

LINES_MAX = 100_000
"""Of standard input: what is longer wants a client of its own."""


@click.command()
@click.argument("channel")
@click.argument("values", nargs=-1, required=True, metavar="JSON...")
@click.pass_context
def pub(context: click.Context, channel: str, values: tuple[str, ...]) -> None:
    """Publish events to CHANNEL: each JSON is one. `-` reads them from standard input, one a line."""
    where = _checked(channel, wild=False)
    events = [_event(text, f"JSON {number}") for number, text in enumerate(_given(values), 1)]

    async def work(client: Client, terminal: Terminal) -> int:
        failed = 0
        for first in range(0, len(events), EVENTS_MAX):
            with _hinted(where):
                done = await client.publish(where, events[first : first + EVENTS_MAX])
            for one in done.failed:
                terminal.notice(f"event {first + one.index + 1}: {plain(one.message)}")
            failed += len(done.failed)
        return FAILED if failed else 0

    connected(context, work)


@click.command()
@click.argument("channel")
@click.option("--after", type=click.IntRange(min=0), help="Begin behind this number of the channel's history.")
@click.option("--count", type=click.IntRange(min=1), help="End after so many events.")
@click.option("--json", "raw", is_flag=True, help="One object a line, with seq, at and channel where they are known.")
@click.pass_context
def sub(context: click.Context, channel: str, after: int | None, count: int | None, raw: bool) -> None:
    """Show what is published to CHANNEL, until Ctrl-C. It may end in /*: then each event has its channel before it."""
    where = _checked(channel, wild=True)

    async def work(client: Client, terminal: Terminal) -> int:
        loop, me = asyncio.get_running_loop(), asyncio.current_task()
        assert me is not None
        loop.add_signal_handler(signal.SIGINT, me.cancel)
        items = Listener(client, where, after, terminal.notice).follow()
        try:
            left = count
            with _hinted(where):
                async with aclosing(items):
                    async for item in items:
                        _show(terminal, item, raw)
                        if isinstance(item, Told) and left is not None:
                            left -= 1
                            if not left:
                                return 0
        except asyncio.CancelledError:
            pass  # Ctrl-C is how a subscriber leaves
        finally:
            loop.remove_signal_handler(signal.SIGINT)
        return 0

    connected(context, work)


def _checked(channel: str, *, wild: bool) -> str:
    try:
        return (channels.pattern(channel) if wild else channels.channel(channel)).path
    except BadChannel as error:
        raise click.UsageError(f"CHANNEL: {error.message.partition(': ')[2]}") from None


@contextmanager
def _hinted(where: str) -> Iterator[None]:
    """On the wire a namespace that is not there is one that the caller may not use."""
    try:
        yield
    except Refused as refusal:
        name = where[1:].partition("/")[0]
        if refusal.status == 401 or refusal.message != NOT_AUTHORIZED or name in BUILT_IN:
            raise
        hint = f"Or there is no namespace `{name}`: namespaces are in pilothouse.toml, see protocol/events.md."
        raise Failure(f"{refusal.message}\n{hint}") from None


def _given(values: tuple[str, ...]) -> list[str]:
    if values != ("-",):
        return list(values)
    lines = [line for line in sys.stdin.read().splitlines() if line.strip()]
    if not 0 < len(lines) <= LINES_MAX:
        raise click.UsageError(f"Standard input: {len(lines)} events, 1 to {LINES_MAX} are read.")
    return lines


def _event(text: str, name: str) -> str:
    try:
        msgspec.json.decode(text)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise click.UsageError(f"{name}: {text[:40]!r} is no JSON; a text is '\"text\"'.") from None
    if len(text.encode()) > EVENT_MAX:
        raise click.UsageError(f"{name}: more than {EVENT_MAX} bytes.")
    return text


_ONE_LINE = str.maketrans("\n\r", "  ")
"""JSON has line breaks between its parts alone; whoever reads line by line would take what follows one for an event."""


def _show(terminal: Terminal, item: Item, raw: bool) -> None:
    if isinstance(item, Hole):
        terminal.notice(f"events {item.start} to {item.end} are not kept any more")
    elif raw:
        known = {"channel": item.channel, "seq": item.seq, "at": item.at}
        told: dict[str, Any] = {name: value for name, value in known.items() if value is not None}
        terminal.write_raw(msgspec.json.encode(told | {"event": msgspec.Raw(item.event.translate(_ONE_LINE).encode())}))
    else:
        told_where = f"{item.channel} " if item.channel else ""
        terminal.write(told_where + plain(item.event.translate(_ONE_LINE)) + "\n")
