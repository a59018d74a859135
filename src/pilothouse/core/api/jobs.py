"""Jobs, what happened in them, what waits for people, and files."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from msgspec import Meta

from pilothouse.core import events as ev
from pilothouse.core.api.base import Answer, Body, Dollars, Id, JobName, Json, Mode, ModelName, Seq, Sha256, Time
from pilothouse.core.chat import Attached

JobState: TypeAlias = Annotated[str, Meta(extra_json_schema={"enum": ["queued", "running", "done"]})]
Outcome: TypeAlias = Annotated[
    str, Meta(extra_json_schema={"enum": ["succeeded", "failed", "interrupted", "budget_exceeded"]})
]
Budget: TypeAlias = Annotated[
    float,
    Meta(
        description="US dollars; at it the job ends.",
        extra_json_schema={"exclusiveMinimum": 0, "exclusiveMaximum": 1_000_000},
    ),
]
Tokens: TypeAlias = Annotated[
    int, Meta(description="At it the job ends.", extra_json_schema={"minimum": 1, "maximum": ev.COUNT_MAX})
]
Tools: TypeAlias = Annotated[
    list[str],
    Meta(
        description="Tools that may be used, others are denied: `Read`, or with a pattern `Bash(npm test:*)`.",
        extra_json_schema={"maxItems": 100},
    ),
]
Timeout: TypeAlias = Annotated[int, Meta(description="Seconds.", extra_json_schema={"minimum": 1, "maximum": 86_400})]


class NewJob(Body, kw_only=True):
    """A prompt. What is not given is as the session has it."""

    prompt: Annotated[
        str,
        Meta(description="At most 1 MiB of UTF-8.", extra_json_schema={"minLength": 1, "pattern": "^[^\\u0000]*\\S"}),
    ]
    permission_mode: Mode | None = None
    allowed_tools: Tools | None = None
    max_cost_usd: Budget | None = None
    max_tokens: Tokens | None = None
    model: ModelName | None = None
    timeout_s: Timeout | None = None
    client_message_id: Annotated[
        str | None,
        Meta(
            description="The caller's own word for this prompt: the same again answers with the same job.",
            extra_json_schema={"minLength": 1, "maxLength": 200},
        ),
    ] = None
    steer: Annotated[bool, Meta(description="Said to the running job instead of being the next one.")] = False
    attachments: Annotated[list[Attached], Meta(description="Pictures: png, jpeg, gif, webp; 5 MiB together.")] = []


class Picture(Answer, frozen=True, kw_only=True):
    """A picture of a prompt: its bytes are at /api/sessions/{id}/texts/{digest}."""

    media_type: str
    digest: Sha256


class Job(Answer, frozen=True, kw_only=True):
    """One prompt, run to its end."""

    id: JobName
    session_id: Id
    state: JobState
    prompt: str
    by: str
    created_at: Time
    permission_mode: str
    total_cost: Dollars
    first_seq: Annotated[Seq, Meta(description="Where it begins in the session's log.")] = 0
    timeout_s: Annotated[int, Meta(description="Seconds.")] = 3600
    started_at: Time | None = None
    ended_at: Time | None = None
    outcome: Outcome | None = None
    result: str | None = None
    reason: Annotated[str | None, Meta(description="Why it did not succeed.")] = None
    num_turns: int | None = None
    duration_ms: int | None = None
    last_seq: Seq | None = None
    model: str | None = None
    allowed_tools: list[str] | None = None
    max_cost_usd: float | None = None
    max_tokens: int | None = None
    pictures: list[Picture] = []
    name: Annotated[str, Meta(description="Its caller's own id for it.")] = ""
    headless: Annotated[bool, Meta(description="A program began it.")] = False


class Log(Answer, frozen=True, kw_only=True):
    """Events after a cursor."""

    epoch: Annotated[str, Meta(description="Which log the numbers belong to.")]
    oldest: Annotated[Seq, Meta(description="The oldest event that is kept.")]
    head: Annotated[Seq, Meta(description="The newest event.")]
    gap: Annotated[bool, Meta(description="Events after the cursor are no longer kept, or it is of another log.")]
    events: list[ev.LogEvent]


class Lost(Answer, frozen=True, kw_only=True):
    """Of a stream: what had these numbers is not kept. `{"from": 1, "to": 0}`: the log is another one."""

    start: Seq
    end: Seq


class Approval(Answer, frozen=True, kw_only=True):
    """A tool call that waits for a person, or waited. Its input never changes."""

    approval_id: Id
    session_id: Id
    job_id: JobName | None
    tool_id: str
    tool: str
    input: Annotated[Json, Meta(description="The tool's input, whole.")]
    input_hash: Annotated[Sha256, Meta(description="SHA-256 of the canonical JSON of `input`.")]
    options: list[ev.Option]
    reason: str
    created_at: Time
    state: Annotated[str, Meta(extra_json_schema={"enum": ["pending", "approved", "denied", "expired", "cancelled"]})]
    diff: list[ev.Diff] | None = None
    changes: Json = None
    expires_at: Time | None = None
    resolved_at: Time | None = None
    resolved_by: str | None = None
    option_id: str | None = None
    message: str | None = None
    updated_input: Json = None
    second_approver: Annotated[bool, Meta(description="Somebody other than whoever asked has to approve.")] = False


class Decision(Body, kw_only=True):
    """The answer to an approval; the first valid one stands."""

    approved: bool
    input_hash: Annotated[str | None, Meta(description="Of the input that was looked at: 409 if it is another.")] = None
    option_id: Annotated[str | None, Meta(description="One of the approval's options.")] = None
    message: Annotated[
        str | None, Meta(description="What the agent is told.", extra_json_schema={"maxLength": 10_000})
    ] = None
    updated_input: Annotated[
        Json, Meta(description="An object: the call is made with it instead.", extra_json_schema={})
    ] = None


class AgentQuestion(Answer, frozen=True, kw_only=True):
    """Something the agent asks, and its answer."""

    question_id: Id
    session_id: Id
    job_id: JobName | None
    questions: list[ev.Question]
    created_at: Time
    state: Annotated[str, Meta(extra_json_schema={"enum": ["pending", "answered", "expired", "cancelled"]})]
    expires_at: Time | None = None
    answers: dict[str, str] = {}
    resolved_by: str | None = None


class Answers(Body, kw_only=True):
    answers: Annotated[dict[str, str], Meta(description="By the question's text; all of them.")]


class Rule(Answer, frozen=True, kw_only=True):
    """A remembered answer."""

    id: str
    scope: Annotated[str, Meta(extra_json_schema={"enum": ["session", "project"]})]
    tool: str
    rule: str
    outcome: Annotated[str, Meta(extra_json_schema={"enum": ["approved", "denied"]})]
    by: str
    created_at: Time
    session_id: Id | None = None
    project: str | None = None


class FileEntry(Answer, frozen=True, kw_only=True):
    name: str
    kind: Annotated[str, Meta(extra_json_schema={"enum": ["file", "directory", "link", "other"]})]
    size: int
    mtime: Time


class Listing(Answer, frozen=True, kw_only=True):
    """A folder of a workspace: directories first, then by name."""

    path: str
    entries: list[FileEntry]


class ShellViewer(Answer, frozen=True, kw_only=True):
    id: str
    name: str
    role: Annotated[str, Meta(extra_json_schema={"enum": ["type", "watch"]})]


class NewShell(Body, kw_only=True):
    """Without `command` the session's own shell."""

    shell_id: Annotated[
        str | None,
        Meta(
            description="The same twice is the same shell.",
            extra_json_schema={"pattern": "^[A-Za-z0-9][A-Za-z0-9_-]{0,127}$"},
        ),
    ] = None
    command: Annotated[list[str] | None, Meta(description="A program and its arguments.")] = None
    cwd: Annotated[str, Meta(extra_json_schema={"maxLength": 4096})] = ""
    width: Annotated[int, Meta(description="Columns.", extra_json_schema={"minimum": 1, "maximum": 1000})] = 80
    height: Annotated[int, Meta(description="Rows.", extra_json_schema={"minimum": 1, "maximum": 1000})] = 24
    startup: Annotated[
        str,
        Meta(description="What a new shell runs first; no place for a secret.", extra_json_schema={"maxLength": 4096}),
    ] = ""


class Shell(Answer, frozen=True, kw_only=True):
    """A terminal of a session. `oldest` and `head` are offsets in its output, in bytes."""

    shell_id: str
    started_at: Time
    width: int
    height: int
    oldest: int
    head: int
    running: bool
    viewers: list[ShellViewer]
    command: Annotated[
        list[str] | None,
        Meta(description="The program that it was made with, its beginning; absent for the session's own shell."),
    ] = None
    exit_code: int | None = None
    signal: int | None = None
