"""Sessions, what they may use, and who else may be in them."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

from msgspec import Meta, field

from pilothouse.core import events as ev
from pilothouse.core.api.base import LINE, Answer, Body, Dollars, Id, Mode, ModelName, Name, Role, Scope, Seq, Time

Title: TypeAlias = Annotated[str, Meta(extra_json_schema={"maxLength": 200, "pattern": LINE})]
State: TypeAlias = Annotated[
    str,
    Meta(
        description="`new`: nothing was started yet; `lost`: its processes ended by themselves.",
        extra_json_schema={"enum": ["new", "active", "idle", "stopped", "lost"]},
    ),
]
Isolation: TypeAlias = Annotated[
    str, Meta(extra_json_schema={"enum": ["vm", "gvisor", "namespaces", "reduced", "none"]})
]
Grant: TypeAlias = Annotated[str, Meta(extra_json_schema={"enum": ["watch", "run", "approve"]})]
LinkRight: TypeAlias = Annotated[str, Meta(extra_json_schema={"enum": ["watch", "approve", "type"]})]
Policy: TypeAlias = Annotated[str, Meta(extra_json_schema={"enum": ["off", "allow", "full"]})]
LimitName: TypeAlias = Annotated[
    str, Meta(extra_json_schema={"enum": ["memory", "processes", "cpu", "disk", "files", "tmp", "shm", "run"]})
]
Caps: TypeAlias = Annotated[
    dict[str, float],
    Meta(
        description="Bytes (`memory`, `disk`, `tmp`, `shm`, `run`), counts (`processes`, `files`), processors (`cpu`).",
        extra_json_schema={
            "propertyNames": {"enum": ["memory", "processes", "cpu", "disk", "files", "tmp", "shm", "run"]}
        },
    ),
]

AskedCaps: TypeAlias = Annotated[
    dict[str, Any],
    Meta(
        description="Bytes (`memory`, `disk`, `tmp`, `shm`, `run`), counts (`processes`, `files`), processors (`cpu`).",
        extra_json_schema={
            "propertyNames": {"enum": ["memory", "processes", "cpu", "disk", "files", "tmp", "shm", "run"]},
            "additionalProperties": {"type": "number"},
        },
    ),
]
"""As `Caps`; what is no number is refused by the limit's name (`limits.check`), which a decoder does not tell."""


class Wish(Body, kw_only=True):
    """What a session reaches. Both left out: as configured."""

    policy: Policy | None = None
    domains: Annotated[
        list[str] | None, Meta(description="`host`, `*.suffix` or an IP address, each with `:port` or without.")
    ] = None


class Project(Body, kw_only=True):
    """One of the two."""

    git: str | None = None
    dir: Annotated[str | None, Meta(extra_json_schema={"pattern": "^/[^\\u0000]*$", "maxLength": 4096})] = None


class NewSession(Body, kw_only=True):
    """Nothing of it has to be given; what is not is as configured."""

    agent: Annotated[str | None, Meta(description="`claude`, `echo`, `acp:…`; GET /api/me says which there are.")] = (
        None
    )
    title: Title | None = None
    source: Annotated[
        Project | None,
        Meta(description="Where the workspace comes from: `git` for everybody, `dir` for admins of the server."),
    ] = None
    permission_mode: Mode | None = None
    model: ModelName | None = None
    limits: AskedCaps | None = None
    egress: Wish | None = None


class SessionChange(Body, kw_only=True):
    """What is not given stays."""

    title: Title | None = None
    permission_mode: Mode | None = None
    model: ModelName | None = None
    private: Annotated[bool | None, Meta(description="For whoever may share the session.")] = None


class Session(Answer, frozen=True, kw_only=True):
    """An isolated place with a workspace, one conversation with an agent, and up to ten shells."""

    id: Id
    title: str
    agent: str
    isolation: Isolation
    created_at: Time
    last_active_at: Time
    state: State
    permission_mode: str
    total_cost: Dollars
    rights: Annotated[list[Scope], Meta(description="What the caller may in it.")]
    running: Annotated[bool, Meta(description="A job is running or queued.")]
    pending_approvals: int
    pending_questions: int
    head: Annotated[Seq, Meta(description="The number of the log's newest event.")]
    source: ev.Source | None = None
    model: str = ""
    limits: Annotated[Caps, Meta(description="Those that are not as configured.")] = {}
    owner: Annotated[str | None, Meta(description="Its account; not told to who follows a share link.")] = None
    private: bool | None = None
    grants: Annotated[dict[str, Grant] | None, Meta(description="By account; told to who may share.")] = None


