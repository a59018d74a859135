"""The answers of the HTTP API, as far as the command line reads them. Further fields are let pass."""

from __future__ import annotations

from typing import Any

from msgspec import Raw, Struct, field

from pilothouse.core import events as ev


class _Answer(Struct, frozen=True, kw_only=True, rename="camel"):
    pass


class Problem(_Answer, frozen=True, kw_only=True):
    title: str = ""
    detail: str = ""
    message: str = ""
    code: str = ""
    outcome: str = ""
    by: str = ""


class Secret(_Answer, frozen=True, kw_only=True):
    name: str
    where: str = ""
    use: str = field(default="", name="for")
    file: bool = False
    masked: bool = True
    set_at: str = ""
    set_by: str = ""
    last_used_at: str | None = None
    project: dict[str, str] = {}


class Unpublished(_Answer, frozen=True, kw_only=True):
    index: int
    message: str = ""


class Published(_Answer, frozen=True, kw_only=True):
    failed: list[Unpublished] = []


class ShellViewer(_Answer, frozen=True, kw_only=True):
    name: str = ""
    role: str = ""


class Shell(_Answer, frozen=True, kw_only=True):
    shell_id: str
    running: bool = False
    exit_code: int = 0
    width: int = 80
    height: int = 24
    viewers: list[ShellViewer] = []


class Session(_Answer, frozen=True, kw_only=True):
    id: str
    title: str | None = None
    agent: str = ""
    isolation: str = ""
    state: str = ""
    running: bool = False
    pending_approvals: int = 0
    pending_questions: int = 0
    total_cost: float = 0.0
    head: int = 0
    created_at: str = ""
    last_active_at: str = ""


class Limit(_Answer, frozen=True, kw_only=True):
    name: str
    enforced: str = ""


class Limits(_Answer, frozen=True, kw_only=True):
    limits: list[Limit] = []


class Job(_Answer, frozen=True, kw_only=True):
    id: str
    session_id: str
    state: str = ""
    prompt: str = ""
    by: str = ""
    created_at: str = ""
    outcome: str | None = None
    total_cost: float = 0.0
    first_seq: int = 0
    last_seq: int | None = None


class Approval(_Answer, frozen=True, kw_only=True):
    approval_id: str
    tool: str
    input: ev.Json
    input_hash: str
    session_id: str = ""
    state: str = "pending"
    reason: str = ""
    options: list[ev.Option] = []
    changes: ev.Json = None
    diff: list[ev.Diff] | None = None
    expires_at: str | None = None
    second_approver: bool = False
    resolved_by: str | None = None
    message: str | None = None


class Waiting(_Answer, frozen=True, kw_only=True):
    """A question that is open."""

    question_id: str
    questions: list[ev.Question]
    session_id: str = ""
    expires_at: str | None = None


class Entry(_Answer, frozen=True, kw_only=True):
    name: str
    kind: str
    size: int = 0
    mtime: Any = None


class Listing(_Answer, frozen=True, kw_only=True):
    path: str
    entries: list[Entry]


class Artifact(_Answer, frozen=True, kw_only=True):
    id: str
    path: str
    size: int = 0
    state: str = ""
    reason: str | None = None


class Contact(_Answer, frozen=True, kw_only=True):
    host: str
    port: int
    verdict: str
    reason: str
    count: int
    first: str
    last: str
    bytes_in: int = 0
    bytes_out: int = 0


class Network(_Answer, frozen=True, kw_only=True):
    policy: str
    domains: list[str]
    contacts: list[Contact]


class Key(_Answer, frozen=True, kw_only=True):
    id: str
    name: str | None = None
    scopes: list[str] = []
    created_at: str = ""
    last_used_at: str | None = None
    kind: str = "key"
    expires_at: str | None = None
    rate_per_s: float | None = None
    rate_burst: int | None = None
    quota_per_day: int | None = None
    key: str | None = None
    secret_access_key: str | None = None
    session_token: str | None = None

    def __repr__(self) -> str:
        return f"Key(id={self.id!r})"


class Member(_Answer, frozen=True, kw_only=True):
    account: str
    role: str
    name: str = ""
    organisation: str = ""
    created_at: str = ""
    disabled: bool = False


class Organisation(_Answer, frozen=True, kw_only=True):
    id: str
    name: str = ""
    created_at: str = ""


class AuditPage(_Answer, frozen=True, kw_only=True):
    items: list[Raw]
    """As they were sealed: a record that is written out again is another one."""


class AuditHead(_Answer, frozen=True, kw_only=True):
    seq: int
    hash: str


class Actor(_Answer, frozen=True, kw_only=True):
    kind: str
    name: str = ""


class Audited(_Answer, frozen=True, kw_only=True):
    seq: int
    at: str
    actor: Actor
    action: str
    object: str
    address: str
    outcome: str
    details: dict[str, Any] = {}


class Ticket(_Answer, frozen=True, kw_only=True):
    url: str
    expires_at: str = ""


class Log(_Answer, frozen=True, kw_only=True):
    epoch: str
    oldest: int
    head: int
    gap: bool
    events: list[Any]
