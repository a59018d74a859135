"""Artifacts: what a job made or changed in its workspace, kept when it ends, whatever its end was.

`begin` when a job starts, `collect` at its end, before its `complete` is appended; what `collect` gives is appended
with `complete` in one transaction. Until then nothing says that there are artifacts, so an end that is cut short by a
restart is made anew, and overwrites what it had stored.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from pilothouse.core import artifact
from pilothouse.core import events as ev
from pilothouse.core.artifact import Makers
from pilothouse.core.errors import NotFound, PilothouseError, Unavailable
from pilothouse.core.ids import ArtifactId, JobId, SessionId, is_uuid
from pilothouse.core.places import USUAL, Place
from pilothouse.core.storing import ArtifactSettings, passed_by
from pilothouse.engine import delivery, gathering, records
from pilothouse.engine.baselines import Baselines
from pilothouse.engine.delivery import Delivery
from pilothouse.engine.gathering import Found, Gathering, LocalBlobs
from pilothouse.engine.kit import Kit
from pilothouse.engine.ports import Blob, Blobs, Changes, Op, StoreFailed, Workspace
from pilothouse.engine.records import ArtifactRecord, JobRecord
from pilothouse.engine.signedlinks import SignedLinks

PAGE = 1000
"""Records read at a time."""
SKIPPED_MAX = 100
"""Files that were not kept have a record each, up to this; beyond it the notice counts them."""
COLLECT_S = 120.0
"""A job's end waits no longer for its files; a gigabyte takes a tenth of it."""
AGAIN_S = (1.0, 4.0, 10.0)
"""After as long a workspace that could not be looked at is tried again: what looks at it may just be starting anew."""
ROWS_MAX = 20_000
"""Of a job's log, looked at for who made what."""


@dataclass
class Collected:
    """To be committed with the job's end."""

    events: list[ev.Event] = field(default_factory=list)
    ops: list[Op] = field(default_factory=list)


class _Row(msgspec.Struct, rename="camel"):
    """What of an event says who made what."""

    type: str
    at: str = ""
    job_id: str | None = None
    tool_id: str = ""
    kind: str = ""
    input: object = None
    locations: list[ev.Location] | None = None


_row = msgspec.json.Decoder(_Row).decode


