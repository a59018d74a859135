"""`pilothouse usage`: what was used and what it cost."""

from __future__ import annotations

import click

from pilothouse.cli import options, wire
from pilothouse.cli.client import Client
from pilothouse.cli.commands.members import IN
from pilothouse.cli.context import connected
from pilothouse.cli.table import usage as usage_table
from pilothouse.cli.terminal import Terminal

FIELDS = ("day", "person", "key", "session", "model")


@click.command()
@click.option("--from", "first", metavar="DAY", help="First day, such as 2026-11-01 (UTC); else the last 30 days.")
@click.option("--to", "last", metavar="DAY", help="Last day; else today.")
@click.option("--by", "by", multiple=True, metavar="FIELD[,FIELD]", help=f"{', '.join(FIELDS)}; else day.")
@click.option("--csv", "as_csv", is_flag=True, help="As CSV.")
@click.option("--json", "raw", is_flag=True, help="As the server says it.")
@IN
@click.pass_context
def usage(
    context: click.Context, /, first: str | None, last: str | None, by: tuple[str, ...], as_csv: bool, raw: bool,
    organisation: str | None,
) -> None:  # fmt: skip
    """Show tokens and cost: an admin the organisation's, others their own."""
    if as_csv and raw:
        raise click.UsageError("--csv and --json: one of them.")
    wanted = [part for given in by for part in options.words("--by", given) or []]
    for field in wanted:
        if field not in FIELDS:
            raise click.UsageError(f"--by: {field!r} is none of {', '.join(FIELDS)}.")
    asked = {"from": first, "to": last, "by": ",".join(dict.fromkeys(wanted)) or None, "organisation": organisation}

    async def work(client: Client, terminal: Terminal) -> int:
        if as_csv or raw:
            terminal.write_raw(await client.usage_as(asked, "/api/usage.csv" if as_csv else "/api/usage"))
            return 0
        found: wire.Usage = await client.usage(asked)
        terminal.write(usage_table(found))
        for line in _notices(found):
            terminal.notice(line)
        return 0

    connected(context, work)


def _notices(found: wire.Usage) -> list[str]:
    """What is not measured."""
    total, out = found.total, []
    if total.guessed_cost_usd:
        out.append(f"${total.guessed_cost_usd:.4f} of it is a guess: of models that are in no price list")
    if total.guessed_tokens:
        out.append(f"{total.guessed_tokens} tokens are of answers that broke off, counted by their text")
    if total.agent_tokens or total.agent_cost_usd:
        out.append(f"{total.agent_tokens} tokens (${total.agent_cost_usd:.4f}) are the agent's own word")
    return out
