"""The HTTP API's handlers for who else may be in a session: grants and share links. See `protocol/http.md`."""

from __future__ import annotations

from starlette.responses import Response

from pilothouse.core import access
from pilothouse.core.api.sessions import NewGrant, NewLink
from pilothouse.engine.members import check_account
from pilothouse.web import views, wire
from pilothouse.web.call import Call


async def put_grant(call: Call) -> Response:
    session = await call.session()
    given = await wire.body(call.request, NewGrant)
    grant = access.grant(given.right)
    account = call.request.path_params["account"]
    call.platform.identity.members.find(session.live.record.organisation, account)
    record = await call.platform.sessions.shelf.share(session, account=account, grant=grant, who=call.who)
    return wire.Reply(await views.session(call.platform.sessions, record, call.principal))


async def remove_grant(call: Call) -> Response:
    session = await call.session()
    account = call.request.path_params["account"]
    check_account(account)
    await call.platform.sessions.shelf.share(session, account=account, who=call.who)
    return Response(status_code=204)


async def list_links(call: Call) -> Response:
    session = await call.session()
    found = await call.platform.identity.links.of(session.live.record.id)
    return wire.everything([views.link(one) for one in found])


async def make_link(call: Call) -> Response:
    session = await call.session()
    given = await wire.body(call.request, NewLink)
    made, text = await call.platform.identity.links.make(
        call.principal,
        session.live.record.id,
        given.right,
        name=given.name,
        seconds=given.expires_in_s,
        address=call.who.address,
    )
    return wire.Reply(views.made_link(made, f"{call.url}/#link={text}"), 201)


async def revoke_link(call: Call) -> Response:
    session = await call.session()
    await call.platform.identity.links.revoke(session.live.record.id, call.request.path_params["link"], call.who)
    return Response(status_code=204)
