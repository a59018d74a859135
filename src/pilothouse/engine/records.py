"""What the ledger keeps: one document per thing, JSON, by kind and id. The log says what happened, these what is."""

from __future__ import annotations

import datetime
import os
import time
from collections import deque
from typing import Any, Literal, TypeVar

import msgspec
from msgspec import Struct

from pilothouse.core import approval, job
from pilothouse.core import events as ev
from pilothouse.core.access import ORGANISATION, Grant
from pilothouse.core.ids import ApprovalId, ArtifactId, JobId, QuestionId, SessionId
from pilothouse.engine.ports import Put

TAILS = 256
"""Random ends of ids made at one time."""
EVERY = 1_000_000
"""Documents of a kind, all of them: more than memory would hold of what is made one by one."""

SessionState = Literal["new", "active", "idle", "stopped", "lost"]


class Record(Struct, kw_only=True, omit_defaults=True, rename="camel"):
    """A document. Mutable: the engine owns it; readers get its JSON."""


class Egress(Record, kw_only=True):
    """What a session was given for its network. What it does not say is as configured."""

    policy: str = ""
    domains: list[str] | None = None
    approved: list[str] = []
    """Domains that people allowed for the session when they were asked."""


class SessionRecord(Record, kw_only=True):
    id: SessionId
    owner: str
    organisation: str = ORGANISATION
    private: bool = False
    """Not for the other members of the organisation, but those with a grant and the admins."""
    grants: dict[str, Grant] = {}
    """By account."""
    title: str = ""
    agent: str
    isolation: ev.Isolation
    source: ev.Source | None = None
    created_at: str
    last_active_at: str
    state: SessionState = "new"
    permission_mode: str
    model: str = ""
    agent_session_id: str = ""
    """The agent's own name for the conversation: with it a new runner goes on."""
    total_cost: float = 0.0
    limits: dict[str, float] = {}
    """Those that are not as configured."""
    log_bytes: int = 0
    """As of the last writing of this record."""
    egress: Egress | None = None


class Kept(Record, kw_only=True):
    """A picture of a prompt; its bytes are a document of the kind `text`."""

    media_type: str
    digest: str


class JobRecord(Record, kw_only=True):
    id: JobId
    session_id: SessionId
    state: job.State = "queued"
    prompt: str
    by: str
    created_at: str
    started_at: str | None = None
    ended_at: str | None = None
    outcome: ev.Outcome | None = None
    result: str | None = None
    reason: str | None = None
    total_cost: float = 0.0
    num_turns: int | None = None
    duration_ms: int | None = None
    first_seq: int = 0
    last_seq: int | None = None
    permission_mode: str
    model: str | None = None
    """Asked for; once it has started, the one that it was given."""
    demo: bool = False
    """It was given the demo model, which costs nothing whatever its agent says."""
    allowed_tools: list[str] | None = None
    max_cost_usd: float | None = None
    max_tokens: int | None = None
    timeout_s: int = 3600
    pictures: list[Kept] = []
    runner_id: str = ""
    """The runner that has it: another one cannot go on with it."""
    turn_id: str = ""
    interrupted_by: str = ""
    late: bool = False
    """Its time was up."""
    askers: list[str] = []
    """Accounts whose words it works on: who prompted, and who added to it."""
    key: str = ""
    """Id of the key that prompted, if it was one."""
    trace: str = ""
    """As `origin.Origin`."""
    name: str = ""
    """The caller's own id for it; `id` is ours all the same."""
    headless: bool = False
    """A program began it: nobody is asked who cannot be reached."""
    metered: bool = False
    """The ledger has a record of a call of its: from then on what the agent says of itself is not added up."""


class Called(Record, kw_only=True):
    """The document `call`: what a caller's own word stands for, by `named` or `keyed`."""

    job: JobId
    account: str
    about: str = ""
    """What was wished for, hashed."""


class ApprovalRecord(Record, kw_only=True):
    approval_id: ApprovalId
    session_id: SessionId
    job_id: JobId | None
    tool_id: str
    tool: str
    input: Any
    input_hash: str
    options: list[ev.Option]
    reason: str
    diff: list[ev.Diff] | None = None
    changes: Any = None
    expires_at: str | None = None
    state: approval.State = "pending"
    created_at: str
    resolved_at: str | None = None
    resolved_by: str | None = None
    option_id: str | None = None
    message: str | None = None
    updated_input: Any = None
    origin: Literal["runner", "proxy"] = "runner"
    """Who asked and gets the answer."""
    runner_id: str = ""
    request_id: str = ""
    second_approver: bool = False
    askers: list[str] = []
    """Of the job, when it was asked: those whose approval does not do where a second person is needed."""
    mode: str | None = None
    """The permission mode that an accepted plan goes on in."""


