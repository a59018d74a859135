"""`pilothouse members` and `pilothouse organisations`: who belongs where, and as what."""

from __future__ import annotations

import click

from pilothouse.cli import options
from pilothouse.cli.client import Client
from pilothouse.cli.context import connected
from pilothouse.cli.table import members as member_table
from pilothouse.cli.table import organisations as organisation_table
from pilothouse.cli.terminal import Terminal
from pilothouse.cli.text import plain

ROLES = ("viewer", "operator", "approver", "admin")
IN = click.option("--organisation", metavar="ID", help="Another organisation than one's own; for the server's admins.")


@click.group()
def members() -> None:
    """List, add, change and remove the members of an organisation."""


@members.command("list")
@IN
@click.pass_context
def list_members(context: click.Context, organisation: str | None) -> None:
    """Show the members and their roles."""

    async def work(client: Client, terminal: Terminal) -> int:
        terminal.write(member_table(await client.members(organisation)))
        return 0

    connected(context, work)


@members.command("set")
@click.argument("account")
@click.option("--role", type=click.Choice(ROLES), help="What it may do.")
@click.option("--name", help="What others read.")
@click.option("--disable/--enable", "disabled", default=None, help="Shut it out, or let it in again.")
@IN
@click.pass_context
def change(
    context: click.Context,
    account: str,
    role: str | None,
    name: str | None,
    disabled: bool | None,
    organisation: str | None,
) -> None:
    """Add ACCOUNT, or change what is given of it. It holds at once."""
    if role is None and name is None and disabled is None:
        raise click.UsageError("Give --role, --name, --disable or --enable.")

    async def work(client: Client, terminal: Terminal) -> int:
        terminal.write(member_table([await client.set_member(account, organisation, role, name, disabled)]))
        return 0

    connected(context, work)


@members.command()
@click.argument("account")
@IN
@click.pass_context
def remove(context: click.Context, account: str, organisation: str | None) -> None:
    """Remove ACCOUNT. Its keys, sign-ins and share links are worthless at once; its sessions stay."""

    async def work(client: Client, terminal: Terminal) -> int:
        with options.known(f"member {account}"):
            await client.remove_member(account, organisation)
        terminal.write(f"removed {plain(account)}\n")
        return 0

    connected(context, work)


@click.group()
def organisations() -> None:
    """List and make organisations."""


@organisations.command("list")
@click.pass_context
def list_organisations(context: click.Context) -> None:
    """Show the organisations."""

    async def work(client: Client, terminal: Terminal) -> int:
        terminal.write(organisation_table(await client.organisations()))
        return 0

    connected(context, work)


@organisations.command()
@click.argument("id")
@click.option("--name", help="What people read.")
@click.pass_context
def make(context: click.Context, id: str, name: str | None) -> None:
    """Make the organisation ID. Add its first admin with `members set ACCOUNT --role admin --organisation ID`."""

    async def work(client: Client, terminal: Terminal) -> int:
        terminal.write(organisation_table([await client.make_organisation(id, name)]))
        return 0

    connected(context, work)
