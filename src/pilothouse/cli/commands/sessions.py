"""`pilothouse ps`, `logs` and `stop`: what there is, what happened, what shall end."""

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
from pilothouse.cli.conversation import decode
from pilothouse.cli.errors import FAILED, Failure, Refused
from pilothouse.cli.render import Transcript
from pilothouse.cli.table import table
from pilothouse.cli.terminal import Terminal
from pilothouse.cli.text import plain
from pilothouse.cli.viewer import Viewer
from pilothouse.core import chat
from pilothouse.core.ids import is_uuid

STOPS = 8
"""At the same time: most of an end is to wait for what runs in the session."""


@click.command()
@click.option("--json", "raw", is_flag=True, help="One JSON object a line.")
@click.pass_context
def ps(context: click.Context, raw: bool) -> None:
    """Show the sessions and their running jobs."""

    async def work(client: Client, terminal: Terminal) -> int:
        rows: list[tuple[wire.Session, list[wire.Job]]] = []
        for session in await client.sessions():
            jobs = await client.jobs(session.id) if session.running else []
            rows.append((session, [job for job in jobs if job.state != "done"]))
        if raw:
            for session, jobs in rows:
                shown = _fields(session, SESSION) | {"jobs": [_fields(job, JOB) for job in jobs]}
                terminal.write_raw(msgspec.json.encode(shown))
        else:
            terminal.write(table(rows))
            if rows:
                await _say_loose(client, terminal, rows[0][0].id)
        return 0

    connected(context, work)


SESSION = (
    "id", "title", "agent", "isolation", "state", "running", "pendingApprovals", "pendingQuestions", "totalCost",
    "head", "createdAt", "lastActiveAt",
)  # fmt: skip
JOB = (
    "id", "sessionId", "state", "prompt", "by", "createdAt", "outcome", "totalCost", "firstSeq", "lastSeq",
)  # fmt: skip


def _fields(thing: wire.Session | wire.Job, names: tuple[str, ...]) -> dict[str, Any]:
    """Scripts read these, each always there."""
    told = msgspec.to_builtins(thing)
    return {name: told.get(name) for name in names}


async def _say_loose(client: Client, terminal: Terminal, session: str) -> None:
    """Which limits nothing, or nothing that is sure, holds on this host."""
    with suppress(Refused):  # a server that does not know the question
        loose = [limit.name for limit in await client.limits(session) if limit.enforced in {"none", "watchdog"}]
        if loose:
            words = plain(", ".join(loose))
            terminal.notice(f"not strictly limited here: {words}; `pilothouse doctor` says why and what mends it")


@click.command()
@click.argument("id", type=options.ANY_ID, metavar="SESSION|JOB")
@click.option("--follow", is_flag=True, help="Go on with what happens; for a job, to its end.")
@click.option("--after", type=click.IntRange(min=0), default=0, help="Only events after this number.")
@click.option("--json", "raw", is_flag=True, help="Print the events, one a line, and nothing else.")
@click.pass_context
def logs(context: click.Context, id: str, follow: bool, after: int, raw: bool) -> None:
    """Show what happened in a session or in a job."""

    async def work(client: Client, terminal: Terminal) -> int:
        session, job = await _which(client, id)
        start = after if job is None else max(after, job.first_seq - 1)
        await _Log(client, terminal, raw).show(session, job, start, follow)
        return 0

    connected(context, work)


class _Log:
    def __init__(self, client: Client, terminal: Terminal, raw: bool) -> None:
        self._client = client
        self._terminal = terminal
        self._raw = raw
        self._transcript = Transcript(terminal.style)

    async def show(self, session: str, job: wire.Job | None, after: int, follow: bool) -> None:
        viewer = Viewer(self._client, session, after, self._terminal.notice)
        loop, me = asyncio.get_running_loop(), asyncio.current_task()
        assert me is not None
        loop.add_signal_handler(signal.SIGINT, me.cancel)
        try:
            async with aclosing(viewer.follow()) as items:
                async for item in items:
                    if isinstance(item, chat.CaughtUp):
                        if not follow or (job is not None and job.state == "done"):
                            break
                    elif self._take(item, job) and job is not None:
                        break
        except asyncio.CancelledError:
            pass  # Ctrl-C is how a follower leaves
        finally:
            loop.remove_signal_handler(signal.SIGINT)
        self._terminal.write("" if self._raw else self._transcript.end_line())

    def _take(self, item: chat.EventFrame | chat.Gap, job: wire.Job | None) -> bool:
        """Shows it; True for the end of a job."""
        if isinstance(item, chat.Gap):
            self._terminal.notice(f"events {item.from_} to {item.to} are no longer kept")
            return False
        if job is not None and item.job_id != job.id:
            return False
        if self._raw:
            self._terminal.write_raw(item.raw)
        else:
            event = decode(item.raw)
            self._terminal.write(self._transcript.feed(event) if event is not None else "")
        return item.type == "complete"


async def _which(client: Client, id: str) -> tuple[str, wire.Job | None]:
    """A session's id is tried first: both have the same form."""
    try:
        if is_uuid(id):
            return (await client.session(id)).id, None
    except Refused as refusal:
        if refusal.status != 404:
            raise
    try:
        job = await client.job(id)
    except Refused as refusal:
        if refusal.status != 404:
            raise
        raise Failure(f"There is no session or job {id}, or it is not yours to see.") from None
    return job.session_id, job


@click.command()
@click.argument("session", type=options.UUID, required=False)
@click.option("--all", "every", is_flag=True, help="Every session.")
@click.pass_context
def stop(context: click.Context, session: str | None, every: bool) -> None:
    """End the processes of SESSION, or of all; workspace and conversation stay."""
    if (session is None) != every:
        raise click.UsageError("Give a SESSION or --all." if session is None else "--all takes no SESSION.")

    async def work(client: Client, terminal: Terminal) -> int:
        if session is not None:
            with options.known(f"session {session}"):
                await client.stop(session)
            terminal.write(f"stopped {session}\n")
            return 0
        return await _stop_all(client, terminal)

    connected(context, work)


async def _stop_all(client: Client, terminal: Terminal) -> int:
    """One that cannot be stopped does not keep the others running."""
    few, failed = asyncio.Semaphore(STOPS), False

    async def end(id: str) -> None:
        nonlocal failed
        async with few:
            try:
                await client.stop(id)
                terminal.write(f"stopped {id}\n")
            except Refused as refusal:
                failed = True
                terminal.notice(f"{id}: {refusal.message}")

    here = [one.id for one in await client.sessions() if one.state not in {"stopped", "lost", "new"}]
    for ended in await asyncio.gather(*map(end, here), return_exceptions=True):
        if ended is not None:
            raise ended
    return FAILED if failed else 0