class Artifacts:
    """`remote`: where artifacts are stored, if not on this machine."""

    def __init__(
        self,
        kit: Kit,
        local: LocalBlobs,
        baselines: Baselines,
        links: SignedLinks,
        remote: Blobs | None = None,
        settings: ArtifactSettings | None = None,
    ) -> None:
        self._kit = kit
        self._local = local
        self._remote = remote
        self._baselines = baselines
        self._settings = settings or ArtifactSettings()
        self._delivery = Delivery(kit, local, remote)
        self._collecting: dict[JobId, asyncio.Task[Collected]] = {}
        self._sweeping: asyncio.Task[None] | None = None
        self.links = links

    def start(self) -> None:
        self._delivery.start()
        self._sweeping = asyncio.create_task(self._sweep(), name="sweep")

    async def close(self) -> None:
        tasks = [*self._collecting.values(), *([self._sweeping] if self._sweeping else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._baselines.close()
        await self._delivery.close()
        await self._local.close()
        if self._remote is not None:
            await self._remote.close()

    # --- a job ---

    def now(self, session: SessionId) -> int:
        """Before a job starts, when the one before it has ended: what was written until now is not its own."""
        return self._kit.sandboxes.files(session).now()

    async def begin(self, session: SessionId, job: JobId, now: int) -> None:
        """Before the agent is told of the job."""
        if self._settings.artifacts:
            exact = await self._kit.sandboxes.files(session).passed(now)
            self._baselines.begin(session, job, now if exact else None)

    def begun(self, session: SessionId, job: JobId) -> None:
        """The agent began a job by itself, and may have written something."""
        if self._settings.artifacts:
            self._baselines.begin(session, job)

    async def ready(self, session: SessionId) -> None:
        """Before the agent is told that it may use a tool."""
        await self._baselines.ready(session)

    async def collect(
        self, session: SessionId, job: JobRecord, *, place: Place = USUAL, shown: Callable[[str], str] = str
    ) -> Collected:
        """Once for all who see the job's end, and to its end whoever of them leaves. `shown`: a path as it may be
        told."""
        task = self._collecting.get(job.id)
        if task is None:
            task = asyncio.create_task(self._collect(session, job, place, shown), name="collect")
            self._collecting[job.id] = task
        return await asyncio.shield(task)

    def ended(self, session: SessionId, job: JobId) -> None:
        """What was collected is in the log now."""
        self._collecting.pop(job, None)
        self._baselines.forget(session, job)
        self._delivery.wake()

    async def _collect(
        self, session: SessionId, job: JobRecord, place: Place, shown: Callable[[str], str]
    ) -> Collected:
        if not self._settings.artifacts or job.started_at is None:
            return Collected()
        prefix = artifact.prefix(job.created_at, job.id)
        gathered: Gathering | None = None
        over, trouble = False, ""
        try:
            async with asyncio.timeout(COLLECT_S):
                files = self._kit.sandboxes.files(session)
                await self._local.drop(prefix)  # of an end that was cut short
                changes = await self._changes(files, job)
                over = changes.over
                makers = await self._makers(session, job, place) if changes.found else Makers(place.workspace)
                gathered = Gathering(files, self._local, self._settings, prefix, makers, shown)
                await gathered.run(changes)
        except TimeoutError:
            trouble = "Collecting the job's files took too long."
            if gathered is not None:
                gathered.left("late")
        except PilothouseError as error:
            trouble = f"The job's files could not all be collected: {error.message}"
            if gathered is not None:
                gathered.left("failed")
        except Exception as error:  # noqa: BLE001  a job ends, whatever its files do
            trouble = "The server failed at collecting the job's files; its log says where."
            self._kit.note("collect_failed", session=session, job=job.id, error=repr(error)[:500])
        return self._said(session, job, prefix, gathered.found if gathered else [], over, trouble)

    async def _changes(self, files: Workspace, job: JobRecord) -> Changes:
        """Raises NotFound, Unavailable (each time)."""
        for pause in AGAIN_S:
            with contextlib.suppress(Unavailable):
                return await self._looked(files, job)
            await self._kit.clock.sleep(pause)
        return await self._looked(files, job)

    async def _looked(self, files: Workspace, job: JobRecord) -> Changes:
        with self._baselines.since(job) as since:
            async with self._baselines.ends:
                return await files.changed(since, passed_by(self._settings.artifacts_ignore))

    def _said(
        self, session: SessionId, job: JobRecord, prefix: str, found: list[Found], over: bool, trouble: str
    ) -> Collected:
        out = Collected()
        skipped = 0
        for one in sorted(found, key=lambda f: f.path):
            skipped += not one.kept
            if one.kept or skipped <= SKIPPED_MAX:
                self._add(out, self._record(session, job, prefix, one))
        told = (("artifacts_skipped", gathering.notice(found, over)), ("artifacts_failed", trouble))
        out.events += [ev.ErrorEvent(job_id=job.id, code=code, message=text) for code, text in told if text]
        return out

    def _record(self, session: SessionId, job: JobRecord, prefix: str, one: Found) -> ArtifactRecord:
        state: Literal["stored", "waiting", "skipped"] = "stored" if self._remote is None else "waiting"
        return ArtifactRecord(
            id=ArtifactId(records.new_id()),
            session=session,
            job=job.id,
            path=one.path,
            size=one.about.size,
            sha256=one.about.sha256,
            media_type=one.about.media_type,
            tool_id=one.tool_id,
            prefix=prefix,
            created=records.stamp(self._kit.clock.now()),
            state=state if one.kept else "skipped",
            reason=one.reason,
        )

    def _add(self, out: Collected, record: ArtifactRecord) -> None:
        out.ops.append(records.put(record))
        if record.state == "waiting":
            out.ops.append(delivery.upload(record))
        if record.state != "skipped":
            out.events.append(
                ev.Artifact(
                    job_id=record.job,
                    artifact_id=record.id,
                    path=record.path,
                    size=record.size,
                    sha256=record.sha256,
                    url=f"/api/artifacts/{record.id}/content",
                    tool_id=record.tool_id,
                )
            )

    async def _makers(self, session: SessionId, job: JobRecord, place: Place) -> Makers:
        """From the job's part of the log, as far as it is kept."""
        makers = Makers(place.workspace)
        after, rows = max(job.first_seq - 1, 0), 0
        while rows < ROWS_MAX and (page := await self._kit.log.page(session, after, 500)).rows:
            rows += len(page.rows)
            after = page.rows[-1].seq
            for row in page.rows:
                if b'"tool_' not in row.body:
                    continue
                await asyncio.sleep(0)  # a row may be large
                said = _row(row.body)
                if said.job_id == job.id and said.type == "tool_use":
                    places = [one.path for one in said.locations or []]
                    makers.began(said.tool_id, said.kind, said.input, places, records.seconds(said.at))
                elif said.job_id == job.id and said.type == "tool_result":
                    makers.ended(said.tool_id, records.seconds(said.at))
        return makers

    # --- what there is ---

    async def get(self, artifact_id: str) -> ArtifactRecord:
        """Raises NotFound."""
        doc = await self._kit.store.get("artifact", artifact_id) if is_uuid(artifact_id) else None
        if doc is None:
            raise NotFound
        return records.load(doc, ArtifactRecord)

    async def page(self, session: SessionId, after: str, limit: int) -> list[ArtifactRecord]:
        """Those with ids beyond `after`."""
        rows = await self._kit.store.scan("artifact", owner=session, after=after, limit=limit)
        return [records.load(doc, ArtifactRecord) for _, doc in rows]

    async def of_session(self, session: SessionId) -> list[ArtifactRecord]:
        """In the order of their making."""
        found: list[ArtifactRecord] = []
        after = ""
        while rows := await self._kit.store.scan("artifact", owner=session, after=after, limit=PAGE):
            after = rows[-1][0]
            found += [records.load(doc, ArtifactRecord) for _, doc in rows]
        return found

    async def of_job(self, job_id: JobId) -> list[ArtifactRecord]:
        """In the order of their paths; none for a job that nobody knows."""
        doc = await self._kit.store.get("job", job_id)
        if doc is None:
            return []
        session = records.load(doc, JobRecord).session_id
        found: list[ArtifactRecord] = []
        after = ""
        while page := await self.page(session, after, PAGE):  # the session may have many times as many
            after = page[-1].id
            found += [one for one in page if one.job == job_id]
        return sorted(found, key=lambda one: one.path)

    async def open(self, record: ArtifactRecord, start: int = 0, end: int | None = None) -> Blob:
        """Its bytes, from wherever it is. Raises NotFound, Unavailable."""
        if record.state == "skipped":
            raise NotFound("The file was not kept.")
        key = artifact.key(record.prefix, record.path)
        return await delivery.opened(self._local, self._remote, key, start, end)

    def place(self, record: ArtifactRecord) -> tuple[str | None, str | None]:
        """Where else it is: its `s3://` address and the page of the store's console. None: on this machine alone."""
        if self._remote is None or record.state == "skipped":
            return None, None
        return self._remote.place(artifact.key(record.prefix, record.path))

    # --- what goes ---

    async def gone(self, session: SessionId, open_jobs: Sequence[JobRecord]) -> list[Op]:
        """To be committed when the session is deleted: its artifacts go with it, as soon as they can, and what jobs
        that have not ended were about to keep."""
        prefixes = set(await self._prefixes(session))
        for job in open_jobs:
            task = self._collecting.pop(job.id, None)
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            self._baselines.forget(session, job.id)
            if job.started_at is not None:
                prefixes.add((job.id, artifact.prefix(job.created_at, job.id)))
        return [delivery.discard(job, prefix) for job, prefix in sorted(prefixes)]

    async def _prefixes(self, session: SessionId) -> list[tuple[JobId, str]]:
        return sorted({(one.job, one.prefix) for one in await self.of_session(session)})

    def dropped(self) -> None:
        """The session is deleted."""
        self._delivery.wake()

    async def _sweep(self) -> None:
        """What a server that was killed left behind: files of ends that were cut short and jobs that are no more."""
        try:
            for job in self._baselines.left():
                doc = await self._kit.store.get("job", job)
                if doc is None or records.load(doc, JobRecord).state == "done":
                    self._baselines.forget(SessionId(""), job)
            for name in await self._local.jobs():
                job_id = name.partition("-")[2]
                if await self._kit.store.get("job", job_id) is None:
                    await self._local.drop(f"outputs/{name}/")
        except (PilothouseError, StoreFailed, OSError) as error:
            self._kit.note("sweep_failed", why=repr(error)[:200])
