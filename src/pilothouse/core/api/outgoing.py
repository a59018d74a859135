"""What leaves for elsewhere: webhooks, notifications, and what became of each delivery."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from msgspec import Meta

from pilothouse.core.api.base import Answer, Body, Id, Name, Time

HookEvent: TypeAlias = Annotated[
    str, Meta(extra_json_schema={"enum": ["job.completed", "approval.required", "budget.exceeded"]})
]
NoticeEvent: TypeAlias = Annotated[str, Meta(extra_json_schema={"enum": ["approval", "question", "job"]})]
Whose: TypeAlias = Annotated[str, Meta(extra_json_schema={"enum": ["own", "all"]})]
Grace: TypeAlias = Annotated[
    float,
    Meta(
        description="Seconds for which the old secret signs too.", extra_json_schema={"minimum": 0, "maximum": 604_800}
    ),
]


class NewWebhook(Body, kw_only=True):
    """An address that is told what happens."""

    url: str
    name: Name = "webhook"
    events: Annotated[list[HookEvent] | None, Meta(description="All, if none are named.")] = None

    def __repr__(self) -> str:
        return "NewWebhook()"


class WebhookChange(Body, kw_only=True):
    """What is not given stays."""

    url: str | None = None
    name: Name | None = None
    events: list[HookEvent] | None = None
    enabled: bool | None = None

    def __repr__(self) -> str:
        return "WebhookChange()"


class Rotation(Body, kw_only=True):
    grace_s: Grace = 86_400.0


class Delivery(Answer, frozen=True, kw_only=True):
    """One message to one address; its id is the `webhook-id`."""

    id: str
    type: str
    state: Annotated[
        str,
        Meta(
            description="`dead`: given up; `withheld`: not sent, see `error`.",
            extra_json_schema={"enum": ["pending", "delivered", "dead", "withheld"]},
        ),
    ]
    attempts: int
    created_at: Time
    session_id: Id | None = None
    status: Annotated[int | None, Meta(description="What the address answered last.")] = None
    error: str = ""
    last_attempt_at: Time | None = None
    next_attempt_at: Time | None = None


class Webhook(Answer, frozen=True, kw_only=True):
    """Where an organisation's events are sent. `url` is shown without its path and query."""

    id: Id
    name: str
    url: str
    events: list[HookEvent]
    enabled: bool
    created_at: Time
    created_by: str
    pending: int
    dead: int
    disabled_because: str = ""
    last: Delivery | None = None


class MadeWebhook(Webhook, frozen=True, kw_only=True):
    """With the secret that it is signed with, shown this once."""

    secret: str

    def __repr__(self) -> str:
        return f"MadeWebhook(id={self.id!r})"


class Replayed(Answer, frozen=True, kw_only=True):
    replayed: Annotated[int, Meta(description="How many are sent again.")]


class BrowserKeys(Body, kw_only=True):
    """Of a browser's subscription."""

    p256dh: str
    auth: str

    def __repr__(self) -> str:
        return "BrowserKeys()"


class NewNotifier(Body, kw_only=True):
    """A browser (`push`, with `keys`), or an address that takes Slack's messages."""

    kind: Literal["push", "slack"]
    url: str
    keys: BrowserKeys | None = None
    name: Name | None = None
    events: Annotated[list[NoticeEvent] | None, Meta(description="`approval` and `question`, if none are named.")] = (
        None
    )
    sessions: Whose | None = None

    def __repr__(self) -> str:
        return "NewNotifier()"


class NotifierChange(Body, kw_only=True):
    """What is not given stays."""

    name: Name | None = None
    events: list[NoticeEvent] | None = None
    sessions: Whose | None = None
    enabled: bool | None = None


class Notifier(Answer, frozen=True, kw_only=True):
    """How somebody is told."""

    id: Id
    kind: Annotated[str, Meta(extra_json_schema={"enum": ["push", "slack"]})]
    name: str
    to: Annotated[str, Meta(description="Its origin alone.")]
    events: list[NoticeEvent]
    sessions: Whose
    enabled: bool
    created_at: Time
    current: Annotated[bool, Meta(description="It is this very sign-in's browser.")]
    disabled_because: str = ""
    last: Delivery | None = None


class PushKey(Answer, frozen=True, kw_only=True):
    public_key: Annotated[str, Meta(description="With which a browser subscribes.")]
