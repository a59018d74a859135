"""Jobs and what happens in them, approvals, questions, rules, files."""

from __future__ import annotations

from pilothouse.core.api import Page, jobs
from pilothouse.core.chat import Attached
from pilothouse.web.operations import examples as ex
from pilothouse.web.operations.base import (
    AFTER,
    DONE,
    FOLDER,
    LAST,
    PAGED,
    SSE,
    Operation,
    Parameter,
    Said,
    text,
    whole,
)

JOBS, APPROVALS, FILES = "Jobs", "Approvals and questions", "Files"
EVENTS = Parameter("limit", whole(1, 1000, 500), "At most so many events.")
STATE = Parameter("state", text(enum=["pending", "all"], default="pending"), "Which ones.")
SESSION = Parameter("sessionId", text(), "Of this session alone.", example=ex.SESSION_ID)
IDEMPOTENCY = Parameter(
    "Idempotency-Key", text(minLength=1, maxLength=200),
    "The caller's own word for this request: the same again within a day gets its job, as it is then.", "header",
)  # fmt: skip
ENDS = "It ends when the credential does or the server goes: ask again from the last number. "
ATTACHMENT = {"Content-Disposition": "Always `attachment`."}
DECIDED = Said("Decided.", jobs.Approval, ex.APPROVAL)

OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "POST", "/api/sessions/{id}/jobs", JOBS, "Give the session a prompt",
        {202: Said("Queued, running, or the job of the same word.", jobs.Job, ex.JOB)},
        "Jobs of a session run one after another. Counts for the day.",
        query=(IDEMPOTENCY,), body=jobs.NewJob,
        example=jobs.NewJob(
            prompt="Which test is the slowest?", max_cost_usd=0.5, allowed_tools=["Read", "Bash(npm test:*)"],
            client_message_id="7f0d", attachments=[Attached(name="a.png", data="iVBORw0KGgo=", media_type="image/png")],
        ),
        refuses={409: "There is no running job to steer.", 429: "Or the day's jobs are used, or too many sessions "
                 "work.", 413: "Or the attachments are."},
    ),
    Operation(
        "GET", "/api/sessions/{id}/jobs", JOBS, "The jobs of a session",
        {200: Said("A page, newest first.", Page[jobs.Job], Page(items=[ex.JOB], next=None))}, query=PAGED,
    ),
    Operation("GET", "/api/jobs/{id}", JOBS, "A job", {200: Said("It.", jobs.Job, ex.JOB)}),
    Operation(
        "POST", "/api/jobs/{id}/interrupt", JOBS, "Interrupt a job", {202: Said("The agent is told.")},
        refuses={409: "It is done."},
    ),
    Operation(
        "GET", "/api/jobs/{id}/events", JOBS, "What happened in a job",
        {200: Said(SSE + "It ends after `complete`. " + ENDS, jobs.Log, ex.LOG, stream=ex.STREAM)},
        query=(AFTER, EVENTS, LAST),
    ),
    Operation(
        "GET", "/api/sessions/{id}/events", JOBS, "What happened in a session",
        {200: Said(
            SSE + "What is no longer kept is told as `event: gap` with `{from, to}`. " + ENDS,
            jobs.Log, ex.LOG, stream=ex.STREAM,
        )},
        query=(
            AFTER, EVENTS, Parameter("epoch", text(), "Of which log `after` is; another is answered from its start."),
            LAST,
        ),
    ),
    Operation(
        "GET", "/api/sessions/{id}/texts/{digest}", JOBS, "The whole of a field that was cut",
        {200: Said("The text; JSON for an `input`.", media="text/plain", headers=ATTACHMENT)},
    ),
    Operation(
        "GET", "/api/approvals", APPROVALS, "Approvals, of all sessions",
        {200: Said("A page, newest first.", Page[jobs.Approval], Page(items=[ex.APPROVAL], next=None))},
        query=(STATE, SESSION, *PAGED), refuses={404: "There is no such session."},
    ),
    Operation("GET", "/api/approvals/{id}", APPROVALS, "An approval", {200: Said("It.", jobs.Approval, ex.APPROVAL)}),
    Operation(
        "POST", "/api/approvals/{id}", APPROVALS, "Decide",
        {200: DECIDED}, "The first valid answer stands.",
        body=jobs.Decision, example=jobs.Decision(approved=True, input_hash=ex.HASH, option_id="allow"),
        refuses={409: "It is decided (`outcome` and `by` say how), or its input is another than was shown.",
                 403: "Or somebody else has to (`second_approver`)."},
    ),
    Operation(
        "GET", "/api/questions", APPROVALS, "What agents ask, in all sessions",
        {200: Said("A page, newest first.", Page[jobs.AgentQuestion], Page(items=[ex.QUESTION], next=None))},
        query=(STATE, *PAGED),
    ),
    Operation(
        "POST", "/api/questions/{id}", APPROVALS, "Answer", {200: Said("Answered.", jobs.AgentQuestion, ex.QUESTION)},
        body=jobs.Answers, example=jobs.Answers(answers={"Which database?": "PostgreSQL"}),
        refuses={409: "It has its answer."},
    ),
    Operation(
        "GET", "/api/rules", APPROVALS, "Remembered answers",
        {200: Said("Of one's own sessions; for an admin the organisation's.", Page[jobs.Rule],
                   Page(items=[ex.RULE], next=None))},
    ),
    Operation("DELETE", "/api/rules/{id}", APPROVALS, "Forget one", {204: DONE}),
    Operation(
        "GET", "/api/sessions/{id}/files", FILES, "A folder of the workspace",
        {200: Said("Directories first, then by name.", jobs.Listing, jobs.Listing(path="src", entries=[
            jobs.FileEntry(name="app.py", kind="file", size=812, mtime=ex.AT),
        ]))},
        query=(FOLDER,), refuses={503: "Or the session's files cannot be reached."},
    ),
    Operation(
        "GET", "/api/sessions/{id}/files/content", FILES, "A file",
        {200: Said("Its bytes; a download breaks off when the credential ends.", media="application/octet-stream",
                   headers=ATTACHMENT)},
        query=(Parameter("path", text(maxLength=4096), "Below the workspace.", example="src/app.py"),),
        refuses={413: "It is over 64 GiB.", 503: "Or the session's files cannot be reached."},
    ),
    Operation(
        "GET", "/api/sessions/{id}/files/zip", FILES, "A folder as a zip",
        {200: Said("The zip; what is left out is named in its `_LEFT_OUT.txt`.", media="application/zip",
                   headers=ATTACHMENT)},
        query=(FOLDER,), refuses={503: "Or the session's files cannot be reached."},
    ),
    Operation(
        "WS", "/ws", JOBS, "The chat socket: prompts, events, approvals, on one connection", {},
        "See `protocol/chat.md`.",
    ),
)  # fmt: skip
