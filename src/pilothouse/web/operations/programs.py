"""What programs call: a prompt in one request, artifacts, usage, metrics."""

from __future__ import annotations

from pilothouse.core import invoke
from pilothouse.core.api import Page, kept
from pilothouse.core.tally import Row
from pilothouse.web.operations import examples as ex
from pilothouse.web.operations.base import ORGANISATION, PAGED, SSE, Operation, Parameter, Said, text

CALLS, ARTIFACTS, USAGE = "Programs", "Artifacts", "Usage"
KEY = Parameter(
    "Idempotency-Key", text(minLength=1, maxLength=200),
    "The caller's own word for the request: the same again finds the same job. `amz-sdk-invocation-id` is as good.",
    "header",
)  # fmt: skip
WISH = kept.Invocation(prompt="Write a small program and run it", permission_mode="acceptAll", max_cost_usd=0.5)
FILE = invoke.File(
    file_name="app.py", s3_url=None, url=f"https://pilothouse.example/api/artifacts/{ex.APPROVAL_ID}/content",
    console_url=None, size=812, sha256=ex.HASH,
)  # fmt: skip
ENDED = kept.Invoked(
    output=invoke.Output(
        success=True, result="It prints the first primes.", session_id=ex.SESSION_ID,
        timestamp="2026-11-21T09:02:52.339000", model="claude-haiku-4.5",
        metadata=invoke.Metadata(
            duration_ms=2753, num_turns=2, total_cost_usd=0.01, job_id=ex.JOB_ID, uploaded_files=[FILE]
        ),
    )
)  # fmt: skip
REFUSES = {
    404: "There is no such session.", 409: "The name or the key is another request's, or twenty jobs wait already.",
    413: "Or the prompt is.", 503: "Or too many sessions work.",
}  # fmt: skip
ARTIFACT = kept.JobArtifact(
    id=ex.APPROVAL_ID, session_id=ex.SESSION_ID, job_id=ex.JOB_ID, path="src/app.py", size=812, sha256=ex.HASH,
    media_type="text/x-python", prefix=f"outputs/20261121_090307-{ex.JOB_ID}/", created_at=ex.LATER, state="stored",
    url=f"/api/artifacts/{ex.APPROVAL_ID}/content", s3_url=None, console_url=None,
)  # fmt: skip
ATTACHMENT = {"Content-Disposition": "Always `attachment`.", "ETag": "By its SHA-256."}
RANGE = Parameter("Range", text(), "One range of bytes.", "header", example="bytes=0-1023")
CONDITIONS = (
    RANGE,
    Parameter("If-Range", text(), "An `ETag`: `Range` counts only while it is this file's.", "header"),
    Parameter("If-None-Match", text(), "`ETag`s between commas, or `*`: 304 when it is one of them.", "header"),
)
BYTES = {
    200: Said("Its bytes.", media="*/*", headers=ATTACHMENT),
    206: Said("A range of them.", media="*/*", headers=ATTACHMENT),
    304: Said("It is as `If-None-Match` says."),
}
NO_RANGE = {416: "It has no such range.", 503: "Or it cannot be reached where it is stored."}
ROW = Row(day="2026-11-21", calls=12, input_tokens=48_211, output_tokens=2903, cost_usd=0.07)
SPAN = (
    Parameter("from", text(pattern=r"^\d{4}-\d{2}-\d{2}$"), "The first day, UTC.", example="2026-11-01"),
    Parameter("to", text(pattern=r"^\d{4}-\d{2}-\d{2}$"), "The last day.", example="2026-11-21"),
    Parameter("by", text(), "Fields between commas: `day`, `person`, `key`, `session`, `model`.", example="day,model"),
    ORGANISATION,
)


def _packed(form: str, name: str, media: str) -> Operation:
    return Operation(
        "GET", f"/api/jobs/{{id}}/artifacts/{form}", ARTIFACTS, f"All of a job's files as {name}",
        {200: Said("The archive.", media=media, headers={"Content-Disposition": "Always `attachment`."})},
        refuses={503: "Or one cannot be reached where it is stored."},
    )  # fmt: skip


