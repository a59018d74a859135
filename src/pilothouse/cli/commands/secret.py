"""`pilothouse secret`: values that shells and agents find in their environment, and nobody is shown."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from pilothouse.cli import options, table
from pilothouse.cli.client import Client
from pilothouse.cli.context import connected
from pilothouse.cli.terminal import Terminal
from pilothouse.cli.text import plain
from pilothouse.core import secret as rules
from pilothouse.core.errors import PilothouseError

SESSION = click.option("--session", type=options.UUID, help="Of this session alone.")
PROJECT = click.option("--project", metavar="SOURCE", help="Of your sessions from this git URL or directory alone.")


@click.group()
def secret() -> None:
    """Set, list and remove secrets: of all your sessions, of a project's, or of one."""


@secret.command("set")
@click.argument("name")
@SESSION
@PROJECT
@click.option(
    "--from-file", "path", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="As it is there."
)
@click.option("--for", "use", type=click.Choice(["shells", "agents", "both"]), default="shells", show_default=True)
@click.option("--file", is_flag=True, help="Shells find it in a file, whose path is in NAME_FILE.")
@click.pass_context
def set_secret(
    context: click.Context, name: str, session: str | None, project: str | None, path: Path | None, use: str, file: bool
) -> None:
    """Set NAME. The value is asked for, or read from standard input (a line break at its end does not count).

    Shells that are opened from now on have it, and agents that are started.
    """
    _check(session, project)
    try:
        rules.check_name(name)
        value = rules.check_value(_value(name, path))
    except PilothouseError as error:
        raise click.UsageError(error.message) from None
    source = _source(project) if project else {}

    async def work(client: Client, terminal: Terminal) -> int:
        made = await client.set_secret(name, value, use=use, file=file, session=session, source=source)
        terminal.write(f"set {plain(made.name)} ({made.where})\n")
        if not made.masked:
            terminal.notice(f"{made.name} is so short that it is not masked where it is written")
        return 0

    connected(context, work)


@secret.command("list")
@SESSION
@click.pass_context
def list_secrets(context: click.Context, session: str | None) -> None:
    """Show their names; with --session those that reach it."""

    async def work(client: Client, terminal: Terminal) -> int:
        terminal.write(table.secrets(await client.secrets(session)))
        return 0

    connected(context, work)


@secret.command()
@click.argument("name")
@SESSION
@PROJECT
@click.pass_context
def remove(context: click.Context, name: str, session: str | None, project: str | None) -> None:
    """Remove NAME. Shells and agents that run keep it."""
    _check(session, project)

    async def work(client: Client, terminal: Terminal) -> int:
        await client.remove_secret(name, session=session, source=_source(project) if project else {})
        terminal.write(f"removed {plain(name)}\n")
        return 0

    connected(context, work)


def _check(session: str | None, project: str | None) -> None:
    if session and project:
        raise click.UsageError("--session and --project exclude each other.")


def _source(text: str) -> dict[str, str]:
    if "://" in text:
        return {"git": text}
    return {"dir": str(Path(text).resolve())}


def _value(name: str, path: Path | None) -> str:
    """Raises UsageError."""
    value = _given(name, path)
    if len(value.encode()) > rules.VALUE_MAX:
        raise click.UsageError(f"value: more than {rules.VALUE_MAX} bytes")
    return value


def _given(name: str, path: Path | None) -> str:
    try:
        if path is not None:
            return path.read_bytes()[: rules.VALUE_MAX + 1].decode()
        if sys.stdin.isatty():
            return str(click.prompt(name, hide_input=True, err=True))
        return sys.stdin.buffer.read(rules.VALUE_MAX + 2).decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise click.UsageError("The value is no text in UTF-8.") from None
    except OSError as error:
        raise click.UsageError(f"--from-file: {error.strerror}") from None
