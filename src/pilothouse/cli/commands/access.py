"""`pilothouse ticket` and `pilothouse keys`: who gets in."""

from __future__ import annotations

import click

from pilothouse.cli import options
from pilothouse.cli.client import Client
from pilothouse.cli.commands.members import IN
from pilothouse.cli.context import connected
from pilothouse.cli.errors import Failure
from pilothouse.cli.table import keys as key_table
from pilothouse.cli.terminal import Terminal
from pilothouse.cli.text import plain

SCOPES = ("read", "run", "approve", "admin")


FOR = click.option("--account", help="For this member instead of oneself.")


@click.command()
@FOR
@IN
@click.pass_context
def ticket(context: click.Context, account: str | None, organisation: str | None) -> None:
    """Print a fresh sign-in link; it works once, within ten minutes."""

    async def work(client: Client, terminal: Terminal) -> int:
        terminal.write(plain((await client.ticket(account, organisation)).url) + "\n")
        return 0

    connected(context, work)


@click.group()
def keys() -> None:
    """Create, list and revoke API keys."""


@keys.command()
@click.option("--name", help="What it is for.")
@click.option(
    "--scope", "scopes", multiple=True, metavar="SCOPE[,SCOPE]", help="read, run, approve, admin; repeatable."
)
@FOR
@IN
@click.option("--plain", "bare", is_flag=True, help="Print only the key.")
@click.pass_context
def create(
    context: click.Context,
    name: str | None,
    scopes: tuple[str, ...],
    account: str | None,
    organisation: str | None,
    bare: bool,
) -> None:
    """Make a key. It is shown this once; without --scope it has read, run and approve."""
    wanted = [part for scope in scopes for part in options.words("--scope", scope) or []]
    for scope in wanted:
        if scope not in SCOPES:
            raise click.UsageError(f"--scope: {scope!r} is none of {', '.join(SCOPES)}.")

    async def work(client: Client, terminal: Terminal) -> int:
        made = await client.make_key(name, list(dict.fromkeys(wanted)) or None, account, organisation)
        if not made.key:
            raise Failure("The server did not hand out the key.")
        if bare:
            terminal.write(f"{plain(made.key)}\n")
        else:
            terminal.write(f"{plain(made.key)}\n")
            terminal.notice(f"key {made.id} with {', '.join(made.scopes)}; it is not shown again")
        return 0

    connected(context, work)


@keys.command("list")
@click.pass_context
def list_keys(context: click.Context) -> None:
    """Show the keys, without their secrets."""

    async def work(client: Client, terminal: Terminal) -> int:
        terminal.write(key_table(await client.keys()))
        return 0

    connected(context, work)


@keys.command()
@click.argument("id", type=options.ANY_ID)
@click.pass_context
def revoke(context: click.Context, id: str) -> None:
    """Make the key with this ID worthless at once."""

    async def work(client: Client, terminal: Terminal) -> int:
        await client.revoke_key(id)
        terminal.write(f"revoked {id}\n")
        return 0

    connected(context, work)
