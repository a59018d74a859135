"""`pilothouse run` and `pilothouse chat`: prompts and their answers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from pilothouse.cli import options
from pilothouse.cli.client import Client
from pilothouse.cli.commands.files import download
from pilothouse.cli.context import connected
from pilothouse.cli.conversation import Watch
from pilothouse.cli.errors import FAILED, Failure
from pilothouse.cli.terminal import Terminal

MODES = ("acceptEdits", "manual", "acceptAll", "plan", "dontAsk", "default", "bypassPermissions")


@dataclass(frozen=True, slots=True)
class Order:
    """Everything `run` was asked for."""

    prompt: str
    session: str | None
    making: dict[str, Any]
    job: dict[str, Any]
    raw: bool
    files: Path | None
    force: bool


@click.command()
@click.argument("prompt")
@click.option("--agent", type=options.WORD, help="The agent of a new session.")
@click.option("--model", type=options.WORD, help="The model for this job.")
@click.option("--session", type=options.UUID, help="Go on in this session instead of a new one.")
@click.option("--permission-mode", type=click.Choice(MODES), help="What goes ahead and what is asked.")
@click.option("--allowed-tools", metavar="A,B", help="Only these tools, patterns such as Bash(npm test:*) too.")
@click.option("--max-cost", type=options.POSITIVE, metavar="USD", help="End the job when it has cost this much.")
@click.option("--timeout", type=options.POSITIVE, metavar="SECONDS", help="End the job after this time.")
@click.option("--source", metavar="GIT_URL|DIR", help="What a new session's workspace starts from.")
@click.option("--network", type=click.Choice(options.POLICIES), help="What a new session reaches.")
@click.option("--allow-domain", "domains", multiple=True, metavar="DOMAIN", help=options.DOMAIN_HELP)
@click.option("--title", help="The title of a new session.")
@click.option("--memory", type=options.SIZE, metavar="SIZE", help="Memory of a new session, such as 2G.")
@click.option("--disk", type=options.SIZE, metavar="SIZE", help="Disk of a new session, such as 5G.")
@click.option("--cpu", type=options.POSITIVE, metavar="N", help="Processors a new session may keep busy.")
@click.option(
    "--files", type=click.Path(file_okay=False, path_type=Path), help="Download the workspace here at the end."
)
@click.option("--force", is_flag=True, help="With --files: overwrite files that exist.")
@click.option("--json", "raw", is_flag=True, help="Print the events, one a line, and nothing else.")
@click.pass_context
def run(context: click.Context, /, prompt: str, **given: Any) -> None:
    """Run PROMPT to its end and show what happens. `-` reads it from standard input.

    On a terminal approvals are asked in place. Ctrl-C interrupts the job, twice leaves. Without a server on this
    machine one is started for the run. Exit status: 0 succeeded, 1 any other outcome, 2 usage, 3 no server.
    """
    order = _order(prompt, given)

    async def work(client: Client, terminal: Terminal) -> int:
        return await _run(client, terminal, order)

    connected(context, work, start=True)


def _order(prompt: str, given: dict[str, Any]) -> Order:
    making = {name: given[name] for name in ("agent", "title", "source")}
    limits = {name: given[name] for name in ("memory", "disk", "cpu") if given[name] is not None}
    if given["session"]:
        own = {"network": given["network"], "allow-domain": given["domains"] or None}
        for name, value in (making | limits | own).items():
            if value is not None:
                raise click.UsageError(f"--{name} is for a new session; it cannot go with --session.")
    if given["force"] and given["files"] is None:
        raise click.UsageError("--force goes with --files.")
    making["source"] = options.source(given["source"])
    making["permissionMode"] = given["permission_mode"]
    making["limits"] = limits or None
    making["egress"] = options.egress(given["network"], given["domains"])
    job = {
        "permissionMode": given["permission_mode"],
        "allowedTools": options.words("--allowed-tools", given["allowed_tools"]),
        "maxCostUsd": given["max_cost"],
        "timeoutS": None if given["timeout"] is None else max(1, round(given["timeout"])),
        "model": given["model"],
    }
    text = options.prompt_text(prompt)
    return Order(text, given["session"], making, job, given["raw"], given["files"], given["force"])


async def _run(client: Client, terminal: Terminal, order: Order) -> int:
    fresh = order.session is None
    with options.named(), options.known(f"session {order.session}"):
        session = order.session or (await client.make_session(**order.making)).id
        job = await client.submit(session, order.prompt, **order.job)
    if not order.raw:
        terminal.notice(f"session {session}")
    # A new session is shown from its first event, an older one from this job's.
    after = 0 if fresh else max(0, job.first_seq - 1)
    done = await Watch(client, terminal, raw=order.raw).job(job, after)
    if order.files is not None:
        await download(client, terminal, session, order.files, force=order.force)
    return 0 if done.outcome == "succeeded" else FAILED


@click.command()
@click.argument("session", type=options.UUID, required=False)
@click.option("--agent", type=options.WORD, help="The agent of a new session.")
@click.option("--model", type=options.WORD, help="The model of the jobs.")
@click.option("--permission-mode", type=click.Choice(MODES), help="What goes ahead and what is asked.")
@click.option("--source", metavar="GIT_URL|DIR", help="What a new session's workspace starts from.")
@click.pass_context
def chat(
    context: click.Context,
    session: str | None,
    agent: str | None,
    model: str | None,
    permission_mode: str | None,
    source: str | None,
) -> None:
    """A conversation in SESSION, or in a new one: a line is a prompt, an empty line or Ctrl-D ends it."""
    if session and (agent or source):
        raise click.UsageError(f"{'--agent' if agent else '--source'} is for a new session.")
    making: dict[str, Any] = {"agent": agent, "source": options.source(source), "permissionMode": permission_mode}

    async def work(client: Client, terminal: Terminal) -> int:
        with options.named(), options.known(f"session {session}"):
            place = await (client.session(session) if session else client.make_session(**making))
        terminal.notice(f"session {place.id}")
        while True:
            typed = await terminal.ask("> " if terminal.interactive else "")
            if typed is None or not typed.strip():
                return 0
            try:
                job = await client.submit(place.id, typed, permissionMode=permission_mode, model=model)
            except Failure as failure:
                terminal.notice(failure.message)
                continue
            await Watch(client, terminal).job(job, max(0, job.first_seq - 1))

    connected(context, work, start=True)
