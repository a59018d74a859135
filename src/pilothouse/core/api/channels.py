"""The event API by HTTP, in AppSync's words."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Raw

from pilothouse.core.api.base import Answer, Body
from pilothouse.core.publish import Failed, Taken


class Publish(Body, kw_only=True):
    channel: Annotated[str, Meta(description="`namespace/segment/…`: one to five of `[A-Za-z0-9-]`, 1 to 50 each.")]
    events: Annotated[
        list[str],
        Meta(
            description="Texts that hold a JSON value each, at most 240 KB.",
            extra_json_schema={"minItems": 1, "maxItems": 5},
        ),
    ]
    key: Annotated[
        str | None,
        Meta(
            description="The caller's own word for the request: the same again publishes nothing.",
            extra_json_schema={"minLength": 1, "maxLength": 128},
        ),
    ] = None


class Published(Answer, frozen=True, kw_only=True):
    """Which events were taken; each by its place in the request."""

    failed: list[Failed]
    successful: list[Taken]


class KeptEvent(Answer, frozen=True, kw_only=True):
    """An event of a channel's history."""

    event: Annotated[str, Meta(description="A text that holds a JSON value.")]
    at: str
    seq: int


class History(Answer, frozen=True, kw_only=True):
    """Events after a cursor."""

    epoch: str
    oldest: int
    head: int
    gap: bool
    events: list[KeptEvent]


class KeptHistory(Answer, frozen=True, kw_only=True):
    """The same, its events as they were kept."""

    epoch: str
    oldest: int
    head: int
    gap: bool
    events: list[Raw]


class Presence(Answer, frozen=True, kw_only=True):
    """Who subscribes to the channel now."""

    present: list[str]
    count: int


class Error(Answer, frozen=True, kw_only=True):
    error_type: str
    message: str


class Refused(Answer, frozen=True, kw_only=True):
    """A refusal in AppSync's form."""

    errors: list[Error]
    message: str
