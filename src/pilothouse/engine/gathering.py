"""A job's files, brought from its workspace into the store of this machine: what has changed, but for what is left out.

Everything that comes from the workspace is hostile: names, sizes, rules, files that change or vanish meanwhile. What is
not kept is said by name, with one of the words of `REASONS`.
"""

from __future__ import annotations

import asyncio
import contextlib
import mimetypes
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from pilothouse.core import artifact
from pilothouse.core.artifact import Makers
from pilothouse.core.errors import BadRequest, NotFound, PilothouseError, TooLarge
from pilothouse.core.ignore import SIZE_MAX, Ignore, Rule, parse
from pilothouse.core.storing import ArtifactSettings
from pilothouse.engine.ports import About, Blobs, Changes, Workspace

REASONS = {
    "too_large": "larger than one file may be",
    "job_full": "the job's files are larger than they may be together",
    "too_many": "the job has more files than are kept",
    "name": "its name is not UTF-8, or is another's",
    "deep": "it lies too deep",
    "unreadable": "its permissions do not allow reading it",
    "gone": "it was gone before it could be read",
    "changing": "it changed each time it was read",
    "no_space": "there was no room to keep it",
    "late": "collecting took too long",
    "failed": "it could not be read",
}
CHANGING = "changing"
TRIES = 2
"""For a file that changes while it is read; then the last reading counts, and says so."""
PARALLEL = 4
"""Files of one job that are read at one time."""
NAMED = 3
"""Files that a notice names of each kind."""
RULES_ALL = 3000
"""Rules of all `.gitignore` files of a workspace together; those found first count."""
SLICE_S = 0.05
"""Names are held against the rules beside the loop, for as long at a time: whoever gives up waits no longer."""
_TYPES = mimetypes.MimeTypes()
_MORE_TYPES = {".md": "text/markdown", ".py": "text/x-python", ".ts": "text/plain", ".toml": "text/plain"}


_Seen = tuple[str, int, float]


class _JobFull(TooLarge):
    """The job's files are larger than they may be together."""


class Stage(Protocol):
    async def write(self, data: bytes) -> None: ...
    async def done(self) -> About: ...
    async def keep(self, key: str) -> None: ...


class LocalBlobs(Blobs, Protocol):
    """The store of this machine, where everything is first."""

    def stage(self) -> contextlib.AbstractAsyncContextManager[Stage]: ...
    async def settle(self) -> None: ...
    async def release(self, key: str, sha256: str) -> None: ...
    async def jobs(self) -> list[str]: ...
    def path(self, key: str) -> Path: ...


@dataclass(frozen=True, slots=True)
class Found:
    """A file as it was kept, or why it was not."""

    path: str
    about: About
    tool_id: str | None = None
    reason: str | None = None
    kept: bool = True


