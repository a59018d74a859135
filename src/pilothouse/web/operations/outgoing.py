"""Webhooks and notifications."""

from __future__ import annotations

from pilothouse.core.api import Page, outgoing
from pilothouse.web.operations import examples as ex
from pilothouse.web.operations.base import DONE, ORGANISATION, PAGED, Operation, Parameter, Said, text

HOOKS, NOTICES = "Webhooks", "Notifications"
STATE = Parameter("state", text(enum=["pending", "delivered", "dead", "withheld"]), "Of this state alone.")
IN = (ORGANISATION,)
DELIVERY = outgoing.Delivery(
    id="msg_019ab5c2-9ea6", type="job.completed", state="delivered", attempts=1, created_at=ex.AT,
    session_id=ex.SESSION_ID, status=204, last_attempt_at=ex.LATER,
)  # fmt: skip
WEBHOOK = outgoing.Webhook(
    id=ex.QUESTION_ID, name="ci", url="https://ci.example/…", events=["job.completed"], enabled=True,
    created_at=ex.AT, created_by="ann", pending=0, dead=0, last=DELIVERY,
)  # fmt: skip
MADE = outgoing.MadeWebhook(
    id=ex.QUESTION_ID, name="ci", url="https://ci.example/…", events=["job.completed"], enabled=True,
    created_at=ex.AT, created_by="ann", pending=0, dead=0, secret="whsec_…",  # noqa: S106
)  # fmt: skip
NOTIFIER = outgoing.Notifier(
    id=ex.QUESTION_ID, kind="slack", name="team", to="https://hooks.slack.example", events=["approval"], sessions="own",
    enabled=True, created_at=ex.AT, current=False,
)  # fmt: skip
QUEUED = Said("It is sent.", outgoing.Delivery, DELIVERY)
DELIVERIES = {200: Said("A page, newest first.", Page[outgoing.Delivery], Page(items=[DELIVERY], next=None))}
PERSONS = "A key sees them with the scope `admin` only."
SEALED = {503: "Or the sealing key does not open what is there."}

OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "GET", "/api/webhooks", HOOKS, "The organisation's webhooks",
        {200: Said("All of them.", Page[outgoing.Webhook], Page(items=[WEBHOOK], next=None))}, query=IN,
    ),
    Operation(
        "POST", "/api/webhooks", HOOKS, "Make a webhook",
        {201: Said("Made; the secret is shown this once.", outgoing.MadeWebhook, MADE)},
        query=IN, body=outgoing.NewWebhook,
        example=outgoing.NewWebhook(url="https://ci.example/hook", name="ci", events=["job.completed"]),
        refuses={429: "Or there are twenty.", **SEALED},
    ),
    Operation("GET", "/api/webhooks/{id}", HOOKS, "A webhook", {200: Said("It.", outgoing.Webhook, WEBHOOK)}, query=IN),
    Operation(
        "PATCH", "/api/webhooks/{id}", HOOKS, "Change it", {200: Said("As it is now.", outgoing.Webhook, WEBHOOK)},
        query=IN, body=outgoing.WebhookChange, example=outgoing.WebhookChange(enabled=False), refuses=SEALED,
    ),
    Operation("DELETE", "/api/webhooks/{id}", HOOKS, "Remove it, with its deliveries", {204: DONE}, query=IN),
    Operation(
        "POST", "/api/webhooks/{id}/rotate", HOOKS, "Give it a new secret",
        {200: Said("The secret is shown this once.", outgoing.MadeWebhook, MADE)},
        query=IN, body=outgoing.Rotation, example=outgoing.Rotation(grace_s=3600), refuses=SEALED,
    ),
    Operation(
        "POST", "/api/webhooks/{id}/ping", HOOKS, "Send a `ping`", {202: QUEUED}, query=IN,
        refuses={409: "It is disabled.", 429: "Or too much waits for it."},
    ),
    Operation("GET", "/api/webhooks/{id}/deliveries", HOOKS, "Its deliveries", DELIVERIES, query=(STATE, *PAGED, *IN)),
    Operation(
        "POST", "/api/webhooks/{id}/deliveries/{delivery}/replay", HOOKS, "Send one again", {202: QUEUED}, query=IN,
        refuses={409: "It waits already, or the webhook is disabled."},
    ),
    Operation(
        "POST", "/api/webhooks/{id}/replay", HOOKS, "Send all dead letters again",
        {202: Said("They are sent.", outgoing.Replayed, outgoing.Replayed(replayed=3))}, query=IN,
        refuses={409: "It is disabled."},
    ),
    Operation(
        "GET", "/api/notifications", NOTICES, "How the caller is told",
        {200: Said("All of them.", Page[outgoing.Notifier], Page(items=[NOTIFIER], next=None))}, PERSONS,
    ),
    Operation(
        "POST", "/api/notifications", NOTICES, "Be told in this browser, or in Slack",
        {201: Said("Made, or changed.", outgoing.Notifier, NOTIFIER)}, PERSONS,
        body=outgoing.NewNotifier, example=outgoing.NewNotifier(kind="slack", url="https://hooks.slack.example/x"),
        refuses={409: "`push` is for a browser that somebody is signed in with.", 429: "Or there are too many.",
                 **SEALED},
    ),
    Operation(
        "GET", "/api/notifications/key", NOTICES, "With which a browser subscribes",
        {200: Said("The server's public key.", outgoing.PushKey, outgoing.PushKey(public_key="BNbx…"))}, PERSONS,
        refuses=SEALED,
    ),
    Operation(
        "PATCH", "/api/notifications/{id}", NOTICES, "Change it",
        {200: Said("As it is now.", outgoing.Notifier, NOTIFIER)},
        body=outgoing.NotifierChange, example=outgoing.NotifierChange(events=["approval", "job"]),
    ),
    Operation("DELETE", "/api/notifications/{id}", NOTICES, "Be told no more", {204: DONE}),
    Operation(
        "POST", "/api/notifications/{id}/test", NOTICES, "Send a test", {202: QUEUED},
        refuses={409: "It is disabled."},
    ),
    Operation(
        "GET", "/api/notifications/{id}/deliveries", NOTICES, "Its deliveries", DELIVERIES, query=(STATE, *PAGED),
    ),
)  # fmt: skip
