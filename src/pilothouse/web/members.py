"""The HTTP API's handlers for organisations and their members. See `protocol/http.md`.

An admin manages its own organisation; one of `default`, who is the server's, any: `?organisation=`.
"""

from __future__ import annotations

from starlette.responses import Response

from pilothouse.core.api.sessions import MemberChange, NewOrganisation
from pilothouse.core.errors import Forbidden
from pilothouse.web import views, wire
from pilothouse.web.call import Call


def which(call: Call) -> str:
    """The organisation that a request is about. Raises Forbidden, NotFound."""
    who = call.principal
    asked = call.request.query_params.get("organisation", who.organisation)
    if asked == who.organisation:
        return asked
    if not who.of_server:
        raise Forbidden("organisation: only an admin of the server may name another.")
    return call.platform.identity.members.organisation(asked).id


def whom(call: Call, account: str | None = None) -> tuple[str, str]:
    """Organisation and account that a ticket or a key is for: the caller's, when nobody is named."""
    organisation = which(call)
    asked = account or call.request.query_params.get("account")
    return organisation, asked or call.principal.account


async def list_organisations(call: Call) -> Response:
    every = call.platform.identity.members.organisations()
    mine = [o for o in every if call.principal.of_server or o.id == call.principal.organisation]
    return wire.everything([views.organisation(o) for o in mine])


async def make_organisation(call: Call) -> Response:
    if not call.principal.of_server:
        raise Forbidden("Only an admin of the server makes organisations.")
    given = await wire.body(call.request, NewOrganisation)
    made = await call.platform.identity.members.make(given.id, given.name, call.who)
    return wire.Reply(views.organisation(made), 201)


async def list_members(call: Call) -> Response:
    found = call.platform.identity.members.all(which(call))
    return wire.everything([views.member(m) for m in found])


async def put_member(call: Call) -> Response:
    given = await wire.body(call.request, MemberChange)
    member = await call.platform.identity.members.put(
        which(call),
        call.request.path_params["account"],
        role=given.role,
        name=given.name,
        disabled=given.disabled,
        who=call.who,
    )
    return wire.Reply(views.member(member))


async def remove_member(call: Call) -> Response:
    await call.platform.identity.members.remove(which(call), call.request.path_params["account"], call.who)
    return Response(status_code=204)