@dataclass
class Gathering:
    """One job's. `found` grows as it goes on, so that what was done by a deadline is there."""

    files: Workspace
    local: LocalBlobs
    settings: ArtifactSettings
    prefix: str
    makers: Makers
    shown: Callable[[str], str] = str
    """A path as it may be told."""
    found: list[Found] = field(default_factory=list)
    waiting: list[tuple[str, int, float]] = field(default_factory=list)
    """What was to be kept and has not been read."""
    room: int = 0
    """Bytes that the job's files may still grow by."""

    async def run(self, changes: Changes) -> None:
        """Raises Unavailable when the workspace cannot be read or the store not written any more."""
        for path, why in changes.left:
            self._skip(path, 0, why)
        ignore = await self._rules(changes.rules) if changes.found else Ignore({})
        self.waiting = self._planned(sorted(await self._chosen(changes.found, ignore)))
        await self._read_all()
        await self.local.settle()

    def left(self, why: str) -> None:
        """What has not been read is not read any more."""
        for path, size, _ in self.waiting:
            self._skip(path, size, why)

    # --- which ---

    async def _rules(self, places: Sequence[str]) -> Ignore:
        over = parse("\n".join(self.settings.artifacts_ignore))
        files: dict[str, list[Rule]] = {}
        if self.settings.artifacts_gitignore:
            left = RULES_ALL
            for path in places:
                if not left:
                    break
                rules = (await asyncio.to_thread(parse, await self._text(path)))[:left]
                if rules:
                    files[path.rpartition("/")[0]] = rules
                    left -= len(rules)
        return Ignore(files, over)

    async def _text(self, path: str) -> str:
        """As much of it as counts; rules that cannot be read leave nothing out."""
        try:
            _, content = await self.files.read(path)
        except (NotFound, BadRequest, TooLarge):
            return ""
        data = b""
        with contextlib.closing(content), contextlib.suppress(BadRequest):
            async for chunk in content:
                data += chunk
                if len(data) >= SIZE_MAX:
                    break
        return data[:SIZE_MAX].decode("utf-8", "replace")

    async def _chosen(self, found: Sequence[_Seen], ignore: Ignore) -> list[_Seen]:
        todo = iter(found)
        chosen: list[_Seen] = []
        while await asyncio.to_thread(_sift, todo, ignore, chosen):
            pass
        return chosen

    def _planned(self, chosen: Sequence[tuple[str, int, float]]) -> list[tuple[str, int, float]]:
        """By what the sizes are now; how files have grown by when they are read comes out of what is left."""
        planned: list[tuple[str, int, float]] = []
        told: set[str] = set()
        left = self.settings.artifacts_job_max
        for path, size, mtime in chosen:
            if self.shown(path) in told:
                self._skip(path, size, "name")
            elif size > self.settings.artifacts_file_max:
                self._skip(path, size, "too_large")
            elif len(planned) >= self.settings.artifacts_files_max:
                self._skip(path, size, "too_many")
            elif size > left:
                self._skip(path, size, "job_full")
            else:
                left -= size
                planned.append((path, size, mtime))
            told.add(self.shown(path))
        self.room = left
        return planned

    def _skip(self, path: str, size: int, why: str) -> None:
        self.found.append(Found(self.shown(path), About(size, "", ""), reason=why, kept=False))

    # --- reading ---

    async def _read_all(self) -> None:
        todo = iter(list(self.waiting))

        async def work() -> None:
            for one in todo:
                await self._one(*one)
                self.waiting.remove(one)

        tasks = [asyncio.create_task(work(), name="gather") for _ in range(PARALLEL)]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _one(self, path: str, size: int, mtime: float) -> None:
        try:
            about, steady = await self._kept(path, size)
        except NotFound:
            self._skip(path, size, "gone")
        except _JobFull:
            self._skip(path, size, "job_full")
        except TooLarge:
            self._skip(path, size, "too_large")
        except BadRequest as error:
            unreadable = "unreadable" if "permissions" in error.message else "failed"
            self._skip(path, size, "name" if error.code == "name" else unreadable)
        except PilothouseError as error:
            if error.code != "no_space":
                raise
            self._skip(path, size, "no_space")
        else:
            reason = None if steady else CHANGING
            self.found.append(Found(self.shown(path), about, self.makers.of(path, mtime), reason))

    async def _kept(self, path: str, counted: int) -> tuple[About, bool]:
        """What was kept, and whether it held still. Raises NotFound, TooLarge, BadRequest, Unavailable."""
        for last in (False, True):
            entry, content = await self.files.read(path)
            with contextlib.closing(content):
                if entry.size > self.settings.artifacts_file_max:
                    raise TooLarge
                if entry.size - counted > self.room:
                    raise _JobFull
                self.room -= entry.size - counted
                counted = entry.size
                async with self.local.stage() as stage:
                    async for chunk in content:
                        await stage.write(chunk)
                    about = await stage.done()
                    steady = content.steady() and about.size == entry.size
                    if steady or last:
                        await stage.keep(artifact.key(self.prefix, self.shown(path)))
                        return About(about.size, about.sha256, media_type(path)), steady
        raise AssertionError


def _sift(todo: Iterator[_Seen], ignore: Ignore, chosen: list[_Seen]) -> bool:
    """For a moment. Whether there is more."""
    end = time.monotonic() + SLICE_S
    for one in todo:
        if not ignore.leaves_out(one[0]):
            chosen.append(one)
        if time.monotonic() >= end:
            return True
    return False


def media_type(path: str) -> str:
    """By the name alone: what is in it is the agent's."""
    name = path.rpartition("/")[2].lower()
    for ending, kind in _MORE_TYPES.items():
        if name.endswith(ending):
            return kind
    guessed, encoding = _TYPES.guess_type(f"x{name[-100:]}")
    return "application/octet-stream" if guessed is None or encoding else guessed


def notice(found: Sequence[Found], over: bool) -> str:
    """What was not kept, in words; empty when everything was."""
    left = [one for one in found if not one.kept]
    if not left and not over:
        return ""
    by_reason: dict[str, list[str]] = {}
    for one in left:
        by_reason.setdefault(one.reason or "failed", []).append(_plain(one.path))
    said = [f"{REASONS.get(why, why)} ({why}): {_few(names)}" for why, names in sorted(by_reason.items())]
    if over:
        said.append("the workspace has more files than are looked at")
    return f"Files of the job that were not kept: {'; '.join(said)}."


def _few(names: list[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def _plain(path: str) -> str:
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in path[:200])
