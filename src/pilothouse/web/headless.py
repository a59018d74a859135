"""`POST /invoke` and `POST /trigger` (`core.invoke`): a job for a program that waits for its end, or does not.

What can be refused is refused before anything is made. From then on the answer is 200: a job that fails has failed, and
says so in the document. So its head is sent at once, and spaces, which may stand before a JSON document, keep the
connection alive as comments do a stream of events. Who goes away leaves the job running, unless it asked otherwise.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from starlette.responses import Response

from pilothouse.core import dialog, invoke
from pilothouse.core import events as ev
from pilothouse.core.errors import PilothouseError
from pilothouse.engine.artifacts import Artifacts
from pilothouse.engine.calls import Calls, Started
from pilothouse.engine.log import Gap
from pilothouse.engine.ports import Row
from pilothouse.engine.records import ArtifactRecord, JobRecord
from pilothouse.web import admit, repeats, wire, work
from pilothouse.web.call import Call, streamed
from pilothouse.web.streams import alive

KEYS = ("idempotency-key", "amz-sdk-invocation-id")
"""Headers that name a request however often it is sent; the first that is there counts. The second is what AWS's SDKs
send, the same with each try."""
SPACE = b" "


async def trigger(call: Call) -> Response:
    started = await _start(call)
    name = started.job.name or started.job.id
    said = invoke.Accepted(job_id=name, session_id=started.job.session_id, channel=f"/dialog/{name}")
    return admit.told(wire.Reply(said, 202), started.state)


async def invoked(call: Call) -> Response:
    room = contextlib.ExitStack()
    room.enter_context(call.room())  # before the job: one who may not wait for it does not begin it
    try:
        wish = await _wish(call)
        started = await _start(call, wish)
        room.enter_context(started.session.jobs.awaiting(started.job))
        return _long(call, started, room, cancel=bool(wish.cancel_on_disconnect))
    except BaseException:
        room.close()
        raise


def _long(call: Call, started: Started, room: contextlib.ExitStack, *, cancel: bool) -> Response:
    calls, job = call.platform.calls, started.job
    assert calls is not None

    def let_go() -> None:
        room.close()
        if cancel and answer.over and job.state != "done":
            started.session.live.background(calls.left(started, call.principal.label))

    if work.wants_stream(call):
        media, content = "text/event-stream", alive(_events(call, started))
    else:
        media, content = "application/json", alive(_document(call, calls, started), SPACE)
    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    answer = streamed(
        call, started.session, content, media, headers,
        endless=media == "text/event-stream", let_go=let_go, room=contextlib.nullcontext(),
    )  # fmt: skip
    admit.told(answer, started.state)
    return answer


async def _wish(call: Call) -> invoke.Wish:
    return invoke.wish(await wire.json(call.request), call.platform.kit.limits.prompt_max)


async def _start(call: Call, wish: invoke.Wish | None = None) -> Started:
    calls = call.platform.calls
    assert calls is not None
    return await calls.start(wish or await _wish(call), call.who, repeats.key(call.request, *KEYS), call.origin)


async def _document(call: Call, calls: Calls, started: Started) -> AsyncGenerator[bytes, None]:
    job = await calls.ended(started)
    yield invoke.answer(
        success=job.outcome == "succeeded",
        result=await calls.result(job),
        session_id=job.session_id,
        ended_at=job.ended_at or started.session.live.now(),
        model=await _model(call, started),
        duration_ms=job.duration_ms or 0,
        num_turns=job.num_turns or 0,
        cost_usd=job.total_cost,
        job_id=job.name or job.id,
        files=await _files(call, job),
    )


async def _model(call: Call, started: Started) -> str:
    """That the job was given, or would have been."""
    job = started.job
    wanted = job.model or started.session.live.record.model
    if job.started_at is None or not wanted:
        with contextlib.suppress(PilothouseError):  # the proxy is away: the head was sent, the answer must be whole
            state = await call.platform.kit.models.state()
            return state.model if state.demo or not wanted else wanted
    return wanted


async def _files(call: Call, job: JobRecord) -> list[invoke.File]:
    """What the job made or changed, and is kept. Raises StoreFailed."""
    artifacts = call.platform.artifacts
    if artifacts is None:
        return []
    return [_file(call, artifacts, one) for one in await artifacts.of_job(job.id) if one.state != "skipped"]


def _file(call: Call, artifacts: Artifacts, one: ArtifactRecord) -> invoke.File:
    s3_url, console_url = artifacts.place(one)
    return invoke.File(
        file_name=one.path,
        s3_url=s3_url,
        url=f"{call.url}/api/artifacts/{one.id}/content",
        console_url=console_url,
        size=one.size,
        sha256=one.sha256,
    )


async def _events(call: Call, started: Started) -> AsyncGenerator[bytes, None]:
    session, job = started.session, started.job
    after = job.first_seq - 1
    last = call.request.headers.get("last-event-id", "")
    if last.isascii() and last.isdigit() and len(last) < 17 and int(last) <= await session.live.head_for(int(last)):
        after = max(after, int(last))  # one beyond the head is of another log: from the job's beginning then
    batches = call.platform.kit.log.follow_batches(session.live.record.id, after)
    done = job.last_seq if job.state == "done" else None
    name = job.name or job.id
    read = _Read(after)
    async with contextlib.aclosing(work.sse(_named(batches, job, read), name, after=after, last=done)) as chunks:
        async for chunk in chunks:
            yield chunk
    if session.live.removed and (job.last_seq is None or read.seq < job.last_seq):
        yield await _unsaid(call, started, read.seq + 1)


async def _unsaid(call: Call, started: Started, seq: int) -> bytes:
    """The last `complete` of a job whose log is deleted: who does not hear it comes back and begins the job anew."""
    calls = call.platform.calls
    assert calls is not None
    job = await calls.ended(started)
    assert job.outcome is not None
    complete = ev.Complete(
        session_id=job.session_id,
        job_id=job.name or job.id,
        at=job.ended_at or started.session.live.now(),
        outcome=job.outcome,
        result=job.result or "",
        reason=job.reason,
        total_cost=job.total_cost,
        duration_ms=job.duration_ms or 0,
        num_turns=job.num_turns or 0,
    )
    return b"id: %d\ndata: %b\n\n" % (seq, ev.seal(ev.encode(complete), seq))


@dataclass
class _Read:
    """How far the log was read."""

    seq: int


async def _named(
    batches: AsyncGenerator[list[Row] | Gap, None], job: JobRecord, read: _Read
) -> AsyncGenerator[list[Row] | Gap, None]:
    """The log, in which the job has its caller's name for it."""
    async with contextlib.aclosing(batches):
        async for batch in batches:
            read.seq = batch.end if isinstance(batch, Gap) else batch[-1].seq
            if job.name and not isinstance(batch, Gap):
                yield [Row(row.seq, dialog.renamed(row.body, job.id, job.name), row.first) for row in batch]
            else:
                yield batch
