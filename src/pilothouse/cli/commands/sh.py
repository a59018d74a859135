"""`pilothouse sh`: a shell of a session on this terminal, or a command in one."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import click

from pilothouse.cli import wire
from pilothouse.cli.attach import Attached, Ended
from pilothouse.cli.client import Client
from pilothouse.cli.context import connected
from pilothouse.cli.errors import FAILED, Failure
from pilothouse.cli.options import UUID
from pilothouse.cli.piped import Piped, wrapped
from pilothouse.cli.raw import Escapes, Raw
from pilothouse.cli.terminal import Terminal
from pilothouse.core.errors import BadRequest
from pilothouse.core.shell import shell_id

_COMMAND = "pilothouse.cli.commands.sh"
"""Where the words behind `--` are kept: click would forget where it stood."""


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
@click.option("--list", "listing", is_flag=True, help="Show the shells of the session.")
@click.option("--end", "end", metavar="ID", help="End this shell and what runs in it.")
@click.argument("session", required=False, type=UUID)
@click.pass_context
def sh(
    context: click.Context, shell: str | None, new: bool, watch: bool, startup: str | None, listing: bool,
    end: str | None, session: str | None,
) -> None:  # fmt: skip
    """A shell of SESSION (the newest session without one), or COMMAND run in it.

    Without COMMAND: the shell that is there, else a new one. `~.` at the beginning of a line leaves it running. With
    COMMAND: its output, and its exit status. It has a terminal, so its error output is among the rest; from a pipe, to
    a pipe or a file, every byte passes as it is.
    """
    command: list[str] = context.meta.get(_COMMAND, [])
    through = bool(command) and not (sys.stdin.isatty() and sys.stdout.isatty())
    if not (command or watch or listing or end or sys.stdin.isatty()):
        raise click.UsageError("Without a terminal to type at: pilothouse sh [SESSION] -- COMMAND (as `-- bash`).")
    _check("--shell", shell)
    _check("--end", end)
    if sum((new, watch, listing, end is not None)) > 1 or (command and (new or watch or listing or end or shell)):
        raise click.UsageError("--new, --watch, --list, --end, and a command exclude each other.")
    if shell and end:
        raise click.UsageError("--end names the shell: without --shell.")
    if startup and (watch or listing or end or command):
        raise click.UsageError("--startup is for a new shell without a command.")

    async def work(client: Client, terminal: Terminal) -> int:
        found = session or await _newest(client)
        if listing:
            terminal.write("".join(_line(one) for one in await client.shells(found)))
            return 0
        if end is not None:
            await client.end_shell(found, end)
            return 0
        raw, piped = Raw(piped=through), Piped() if through else None
        argv = wrapped(command) if through else command
        return await _attach(client, terminal, raw, piped, found, shell, argv, new=new, watch=watch, startup=startup)

    connected(context, work)


def _check(option: str, id: str | None) -> None:
    """Raises click.UsageError."""
    try:
        if id is not None:
            shell_id(id)
    except BadRequest as error:
        raise click.UsageError(f"{option}: {error.message.partition(': ')[2]}") from None


async def _newest(client: Client) -> str:
    sessions = await client.sessions()
    if not sessions:
        raise Failure("There is no session yet: `pilothouse run` or the page makes one.")
    return sessions[0].id


def _line(one: wire.Shell) -> str:
    people = ", ".join(f"{v.name} ({v.role})" for v in one.viewers) or "nobody"
    state = "running" if one.running else f"ended {one.exit_code}"
    return f"{one.shell_id}  {state}  {one.width}x{one.height}  {people}\n"


async def _attach(
    client: Client, terminal: Terminal, raw: Raw, piped: Piped | None, session: str, shell: str | None,
    command: list[str], *, new: bool, watch: bool, startup: str | None,
) -> int:  # fmt: skip
    size = raw.size or (80, 24)
    if not shell and not new and not command:
        running = [one for one in await client.shells(session) if one.running]
        shell = running[-1].shell_id if running else None
        if shell and startup:
            terminal.notice("--startup is for a new shell (--new): this one is there already")
    if watch and not shell:
        raise Failure("This session has no shell to watch.")
    if not watch:
        wish: dict[str, Any] = {"shellId": shell, "command": command or None, "startup": startup}
        made = await client.open_shell(session, **wish, width=size[0], height=size[1])
        shell = made.shell_id
    assert shell is not None
    attached = Attached(
        client, session, shell, raw, _notice(terminal, raw), watch, Escapes() if raw.terminal else None,
        piped, after=0 if command else None,
    )  # fmt: skip
    if raw.terminal and not command:
        leave = "q or Ctrl-C leaves" if watch else "~. leaves it running"
        terminal.notice(f"shell {shell} of session {session}; {leave}")
    with raw.entered():
        ended = await attached.run()
    return _status(terminal, ended, command=bool(command))


def _notice(terminal: Terminal, raw: Raw) -> Callable[[str], None]:
    def notice(words: str) -> None:
        terminal.notice(words)
        if raw.terminal:
            raw.write(b"\r")

    return notice


def _status(terminal: Terminal, ended: Ended, *, command: bool) -> int:
    if ended.message and not command:
        terminal.notice(ended.message)
    if ended.status is None:
        return FAILED if command else 0
    return ended.status
