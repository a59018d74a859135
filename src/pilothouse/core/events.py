"""The events of a session's log: one vocabulary for the log, the chat socket, channels and the link.

JSON objects, UTF-8, camelCase, times RFC 3339 UTC with milliseconds. Envelope: `type`, `sessionId`, `jobId?`,
`seq` (from 1 per session, no holes), `at`. Absent optional fields are left out. Fields over `FIELD_MAX` are cut to
head and tail and named in `truncated`; the full text is kept beside the log.

`decode` reads one event, `encode` writes one. The log stores an event without `seq` and `seal` adds it as the last
member when the row is committed, so an event is encoded once however many viewers read it.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import Meta, Struct

FIELD_MAX = 64 * 1024
"""Bytes of one field in the log; longer ones are cut, so that no viewer must load megabytes to follow."""

Isolation = Literal["vm", "gvisor", "namespaces", "reduced", "none"]
ToolKind = Literal["read", "edit", "delete", "move", "search", "execute", "think", "fetch", "other"]
Outcome = Literal["succeeded", "failed", "interrupted", "budget_exceeded"]
ApprovalOutcome = Literal["approved", "denied", "expired", "cancelled"]
Scope = Literal["once", "session", "project"]
Json = Any
"""Free JSON: only ever carried, never trusted."""

COUNT_MAX = 2**53
"""Up to what a browser's number holds exactly; beyond it a count is nonsense, and a database's integers end."""
Count = Annotated[int, Meta(ge=0, le=COUNT_MAX)]


class _Part(Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """A piece of an event."""


class PlanEntry(_Part, frozen=True, kw_only=True):
    content: str
    status: Literal["pending", "in_progress", "completed"]
    priority: Literal["high", "medium", "low"] = "medium"


class Diff(_Part, frozen=True, kw_only=True):
    path: str
    kind: Literal["add", "edit", "delete", "rename"]
    patch: str
    """Unified format."""


class Option(_Part, frozen=True, kw_only=True):
    """One way to answer an approval. `outcome` says what choosing it means; `scope` how long it is remembered."""

    id: str
    label: str
    outcome: Literal["approved", "denied"]
    scope: Scope | None = None
    rule: str | None = None
    mode: str | None = None
    """For `ExitPlanMode`: the permission mode that the session goes on in."""


class Choice(_Part, frozen=True, kw_only=True):
    label: str
    description: str = ""


class Question(_Part, frozen=True, kw_only=True):
    question: str
    header: str = ""
    multi: bool = False
    options: list[Choice] = []


class Location(_Part, frozen=True, kw_only=True):
    path: str
    line: Count | None = None


class Cut(_Part, frozen=True, kw_only=True):
    """What `truncated` says of one field: its full size in bytes of UTF-8 and where the whole is."""

    size: int
    url: str


class Context(_Part, frozen=True, kw_only=True):
    used: Count
    max: Count


class Source(_Part, frozen=True, kw_only=True):
    """Where a session's workspace came from: a git URL without credentials, or a host directory."""

    git: str | None = None
    dir: str | None = None


class Attachment(_Part, frozen=True, kw_only=True):
    name: str
    media_type: str = ""
    size: Count = 0


