"""`pilothouse webhook`: where the organisation's events are sent, and what came of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import click

from pilothouse.cli import options, wire
from pilothouse.cli.client import Client
from pilothouse.cli.context import connected
from pilothouse.cli.errors import FAILED, Failure
from pilothouse.cli.table import deliveries as delivery_table
from pilothouse.cli.table import webhooks as webhook_table
from pilothouse.cli.terminal import Terminal
from pilothouse.cli.text import plain
from pilothouse.core.webhook import EVENTS

PING_S = 20.0
"""So long the outcome of a ping's first attempt is waited for: an attempt ends after 15."""
EVENT = click.option("--event", "events", type=click.Choice(EVENTS), multiple=True, help="Repeatable; all, if none.")


@click.group()
def webhook() -> None:
    """Send what happens to an address: list, create, change, remove, rotate, ping, replay."""


@webhook.command("list")
@click.pass_context
def list_webhooks(context: click.Context) -> None:
    """Show the webhooks, and how the last delivery of each went."""

    async def work(client: Client, terminal: Terminal) -> int:
        terminal.write(webhook_table(await client.webhooks()))
        return 0

    connected(context, work)


@webhook.command()
@click.argument("url")
@click.option("--name", default="webhook", show_default=True)
@EVENT
@click.pass_context
def create(context: click.Context, url: str, name: str, events: tuple[str, ...]) -> None:
    """Send events to URL from now on. The secret that they are signed with is shown this once."""

    async def work(client: Client, terminal: Terminal) -> int:
        made = await client.make_webhook({"url": url, "name": name, "events": list(events or EVENTS)})
        _secret(made, terminal)
        return 0

    connected(context, work)


@webhook.command()
@click.argument("id", type=options.UUID)
@click.option("--url")
@click.option("--name")
@EVENT
@click.option("--enable/--disable", "enabled", default=None)
@click.pass_context
def change(
    context: click.Context, id: str, url: str | None, name: str | None, events: tuple[str, ...], enabled: bool | None
) -> None:
    """Change what is given of the webhook ID."""
    wish: dict[str, Any] = {"url": url, "name": name, "events": list(events) or None, "enabled": enabled}
    if all(value is None for value in wish.values()):
        raise click.UsageError("Give --url, --name, --event, --enable or --disable.")

    async def work(client: Client, terminal: Terminal) -> int:
        terminal.write(webhook_table([await client.change_webhook(id, wish)]))
        return 0

    connected(context, work)


@webhook.command()
@click.argument("id", type=options.UUID)
@click.pass_context
def remove(context: click.Context, id: str) -> None:
    """Remove the webhook ID, with what waits for it and its dead letters."""

    async def work(client: Client, terminal: Terminal) -> int:
        await client.remove_webhook(id)
        terminal.write(f"removed {id}\n")
        return 0

    connected(context, work)


@webhook.command()
@click.argument("id", type=options.UUID)
@click.option("--grace", type=float, default=None, help="Seconds for which the old secret is good too; a day.")
@click.pass_context
def rotate(context: click.Context, id: str, grace: float | None) -> None:
    """Give the webhook ID a new secret, shown this once."""

    async def work(client: Client, terminal: Terminal) -> int:
        _secret(await client.rotate_webhook(id, grace), terminal)
        return 0

    connected(context, work)


@webhook.command()
@click.argument("id", type=options.UUID)
@click.pass_context
def ping(context: click.Context, id: str) -> None:
    """Send a test to the webhook ID and say what its receiver answered. Exit status 1 if it did not take it."""

    async def work(client: Client, terminal: Terminal) -> int:
        made = await client.ping_webhook(id)
        return await attempted(made, lambda: client.deliveries(id, ""), terminal)

    connected(context, work)


@webhook.command()
@click.argument("id", type=options.UUID)
@click.option("--state", type=click.Choice(["pending", "delivered", "dead", "withheld"]), help="Only these.")
@click.pass_context
def deliveries(context: click.Context, id: str, state: str | None) -> None:
    """Show what was sent to the webhook ID, newest first; dead: given up; withheld: not sent."""

    async def work(client: Client, terminal: Terminal) -> int:
        terminal.write(delivery_table(await client.deliveries(id, state or "")))
        return 0

    connected(context, work)


@webhook.command()
@click.argument("id", type=options.UUID)
@click.argument("delivery", required=False)
@click.option("--dead", is_flag=True, help="All dead letters.")
@click.pass_context
def replay(context: click.Context, id: str, delivery: str | None, dead: bool) -> None:
    """Send DELIVERY once more to the webhook ID, under the same id; or all its dead letters."""
    if (delivery is None) != dead:
        raise click.UsageError("Give a DELIVERY or --dead.")

    async def work(client: Client, terminal: Terminal) -> int:
        if delivery is None:
            terminal.write(f"replayed {await client.replay_dead(id)}\n")
        else:
            await client.replay(id, delivery)
            terminal.write(f"replayed {delivery}\n")
        return 0

    connected(context, work)


async def attempted(
    made: wire.Delivery, every: Callable[[], Awaitable[list[wire.Delivery]]], terminal: Terminal
) -> int:
    """Says what became of a test's first attempt; `every` asks for what was sent to the same address."""
    end = asyncio.get_running_loop().time() + PING_S
    while made.state == "pending" and not made.attempts and asyncio.get_running_loop().time() < end:
        await asyncio.sleep(0.2)
        found = [d for d in await every() if d.id == made.id]
        made = found[0] if found else made
    terminal.write(f"{plain(made.state)}{f': {plain(made.error)}' if made.error else ''}\n")
    return 0 if made.state == "delivered" else FAILED


def _secret(made: wire.MadeWebhook, terminal: Terminal) -> None:
    if not made.secret:
        raise Failure("The server did not hand out the secret.")
    terminal.write(f"{plain(made.secret)}\n")
    terminal.notice(f"secret of webhook {made.id}; it is not shown again")
