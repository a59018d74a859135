"""What every store of artifacts does alike: a folder, and a bucket (moto's server behind a relay)."""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import pytest_asyncio

from pilothouse.adapters.blobs.folder import Folder
from pilothouse.adapters.blobs.s3 import S3
from pilothouse.core.artifact import key
from pilothouse.core.errors import BadRequest, NotFound, Unavailable
from pilothouse.engine.ports import About, Blobs
from tests.conformance.bucket import NAME, House, housed

pytestmark = pytest.mark.asyncio(loop_scope="module")
Kind: TypeAlias = str


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house() -> AsyncIterator[House]:
    async with housed() as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module", params=["folder", "s3"])
async def blobs(request: pytest.FixtureRequest, house: House, tmp_path: Path) -> AsyncIterator[Blobs]:
    made: Blobs
    if request.param == "folder":
        made = await Folder.open(tmp_path / "artifacts")
    else:
        house.relay.mode = ""
        made = house.adapter(f"{uuid.uuid4()}/")
    yield made
    await made.close()


def written(path: Path, data: bytes) -> tuple[Path, About]:
    path.write_bytes(data)
    return path, About(len(data), hashlib.sha256(data).hexdigest(), "text/plain")


async def content(blobs: Blobs, name: str, *stretch: int) -> bytes:
    found = await blobs.read(name, *stretch)
    try:
        return b"".join([chunk async for chunk in found])
    finally:
        found.close()


def under(job: str = "") -> str:
    return f"outputs/20261121_090252-{job or uuid.uuid4()}/"


async def test_what_was_put_is_there_whole_and_in_stretches(blobs: Blobs, tmp_path: Path) -> None:
    name = under() + "sub/app.py"
    file, about = written(tmp_path / "x", b"0123456789")
    assert not await blobs.has(name, about)
    await blobs.put(name, file, about)
    assert await blobs.has(name, about)
    assert file.read_bytes() == b"0123456789"  # it stays the caller's
    file.write_bytes(b"else")
    assert await content(blobs, name) == b"0123456789"
    assert await content(blobs, name, 3) == b"3456789"
    assert await content(blobs, name, 3, 5) == b"34"
    assert await content(blobs, name, 5, 5) == b""
    assert not await blobs.has(name, About(10, "0" * 64, "text/plain"))


async def test_an_empty_file(blobs: Blobs, tmp_path: Path) -> None:
    name = under() + "empty"
    await blobs.put(name, *written(tmp_path / "x", b""))
    assert await content(blobs, name) == b""
    assert await content(blobs, name, 0, 0) == b""


async def test_what_comes_later_takes_the_place(blobs: Blobs, tmp_path: Path) -> None:
    name = under() + "a"
    for data in (b"first", b"second, longer", b"second, longer", b"3"):
        await blobs.put(name, *written(tmp_path / "x", data))
        assert await content(blobs, name) == data


async def test_a_file_in_parts(blobs: Blobs, tmp_path: Path) -> None:
    name = under() + "large"
    data = bytes(range(256)) * 4096 * 12  # 12 MiB, two parts and a rest
    await blobs.put(name, *written(tmp_path / "x", data))
    assert hashlib.sha256(await content(blobs, name)).digest() == hashlib.sha256(data).digest()
    assert await content(blobs, name, 6_000_000, 6_000_010) == data[6_000_000:6_000_010]


async def test_what_is_not_there(blobs: Blobs) -> None:
    name = under() + "nothing"
    with pytest.raises(NotFound):
        await blobs.read(name)
    with pytest.raises(NotFound):
        await blobs.read(name, 0, 0)
    assert not await blobs.has(name, About(0, hashlib.sha256(b"").hexdigest(), ""))
    await blobs.drop(name.rpartition("/")[0] + "/")


async def test_a_dropped_prefix_takes_its_own_and_no_more(blobs: Blobs, tmp_path: Path) -> None:
    first, second = under(), under()
    file, about = written(tmp_path / "x", b"shared by all")
    for name in (first + "a", first + "b/c", second + "a"):
        await blobs.put(name, file, about)
    await blobs.drop(first)
    await blobs.drop(first)
    for name in (first + "a", first + "b/c"):
        with pytest.raises(NotFound):
            await blobs.read(name)
    assert await content(blobs, second + "a") == b"shared by all"


