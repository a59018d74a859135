from __future__ import annotations

import ctypes
import os
import threading
from pathlib import Path

import pytest

from pilothouse.adapters.sandboxes import files as module
from pilothouse.adapters.sandboxes.files import WorkspaceFiles
from pilothouse.core.errors import BadRequest, NotFound, TooLarge

SECRET = b"outside"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "workspace"
    (made / "dir" / "deep").mkdir(parents=True)
    (made / "dir" / "deep" / "a.txt").write_text("inside")
    (tmp_path / "workspace-sibling").mkdir()
    (tmp_path / "workspace-sibling" / "secret").write_bytes(SECRET)
    (tmp_path / "secret").write_bytes(SECRET)
    return made


async def content(root: Path, path: str) -> bytes:
    _, chunks = await WorkspaceFiles(root).read(path)
    return b"".join([chunk async for chunk in chunks])


async def test_listing_and_reading(root: Path) -> None:
    (root / "big").write_bytes(b"x" * (module.CHUNK + 7))
    (root / "link").symlink_to("/etc/passwd")
    os.mkfifo(root / "fifo")
    listed = await WorkspaceFiles(root).list("")
    assert [(e.name, e.kind) for e in listed] == [
        ("dir", "directory"), ("big", "file"), ("fifo", "other"), ("link", "link")
    ]  # fmt: skip
    assert len(await content(root, "big")) == module.CHUNK + 7
    assert await content(root, "dir/deep/a.txt") == b"inside"


async def test_a_link_inside_is_followed_one_outside_is_not(root: Path) -> None:
    (root / "in").symlink_to("dir/deep/a.txt")
    (root / "out").symlink_to("../secret")
    (root / "absolute").symlink_to("/etc/passwd")
    (root / "outdir").symlink_to("../workspace-sibling")
    (root / "magic").symlink_to("/proc/self/root/etc/passwd")
    (root / "loop").symlink_to("loop")
    assert await content(root, "in") == b"inside"
    for path in ("out", "absolute", "outdir/secret", "magic", "loop"):
        with pytest.raises(BadRequest):
            await content(root, path)
    with pytest.raises(BadRequest):
        await WorkspaceFiles(root).list("outdir")


@pytest.mark.parametrize(
    "path", ["../secret", "dir/../../secret", "/etc/passwd", "a\0b", "a" * 5000, "\ud800", "dir/" + "b" * 300]
)
async def test_bad_paths(root: Path, path: str) -> None:
    with pytest.raises(BadRequest):
        await content(root, path)


@pytest.mark.parametrize("path", ["%2e%2e/secret", "none", "dir/none", "dir/deep/a.txt/x", "../workspace-sibling"[3:]])
async def test_what_is_not_there(root: Path, path: str) -> None:
    with pytest.raises(NotFound):
        await content(root, path)


async def test_what_is_no_regular_file(root: Path) -> None:
    os.mkfifo(root / "fifo")
    for path in ("fifo", "dir", ""):
        with pytest.raises(BadRequest, match="not a regular file"):
            await content(root, path)


async def test_the_limits_are_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (root / "sparse").open("wb") as sparse:
        sparse.truncate(module.SIZE_MAX + 1)
    with pytest.raises(TooLarge, match=str(module.SIZE_MAX)):
        await content(root, "sparse")
    monkeypatch.setattr(module, "ENTRIES_MAX", 1)
    with pytest.raises(TooLarge, match="more than 1 entries"):
        await WorkspaceFiles(root).list("")


async def test_a_walk_meets_regular_files_only_and_follows_no_link(root: Path) -> None:
    (root / "outdir").symlink_to("../workspace-sibling")
    (root / "passwd").symlink_to("/etc/passwd")
    (root / "self").symlink_to(".")
    os.mkfifo(root / "dir" / "fifo")
    assert [path async for path, _ in WorkspaceFiles(root).walk("")] == ["dir/deep/a.txt"]


async def test_a_workspace_that_is_a_link_is_none(root: Path, tmp_path: Path) -> None:
    (tmp_path / "swapped").symlink_to("workspace-sibling")
    with pytest.raises(NotFound):
        await WorkspaceFiles(tmp_path / "swapped").list("")


async def test_swapping_a_directory_for_a_link_leaks_nothing(root: Path) -> None:
    """RENAME_EXCHANGE between a real directory and a link out, as fast as the machine can."""
    (root / "a").mkdir()
    (root / "a" / "secret").write_bytes(b"inside")
    (root / "b").symlink_to("../workspace-sibling")
    libc, done = ctypes.CDLL(None), threading.Event()
    swaps = 0

    def swap() -> None:
        nonlocal swaps
        while not done.is_set():
            libc.renameat2(-100, os.fsencode(root / "a"), -100, os.fsencode(root / "b"), 2)
            swaps += 1

    thread = threading.Thread(target=swap)
    thread.start()
    found = set()
    try:
        for _ in range(1500):
            try:
                found.add(await content(root, "a/secret"))
            except (BadRequest, NotFound):
                found.add(b"refused")
    finally:
        done.set()
        thread.join()
    assert swaps > 100
    assert found == {b"inside", b"refused"}
