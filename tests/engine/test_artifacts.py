"""What jobs made, collected at their ends: every kind of end, hostile workspaces, limits, restarts."""

from __future__ import annotations

import asyncio
import os
import threading
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pilothouse.adapters.blobs.folder import Folder
from pilothouse.core import events as ev
from pilothouse.core import link
from pilothouse.core.artifact import key
from pilothouse.core.errors import Conflict, NotFound, Unavailable
from pilothouse.core.ids import JobId, SessionId
from pilothouse.core.ignore import Ignore
from pilothouse.core.storing import ArtifactSettings
from pilothouse.engine import baselines, gathering
from pilothouse.engine.artifacts import Artifacts
from pilothouse.engine.ports import About, Blob, Changes, StoreFailed
from pilothouse.engine.records import ArtifactRecord
from pilothouse.engine.sessions import Session
from tests.engine.conftest import Bench
from tests.engine.fakes import ScriptedRunner
from tests.engine.folders import FolderFiles


class Shop(Bench):
    """A bench whose sessions have folders."""

    def folder(self, session: Session) -> Path:
        path = self._root(session.live.record.id)
        path.mkdir(parents=True, exist_ok=True)
        return path

    def _root(self, session: SessionId) -> Path:
        assert self.home is not None
        return self.home / "workspaces" / session

    def furnish(self) -> None:
        self.files: dict[SessionId, FolderFiles] = {}

        def files(session: SessionId) -> FolderFiles:
            return self.files.setdefault(session, FolderFiles(self._root(session)))

        self.sandboxes.files = files  # type: ignore[method-assign]

    @property
    def kept(self) -> Artifacts:
        assert self.artifacts is not None
        return self.artifacts

    async def made(self, session: Session) -> dict[str, ArtifactRecord]:
        return {one.path: one for one in await self.kept.of_session(session.live.record.id)}

    async def end(self, session: Session, runner: ScriptedRunner, job: str, outcome: ev.Outcome = "succeeded") -> None:
        runner.end_turn(job, outcome)
        await self.until(session, ev.Complete, 1)

    async def text(self, record: ArtifactRecord) -> bytes:
        return await whole(await self.kept.open(record))


async def whole(blob: Blob) -> bytes:
    try:
        return b"".join([chunk async for chunk in blob])
    finally:
        blob.close()


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    made = Shop(home=tmp_path)
    made.furnish()
    await made.start()
    yield made
    await made.close()


async def begun(shop: Shop, **before: str) -> tuple[Session, Path, ev.LogEvent, ScriptedRunner, str]:
    """A job at work in a workspace that had these files before."""
    session = await shop.session()
    folder = shop.folder(session)
    for name, text in before.items():
        (folder / name).write_text(text)
    past(folder)
    job, runner = await shop.run(session)
    await shop.kept.ready(session.live.record.id)
    return session, folder, (await shop.events(session))[-1], runner, job.id


def past(folder: Path) -> None:
    """What is there is older than any job that begins now: the clock that files are stamped with moves in steps."""
    newest = max((path.lstat().st_ctime_ns for path in folder.rglob("*")), default=0)
    while FolderFiles(folder).moment() <= newest:
        os.sched_yield()


@pytest.mark.parametrize("outcome", ["succeeded", "failed", "interrupted", "budget_exceeded"])
async def test_every_end_has_its_files_before_complete(shop: Shop, outcome: ev.Outcome) -> None:
    session, folder, _, runner, job = await begun(shop, kept="as it was", changed="before")
    (folder / "changed").write_text("after")
    (folder / "sub").mkdir()
    (folder / "sub" / "app.py").write_text("print()")
    await shop.end(session, runner, job, outcome)
    events = await shop.events(session)
    assert [type(e).__name__ for e in events[-3:]] == ["Artifact", "Artifact", "Complete"]
    assert all(e.job_id == job for e in events[-3:])
    made = await shop.made(session)
    assert set(made) == {"changed", "sub/app.py"}
    record, said = made["sub/app.py"], cast(ev.Artifact, events[-2])
    assert (said.artifact_id, said.path, said.size, said.sha256) == (record.id, record.path, 7, record.sha256)
    assert said.url == f"/api/artifacts/{record.id}/content"
    assert (record.state, record.media_type, record.job) == ("stored", "text/x-python", job)
    assert record.prefix.startswith("outputs/2027") and record.prefix.endswith(f"-{job}/")
    assert await shop.text(record) == b"print()"
    assert await shop.text(made["changed"]) == b"after"
    assert await shop.kept.of_job(record.job) == sorted(made.values(), key=lambda one: one.path)
    assert list((shop.home or folder).glob("artifacts/marks/*")) == []


