"""The HTTP API's handlers for what lets somebody in: keys, key pairs, sign-in tickets. See `protocol/http.md`."""

from __future__ import annotations

from starlette.responses import Response

from pilothouse.core import access
from pilothouse.core.api.access import NewKey, Ticket
from pilothouse.core.bucket import Rates
from pilothouse.core.errors import BadRequest, Forbidden
from pilothouse.engine import records
from pilothouse.web import members, views, wire
from pilothouse.web.call import Call


async def make_ticket(call: Call) -> Response:
    organisation, account = members.whom(call)
    ticket, until = await call.platform.identity.ticket(account, organisation, call.who)
    url = f"{call.url}/#ticket={ticket}"
    return wire.Reply(Ticket(ticket=ticket, url=url, expires_at=records.stamp(until)), 201)


async def list_keys(call: Call) -> Response:
    organisation = members.which(call)
    found = [views.key(k) for k in await call.platform.identity.keys.all(organisation)]
    found += [views.key(p) for p in await call.platform.pairs.all(organisation)]
    return wire.everything(sorted(found, key=lambda key: key.created_at, reverse=True))


async def make_key(call: Call) -> Response:
    given = await wire.body(call.request, NewKey)
    organisation, account = members.whom(call, given.account)
    if given.kind == "sigv4":
        return await _make_pair(call, given, organisation, account)
    if given.expires_in_s is not None or given.session_token:
        raise BadRequest("expiresInS, sessionToken: only for kind sigv4")
    record, text = await call.platform.identity.keys.create(
        given.name,
        access.scopes(given.scopes),
        call.who,
        _rates(call, given),
        account=account,
        organisation=organisation,
    )
    return wire.Reply(views.made_key(record, key=text), 201)


async def _make_pair(call: Call, given: NewKey, organisation: str, account: str) -> Response:
    record, secret = await call.platform.pairs.create(
        given.name,
        access.scopes(given.scopes),
        call.who,
        _rates(call, given),
        account=account,
        organisation=organisation,
        expires_in_s=given.expires_in_s,
        token=given.session_token,
    )
    made = views.made_key(
        record,
        access_key_id=record.id,
        secret_access_key=secret.secret_access_key,
        session_token=secret.session_token,
    )
    return wire.Reply(made, 201)


def _rates(call: Call, given: NewKey) -> Rates | None:
    """Of its own, where they are not as configured."""
    usual = call.platform.gate.rates
    rates = usual.changed(given.rate_per_s, given.rate_burst, given.quota_per_day)
    if not (call.principal.of_server or rates.within(usual)):
        raise Forbidden(
            "ratePerS, rateBurst, quotaPerDay: only an admin of the server gives more than it gives itself."
        )
    return rates if rates != usual else None


async def revoke_key(call: Call) -> Response:
    name, organisation = call.request.path_params["id"], members.which(call)
    if call.platform.pairs.named(name):
        await call.platform.pairs.revoke(name, organisation, call.who)
    else:
        await call.platform.identity.keys.revoke(name, organisation, call.who)
    return Response(status_code=204)
