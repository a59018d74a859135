"""`pilothouse audit`: who did what, from where; and whether an exported file is whole."""

from __future__ import annotations

import asyncio
import re
import signal
from collections.abc import Iterator
from contextlib import suppress
from typing import BinaryIO

import click
import msgspec

from pilothouse.cli import wire
from pilothouse.cli.client import PAGE, Client
from pilothouse.cli.commands.members import IN
from pilothouse.cli.context import connected
from pilothouse.cli.errors import FAILED, NoServer
from pilothouse.cli.table import audited
from pilothouse.cli.terminal import Terminal
from pilothouse.cli.text import plain
from pilothouse.core import chain

AGAIN_S = 1.0
"""How often a follower asks."""
LINE_MAX = 1024 * 1024
"""Bytes of one line of a file: a record has a few thousand."""
_HEAD = re.compile(r"([0-9]{1,15}):([0-9a-f]{64})\Z")


@click.group(invoke_without_command=True)
@click.option("--after", type=click.IntRange(min=0), default=0, metavar="SEQ", help="Begin after this record.")
@click.option("--follow", is_flag=True, help="Go on with what happens.")
@click.option("--json", "raw", is_flag=True, help="The records as they are, one a line: what `verify` reads.")
@IN
@click.pass_context
def audit(context: click.Context, after: int, follow: bool, raw: bool, organisation: str | None) -> None:
    """Show who did what to which thing, from where, and what came of it."""
    if context.invoked_subcommand is not None:
        return

    async def work(client: Client, terminal: Terminal) -> int:
        seq = await _all(client, terminal, after, raw, organisation, head=True)
        if follow:
            await _follow(client, terminal, seq, raw, organisation)
        return 0

    connected(context, work)


@audit.command()
@IN
@click.pass_context
def head(context: click.Context, organisation: str | None) -> None:
    """Print the newest record's number and hash; keep it elsewhere, and give it to `verify --head`."""

    async def work(client: Client, terminal: Terminal) -> int:
        found = await client.audit_head(organisation)
        terminal.write(plain(f"{found.seq}:{found.hash}") + "\n")
        return 0

    connected(context, work)


@audit.command()
@click.argument("file", type=click.File("rb"))
@click.option("--head", "known", metavar="SEQ:HASH", help="What `audit head` printed: only so is a missing end seen.")
@click.pass_context
def verify(context: click.Context, file: BinaryIO, known: str | None) -> None:
    """Check FILE (- for standard input), as written by `audit --json`: that no record was changed, removed or moved."""
    match = _HEAD.match(known) if known is not None else None
    if known is not None and match is None:
        raise click.UsageError("--head: SEQ:HASH, as `pilothouse audit head` prints it.")
    found = chain.verify(_lines(file), chain.Head(int(match[1]), match[2]) if match else None)
    if isinstance(found, chain.Broken):
        click.echo(f"broken at record {found.seq} (line {found.line}): {plain(found.why)}", err=True)
        context.exit(FAILED)
    click.echo(f"whole: records {found.first} to {found.last} of {plain(found.org)}, newest {found.last}:{found.hash}")
    if found.first > 1:
        click.echo(f"It begins with record {found.first}, after {found.prev}: what came before is not in it.")
    if match is None:
        click.echo("Whether the end is missing is seen only with --head.")


def _lines(file: BinaryIO) -> Iterator[bytes]:
    while line := file.readline(LINE_MAX):
        yield line.removesuffix(b"\n")


async def _all(
    client: Client, terminal: Terminal, after: int, raw: bool, organisation: str | None, *, head: bool = False
) -> int:
    """Every record after a number. The number of the last."""
    while True:
        page = await client.audit(after, organisation)
        if page:
            _show(terminal, page, raw, head=head)
            after, head = msgspec.json.decode(page[-1], type=wire.Audited).seq, False
        if len(page) < PAGE:
            return after


async def _follow(client: Client, terminal: Terminal, after: int, raw: bool, organisation: str | None) -> None:
    """To Ctrl-C; a server that is restarted is waited for."""
    loop, me = asyncio.get_running_loop(), asyncio.current_task()
    assert me is not None
    loop.add_signal_handler(signal.SIGINT, me.cancel)
    try:
        while True:
            await asyncio.sleep(AGAIN_S)
            try:
                after = await _all(client, terminal, after, raw, organisation)
            except NoServer:
                terminal.notice("the server went away; waiting for it")
                with suppress(NoServer):
                    await client.find_again()
    except asyncio.CancelledError:
        pass  # Ctrl-C is how a follower leaves
    finally:
        loop.remove_signal_handler(signal.SIGINT)


def _show(terminal: Terminal, page: list[bytes], raw: bool, *, head: bool) -> None:
    if raw:
        for line in page:
            terminal.write_raw(line)
    else:
        terminal.write(audited([msgspec.json.decode(line, type=wire.Audited) for line in page], head=head))