async def test_a_runner_that_dies_leaves_its_files(shop: Shop) -> None:
    session, folder, _, _, _ = await begun(shop)
    (folder / "half").write_text("done")
    shop.sandboxes.die(session.live.record.id)
    seen = await shop.until(session, ev.Complete)
    assert cast(ev.Complete, seen[-1]).outcome == "failed"
    assert set(await shop.made(session)) == {"half"}


async def test_an_end_that_only_the_next_server_sees_has_its_files(shop: Shop) -> None:
    session, folder, _, runner, job = await begun(shop, kept="as it was", old="x")
    await shop.sessions.close()  # the server is gone, the runner goes on
    await shop.kept.close()
    (folder / "made").write_text("while nobody looked")
    (folder / "old").rename(folder / "new name")
    runner.end_turn(job)
    await shop.start()
    session = await shop.sessions.found(session.live.record.id) or session
    await shop.until(session, ev.Complete)
    assert set(await shop.made(session)) == {"made", "new name"}


async def test_a_runner_that_died_with_the_server_leaves_its_files(shop: Shop) -> None:
    session, folder, _, _, _ = await begun(shop, kept="as it was")
    await shop.sessions.close()
    await shop.kept.close()
    (folder / "made").write_text("x")
    shop.sandboxes.die(session.live.record.id)
    await shop.start()
    session = await shop.sessions.found(session.live.record.id) or session
    seen = await shop.until(session, ev.Complete)
    assert cast(ev.Complete, seen[-1]).outcome == "failed"
    assert set(await shop.made(session)) == {"made"}


async def test_a_collection_that_was_cut_short_is_made_anew(shop: Shop) -> None:
    session, folder, _, runner, job = await begun(shop)
    (folder / "a").write_text("first")
    files = shop.files[session.live.record.id]
    reading, go = asyncio.Event(), asyncio.Event()
    real = files.read

    async def slow(path: str):  # type: ignore[no-untyped-def]
        found = await real(path)
        reading.set()
        await go.wait()
        return found

    files.read = slow  # type: ignore[method-assign]
    runner.end_turn(job)
    await reading.wait()
    await shop.sessions.close()  # killed in the middle: nothing was said yet
    await shop.kept.close()
    files.read = real  # type: ignore[method-assign]
    (folder / "a").unlink()
    (folder / "b").write_text("second")
    await shop.start()
    session = await shop.sessions.found(session.live.record.id) or session
    await shop.until(session, ev.Complete)
    assert set(await shop.made(session)) == {"b"}
    assert [p.name for p in (shop.home or folder).glob("artifacts/outputs/*/*")] == ["b"]


async def test_no_tool_is_answered_before_the_workspace_has_been_looked_at(shop: Shop) -> None:
    session = await shop.session()
    folder = shop.folder(session)
    (folder / "before").write_text("x")
    past(folder)
    go = asyncio.Event()
    files = shop.sandboxes.files(session.live.record.id)
    files.hold = go.wait  # type: ignore[attr-defined]
    job, runner = await shop.run(session)
    runner.say(link.PermissionAsk(request_id="r", tool_id="t", tool="Read", input={"file_path": "/workspace/before"}))
    for _ in range(50):
        await asyncio.sleep(0)
    assert not [c for c in runner.commands if isinstance(c, link.PermissionAnswer)]
    go.set()
    await runner.command(link.PermissionAnswer)
    (folder / "before").write_text("changed")
    await shop.end(session, runner, job.id)
    assert set(await shop.made(session)) == {"before"}


