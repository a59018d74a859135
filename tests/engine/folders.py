"""Workspaces that are plain folders, looked at by what a desk runs, and artifacts kept in a folder."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

from pilothouse.adapters.blobs.folder import Folder
from pilothouse.adapters.sandboxes.files import _Chunks
from pilothouse.adapters.sandboxes.treewalk import Walk
from pilothouse.core.errors import BadRequest, NotFound
from pilothouse.core.storing import ArtifactSettings, passed_by
from pilothouse.engine.artifacts import Artifacts
from pilothouse.engine.baselines import Baselines
from pilothouse.engine.kit import Kit
from pilothouse.engine.ports import Blobs, Changes, FileEntry, Held, Sealer, Since
from pilothouse.engine.signedlinks import SignedLinks


class FolderFiles:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.before_read: Callable[[str], None] = lambda path: None
        self.hold: Callable[[], object] | None = None
        """Awaited before marks are taken."""

    def _walk(self, by: Sequence[str]) -> Walk:
        return Walk(lambda path: os.open(self.root / os.fsdecode(path), os.O_RDONLY | os.O_DIRECTORY), by, 500_000)

    def moment(self) -> int:
        return time.clock_gettime_ns(5) - 20_000_000

    def now(self) -> int:
        return time.time_ns()

    async def passed(self, moment_ns: int) -> bool:
        while time.clock_gettime_ns(5) < moment_ns:
            await asyncio.sleep(0.001)
        return True

    async def mark(self, moment_ns: int, passed_by: Sequence[str], take: Callable[[bytes], None]) -> None:
        if self.hold is not None:
            await self.hold()  # type: ignore[misc]
        take(b"")
        for page in self._walk(passed_by).marks(moment_ns):
            take(page)

    async def changed(self, since: Since, passed_by: Sequence[str]) -> Changes:
        if not self.root.exists():
            raise NotFound("the session has no workspace")
        walk = self._walk(passed_by)
        found: list[tuple[str, int, float]] = []
        left: list[tuple[str, str]] = []
        rules: list[str] = []
        for page in walk.changed(since.moment_ns, since.marks):
            found += page.get("found", [])
            left += page.get("left", [])
            rules += page.get("rules", [])
        return Changes(found, left, rules, walk.over)

    async def read(self, path: str) -> tuple[FileEntry, Held]:
        self.before_read(path)
        try:
            fd = os.open(self.root / path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            raise NotFound from None
        except PermissionError:
            raise BadRequest("the file's permissions do not allow reading it") from None
        status = os.fstat(fd)
        return FileEntry(path, "file", status.st_size, status.st_mtime), _Chunks(fd, status.st_size)

    async def list(self, path: str) -> list[FileEntry]:
        return []

    async def walk(self, path: str) -> AsyncIterator[tuple[str, FileEntry]]:
        for entry in await self.list(path):
            yield entry.name, entry


async def keeping(
    home: Path, kit: Kit, sealer: Sealer, remote: Blobs | None = None, settings: ArtifactSettings | None = None
) -> Artifacts:
    settings = settings or ArtifactSettings()
    home.mkdir(exist_ok=True)
    local = await Folder.open(home / "artifacts")
    marks = Baselines(kit, home / "artifacts" / "marks", passed_by(settings.artifacts_ignore))
    return Artifacts(kit, local, marks, SignedLinks(kit.store, kit.clock, sealer), remote, settings)
