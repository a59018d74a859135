from __future__ import annotations

import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from pilothouse.adapters.sandboxes import files as module
from pilothouse.core.errors import BadRequest, NotFound, TooLarge
from pilothouse.core.ids import SessionId
from pilothouse.engine.ports import Files
from tests.adapters.sandboxes.workspaces import House, hand_over, housed

pytestmark = pytest.mark.asyncio(loop_scope="module")
SECRET = b"outside"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house() -> AsyncIterator[House]:
    async with housed() as made:
        yield made


@dataclass
class Place:
    root: Path
    session: SessionId
    files: Files

    async def content(self, path: str) -> bytes:
        _, chunks = await self.files.read(path)
        try:
            return b"".join([chunk async for chunk in chunks])
        finally:
            chunks.close()


@pytest.fixture
def place(house: House) -> Place:
    session, root = house.session()
    (root / "dir" / "deep").mkdir(parents=True)
    (root / "dir" / "deep" / "a.txt").write_text("inside")
    (root.parent / "workspace-sibling").mkdir()
    (root.parent / "workspace-sibling" / "secret").write_bytes(SECRET)
    (root.parent / "secret").write_bytes(SECRET)
    hand_over(root)
    return Place(root, session, house.files(session))


async def test_listing_and_reading(place: Place) -> None:
    (place.root / "big").write_bytes(b"x" * (module.CHUNK + 7))
    (place.root / "link").symlink_to("/etc/passwd")
    os.mkfifo(place.root / "fifo")
    listed = await place.files.list("")
    assert [(e.name, e.kind) for e in listed] == [
        ("dir", "directory"), ("big", "file"), ("fifo", "other"), ("link", "link")
    ]  # fmt: skip
    assert len(await place.content("big")) == module.CHUNK + 7
    assert await place.content("dir/deep/a.txt") == b"inside"


async def test_a_link_inside_is_followed_one_outside_is_not(place: Place) -> None:
    root = place.root
    (root / "in").symlink_to("dir/deep/a.txt")
    (root / "out").symlink_to("../secret")
    (root / "absolute").symlink_to("/etc/passwd")
    (root / "outdir").symlink_to("../workspace-sibling")
    (root / "magic").symlink_to("/proc/self/root/etc/passwd")
    (root / "loop").symlink_to("loop")
    assert await place.content("in") == b"inside"
    for path in ("out", "absolute", "outdir/secret", "magic", "loop"):
        with pytest.raises(BadRequest):
            await place.content(path)
    with pytest.raises(BadRequest):
        await place.files.list("outdir")


@pytest.mark.parametrize(
    "path", ["../secret", "dir/../../secret", "/etc/passwd", "a\0b", "a" * 5000, "\ud800", "dir/" + "b" * 300]
)
async def test_bad_paths(place: Place, path: str) -> None:
    with pytest.raises(BadRequest):
        await place.content(path)


@pytest.mark.parametrize("path", ["%2e%2e/secret", "none", "dir/none", "dir/deep/a.txt/x", "../workspace-sibling"[3:]])
async def test_what_is_not_there(place: Place, path: str) -> None:
    with pytest.raises(NotFound):
        await place.content(path)


async def test_a_file_is_no_folder(place: Place) -> None:
    with pytest.raises(BadRequest, match="path: it is a file"):
        await place.files.list("dir/deep/a.txt")


async def test_what_is_no_regular_file(place: Place) -> None:
    os.mkfifo(place.root / "fifo")
    for path in ("fifo", "dir", ""):
        with pytest.raises(BadRequest, match="not a regular file"):
            await place.content(path)


async def test_the_limits_are_named(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    with (place.root / "sparse").open("wb") as sparse:
        sparse.truncate(module.SIZE_MAX + 1)
    with pytest.raises(TooLarge, match=str(module.SIZE_MAX)):
        await place.content("sparse")
    monkeypatch.setattr(module, "ENTRIES_MAX", 1)
    with pytest.raises(TooLarge, match="more than 1 entries"):
        await place.files.list("")


async def test_a_walk_meets_regular_files_only_and_follows_no_link(place: Place) -> None:
    (place.root / "outdir").symlink_to("../workspace-sibling")
    (place.root / "passwd").symlink_to("/etc/passwd")
    (place.root / "self").symlink_to(".")
    os.mkfifo(place.root / "dir" / "fifo")
    assert [path async for path, _ in place.files.walk("")] == ["dir/deep/a.txt"]


async def test_a_workspace_that_is_a_link_is_none(place: Place) -> None:
    (place.root / "dir" / "deep" / "a.txt").unlink()
    place.root.rename(place.root.with_name("moved"))
    place.root.symlink_to("workspace-sibling")
    with pytest.raises(NotFound, match="no workspace"):
        await place.files.list("")