async def test_marks_that_cannot_be_taken_leave_the_moment(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines, "GATE_S", 0.0)
    session = await shop.session()
    folder = shop.folder(session)
    (folder / "before").write_text("x")
    past(folder)

    async def broken() -> None:
        raise Unavailable("the desk is gone")

    shop.sandboxes.files(session.live.record.id).hold = broken  # type: ignore[attr-defined]
    job, runner = await shop.run(session)
    (folder / "made").write_text("x")
    await shop.end(session, runner, job.id)
    assert set(await shop.made(session)) == {"made"}


async def test_what_gitignore_and_settings_leave_out(shop: Shop) -> None:
    session, folder, _, runner, job = await begun(shop)
    for path in (
        "app.log",
        "keep.txt",
        "node_modules/x/index.js",
        ".git/HEAD",
        "dist/app.js",
        "sub/a.tmp",
        "sub/b.tmp",
    ):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text("x")
    (folder / ".gitignore").write_text("*.log\ndist/\n*.tmp\n")
    (folder / "sub" / ".gitignore").write_text("!b.tmp\n")
    await shop.end(session, runner, job)
    assert set(await shop.made(session)) == {".gitignore", "sub/.gitignore", "keep.txt", "sub/b.tmp"}


async def test_names_that_mean_no_good_are_kept_under_names_that_do_none(shop: Shop) -> None:
    session, folder, _, runner, job = await begun(shop)
    names = ["new\nline", "\u202etxt.exe", "é" * 127, "...", "-rf", " ", "%2e%2e", "a\\b", "c:d", "\x1b[31m"]
    for name in names:
        (folder / name).write_text(name)
    (folder / os.fsdecode(b"\xff")).write_text("x")
    (folder / "link").symlink_to("/etc/passwd")
    os.mkfifo(folder / "fifo")
    os.link(folder / "-rf", folder / "twin")
    await shop.end(session, runner, job)
    made = await shop.made(session)
    assert {one.path for one in made.values() if one.state == "stored"} == {*names, "twin"}
    for name in names:
        assert await shop.text(made[name]) == name.encode()
    assert made["\ufffd"].reason == "name"
    assert made["twin"].sha256 == made["-rf"].sha256
    below = list((shop.home or folder).glob("artifacts/outputs/*/*"))
    assert len(below) == len(names) + 1
    assert all(p.name.isprintable() and not p.is_symlink() and p.stat().st_mode & 0o777 == 0o600 for p in below)
    notice = [e for e in await shop.events(session) if isinstance(e, ev.ErrorEvent)]
    assert [n.code for n in notice] == ["artifacts_skipped"]


async def test_limits_are_held_and_said_by_name(tmp_path: Path) -> None:
    limits = ArtifactSettings(artifacts_file_max=100, artifacts_job_max=250, artifacts_files_max=4)
    shop = Shop(home=tmp_path, settings=limits)
    shop.furnish()
    await shop.start()
    session, folder, _, runner, job = await begun(shop)
    with (folder / "sparse").open("wb") as file:
        file.truncate(5 * 1024**3)
    for name in "abc":
        (folder / name).write_text("x" * 90)
    for n in range(6):
        (folder / f"small-{n}").write_text("y")
    await shop.end(session, runner, job)
    made = await shop.made(session)
    reasons = {path: one.reason for path, one in made.items() if one.state == "skipped"}
    assert reasons == {
        "sparse": "too_large", "c": "job_full", "small-2": "too_many", "small-3": "too_many", "small-4": "too_many",
        "small-5": "too_many",
    }  # fmt: skip
    assert made["sparse"].size == 5 * 1024**3
    events = await shop.events(session)
    assert [type(e).__name__ for e in events[-6:]] == [*["Artifact"] * 4, "ErrorEvent", "Complete"]
    said = cast(ev.ErrorEvent, events[-2])
    assert said.code == "artifacts_skipped"
    assert said.message.startswith("Files of the job that were not kept: ")
    assert "(too_large): sparse" in said.message
    assert "(too_many): small-2, small-3, small-4 and 1 more" in said.message
    with pytest.raises(NotFound, match="not kept"):
        await shop.kept.open(made["sparse"])
    await shop.close()


