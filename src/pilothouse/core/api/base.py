"""What the API's types are made of."""

from __future__ import annotations

from typing import Annotated, Any, Generic, TypeAlias, TypeVar

from msgspec import Meta, Struct

T = TypeVar("T")


class Body(Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, rename="camel"):
    """A request's body; unknown fields are refused by name."""


class Answer(Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """What is answered."""


UUID = "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"
LINE = "^[^\\u0000-\\u001f\\u007f]*$"
Id: TypeAlias = Annotated[str, Meta(extra_json_schema={"pattern": UUID})]
JobName: TypeAlias = Annotated[
    str,
    Meta(
        description="A UUID, or the caller's own word for its job.",
        extra_json_schema={"pattern": "^[A-Za-z0-9](?:[A-Za-z0-9-]{0,48}[A-Za-z0-9])?$"},
    ),
]
Time: TypeAlias = Annotated[
    str, Meta(description="RFC 3339, UTC, milliseconds.", extra_json_schema={"format": "date-time"})
]
Sha256: TypeAlias = Annotated[str, Meta(extra_json_schema={"pattern": "^[0-9a-f]{64}$"})]
Scope: TypeAlias = Annotated[str, Meta(extra_json_schema={"enum": ["read", "run", "approve", "admin", "metrics"]})]
Role: TypeAlias = Annotated[str, Meta(extra_json_schema={"enum": ["viewer", "operator", "approver", "admin"]})]
Name: TypeAlias = Annotated[str, Meta(extra_json_schema={"minLength": 1, "maxLength": 100, "pattern": LINE})]
"""One line of a person's choosing."""
Mode: TypeAlias = Annotated[
    str,
    Meta(
        description="What goes ahead without being asked: edits in the workspace (`acceptEdits`), everything "
        "(`acceptAll`), nothing that changes something (`manual`), nothing at all but planning (`plan`), what a rule "
        "allows and nothing else (`dontAsk`).",
        extra_json_schema={
            "enum": ["acceptEdits", "manual", "acceptAll", "plan", "dontAsk", "default", "bypassPermissions"]
        },
    ),
]
ModelName: TypeAlias = Annotated[
    str, Meta(description="A model's id.", extra_json_schema={"maxLength": 200, "pattern": "^[A-Za-z0-9_.:/@-]*$"})
]
Dollars: TypeAlias = Annotated[float, Meta(description="US dollars.", extra_json_schema={"minimum": 0})]
Size: TypeAlias = Annotated[int, Meta(description="Bytes.", extra_json_schema={"minimum": 0})]
Seq: TypeAlias = Annotated[int, Meta(description="A number of the session's log.", extra_json_schema={"minimum": 0})]


class Page(Answer, Generic[T], frozen=True, kw_only=True):
    """A page of a list, newest first where there is an order in time."""

    items: list[T]
    next: Annotated[str | None, Meta(description="The `cursor` of the next page; null on the last one.")]


class Everything(Answer, Generic[T], frozen=True, kw_only=True):
    """A list that is not paged."""

    items: list[T]


class Problem(Answer, frozen=True, kw_only=True):
    """A problem document (RFC 9457)."""

    title: Annotated[str, Meta(description="HTTP's own words for the status.")]
    status: int
    code: Annotated[str, Meta(description="The machine-readable word; see protocol/README.md.")]
    detail: Annotated[str, Meta(description="For a person; of bad input it names the field.")]
    type: Annotated[str, Meta(description="Always `about:blank`: `code` tells problems apart.")] = ""
    outcome: Annotated[str | None, Meta(description="Of `already_resolved`: what was decided.")] = None
    by: Annotated[str | None, Meta(description="Of `already_resolved`: who decided.")] = None
    reason: Annotated[
        str | None,
        Meta(
            description="Of `bad_signature` and `bad_token`: what does not stand. Of an `Idempotency-Key`: `made`, "
            "`begun` or `other`."
        ),
    ] = None
    limit: Annotated[int | None, Meta(description="Of a 429: how many may be had.")] = None
    remaining: Annotated[int | None, Meta(description="Of a 429: how many are left.")] = None
    reset_at: Annotated[int | None, Meta(description="Of a 429: when all are there again, in seconds since 1970.")] = (
        None
    )
    retry_after_s: Annotated[int | None, Meta(description="Of a 429: seconds until the next one may be had.")] = None


class Health(Answer, frozen=True, kw_only=True):
    """The process answers."""

    status: Annotated[str, Meta(extra_json_schema={"enum": ["ok"]})]


class Readiness(Answer, frozen=True, kw_only=True):
    """Whether work is taken, and why not."""

    status: Annotated[str, Meta(extra_json_schema={"enum": ["ready", "not_ready"]})]
    reasons: list[str] = []


Json: TypeAlias = Any
"""Free JSON: only ever carried."""