@pytest.mark.parametrize(
    "path",
    [
        "new\nline",
        "\u202ebidi",
        "é" * 127,
        "..a",
        "...",
        "a/" * 60 + "b",
        " ",
        "%2e%2e/x",
        "a\\b",
        "?x#y&z",
        "+ +",
        "*",
    ],
)
async def test_names_that_mean_no_good(blobs: Blobs, tmp_path: Path, path: str) -> None:
    name = key(under(), path)
    assert name.isprintable() and ".." not in name.split("/")
    await blobs.put(name, *written(tmp_path / "x", path.encode()))
    assert await content(blobs, name) == path.encode()


async def test_fifty_at_once(blobs: Blobs, tmp_path: Path) -> None:
    prefix = under()

    async def one(n: int) -> bool:
        name = f"{prefix}{n % 25}/{n}"
        data = f"content {n % 10}".encode()
        await blobs.put(name, *written(tmp_path / f"{n}", data))
        return await content(blobs, name) == data

    assert all(await asyncio.gather(*(one(n) for n in range(50))))


# --- the folder's own -------------------------------------------------------------------------------------------------


async def test_a_folder_has_equal_content_once_and_none_that_nobody_has(tmp_path: Path) -> None:
    folder = await Folder.open(tmp_path / "artifacts")
    file, about = written(tmp_path / "x", b"shared")
    first, second = under(), under()
    await folder.put(first + "a", file, about)
    await folder.put(second + "b", file, about)
    (content_file,) = (tmp_path / "artifacts/objects").glob("*/*")
    assert content_file.name == about.sha256
    assert (content_file.stat().st_nlink, content_file.stat().st_mode & 0o777) == (3, 0o600)
    await folder.drop(first)
    assert content_file.exists()
    await folder.release(second + "b", about.sha256)
    assert not content_file.exists()
    assert await folder.jobs() == []
    await folder.close()


async def test_a_folder_on_a_disk_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    def no(*args: object, **kwargs: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no)
    folder = await Folder.open(tmp_path / "artifacts")
    name = under() + "a"
    await folder.put(name, *written(tmp_path / "x", b"copied"))
    assert await content(folder, name) == b"copied"
    await folder.drop(name.rpartition("/")[0] + "/")
    await folder.close()


@pytest.mark.parametrize("name", ["outputs/../x", "/etc/passwd", "x/y", "outputs//x", "outputs/a\0b", "outputs"])
async def test_a_folder_takes_no_key_that_leads_elsewhere(tmp_path: Path, name: str) -> None:
    from pilothouse.core.errors import BadRequest

    folder = await Folder.open(tmp_path / "artifacts")
    with pytest.raises(BadRequest, match="key"):
        await folder.put(name, *written(tmp_path / "x", b"x"))
    await folder.close()


async def test_a_folder_that_was_killed_in_the_middle_shows_nothing_half(tmp_path: Path) -> None:
    folder = await Folder.open(tmp_path / "artifacts")
    async with folder.stage() as stage:
        await stage.write(b"half")
        assert list((tmp_path / "artifacts/outputs").iterdir()) == []
        left = tmp_path / "artifacts/staging/left"
        left.write_bytes(b"half")
        await folder.close()
        again = await Folder.open(tmp_path / "artifacts")
        assert not left.exists()
        await again.close()


# --- the bucket's own, and what may happen to it ----------------------------------------------------------------------


def objects(house: House, prefix: str) -> list[str]:
    client: Any = house.client
    return [one["Key"] for one in client.list_objects_v2(Bucket=NAME, Prefix=prefix).get("Contents", [])]


async def test_a_bucket_is_asked_for_encryption_and_knows_the_sum(house: House, tmp_path: Path) -> None:
    house.relay.mode = ""
    s3, name = house.adapter("pre/"), under() + "a.txt"
    file, about = written(tmp_path / "x", b"secret")
    await s3.put(name, file, about)
    client: Any = house.client
    head = await asyncio.to_thread(client.head_object, Bucket=NAME, Key="pre/" + name, ChecksumMode="ENABLED")
    assert head["ServerSideEncryption"] == "AES256"
    assert (head["Metadata"]["sha256"], head["ContentType"]) == (about.sha256, "text/plain")
    assert s3.place(name) == (f"s3://{NAME}/pre/{name}", None)
    aws = S3(s3._bucket.__class__("b", region="eu-west-1"))
    assert aws.place("outputs/x y")[1] == (
        "https://eu-west-1.console.aws.amazon.com/s3/object/b?region=eu-west-1&prefix=outputs%2Fx%20y"
    )
    await s3.close()
    await aws.close()