class QuestionRecord(Record, kw_only=True):
    question_id: QuestionId
    session_id: SessionId
    job_id: JobId | None
    questions: list[ev.Question]
    expires_at: str | None = None
    state: Literal["pending", "answered", "expired", "cancelled"] = "pending"
    created_at: str
    answers: dict[str, str] = {}
    resolved_by: str | None = None
    runner_id: str = ""
    request_id: str = ""


class RuleRecord(Record, kw_only=True):
    id: str
    owner: str = "local"
    """Of the session in which it was remembered: nobody else's answers speak for a person."""
    organisation: str = ORGANISATION
    scope: Literal["session", "project"]
    session_id: SessionId | None = None
    project: str | None = None
    tool: str
    rule: str
    outcome: Literal["approved", "denied"]
    by: str
    created_at: str


class ArtifactRecord(Record, kw_only=True):
    """A file that a job made or changed, as it was when the job ended."""

    id: ArtifactId
    session: SessionId
    job: JobId
    path: str
    """Relative to the workspace. Its names are the agent's: any characters but NUL and `/`."""
    size: int = 0
    sha256: str = ""
    media_type: str = "application/octet-stream"
    """By the name alone."""
    tool_id: str | None = None
    """The tool call that made it, as far as the log tells."""
    prefix: str
    """`outputs/YYYYMMDD_HHMMSS-<jobId>/`: what its copies are stored under."""
    created: str
    state: Literal["stored", "waiting", "skipped"] = "stored"
    """waiting: kept on this machine, and on its way to where artifacts are stored. skipped: not kept, see `reason`."""
    reason: str | None = None


R = TypeVar("R", bound=Record)
_encoder = msgspec.json.Encoder()


def put(record: SessionRecord | JobRecord | ApprovalRecord | QuestionRecord | RuleRecord | ArtifactRecord) -> Put:
    doc = _encoder.encode(record)
    match record:
        case SessionRecord():
            return Put("session", record.id, doc, shelf(record.organisation))
        case JobRecord():
            return Put("job", record.id, doc, record.session_id)
        case ApprovalRecord():
            return Put("approval", record.approval_id, doc, record.session_id)
        case QuestionRecord():
            return Put("question", record.question_id, doc, record.session_id)
        case RuleRecord():
            return Put("rule", record.id, doc, record.session_id or "")
        case ArtifactRecord():
            return Put("artifact", record.id, doc, record.session)


def named(organisation: str, name: str) -> str:
    """The `call` of a job that its caller named. One in an organisation, since `/dialog/NAME` is one channel there."""
    return f"name:{organisation}:{name}"


def shelf(organisation: str) -> str:
    """What the sessions of an organisation are kept under. (Once it was the owner, who was `local` then.)"""
    return f"org:{organisation}"


def load(doc: bytes, kind: type[R]) -> R:
    return msgspec.json.decode(doc, type=kind)


def copy(record: R, **changes: Any) -> R:
    return msgspec.structs.replace(record, **changes)


def new_id() -> str:
    """UUID version 7, in the order of making, so that lists by id are lists by time: milliseconds, 4096ths of one, and
    62 random bits. Where the clock stands still or goes back it counts on."""
    global _last
    try:
        tail = _tails.popleft()
    except IndexError:
        tail, *more = _random_tails()
        _tails.extend(more)
    _last = moment = max((time.time_ns() << 12) // 1_000_000, _last + 1)
    text = f"{moment:015x}"
    return f"{text[:8]}-{text[8:12]}-7{text[12:]}{tail}"


_VARIANT = dict(zip("0123456789abcdef", "89ab" * 4, strict=True))
_last = 0
_tails: deque[str] = deque()
"""Of ids to come: the kernel is asked for many at one time. One `popleft` is one thread's."""


def _random_tails() -> list[str]:
    """-VRRR-RRRRRRRRRRRR"""
    digits = os.urandom(TAILS * 8).hex()
    each = (digits[at : at + 16] for at in range(0, len(digits), 16))
    return [f"-{_VARIANT[one[0]]}{one[1:4]}-{one[4:]}" for one in each]


os.register_at_fork(after_in_child=_tails.clear)  # two processes never make the same


def stamp(seconds: float) -> str:
    """RFC 3339, UTC, milliseconds."""
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def seconds(text: str) -> float:
    return datetime.datetime.fromisoformat(text).timestamp()
