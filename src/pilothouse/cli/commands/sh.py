"""`pilothouse sh`: a shell of a session on this terminal, or a command in one."""

from __future__ import annotations

from collections.abc import Callable

import click

from pilothouse.cli import wire
from pilothouse.cli.attach import Attached, Ended
from pilothouse.cli.client import Client
from pilothouse.cli.context import connected
from pilothouse.cli.errors import FAILED, Failure
from pilothouse.cli.raw import Escapes, Raw
from pilothouse.cli.terminal import Terminal
from pilothouse.core.errors import BadRequest
from pilothouse.core.ids import is_uuid
from pilothouse.core.shell import shell_id


@click.command()
@click.option("--shell", "shell", metavar="ID", help="This shell; a new one of that id if there is none.")
@click.option("--new", is_flag=True, help="A new shell, whatever shells there are.")
@click.option("--watch", is_flag=True, help="Look on without typing. q or Ctrl-C leaves.")
@click.option("--startup", metavar="TEXT", help="What a new shell runs first; no place for a secret.")
@click.option("--list", "listing", is_flag=True, help="Show the shells of the session.")
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="[SESSION] [-- COMMAND...]")
@click.pass_context
def sh(
    context: click.Context, shell: str | None, new: bool, watch: bool, startup: str | None, listing: bool,
    words: tuple[str, ...],
) -> None:  # fmt: skip
    """A shell of SESSION (the newest session without one), or COMMAND run in it.

    Without COMMAND: the shell that is there, else a new one. `~.` at the beginning of a line leaves it running. With
    COMMAND: its output, and its exit status.
    """
    session, command = _taken(words)
    if shell is not None:
        try:
            shell_id(shell)
        except BadRequest as error:
            raise click.UsageError(f"--shell: {error.message.partition(': ')[2]}") from None
    if sum((new, watch, listing)) > 1 or (command and (new or watch or listing or shell)):
        raise click.UsageError("--new, --watch, --list, and a command exclude each other.")
    if startup and (watch or listing or command):
        raise click.UsageError("--startup is for a new shell without a command.")

    async def work(client: Client, terminal: Terminal) -> int:
        found = session or await _newest(client)
        if listing:
            terminal.write("".join(_line(one) for one in await client.shells(found)))
            return 0
        return await _attach(client, terminal, found, shell, command, new=new, watch=watch, startup=startup)

    connected(context, work)


def _taken(words: tuple[str, ...]) -> tuple[str | None, list[str]]:
    """What comes first and is an id is the session; click leaves out one `--`."""
    rest = list(words)
    session = rest.pop(0) if rest and is_uuid(rest[0]) else None
    if session and rest[:1] == ["--"]:
        rest.pop(0)
    return session, rest


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
    client: Client, terminal: Terminal, session: str, shell: str | None, command: list[str], *, new: bool, watch: bool,
    startup: str | None,
) -> int:  # fmt: skip
    raw = Raw()
    size = raw.size or (80, 24)
    if not shell and not new and not command:
        running = [one for one in await client.shells(session) if one.running]
        shell = running[-1].shell_id if running else None
    if watch and not shell:
        raise Failure("This session has no shell to watch.")
    if not watch:
        wish = {"shellId": shell, "command": command or None, "startup": startup}
        made = await client.open_shell(session, **wish, width=size[0], height=size[1])
        shell = made.shell_id
    assert shell is not None
    attached = Attached(
        client, session, shell, raw, _notice(terminal, raw), watch, Escapes() if raw.terminal else None,
        after=0 if command else None,
    )  # fmt: skip
    if raw.terminal and not command:
        terminal.notice(f"shell {shell} of session {session}; ~. leaves it running")
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
