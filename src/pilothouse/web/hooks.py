"""The HTTP API's handlers for webhooks and their deliveries. See `protocol/http.md`, `protocol/webhooks.md`."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from pilothouse.core import webhook
from pilothouse.core.api.outgoing import Delivery, MadeWebhook, NewWebhook, Replayed, Rotation, Webhook, WebhookChange
from pilothouse.core.errors import BadRequest
from pilothouse.engine import records
from pilothouse.engine.deliveries import DeliveryRecord
from pilothouse.engine.webhooks import WebhookRecord
from pilothouse.web import members, wire
from pilothouse.web.call import Call

STATES = ("pending", "delivered", "dead", "withheld")


async def list_webhooks(call: Call) -> Response:
    found = call.platform.outgoing.webhooks.all(members.which(call))
    return wire.everything([await _shown(call, record) for record in found])


async def make_webhook(call: Call) -> Response:
    given = await wire.body(call.request, NewWebhook)
    record, secret = await call.platform.outgoing.webhooks.create(
        members.which(call),
        name=given.name,
        url=given.url,
        events=webhook.EVENTS if given.events is None else given.events,
        who=call.who,
    )
    return wire.Reply(await _made(call, record, secret), 201)


async def get_webhook(call: Call) -> Response:
    return wire.Reply(await _shown(call, _found(call)))


async def change_webhook(call: Call) -> Response:
    given = await wire.body(call.request, WebhookChange)
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
    return wire.Reply(await _made(call, _found(call), secret))


async def ping(call: Call) -> Response:
    made = await call.platform.outgoing.webhooks.ping(members.which(call), _id(call))
    return wire.Reply(delivery(made), 202)


async def list_deliveries(call: Call) -> Response:
    return await page(call, _found(call).id)


async def replay(call: Call) -> Response:
    """One delivery, dead or delivered."""
    outgoing, record = call.platform.outgoing, _enabled(call)
    found = await outgoing.couriers.deliveries.of(record.id, call.request.path_params["delivery"])
    return wire.Reply(delivery(await outgoing.couriers.replay(found)), 202)


async def replay_dead(call: Call) -> Response:
    count = await call.platform.outgoing.couriers.replay_dead(_enabled(call).id)
    return wire.Reply(Replayed(replayed=count), 202)


async def page(call: Call, target: str) -> Response:
    """Of a target's deliveries."""
    state = call.request.query_params.get("state", "")
    if state not in {"", *STATES}:
        raise BadRequest(f"state: {state[:50]!r} is none of {', '.join(STATES)}")
    asked = wire.limit(call.request)
    found = await call.platform.outgoing.couriers.deliveries.page(target, state, wire.cursor(call.request), asked)
    return wire.page([delivery(record) for record in found], [record.id for record in found], asked)


def delivery(record: DeliveryRecord) -> Delivery:
    waits = record.next_at if record.state == "pending" else None
    return Delivery(
        id=record.id,
        type=record.type,
        state=record.state,
        attempts=record.attempts,
        created_at=records.stamp(record.created_at),
        session_id=record.session_id,
        status=record.status,
        error=record.error,
        last_attempt_at=None if record.last_at is None else records.stamp(record.last_at),
        next_attempt_at=None if waits is None else records.stamp(waits),
    )


def _id(call: Call) -> str:
    return str(call.request.path_params["id"])


def _found(call: Call) -> WebhookRecord:
    """Raises NotFound."""
    return call.platform.outgoing.webhooks.get(members.which(call), _id(call))


def _enabled(call: Call) -> WebhookRecord:
    """What is replayed for a disabled one would be dead again at once. Raises NotFound, Conflict."""
    return call.platform.outgoing.webhooks.enabled(members.which(call), _id(call))


async def _shown(call: Call, record: WebhookRecord) -> Webhook:
    return Webhook(**await _fields(call, record))


async def _made(call: Call, record: WebhookRecord, secret: str) -> MadeWebhook:
    return MadeWebhook(**await _fields(call, record), secret=secret)


async def _fields(call: Call, record: WebhookRecord) -> dict[str, Any]:
    couriers = call.platform.outgoing.couriers
    newest = await couriers.deliveries.page(record.id, "", "", 1)
    return {
        "id": record.id,
        "name": record.name,
        "url": webhook.shown(record.shown),  # kept by a server before this one it may have the path
        "events": list(record.events),
        "enabled": not record.disabled,
        "created_at": records.stamp(record.created_at),
        "created_by": record.created_by,
        "pending": couriers.waiting(record.id),
        "dead": await couriers.deliveries.count(record.id),
        "disabled_because": record.disabled or "",
        "last": delivery(newest[0]) if newest else None,
    }
