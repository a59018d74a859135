"""The OpenAPI 3.1 document: what `web.operations` says of every row of the route table, and what follows from the row.

    paths            every route; `x-scope` is what the caller needs, in its organisation or in the session
    x-websockets     the WebSockets, which OpenAPI has no words for
    components       the schemas, made from the types that the handlers take and give; the credentials

It is the same for everybody and says nothing of this server, its settings or its version: what it says is in our
sources. That is why it is public.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from http import HTTPStatus
from typing import Any, Literal, Protocol

import msgspec

from pilothouse.core import errors
from pilothouse.core.access import Scope
from pilothouse.core.api import Problem
from pilothouse.core.api.base import UUID
from pilothouse.core.api.channels import Error, Refused
from pilothouse.core.events import LogEvent
from pilothouse.web.guard import COOKIE, LINK_COOKIE, SAFE, Policy
from pilothouse.web.operations import OPERATIONS
from pilothouse.web.operations.base import Operation, Parameter, Said, text
from pilothouse.web.repeats import KEY_MAX

Built = dict[str, Any]
IDEMPOTENCY = "Idempotency-Key"
REPLAYED = {"Idempotent-Replayed": "`true` where the change was made before, and is not made again."}
VERSION = "1"
"""Of the API, not of this server."""
REF = "#/components/schemas/{name}"
PROBLEM = "application/problem+json"
STREAM = "text/event-stream"
ABOUT = """Sessions, jobs, approvals, shells and files of Pilothouse.

