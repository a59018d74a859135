"""What is kept here goes to where artifacts are stored, and what nobody may have any more goes away.

Both are documents, so a restart forgets none:

    upload/<artifact>     a file that waits; owner: its session
    discard/<job>         the artifacts of a job that shall go; the document is their prefix

Each is tried until it is done, with pauses that grow from FIRST_S to LAST_S. A file goes from this machine when it is
known to be there and its record says so.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

from pilothouse.core import artifact
from pilothouse.core.errors import NotFound, PilothouseError
from pilothouse.core.ids import ArtifactId, JobId
from pilothouse.engine import records
from pilothouse.engine.gathering import LocalBlobs
from pilothouse.engine.kit import Kit, worth_noting
from pilothouse.engine.ports import About, Blob, Blobs, Delete, Op, Put, StoreFailed
from pilothouse.engine.records import ArtifactRecord

FIRST_S, LAST_S = 1.0, 300.0
PARALLEL = 4
PAGE = 200


def discard(job: JobId, prefix: str) -> Op:
    return Put("discard", job, prefix.encode())


def upload(record: ArtifactRecord) -> Op:
    return Put("upload", record.id, b"{}", record.session)


class Delivery:
    def __init__(self, kit: Kit, local: LocalBlobs, remote: Blobs | None) -> None:
        self._kit = kit
        self._local = local
        self._remote = remote
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._failed = 0
        self._behind = ""
        """The last upload that was tried, where none of its page got through: the next round begins behind it."""

    def start(self) -> None:
        self._wake.set()
        self._task = asyncio.create_task(self._run(), name="delivery")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def wake(self) -> None:
        self._wake.set()

    async def _run(self) -> None:
        pause = FIRST_S
        while True:
            await self._wake.wait()
            self._wake.clear()
            while not await self._round():
                await self._kit.clock.sleep(pause * random.uniform(0.75, 1.0))  # noqa: S311 - nobody gains by guessing
                pause = min(pause * 2, LAST_S)
            pause = FIRST_S

    async def _round(self) -> bool:
        """Everything that waits, once. False: something waits still. What cannot be removed holds up nothing that is
        to be stored: rights to do either differ."""
        done = [await self._part(self._discards), await self._part(self._uploads)]
        return all(done)

    async def _part(self, part: Callable[[], Awaitable[bool]]) -> bool:
        try:
            return await part()
        except (StoreFailed, PilothouseError) as error:
            self._note(error)
        except Exception as error:  # noqa: BLE001  a delivery that ended in silence would keep everything waiting
            self._note(error)
        return False

    def _note(self, error: Exception) -> None:
        self._failed += 1
        if worth_noting(self._failed, 3):
            why = error.message if isinstance(error, PilothouseError) else repr(error)
            self._kit.note("artifacts_wait", why=why[:300], count=self._failed)

    async def _discards(self) -> bool:
        after, whole = "", True
        while found := await self._kit.store.scan("discard", after=after, limit=PAGE):
            after = found[-1][0]
            for job, doc in found:
                try:
                    await self._discard(job, doc.decode())
                except (StoreFailed, PilothouseError) as error:
                    self._note(error)
                    whole = False
        return whole

    async def _discard(self, job: str, prefix: str) -> None:
        """Raises BadRequest, Unavailable, StoreFailed."""
        await self._local.drop(prefix)
        if self._remote is not None:
            await self._remote.drop(prefix)
        await self._kit.store.commit(Delete("discard", job))

    async def _uploads(self) -> bool:
        began, whole = self._behind, True
        while self._remote is not None:
            found = await self._kit.store.scan("upload", after=self._behind, limit=PARALLEL)
            if not found:
                break
            self._behind = found[-1][0]
            done = await asyncio.gather(*(self._upload(ArtifactId(key)) for key, _ in found), return_exceptions=True)
            errors = [one for one in done if isinstance(one, BaseException)]
            for error in errors:
                if not isinstance(error, PilothouseError | StoreFailed):
                    raise error
                self._note(error)
            whole = whole and not errors
            if len(errors) == len(found):  # nothing gets through: it is the store, or else the next round tells
                return False
        self._behind = ""
        return whole and began == ""

    async def _upload(self, key: ArtifactId) -> None:
        """Raises Unavailable, StoreFailed."""
        assert self._remote is not None
        record = await self._record(key)
        if record is None:
            return
        name = artifact.key(record.prefix, record.path)
        about = About(record.size, record.sha256, record.media_type)
        if await self._local.has(name, about):
            await self._remote.put(name, self._local.path(name), about)
        elif not await self._remote.has(name, about):
            self._kit.note("artifact_lost", artifact=key)  # somebody has removed it from the disk
            lost = records.copy(record, state="skipped", reason="lost")
            await self._kit.store.commit(records.put(lost), Delete("upload", key))
            return
        if await self._record(key) is None:  # its session was deleted meanwhile
            await self._kit.store.commit(discard(record.job, record.prefix))
            self.wake()
            return
        await self._kit.store.commit(records.put(records.copy(record, state="stored")), Delete("upload", key))
        self._failed = 0
        await self._local.release(name, record.sha256)

    async def _record(self, key: ArtifactId) -> ArtifactRecord | None:
        doc = await self._kit.store.get("artifact", key)
        return None if doc is None else records.load(doc, ArtifactRecord)


async def opened(local: LocalBlobs, remote: Blobs | None, key: str, start: int, end: int | None) -> Blob:
    """From here while it is here, else from there. Raises NotFound, Unavailable."""
    try:
        return await local.read(key, start, end)
    except NotFound:
        if remote is None:
            raise
    return await remote.read(key, start, end)
