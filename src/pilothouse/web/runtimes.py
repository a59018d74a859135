"""The AgentCore Shell API, `WS /runtimes/{arn or id}/ws/shells`: its own clients attach to shells of sessions here.

A runtime session id is its caller's word for a session: within the caller's account and the runtime it names, always
the same one, made when it is first heard. The id of a session that the caller may work in names that session.
"""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
from http import HTTPStatus

from pilothouse.core import agentcore, bearer
from pilothouse.core.audience import Viewer, ViewerId
from pilothouse.core.errors import BadRequest, Forbidden, NotFound, PilothouseError, Unauthenticated
from pilothouse.core.ids import is_uuid
from pilothouse.core.shell import ShellId, shell_id
from pilothouse.core.token import BadToken
from pilothouse.engine import records
from pilothouse.engine.opener import Opener
from pilothouse.engine.ports import StoreFailed
from pilothouse.engine.sessions import Session
from pilothouse.engine.terminal import Terminal
from pilothouse.web import admit
from pilothouse.web.access import named
from pilothouse.web.call import Platform
from pilothouse.web.guard import Guard
from pilothouse.web.hub import Hub
from pilothouse.web.socket import Accept, Door, Refuse, UpgradeRequest
from pilothouse.web.visit import Place, Visit, parameters

CONNECTION_S = 3600.0
"""A connection's life; the Shell API's bound."""
OPEN_S = 8.0
"""For a sandbox to be opened: one of AWS's clients waits ten seconds for the answer of an upgrade."""


class RuntimeShells(Door):
    def __init__(self, platform: Platform, guard: Guard, hub: Hub, opener: Opener) -> None:
        self._platform = platform
        self._guard = guard
        self._hub = hub
        self._opener = opener

    async def authorize(self, request: UpgradeRequest) -> Accept | Refuse:
        request_id = records.new_id()
        try:
            request, protocol = _authorized(_once(request))
            caller = await admit.upgrade(self._platform, self._guard, request, "credential", "run")
            caller.principal.need_at_most("read")  # who types sees what comes back
            runtime, alias, shell = _asked(request)
            session = await self._session(runtime, alias, caller)
            terminal, new = await self._open(session, shell, caller)
        except PilothouseError as error:
            return _refuse(error, request_id)
        except StoreFailed:
            return _refuse(PilothouseError("The store does not answer; try again."), request_id)
        viewer = Viewer(ViewerId(records.new_id()), caller.principal.label, "type", may_type=True, plain=True)
        place = Place(session, terminal, viewer, new)
        visit = Visit(self._platform, self._hub, self._opener.terminals, place, caller.who)
        headers = [
            (agentcore.SHELL_HEADER, shell),
            (agentcore.SESSION_HEADER, alias),
            (agentcore.REQUEST_HEADER, request_id),
        ]
        return Accept(
            lambda socket: visit.serve(socket, caller.room, CONNECTION_S), headers, protocol, named(caller.principal)
        )

    async def _session(self, runtime: str, alias: str, caller: admit.Caller) -> Session:
        who = caller.principal
        if is_uuid(alias):
            try:
                return await self._platform.sessions.get(alias, who, "run")
            except NotFound:
                pass  # it is its caller's own word
        who.need("run")
        once = hashlib.sha256(f"{runtime}\n{alias}".encode()).hexdigest()
        session = await self._platform.sessions.create(
            owner=who.account, organisation=who.organisation, once=f"agentcore:{once}", who=caller.who
        )
        return await self._platform.sessions.get(session.live.record.id, who, "run")

    async def _open(self, session: Session, id: ShellId, caller: admit.Caller) -> tuple[Terminal, bool]:
        try:
            async with asyncio.timeout(OPEN_S):
                return await self._opener.open(session, id, caller.who)
        except TimeoutError:
            raise agentcore.Provisioning from None


def _once(request: UpgradeRequest) -> UpgradeRequest:
    """One of AWS's clients sends `Host` twice, the same both times."""
    hosts = set(request.all("host"))
    if len(hosts) != 1:
        return request
    others = [(name, value) for name, value in request.headers if name != "host"]
    return dataclasses.replace(request, headers=[("host", hosts.pop()), *others])


def _authorized(request: UpgradeRequest) -> tuple[UpgradeRequest, str | None]:
    """With a token among the subprotocols as a header; the subprotocol that is said yes with. Raises Unauthenticated,
    Forbidden."""
    try:
        offered = bearer.of_agentcore(request.subprotocols)
    except BadToken as error:
        raise Forbidden(f"OAuth authorization failed: {error}") from None
    if offered is not None:
        return dataclasses.replace(request, headers=[*request.headers, *offered.headers.items()]), offered.answer
    given = request.subprotocols
    if bearer.AGENTCORE in given:
        raise Unauthenticated("The subprotocol names a token and brings none.")
    return request, agentcore.COMMAND_PROTOCOL if agentcore.COMMAND_PROTOCOL in given else None


def _asked(request: UpgradeRequest) -> tuple[str, str, ShellId]:
    """Runtime, session and shell. Raises NotFound, BadRequest."""
    query = parameters(request.query)

    def one(name: str) -> str | None:
        values = query.get(name, [])
        if len(values) > 1:
            raise BadRequest(f"{name}: given twice")
        return values[0] if values else None

    runtime = agentcore.runtime(request.path)
    agentcore.qualifier(one("qualifier"), runtime)
    asked = one(agentcore.SESSION_HEADER)
    headers = request.all(agentcore.SESSION_HEADER.lower())
    if len({*headers, asked} - {None}) > 1 or len(headers) > 1:
        raise BadRequest("runtimeSessionId: named twice")
    if headers and asked is None and "X-Amz-Signature" in query:  # whoever has the address could choose another one
        raise BadRequest("runtimeSessionId: a presigned address names it itself")
    alias = headers[0] if headers else asked
    shell = one("shellId")
    return (
        runtime,
        agentcore.session_id(alias) if alias is not None else records.new_id(),
        shell_id(shell) if shell is not None else ShellId(records.new_id()),
    )


def _refuse(error: PilothouseError, request_id: str) -> Refuse:
    found = agentcore.refusal(error)
    headers = [
        ("content-type", "application/json"),
        (agentcore.ERROR_HEADER, found.name),
        (agentcore.REQUEST_HEADER, request_id),
    ]
    if found.status == HTTPStatus.UNAUTHORIZED:
        headers.append(("www-authenticate", 'Bearer realm="pilothouse"'))
    return Refuse(found.status, headers, found.body)
