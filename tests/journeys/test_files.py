"""A workspace full of hostile names and things that are no files, seen over HTTP from the real server."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import os
import re
import socket
import urllib.parse
import zipfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from tests.journeys.program import Program, begin, installation

pytestmark = pytest.mark.asyncio(loop_scope="module")

NAMES = (
    "plain.txt",
    "two\nlines.txt",
    "quo\"te's.txt",
    "naïve-Ωμέγα-日本語-🚀.txt",
    "cod\u202etxt.exe",
    "l" * 200,
    "-rf",
    "--help",
    " lead and trail ",
    "semi;colon=1&b=2#frag?q%41+plus",
    "back\\slash",
    "tab\tbell\x07esc\x1b[31m",
    "\r\nX-Evil: 1",
    "..hidden",
    "...",
    "<script>alert(1)<script>",
    "%2e%2e",
)
MIB = 1024 * 1024
SPARSE = 5 * 1024**3
GROWTH_MAX = 64 * MIB
"""What a server may grow by while somebody downloads: buffers, not files."""


@dataclass
class House:
    program: Program
    session: str
    http: httpx.AsyncClient
    other: str
    contents: dict[str, bytes] = field(default_factory=dict)

    def workspace(self, session: str = "") -> Path:
        return self.program.own(session or self.session) / "workspace"

    async def get(self, what: str, path: str | None = None, session: str = "") -> httpx.Response:
        params = {} if path is None else {"path": path}
        return await self.http.get(f"/api/sessions/{session or self.session}/files{what}", params=params)

    def memory(self) -> int:
        assert self.program.process is not None
        status = Path(f"/proc/{self.program.process.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        assert found is not None
        return int(found[1]) * 1024

    def descriptors(self) -> int:
        """Files below a workspace that the server has open."""
        assert self.program.process is not None
        count = 0
        for entry in Path(f"/proc/{self.program.process.pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                count += "/workspace" in os.readlink(entry)
        return count


async def _session(program: Program) -> str:
    session, _, viewer = await begin(program, "say here", agent="echo")
    await viewer.until("complete")
    await viewer.close()
    return session


def _fill(root: Path, outside: Path) -> dict[str, bytes]:
    contents = {}
    for n, name in enumerate(NAMES):
        contents[name] = bytes([n, 0, 255, 13, 10]) * (n + 1)
        (root / name).write_bytes(contents[name])
        (root / "dir").mkdir(exist_ok=True)
        (root / "dir" / name).write_bytes(contents[name][::-1])
    contents |= {f"dir/{name}": contents[name][::-1] for name in NAMES}
    (root / os.fsdecode(b"latin-\xe9.txt")).write_bytes(b"latin")
    (root / "to-passwd").symlink_to("/etc/passwd")
    (root / "to-outside").symlink_to(outside)
    (root / "to-home").symlink_to("../home")
    (root / "to-root").symlink_to("/")
    (root / "to-self").symlink_to(".")
    (root / "to-plain").symlink_to("plain.txt")
    (root / "loop").symlink_to("loop")
    os.mkfifo(root / "fifo")
    with socket.socket(socket.AF_UNIX) as sock:
        here = Path.cwd()
        os.chdir(root)
        try:
            sock.bind("sock")
        finally:
            os.chdir(here)
    return contents


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house() -> AsyncIterator[House]:
    async with installation() as (program, _), program.http() as http:
        made = House(program, await _session(program), http, await _session(program))
        outside = program.home / "outside"
        outside.mkdir()
        (outside / "secret.txt").write_text("outside-secret")
        made.contents = _fill(made.workspace(), outside)
        (made.workspace(made.other) / "theirs.txt").write_text("theirs")
        yield made


async def test_every_name_is_listed_as_what_it_is(house: House) -> None:
    entries = {e["name"]: e for e in (await house.get("")).json()["entries"]}
    for name in NAMES:
        assert entries[name]["kind"] == "file", name
        assert entries[name]["size"] == len(house.contents[name])
    assert entries["latin-\ufffd.txt"]["kind"] == "file"
    kinds = {
        name: entries[name]["kind"] for name in ("dir", "to-passwd", "to-outside", "to-self", "fifo", "sock", "loop")
    }
    assert kinds == {
        "dir": "directory", "to-passwd": "link", "to-outside": "link", "to-self": "link", "fifo": "other",
        "sock": "other", "loop": "link",
    }  # fmt: skip
    inside = (await house.get("", "dir")).json()["entries"]
    assert {e["name"] for e in inside} == set(NAMES)


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
async def test_a_file_arrives_byte_by_byte_under_its_name(house: House, name: str) -> None:
    for path in (name, f"dir/{name}", f"to-self/{name}"):
        answer = await house.get("/content", path)
        assert answer.status_code == 200, answer.text
        assert answer.content == house.contents[path.removeprefix("to-self/")]
        kind, _, quoted = answer.headers["content-disposition"].partition("filename*=UTF-8''")
        assert kind == "attachment; "
        assert urllib.parse.unquote(quoted, errors="strict") == name
        assert "x-evil" not in answer.headers
        assert answer.headers["content-type"] == "application/octet-stream"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "sandbox" in answer.headers["content-security-policy"]


@pytest.mark.parametrize(
    "path",
    [
        "..", "../..", "../home", "dir/../../home", "../../../../etc/passwd", "/etc/passwd", "//etc/passwd", "/",
        "to-passwd", "to-outside/secret.txt", "to-home/.claude", "to-root/etc/passwd", "to-outside", "to-root",
        "../workspace-sibling", "plain.txt/..", "loop", "fifo", "sock", "a\0b", "\0", "plain.txt\0", "x" * 5000,
        "d/" * 2500, "nothing", "plain.txt/", "plain.txt/x", "dir", "to-self", "/proc/self/environ",
        "latin-\ufffd.txt", "%2e%2e/%2e%2e", "..%2f..", "C:\\windows", "file:///etc/passwd",
    ],
)  # fmt: skip
async def test_what_is_no_file_of_the_workspace_is_refused_in_words(house: House, path: str) -> None:
    async with asyncio.timeout(10):  # a FIFO holds nobody
        answer = await house.get("/content", path)
    assert answer.status_code in {400, 404}, (path[:50], answer.status_code)
    problem = answer.json()
    assert problem["detail"], problem
    assert answer.headers["content-type"] == "application/problem+json"
    for secret in ("root:", "outside-secret", str(house.program.home)):
        assert secret not in answer.text
    if path not in {"dir", "to-self"}:
        for what in ("", "/zip"):
            again = await house.get(what, path)
            assert again.status_code in {400, 404}, (what, path[:50], again.status_code)


@pytest.mark.parametrize("what", ["", "/content", "/zip"])
@pytest.mark.parametrize(
    "query",
    ["path=..", "path=%2e%2e", "path=%2e%2e%2f%2e%2e", "path=dir%00", "path=%ff%fe", "path=dir&path=..", "path=/"],
)
async def test_paths_as_they_stand_in_the_address(house: House, what: str, query: str) -> None:
    answer = await house.http.get(f"/api/sessions/{house.session}/files{what}?{query}")
    assert answer.status_code in {400, 404}, (answer.status_code, answer.text[:200])


async def test_other_sessions_are_reached_by_no_path_and_unknown_ones_are_not_there(house: House) -> None:
    assert (await house.get("/content", "theirs.txt", house.other)).content == b"theirs"
    for path in (f"../../{house.other}/workspace/theirs.txt", "theirs.txt"):
        assert (await house.get("/content", path)).status_code in {400, 404}
    for session in ("0" * 36, house.session.upper(), "..", f"{house.session}%2f..%2f{house.other}", "01a1-x"):
        for what in ("", "/content", "/zip"):
            answer = await house.http.get(f"/api/sessions/{session}/files{what}?path=theirs.txt")
            assert answer.status_code == 404, (session, what, answer.text[:200])
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        answer = await house.http.request(method, f"/api/sessions/{house.session}/files/content?path=plain.txt")
        assert answer.status_code == 405
    nobody = await house.http.get(
        f"/api/sessions/{house.session}/files/content?path=plain.txt", headers={"x-api-key": "ph_x"}
    )
    assert nobody.status_code == 401


async def test_the_zip_holds_every_file_and_follows_no_link(house: House) -> None:
    answer = await house.get("/zip")
    assert answer.status_code == 200
    assert answer.headers["content-disposition"].startswith("attachment; filename*=UTF-8''workspace-")
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        found = {info.filename: archive.read(info) for info in archive.infolist()}
    note = found.pop("_LEFT_OUT.txt").decode()
    assert note == "latin-\ufffd.txt: its name is not UTF-8\n", "what cannot be named is told"
    assert found == house.contents
    part = await house.get("/zip", "dir")
    with zipfile.ZipFile(io.BytesIO(part.content)) as archive:
        assert set(archive.namelist()) == {f"dir/{name}" for name in NAMES}


async def test_the_command_line_lists_hostile_names_on_one_line_each(house: House) -> None:
    status, out, err = await house.program.cli("files", house.session)
    assert status == 0, err
    assert len(out.splitlines()) == len((await house.get("")).json()["entries"])
    assert "\x1b" not in out
    assert "\u202e" not in out


async def test_the_command_line_brings_one_file(house: House, tmp_path: Path) -> None:
    name = next(name for name in NAMES if name.isascii() and name.isprintable())
    for path in (name, f"dir/{name}"):
        out = tmp_path / str(len(path))
        out.mkdir()
        status, _, err = await house.program.cli("files", house.session, path, "--out", str(out))
        assert status == 0, err
        assert [one.read_bytes() for one in out.iterdir()] == [house.contents[path]]
    status, _, err = await house.program.cli("files", house.session, "nothing", "--out", str(tmp_path))
    assert (status, err) == (1, "Error: no such file in the workspace\n")


async def test_a_large_sparse_file_can_be_left_at_any_moment(house: House) -> None:
    session = await _session(house.program)
    with (house.workspace(session) / "sparse").open("wb") as file:
        file.truncate(SPARSE)
        file.seek(3 * MIB)
        file.write(b"here")
    entries = (await house.get("", session=session)).json()["entries"]
    assert [(e["name"], e["size"]) for e in entries] == [("sparse", SPARSE)]
    before = house.memory()
    address = f"/api/sessions/{session}/files/content?path=sparse"
    got = hashlib.sha256()
    count = 0
    async with house.http.stream("GET", address) as answer:
        assert answer.status_code == 200
        assert house.descriptors() == 1
        async for chunk in answer.aiter_raw():
            got.update(chunk[: max(0, 4 * MIB - count)])
            count += len(chunk)
            if count >= 32 * MIB:
                break
    assert got.hexdigest() == hashlib.sha256(b"\0" * 3 * MIB + b"here" + b"\0" * (MIB - 4)).hexdigest()
    assert house.memory() - before < GROWTH_MAX
    idle = [await _reads_nothing(house, address) for _ in range(10)]
    idle += [await _reads_nothing(house, f"/api/sessions/{session}/files/zip") for _ in range(3)]
    await asyncio.sleep(1.5)
    assert house.memory() - before < GROWTH_MAX, "who does not read does not fill the memory"
    assert (await house.get("/content", "plain.txt")).status_code == 200, "and holds nobody up"
    for sock in idle:
        sock.close()
    for _ in range(20):  # gone before the first byte
        (await _reads_nothing(house, address)).close()
    async with asyncio.timeout(20):
        while house.descriptors():
            await asyncio.sleep(0.1)
    assert house.memory() - before < GROWTH_MAX


async def _reads_nothing(house: House, address: str) -> socket.socket:
    """A client that asks and then does not read."""
    url = urllib.parse.urlsplit(house.program.url)
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(sock, (url.hostname, url.port))
    head = f"GET {address} HTTP/1.1\r\nHost: {url.netloc}\r\nx-api-key: {house.program.key}\r\n\r\n"
    await loop.sock_sendall(sock, head.encode())
    return sock


async def test_a_file_that_is_too_large_for_a_zip_is_left_out_and_named(house: House) -> None:
    session = await _session(house.program)
    root = house.workspace(session)
    with (root / "exa").open("wb") as file:
        file.truncate(1 << 42)
    (root / "small.txt").write_text("small")
    assert (await house.get("/content", "exa", session)).status_code == 413
    answer = await house.get("/zip", session=session)
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.read("small.txt") == b"small"
        assert re.fullmatch(rb"exa: the file has more than \d+ bytes\n", archive.read("_LEFT_OUT.txt"))


async def test_five_thousand_files(house: House, tmp_path: Path) -> None:
    session = await _session(house.program)
    root = house.workspace(session)
    for n in range(5000):
        (root / f"d{n % 10}").mkdir(exist_ok=True)
        (root / f"d{n % 10}" / f"file {n}").write_bytes(b"%d" % n)
    (root / "flat").mkdir()
    for n in range(5000):
        (root / "flat" / str(n)).touch()
    entries: list[dict[str, Any]] = (await house.get("", "flat", session)).json()["entries"]
    assert sorted(e["name"] for e in entries) == sorted(map(str, range(5000)))
    out = tmp_path / "out"
    status, _, err = await house.program.cli("files", session, "--out", str(out))
    assert status == 0, err
    written = {str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*") if p.is_file()}
    assert written == {f"d{n % 10}/file {n}": b"%d" % n for n in range(5000)} | {f"flat/{n}": b"" for n in range(5000)}
