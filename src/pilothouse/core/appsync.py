"""The frames of AppSync Events' WebSocket, and what a connection is in between: frames in, frames out, no I/O.

Text messages, one JSON object each; unknown fields are passed over (Amplify sends everything twice, in `payload`).

| client → server | fields |
|---|---|
| `connection_init` | none; it may be left out |
| `subscribe` | `id`, `channel` (may end in `/*`), `authorization`; ours: `after`, `epoch`, `presence` |
| `unsubscribe` | `id` |
| `publish` | `id`, `channel`, `events` (1-5 texts, a JSON value in each), `authorization`; ours: `key` |

| server → client | fields |
|---|---|
| `connection_ack` | `connectionTimeoutMs`; a `ka` follows at once |
| `ka` | none; every `KA_S` seconds |
| `connection_error`, then close 1000 | `errors: [{errorType, message, errorCode}]` |
| `subscribe_success`, `unsubscribe_success` | `id` |
| `publish_success` | `id`, `successful: [{identifier, index}]`, `failed: [{identifier, index, code, message}]` |
| `subscribe_error`, `unsubscribe_error`, `publish_error` | `id`, `errors: [{errorType, message}]` |
| `data` | `id` of the subscription, `event`: a text, the JSON value as it was published; ours: `seq`, `at`, `channel` |
| `gap`, ours | `id`, `from`, `to`: what had these numbers is not kept any more |
| `presence`, ours | `id`, `count`, and `present`, or `joined` and `left` |
| `error` | `errors`; with the `id` of a subscription it ends that one |

`authorization` holds what headers would: `x-api-key`, `Authorization`, or the headers of a signed request. Every
subscribe and publish is judged by its own; the connection's is for the connection alone.

An id is 1-128 of `[A-Za-z0-9-_+]`. Ids of subscriptions are one space in one connection, those of publishes another.
A subscription is pending until somebody has said whether it may be. Pending, its id may come again and replaces it:
that is a client which did not want to wait. Live, its id is taken.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from pilothouse.core import channels
from pilothouse.core.bucket import Bucket, Rates
from pilothouse.core.channels import Channel, Pattern
from pilothouse.core.publish import Bad, Event, Failed, Taken, events_of, key_of

PROTOCOL = "aws-appsync-event-ws"
KA_S = 60.0
"""Between two signs of life; what AppSync does."""
TIMEOUT_MS = 300_000
"""How long a client waits for a sign of life before it takes the connection for dead: five times `KA_S`."""
SUBSCRIPTIONS_MAX = 200
"""Of one connection, pending ones included; AppSync's number."""
PUBLISH = Rates(per_s=25.0, burst=25, per_day=0)
"""Publish requests of one connection; AppSync's number."""
ASKING = Rates(per_s=50.0, burst=2 * SUBSCRIPTIONS_MAX, per_day=0)
"""Other requests of one connection: a client that comes back subscribes to all it had at once."""
ID_MAX = 128
_ID = re.compile(r"[A-Za-z0-9_+-]{1,128}\Z")
AUTHORIZATION_MAX = 64 * 1024
"""Bytes of a frame's `authorization`: what a request's head has room for twice. It is kept while somebody is asked."""
CURSOR_MAX = 2**53
"""Where a number is no longer exact for JavaScript."""
UNAUTHORIZED = "UnauthorizedException"
NOT_AUTHORIZED = "You are not authorized to make this call."


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why something is not done, in the words of AppSync."""

    type: str = UNAUTHORIZED
    message: str = NOT_AUTHORIZED
    status: int = 401
    """As an answer of HTTP, and as `errorCode` of a connection that is refused."""


@dataclass(frozen=True, slots=True)
class Reply:
    """Nothing is to be done but to say this."""

    frames: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Subscribe:
    id: str
    pattern: Pattern
    said: str
    """The channel as the client wrote it: what it signs."""
    authorization: Mapping[str, Any] = field(repr=False)
    after: int | None = None
    epoch: str | None = None
    presence: bool = False


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    id: str


@dataclass(frozen=True, slots=True)
class Publish:
    id: str
    channel: Channel
    said: str
    events: tuple[Event, ...]
    authorization: Mapping[str, Any] = field(repr=False)
    key: str | None = None


Step = Reply | Subscribe | Unsubscribe | Publish


class _Said(msgspec.Struct):
    """What is wrong is said field by field, so none has a type here."""

    type: Any = None
    id: Any = None
    channel: Any = None
    events: msgspec.Raw = msgspec.Raw()
    authorization: msgspec.Raw = msgspec.Raw()
    after: Any = None
    epoch: Any = None
    presence: Any = None
    key: Any = None


_said = msgspec.json.Decoder(_Said)
_headers = msgspec.json.Decoder(dict[str, Any])
_encode = msgspec.json.Encoder().encode
KA = b'{"type":"ka"}'
_ACK = Reply((b'{"type":"connection_ack","connectionTimeoutMs":%d}' % TIMEOUT_MS, KA))


class Connection:
    """One connection whose credential is good. A `Step` that is no `Reply` is answered by one of `subscribed`,
    `refused`, `unsubscribed`, `published`."""

    def __init__(self, now: float) -> None:
        self._ids: dict[str, Subscribe | None] = {}
        """Pending ones, and the live ones as None."""
        self._publishing: Bucket | None = None
        self._asking = Bucket.full(ASKING, now)

    def take(self, data: bytes, *, text: bool, now: float) -> Step:
        """One message of the client. What it says wrong is answered, and changes nothing."""
        if not text:
            return self._error("BadRequestException", "frame: expected text, not binary")
        try:
            said = _said.decode(data)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return self._error("BadRequestException", "frame: expected one JSON object")
        kind = said.type
        if kind == "publish":
            return self._publish(said, now)
        self._asking, wait = self._asking.take(ASKING, now)
        if wait:
            return self._no(kind, said.id, Bad("LimitExceededError", "Too many requests on one connection."))
        if kind == "connection_init":
            return _ACK
        if kind == "subscribe":
            return self._subscribe(said)
        if kind == "unsubscribe":
            return self._unsubscribe(said)
        return self._error("UnsupportedOperation", "Operation not supported through the realtime channel", said.id)

    # --- what the caller says of a step ---

    def subscribed(self, step: Subscribe, **more: object) -> bytes | None:
        """It is live from now on. None: nobody waits for it any more."""
        if not self.waits(step):
            return None
        self._ids[step.id] = None
        return _frame("subscribe_success", step.id, more)

    def refused(self, step: Subscribe | Publish, why: Refusal) -> bytes | None:
        if isinstance(step, Publish):
            return _errors("publish_error", step.id, why.type, why.message)
        if not self.waits(step):
            return None
        del self._ids[step.id]
        return _errors("subscribe_error", step.id, why.type, why.message)

    def unsubscribed(self, step: Unsubscribe) -> bytes:
        return _frame("unsubscribe_success", step.id, {})

    def published(self, step: Publish, taken: Sequence[Taken], failed: Sequence[Failed]) -> bytes:
        return _frame("publish_success", step.id, {"successful": taken, "failed": failed})

    def ended(self, id: str, why: Refusal) -> bytes | None:
        """A live subscription ends by the server's will. None: it is not live."""
        if not self._is_live(id):
            return None
        del self._ids[id]
        return _errors("error", id, why.type, why.message)

    def waits(self, step: Subscribe) -> bool:
        return self._ids.get(step.id) is step

    def _is_live(self, id: str) -> bool:
        return id in self._ids and self._ids[id] is None

    # ---

    def _subscribe(self, said: _Said) -> Step:
        id = said.id
        try:
            _check_id(id)
            if self._is_live(id):
                raise Bad("DuplicatedOperationError", f"There is a subscription with the id {id}")
            if id not in self._ids and len(self._ids) >= SUBSCRIPTIONS_MAX:
                raise Bad("MaxSubscriptionsReachedError", f"Max number of {SUBSCRIPTIONS_MAX} subscriptions reached")
            pattern = channels.pattern(said.channel)
            step = Subscribe(
                id, pattern, said.channel, _object(said), _after(said.after), _epoch(said.epoch), _flag(said.presence)
            )
        except (Bad, channels.BadChannel) as error:
            return self._no("subscribe", id, error)
        self._ids[id] = step
        return step

    def _unsubscribe(self, said: _Said) -> Step:
        id = said.id
        if not isinstance(id, str) or id not in self._ids:
            return self._no("unsubscribe", id, Bad("UnknownOperationError", f"Unknown operation id {_shown(id)}"))
        del self._ids[id]
        return Unsubscribe(id)

    def _publish(self, said: _Said, now: float) -> Step:
        try:
            _check_id(said.id)
            self._publishing, wait = (self._publishing or Bucket.full(PUBLISH, now)).take(PUBLISH, now)
            if wait:
                raise Bad("LimitExceededError", f"More than {PUBLISH.per_s:g} publish requests a second.")
            channel, events = channels.channel(said.channel), events_of(said.events)
            return Publish(said.id, channel, said.channel, events, _object(said), key_of(said.key))
        except (Bad, channels.BadChannel) as error:
            return self._no("publish", said.id, error)

    @staticmethod
    def _no(kind: object, id: object, error: Bad | channels.BadChannel) -> Reply:
        name = error.type if isinstance(error, Bad) else "BadRequestException"
        verb = kind if kind in {"subscribe", "unsubscribe", "publish"} else ""
        return Reply((_errors(f"{verb}_error" if verb else "error", _echo(id) if verb else None, name, str(error)),))

    def _error(self, name: str, message: str, id: object = None) -> Reply:
        """An `error` with the id of a subscription would end that one at the client."""
        known = isinstance(id, str) and id in self._ids
        return Reply((_errors("error", None if known else _echo(id), name, message),))


