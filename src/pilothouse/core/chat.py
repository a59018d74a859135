"""The chat socket, `WS /ws`: what a client says and what the server answers besides events. JSON text messages.

client -> server (unknown fields are refused by name)
    {"type": "subscribe", "chatId", "after": 0, "epoch"?}
    {"type": "unsubscribe", "chatId"}
    {"type": "chat", "message", "chatId"?, "clientMessageId"?, "connectionId"?, "agent"?, "model"?, "permissionMode"?,
        "allowedTools"?: [text], "maxCostUsd"?, "maxTokens"?, "attachments"?: [{"name", "mediaType"?, "data"}],
        "steer"?}
    {"type": "approval_response", "approvalId", "approved", "inputHash"?, "optionId"?, "message"?, "updatedInput"?}
    {"type": "question_response", "questionId", "answers": {question: answer}}
    {"type": "interrupt", "chatId"}   {"type": "set_mode", "chatId", "mode"}   {"type": "set_model", "chatId", "model"}
    {"type": "ping"}
server -> client, among the events of `core.events` exactly as the log holds them
    {"type": "subscribed", "chatId", "epoch", "oldest", "head", "gap", "running", "pendingApprovals": [id],
        "pendingQuestions": [id], "viewers", "ref"?}
    {"type": "caught_up", "chatId", "seq"}   {"type": "viewers", "chatId", "viewers"}
    {"type": "gap", "chatId", "from", "to"}  {"type": "pong"}
    {"type": "rejected", "ref"?, "code", "message", "outcome"?, "by"?}

`chatId` is the session's id; `data` of an attachment is base64. `ref` names what was refused: the message's
`clientMessageId`, else `approvalId`, `questionId` or `chatId`. `outcome` and `by` come with `already_resolved`.
A message over `MESSAGE_MAX` is refused as `too_large`; over `DROP_MAX` the socket closes with `CLOSE_TOO_BIG`.

`parse_client` and `parse_server` never raise: they answer `Rejected` or `None` for what is no message.
"""

from __future__ import annotations

import re
from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta, Struct

from pilothouse.core import events as ev

MESSAGE_MAX = 2 * 1024 * 1024
"""A prompt of 1 MiB fits even when JSON escapes double it."""
DROP_MAX = 8 * 1024 * 1024
"""Up to here a message is read to be refused politely; a sender beyond it is not worth the memory."""
PROMPT_MAX = 1024 * 1024
"""Bytes of UTF-8 in one prompt: the same on every door."""
REASON_MAX = 300
"""Characters of an explanation: it may quote the sender, who may be hostile."""
NAME_MAX = 200
"""Characters of a field's name in it."""

PING_EVERY_S = 20
SILENCE_S = 45
"""More than two pings: one may be lost."""

CLOSE_GOING_AWAY = 1001
CLOSE_POLICY = 1008
CLOSE_TOO_BIG = 1009
CLOSE_SIGN_IN = 4401
CLOSE_FORBIDDEN = 4403
CLOSE_TOO_SLOW = 4508
_FINAL = frozenset({1000, 1002, 1003, 1007, CLOSE_POLICY, CLOSE_TOO_BIG, 1010})
"""A normal end, or a fault that would only happen again."""

_Id = Annotated[str, Meta(min_length=1, max_length=200)]
_Word = Annotated[str, Meta(min_length=1, max_length=200)]
_Cursor = Annotated[int, Meta(ge=0, le=2**53)]
"""Up to what a browser's number holds exactly."""
_ATTACHMENTS_MAX = 20
_TOOLS_MAX = 200
_ANSWERS_MAX = 50


class _Client(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, rename="camel"):
    """The base of what a client says."""


class Subscribe(_Client, frozen=True, kw_only=True, tag_field="type", tag="subscribe"):
    chat_id: _Id
    after: _Cursor = 0
    epoch: Annotated[str, Meta(max_length=200)] | None = None


class Unsubscribe(_Client, frozen=True, kw_only=True, tag_field="type", tag="unsubscribe"):
    chat_id: _Id


class Attached(_Client, frozen=True, kw_only=True):
    """A file given with a prompt."""

    name: _Word
    data: str
    media_type: Annotated[str, Meta(max_length=200)] = ""


