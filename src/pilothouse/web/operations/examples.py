"""What the examples of the document are about: one session, one job."""

from __future__ import annotations

from pilothouse.core import events as ev
from pilothouse.core.api import access, jobs, sessions

AT = "2026-11-21T09:02:52.339Z"
LATER = "2026-11-21T09:03:07.021Z"
SESSION_ID = "019ab5c2-4e2f-7c11-9d3a-5b8f1c0e7a42"
JOB_ID = "019ab5c2-5a10-7e63-8f0b-2f6d9e4c1b07"
APPROVAL_ID = "019ab5c2-6b73-7d25-b1e4-90c7a3f5d816"
QUESTION_ID = "019ab5c2-7c84-7a39-8c52-4d1e0b9f6a33"
HASH = "b5bb9d8014a0f9b1d61e21e796d78dccdf1352f23cd32812f4850b878ae4944c"

SESSION = sessions.Session(
    id=SESSION_ID,
    title="Find the slow test",
    agent="claude",
    isolation="namespaces",
    source=ev.Source(git="https://git.example/shop.git"),
    created_at=AT,
    last_active_at=LATER,
    state="active",
    permission_mode="acceptEdits",
    total_cost=0.12,
    rights=["read", "run", "approve", "admin"],
    running=True,
    pending_approvals=1,
    pending_questions=0,
    head=37,
    owner="local",
    private=False,
    grants={"ann": "watch"},
)
JOB = jobs.Job(
    id=JOB_ID,
    session_id=SESSION_ID,
    state="done",
    prompt="Which test is the slowest?",
    by="ann",
    created_at=AT,
    started_at=AT,
    ended_at=LATER,
    outcome="succeeded",
    result="`test_checkout` takes 41 of 60 seconds.",
    total_cost=0.03,
    num_turns=3,
    duration_ms=14_682,
    first_seq=2,
    last_seq=37,
    timeout_s=3600,
    permission_mode="acceptEdits",
)
EVENT = ev.Stream(session_id=SESSION_ID, job_id=JOB_ID, at=LATER, seq=12, content="The slowest is ", message_id="m1")
END = ev.Complete(
    session_id=SESSION_ID, job_id=JOB_ID, at=LATER, seq=37, outcome="succeeded",
    result="`test_checkout` takes 41 of 60 seconds.", total_cost=0.03, duration_ms=14_682, num_turns=3,
)  # fmt: skip
LOG = jobs.Log(epoch="4f1c9a0b7d2e", oldest=1, head=37, gap=False, events=[EVENT, END])
STREAM = (
    ": pilothouse\nretry: 2417\n\n"
    'id: 12\ndata: {"type":"stream","sessionId":"' + SESSION_ID + '","content":"The slowest is ","seq":12}\n\n'
)
APPROVAL = jobs.Approval(
    approval_id=APPROVAL_ID,
    session_id=SESSION_ID,
    job_id=JOB_ID,
    tool_id="toolu_01",
    tool="Bash",
    input={"command": "npm test"},
    input_hash=HASH,
    options=[
        ev.Option(id="allow", label="Allow once", outcome="approved", scope="once"),
        ev.Option(id="deny", label="Deny", outcome="denied"),
    ],
    reason="It runs a command.",
    created_at=AT,
    expires_at=LATER,
    state="pending",
)
QUESTION = jobs.AgentQuestion(
    question_id=QUESTION_ID,
    session_id=SESSION_ID,
    job_id=JOB_ID,
    questions=[ev.Question(question="Which database?", header="Database", options=[ev.Choice(label="PostgreSQL")])],
    created_at=AT,
    state="pending",
)
RULE = jobs.Rule(
    id="019ab5c2-8d95-7b4a-9d63-5e2f1ca07b44",
    scope="project",
    project="git:https://git.example/shop.git",
    tool="Bash",
    rule="Bash(npm test:*)",
    outcome="approved",
    by="ann",
    created_at=AT,
)
SHELL = jobs.Shell(
    shell_id="build",
    started_at=AT,
    width=120,
    height=40,
    oldest=0,
    head=4096,
    running=True,
    viewers=[jobs.ShellViewer(id="v1", name="ann", role="type")],
)
NETWORK = sessions.Network(
    policy="allow",
    domains=["registry.npmjs.org"],
    contacts=[
        sessions.Contact(
            host="registry.npmjs.org",
            port=443,
            verdict="allowed",
            reason="listed",
            count=3,
            first=AT,
            last=LATER,
            bytes_in=48_211,
            bytes_out=2_903,
        )
    ],
)
SECRET = sessions.Secret(
    name="NPM_TOKEN", where="account", use="shells", file=False, masked=True, set_at=AT, set_by="ann"
)
LINK = sessions.Link(id="9f3c01d2a4b5", name="for Bob", right="watch", made_by="ann", created_at=AT, expires_at=LATER)
MEMBER = sessions.Member(
    account="ann", name="Ann", organisation="default", role="approver", created_at=AT, disabled=False
)
ORGANISATION = sessions.Organisation(id="default", name="Default", created_at=AT)
KEY = access.Key(
    id="3f2a9c1b7d0e", kind="key", name="ci", scopes=["read", "run"], account="local", created_at=AT, last_used_at=LATER
)
