"""`pilothouse network`: what a session may reach, what it contacted and what it was refused."""

from __future__ import annotations

import asyncio
import signal
from contextlib import aclosing, suppress
from typing import Any

import click
import msgspec

from pilothouse.cli import options, wire
from pilothouse.cli.client import Client
from pilothouse.cli.context import connected
from pilothouse.cli.errors import NoServer
from pilothouse.cli.table import contacts
from pilothouse.cli.terminal import Terminal

AGAIN_S = 1.0
"""After the server went away; a follower waits for it."""


@click.command()
@click.argument("session", type=options.UUID)
@click.option("--follow", is_flag=True, help="Go on with what is contacted and refused.")
@click.option("--policy", type=click.Choice(options.POLICIES), help="Change what the session may reach.")
@click.option("--allow-domain", "domains", multiple=True, metavar="DOMAIN", help=options.DOMAIN_HELP)
@click.option("--json", "raw", is_flag=True, help="JSON: one object, or with --follow one a change.")
@click.pass_context
def network(
    context: click.Context, session: str, follow: bool, policy: str | None, domains: tuple[str, ...], raw: bool
) -> None:
    """Show what SESSION may reach, what it contacted and what it was refused."""

    async def work(client: Client, terminal: Terminal) -> int:
        with options.named(), options.known(f"session {session}"):
            if wish := options.egress(policy, domains):
                await client.change_egress(session, wish)
            view = await client.network(session)
        _show(terminal, view, raw, first=True)
        if follow:
            await _follow(client, terminal, session, raw, {_key(c): c for c in view.contacts})
        return 0

    connected(context, work)


async def _follow(client: Client, terminal: Terminal, session: str, raw: bool, shown: dict[Any, wire.Contact]) -> None:
    """To Ctrl-C, or to the end of the session; a server that is restarted is waited for."""
    loop, me = asyncio.get_running_loop(), asyncio.current_task()
    assert me is not None
    loop.add_signal_handler(signal.SIGINT, me.cancel)
    try:
        while True:
            try:
                async with aclosing(client.follow_network(session)) as views:
                    async for view in views:
                        fresh = [c for c in view.contacts if shown.get(_key(c)) != c]
                        shown |= {_key(c): c for c in fresh}
                        if fresh:
                            _show(terminal, msgspec.structs.replace(view, contacts=fresh), raw, first=False)
            except NoServer:
                terminal.notice("the server went away; waiting for it")
            await asyncio.sleep(AGAIN_S)
            with suppress(NoServer):
                await client.find_again()
    except asyncio.CancelledError:
        pass  # Ctrl-C is how a follower leaves
    finally:
        loop.remove_signal_handler(signal.SIGINT)


def _show(terminal: Terminal, view: wire.Network, raw: bool, *, first: bool) -> None:
    if raw:
        terminal.write_raw(msgspec.json.encode(view))
    else:
        terminal.write(contacts(view, head=first))


def _key(contact: wire.Contact) -> tuple[str, int, str]:
    return contact.host, contact.port, contact.reason
