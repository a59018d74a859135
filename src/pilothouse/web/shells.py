"""The HTTP API's handlers for the shells of a session. See `protocol/http.md`."""

from __future__ import annotations

from starlette.responses import Response

from pilothouse.core.api.jobs import NewShell, Shell, ShellViewer
from pilothouse.core.audience import shown as name
from pilothouse.core.errors import BadRequest, Unavailable
from pilothouse.core.redact import Masks
from pilothouse.core.shell import ShellId, shell_id, size
from pilothouse.engine import records
from pilothouse.engine.opener import Opener
from pilothouse.engine.terminal import Terminal
from pilothouse.web import wire
from pilothouse.web.call import Call

COMMAND_MAX = 32 * 1024
"""Bytes of a command, its words together."""
CWD_MAX = 4096


def _opener(call: Call) -> Opener:
    if call.platform.opener is None:
        raise Unavailable("This server has no shells.")
    return call.platform.opener


async def list_shells(call: Call) -> Response:
    session = await call.session()
    found = sorted(await _opener(call).list(session), key=lambda t: t.shell.started)
    masks = await session.live.known_masks()
    return wire.everything([_shown(terminal, call, masks) for terminal in found])


async def make_shell(call: Call) -> Response:
    """Made, or found: the same id twice is the same shell."""
    session = await call.session()
    given = await wire.body(call.request, NewShell)
    id = ShellId(records.new_id()) if given.shell_id is None else shell_id(given.shell_id)
    command, cwd = given.command or [], given.cwd
    if given.command == [] or any("\0" in word for word in command) or not all(command[:1]):
        raise BadRequest("command: a program and its arguments, without NUL")
    if sum(len(word.encode()) + 1 for word in command) > COMMAND_MAX:
        raise BadRequest(f"command: at most {COMMAND_MAX} bytes")
    if "\0" in cwd or len(cwd.encode()) > CWD_MAX:
        raise BadRequest(f"cwd: at most {CWD_MAX} bytes, no NUL")
    terminal, new = await _opener(call).open(
        session, id, call.who, argv=command, cwd=cwd, size=size(given.width, given.height), startup=given.startup
    )
    return wire.Reply(_shown(terminal, call, await session.live.known_masks()), 201 if new else 200)


async def end_shell(call: Call) -> Response:
    session = await call.session()
    await _opener(call).end(session, shell_id(call.request.path_params["shellId"]), call.who)
    return Response(status_code=204)


def _shown(terminal: Terminal, call: Call, masks: Masks | None) -> Shell:
    shell, guest = terminal.shell, call.principal.session is not None
    ended = shell.ended
    return Shell(
        shell_id=shell.id,
        started_at=records.stamp(shell.started),
        width=shell.size.cols,
        height=shell.size.rows,
        oldest=shell.oldest,
        head=shell.head,
        running=ended is None,
        viewers=[ShellViewer(id=v.id, name=name(v.name, guest=guest), role=v.role) for v in terminal.viewers],
        command=[masks.text(word) if masks else word for word in shell.command] or None,
        exit_code=None if ended is None else ended.status,
        signal=(ended.signal or None) if ended is not None else None,
    )