async def test_files_that_change_vanish_or_close_while_they_are_read(shop: Shop) -> None:
    session, folder, _, runner, job = await begun(shop)
    for name in ("busy", "gone", "closed", "grows"):
        (folder / name).write_text("x")
    files = shop.files[session.live.record.id]
    reads: list[str] = []
    real = files.read

    async def read(path: str):  # type: ignore[no-untyped-def]
        reads.append(path)
        if path == "gone":
            (folder / path).unlink()
        found = await real(path)
        if path == "busy":
            (folder / path).write_text("y" * len(reads))
        if path == "grows":
            os.truncate(folder / path, 10**12)
            found = await real(path)
        return found

    files.read = read  # type: ignore[method-assign]
    await shop.end(session, runner, job)
    made = await shop.made(session)
    assert {path: (one.state, one.reason) for path, one in made.items()} == {
        "busy": ("stored", "changing"),
        "gone": ("skipped", "gone"),
        "closed": ("stored", None),
        "grows": ("skipped", "too_large"),
    }
    assert reads.count("busy") == gathering.TRIES
    assert len(await shop.text(made["busy"])) == made["busy"].size


async def test_two_jobs_of_one_second_have_two_prefixes_and_fifty_mix_nothing(shop: Shop) -> None:
    async def one(n: int) -> Session:
        session = await shop.session()
        folder = shop.folder(session)
        job, runner = await shop.run(session)
        for part in range(3):
            (folder / f"part-{part}").write_text(f"{n}.{part}")
        (folder / "same").write_text("everybody's")
        await shop.end(session, runner, job.id)
        return session

    sessions = await asyncio.gather(*(one(n) for n in range(50)))
    prefixes = set()
    for n, session in enumerate(sessions):
        made = await shop.made(session)
        assert set(made) == {"part-0", "part-1", "part-2", "same"}
        for part in range(3):
            assert await shop.text(made[f"part-{part}"]) == f"{n}.{part}".encode()
        prefixes |= {record.prefix for record in made.values()}
    assert len(prefixes) == 50
    assert len({prefix[:23] for prefix in prefixes}) == 1  # all of one second
    assert len(list((shop.home or Path()).glob("artifacts/objects/*/*"))) == 151  # equal content is there once


async def test_a_deleted_sessions_artifacts_go_with_it(shop: Shop) -> None:
    session, folder, _, runner, job = await begun(shop)
    other, elsewhere, _, other_runner, other_job = await begun(shop)
    (folder / "shared").write_text("x")
    (elsewhere / "shared").write_text("x")
    await shop.end(session, runner, job)
    await shop.end(other, other_runner, other_job)
    record = (await shop.made(session))["shared"]
    await shop.sessions.delete(session)
    while await shop.store.scan("discard"):
        await asyncio.sleep(0.01)
    with pytest.raises(NotFound):
        await shop.kept.get(record.id)
    with pytest.raises(NotFound):
        await shop.kept.open(record)
    assert await shop.text((await shop.made(other))["shared"]) == b"x"


async def test_what_a_killed_server_stored_of_jobs_that_are_no_more_is_swept(shop: Shop) -> None:
    orphan = "outputs/20270101_000000-00000000-0000-4000-8000-000000000000/x"
    local = await Folder.open((shop.home or Path()) / "artifacts")
    async with local.stage() as stage:
        await stage.write(b"x")
        await stage.done()
        await stage.keep(orphan)
    await local.close()
    await shop.restart()
    while await shop.kept._local.jobs():
        await asyncio.sleep(0.01)


