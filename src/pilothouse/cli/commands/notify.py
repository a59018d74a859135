"""`pilothouse notify`: how one is told when one is not looking. Browsers subscribe on the page; here they are listed,
tested and changed like the others."""

from __future__ import annotations

import sys

import click

from pilothouse.cli import options
from pilothouse.cli.client import Client
from pilothouse.cli.commands.webhook import attempted
from pilothouse.cli.context import connected
from pilothouse.cli.table import deliveries as delivery_table
from pilothouse.cli.table import notifiers as notifier_table
from pilothouse.cli.terminal import Terminal
from pilothouse.core.api.outgoing import NotifierChange
from pilothouse.core.notice import EVENTS
from pilothouse.core.webhook import URL_MAX

EVENT = click.option("--event", "events", type=click.Choice(EVENTS), multiple=True, help="What to tell of; repeatable.")
SESSIONS = click.option("--sessions", type=click.Choice(["own", "all"]), help="Own, or all that you may see.")


@click.group()
def notify() -> None:
    """Be told when you are not looking: list, slack, change, test, deliveries, remove."""


@notify.command("list")
@click.pass_context
def list_notifiers(context: click.Context) -> None:
    """Show your browsers and addresses, and how the last delivery to each went."""

    async def work(client: Client, terminal: Terminal) -> int:
        terminal.write(notifier_table(await client.notifiers()))
        return 0

    connected(context, work)


@notify.command()
@click.option("--name")
@EVENT
@SESSIONS
@click.pass_context
def slack(context: click.Context, name: str | None, events: tuple[str, ...], sessions: str | None) -> None:
    """Be told by Slack, or what takes the same. The address is asked for, or read from standard input: it is a secret.

    Unless --event says otherwise: of approvals and questions that wait, of your own sessions.
    """
    url = _address()

    async def work(client: Client, terminal: Terminal) -> int:
        made = await client.notify_slack(url, name=name, events=list(events) or None, sessions=sessions)
        terminal.write(notifier_table([made]))
        return 0

    connected(context, work)


@notify.command()
@click.argument("id", type=options.UUID)
@click.option("--name")
@EVENT
@SESSIONS
@click.option("--enable/--disable", "enabled", default=None)
@click.pass_context
def change(
    context: click.Context, id: str, name: str | None, events: tuple[str, ...], sessions: str | None,
    enabled: bool | None,
) -> None:  # fmt: skip
    """Change what is given of the notifications ID."""
    wish = NotifierChange(name=name, events=list(events) or None, sessions=sessions, enabled=enabled)
    if wish == NotifierChange():
        raise click.UsageError("Give --name, --event, --sessions, --enable or --disable.")

    async def work(client: Client, terminal: Terminal) -> int:
        terminal.write(notifier_table([await client.change_notifier(id, wish)]))
        return 0

    connected(context, work)


@notify.command()
@click.argument("id", type=options.UUID)
@click.pass_context
def test(context: click.Context, id: str) -> None:
    """Send a test to ID and say what became of it. Exit status 1 if it was not taken."""

    async def work(client: Client, terminal: Terminal) -> int:
        made = await client.test_notifier(id)
        return await attempted(made, lambda: client.notified(id, ""), terminal)

    connected(context, work)


@notify.command()
@click.argument("id", type=options.UUID)
@click.option("--state", type=click.Choice(["pending", "delivered", "dead", "withheld"]), help="Only these.")
@click.pass_context
def deliveries(context: click.Context, id: str, state: str | None) -> None:
    """Show what was sent to ID, newest first; withheld: not wanted any more, or not yours to see."""

    async def work(client: Client, terminal: Terminal) -> int:
        terminal.write(delivery_table(await client.notified(id, state or "")))
        return 0

    connected(context, work)


@notify.command()
@click.argument("id", type=options.UUID)
@click.pass_context
def remove(context: click.Context, id: str) -> None:
    """Tell ID nothing any more, and forget it."""

    async def work(client: Client, terminal: Terminal) -> int:
        await client.remove_notifier(id)
        terminal.write(f"removed {id}\n")
        return 0

    connected(context, work)


def _address() -> str:
    """Not as an argument, which everybody on this machine could read. Raises UsageError."""
    if sys.stdin.isatty():
        text = str(click.prompt("Address", hide_input=True, err=True))
    else:
        text = sys.stdin.buffer.read(URL_MAX + 2).decode(errors="replace")
    if not text.strip():
        raise click.UsageError("Give the address on standard input.")
    return text.strip()
