"""Following: in order, once each, through cuts, restarts and holes, which are said."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest
from aiohttp import web

from pilothouse.client import Client, Gap, NoServer, NotFound, Unknown, follow
from pilothouse.core import events as ev

SESSION = "11111111-1111-4111-8111-111111111111"
JOB = "22222222-2222-4222-8222-222222222222"


class Script:
    """A server whose streams say what they are told, one after another."""

    def __init__(self) -> None:
        self.streams: list[list[bytes] | int] = []
        self.asked: list[dict[str, str]] = []
        self.epoch = "e1"
        self.job: dict[str, Any] = {
            "id": JOB, "sessionId": SESSION, "state": "running", "prompt": "x", "by": "me", "createdAt": "",
            "permissionMode": "manual", "totalCost": 0,
        }  # fmt: skip
        self.url = ""

    async def events(self, request: web.Request) -> web.StreamResponse:
        if "event-stream" not in request.headers.get("accept", ""):
            page = {"epoch": self.epoch, "oldest": 1, "head": 9, "gap": False, "events": []}
            return web.json_response(page)
        self.asked.append(dict(request.query))
        said = self.streams.pop(0)
        if isinstance(said, int):
            return web.json_response({"title": "no", "status": said, "code": "x", "detail": "no"}, status=said)
        answer = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await answer.prepare(request)
        await answer.write(b": hello\n\n")
        for part in said:
            if part == CUT:
                assert request.transport is not None
                request.transport.abort()
                return answer
            await answer.write(part)
        return answer

    async def of_job(self, request: web.Request) -> web.Response:
        return web.json_response(self.job)


CUT = b"cut"


def said(seq: int, type: str = "stream", **fields: Any) -> bytes:
    more = {"content": f"<{seq}>", "messageId": "m"} if type == "stream" else fields
    body = {"type": type, "sessionId": SESSION, "jobId": JOB, "at": "", **more, "seq": seq}
    return f"id: {seq}\ndata: {json.dumps(body)}\n\n".encode()


END = said(9, "complete", outcome="succeeded", result="", totalCost=0.0, durationMs=1, numTurns=1)


@pytest.fixture
async def script(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Script]:
    monkeypatch.setattr(follow, "PAUSE_MAX_S", 0.02)
    made = Script()
    app = web.Application()
    app.add_routes([
        web.get(f"/api/jobs/{JOB}/events", made.events), web.get(f"/api/sessions/{SESSION}/events", made.events),
        web.get(f"/api/jobs/{JOB}", made.of_job),
    ])  # fmt: skip
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()


async def heard(script: Script, after: int = 0) -> list[Any]:
    async with Client(script.url, "key") as client, asyncio.timeout(30):
        return [event async for event in client.jobs.follow(JOB, after)]


def short(events: list[Any]) -> list[Any]:
    return [(e.start, e.end) if isinstance(e, Gap) else e.seq for e in events]


async def test_it_comes_back_from_its_cursor(script: Script) -> None:
    """Cut in the middle of an event, between two, and at once; what comes twice is given once."""
    script.streams = [
        [said(3), said(4)[:20], CUT], [said(4), CUT], [CUT], [said(4), said(5)], [said(6) + END[:30], END[30:]],
    ]  # fmt: skip
    assert short(await heard(script, 2)) == [3, 4, 5, 6, 9]
    assert [asked["after"] for asked in script.asked] == ["2", "3", "4", "4", "5"]


async def test_what_is_gone_is_said(script: Script) -> None:
    script.streams = [[said(3), CUT], [b'event: gap\ndata: {"from":4,"to":7}\n\n', said(8), END]]
    assert short(await heard(script)) == [3, (4, 7), 8, 9]
    assert script.asked[1]["after"] == "3"


async def test_an_end_that_is_gone_is_one(script: Script) -> None:
    script.job |= {"state": "done", "lastSeq": 9}
    script.streams = [[said(3), b'event: gap\ndata: {"from":4,"to":9}\n\n']]
    assert short(await heard(script)) == [3, (4, 9)]


async def test_a_server_that_restarts_is_waited_for_and_one_that_refuses_is_not(script: Script) -> None:
    script.streams = [[said(3), CUT], 503, 503, [END]]
    assert short(await heard(script)) == [3, 9]
    script.streams = [[said(3), CUT], 404]
    with pytest.raises(NotFound):
        await heard(script)


async def test_a_server_that_stays_away_is_given_up(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "GIVE_UP_S", -1)
    script.streams = [[said(3), CUT], [CUT]]
    with pytest.raises(NoServer):
        await heard(script)


async def test_nobody_there_from_the_first_is_said_at_once() -> None:
    async with Client("http://127.0.0.1:1", "key") as client:
        with pytest.raises(NoServer, match="Connection refused"):
            await anext(client.jobs.follow(JOB))


async def test_events_of_a_newer_server_are_passed_on(script: Script) -> None:
    script.streams = [[said(3, "hologram", depth=3), END]]
    first, last = await heard(script)
    assert isinstance(first, Unknown)
    assert (first.type, first.seq, json.loads(first.raw)["depth"]) == ("hologram", 3, 3)
    assert isinstance(last, ev.Complete)


async def test_a_session_is_followed_in_one_log_and_another_is_said(script: Script) -> None:
    script.streams = [[said(3), CUT], [b'event: gap\ndata: {"from":1,"to":0}\n\n', said(1), CUT], [said(2)]]
    async with Client(script.url, "key") as client, asyncio.timeout(30):
        seen = []
        async with aclosing(client.sessions.follow(SESSION, 2)) as events:
            async for event in events:
                seen.append(event)
                script.epoch = "e2"
                if len(seen) == 4:
                    break
    assert short(seen) == [3, (1, 0), 1, 2]
    assert [asked["epoch"] for asked in script.asked] == ["e1", "e1", "e2"]
