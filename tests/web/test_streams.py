"""Event streams end: with the job, with the credential, with the server, with the client; and they beat in between."""

from __future__ import annotations

import asyncio
import contextlib
import json
import zipfile
from collections.abc import AsyncIterator
from io import BytesIO

import httpx
import pytest
import websockets

from pilothouse.core import events as ev
from pilothouse.core.errors import BadRequest, NotFound
from pilothouse.engine.ports import Content, FileEntry
from pilothouse.web.work import _moment
from pilothouse.web.zipped import zipped
from tests.engine.fakes import LOCAL
from tests.web.serving import Served, serving


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with serving() as running:
        yield running


@contextlib.asynccontextmanager
async def open_stream(served: Served, key: str, path: str) -> AsyncIterator[httpx.Response]:
    headers = {"x-api-key": key, "accept": "text/event-stream"}
    async with (
        httpx.AsyncClient(base_url=served.url, timeout=10) as client,
        client.stream("GET", path, headers=headers) as answer,
    ):
        yield answer


async def test_a_stream_ends_when_its_key_is_revoked_or_the_server_goes(served: Served) -> None:
    session = await served.platform.sessions.create(owner="local", agent="echo")
    path = f"/api/sessions/{session.live.record.id}/events"
    record, key = await served.identity.keys.create("x", ("read",))
    for end in (lambda: served.identity.keys.revoke(record.id), None):
        async with open_stream(served, key, path) as answer:
            parts = answer.aiter_bytes()
            assert b"pilothouse" in await anext(parts)
            if end is not None:
                await end()
                _, key = await served.identity.keys.create("y", ("read",))
            else:
                served.platform.streams.all_away()
            async for _ in parts:
                pass
    assert not served.platform.streams._open


async def test_a_stream_of_a_job_that_is_done_ends_wherever_its_reader_stands(served: Served) -> None:
    session = await served.platform.sessions.create(owner="local", agent="echo")
    job = await session.jobs.submit(served.platform.sessions.job(session, "x", "t"), client_message_id=None)
    while not (runner := served.sandboxes.runners.get(session.live.record.id)) or not runner.commands:
        await asyncio.sleep(0.01)
    runner.end_turn(job.id)
    async for row in served.platform.kit.log.follow(session.live.record.id):
        if isinstance(ev.decode(row.body), ev.Complete):  # type: ignore[union-attr]
            break
    key = await served.key("read")
    for after in (0, session.live.head - 1, session.live.head):
        async with open_stream(served, key, f"/api/jobs/{job.id}/events?after={after}") as answer:
            text = (await answer.aread()).decode()
        assert text.count('"complete"') == (after < session.live.head)


async def test_a_cursor_of_another_epoch_starts_from_the_oldest_whatever_else_is_said(served: Served) -> None:
    session = await served.platform.sessions.create(owner="local", agent="echo")
    key = await served.key("read")
    path = f"/api/sessions/{session.live.record.id}/events?epoch=another"
    async with httpx.AsyncClient(base_url=served.url, timeout=10) as client:
        headers = {"x-api-key": key, "accept": "text/event-stream", "last-event-id": "1"}
        async with client.stream("GET", path, headers=headers) as answer:
            text = b""
            async for part in answer.aiter_bytes():
                text += part
                if b"id: 1" in text:
                    break
    assert b"event: gap" in text


# --- sockets --------------------------------------------------------------------------------------------------------


async def test_a_chat_that_is_refused_makes_no_session_and_a_resend_makes_no_second(served: Served) -> None:
    key = await served.key()
    async with websockets.connect(served.socket_url, additional_headers={"x-api-key": key}) as ws:
        for bad in ({"allowedTools": ["Nope"]}, {"permissionMode": "yolo"}, {"steer": True}, {"model": "a b"}):
            await ws.send(json.dumps({"type": "chat", "message": "hi", "agent": "echo", **bad}))
            assert json.loads(await ws.recv())["type"] == "rejected"
        assert await served.platform.sessions.shelf.page(LOCAL, "", 10) == []
        for _ in range(2):
            await ws.send(json.dumps({"type": "chat", "message": "hi", "agent": "echo", "clientMessageId": "c1"}))
        await ws.send(json.dumps({"type": "ping"}))
        while json.loads(await ws.recv())["type"] != "pong":
            pass
    assert len(await served.platform.sessions.shelf.page(LOCAL, "", 10)) == 1


async def test_a_viewer_whose_following_fails_is_closed_and_not_left_in_silence(served: Served) -> None:
    session = await served.platform.sessions.create(owner="local", agent="echo")
    key = await served.key()
    async with websockets.connect(served.socket_url, additional_headers={"x-api-key": key}) as ws:

        async def broken(_: object) -> int:
            raise RuntimeError("no one foresaw this")

        served.platform.kit.log.oldest = broken  # type: ignore[method-assign, assignment]
        await ws.send(json.dumps({"type": "subscribe", "chatId": session.live.record.id}))
        with pytest.raises(websockets.ConnectionClosed) as told:
            await asyncio.wait_for(ws.recv(), 20)
        assert told.value.rcvd is not None
        assert told.value.rcvd.code == 1011