class Chat(_Client, frozen=True, kw_only=True, tag_field="type", tag="chat"):
    message: str
    chat_id: _Id | None = None
    client_message_id: _Id | None = None
    connection_id: Annotated[str, Meta(max_length=1000)] | None = None
    agent: _Word | None = None
    model: _Word | None = None
    permission_mode: _Word | None = None
    allowed_tools: Annotated[list[_Word], Meta(max_length=_TOOLS_MAX)] | None = None
    max_cost_usd: Annotated[float, Meta(gt=0)] | None = None
    max_tokens: Annotated[int, Meta(ge=1, le=2**53)] | None = None
    attachments: Annotated[list[Attached], Meta(max_length=_ATTACHMENTS_MAX)] | None = None
    steer: bool = False


class ApprovalResponse(_Client, frozen=True, kw_only=True, tag_field="type", tag="approval_response"):
    approval_id: _Id
    approved: bool
    input_hash: _Word | None = None
    option_id: _Word | None = None
    message: str | None = None
    updated_input: dict[str, ev.Json] | None = None


class QuestionResponse(_Client, frozen=True, kw_only=True, tag_field="type", tag="question_response"):
    question_id: _Id
    answers: Annotated[dict[str, str], Meta(max_length=_ANSWERS_MAX)]


class Interrupt(_Client, frozen=True, kw_only=True, tag_field="type", tag="interrupt"):
    chat_id: _Id


class SetMode(_Client, frozen=True, kw_only=True, tag_field="type", tag="set_mode"):
    chat_id: _Id
    mode: _Word


class SetModel(_Client, frozen=True, kw_only=True, tag_field="type", tag="set_model"):
    chat_id: _Id
    model: _Word


class Ping(_Client, frozen=True, kw_only=True, tag_field="type", tag="ping"):
    pass


ClientMessage: TypeAlias = (
    Subscribe | Unsubscribe | Chat | ApprovalResponse | QuestionResponse | Interrupt | SetMode | SetModel | Ping
)


class _Server(Struct, frozen=True, kw_only=True, rename="camel"):
    """The base of what the server says. Newer servers may add fields, so a client lets unknown ones pass."""


class Subscribed(_Server, frozen=True, kw_only=True, tag_field="type", tag="subscribed", omit_defaults=True):
    """Comes before the first event of a subscription. Fields without `?` above are always there."""

    chat_id: str
    epoch: str
    oldest: int
    head: int
    gap: bool
    running: bool
    pending_approvals: list[str]
    pending_questions: list[str]
    viewers: int
    ref: str | None = None


class CaughtUp(_Server, frozen=True, kw_only=True, tag_field="type", tag="caught_up"):
    chat_id: str
    seq: int


class Viewers(_Server, frozen=True, kw_only=True, tag_field="type", tag="viewers"):
    chat_id: str
    viewers: int


class Gap(_Server, frozen=True, kw_only=True, tag_field="type", tag="gap"):
    """Events `from_` to `to`, both included, are gone."""

    chat_id: str
    from_: int = msgspec.field(name="from")
    to: int


class Pong(_Server, frozen=True, kw_only=True, tag_field="type", tag="pong"):
    pass


class Rejected(_Server, frozen=True, kw_only=True, tag_field="type", tag="rejected", omit_defaults=True):
    code: str
    message: str
    ref: str | None = None
    outcome: str | None = None
    by: str | None = None


ServerFrame: TypeAlias = Subscribed | CaughtUp | Viewers | Gap | Pong | Rejected


class EventFrame(Struct, frozen=True):
    """One event of a session: `raw` is the message as received, to be shown or decoded by whoever wants it."""

    type: str
    session_id: str
    seq: int
    first: int
    """Lower than `seq` for a folded row: it stands for all of `first`..`seq`."""
    job_id: str | None
    raw: bytes


class _Head(Struct, frozen=True, rename="camel"):
    type: str = ""
    session_id: str | None = None
    seq: int = 0
    from_: int = msgspec.field(default=0, name="from")
    job_id: str | None = None


class _Ref(Struct, frozen=True, rename="camel"):
    client_message_id: str | msgspec.UnsetType | None = msgspec.UNSET
    approval_id: str | msgspec.UnsetType | None = msgspec.UNSET
    question_id: str | msgspec.UnsetType | None = msgspec.UNSET
    chat_id: str | msgspec.UnsetType | None = msgspec.UNSET