async def test_a_job_whose_files_cannot_be_had_ends_all_the_same(shop: Shop) -> None:
    session, folder, _, runner, job = await begun(shop)
    folder.rmdir()
    await shop.end(session, runner, job)
    events = await shop.events(session)
    assert [type(e).__name__ for e in events[-2:]] == ["ErrorEvent", "Complete"]
    assert cast(ev.ErrorEvent, events[-2]).code == "artifacts_failed"


async def test_a_disk_that_is_full_costs_files_and_not_the_job(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    from pilothouse.adapters.blobs import folder as module

    session, folder, _, runner, job = await begun(shop)
    (folder / "a").write_text("x")

    def full(self: object, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.Stage, "_write", full)
    await shop.end(session, runner, job)
    assert (await shop.made(session))["a"].reason == "no_space"


async def test_people_are_heard_while_files_are_collected(shop: Shop) -> None:
    session, folder, _, runner, job = await begun(shop)
    (folder / "a").write_text("x")
    files = shop.files[session.live.record.id]
    reading, go = asyncio.Event(), asyncio.Event()
    real = files.read

    async def slow(path: str):  # type: ignore[no-untyped-def]
        reading.set()
        await go.wait()
        return await real(path)

    files.read = slow  # type: ignore[method-assign]
    runner.end_turn(job)
    await reading.wait()
    next_job = shop.sessions.job(session, "next", "tester")
    await session.jobs.submit(next_job, client_message_id=None)  # it needs the session's lock
    with pytest.raises(Conflict, match="done already"):
        await session.jobs.interrupt("tester")
    assert not [e for e in await shop.events(session) if isinstance(e, ev.Complete)]
    go.set()
    seen = await shop.until(session, ev.Complete)
    assert cast(ev.Complete, seen[-1]).outcome == "succeeded"
    assert set(await shop.made(session)) == {"a"}


async def test_who_made_what(shop: Shop) -> None:
    session, folder, _, runner, job = await begun(shop)
    runner.say(
        ev.ToolUse(tool="Write", tool_id="w", input={"file_path": "/workspace/a.txt"}, kind="edit"),
        ev.ToolResult(tool_id="w", result="", is_error=False),
        ev.ToolUse(tool="Bash", tool_id="b", input={"command": "echo x > out.csv"}, kind="execute"),
        ev.ToolResult(tool_id="b", result="", is_error=False),
        ev.ToolUse(tool="Read", tool_id="r", input={"file_path": "/workspace/a.txt"}, kind="read"),
        ev.ToolResult(tool_id="r", result="", is_error=False),
    )
    for name in ("a.txt", "out.csv", "else"):
        (folder / name).write_text("x")
    await shop.end(session, runner, job)
    made = await shop.made(session)
    assert {path: one.tool_id for path, one in made.items()} == {"a.txt": "w", "out.csv": "b", "else": None}


async def test_a_job_that_never_began_has_none(shop: Shop) -> None:
    session = await shop.session()
    shop.folder(session)
    shop.sandboxes.refuse = Unavailable("no sandbox")
    await session.jobs.submit(shop.sessions.job(session, "x", "tester"), client_message_id=None)
    await shop.until(session, ev.Complete)
    assert await shop.made(session) == {}


def about(record: ArtifactRecord) -> tuple[str, About]:
    return key(record.prefix, record.path), About(record.size, record.sha256, record.media_type)


async def test_rules_are_matched_beside_the_loop_and_counted(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "RULES_ALL", 3, raising=False)
    session, folder, _, runner, job = await begun(shop)
    for name in ("a", "b", "c"):
        (folder / name).mkdir()
        (folder / name / ".gitignore").write_text("1\n2\n")
        (folder / name / "2").write_text("x")
    (folder / "other").write_text("x")
    loop, seen = asyncio.get_running_loop(), threading.Event()
    real = Ignore.leaves_out
    free: list[bool] = []

    def leaves_out(self: Ignore, path: str) -> bool:
        if not free:
            loop.call_soon_threadsafe(seen.set)
            free.append(seen.wait(0.5))
        return real(self, path)

    monkeypatch.setattr(Ignore, "leaves_out", leaves_out)
    await shop.end(session, runner, job)
    assert free == [True]  # the loop went on meanwhile
    left_out = {"a/2", "b/2", "c/2"} - set(await shop.made(session))
    assert len(left_out) == 1  # two rules of the first, one of the second, none of the third


async def test_files_that_have_grown_take_what_is_left_of_the_jobs_room(tmp_path: Path) -> None:
    shop = Shop(home=tmp_path, settings=ArtifactSettings(artifacts_job_max=250))
    shop.furnish()
    await shop.start()
    session, folder, _, runner, job = await begun(shop)
    for name in "ab":
        (folder / name).write_text("x" * 10)
    shop.files[session.live.record.id].before_read = lambda path: os.truncate(folder / path, 200)
    await shop.end(session, runner, job)
    reasons = sorted(str(one.reason) for one in (await shop.made(session)).values())
    assert reasons == ["None", "job_full"]
    await shop.close()


async def test_artifacts_leave_room_on_the_disk(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    session, folder, _, runner, job = await begun(shop)
    (folder / "a").write_text("x")
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_bavail=2 * 1024 * 1024 - 1, f_frsize=1024))
    await shop.end(session, runner, job)
    assert (await shop.made(session))["a"].reason == "no_space"