async def test_a_door_that_cannot_answer_says_so(served: Served) -> None:
    async def broken(*_: object, **__: object) -> None:
        raise RuntimeError("no one foresaw this")

    served.identity.keys.by_secret = broken  # type: ignore[method-assign, assignment]
    with pytest.raises(websockets.InvalidStatus) as told:
        await asyncio.wait_for(websockets.connect(served.socket_url, additional_headers={"x-api-key": "x"}), 20)
    assert told.value.response.status_code == 500


@pytest.mark.parametrize("twice", ["host", "origin"])
async def test_a_host_or_origin_that_comes_twice_is_refused(served: Served, twice: str) -> None:
    key = await served.key()
    ours = f"127.0.0.1:{served.port}" if twice == "host" else served.url
    lines = [f"{twice}: {ours}", f"{twice}: {ours}", f"x-api-key: {key}", "connection: close"]
    if twice == "origin":
        lines.append(f"host: 127.0.0.1:{served.port}")
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    writer.write(("GET /api/me HTTP/1.1\r\n" + "\r\n".join(lines) + "\r\n\r\n").encode())
    status = (await reader.readline()).split()[1]
    writer.close()
    assert status in {b"400", b"403", b"421"}


# --- files ----------------------------------------------------------------------------------------------------------


class Chunks:
    def __init__(self, data: bytes) -> None:
        self._left = [data]

    def __aiter__(self) -> Chunks:
        return self

    async def __anext__(self) -> bytes:
        if not self._left:
            raise StopAsyncIteration
        return self._left.pop()

    def close(self) -> None:
        self._left.clear()


class Odd:
    """A folder whose files have times that no calendar has, vanish, grow, and change their kind."""

    async def list(self, path: str) -> list[FileEntry]:
        return []

    async def read(self, path: str) -> tuple[FileEntry, Content]:
        if path == "gone":
            raise NotFound
        if path == "pipe":
            raise BadRequest("path: not a regular file")

        times = {"old": -1e18, "new": 1e18, "2200": 7_258_118_400.0}
        return FileEntry(path, "file", 0, times[path]), Chunks(path.encode())

    async def walk(self, path: str) -> AsyncIterator[tuple[str, FileEntry]]:
        for name, mtime in (("old", -1e18), ("new", 1e18), ("2200", 7_258_118_400.0), ("gone", 0.0), ("pipe", 0.0)):
            yield name, FileEntry(name, "file", 1, mtime)


async def test_a_zip_of_odd_files_is_whole_and_names_what_is_left_out() -> None:
    data = b"".join([part async for part in zipped(Odd(), "")])
    with zipfile.ZipFile(BytesIO(data)) as archive:
        assert archive.testzip() is None
        assert set(archive.namelist()) == {"old", "new", "2200", "_LEFT_OUT.txt"}
        left_out = archive.read("_LEFT_OUT.txt").splitlines()
        assert [line.split(b":")[0] for line in left_out] == [b"gone", b"pipe"]


def test_a_time_that_no_calendar_has_is_still_shown() -> None:
    from pilothouse.engine import records

    for mtime in (-1e300, -1.0, 0.0, 1e300, float("inf"), float("nan")):
        assert records.stamp(_moment(FileEntry("x", "file", 0, mtime)))


async def test_what_was_read_from_the_store_before_it_was_counted_is_no_other_log(served: Served) -> None:
    """A commit is in the store a moment before the session counts it; whoever read it then asks for what follows."""
    session = await served.platform.sessions.create(owner="local", agent="echo")
    key, head = await served.key("read"), session.live.head
    session.live.head -= 1
    try:
        async with httpx.AsyncClient(base_url=served.url, headers={"x-api-key": key}, timeout=10) as client:
            path = f"/api/sessions/{session.live.record.id}/events"
            page = (await client.get(f"{path}?after={head}")).json()
            assert (page["gap"], page["events"]) == (False, [])
            assert (await client.get(f"{path}?after={head + 1}")).json()["gap"] is True
        async with websockets.connect(served.socket_url, additional_headers={"x-api-key": key}) as ws:
            said = {"type": "subscribe", "chatId": session.live.record.id, "after": head}
            await ws.send(json.dumps(said))
            while (heard := json.loads(await ws.recv()))["type"] != "subscribed":
                pass
        assert (heard["gap"], heard["head"]) == (False, head)
        headers = {"x-api-key": key, "accept": "text/event-stream", "last-event-id": str(head)}
        async with (
            httpx.AsyncClient(base_url=served.url, headers=headers, timeout=10) as client,
            client.stream("GET", path) as answer,
        ):
            await served.platform.sessions.change(session, title="another")
            async for first in answer.aiter_lines():
                if first and not first.startswith((":", "retry:")):
                    break
        assert first == f"id: {head + 1}"
    finally:
        session.live.head = max(session.live.head, head)