def _preflight(path: str) -> Operation:
    allowed = {"Access-Control-Allow-Methods": "The methods.", "Access-Control-Allow-Headers": "The headers."}
    return Operation(
        "OPTIONS", path, CALLS, "What a page of another origin may send", {204: Said("This.", headers=allowed)},
        "For the origins that are configured.", refuses={403: "Another origin."},
    )  # fmt: skip


RESUMED = Parameter("Last-Event-ID", text(), "Of a stream: it goes on after this number.", "header")

OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "POST", "/invoke", CALLS, "Run a prompt to its end",
        {200: Said(
            f"The job has ended, well or not; until then spaces keep the connection alive. {SSE}", kept.Invoked, ENDED,
            stream=ex.STREAM,
        )},
        "Whoever goes away leaves the job running, unless `cancel_on_disconnect`.",
        query=(KEY, RESUMED), body=kept.Invocation, example=WISH, refuses=REFUSES,
    ),
    Operation(
        "POST", "/trigger", CALLS, "Start a prompt",
        {202: Said("Started, or found.", invoke.Accepted, invoke.Accepted(
            job_id=ex.JOB_ID, session_id=ex.SESSION_ID, channel=f"/dialog/{ex.JOB_ID}",
        ))},
        "Answers as soon as the job is accepted; what happens in it comes on the `channel` of the event API, and by "
        "`GET /api/jobs/{id}/events`. The same `job_id` or key again finds the same job.",
        query=(KEY,), body=kept.Invocation, example=WISH, refuses=REFUSES,
    ),
    _preflight("/invoke"),
    _preflight("/trigger"),
    Operation(
        "GET", "/api/sessions/{id}/artifacts", ARTIFACTS, "What a session's jobs made or changed",
        {200: Said("A page, newest first.", Page[kept.JobArtifact], Page(items=[ARTIFACT], next=None))}, query=PAGED,
    ),
    Operation(
        "GET", "/api/jobs/{id}/artifacts", ARTIFACTS, "What a job made or changed",
        {200: Said("All of it.", Page[kept.JobArtifact], Page(items=[ARTIFACT], next=None))},
    ),
    _packed("zip", "zip", "application/zip"),
    _packed("tar", "tar.gz", "application/gzip"),
    Operation("GET", "/api/artifacts/{id}", ARTIFACTS, "An artifact", {200: Said("It.", kept.JobArtifact, ARTIFACT)}),
    Operation(
        "GET", "/api/artifacts/{id}/content", ARTIFACTS, "Its bytes", BYTES, query=CONDITIONS, refuses=NO_RANGE,
    ),
    Operation(
        "POST", "/api/artifacts/{id}/links", ARTIFACTS, "An address that is its credential for a while",
        {201: Said("Made.", kept.ArtifactLink, kept.ArtifactLink(
            url=f"https://pilothouse.example/api/artifacts/{ex.APPROVAL_ID}/signed?expires=1763716387&signature=…",
            expires_at=1_763_716_387,
        ))},
        body=kept.NewArtifactLink, example=kept.NewArtifactLink(expires_in_s=60),
    ),
    Operation(
        "GET", "/api/artifacts/{id}/signed", ARTIFACTS, "Its bytes, by such an address", BYTES,
        query=(
            Parameter("expires", text(), "As in the address."), Parameter("signature", text(), "As in the address."),
            *CONDITIONS,
        ),
        refuses={**NO_RANGE, 401: "The address has ended or is not ours.", 403: "Likewise.", 404: "It is gone.",
                 429: "Too many at one time."},
    ),
    Operation(
        "GET", "/api/usage", USAGE, "What was used, and what it cost",
        {200: Said("By the fields that are asked for.", kept.UsageReport, kept.UsageReport(
            first="2026-11-01", to="2026-11-21", by=["day"], organisation="default", whose="own", items=[ROW],
            total=Row(calls=12, input_tokens=48_211, output_tokens=2903, cost_usd=0.07), next=None,
        ))},
        "An admin sees the organisation's, everybody else what their own prompts have used.", query=SPAN,
    ),
    Operation(
        "GET", "/api/usage.csv", USAGE, "The same as CSV", {200: Said("The rows.", media="text/csv")}, query=SPAN,
    ),
    Operation(
        "GET", "/metrics", USAGE, "What the server counts", {200: Said("As Prometheus reads it.", media="text/plain")},
        "For keys with the scope `metrics` of the server's own organisation.",
    ),
)  # fmt: skip
