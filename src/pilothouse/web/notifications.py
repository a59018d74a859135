"""The HTTP API's handlers for a person's notifications. See `protocol/http.md`."""

from __future__ import annotations

from starlette.responses import Response

from pilothouse.core import useragent
from pilothouse.core.api.outgoing import NewNotifier, Notifier, NotifierChange, PushKey
from pilothouse.core.errors import BadRequest, Forbidden
from pilothouse.engine import records
from pilothouse.engine.notifier import Keys, NotifierRecord, Wish
from pilothouse.web import hooks, wire
from pilothouse.web.call import Call


async def list_notifiers(call: Call) -> Response:
    own(call)
    found = call.platform.outgoing.notifiers.of(call.principal)
    return wire.everything([await _shown(call, record) for record in found])


async def push_key(call: Call) -> Response:
    own(call)
    return wire.Reply(PushKey(public_key=await call.platform.outgoing.vapid.public()))


async def make_notifier(call: Call) -> Response:
    own(call)
    given = await wire.body(call.request, NewNotifier)
    wish = Wish(given.name, given.events, given.sessions)
    notifiers = call.platform.outgoing.notifiers
    if given.kind == "push":
        if given.keys is None:
            raise BadRequest("keys: a browser's subscription has p256dh and auth")
        usual = useragent.summary(call.request.headers.get("user-agent")) or "Browser"
        record = await notifiers.subscribe(
            call.who, given.url, Keys(p256dh=given.keys.p256dh, auth=given.keys.auth), wish, usual
        )
    else:
        if given.keys is not None:
            raise BadRequest("keys: only for kind push")
        record = await notifiers.slack(call.who, given.url, wish)
    return wire.Reply(await _shown(call, record), 201)


async def change_notifier(call: Call) -> Response:
    own(call)
    given = await wire.body(call.request, NotifierChange)
    wish = Wish(given.name, given.events, given.sessions)
    record = await call.platform.outgoing.notifiers.change(call.who, _id(call), wish, given.enabled)
    return wire.Reply(await _shown(call, record))


async def remove_notifier(call: Call) -> Response:
    own(call)
    await call.platform.outgoing.notifiers.remove(call.who, _id(call))
    return Response(status_code=204)


async def test_notifier(call: Call) -> Response:
    own(call)
    made = await call.platform.outgoing.notices.test(call.principal, _id(call))
    return wire.Reply(hooks.delivery(made), 202)


async def list_deliveries(call: Call) -> Response:
    own(call)
    return await hooks.page(call, call.platform.outgoing.notifiers.get(call.principal, _id(call)).id)


def own(call: Call) -> None:
    """A key that leaks must not go on telling somebody what happens after it was revoked. Raises Forbidden."""
    if call.principal.kind != "person" and "admin" not in call.principal.scopes:
        raise Forbidden("Notifications are a person's; a key needs the scope 'admin' for them.")


def _id(call: Call) -> str:
    return str(call.request.path_params["id"])


async def _shown(call: Call, record: NotifierRecord) -> Notifier:
    newest = await call.platform.outgoing.couriers.deliveries.page(record.id, "", "", 1)
    return Notifier(
        id=record.id,
        kind=record.kind,
        name=record.name,
        to=record.shown,
        events=list(record.events),
        sessions=record.sessions,
        enabled=not record.disabled,
        created_at=records.stamp(record.created_at),
        current=bool(record.sign_in) and call.principal.credential == f"signin:{record.sign_in}",
        disabled_because=record.disabled or "",
        last=hooks.delivery(newest[0]) if newest else None,
    )
