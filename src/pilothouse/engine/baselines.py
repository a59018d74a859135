"""How workspaces were when their jobs began: the marks of their files, on the disk, so that a restart loses none.

    <job>        16 bytes: the moment (ns, big-endian) and zeros; then the marks, 16 bytes each
    <job>.part   the same while the marks are being taken

Marks are taken beside the start of the job. No tool call is answered before they are complete (`ready`), or GATE_S have
passed: then, or where they cannot be taken, the moment decides. Whatever a file system has stamped since then is taken
as changed, so a file that was changed while marks were taken is found too, whoever changed it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from pilothouse.core.errors import PilothouseError
from pilothouse.core.ids import JobId, SessionId, is_uuid
from pilothouse.engine import records
from pilothouse.engine.kit import Kit
from pilothouse.engine.ports import Since, Workspace
from pilothouse.engine.records import JobRecord

GATE_S = 10.0
"""A hundred thousand files take a second; beyond this a person waits for nothing."""
MARGIN_S = 2.0
"""Before a job's start, where nothing else is known: the engine's clock and a file system's differ."""
HEAD = 16
PARALLEL = 8
"""Walks at one time at starts of jobs, and as many at ends: each has a process of its own."""


class Baselines:
    def __init__(self, kit: Kit, folder: Path, passed_by: tuple[str, ...]) -> None:
        self._kit = kit
        self._folder = folder
        self._passed_by = passed_by
        self._taking: dict[JobId, asyncio.Task[None]] = {}
        self._of: dict[SessionId, JobId] = {}
        self._starts = asyncio.Semaphore(PARALLEL)
        self.ends = asyncio.Semaphore(PARALLEL)
        """Of their own: a burst of starts must not use up the time that ends have."""

    def begin(self, session: SessionId, job: JobId, since: int | None = None) -> None:
        """`since`: whatever was written before it is stamped earlier, and what is written from now on is not. None:
        nobody knows that, and what was written just before counts as the job's."""
        files = self._kit.sandboxes.files(session)
        moment = files.moment() if since is None else since
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            part = self._path(job, ".part")
            part.unlink(missing_ok=True)
            fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                os.write(fd, moment.to_bytes(8, "big").ljust(HEAD, b"\0"))
            except OSError:
                os.close(fd)
                raise
        except OSError as error:
            self._kit.note("marks_failed", session=session, job=job, error=str(error.strerror))
            return
        task = asyncio.create_task(self._take(session, job, files, moment, fd), name="marks")
        self._taking[job] = task
        self._of[session] = job
        task.add_done_callback(lambda _: self._taking.pop(job, None))

    async def _take(self, session: SessionId, job: JobId, files: Workspace, moment: int, fd: int) -> None:
        def take(piece: bytes) -> None:
            if piece:
                os.write(fd, piece)
            else:
                os.ftruncate(fd, HEAD)
                os.lseek(fd, HEAD, os.SEEK_SET)

        try:
            async with self._starts:
                await files.mark(moment, self._passed_by, take)
            self._path(job, ".part").rename(self._path(job))
        except PilothouseError as error:
            self._kit.note("marks_failed", session=session, job=job, error=error.message[:200])
        except OSError as error:
            self._kit.note("marks_failed", session=session, job=job, error=str(error.strerror))
        finally:
            os.close(fd)

    async def ready(self, session: SessionId) -> None:
        """Until the marks of the session's newest job are complete, or it has taken too long."""
        job = self._of.get(session)
        task = self._taking.get(job) if job is not None else None
        if task is not None:
            await asyncio.wait([task], timeout=GATE_S)

    @contextlib.contextmanager
    def since(self, job: JobRecord) -> Iterator[Since]:
        """What the job's files are compared with."""
        began = int((records.seconds(job.started_at or job.created_at) - MARGIN_S) * 1e9)
        for suffix in ("", ".part"):
            try:
                fd = os.open(self._path(job.id, suffix), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            except OSError:
                continue
            try:
                moment = int.from_bytes(os.pread(fd, 8, 0), "big") or began
                yield Since(moment, None if suffix else fd)
                return
            finally:
                os.close(fd)
        yield Since(began)

    def forget(self, session: SessionId, job: JobId) -> None:
        """Its files have been collected, or nobody wants them."""
        task = self._taking.pop(job, None)
        if task is not None:
            task.cancel()
        if self._of.get(session) == job:
            del self._of[session]
        for suffix in ("", ".part"):
            self._path(job, suffix).unlink(missing_ok=True)

    def left(self) -> list[JobId]:
        """Jobs that there are marks of, for a server that has just started."""
        try:
            names = {path.name.removesuffix(".part") for path in self._folder.iterdir()}
        except FileNotFoundError:
            return []
        return [JobId(name) for name in names if is_uuid(name)]

    async def close(self) -> None:
        for task in list(self._taking.values()):
            task.cancel()

    def _path(self, job: JobId, suffix: str = "") -> Path:
        assert is_uuid(job), "a job's id is ours"
        return self._folder / f"{job}{suffix}"