**Who is calling**: an API key as `x-api-key` or `Authorization: Bearer`, a signed token of a configured issuer as
`Authorization: Bearer`, a request signed as clients of AWS do it, or the cookie of who signed in by the page (then a
change also needs `X-CSRF-Token` and an `Origin` of the server's). One credential for a request.

**Errors** are problem documents (RFC 9457); `code` is the word for a program, `detail` the sentence for a person.

**Lists** are paged by `cursor`: ask again with `next` until it is null. **Events** are followed from a number, `after`,
as JSON or as server-sent events.

**Again**: every change takes an `Idempotency-Key`, by which it is done once however often it is sent. The same key with
another request: 409.

**How often**: an answer to a request with a key says `X-RateLimit-Limit`, `-Remaining` and `-Reset`; over it, 429 says
`Retry-After`."""
WORDS = {
    400: "Something that was sent is wrong; `detail` names it.",
    401: "No credential, or one that does not stand.",
    403: "Known, but may not.",
    404: "There is no such thing, or it is not the caller's to see.",
    405: "Not with this method.",
    409: "Not in this state; or the `Idempotency-Key` stands for another request, or for one whose answer is not kept.",
    413: "The body is too large.",
    416: "The file has no such range.",
    421: "The `Host` is no name of this server's.",
    426: "The address speaks WebSocket, and that was not asked for.",
    429: "Too many, too fast; `Retry-After` says when to come back.",
    500: "The server failed at it.",
    503: "It cannot be done now; trying again later may help.",
}
CODES = {
    400: errors.BadRequest(), 401: errors.Unauthenticated(), 403: errors.Forbidden(), 404: errors.NotFound(),
    409: errors.Conflict(), 413: errors.TooLarge(), 429: errors.TooMany(), 503: errors.Unavailable(),
}  # fmt: skip
APPSYNC_WORDS = {
    400: "BadRequestException", 409: "ConflictException", 413: "BadRequestException", 421: "BadRequestException",
    429: "LimitExceededError", 503: "ServiceUnavailableException",
}  # fmt: skip
RATES = {
    "X-RateLimit-Limit": "Requests at once, or jobs a day.",
    "X-RateLimit-Remaining": "How many of them are left.",
    "X-RateLimit-Reset": "When all are there again, in seconds since 1970.",
}
PLACES: Mapping[tuple[str, str], tuple[str, Mapping[str, Any]]] = {
    ("", "account"): ("1 to 200 printable characters of ASCII.", text(minLength=1, maxLength=200)),
    ("", "digest"): ("Its SHA-256.", text(pattern="^[0-9a-f]{64}$")),
    ("", "link"): ("The link's id.", text()),
    ("", "name"): ("A-Z, 0-9 and _, a letter first.", text(pattern="^[A-Z][A-Z0-9_]{0,99}$")),
    ("", "provider"): ("The provider's id.", text()),
    ("", "runtime"): ("An AgentCore runtime's ARN or id.", text()),
    ("", "shellId"): ("The shell's id.", text(pattern="^[A-Za-z0-9][A-Za-z0-9_-]{0,127}$")),
    ("approvals", "id"): ("The approval's id.", text(pattern=UUID)),
    ("questions", "id"): ("The question's id.", text(pattern=UUID)),
    ("sessions", "id"): ("The session's id.", text(pattern=UUID)),
    ("jobs", "id"): ("The job's id.", text()),
    ("artifacts", "id"): ("The artifact's id.", text(pattern=UUID)),
    ("webhooks", "id"): ("The webhook's id.", text()),
    ("", "delivery"): ("The delivery's id.", text()),
    ("", "id"): ("Its id.", text()),
}
"""Parameters of a path, by the kind of thing that the path is about."""
EXAMPLES = {
    "account": "ann", "digest": "0" * 64, "link": "9f3c01d2a4b5", "name": "NPM_TOKEN", "provider": "okta",
    "shellId": "build", "id": "019ab5c2-4e2f-7c11-9d3a-5b8f1c0e7a42", "runtime": "demo",
    "delivery": "msg_019ab5c2-9ea6",
}  # fmt: skip
SECURITY = {
    "key": {
        "type": "apiKey", "in": "header", "name": "x-api-key",
        "description": "Made by `pilothouse keys create`, or in the settings of the page.",
    },
    "bearer": {"type": "http", "scheme": "bearer", "description": "A key, or a signed token of a configured issuer."},
    "signature": {
        "type": "apiKey", "in": "header", "name": "Authorization", "x-amazon-apigateway-authtype": "awsSigv4",
        "description": "AWS Signature Version 4, with a key pair made by `pilothouse keys create --sigv4`.",
    },
    "cookie": {"type": "apiKey", "in": "cookie", "name": COOKIE, "description": "Of a browser that is signed in."},
    "link": {
        "type": "apiKey", "in": "cookie", "name": LINK_COOKIE,
        "description": "Of a browser that followed a share link.",
    },
    "csrf": {
        "type": "apiKey", "in": "header", "name": "X-CSRF-Token",
        "description": "Beside a cookie, where something changes: `csrf` of `GET /api/me`.",
    },
}  # fmt: skip


class Row(Protocol):
    """Of the route table."""

    @property
    def method(self) -> str: ...
    @property
    def path(self) -> str: ...
    @property
    def policy(self) -> Policy: ...
    @property
    def scope(self) -> Scope | None: ...
    @property
    def on(self) -> Literal["organisation", "session"]: ...
    @property
    def links(self) -> bool: ...
    @property
    def keyed(self) -> bool: ...
    @property
    def kept(self) -> bool: ...
    @property
    def again(self) -> bool: ...
    @property
    def now(self) -> object: ...


@functools.lru_cache(maxsize=1)
def document(table: tuple[Row, ...]) -> Built:
    """Of these routes. For reading: one for all who ask."""
    rows = {(row.method, row.path): row for row in table}
    schemas = _Schemas(OPERATIONS)
    paths: Built = {}
    sockets: Built = {}
    for operation in OPERATIONS:
        row = rows[operation.method, operation.path]
        path = operation.path.replace(":path}", "}")
        if operation.method == "WS":
            sockets[path] = _socket(operation, row)
        else:
            paths.setdefault(path, {})[operation.method.lower()] = _operation(operation, row, schemas)
    groups = dict.fromkeys(operation.group for operation in OPERATIONS)
    return {
        "openapi": "3.1.1",
        "info": {
            "title": "Pilothouse", "version": VERSION, "summary": "Coding agents in isolated sessions",
            "description": ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "tags": [{"name": name} for name in groups],
        "paths": paths,
        "x-websockets": sockets,
        "components": {"schemas": schemas.components, "securitySchemes": SECURITY},
    }  # fmt: skip


class _Schemas:
    """One name for each type that is spoken of."""

    def __init__(self, operations: Iterable[Operation]) -> None:
        kinds: list[Any] = [Problem, Refused, LogEvent]
        for one in operations:
            kinds += [said.kind for said in one.answers.values() if said.kind is not None]
            kinds += [one.body] if one.body is not None else []
        self._known = list(dict.fromkeys(kinds))
        made, components = msgspec.json.schema_components(self._known, ref_template=REF)
        self._made = [_tidy(schema) for schema in made]
        event = self._made[self._known.index(LogEvent)]
        tidied = {_name(name): _tidy(schema) for name, schema in components.items()}
        self.components: Built = {**_spoken(tidied, event), "LogEvent": event}

    def of(self, kind: Any) -> Built:
        found: Built = self._made[self._known.index(kind)]
        return found


def _name(name: str) -> str:
    """`Page[Session]` is a SessionPage."""
    return re.sub(r"(Page|Everything)_(\w+)_\Z", lambda found: found[2] + found[1].replace("Everything", "List"), name)


def _tidy(schema: Any) -> Any:
    """Without what says nothing."""
    if isinstance(schema, list):
        return [_tidy(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {k: v for k, v in schema.items() if not ((k == "default" and v is None) or (k == "required" and v == []))}
    return {key: _name(value) if key == "$ref" else _tidy(value) for key, value in kept.items()}


def _spoken(schema: Any, event: Built) -> Any:
    """With the union of all events by its name."""
    if schema == event:
        return {"$ref": REF.format(name="LogEvent")}
    if isinstance(schema, dict):
        return {key: _spoken(value, event) for key, value in schema.items()}
    return [_spoken(one, event) for one in schema] if isinstance(schema, list) else schema


def _operation(operation: Operation, row: Row, schemas: _Schemas) -> Built:
    out: Built = {
        "operationId": identifier(operation),
        "tags": [operation.group],
        "summary": operation.summary,
        "description": operation.description,
        "parameters": [*_places(operation.path), *map(_parameter, [*operation.query, *_keys(operation, row)])],
        "responses": _responses(operation, row, schemas),
        "security": _security(row),
    }
    if row.scope is not None:
        out["x-scope"] = {"scope": row.scope, "on": row.on}
    if operation.body is not None:
        content = {"schema": schemas.of(operation.body), "example": _plain(operation.example)}
        out["requestBody"] = {"required": not operation.body_optional, "content": {"application/json": content}}
    return {name: value for name, value in out.items() if value or name == "security"}


def identifier(operation: Operation) -> str:
    """`GET /api/sessions/{id}/files` is `get_sessions_id_files`."""
    words = re.findall(r"[A-Za-z]+", operation.path.replace(":path", ""))
    return "_".join([operation.method.lower(), *(word for word in words if word != "api")])


def _socket(operation: Operation, row: Row) -> Built:
    return {
        "summary": operation.summary,
        "description": operation.description,
        "parameters": _places(operation.path),
        "security": _security(row),
        "x-scope": {"scope": row.scope, "on": row.on},
    }


def _keys(operation: Operation, row: Row) -> list[Parameter]:
    """What every change takes; some say it in words of their own."""
    if not row.keyed or any(one.name == IDEMPOTENCY for one in operation.query):
        return []
    again = "gets the first one's answer" if row.kept else "is not done again"
    if row.now is not None:
        again += ", and is told how it is now"
    elif row.again and not row.kept:
        again = "is made anew"
    said = f"The caller's own word for this request: the same again within a day {again}."
    return [Parameter(IDEMPOTENCY, text(minLength=1, maxLength=KEY_MAX), said, "header")]


def _places(path: str) -> list[Built]:
    kind = path.split("/")[2] if path.startswith("/api/") else ""
    out = []
    for name in re.findall(r"\{(\w+)", path):
        description, schema = PLACES.get((kind, name)) or PLACES["", name]
        said = {"name": name, "in": "path", "required": True, "description": description}
        out.append({**said, "schema": dict(schema), "example": EXAMPLES[name]})
    return out


def _parameter(one: Parameter) -> Built:
    out: Built = {"name": one.name, "in": one.where, "description": one.description, "schema": dict(one.schema)}
    if one.required:
        out["required"] = True
    return out if one.example is None else out | {"example": one.example}


def _security(row: Row) -> list[Built]:
    if row.policy == "public":
        return []
    scopes = [row.scope] if row.scope else []
    out: list[Built] = [{"key": scopes}, {"bearer": scopes}, {"signature": scopes}]
    if row.policy == "cookie-same-origin":
        token: Built = {} if row.method in SAFE or row.method == "WS" else {"csrf": []}
        out += [{name: scopes, **token} for name in ("cookie", *(["link"] if row.links else []))]
    return out


# --- answers ---


def _responses(operation: Operation, row: Row, schemas: _Schemas) -> Built:
    keyed = row.policy != "public"
    replayed = row.keyed and (row.kept or row.now is not None)
    out: dict[int, Built] = {}
    for status, said in operation.answers.items():
        told = replace(said, headers={**said.headers, **REPLAYED}) if replayed else said
        out[status] = _said(told, schemas, rates=keyed)
    for status in _refusals(operation, row) - out.keys():
        out[status] = _refusal(status, operation)
    return {str(status): out[status] for status in sorted(out)}


def _refusals(operation: Operation, row: Row) -> set[int]:
    """Every such route's own, and those that this one names."""
    found = {421, *operation.refuses}
    if row.policy != "public":
        found |= {401, 403, 429, 503}
    if operation.body is not None:
        found |= {400, 413}
    if row.keyed:
        found |= {400, 409, 413}
    if operation.query or "{" in operation.path:
        found.add(400)
    if "{" in operation.path and not operation.appsync:
        found.add(404)
    if operation.query and row.policy != "public" and not operation.appsync:
        found.add(404)  # what a query names
    return found


def _said(said: Said, schemas: _Schemas, *, rates: bool) -> Built:
    content: dict[str, Built] = {}
    if said.kind is not None:
        content["application/json"] = {"schema": schemas.of(said.kind), "example": _plain(said.example)}
    if said.stream:
        content[STREAM] = {"x-itemSchema": _sent(said.kind), "example": said.stream}
    if said.media:
        content[said.media] = {"schema": {"type": "string"} if said.media.startswith("text/") else {}}
    out: Built = {"description": said.description}
    if content:
        out["content"] = content
    headers = {name: _header(meaning, "string") for name, meaning in said.headers.items()}
    headers |= {name: _header(meaning, "integer") for name, meaning in RATES.items()} if rates else {}
    return out | {"headers": headers} if headers else out


def _sent(kind: Any) -> Built:
    """A server-sent event. The name is OpenAPI 3.2's, which 3.1 takes as an extension."""
    told = {"$ref": REF.format(name="Network" if kind is None else "LogEvent")}
    data = {"type": "string", "contentMediaType": "application/json", "contentSchema": told}
    fields = {"id": text(description="The event's number."), "event": text(enum=["message", "gap"]), "data": data}
    return {"type": "object", "properties": fields, "required": ["data"]}


def _refusal(status: int, operation: Operation) -> Built:
    more = operation.refuses.get(status, "")
    if operation.appsync:
        media, content = "application/json", {"schema": {"$ref": REF.format(name="Refused")}}
    else:
        media, content = PROBLEM, {"schema": {"$ref": REF.format(name="Problem")}}
    example = _refused(status) if operation.appsync else _problem(status)
    out: Built = {"description": f"{WORDS[status]} {more}".strip(), "content": {media: content | {"example": example}}}
    headers = {name: _header(meaning, "integer") for name, meaning in RATES.items()} if status == 429 else {}
    if status == 429 or (status == 503 and not operation.appsync):
        headers["Retry-After"] = _header("Seconds.", "integer")
    if status == 416:
        headers["Content-Range"] = _header("`bytes */SIZE`.", "string")
    if status == 401 and not operation.appsync:
        headers["WWW-Authenticate"] = _header("`Bearer`.", "string")
    return out | {"headers": headers} if headers else out


def _header(description: str, kind: str) -> Built:
    return {"description": description, "schema": {"type": kind}}


def _problem(status: int) -> Built:
    error = CODES.get(status) or errors.PilothouseError(WORDS[status], code="bad_host")
    return {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "code": error.code,
        "detail": error.message,
    }


def _refused(status: int) -> Built:
    kind = APPSYNC_WORDS.get(status, "UnauthorizedException")
    said = WORDS[status]
    built: Built = msgspec.to_builtins(Refused(errors=[Error(error_type=kind, message=said)], message=said))
    return built


def _plain(example: object) -> Any:
    return msgspec.to_builtins(example)
