"""The HTTP API's handlers for jobs, their events, and files. See `protocol/http.md`."""

from __future__ import annotations

import contextlib
import urllib.parse
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractContextManager

import msgspec
from starlette.responses import Response

from pilothouse.core.api import jobs as api
from pilothouse.core.attach import pictures
from pilothouse.core.errors import BadRequest, Conflict, Unavailable
from pilothouse.core.ids import JobId, SessionId
from pilothouse.engine import records
from pilothouse.engine.audit import Entry
from pilothouse.engine.log import Gap
from pilothouse.engine.ports import Content, FileEntry, Row
from pilothouse.engine.records import JobRecord
from pilothouse.engine.sessions import Session
from pilothouse.web import views, wire
from pilothouse.web.call import Call, streamed
from pilothouse.web.streams import alive, opening
from pilothouse.web.zipped import zipped

EVENTS_MAX = 1000
PATH_MAX = 4096
RESEND_MAX = 200
"""Characters of a caller's own word for a prompt."""
MOMENT_MAX = 253_402_300_799.0
"""The end of the year 9999."""


class _Head(msgspec.Struct, rename="camel"):
    type: str
    job_id: str | None = None


_head = msgspec.json.Decoder(_Head)


# --- jobs ---


async def make_job(call: Call) -> Response:
    session = await call.session()
    given = await wire.body(call.request, api.NewJob)
    resend = _resend(call, given)
    attached = pictures(given.attachments)
    sessions = call.platform.sessions
    job = sessions.job(
        session,
        given.prompt,
        call.principal.label,
        account=call.principal.account,
        permission_mode=given.permission_mode,
        allowed_tools=given.allowed_tools,
        max_cost_usd=given.max_cost_usd,
        max_tokens=given.max_tokens,
        model=given.model,
        timeout_s=given.timeout_s,
        origin=call.origin,
    )
    if given.steer:
        done = await session.jobs.steer(given.prompt, call.principal.label, resend, call.principal.account)
    else:
        done = await session.jobs.submit(job, client_message_id=resend, attachments=attached)
    return wire.Reply(views.job(done), 202)


async def same_job(call: Call) -> Response:
    """That of a prompt which was taken before, as it is now."""
    session = await call.session()
    job = await session.jobs.said(_resend(call, await wire.body(call.request, api.NewJob)) or "")
    return wire.Reply(views.job(job), 202)


def _resend(call: Call, given: api.NewJob) -> str | None:
    """The caller's own word for the prompt. An `Idempotency-Key` is the caller's alone, and for a day: here it is what
    it stands for."""
    if given.client_message_id is not None and not 0 < len(given.client_message_id) <= RESEND_MAX:
        raise BadRequest(f"clientMessageId: 1 to {RESEND_MAX} characters")
    return given.client_message_id or call.word


async def list_jobs(call: Call) -> Response:
    session = await call.session()
    asked = wire.limit(call.request)
    found = await call.platform.kit.store.scan(
        "job", owner=session.live.record.id, after=wire.cursor(call.request), limit=asked, newest=True
    )
    jobs = [session.jobs.known.get(JobId(key)) or records.load(doc, JobRecord) for key, doc in found]
    return wire.page([views.job(j) for j in jobs], [j.id for j in jobs], asked)


async def get_job(call: Call) -> Response:
    _, job = await call.job()
    return wire.Reply(views.job(job))


async def interrupt_job(call: Call) -> Response:
    session, job = await call.job()
    if job.state == "done":
        raise Conflict("The job is done already.")
    await session.jobs.interrupt(call.principal.label, job.id)
    return Response(status_code=202)


# --- events ---


async def session_events(call: Call) -> Response:
    session = await call.session()
    sid = session.live.record.id
    after = wire.number(call.request, "after", 0, 0, 2**53)
    log = call.platform.kit.log
    last = _last(call)
    if last is not None:
        after = last
    head = await session.live.head_for(after)
    epoch = call.request.query_params.get("epoch")
    foreign = (epoch is not None and epoch != log.epoch) or after > head
    if foreign:
        after = 0
    if wants_stream(call):
        return _stream(call, session, sse(log.follow_batches(sid, after), None, foreign))
    page = await log.page(sid, after, wire.number(call.request, "limit", 500, 1, EVENTS_MAX))
    gap = foreign or after + 1 < page.oldest
    return _events(log.epoch, page.oldest, page.head, gap, [r.body for r in page.rows])


def _last(call: Call) -> int | None:
    """The number of the event that a stream's reader had last."""
    last = call.request.headers.get("last-event-id", "") if wants_stream(call) else ""
    return int(last) if last.isascii() and last.isdigit() and len(last) < 17 else None


async def job_events(call: Call) -> Response:
    session, job = await call.job()
    sid = session.live.record.id
    after = max(wire.number(call.request, "after", 0, 0, 2**53), job.first_seq - 1)
    log = call.platform.kit.log
    if wants_stream(call):
        last = _last(call)
        if last is not None:
            after = max(last if last <= await session.live.head_for(last) else 0, job.first_seq - 1)
        if after > await session.live.head_for(after):
            raise BadRequest("after: beyond the log's head")
        done = job.last_seq if job.state == "done" else None
        return _stream(call, session, sse(log.follow_batches(sid, after), job.id, False, after, done))
    asked = wire.number(call.request, "limit", 500, 1, EVENTS_MAX)
    bodies: list[bytes] = []
    oldest = head = 0
    start = after
    while len(bodies) < asked:
        page = await log.page(sid, after, 500)
        oldest, head = page.oldest, page.head
        for row in page.rows:
            after = row.seq
            if _head.decode(row.body).job_id == job.id and len(bodies) < asked:
                bodies.append(row.body)
        if not page.rows or (job.last_seq is not None and after >= job.last_seq):
            break
    return _events(log.epoch, oldest, head, start + 1 < oldest, bodies)


