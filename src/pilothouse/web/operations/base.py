"""What is said of one route in the OpenAPI document.

A part of the API is a module here with its `OPERATIONS`, one for each of its rows in the route table; `__init__` puts
them together, and a test compares the two. What follows from the row itself is not said again: the credentials, the
parameters of the path, and the refusals that every such route has (`web.openapi`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

Schema: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True)
class Parameter:
    """Of the query, or a header."""

    name: str
    schema: Schema
    description: str
    where: str = "query"
    required: bool = False
    example: object = None


@dataclass(frozen=True)
class Said:
    """One answer. Without `kind` and `media` it has no body."""

    description: str
    kind: Any = None
    """The type of its JSON."""
    example: object = None
    media: str = ""
    """Of a body that is no JSON."""
    stream: str = ""
    """As `text/event-stream`, where that is asked for: an example."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Name and meaning."""


@dataclass(frozen=True)
class Operation:
    method: str
    path: str
    """Both as in the route table."""
    group: str
    summary: str
    answers: Mapping[int, Said]
    description: str = ""
    query: tuple[Parameter, ...] = ()
    body: Any = None
    """The type of its JSON."""
    body_optional: bool = False
    example: object = None
    """Of the body."""
    refuses: Mapping[int, str] = field(default_factory=dict)
    """Statuses beyond what every such route has, and when; the words are added to what is said of the status."""
    appsync: bool = False
    """It refuses in AppSync's words."""


def text(**more: object) -> Schema:
    return {"type": "string", **more}


def whole(low: int, high: int, default: int | None = None) -> Schema:
    said: dict[str, object] = {"type": "integer", "minimum": low, "maximum": high}
    return said if default is None else said | {"default": default}


DONE = Said("It is done.")
MADE = 201
PAGED = (
    Parameter("limit", whole(1, 200, 50), "At most so many."),
    Parameter("cursor", text(maxLength=100), "`next` of the page before."),
)
AFTER = Parameter("after", whole(0, 2**53, 0), "Only what has a higher number.")
ORGANISATION = Parameter("organisation", text(), "Another one than the caller's; for admins of the server.")
ACCOUNT = Parameter("account", text(), "Of this member instead of the caller.")
FOLDER = Parameter("path", text(maxLength=4096), "Below the workspace, which is the empty path.", example="src")
LAST = Parameter("Last-Event-ID", text(), "Of a stream: it goes on after this number, whatever `after` says.", "header")
SSE = "Asked for with `Accept: text/event-stream`: the same live, `id:` its number, `data:` the event. "
"""How a stream is told of."""
