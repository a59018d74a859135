"""What changed in a workspace: marks taken through a real desk, and what it finds against them later."""

from __future__ import annotations

import json
import os
import socket
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from pilothouse.adapters.sandboxes import treewalk
from pilothouse.core.errors import NotFound, TooLarge
from pilothouse.core.ids import SessionId
from pilothouse.engine.ports import Changes, Since, Workspace
from tests.adapters.sandboxes.workspaces import ROOT, House, hand_over, housed

pytestmark = pytest.mark.asyncio(loop_scope="module")
BY = (".git",)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house() -> AsyncIterator[House]:
    async with housed() as made:
        yield made


async def marked(files: Workspace, moment: int | None = None) -> bytes:
    pieces: list[bytes] = []
    await files.mark(moment or files.moment() + 10**9, BY, pieces.append)
    return b"".join(pieces)


async def changes(files: Workspace, marks: bytes) -> Changes:
    with tempfile.TemporaryFile() as kept:
        kept.write(marks)
        kept.flush()
        return await files.changed(Since(0, kept.fileno()), BY)


def names(found: Changes) -> list[str]:
    return sorted(path for path, _, _ in found.found)


async def test_made_changed_and_moved_files_are_found_and_no_others(house: House) -> None:
    session, root = house.session()
    for name in ("kept", "grown", "touched", "gone", "sub/kept", "moved/inside", ".git/index"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text("before")
    hand_over(root)
    files = house.files(session)
    marks = await marked(files)
    assert len(marks) == 6 * treewalk.MARK
    (root / "grown").write_text("after, longer")
    before = (root / "touched").stat()
    (root / "touched").write_text("behind")
    os.utime(root / "touched", ns=(before.st_atime_ns, before.st_mtime_ns))  # whoever hides it cannot hide the ctime
    (root / "gone").unlink()
    (root / "moved").rename(root / "elsewhere")
    (root / "new").write_text("x")
    (root / ".git/index").write_text("passed by")
    hand_over(root / "new")
    assert names(await changes(files, marks)) == ["elsewhere/inside", "grown", "new", "touched"]


async def test_a_file_that_is_written_to_while_marks_are_taken_counts_as_changed(house: House) -> None:
    session, root = house.session()
    files = house.files(session)
    (root / "before").write_text("x")
    os.utime(root / "before", (0, 0))
    moment = files.moment()
    (root / "meanwhile").write_text("x")
    hand_over(root)
    if ROOT:  # handing over has changed both
        moment = files.moment() + 10**9
        assert await marked(files, 1) == b""
    assert len(await marked(files, moment)) == (2 if ROOT else 1) * treewalk.MARK
    found = await files.changed(Since(1), BY)
    assert names(found) == ["before", "meanwhile"]  # where there are no marks, the moment decides
    assert names(await files.changed(Since(files.moment() + 10**9), BY)) == []


async def test_a_moment_that_has_passed_lies_between_what_was_written_before_and_after(house: House) -> None:
    """However soon one follows the other: what one job leaves is not what the next one made."""
    session, root = house.session()
    files = house.files(session)
    for n in range(40):
        for name in (f"before{n}", "again"):
            (root / name).write_text("x")
            hand_over(root / name)
        now = files.now()
        assert await files.passed(now)
        pieces: list[bytes] = []
        await files.mark(now, BY, pieces.append)
        for name in (f"after{n}", "again"):
            (root / name).write_text("y")
            hand_over(root / name)
        with tempfile.TemporaryFile() as kept:
            kept.write(b"".join(pieces))
            kept.flush()
            assert names(await files.changed(Since(now, kept.fileno()), BY)) == [f"after{n}", "again"]


async def test_names_that_mean_no_good(house: House) -> None:
    session, root = house.session()
    good = ["new\nline", "\u202ebidi", "é" * 127, " ", "-rf", "a'b\"c", "...", "\x1b[31m"]
    for name in good:
        (root / name).write_text("x")
    (root / os.fsdecode(b"\xff\xfe")).write_text("x")
    (root / "link").symlink_to("/etc/passwd")
    (root / "folder").symlink_to("/etc")
    os.mkfifo(root / "fifo")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(os.path.relpath(root / "socket"))
    os.link(root / " ", root / "twin")
    (root / "closed").mkdir()
    (root / "closed" / "inside").write_text("x")
    (root / "deep/.gitignore").parent.mkdir()
    (root / "deep/.gitignore").write_text("*.log")
    hand_over(root)
    (root / "closed").chmod(0)
    files = house.files(session)
    found = await changes(files, b"")
    assert names(found) == sorted([*good, "twin", "deep/.gitignore"])
    assert sorted(found.left) == [("closed", "unreadable"), ("\ufffd\ufffd", "name")]
    assert (found.rules, found.over) == (["deep/.gitignore"], False)
    (root / "closed").chmod(0o700)
    later = await changes(files, await marked(files))
    assert (names(later), later.rules) == ([], ["deep/.gitignore"])  # rules hold whether they changed or not


async def test_a_tree_that_is_too_deep_is_left_and_said(house: House) -> None:
    session, root = house.session()
    here = os.open(root, os.O_RDONLY)
    for _ in range(treewalk.DEPTH_MAX + 40):
        os.mkdir("d" * 100, dir_fd=here)
        below = os.open("d" * 100, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    os.close(here)
    hand_over(root)
    found = await changes(house.files(session), b"")
    assert names(found) == []
    assert [why for _, why in found.left] == ["deep"]


async def test_more_than_is_looked_at(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    from pilothouse.adapters.sandboxes import files as module

    session, root = house.session()
    for n in range(50):
        (root / f"{n}").write_text("x")
    hand_over(root)
    files = house.files(session)
    assert len(names(await changes(files, b""))) == 50
    monkeypatch.setattr(module, "MET_MAX", 20)
    with pytest.raises(TooLarge, match="20"):
        await marked(files)
    found = await changes(files, b"")
    assert (len(found.found), found.over) == (20, True)


async def test_thousands_of_changes_come_in_pages(house: House) -> None:
    session, root = house.session()
    for n in range(3000):
        (root / f"{n:04}-{'ü' * 60}").touch()
    hand_over(root)
    files = house.files(session)
    marks = await marked(files)
    assert len(marks) == 3000 * treewalk.MARK
    assert (await changes(files, marks)).found == []
    assert len(set(names(await changes(files, b"")))) == 3000


async def test_a_session_without_a_workspace(house: House) -> None:
    files = house.files(SessionId("00000000-0000-4000-8000-000000000000"))
    with pytest.raises(NotFound):
        await marked(files)
    with pytest.raises(NotFound):
        await changes(files, b"")


async def test_a_file_that_changes_while_it_is_read_is_known_for_it(house: House) -> None:
    session, root = house.session()
    path: Path = root / "log"
    path.write_bytes(b"x" * 10)
    hand_over(root)
    _, content = await house.files(session).read("log")
    assert content.steady()
    with path.open("ab") as more:
        more.write(b"y")
    assert [chunk async for chunk in content] == [b"x" * 10]
    assert not content.steady()
    content.close()


async def test_a_page_is_below_a_packets_most_whatever_the_names(tmp_path: Path) -> None:
    for n in range(120):
        (tmp_path / f"{n:03}{'🛟' * 60}").touch()
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(15):
        name = "\x01" * 250
        os.mkdir(name, dir_fd=here)
        below = os.open(name, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(os.open(".gitignore", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    os.close(here)

    def beneath(path: bytes) -> int:
        fd = os.open(tmp_path, os.O_RDONLY)
        for part in path.split(b"/"):
            below = os.open(part, os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
            os.close(fd)
            fd = below
        return fd

    walk = treewalk.Walk(beneath, (), 1000)
    walk.left = [(("🛟" * 250).encode(), "deep")] * 20
    pages = list(walk.changed(0, None))
    assert max(len(json.dumps({**page, "more": True})) for page in pages) < 64 * 1024
    assert sum(len(page.get("found", ())) for page in pages) == 121
    assert sum(len(page.get("left", ())) for page in pages) == 20
