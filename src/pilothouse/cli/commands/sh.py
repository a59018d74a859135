"""`pilothouse sh`: a shell of a session on this terminal, or a command in one."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import signal
import sys
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import click

from pilothouse.cli import wire
from pilothouse.cli.attach import Attached
from pilothouse.cli.client import Client
from pilothouse.cli.context import connected
from pilothouse.cli.errors import FAILED, Failure, NoServer, Refused
from pilothouse.cli.options import UUID
from pilothouse.cli.piped import Piped, meant, wrapped
from pilothouse.cli.raw import Escapes, Raw
from pilothouse.cli.terminal import Terminal
from pilothouse.cli.text import line
from pilothouse.core.errors import BadRequest
from pilothouse.core.shell import shell_id

_COMMAND = "pilothouse.cli.commands.sh"
"""Where the words behind `--` are kept: click would forget where it stood."""
COMMAND_WIDTH = 120
END_S = 5.0
"""So long a command that ends tries to end its shell."""


class _Sh(click.Command):
    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if "--" in args:
            at = args.index("--")
            ctx.meta[_COMMAND], args = args[at + 1 :], args[:at]
            if not ctx.meta[_COMMAND]:
                raise click.UsageError("There is no command after --.", ctx)
        return super().parse_args(ctx, args)

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write_usage(ctx.command_path, "[OPTIONS] [SESSION] [-- COMMAND...]")


@click.command(cls=_Sh)
@click.option("--shell", "shell", metavar="ID", help="This shell; a new one of that id if there is none.")
@click.option("--new", is_flag=True, help="A new shell, whatever shells there are.")
@click.option("--watch", is_flag=True, help="Look on without typing. q or Ctrl-C leaves.")
@click.option("--startup", metavar="TEXT", help="What a new shell runs first; no place for a secret.")
@click.option("--list", "listing", is_flag=True, help="Show the shells of the session that run.")
@click.option("--all", "every", is_flag=True, help="With --list: ended ones too, until their end has been seen.")
@click.option("--end", "end", metavar="ID", help="End this shell and what runs in it.")
@click.argument("session", required=False, type=UUID)
@click.pass_context
def sh(
    context: click.Context, shell: str | None, new: bool, watch: bool, startup: str | None, listing: bool,
    every: bool, end: str | None, session: str | None,
) -> None:  # fmt: skip
    """A shell of SESSION (without one the newest, or a new one), or COMMAND run in it.

    Without COMMAND: the shell that is there, else a new one. `~.` at the beginning of a line leaves it running. With
    COMMAND: its output, and its exit status. It ends when this does, as by Ctrl-C or because nobody reads on. Its input
    and its output are terminals where ours are; a pipe or a file is a pipe there, and every byte passes as it is. Its
    error output is among the rest.
    """
    command: list[str] = context.meta.get(_COMMAND, [])
    through = bool(command) and not (sys.stdin.isatty() and sys.stdout.isatty())
    if not (command or watch or listing or end or sys.stdin.isatty()):
        raise click.UsageError("Without a terminal to type at: pilothouse sh [SESSION] -- COMMAND (as `-- bash`).")
    _check("--shell", shell)
    _check("--end", end)
    flags = {"--new": new, "--watch": watch, "--list": listing, "--end": end is not None}
    _exclude([flag for flag, given in flags.items() if given], shell, command, startup)
    if every and not listing:
        raise click.UsageError("--all goes with --list.")

    async def work(client: Client, terminal: Terminal) -> int:
        found = session or await _newest(client, terminal, make=not (watch or listing or end))
        if listing:
            terminal.write("".join(_line(one) for one in await client.shells(found) if one.running or every))
            return 0
        if end is not None:
            await client.end_shell(found, end)
            return 0
        raw, piped = Raw(piped=through), Piped() if through else None
        if command:
            return await _run(client, terminal, raw, piped, found, command)
        return await _attach(client, terminal, raw, found, shell, new=new, watch=watch, startup=startup)

    connected(context, work)


def _check(option: str, id: str | None) -> None:
    """Raises click.UsageError."""
    try:
        if id is not None:
            shell_id(id)
    except BadRequest as error:
        raise click.UsageError(f"{option}: {error.message.partition(': ')[2]}") from None


def _exclude(flags: list[str], shell: str | None, command: list[str], startup: str | None) -> None:
    """Raises click.UsageError."""
    if len(flags) > 1:
        raise click.UsageError(f"{' and '.join(flags)} exclude each other.")
    if command and (flags or shell):
        raise click.UsageError(f"{flags[0] if flags else '--shell'}: a command has a shell of its own.")
    if shell and flags in (["--end"], ["--list"]):
        raise click.UsageError(f"{flags[0]}: without --shell.")
    if startup and (command or flags not in ([], ["--new"])):
        raise click.UsageError("--startup is for a new shell without a command.")


async def _newest(client: Client, terminal: Terminal, *, make: bool) -> str:
    sessions = await client.sessions()
    if sessions:
        return sessions[0].id
    if not make:
        raise Failure("There is no session yet: `pilothouse sh` makes one.")
    made = await client.make_session()
    terminal.notice(f"there was no session: {made.id} is a new one, its workspace empty")
    return made.id


def _line(one: wire.Shell) -> str:
    people = ", ".join(f"{v.name} ({v.role})" for v in one.viewers) or "nobody"
    state = "running" if one.running else f"ended {one.exit_code}"
    words = [one.shell_id, state, f"{one.width}x{one.height}", people]
    if one.command:
        words.append(f"$ {line(shlex.join(meant(one.command)), COMMAND_WIDTH)}")
    return "  ".join(words) + "\n"


async def _attach(
    client: Client, terminal: Terminal, raw: Raw, session: str, shell: str | None, *, new: bool, watch: bool,
    startup: str | None,
) -> int:  # fmt: skip
    size = raw.size or (80, 24)
    if shell or not new:
        running = [one for one in await client.shells(session) if one.running]
        candidates = [one for one in running if shell == one.shell_id or (not shell and not one.command)]
        shell = candidates[-1].shell_id if candidates else shell
        if candidates and startup:
            terminal.notice("--startup is for a new shell (--new): this one is there already")
    if watch and not shell:
        raise Failure("This session has no shell to watch.")
    if not watch:
        wish: dict[str, Any] = {"shellId": shell, "startup": startup}
        with _full(session):
            made = await client.open_shell(session, **wish, width=size[0], height=size[1])
        shell = made.shell_id
    assert shell is not None
    attached = Attached(client, session, shell, raw, _notice(terminal, raw), watch, Escapes() if raw.terminal else None)
    if raw.terminal:
        leave = "q or Ctrl-C leaves" if watch else "~. leaves it running"
        terminal.notice(f"shell {shell} of session {session}; {leave}")
    with raw.entered():
        ended = await attached.run()
    if ended.message:
        terminal.notice(ended.message)
    return ended.status or 0


async def _run(
    client: Client, terminal: Terminal, raw: Raw, piped: Piped | None, session: str, command: list[str]
) -> int:
    """A command in a shell of its own, which ends with us."""
    size = raw.size or (80, 24)
    shell = str(uuid.uuid4())
    if piped is not None:
        command = wrapped(command, source=not sys.stdin.isatty(), sink=not sys.stdout.isatty())
    wish: dict[str, Any] = {"shellId": shell, "command": command}
    opening = asyncio.ensure_future(client.open_shell(session, **wish, width=size[0], height=size[1]))
    goes_on = f"it goes on as shell {shell}; `pilothouse sh {session} --end {shell}` ends it"
    try:
        with _full(session):
            await asyncio.shield(opening)
        attached = Attached(
            client, session, shell, raw, _notice(terminal, raw), escapes=Escapes() if raw.terminal else None,
            piped=piped, after=0,
        )  # fmt: skip
        with raw.entered():
            ended = await attached.run()
    except (asyncio.CancelledError, BrokenPipeError) as error:
        if not await _end(client, session, shell, opening):
            terminal.notice(goes_on)
        if isinstance(error, BrokenPipeError):
            return _nobody_reads()
        raise
    except (NoServer, Refused) as error:
        gone = isinstance(error, Refused) and error.status == 404
        if not gone and opening.done() and opening.exception() is None:
            terminal.notice(goes_on)
        raise
    if ended.status is None and ended.left:
        terminal.notice(goes_on)
    return FAILED if ended.status is None else ended.status


async def _end(client: Client, session: str, shell: str, opening: asyncio.Future[wire.Shell]) -> bool:
    """Whether it has been hung up on, or has never been."""
    try:
        async with asyncio.timeout(END_S):
            await opening
            await client.end_shell(session, shell)
    except Refused as error:
        return error.status == 404 or opening.exception() is not None
    except (NoServer, TimeoutError):
        return False
    return True


def _nobody_reads() -> int:
    """As a program ends that writes to a pipe without a reader. Python would complain when it flushes at the end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 128 + signal.SIGPIPE


@contextlib.contextmanager
def _full(session: str) -> Iterator[None]:
    """A session that can have no more shells: how to end one."""
    try:
        yield
    except Refused as error:
        if error.status != 429 or "shells" not in error.message:
            raise
        how = f"`pilothouse sh {session} --list` shows them, `pilothouse sh {session} --end ID` ends one"
        raise Refused(f"{error.message} ({how})", status=error.status, code=error.code) from None


def _notice(terminal: Terminal, raw: Raw) -> Callable[[str], None]:
    def notice(words: str) -> None:
        terminal.notice(words)
        if raw.terminal:
            raw.write(b"\r")

    return notice
