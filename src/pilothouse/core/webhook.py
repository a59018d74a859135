"""What webhooks send, and how it is signed: Standard Webhooks (standardwebhooks.com), version 1.

    POST URL
    content-type: application/json
    webhook-id: msg_…                       one for each event and webhook, the same in every attempt
    webhook-timestamp: SECONDS              of this attempt
    webhook-signature: v1,BASE64 [v1,…]     HMAC-SHA256 of `ID.TIMESTAMP.BODY`; while a secret is being changed by both

    {"type": "job.completed", "timestamp": "2026-11-21T09:02:52.339Z", "data": {…}}

A secret is `whsec_` and the base64 of 32 random bytes, which are the key. `data` has ids, a title, an outcome; never an
input, a result or a secret: who needs those asks the API with a key of its own.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from typing import TypeAlias
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from pilothouse.core import reach
from pilothouse.core.errors import BadRequest

EVENTS = ("job.completed", "approval.required", "budget.exceeded")
PING = "ping"
PREFIX = "whsec_"
KEY_BYTES = 32
_MESSAGE = re.compile(r"msg_[0-9a-f]{36}\Z")
URL_MAX = 2048
TITLE_MAX = 80
"""Characters of a session's title that are sent on."""


class _Data(Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """Of an event in a session."""

    session_id: str
    session_title: str
    job_id: str | None = None
    job_name: str | None = None
    """What its caller calls it."""
    url: str
    """The session on our own page."""


class JobCompleted(_Data, frozen=True, kw_only=True):
    outcome: str
    reason: str | None = None
    total_cost: float
    duration_ms: int
    num_turns: int


class ApprovalRequired(_Data, frozen=True, kw_only=True):
    approval_id: str
    tool: str
    input_hash: str
    expires_at: str | None = None
    second_approver: bool = False


class BudgetExceeded(_Data, frozen=True, kw_only=True):
    total_cost: float
    max_cost_usd: float | None = None
    max_tokens: int | None = None
    """What the job was given, if it was given something of its own."""


class Ping(Struct, frozen=True, kw_only=True, rename="camel"):
    webhook_id: str
    name: str


Data: TypeAlias = JobCompleted | ApprovalRequired | BudgetExceeded | Ping
TYPES: dict[type[Struct], str] = {
    JobCompleted: "job.completed",
    ApprovalRequired: "approval.required",
    BudgetExceeded: "budget.exceeded",
    Ping: PING,
}


def body(data: Data, at: str) -> bytes:
    return msgspec.json.encode({"type": TYPES[type(data)], "timestamp": at, "data": data})


def secret(random: bytes) -> str:
    return PREFIX + base64.b64encode(random).decode()


def signature(secrets: Sequence[str], id: str, timestamp: int, content: bytes) -> str:
    signed = b"%b.%d.%b" % (id.encode(), timestamp, content)
    made = [hmac.new(_key(secret), signed, hashlib.sha256).digest() for secret in secrets]
    return " ".join(f"v1,{base64.b64encode(digest).decode()}" for digest in made)


def headers(secrets: Sequence[str], id: str, timestamp: int, content: bytes) -> dict[str, str]:
    return {
        "content-type": "application/json",
        "webhook-id": id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": signature(secrets, id, timestamp, content),
    }


def message_id(target: str, session: str, seq: int, kind: str, at: float) -> str:
    """The same for the same event and target, whoever makes it and how often; in the order of events."""
    digest = hashlib.sha256(f"{target}|{session}|{seq}|{kind}".encode()).hexdigest()
    return f"msg_{int(at * 1000):012x}{digest[:24]}"


def is_message(text: str) -> bool:
    """The form of a `message_id`."""
    return _MESSAGE.match(text) is not None


def _key(text: str) -> bytes:
    try:
        return base64.b64decode(text.removeprefix(PREFIX), validate=True)
    except binascii.Error:
        return text.encode()


# --- where to ---


def check_events(names: Sequence[str], known: Sequence[str] = EVENTS) -> list[str]:
    """Raises BadRequest naming an unknown one."""
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise BadRequest(f"events: {unknown[0][:50] if unknown else 'none'!r} is none of {', '.join(known)}")
    return [name for name in known if name in names]


def wanted_from(
    wanted: Sequence[str], before: Sequence[str], since: Mapping[str, float], *, again: bool, now: float
) -> dict[str, float]:
    """From when on each event is wanted, of one that wanted those `before` and is changed `now`: of what is new, and
    of all when it is enabled `again`, from now on. Of what is not named: since it was made. What happened while nobody
    wanted it is told to nobody later; what was wanted all along, and waits to be told, is not skipped."""
    began = {name: now for name in wanted if again or name not in before}
    return {name: since[name] for name in wanted if name in since} | began


def check_url(text: str, private: Sequence[reach.Target] = ()) -> str:
    """An address that may be posted to, as far as it can be said before its name is looked up. `private`: what the
    configuration lists, and what alone may be plain http. Raises BadRequest."""
    if len(text) > URL_MAX:
        raise BadRequest(f"url: at most {URL_MAX} characters")
    if not text.isascii() or not text.isprintable() or " " in text or "\\" in text:
        raise BadRequest("url: printable ASCII without spaces and backslashes")
    try:
        parts = urlsplit(text)
        if parts.scheme not in {"https", "http"} or not parts.hostname:
            raise BadRequest("url: must be https:// and a host")
        where = target(text)
    except ValueError as error:
        raise BadRequest(f"url: {error}") from None
    if parts.scheme != "https" and where not in private:
        raise BadRequest("url: must be https; plain http is for a HOST:PORT that webhooks.allow_private lists")
    if parts.username is not None or parts.password is not None:
        raise BadRequest("url: without a name and password")
    if parts.fragment or text.endswith("#"):
        raise BadRequest("url: without a fragment")
    if where in private:
        return text
    if reach.inside(where.host):
        said = reach.not_public(where.host)
        raise BadRequest(f"url: {said}; webhooks.allow_private lists those that may be reached all the same")
    return text


def target(url: str) -> reach.Target:
    """Host and port of an address. Raises ValueError."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    port = 443 if parts.scheme == "https" else 80
    if parts.port is not None:
        port = reach.port(str(parts.port))
    return reach.Target(reach.host(f"[{host}]" if ":" in host else host), port)


def shown(url: str) -> str:
    """Without what may be a secret: path and query. What it says of its own answer is the same."""
    parts = urlsplit(url)
    return origin(url) + ("/…" if parts.path not in {"", "/"} or parts.query else parts.path)


def origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