class Event(Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel", tag_field="type"):
    """The envelope. A runner leaves all four out: the server fills them in."""

    session_id: str = ""
    job_id: str | None = None
    at: str = ""
    truncated: dict[str, Cut] | None = None
    seq: Count = 0


class SessionEvent(Event, frozen=True, kw_only=True, tag="session"):
    """First event of a session; again when one of them changes."""

    agent: str
    isolation: Isolation
    title: str | None = None
    source: Source | None = None


class Chat(Event, frozen=True, kw_only=True, tag="chat"):
    """A prompt was accepted."""

    message: str
    by: str
    attachments: list[Attachment] | None = None
    client_message_id: str | None = None
    steer: bool = False


class JobStarted(Event, frozen=True, kw_only=True, tag="job_started"):
    agent: str
    agent_version: str
    model: str
    demo: bool
    permission_mode: str
    by: str


class SessionUpdate(Event, frozen=True, kw_only=True, tag="session_update"):
    claude_session_id: str | None = None
    mode: str | None = None
    model: str | None = None
    commands: list[str] | None = None
    context: Context | None = None


class Thinking(Event, frozen=True, kw_only=True, tag="thinking"):
    content: str
    message_id: str
    from_: Count = msgspec.field(default=0, name="from")
    """First `seq` of a folded run; absent on an unfolded row."""


class Stream(Event, frozen=True, kw_only=True, tag="stream"):
    content: str
    message_id: str
    from_: Count = msgspec.field(default=0, name="from")


class StreamReset(Event, frozen=True, kw_only=True, tag="stream_reset"):
    message_id: str


class Retry(Event, frozen=True, kw_only=True, tag="retry"):
    attempt: Count
    of: Count
    delay_ms: Count
    reason: str


class Plan(Event, frozen=True, kw_only=True, tag="plan"):
    entries: list[PlanEntry]


class ToolUse(Event, frozen=True, kw_only=True, tag="tool_use"):
    tool: str
    tool_id: str
    input: Json
    kind: ToolKind
    title: str | None = None
    locations: list[Location] | None = None
    parent_tool_id: str | None = None


class ToolOutput(Event, frozen=True, kw_only=True, tag="tool_output"):
    tool_id: str
    content: str


class ToolResult(Event, frozen=True, kw_only=True, tag="tool_result"):
    tool_id: str
    result: str
    is_error: bool
    diff: list[Diff] | None = None


class ApprovalRequired(Event, frozen=True, kw_only=True, tag="approval_required"):
    approval_id: str
    tool_id: str
    tool: str
    input: Json
    input_hash: str
    options: list[Option]
    reason: str
    changes: Json | None = None
    diff: list[Diff] | None = None
    expires_at: str | None = None
    second_approver: bool = False
    """Somebody other than whoever asked has to approve."""


class ApprovalResolved(Event, frozen=True, kw_only=True, tag="approval_resolved"):
    approval_id: str
    outcome: ApprovalOutcome
    by: str
    option_id: str | None = None
    message: str | None = None
    updated_input: Json | None = None


class QuestionEvent(Event, frozen=True, kw_only=True, tag="question"):
    question_id: str
    questions: list[Question]
    expires_at: str | None = None


class QuestionAnswered(Event, frozen=True, kw_only=True, tag="question_answered"):
    question_id: str
    answers: dict[str, str]
    by: str
    outcome: Literal["answered", "expired", "cancelled"]


class Artifact(Event, frozen=True, kw_only=True, tag="artifact"):
    artifact_id: str
    path: str
    size: Count
    sha256: str
    url: str
    tool_id: str | None = None


class Usage(Event, frozen=True, kw_only=True, tag="usage"):
    input_tokens: Count
    output_tokens: Count
    cache_read_tokens: Count
    cache_write_tokens: Count
    total_cost: float
    measured: Literal["proxy", "agent"]


class Custom(Event, frozen=True, kw_only=True, tag="custom"):
    name: str
    data: Json
    by: str


class Complete(Event, frozen=True, kw_only=True, tag="complete"):
    """Exactly one per job, always its last event."""

    outcome: Outcome
    result: str
    total_cost: float
    duration_ms: Count
    num_turns: Count
    reason: str | None = None


class ErrorEvent(Event, frozen=True, kw_only=True, tag="error"):
    """A named trouble; the end of a job is still its `complete`."""

    # `code` is a word of the wire: see protocol/README.md for the list.
    code: str
    message: str


LogEvent: TypeAlias = (
    SessionEvent
    | Chat
    | JobStarted
    | SessionUpdate
    | Thinking
    | Stream
    | StreamReset
    | Retry
    | Plan
    | ToolUse
    | ToolOutput
    | ToolResult
    | ApprovalRequired
    | ApprovalResolved
    | QuestionEvent
    | QuestionAnswered
    | Artifact
    | Usage
    | Custom
    | Complete
    | ErrorEvent
)

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(LogEvent)


def encode(event: Event) -> bytes:
    """One event as JSON. An event with `seq` 0 has no `seq` member: see `seal`."""
    return _encoder.encode(event)


def decode(data: bytes | str) -> LogEvent:
    """One event from JSON. Raises `msgspec.ValidationError` or `msgspec.DecodeError`, both `ValueError`s."""
    event: LogEvent = _decoder.decode(data)
    return event


def seal(body: bytes, seq: int) -> bytes:
    """Adds `seq` to an event that was encoded without one."""
    return b'%b,"seq":%d}' % (body[:-1], seq)


def schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of a log event."""
    return msgspec.json.schema(LogEvent)
