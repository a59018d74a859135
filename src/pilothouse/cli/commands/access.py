"""`pilothouse ticket` and `pilothouse keys`: who gets in."""

from __future__ import annotations

from contextlib import AbstractContextManager

import click

from pilothouse.cli import options, wire
from pilothouse.cli.client import Client
from pilothouse.cli.commands.members import IN
from pilothouse.cli.context import connected
from pilothouse.cli.errors import Failure
from pilothouse.cli.table import keys as key_table
from pilothouse.cli.terminal import Terminal
from pilothouse.cli.text import plain

SCOPES = ("read", "run", "approve", "admin", "metrics")


FOR = click.option("--account", help="For this member instead of oneself.")


def _member(account: str | None, organisation: str | None) -> AbstractContextManager[None]:
    """What is not found is whom it is for."""
    where = f" in the organisation {organisation}" if organisation else ""
    return options.known(f"member {account}{where}" if account else f"such member{where}")


@click.command()
@FOR
@IN
@click.pass_context
def ticket(context: click.Context, account: str | None, organisation: str | None) -> None:
    """Print a fresh sign-in link; it works once, within ten minutes."""

    async def work(client: Client, terminal: Terminal) -> int:
        with _member(account, organisation):
            made = await client.ticket(account, organisation)
        terminal.write(plain(made.url) + "\n")
        return 0

    connected(context, work)


@click.group()
def keys() -> None:
    """Create, list and revoke API keys and key pairs."""


@keys.command()
@click.option("--name", help="What it is for.")
@click.option(
    "--scope", "scopes", multiple=True, metavar="SCOPE[,SCOPE]", help="read, run, approve, admin, metrics; repeatable."
)
@FOR
@IN
@click.option("--rate-per-s", "ratePerS", type=click.FloatRange(min=0), help="Requests a second; 0: no limit.")
@click.option("--rate-burst", "rateBurst", type=click.IntRange(min=1), help="Requests at once.")
@click.option("--quota-per-day", "quotaPerDay", type=click.IntRange(min=0), help="Jobs a day (UTC); 0: no limit.")
@click.option("--plain", "bare", is_flag=True, help="Print only the key; of a key pair ID:SECRET[:TOKEN].")
@click.option("--sigv4", is_flag=True, help="A key pair for clients that sign requests as AWS's do.")
@click.option("--session-token", "token", is_flag=True, help="With --sigv4: a session token too, which is then needed.")
@click.option("--expires", type=options.POSITIVE, metavar="SECONDS", help="With --sigv4: when it ends by itself.")
@click.pass_context
def create(
    context: click.Context, /, name: str | None, scopes: tuple[str, ...], account: str | None, organisation: str | None,
    bare: bool, sigv4: bool, token: bool, expires: float | None, **rates: float | None,
) -> None:  # fmt: skip
    """Make a key, or a key pair. It is shown this once; without --scope it has read, run and approve."""
    if not sigv4 and (token or expires):
        raise click.UsageError("--session-token and --expires go with --sigv4.")
    wanted = [part for scope in scopes for part in options.words("--scope", scope) or []]
    for scope in wanted:
        if scope not in SCOPES:
            raise click.UsageError(f"--scope: {scope!r} is none of {', '.join(SCOPES)}.")

    async def work(client: Client, terminal: Terminal) -> int:
        pair = {"kind": "sigv4", "expiresInS": expires, "sessionToken": token or None} if sigv4 else {}
        wish = {"name": name, "scopes": list(dict.fromkeys(wanted)) or None, "account": account, **pair, **rates}
        with options.named(), _member(account, organisation):
            made = await client.make_key(wish, organisation)
        lines = _pair(made, bare) if sigv4 else [made.key or ""]
        if not all(lines):
            raise Failure("The server did not hand out the key.")
        terminal.write("".join(f"{plain(line)}\n" for line in lines))
        if not bare:
            terminal.notice(f"key {made.id} with {', '.join(made.scopes)}; it is not shown again")
        return 0

    connected(context, work)


def _pair(made: wire.MadeKey, bare: bool) -> list[str]:
    """As AWS's clients read them from the environment. Empty lines: something is missing."""
    if not made.secret_access_key:
        return [""]
    parts = {"ACCESS_KEY_ID": made.id, "SECRET_ACCESS_KEY": made.secret_access_key}
    if made.session_token:
        parts["SESSION_TOKEN"] = made.session_token
    return [":".join(parts.values())] if bare else [f"AWS_{name}={value}" for name, value in parts.items()]


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
        with options.known(f"key {id}"):
            await client.revoke_key(id)
        terminal.write(f"revoked {id}\n")
        return 0

    connected(context, work)