def _events(epoch: str, oldest: int, head: int, gap: bool, bodies: list[bytes]) -> Response:
    """The rows as they are: an event is encoded once in its life."""
    start = msgspec.json.encode({"epoch": epoch, "oldest": oldest, "head": head, "gap": gap})
    content = start[:-1] + b',"events":[' + b",".join(bodies) + b"]}"
    return Response(content, media_type="application/json", headers={"cache-control": "no-store"})


def wants_stream(call: Call) -> bool:
    return "text/event-stream" in (call.request.headers.get("accept") or "")


def _stream(call: Call, session: Session, content: AsyncGenerator[bytes, None]) -> Response:
    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    return streamed(call, session, alive(content), "text/event-stream", headers, endless=True)


async def sse(
    batches: AsyncGenerator[list[Row] | Gap, None],
    job: str | None,
    gap: bool = False,
    after: int = 0,
    last: int | None = None,
) -> AsyncGenerator[bytes, None]:
    """`last`: where the job ended, if it has: nothing comes after it, whether its `complete` is still kept or not."""
    yield opening()
    if last is not None and after >= last:
        return
    if gap:
        yield b'event: gap\ndata: {"from":1,"to":0}\n\n'
    async for batch in batches:
        if isinstance(batch, Gap):
            yield b'event: gap\ndata: {"from":%d,"to":%d}\n\n' % (batch.start, batch.end)
            if last is not None and batch.end >= last:
                return
            continue
        out: list[bytes] = []
        done = False
        for row in batch:
            if job is not None:
                head = _head.decode(row.body)
                if head.job_id != job:
                    continue
                done = head.type == "complete"
            out.append(b"id: %d\ndata: %b\n\n" % (row.seq, row.body))
            if done:
                break
        if out:
            yield b"".join(out)
        if done or (last is not None and batch[-1].seq >= last):
            return


# --- files ---


def _path(call: Call) -> str:
    path = call.request.query_params.get("path", "")
    if len(path.encode("utf-8", "surrogatepass")) > PATH_MAX or "\x00" in path:
        raise BadRequest(f"path: at most {PATH_MAX} bytes, no NUL")
    return path


async def list_files(call: Call) -> Response:
    session = await call.session()
    path = _path(call)
    files = call.platform.kit.sandboxes.files(SessionId(session.live.record.id))
    entries = await files.list(path)
    entries.sort(key=lambda e: (e.kind != "directory", e.name))
    shown = [api.FileEntry(name=e.name, kind=e.kind, size=e.size, mtime=records.stamp(_moment(e))) for e in entries]
    return wire.Reply(api.Listing(path=path, entries=shown))


def _moment(entry: FileEntry) -> float:
    """An agent may give its files any time, also one that no calendar has."""
    return min(max(entry.mtime, 0.0), MOMENT_MAX) if entry.mtime == entry.mtime else 0.0


def _attachment(name: str, size: int | None = None) -> dict[str, str]:
    headers = {
        "content-disposition": f"attachment; filename*=UTF-8''{urllib.parse.quote(name, safe='', errors='replace')}",
        "x-content-type-options": "nosniff",
        "content-security-policy": "sandbox; default-src 'none'",
        "cache-control": "no-store",
    }
    if size is not None:
        headers["content-length"] = str(size)
    return headers


async def get_file(call: Call) -> Response:
    session = await call.session()
    path = _path(call)
    if not path:
        raise BadRequest("path: it is missing; which file?")
    room = call.room()
    entry, chunks = await call.platform.kit.sandboxes.files(session.live.record.id).read(path)
    await _taken(call, session.live.record.id, path)
    # No content-length: an agent may be writing the file while it is read.
    return _download(call, session, _passed_on(chunks), "application/octet-stream", entry.name, room, chunks.close)


async def _taken(call: Call, sid: SessionId, path: str) -> None:
    """For the audit. Reading goes on when nothing can be written."""
    entry = Entry("files.download", f"session:{sid}", details={"path": path})
    with contextlib.suppress(Unavailable):
        await call.platform.kit.audit.commit(call.who, [entry])


async def _passed_on(content: Content) -> AsyncGenerator[bytes, None]:
    async for chunk in content:
        yield chunk


def _download(
    call: Call,
    session: Session,
    content: AsyncGenerator[bytes, None],
    media_type: str,
    name: str,
    room: AbstractContextManager[None],
    let_go: Callable[[], None] | None = None,
) -> Response:
    return streamed(call, session, content, media_type, _attachment(name), let_go=let_go, room=room)


async def get_zip(call: Call) -> Response:
    session = await call.session()
    path, room = _path(call), call.room()
    files = call.platform.kit.sandboxes.files(session.live.record.id)
    await files.list(path)  # the folder is there, or the answer is an error and not a broken zip
    name = path.rstrip("/").rpartition("/")[2] or f"workspace-{session.live.record.id[:8]}"
    await _taken(call, session.live.record.id, path)
    return _download(call, session, zipped(files, path), "application/zip", f"{name}.zip", room)
