"""Bytes to typed bodies, things to JSON, errors to problem documents (RFC 9457)."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Any, Literal, TypeVar, get_args, get_origin

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from pilothouse.core.api import Body, Page
from pilothouse.core.chat import explain
from pilothouse.core.errors import BadRequest, PilothouseError, TooLarge
from pilothouse.core.ids import is_uuid
from pilothouse.core.webhook import is_message

__all__ = ["Body", "Reply", "body", "cursor", "everything", "limit", "number", "page", "problem", "read"]
BODY_MAX = 4 * 1024 * 1024
"""Bytes of a request's body: a prompt of 1 MiB in the longest JSON escapes that people send, and its options."""
LIMIT_MAX = 200
LIMIT_DEFAULT = 50
T = TypeVar("T")
_WRONG_WORD = re.compile(r"(\w+): Invalid enum value ")
_MALFORMED = (msgspec.MsgspecError, ValueError, RecursionError)


class Reply(Response):
    """JSON of anything that msgspec encodes."""

    media_type = "application/json"

    def __init__(self, content: Any, status_code: int = 200, headers: dict[str, str] | None = None) -> None:
        super().__init__(
            msgspec.json.encode(content), status_code, headers={"cache-control": "no-store"} | (headers or {})
        )


def problem(error: PilothouseError) -> Response:
    document = {
        "type": "about:blank",
        "title": HTTPStatus(error.status).phrase,
        "status": error.status,
        "code": error.code,
        "detail": error.message,
        **error.details,
    }
    headers = {"cache-control": "no-store"}
    if error.status == 401:
        headers["www-authenticate"] = 'Bearer realm="pilothouse"'
    if error.status in {429, 503}:
        headers["retry-after"] = "1"
    return Response(msgspec.json.encode(document), error.status, headers | error.headers, "application/problem+json")


async def body(request: Request, kind: type[T]) -> T:
    """The body as `kind`. Raises BadRequest naming the field, TooLarge."""
    data = await json(request)
    if not data.strip():
        raise BadRequest("body: it is empty; expected JSON")
    try:
        data.decode()
        return msgspec.json.decode(data, type=kind)
    except _MALFORMED as error:
        text = explain(error).replace("message:", "body:", 1)
        raise BadRequest(text + _choices(kind, text)) from None


def _choices(kind: Any, text: str) -> str:
    """What may stand in a field of which it was said that something else does not."""
    found = _WRONG_WORD.match(text)
    if found is None or not (isinstance(kind, type) and issubclass(kind, msgspec.Struct)):
        return ""
    known = next((field.type for field in msgspec.structs.fields(kind) if field.encode_name == found[1]), None)
    words = [word for part in (known, *get_args(known)) if get_origin(part) is Literal for word in get_args(part)]
    return f"; there are {', '.join(map(str, words))}" if words else ""


async def json(request: Request) -> bytes:
    """The body's bytes, which are said to be JSON. Raises BadRequest, TooLarge."""
    media = (request.headers.get("content-type") or "").partition(";")[0].strip().lower()
    if media != "application/json":
        raise BadRequest(f"content-type: {repr(media) if media else 'it is missing'}; expected application/json")
    return await read(request)


async def read(request: Request, most: int = BODY_MAX) -> bytes:
    """The body's bytes. Raises TooLarge, BadRequest."""
    declared = request.headers.get("content-length")
    if declared is not None and declared.isdigit() and int(declared) > most:
        raise TooLarge(f"body: {declared} bytes, at most {most}")
    data = bytearray()
    try:
        async for chunk in request.stream():
            data += chunk
            if len(data) > most:
                raise TooLarge(f"body: at most {most} bytes")
    except ClientDisconnect:
        raise BadRequest("body: the connection ended within it") from None
    return bytes(data)


def number(request: Request, name: str, default: int, low: int, high: int) -> int:
    """A whole number of the query. Raises BadRequest naming it."""
    text = request.query_params.get(name)
    if text is None:
        return default
    if not text.isascii() or not text.isdigit() or len(text) > 16 or not low <= int(text) <= high:
        raise BadRequest(f"{name}: a whole number from {low} to {high}")
    return int(text)


def limit(request: Request) -> int:
    return number(request, "limit", LIMIT_DEFAULT, 1, LIMIT_MAX)


def cursor(request: Request) -> str:
    """ "" for the first page. Raises BadRequest: a text of another form would give some page or other."""
    text = request.query_params.get("cursor") or ""
    if text and not (is_uuid(text) or is_message(text)):
        raise BadRequest("cursor: expected the `next` of the page before")
    return text


def page(items: list[T], ids: list[str], asked: int) -> Reply:
    """A page of a list; `ids` are the cursors of its items."""
    return Reply(Page(items=items, next=ids[-1] if len(ids) == asked else None))


def everything(items: list[T]) -> Reply:
    """A whole list."""
    return Reply(Page(items=items, next=None))
