"""`pilothouse approve` and `pilothouse deny`: decisions from elsewhere than where the job is watched."""

from __future__ import annotations

from typing import IO, Any

import click

from pilothouse.cli import card, options, table
from pilothouse.cli.client import Client
from pilothouse.cli.context import connected
from pilothouse.cli.errors import FAILED, Refused
from pilothouse.cli.terminal import Terminal

INPUT_MAX = 2 * 1024 * 1024
"""Bytes of a changed input: what the wire takes."""


@click.command()
@click.argument("approval", type=options.UUID, metavar="[ID]", required=False)
@click.option("--message", help="A word to go with it.")
@click.option("--option", "option", metavar="ID", help="One of the options that the approval offers.")
@click.option("--input", "changed", type=click.File("rb"), help="JSON file with the input to use instead; - for stdin.")
@click.pass_context
def approve(
    context: click.Context, approval: str | None, message: str | None, option: str | None, changed: IO[bytes] | None
) -> None:
    """Show the waiting tool call ID and approve it. Without ID: list what waits."""
    if approval is None:
        _list(context, {"--message": message, "--option": option, "--input": changed})
        return
    updated = None if changed is None else _input(changed)
    _decide(context, approval, True, message=message, optionId=option, updatedInput=updated)


@click.command()
@click.argument("approval", type=options.UUID, metavar="[ID]", required=False)
@click.option("--message", help="What the agent is told.")
@click.pass_context
def deny(context: click.Context, approval: str | None, message: str | None) -> None:
    """Show the waiting tool call ID and deny it. Without ID: list what waits."""
    if approval is None:
        _list(context, {"--message": message})
        return
    _decide(context, approval, False, message=message)


def _list(context: click.Context, given: dict[str, object]) -> None:
    for name, value in given.items():
        if value is not None:
            raise click.UsageError(f"{name} goes with the ID of an approval.")

    async def work(client: Client, terminal: Terminal) -> int:
        waiting = await client.approvals()
        terminal.write(table.approvals(waiting) if waiting else "Nothing waits for approval.\n")
        return 0

    connected(context, work)


def _input(file: IO[bytes]) -> dict[str, Any]:
    data = file.read(INPUT_MAX + 1)
    if len(data) > INPUT_MAX:
        raise click.UsageError(f"--input: longer than {INPUT_MAX} bytes.")
    try:
        result = card.edited(data.decode())
    except UnicodeDecodeError:
        result = "not valid UTF-8"
    if isinstance(result, str):
        raise click.UsageError(f"--input: not a JSON object: {result}")
    return result


def _decide(context: click.Context, id: str, approved: bool, **fields: Any) -> None:
    async def work(client: Client, terminal: Terminal) -> int:
        with options.known(f"approval {id}"):
            item = await client.approval(id)
        if item.state != "pending":
            by = f" by {item.resolved_by}" if item.resolved_by else ""
            terminal.notice(f"already {item.state}{by}{f' at {item.resolved_at}' if item.resolved_at else ''}")
            return FAILED
        updated = fields.get("updatedInput")
        terminal.write(card.approval(item, terminal.style, updated))
        wanted = fields.get("optionId")
        if wanted is not None:
            offered = {option.id: option for option in item.options}
            if wanted not in offered:
                raise click.UsageError(f"--option: {wanted!r} is none of {', '.join(offered) or 'the options (none)'}.")
            if offered[wanted].outcome != "approved":
                raise click.UsageError(f"--option: {wanted!r} denies; use `pilothouse deny`.")
        if updated is not None and (lacks := card.lacking(item, updated)):
            terminal.notice(lacks)
        try:
            done = await client.decide(item, approved, **fields)
        except Refused as refusal:
            if refusal.code != "already_resolved" or not refusal.by:
                raise
            terminal.notice(f"already {refusal.outcome} by {refusal.by}")
            return FAILED
        terminal.write(f"{done.state}\n")
        return 0

    connected(context, work)
