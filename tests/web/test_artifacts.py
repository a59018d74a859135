"""Artifacts by HTTP: lists, downloads whole and in stretches, archives, links that are signed for a while."""

from __future__ import annotations

import asyncio
import hashlib
import io
import tarfile
import zipfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from pilothouse.core import link
from pilothouse.engine.ports import StoreFailed
from pilothouse.web import artifacts, ranges
from pilothouse.web.access import AccessLog
from pilothouse.web.streams import Streamed
from tests.web.serving import Served, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")
FILES = {"app.py": b"print('hello')\n", "sub/\u202enew\nline": b"x" * 300_000, "empty": b""}
ETAG = f'"{hashlib.sha256(FILES["app.py"]).hexdigest()}"'


class Lines:
    """An access log."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def info(self, event: str, /, **fields: Any) -> None:
        self.lines.append(f"{event} {fields}")


@dataclass
class House:
    served: Served
    http: httpx.AsyncClient
    session: str
    job: str
    log: Lines

    async def items(self) -> dict[str, dict[str, Any]]:
        return {one["path"]: one for one in (await self.http.get(f"/api/jobs/{self.job}/artifacts")).json()["items"]}

    async def url(self, path: str = "app.py") -> str:
        return str((await self.items())[path]["url"])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    root, log = tmp_path_factory.mktemp("workspaces"), Lines()
    async with serving(workspaces=root, log=AccessLog(log)) as served:
        key = await served.key()
        async with httpx.AsyncClient(base_url=served.url, headers={"x-api-key": key}, timeout=20) as http:
            session = (await http.post("/api/sessions", json={"agent": "echo"})).json()["id"]
            (root / session).mkdir()
            job = (await http.post(f"/api/sessions/{session}/jobs", json={"prompt": "x"})).json()["id"]
            while session not in served.sandboxes.runners:
                await asyncio.sleep(0.005)
            runner = served.sandboxes.runners[session]
            await runner.command(link.Prompt)
            runner.say(link.TurnStarted(turn_id=job))
            write(root / session)
            runner.end_turn(job)
            while (await http.get(f"/api/jobs/{job}")).json()["state"] != "done":
                await asyncio.sleep(0.01)
            yield House(served, http, session, job, log)


def write(folder: Path) -> None:
    (folder / "sub").mkdir()
    for name, data in FILES.items():
        (folder / name).write_bytes(data)


async def test_what_a_job_made_is_listed_whole(house: House) -> None:
    items = await house.items()
    assert set(items) == set(FILES)
    one = items["app.py"]
    assert one.items() >= {
        "sessionId": house.session, "jobId": house.job, "size": 15, "mediaType": "text/x-python", "state": "stored",
        "sha256": ETAG.strip('"'), "url": f"/api/artifacts/{one['id']}/content", "s3Url": None, "consoleUrl": None,
    }.items()  # fmt: skip
    assert (await house.http.get(f"/api/artifacts/{one['id']}")).json() == one
    pages: list[str] = []
    cursor = ""
    while True:
        page = (await house.http.get(f"/api/sessions/{house.session}/artifacts?limit=2&cursor={cursor}")).json()
        pages += [item["path"] for item in page["items"]]
        if page["next"] is None:
            break
        cursor = page["next"]
    assert sorted(pages) == sorted(FILES)


async def test_a_download_is_whole_and_never_shown_by_a_browser(house: House) -> None:
    for path, data in FILES.items():
        answer = await house.http.get(await house.url(path))
        assert (answer.status_code, answer.content) == (200, data)
        assert answer.headers["content-length"] == str(len(data))
    headers = (await house.http.get(await house.url("sub/\u202enew\nline"))).headers
    assert headers["content-disposition"] == "attachment; filename*=UTF-8''%E2%80%AEnew%0Aline"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-security-policy"] == "sandbox; default-src 'none'"
    assert headers["accept-ranges"] == "bytes"


@pytest.mark.parametrize(
    ("asked", "status", "stretch", "content"),
    [
        ("bytes=0-4", 206, "bytes 0-4/15", b"print"),
        ("bytes=6-", 206, "bytes 6-14/15", b"'hello')\n"),
        ("bytes=-2", 206, "bytes 13-14/15", b")\n"),
        ("bytes=-99", 206, "bytes 0-14/15", FILES["app.py"]),
        ("bytes=3-99", 206, "bytes 3-14/15", FILES["app.py"][3:]),
        ("bytes=15-", 416, "bytes */15", None),
        ("bytes=-0", 416, "bytes */15", None),
        ("bytes=5-2", 200, None, FILES["app.py"]),
        ("bytes=0-1,3-4", 200, None, FILES["app.py"]),
        ("lines=0-1", 200, None, FILES["app.py"]),
        ("bytes=x", 200, None, FILES["app.py"]),
        ("bytes=-", 200, None, FILES["app.py"]),
    ],
)
async def test_a_stretch(house: House, asked: str, status: int, stretch: str | None, content: bytes | None) -> None:
    answer = await house.http.get(await house.url(), headers={"range": asked})
    assert (answer.status_code, answer.headers.get("content-range")) == (status, stretch)
    if content is not None:
        assert (answer.content, answer.headers["etag"]) == (content, ETAG)
    else:
        assert answer.json()["code"] == "out_of_range"


async def test_a_stretch_of_what_it_was_is_the_whole_of_what_it_is(house: House) -> None:
    url, part = await house.url(), {"range": "bytes=0-1"}
    assert (await house.http.get(url, headers=part | {"if-range": ETAG})).status_code == 206
    assert (await house.http.get(url, headers=part | {"if-range": '"other"'})).content == FILES["app.py"]
    dated = part | {"if-range": "Sat, 21 Nov 2026 00:00:00 GMT"}
    assert (await house.http.get(url, headers=dated)).status_code == 200
    same = await house.http.get(url, headers={"if-none-match": f'"x", {ETAG}'})
    assert (same.status_code, same.content) == (304, b"")
    assert (await house.http.head(url)).headers["content-length"] == "15"
    with pytest.raises(ValueError, match="0"):
        ranges.asked("bytes=0-", None, "", 0)


async def test_archives_of_a_job(house: House) -> None:
    answer = await house.http.get(f"/api/jobs/{house.job}/artifacts/zip")
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        assert {one: archive.read(one) for one in archive.namelist()} == FILES
    answer = await house.http.get(f"/api/jobs/{house.job}/artifacts/tar")
    with tarfile.open(fileobj=io.BytesIO(answer.content), mode="r:gz") as packed:
        found = {one.name: packed.extractfile(one) for one in packed.getmembers() if one.isfile()}
        assert {name: file.read() for name, file in found.items() if file} == FILES


async def test_a_signed_link_opens_one_file_for_a_while(house: House) -> None:
    items = await house.items()
    mine, other = items["app.py"]["id"], items["empty"]["id"]
    made = await house.http.post(f"/api/artifacts/{mine}/links", json={"expiresInS": 60})
    url = made.json()["url"]
    assert (made.status_code, url.startswith(f"{house.served.url}/api/artifacts/{mine}/signed?")) == (201, True)
    before = len(house.log.lines)
    async with httpx.AsyncClient(timeout=20) as nobody:
        answer = await nobody.get(url)
        assert (answer.status_code, answer.content) == (200, FILES["app.py"])
        assert (await nobody.get(url, headers={"range": "bytes=0-0"})).content == b"p"
        signature = url.rpartition("=")[2]
        for wrong in (
            url.replace(mine, other),
            url[:-1] + ("A" if url[-1] != "A" else "B"),
            url.replace("expires=", "expires=1"),
            url.replace(signature, ""),
            url.replace(signature, "%00%ff"),
            url.partition("?")[0],
        ):
            assert (await nobody.get(wrong)).status_code == 404
    assert not [line for line in house.log.lines[before:] if signature in line or "expires" in line]
    assert len(house.log.lines) > before


async def test_what_a_link_opens_has_an_end(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = (await house.items())["app.py"]["id"]
    url = (await house.http.post(f"/api/artifacts/{mine}/links", json={"expiresInS": 60})).json()["url"]
    left: list[float | None] = []

    def streamed(*given: Any, **named: Any) -> Streamed:
        made = Streamed(*given, **named)
        left.append(made.left())
        return made

    monkeypatch.setattr(artifacts, "Streamed", streamed)
    async with httpx.AsyncClient(timeout=20) as nobody:
        assert (await nobody.get(url)).content == FILES["app.py"]
    assert left[0] is not None
    assert 0 < left[0] <= 60 + artifacts.LINK_READ_S


async def test_a_link_is_in_the_audit_before_anybody_has_it(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = (await house.items())["app.py"]["id"]
    made = await house.http.post(f"/api/artifacts/{mine}/links", json={})
    records = (await house.http.get("/api/audit?limit=200")).json()["items"]
    newest = max(records, key=lambda one: int(one["seq"]))
    assert newest["action"] == "artifact.link"
    assert newest["details"] == {"artifact": mine, "expires": made.json()["expiresAt"]}

    async def refuse(*ops: object) -> None:
        raise StoreFailed("disk full")

    monkeypatch.setattr(house.served.platform.kit.store, "commit", refuse)
    assert (await house.http.post(f"/api/artifacts/{mine}/links", json={})).status_code == 503


@pytest.mark.parametrize("body", [{"expiresInS": 0}, {"expiresInS": 901}, {"expiresInS": "x"}, {"more": 1}])
async def test_a_link_lives_no_longer_than_it_may(house: House, body: dict[str, Any]) -> None:
    mine = (await house.items())["app.py"]["id"]
    answer = await house.http.post(f"/api/artifacts/{mine}/links", json=body)
    assert (answer.status_code, next(iter(body)) in answer.json()["detail"]) == (400, True)


@pytest.mark.parametrize("name", ["x", "..%2f..%2fetc", "00000000-0000-4000-8000-000000000000", "a;b", "%00"])
async def test_ids_that_are_nobodys(house: House, name: str) -> None:
    for path in (f"/api/artifacts/{name}", f"/api/artifacts/{name}/content", f"/api/jobs/{name}/artifacts"):
        assert (await house.http.get(path)).status_code == 404