def connection_error(why: Refusal) -> bytes:
    """To be said as the answer to the first frame: some clients do not listen before they have spoken."""
    problem = {"errorType": why.type, "message": why.message, "errorCode": why.status}
    return _encode({"type": "connection_error", "errors": [problem]})


def data_head(id: str) -> bytes:
    """The beginning of every `data` frame of a subscription; the rest is the same for all (`core.publish`)."""
    return b'{"type":"data","id":"%b",' % id.encode()


def gap(id: str, start: int, end: int) -> bytes:
    """Ours: what had these numbers is not kept any more."""
    return _frame("gap", id, {"from": start, "to": end})


def presence(id: str, more: Mapping[str, object]) -> bytes:
    """Ours: who else is there."""
    return _frame("presence", id, more)


def _frame(kind: str, id: str, more: Mapping[str, object]) -> bytes:
    return _encode({"type": kind, "id": id, **more})


def _errors(kind: str, id: str | None, name: str, message: str) -> bytes:
    return _encode(
        {"type": kind, **({} if id is None else {"id": id}), "errors": [{"errorType": name, "message": message}]}
    )


def _check_id(id: object) -> None:
    if not isinstance(id, str) or not _ID.match(id):
        raise Bad("BadRequestException", f"id: expected 1 to {ID_MAX} of letters, digits, `-`, `_` and `+`")


def _object(said: _Said) -> Mapping[str, Any]:
    """What is no object is no credential. Raises Bad."""
    if len(said.authorization) > AUTHORIZATION_MAX:
        raise Bad("BadRequestException", f"authorization: more than {AUTHORIZATION_MAX} bytes")
    try:
        return _headers.decode(said.authorization)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return {}


def _after(value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < CURSOR_MAX:
        raise Bad("BadRequestException", "after: expected a whole number, 0 or more")
    return value


def _epoch(value: object) -> str | None:
    if value is not None and (not isinstance(value, str) or len(value) > ID_MAX):
        raise Bad("BadRequestException", f"epoch: expected a text of at most {ID_MAX} characters")
    return value


def _flag(value: object) -> bool:
    if value is not None and not isinstance(value, bool):
        raise Bad("BadRequestException", "presence: expected true or false")
    return bool(value)


def _echo(id: object) -> str | None:
    return id[:ID_MAX] if isinstance(id, str) else None


def _shown(id: object) -> str:
    return id[:ID_MAX] if isinstance(id, str) else "(none)"
