"""Traces: a job's spans when it is done, made of its log; a model call's when its record is taken; a request's when it
is answered. Where nothing is traced there is no such object, and nobody is asked.

Spans are best effort: what a server has made and not sent yet when it is killed is lost. What happened is in the log.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from typing import Protocol

import msgspec

from pilothouse.core import events as ev
from pilothouse.core import traceparent
from pilothouse.core.ids import JobId, SessionId
from pilothouse.core.spans import HEARD, JobSpans, ModelCall, Span, Value, of_call
from pilothouse.core.traceparent import Place
from pilothouse.engine import records
from pilothouse.engine.kit import Kit
from pilothouse.engine.ports import Row, UsageRecord
from pilothouse.engine.records import JobRecord

PAGE = 500
PENDING_MAX = 200
"""Jobs whose spans are being made: beyond, a job has none; a log that is being read costs more than it tells."""
_TYPE = len(b'{"type":"')
_COMPLETE = b'{"type":"complete"'


class Spans(Protocol):
    """Where spans go. Two: the SDK's exporter, and a list."""

    def samples(self, trace: str, parent: Place | None) -> bool: ...

    def send(self, spans: Sequence[Span]) -> None:
        """Never waits; what is too much is dropped."""
        ...


class _Ends(msgspec.Struct, rename="camel"):
    job_id: str = ""


class Traces:
    def __init__(self, kit: Kit, spans: Spans) -> None:
        self._kit = kit
        self._spans = spans
        self._making: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """What is being made is sent first."""
        await asyncio.gather(*self._making, return_exceptions=True)

    # --- requests ---

    def begins(self, headers: Sequence[str]) -> tuple[Place, Place | None]:
        """A request's place, and the caller's, by its `traceparent` headers."""
        parent = traceparent.parse(headers)
        trace = parent.trace if parent is not None else secrets.token_hex(16)
        return Place(trace, secrets.token_hex(8), self._spans.samples(trace, parent)), parent

    def request(
        self, place: Place, parent: Place | None, method: str, route: str, status: int, start: float, end: float
    ) -> None:
        if not place.sampled:
            return
        about: dict[str, Value] = {
            "http.request.method": method,
            "http.route": route,
            "http.response.status_code": status,
        }
        error = str(status) if status >= 500 else ""
        above = parent.span if parent is not None else ""
        self._spans.send(
            [Span(place, above, bool(above), f"{method} {route}", start, max(start, end), "server", about, error)]
        )

    # --- jobs ---

    def rows(self, session: SessionId, rows: Sequence[Row]) -> None:
        """For `Log.on_rows`."""
        for row in rows:
            if row.body.startswith(_COMPLETE) and len(self._making) < PENDING_MAX:
                job = msgspec.json.decode(row.body, type=_Ends).job_id
                task = asyncio.create_task(self._job(session, JobId(job), row.seq), name="spans")
                self._making.add(task)
                task.add_done_callback(self._made)

    def _made(self, task: asyncio.Task[None]) -> None:
        self._making.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._kit.note("spans_failed", error=repr(error)[:200])

    async def _job(self, session: SessionId, id: JobId, last: int) -> None:
        doc = await self._kit.store.get("job", id)
        if doc is None:
            return
        job = records.load(doc, JobRecord)
        parent = traceparent.parse([job.trace]) if job.trace else None
        if not self._samples(id, parent):
            return
        made = JobSpans(session, id, parent, True)
        after = max(job.first_seq - 1, 0)
        while after < last:
            page = await self._kit.log.page(session, after, PAGE)
            if not page.rows:
                break
            for row in page.rows:
                after = row.seq
                if row.seq <= last and row.body[_TYPE : row.body.find(b'"', _TYPE)] in HEARD:
                    event = ev.decode(row.body)
                    if event.job_id == id:
                        made.take(event)
        self._spans.send(made.spans)

    def _samples(self, job: str, parent: Place | None) -> bool:
        return self._spans.samples(parent.trace if parent is not None else traceparent.trace_id(job), parent)

    # --- model calls ---

    async def called(self, record: UsageRecord, job: JobRecord | None) -> None:
        """When its record is taken: once. A call that belongs to no job is in no trace."""
        if job is None or record.at is None:
            return
        parent = traceparent.parse([job.trace]) if job.trace else None
        if not self._samples(job.id, parent):
            return
        call = ModelCall(
            id=f"{record.proxy_id}:{record.n}", job=job.id, session=record.session, provider=await self._provider(),
            model=record.model, status=record.status, refused=record.refused, start=record.at,
            end=record.at + (record.ms or 0) / 1000, input_tokens=record.input_tokens,
            output_tokens=record.output_tokens, cache_read_tokens=record.cache_read_tokens,
            cache_write_tokens=record.cache_write_tokens,
        )  # fmt: skip
        self._spans.send([of_call(call, parent, True)])

    async def _provider(self) -> str:
        """By the conventions' names; the demo model is none of theirs."""
        known = (await self._kit.models.state()).provider
        return {"bedrock": "aws.bedrock"}.get(known, known)


class SpanList:
    """Spans in memory."""

    def __init__(self) -> None:
        self.spans: list[Span] = []

    def samples(self, trace: str, parent: Place | None) -> bool:
        return parent is None or parent.sampled

    def send(self, spans: Sequence[Span]) -> None:
        self.spans += spans
