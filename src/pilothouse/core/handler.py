"""What a handler of a namespace is asked and answers: the shapes of AppSync's direct Lambda handlers.

asked       {"info": {"channel": {"path", "segments"}, "channelNamespace": {"name"}, "operation"}, "identity",
            "request": {"headers", "domainName"}, "events": [{"id", "payload"}] or null,
            "result", "error", "prev", "stash", "outErrors"}: all of them, always, or Powertools does not know it

| operation | answer | is |
|---|---|---|
| publish | `{"events": [{"id", "payload"}, …]}` | these payloads, in this order |
| | an item with `error` | that event fails; nothing else of it counts |
| | an id that is left out, an item without `payload` and `error` | dropped: accepted, and goes to nobody |
| | a null item | passed over |
| | an id that was not asked about | the whole answer is no answer |
| | `{"error": text}`, null, anything else | nothing is published |
| subscribe | null | it may |
| | `{"error": text}`, anything else | it may not |

What a handler says of why is for the server's log; the client is not told. An event that has numbers beyond a
double's, or more levels than `LEVELS_MAX`, is not for handlers: whoever publishes it is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from pilothouse.core.access import Principal
from pilothouse.core.channels import Channel, Pattern
from pilothouse.core.modes import Mode
from pilothouse.core.publish import Bad, Event
from pilothouse.core.said import shallow

Operation = Literal["PUBLISH", "SUBSCRIBE"]
REASON_MAX = 300
LEVELS_MAX = 100
"""Of an event for a handler: the log's own have `said.DEPTH_MAX` and some around it, what walks JSON bears ten times as
many."""


class NoAnswer(ValueError):
    """It is no answer, or one that refuses everything; the message is for the server's log."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of a publish. Every id that was asked about is in at most one of `events` and `failed`; others are dropped."""

    events: Sequence[tuple[str, Event]] = ()
    failed: Mapping[str, str] = field(default_factory=dict)


def asked(
    operation: Operation,
    where: Channel | Pattern,
    identity: Mapping[str, Any] | None,
    headers: Mapping[str, Any],
    events: Sequence[tuple[str, Event]] | None = None,
) -> dict[str, Any]:
    """Raises Bad for an event that is JSON and yet nothing that a program can hold."""
    return {
        "identity": identity,
        "result": None,
        "request": {"headers": dict(headers), "domainName": None},
        "info": {
            "channel": {"path": where.path, "segments": list(where.segments)},
            "channelNamespace": {"name": where.namespace},
            "operation": operation,
        },
        "error": None,
        "prev": None,
        "stash": {},
        "outErrors": [],
        "events": None if events is None else [{"id": id, "payload": _payload(event)} for id, event in events],
    }


def published(answer: object, asked_about: Sequence[str]) -> Outcome:
    """Raises NoAnswer."""
    if not isinstance(answer, dict):
        raise NoAnswer("the answer is no object")
    if "events" not in answer:
        raise NoAnswer(_error(answer) or "the answer has no events")
    items = answer["events"]
    if not isinstance(items, list):
        raise NoAnswer("events: expected a list")
    known, events, failed = set(asked_about), dict[str, Event](), dict[str, str]()
    for item in items:
        if item is None:
            continue
        id = item.get("id") if isinstance(item, dict) else None
        if not isinstance(id, str) or id not in known:
            raise NoAnswer("events: an id that was not asked about")
        if item.get("error") is not None:
            failed.setdefault(id, _text(item["error"]))
        elif "payload" in item:
            events.setdefault(id, _event(item["payload"]))
    return Outcome([(id, event) for id, event in events.items() if id not in failed], failed)


def subscribed(answer: object) -> None:
    """Raises NoAnswer."""
    if answer is not None:
        raise NoAnswer((_error(answer) if isinstance(answer, dict) else "") or "the answer is not null")


def _payload(event: Event) -> Any:
    try:
        value = msgspec.json.decode(event.text)
    except (msgspec.MsgspecError, RecursionError):
        raise Bad("BadRequestException", "events: a number, or a nesting, that is too large for a handler") from None
    if not shallow(value, LEVELS_MAX):
        raise Bad("BadRequestException", f"events: for a handler at most {LEVELS_MAX} levels")
    return value


def _event(payload: object) -> Event:
    try:
        return Event.of(msgspec.json.encode(payload))
    except (TypeError, ValueError, RecursionError, msgspec.MsgspecError):
        raise NoAnswer("events: a payload is no JSON value") from None


def _error(answer: dict[Any, Any]) -> str:
    return _text(answer["error"]) if answer.get("error") is not None else ""


def _text(value: object) -> str:
    text = value if isinstance(value, str) else "the handler says no"
    return "".join(sign if sign.isprintable() else " " for sign in text[:REASON_MAX])


def identity(mode: Mode, who: Principal, known: Mapping[str, Any], address: str) -> dict[str, Any] | None:
    """Who asks, as AppSync tells a handler. `known`: a token's claims, or what the custom authorizer said."""
    source = [address] if address else []
    if mode == "API_KEY":
        return None
    if mode == "AWS_LAMBDA":
        return {"handlerContext": dict(known)}
    if mode == "AWS_IAM":
        return {
            "accountId": who.organisation,
            "cognitoIdentityPoolId": None,
            "cognitoIdentityId": None,
            "sourceIp": source,
            "username": who.id,
            "userArn": f"arn:aws:iam::{who.organisation}:user/{who.account}",
            "cognitoIdentityAuthType": None,
            "cognitoIdentityAuthProvider": None,
        }
    common = {"sub": known.get("sub"), "issuer": known.get("iss"), "claims": dict(known)}
    if mode == "OPENID_CONNECT":
        return common
    username = known.get("cognito:username", known.get("username", known.get("sub")))
    groups = known.get("cognito:groups")
    return common | {
        "sourceIp": source, "username": username, "groups": groups, "defaultAuthStrategy": "ALLOW",
    }  # fmt: skip
