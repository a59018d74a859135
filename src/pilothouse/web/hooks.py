"""The HTTP API's handlers for webhooks and their deliveries. See `protocol/http.md`, `protocol/webhooks.md`."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from pilothouse.core import webhook
from pilothouse.core.errors import BadRequest
from pilothouse.engine import records
from pilothouse.engine.deliveries import DeliveryRecord
from pilothouse.engine.webhooks import GRACE_S, WebhookRecord
from pilothouse.web import members, wire
from pilothouse.web.call import Call

STATES = ("pending", "delivered", "dead", "withheld")


class NewWebhook(wire.Body):
    url: str
    name: str = "webhook"
    events: list[str] | None = None

    def __repr__(self) -> str:
        return "NewWebhook()"


class Changes(wire.Body):
    url: str | None = None
    name: str | None = None
    events: list[str] | None = None
    enabled: bool | None = None

    def __repr__(self) -> str:
        return "Changes()"


class Rotation(wire.Body):
    grace_s: float = GRACE_S


async def list_webhooks(call: Call) -> Response:
    found = call.platform.outgoing.webhooks.all(members.which(call))
    return wire.Reply({"items": [await _shown(call, record) for record in found], "next": None})


async def make_webhook(call: Call) -> Response:
    given = await wire.body(call.request, NewWebhook)
    record, secret = await call.platform.outgoing.webhooks.create(
        members.which(call),
        name=given.name,
        url=given.url,
        events=webhook.EVENTS if given.events is None else given.events,
        who=call.who,
    )
    return wire.Reply({**await _shown(call, record), "secret": secret}, 201)


async def get_webhook(call: Call) -> Response:
    return wire.Reply(await _shown(call, _found(call)))


async def change_webhook(call: Call) -> Response:
    given = await wire.body(call.request, Changes)
    record = await call.platform.outgoing.webhooks.change(
        members.which(call),
        _id(call),
        name=given.name,
        url=given.url,
        events=given.events,
        enabled=given.enabled,
        who=call.who,
    )
    return wire.Reply(await _shown(call, record))


async def remove_webhook(call: Call) -> Response:
    await call.platform.outgoing.webhooks.remove(members.which(call), _id(call), call.who)
    return Response(status_code=204)


async def rotate_secret(call: Call) -> Response:
    given = await wire.body(call.request, Rotation)
    secret = await call.platform.outgoing.webhooks.rotate(members.which(call), _id(call), given.grace_s, call.who)
    return wire.Reply({**await _shown(call, _found(call)), "secret": secret})


async def ping(call: Call) -> Response:
    made = await call.platform.outgoing.webhooks.ping(members.which(call), _id(call))
    return wire.Reply(delivery(made), 202)


async def list_deliveries(call: Call) -> Response:
    return await page(call, _found(call).id)


async def replay(call: Call) -> Response:
    """One delivery, dead or delivered."""
    outgoing, record = call.platform.outgoing, _found(call)
    found = await outgoing.couriers.deliveries.of(record.id, call.request.path_params["delivery"])
    return wire.Reply(delivery(await outgoing.couriers.replay(found)), 202)


async def replay_dead(call: Call) -> Response:
    count = await call.platform.outgoing.couriers.replay_dead(_found(call).id)
    return wire.Reply({"replayed": count}, 202)


async def page(call: Call, target: str) -> Response:
    """Of a target's deliveries."""
    state = call.request.query_params.get("state", "")
    if state not in {"", *STATES}:
        raise BadRequest(f"state: {state[:50]!r} is none of {', '.join(STATES)}")
    asked = wire.limit(call.request)
    found = await call.platform.outgoing.couriers.deliveries.page(target, state, wire.cursor(call.request), asked)
    return wire.page([delivery(record) for record in found], [record.id for record in found], asked)


def delivery(record: DeliveryRecord) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "id": record.id,
        "type": record.type,
        "state": record.state,
        "attempts": record.attempts,
        "createdAt": records.stamp(record.created_at),
    }
    if record.session_id is not None:
        shown["sessionId"] = record.session_id
    if record.status is not None:
        shown["status"] = record.status
    if record.error:
        shown["error"] = record.error
    if record.last_at is not None:
        shown["lastAttemptAt"] = records.stamp(record.last_at)
    if record.state == "pending" and record.next_at is not None:
        shown["nextAttemptAt"] = records.stamp(record.next_at)
    return shown


def _id(call: Call) -> str:
    return str(call.request.path_params["id"])


def _found(call: Call) -> WebhookRecord:
    """Raises NotFound."""
    return call.platform.outgoing.webhooks.get(members.which(call), _id(call))


async def _shown(call: Call, record: WebhookRecord) -> dict[str, Any]:
    couriers = call.platform.outgoing.couriers
    newest = await couriers.deliveries.page(record.id, "", "", 1)
    shown: dict[str, Any] = {
        "id": record.id,
        "name": record.name,
        "url": record.shown,
        "events": record.events,
        "enabled": not record.disabled,
        "createdAt": records.stamp(record.created_at),
        "createdBy": record.created_by,
        "pending": couriers.waiting(record.id),
        "dead": await couriers.deliveries.count(record.id),
    }
    if record.disabled:
        shown["disabledBecause"] = record.disabled
    if newest:
        shown["last"] = delivery(newest[0])
    return shown
