"""A workspace whose agent means harm, read by desks of a real keeper: nothing from outside comes out, nothing hangs.

The canary could be read by the session's uid, by way of the session's own directory: what keeps it in is the look-up
alone, not somebody's permissions. `_naive` shows that a reader that checks first and opens then is fooled.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import socket
import stat
import subprocess
import sys
import zipfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from pilothouse.adapters.sandboxes import files as module
from pilothouse.core.errors import BadRequest, NotFound, TooLarge
from pilothouse.core.ids import SessionId
from pilothouse.engine.ports import Files
from pilothouse.web.zipped import zipped
from tests.adapters.sandboxes.workspaces import ROOT, House, hand_over, housed

pytestmark = pytest.mark.asyncio(loop_scope="module")

CANARY = b"canary: never to be seen from inside a session"
READS = 4000
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
"""A hundred thousand files take half a minute on a disk."""
NAIVE_MAX = 200_000


@dataclass
class Place:
    root: Path
    session: SessionId
    files: Files

    @property
    def canary(self) -> Path:
        return self.root.parent / "outside" / "canary"

    async def read(self, path: str) -> bytes:
        async with asyncio.timeout(10):  # nothing holds us
            _, content = await self.files.read(path)
            with contextlib.closing(content):
                return b"".join([chunk async for chunk in content])

    async def zip(self) -> dict[str, bytes]:
        async with asyncio.timeout(60):
            data = b"".join([part async for part in zipped(self.files, "")])
        assert CANARY not in data
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            assert archive.testzip() is None
            names = archive.namelist()
            assert len(names) == len(set(names))
            assert not [n for n in names if n.startswith("/") or ".." in n.split("/")]
            found = {name: archive.read(name) for name in names}
        assert not any(CANARY in content for content in found.values())
        return found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house() -> AsyncIterator[House]:
    async with housed(folder=MEMORY) as made:
        yield made


@pytest.fixture
def place(house: House) -> Place:
    session, root = house.session()
    made = Place(root, session, house.files(session))
    made.canary.parent.mkdir(mode=0o755)
    made.canary.write_bytes(CANARY)
    made.canary.chmod(0o644)
    (root / "plain.txt").write_bytes(b"plain")
    return made


async def test_links_out_lead_nowhere(place: Place) -> None:
    root, outside = place.root, place.canary.parent
    (root / "a" / "b").mkdir(parents=True)
    links = {
        "file": "../outside/canary",
        "directory": "../outside",
        "absolute": str(place.canary),
        "root": "/",
        "magic": "/proc/self/root",
        "cwd": "/proc/self/cwd/../outside/canary",
        "descriptor": "/proc/self/fd/3",
        "up": "..",
        "far": "../" * 60 + "etc/passwd",
        "a/b/nested": "../../../outside/canary",
        "chain": "chain2",
        "chain2": "a/../directory",
        "a/inside then out": "b/../../../outside/canary",
    }
    for name, target in links.items():
        (root / name).symlink_to(target)
    hand_over(root)
    assert place.canary.read_bytes() == (root / "file").read_bytes() == CANARY
    ways = [*links, "directory/canary", "root/etc/passwd", f"root{place.canary}", "up/outside/canary", "chain/canary"]
    ways += ["magic/etc/passwd", "a/../../outside/canary", "a/b/../../../outside/canary", "a/b/nested/../canary"]
    for way in ways:
        with pytest.raises((BadRequest, NotFound)):
            await place.read(way)
        with pytest.raises((BadRequest, NotFound)):
            await place.files.list(way)
    assert await place.zip() == {"plain.txt": b"plain"}
    assert outside.exists()


async def test_what_is_no_file_neither_hangs_nor_acts(place: Place) -> None:
    root = place.root
    os.mkfifo(root / "fifo")
    here = Path.cwd()
    with socket.socket(socket.AF_UNIX) as listening:
        os.chdir(root)
        try:
            listening.bind("socket")
        finally:
            os.chdir(here)
        listening.listen()
        names = ["fifo", "socket"]
        if ROOT:  # an agent cannot make them
            os.mknod(root / "zero", stat.S_IFCHR | 0o666, os.makedev(1, 5))
            os.mknod(root / "disk", stat.S_IFBLK | 0o666, os.makedev(7, 0))
            names += ["zero", "disk"]
        hand_over(root)
        for name in names:
            with pytest.raises(BadRequest, match=r"not a regular file|permissions"):
                await place.read(name)
            with pytest.raises(BadRequest, match="expected a folder"):
                await place.files.list(name)
        assert {e.name: e.kind for e in await place.files.list("")} == {
            "plain.txt": "file",
            **dict.fromkeys(names, "other"),
        }
        assert await place.zip() == {"plain.txt": b"plain"}
        listening.setblocking(False)
        with pytest.raises(BlockingIOError):
            listening.accept()


@pytest.mark.skipif(not ROOT, reason="without root all files of the server and its sessions have one owner")
async def test_a_hard_link_gives_no_more_than_its_file_allows(place: Place) -> None:
    place.canary.chmod(0o600)
    os.link(place.canary, place.root / "hard")
    with pytest.raises(BadRequest, match="permissions"):
        await place.read("hard")
    found = await place.zip()
    assert found.pop("_LEFT_OUT.txt") == b"hard: the file's permissions do not allow reading it\n"
    assert found == {"plain.txt": b"plain"}


async def test_files_and_folders_closed_to_their_own_owner(place: Place) -> None:
    root = place.root
    (root / "closed").write_bytes(b"x")
    for name in ("shut", "names only", "no entry"):
        (root / name).mkdir()
        (root / name / "inner").write_bytes(b"x")
    hand_over(root)
    for name, mode in (("closed", 0), ("shut", 0), ("names only", 0o400), ("no entry", 0o100)):
        (root / name).chmod(mode)
    for way in ("closed", "shut/inner", "names only/inner"):
        with pytest.raises(BadRequest, match="permissions"):
            await place.read(way)
    for way in ("shut", "no entry"):
        with pytest.raises(BadRequest, match="permissions"):
            await place.files.list(way)
    found = await place.zip()
    told = found.pop("_LEFT_OUT.txt").decode().splitlines()
    assert {line.partition(":")[0] for line in told} == {"closed", "shut", "names only", "no entry"}
    assert found == {"plain.txt": b"plain"}
    place.root.chmod(0)
    with pytest.raises(BadRequest, match="permissions"):
        await place.files.list("")
    place.root.chmod(0o700)


async def test_a_sparse_file_of_a_terabyte(place: Place) -> None:
    with (place.root / "vast").open("wb") as file:
        file.truncate(1 << 40)
    hand_over(place.root)
    assert {e.name: e.size for e in await place.files.list("")}["vast"] == 1 << 40
    with pytest.raises(TooLarge):
        await place.read("vast")
    found = await place.zip()
    assert found["_LEFT_OUT.txt"] == f"vast: the file has more than {module.SIZE_MAX} bytes\n".encode()


async def test_a_hundred_thousand_names(place: Place) -> None:
    many = place.root / "many"
    many.mkdir()
    fd = os.open(many, os.O_RDONLY)
    (place.root / "zz").mkdir()
    (place.root / "zz" / "seen").write_bytes(b"z")
    for n in range(100_000):
        os.mknod(f"{n}", 0o600, dir_fd=fd)
    os.close(fd)
    os.chown(many, *_owner(place))
    with pytest.raises(TooLarge, match=f"more than {module.ENTRIES_MAX} entries"):
        await place.files.list("many")
    assert [e.name for e in await place.files.list("zz")] == ["seen"], "the line is as good as before"
    found = await place.zip()
    assert b"more than 50000 entries" in found["_LEFT_OUT.txt"]
    assert found["zz/seen"] == b"z"


def _owner(place: Place) -> tuple[int, int]:
    status = place.root.stat()
    return status.st_uid, status.st_gid


async def test_folders_without_end(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    here = Path.cwd()
    os.chdir(place.root)
    for _ in range(3000):
        Path("d").mkdir()
        os.chdir("d")
    Path("deepest").write_bytes(b"x")
    os.chdir(here)
    subprocess.run(["chown", "-hR", f"{_owner(place)[0]}", str(place.root)], check=True)
    found = await place.zip()
    deep = "/".join(["d"] * (module.DEPTH_MAX + 1))
    assert found["_LEFT_OUT.txt"] == f"{deep}: a folder that cannot be read, or lies too deep\n".encode()
    assert [e.name for e in await place.files.list("d/" * 2000 + "d")] == ["d"]
    with pytest.raises(BadRequest):
        await place.read("d/" * 3000 + "deepest")
    for n in range(30):
        (place.root / f"empty{n}").mkdir()
    monkeypatch.setattr(module, "MET_MAX", 20)
    assert b"more than 20 names" in (await place.zip())["_LEFT_OUT.txt"]
    subprocess.run(["rm", "-rf", str(place.root / "d")], check=True)


async def test_names_of_all_kinds(place: Place) -> None:
    odd = [b"new\nline", b"\x1b[31mred", b"\x01\x7f", b"caf\xe9", b"\xff\xfe", b"\xed\xa0\x80", b" ", b"\\"]
    odd += ["\u202egpj.exe".encode(), "\ufffd".encode(), b"-rf", b"a" * 255, b"...", b"~", b"CON", b"_LEFT_OUT.txt"]
    fd = os.open(place.root, os.O_RDONLY)
    for name in odd:
        with os.fdopen(os.open(name, os.O_CREAT | os.O_WRONLY, 0o644, dir_fd=fd), "wb") as file:
            file.write(b"<" + name + b">")
    os.mkdir(b"d\xe9", dir_fd=fd)
    os.close(fd)
    hand_over(place.root)
    listed = [e.name for e in await place.files.list("")]
    assert sorted(listed) == sorted([*(n.decode("utf-8", "replace") for n in odd), "d\ufffd", "plain.txt"])
    readable = [name for name in odd if name.decode("utf-8", "replace").encode() == name]
    for name in readable:
        assert await place.read(name.decode()) == b"<" + name + b">"
    found = await place.zip()
    told = found.pop("__LEFT_OUT.txt").decode()
    assert found == {"plain.txt": b"plain"} | {name.decode(): b"<" + name + b">" for name in readable}
    assert len(told.splitlines()) == len(odd) - len(readable) + 1
    assert all(c.isprintable() for c in told.replace("\n", ""))


async def test_a_file_that_shrinks_and_one_that_grows_while_they_are_read(place: Place) -> None:
    size = 8 * module.CHUNK
    for name in ("shrinks", "grows"):
        (place.root / name).write_bytes(b"x" * size)
    hand_over(place.root)
    _, content = await place.files.read("shrinks")
    parts = aiter(content)
    got = len(await anext(parts))
    os.truncate(place.root / "shrinks", module.CHUNK // 2)
    got += sum([len(chunk) async for chunk in parts])
    assert got == module.CHUNK
    content.close()
    _, content = await place.files.read("grows")
    got = 0
    async for chunk in content:
        got += len(chunk)
        with (place.root / "grows").open("ab") as file:
            file.write(b"y" * module.CHUNK)
    assert got == size
    content.close()
    with _writing(place.root):
        for _ in range(3):
            found = await place.zip()
            assert {"grows", "plain.txt"} <= found.keys()


@contextlib.contextmanager
def _writing(root: Path) -> Iterator[None]:
    """Truncates and fills files, makes, moves and removes folders, as fast as it can."""
    code = (
        "import os, sys, shutil\nos.chdir(sys.argv[1])\nprint(flush=True)\nn = 0\n"
        "while True:\n"
        "    n += 1\n"
        "    try:\n"
        "        os.truncate('shrinks', n % 7 * 100_000)\n"
        "        os.makedirs('flux/a/b', exist_ok=True)\n"
        "        open('flux/a/b/file', 'w').write('x' * (n % 5000))\n"
        "        os.rename('flux', 'moved')\n"
        "        shutil.rmtree('moved')\n"
        "    except OSError:\n"
        "        pass\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(root)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    try:
        yield
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


async def test_a_folder_that_moves_away_during_a_walk(place: Place) -> None:
    for n in range(5):
        (place.root / f"d{n}").mkdir()
        (place.root / f"d{n}" / "file").write_bytes(b"x")
    (place.root / "first").mkdir()
    hand_over(place.root)
    met: list[tuple[str, str]] = []
    async for path, entry in place.files.walk(""):
        if not met:
            for n in range(5):
                (place.root / f"d{n}").rename(place.root.parent / "outside" / f"d{n}")
                (place.root / f"d{n}").symlink_to("../outside")
        met.append((path, entry.kind))
    assert ("plain.txt", "file") in met
    assert not [path for path, kind in met if path.endswith("canary") or (kind == "file" and "/" in path)]


@contextlib.contextmanager
def _swapping(root: Path) -> Iterator[None]:
    """RENAME_EXCHANGE between a real folder and a link out, as fast as the machine can."""
    code = (
        "import ctypes, os, sys\nos.chdir(sys.argv[1])\ncall = ctypes.CDLL(None).renameat2\nprint(flush=True)\n"
        "while True: call(-100, b'a', -100, b'b', 2)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(root)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    try:
        yield
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def _naive(root: Path, path: str) -> bytes:
    """What must not be done: check, then open."""
    try:
        if not (root / path).resolve().is_relative_to(root):
            return b""
        return (root / path).read_bytes()
    except OSError:
        return b""


async def test_a_folder_that_is_swapped_for_a_link_while_it_is_read(place: Place) -> None:
    root = place.root
    (root / "a").mkdir()
    (root / "a" / "canary").write_bytes(b"inside")
    hand_over(root)
    (root / "b").symlink_to("../outside")
    seen: dict[bytes, int] = {}
    with _swapping(root):
        assert any(_naive(root, "a/canary") == CANARY for _ in range(NAIVE_MAX)), "the race is a race"
        for _ in range(READS):
            try:
                what = await place.read("a/canary")
            except (BadRequest, NotFound):
                what = b"refused"
            seen[what] = seen.get(what, 0) + 1
        for _ in range(READS // 20):
            with contextlib.suppress(BadRequest, NotFound):
                assert [e.size for e in await place.files.list("a")] == [6]
            found = await place.zip()
            assert set(found.values()) - {b"plain"} <= {b"inside", found.get("_LEFT_OUT.txt", b"inside")}
    assert seen.keys() == {b"inside", b"refused"}, seen.keys()