@pytest.mark.parametrize("mode", ["unavailable", "denied", "silent", "gone"])
async def test_a_bucket_that_fails_says_so_and_takes_it_later(house: House, tmp_path: Path, mode: Any) -> None:
    s3, prefix = house.adapter(read_s=0.3), under()
    file, about = written(tmp_path / "x", b"kept")
    house.relay.mode = mode
    with pytest.raises(Unavailable) as refused:
        await s3.put(prefix + "a", file, about)
    assert "test" not in refused.value.message  # nothing of the credentials
    with pytest.raises(Unavailable):
        await s3.read(prefix + "a")
    house.relay.mode = ""
    assert objects(house, prefix) == []
    await s3.put(prefix + "a", file, about)
    assert await content(s3, prefix + "a") == b"kept"
    await s3.close()


async def test_an_upload_that_is_cut_leaves_nothing_half(house: House, tmp_path: Path) -> None:
    s3, prefix = house.adapter(), under()
    file, about = written(tmp_path / "x", b"y" * 12 * 1024 * 1024)
    house.relay.mode, house.relay.cut_after = "cut", 1_000_000
    with pytest.raises(Unavailable):
        await s3.put(prefix + "large", file, about)
    house.relay.mode = ""
    assert objects(house, prefix) == []
    await s3.put(prefix + "large", file, about)
    assert await s3.has(prefix + "large", about)
    await s3.close()


async def test_a_download_that_is_cut_is_no_short_file(house: House, tmp_path: Path) -> None:
    house.relay.mode = ""
    s3, name = house.adapter(), under() + "a"
    await s3.put(name, *written(tmp_path / "x", b"y" * 3_000_000))
    house.relay.mode, house.relay.cut_after = "cut", 1_000_000
    found = await s3.read(name)
    with pytest.raises(Unavailable):
        async for _ in found:
            pass
    found.close()
    house.relay.mode = ""
    await s3.close()


async def test_a_writer_that_is_cancelled_leaves_its_file_to_the_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = await Folder.open(tmp_path / "artifacts")
    inside, go, open_still = threading.Event(), threading.Event(), []
    real = os.write

    def slow(fd: int, data: bytes) -> int:
        if threading.current_thread().name.startswith("blobs") and not inside.is_set():
            inside.set()
            go.wait(5)
            open_still.append(os.path.exists(f"/proc/self/fd/{fd}"))
        return real(fd, data)

    async def write() -> None:
        async with local.stage() as stage:
            await stage.write(b"x")

    monkeypatch.setattr(os, "write", slow)
    task = asyncio.create_task(write())
    await asyncio.to_thread(inside.wait, 5)
    task.cancel()
    for _ in range(20):
        await asyncio.sleep(0)
    go.set()
    await asyncio.gather(task, return_exceptions=True)
    while not open_still:
        await asyncio.sleep(0.01)
    assert open_still == [True]
    assert list((tmp_path / "artifacts" / "staging").iterdir()) == []
    await local.close()


@pytest.mark.parametrize("names", [("a", "a/b"), ("a/b", "a"), ("a", "a/b/c")])
async def test_a_file_in_anothers_way_is_said_by_name(tmp_path: Path, names: tuple[str, str]) -> None:
    local = await Folder.open(tmp_path / "artifacts")
    first, second = (under("00000000-0000-4000-8000-000000000000") + name for name in names)
    await local.put(first, *written(tmp_path / "x", b"x"))
    with pytest.raises(BadRequest) as refused:
        await local.put(second, *written(tmp_path / "y", b"y"))
    assert refused.value.code == "name"
    assert await content(local, first) == b"x"
    assert list((tmp_path / "artifacts" / "staging").iterdir()) == []
    await local.close()