_encoder = msgspec.json.Encoder()
_client = msgspec.json.Decoder(ClientMessage)
_frame = msgspec.json.Decoder(ServerFrame)
_head = msgspec.json.Decoder(_Head)
_ref = msgspec.json.Decoder(_Ref)
_FRAMES = frozenset({"subscribed", "caught_up", "viewers", "gap", "pong", "rejected"})
# msgspec's wording is "... - at `$.field`": the field goes first, as people read errors.
_AT = re.compile(r"(?P<what>.*) - at `\$\.?(?P<where>[^`]*)`\Z", re.DOTALL)
_FIELD = re.compile(r"Object (?P<how>contains unknown|missing required) field `(?P<name>.*?)`?\Z", re.DOTALL)
_UNSAFE = re.compile("[\\x00-\\x1f\\x7f-\\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")
_MALFORMED = (msgspec.MsgspecError, ValueError, RecursionError)
"""Everything that decoding hostile bytes raises; a RecursionError means nesting beyond the interpreter's limit."""


def parse_client(data: bytes | bytearray | str, *, binary: bool = False) -> ClientMessage | Rejected:
    """One message of a client, or why it is none. `binary`: it came in a binary WebSocket message."""
    if len(data) > MESSAGE_MAX:
        return Rejected(code="too_large", message=f"message: at most {MESSAGE_MAX} bytes")
    if binary:
        return Rejected(code="bad_message", message="message: binary, expected JSON text")
    try:
        raw = data.encode() if isinstance(data, str) else bytes(data)
        if len(raw) > MESSAGE_MAX:
            return Rejected(code="too_large", message=f"message: at most {MESSAGE_MAX} bytes")
        raw.decode()  # says where the encoding is wrong; the JSON reader would say less
    except UnicodeError:
        return Rejected(code="bad_message", message="message: not valid UTF-8")
    try:
        message: ClientMessage = _client.decode(raw)
    except _MALFORMED as error:
        return Rejected(code="bad_message", message=explain(error), ref=_find_ref(raw))
    return _check(message)


def _check(message: ClientMessage) -> ClientMessage | Rejected:
    """What a type cannot say."""
    if isinstance(message, Chat):
        ref = message.client_message_id or message.chat_id
        if not message.message.strip():
            return Rejected(code="bad_message", message="message: the prompt is empty", ref=ref)
        if len(message.message.encode()) > PROMPT_MAX:
            return Rejected(code="too_large", message=f"message: a prompt has at most {PROMPT_MAX} bytes", ref=ref)
    return message


def explain(error: BaseException) -> str:
    """A decoding error for the sender: field first, bounded, free of control characters."""
    if isinstance(error, RecursionError):
        return "message: nested too deeply"
    text = str(error)
    found = _AT.match(text)
    where, what = (found["where"], found["what"]) if found else ("", text)
    if field := _FIELD.match(what):
        place = f"{where}.{field['name']}" if where else field["name"]
        text = (
            f"{place[:NAME_MAX]}: {'there is no such field' if field['how'] == 'contains unknown' else 'it is missing'}"
        )
    elif found:
        text = f"{where or 'message'}: {what}"
    return _UNSAFE.sub("�", text)[:REASON_MAX]


def _find_ref(raw: bytes) -> str | None:
    """What a refused message was about, if that can still be told."""
    try:
        found = _ref.decode(raw)
    except _MALFORMED:
        return None
    for name in (found.client_message_id, found.approval_id, found.question_id, found.chat_id):
        if isinstance(name, str) and 0 < len(name) <= 200:
            return name
    return None


def encode_client(message: ClientMessage) -> bytes:
    return _encoder.encode(message)


def encode_frame(frame: ServerFrame) -> bytes:
    return _encoder.encode(frame)


def parse_server(data: bytes | str) -> ServerFrame | EventFrame | None:
    """One message of the server. None: neither an event nor a frame we know; a client passes over it."""
    try:
        raw = data.encode() if isinstance(data, str) else data
        head = _head.decode(raw)
        if head.type in _FRAMES:
            frame: ServerFrame = _frame.decode(raw)
            return frame
    except _MALFORMED:
        return None
    if not head.type or not head.session_id or head.seq < 1:
        return None
    return EventFrame(head.type, head.session_id, head.seq, head.from_ or head.seq, head.job_id, raw)


def comes_back(code: int | None) -> bool:
    """Whether a client that was closed with `code` should connect again. None or 1006: the network was cut."""
    return code is None or (code not in _FINAL and not 4400 <= code <= 4499)
