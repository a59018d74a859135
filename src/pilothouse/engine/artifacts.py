"""Artifacts: what a job made or changed in its workspace, kept when it ends, whatever its end was."""

from __future__ import annotations

from pilothouse.core.ids import JobId, SessionId
from pilothouse.engine import records
from pilothouse.engine.ports import EventStore
from pilothouse.engine.records import ArtifactRecord, JobRecord

PAGE = 1000
"""Records read at a time."""


class Artifacts:
    """`collect` is called at the end of every job, before its `complete` is appended."""

    def __init__(self, store: EventStore) -> None:
        self._store = store

    async def collect(self, session: SessionId, job: JobRecord) -> list[ArtifactRecord]:
        """What of the job's files is to be kept, with nothing said about it yet."""
        return []

    async def of_session(self, session: SessionId) -> list[ArtifactRecord]:
        """In the order of their making."""
        found: list[ArtifactRecord] = []
        after = ""
        while rows := await self._store.scan("artifact", owner=session, after=after, limit=PAGE):
            after = rows[-1][0]
            found += [records.load(doc, ArtifactRecord) for _, doc in rows]
        return found

    async def of_job(self, job_id: JobId) -> list[ArtifactRecord]:
        """In the order of their making; none for a job that nobody knows."""
        doc = await self._store.get("job", job_id)
        if doc is None:
            return []
        session = records.load(doc, JobRecord).session_id
        return [one for one in await self.of_session(session) if one.job == job_id]

    def place(self, record: ArtifactRecord) -> tuple[str | None, str | None]:
        """Where else it is: its `s3://` address and the page of the store's console. None: on this machine alone."""
        return None, None