async def test_a_workspace_that_cannot_be_looked_at_is_tried_again(shop: Shop) -> None:
    session, folder, _, runner, job = await begun(shop)
    (folder / "a").write_text("x")
    files = shop.files[session.live.record.id]
    real, tried = files.changed, []

    async def changed(*given: Any) -> Changes:
        tried.append(given)
        if len(tried) < 3:
            raise Unavailable("the desk starts anew")
        return await real(*given)

    files.changed = changed  # type: ignore[method-assign,assignment]
    runner.end_turn(job)
    while not isinstance((await shop.events(session))[-1], ev.Complete):
        await shop.clock.wind(11)
        await asyncio.sleep(0.01)
    assert (set(await shop.made(session)), len(tried)) == ({"a"}, 3)


async def test_a_session_that_is_deleted_while_its_job_is_collected_leaves_nothing(shop: Shop) -> None:
    session, folder, _, runner, job = await begun(shop)
    (folder / "a").write_text("x")
    files = shop.files[session.live.record.id]
    reading, real = asyncio.Event(), files.read

    async def slow(path: str) -> Any:
        if path == "b":
            reading.set()
            await asyncio.Event().wait()
        return await real(path)

    files.read = slow  # type: ignore[method-assign]
    (folder / "b").write_text("y")
    runner.end_turn(job)
    await reading.wait()
    while not list((shop.home or folder).glob("artifacts/outputs/*/a")):
        await asyncio.sleep(0.01)
    async with asyncio.timeout(10):
        await shop.sessions.delete(session)
    while await shop.store.scan("discard"):
        await asyncio.sleep(0.01)
    assert [task for task in asyncio.all_tasks() if task.get_name() == "collect"] == []
    assert [path for path in (shop.home or folder).glob("artifacts/*/*") if path.parent.name != "objects"] == []


async def test_marks_that_cannot_be_written_leave_nothing_open(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    session = await shop.session()
    shop.folder(session)

    def full(*_: object) -> int:
        raise OSError(28, "no space")

    before = os.listdir("/proc/self/fd")
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        shop.kept._baselines.begin(session.live.record.id, JobId(str(uuid.uuid4())))
    assert os.listdir("/proc/self/fd") == before


async def test_a_sweep_that_fails_is_noted(shop: Shop) -> None:
    async def broken() -> list[str]:
        raise StoreFailed

    shop.kept._local.jobs = broken  # type: ignore[method-assign]
    await shop.kept._sweep()