class Limit(Answer, frozen=True, kw_only=True):
    """What the session may use of one thing, uses, and what holds it."""

    name: LimitName
    unit: Annotated[str, Meta(extra_json_schema={"enum": ["bytes", "count", "cores"]})]
    max: float | None
    used: Annotated[float | None, Meta(description="null: nobody counts, or the session does not run.")]
    enforced: Annotated[
        str, Meta(extra_json_schema={"enum": ["cgroup", "image", "watchdog", "rlimit", "tmpfs", "none"]})
    ]
    hits: int


class Limits(Answer, frozen=True, kw_only=True):
    limits: list[Limit]


class NewGrant(Body, kw_only=True):
    right: Grant


class NewLink(Body, kw_only=True):
    right: LinkRight = "watch"
    name: Name | None = None
    expires_in_s: Annotated[
        float | None,
        Meta(description="Seconds; 7 days if left out.", extra_json_schema={"minimum": 60, "maximum": 2_592_000}),
    ] = None


class Link(Answer, frozen=True, kw_only=True):
    """A share link, without what opens it."""

    id: str
    name: str
    right: LinkRight
    made_by: str
    created_at: Time
    expires_at: Time


class MadeLink(Link, frozen=True, kw_only=True):
    """A share link, and what opens it: shown this once."""

    url: str

    def __repr__(self) -> str:
        return f"MadeLink(id={self.id!r})"


class Contact(Answer, frozen=True, kw_only=True):
    """A host that was contacted or refused; told from others by host, port and reason."""

    host: str
    port: int
    verdict: Annotated[str, Meta(extra_json_schema={"enum": ["allowed", "refused"]})]
    reason: str
    count: int
    first: Time
    last: Time
    bytes_in: int
    bytes_out: int


class Network(Answer, frozen=True, kw_only=True):
    """What a session reaches, and what it has contacted, newest first."""

    policy: Policy
    domains: list[str]
    contacts: list[Contact]


class NewOrganisation(Body, kw_only=True):
    id: Annotated[str, Meta(extra_json_schema={"pattern": "^[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?$"})]
    name: Name | None = None


class Organisation(Answer, frozen=True, kw_only=True):
    id: str
    name: str
    created_at: Time


class MemberChange(Body, kw_only=True):
    """A new member needs a role; what else is not given stays."""

    role: Role | None = None
    name: Name | None = None
    disabled: bool | None = None


class Member(Answer, frozen=True, kw_only=True):
    """Somebody of an organisation."""

    account: str
    name: str
    organisation: str
    role: Role
    created_at: Time
    disabled: bool


class NewSecret(Body, kw_only=True):
    """A value that shells or agents get by its name, and nobody is shown again."""

    value: Annotated[str, Meta(extra_json_schema={"minLength": 1, "maxLength": 16384, "pattern": "^[^\\u0000]*$"})]
    use: Annotated[str, Meta(extra_json_schema={"enum": ["shells", "agents", "both"]})] = field(
        default="shells", name="for"
    )
    file: Annotated[bool, Meta(description="In a file instead of the environment; for shells alone.")] = False

    def __repr__(self) -> str:
        return "NewSecret()"


class NewOwnSecret(NewSecret, kw_only=True):
    project: Annotated[Project | None, Meta(description="Of this project alone.")] = None

    def __repr__(self) -> str:
        return "NewOwnSecret()"


class Secret(Answer, frozen=True, kw_only=True):
    """That there is one; never its value."""

    name: str
    where: Annotated[str, Meta(extra_json_schema={"enum": ["account", "project", "session"]})]
    use: Annotated[str, Meta(extra_json_schema={"enum": ["shells", "agents", "both"]})] = field(name="for")
    file: bool
    masked: Annotated[bool, Meta(description="It is long enough to be looked for in what is written.")]
    set_at: Time
    set_by: str
    project: Annotated[dict[str, str] | None, Meta(description="`{git}` or `{dir}`.")] = None
    last_used_at: Time | None = None
