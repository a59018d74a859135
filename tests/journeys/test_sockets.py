"""Many clients and rude ones at the real server: slow, many, revoked, oversized; and its end in the middle."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from pilothouse.core.chat import PROMPT_MAX
from tests.journeys.program import Program, Viewer, begin, installation

pytestmark = pytest.mark.asyncio(loop_scope="module")

MIB = 1024 * 1024
FLOOD, PIECE = 5000, 4096
"""About 20 MB of events."""
PARALLEL = 20


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def program() -> AsyncIterator[Program]:
    async with installation(demo=False) as (made, _):
        yield made


async def subscribe(program: Program, session: str, after: int = 0, **options: Any) -> ClientConnection:
    socket = await connect(
        program.url.replace("http", "ws") + "/ws", additional_headers={"x-api-key": program.key}, **options
    )
    await socket.send(json.dumps({"type": "subscribe", "chatId": session, "after": after}))
    return socket


async def test_c30_who_does_not_read_harms_nobody_and_is_whole_by_its_cursor(program: Program) -> None:
    session, _, first = await begin(program, "say before", agent="echo")
    await first.until("complete")
    slow = await subscribe(program, session, max_queue=1, ping_interval=None, max_size=None)
    seen = [json.loads(await slow.recv()) for _ in range(3)]
    async with program.http() as http:
        assert (
            await http.post(
                f"/api/sessions/{session}/jobs",
                json={"prompt": f"flood {FLOOD} {PIECE}", "permissionMode": "acceptAll"},
            )
        ).status_code == 202
    _, _, other = await begin(program, "say meanwhile", agent="echo")
    assert (await other.until("complete"))["outcome"] == "succeeded", "another session goes on"
    await first.until("complete", 2)
    first.check_whole()
    assert sum(len(json.dumps(e)) for e in first.events) > 19 * MIB
    cursor = max((m["seq"] for m in seen if "seq" in m), default=0)
    with contextlib.suppress(ConnectionClosed, TimeoutError):
        async with asyncio.timeout(20):  # what was on its way to it
            while cursor < first.events[-1]["seq"]:
                event = json.loads(await slow.recv())
                if "seq" in event and event["type"] != "caught_up":
                    assert event["seq"] <= cursor + 1, "nothing is left out"
                    cursor = max(cursor, event["seq"])
    await slow.close()
    again = await subscribe(program, session, cursor // 2, max_size=None)
    rest: list[dict[str, Any]] = []
    async with asyncio.timeout(60):
        while not rest or rest[-1]["seq"] < first.events[-1]["seq"]:
            event = json.loads(await again.recv())
            assert event["type"] != "gap"
            if event["type"] != "caught_up" and "seq" in event:
                rest.append(event)
    assert rest == first.events[cursor // 2 :]
    await again.close()
    for viewer in (first, other):
        await viewer.close()


async def test_twenty_runs_at_once(program: Program) -> None:
    command = ("run", "--json", "--agent", "echo", "--permission-mode", "acceptAll")
    runs = [program.cli(*command, f"write f.txt number-{n}\nread f.txt") for n in range(PARALLEL)]
    for n, (status, out, err) in enumerate(await asyncio.gather(*runs)):
        assert status == 0, err
        events = [json.loads(line) for line in out.splitlines()]
        assert [e["seq"] for e in events] == list(range(1, len(events) + 1))
        assert events[-1]["outcome"] == "succeeded"
        read = [e["result"] for e in events if e["type"] == "tool_result"][-1]
        assert read.strip() == f"number-{n}", "each has a workspace of its own"


async def test_a_second_server_on_one_home_says_who_is_there(program: Program) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "pilothouse", "serve", "--port", "0", env=program.env,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 1
    assert program.process is not None
    for word in ("A server runs on", program.url, str(program.process.pid)):
        assert word in err.decode()
    assert "Traceback" not in (out + err).decode()
    async with program.http() as http:
        assert (await http.get("/readyz")).status_code == 200, "the first one goes on"
    status, out_text, _ = await program.cli("run", "--agent", "echo", "say here")
    assert status == 0
    assert "here" in out_text


async def rejected(socket: ClientConnection, **message: Any) -> dict[str, Any]:
    await socket.send(json.dumps(message))
    async with asyncio.timeout(20):
        while True:
            found: dict[str, Any] = json.loads(await socket.recv())
            if found["type"] == "rejected":
                return found


async def test_prompts_of_nothing_and_of_too_much(program: Program) -> None:
    big = "x" * (2 * MIB)
    async with program.http() as http:
        made = await http.post("/api/sessions", json={"agent": "echo"})
        session = made.json()["id"]
        jobs = f"/api/sessions/{session}/jobs"
        for prompt, status, code in (("", 400, "bad_request"), (" \n", 400, "bad_request"), (big, 400, "too_large")):
            answer = await http.post(jobs, json={"prompt": prompt})
            assert answer.status_code in {status, 413}, answer.text[:300]
            assert answer.json()["code"] == code
            assert answer.json()["detail"]
        whole = "y" * PROMPT_MAX
        assert (await http.post(jobs, json={"prompt": whole + "y"})).json()["code"] == "too_large"
        body = b'{"prompt": "' + b"z" * (9 * MIB) + b'"}'
        sent = await http.post(jobs, content=body, headers={"content-type": "application/json"})
        assert sent.status_code == 413
        assert (await http.get(jobs)).json()["items"] == []
        assert (await http.post(jobs, json={"prompt": whole})).status_code == 202, "the largest that is allowed"
    viewer = Viewer(program, session)
    assert (await viewer.until("complete"))["outcome"] == "succeeded"
    await viewer.close()
    async with await program.socket() as socket:
        for prompt, codes in (("", {"bad_message"}), ("\n", {"bad_message"}), (big, {"too_large"})):
            found = await rejected(socket, type="chat", chatId=session, message=prompt, clientMessageId="c1")
            assert found["code"] in codes, found
            assert found["message"]
        await socket.send(json.dumps({"type": "ping"}))
        assert json.loads(await socket.recv())["type"] == "pong", "the socket goes on"
        with pytest.raises(ConnectionClosed) as closed:  # already while sending, if the server is quick
            await socket.send(json.dumps({"type": "chat", "chatId": session, "message": "x" * (9 * MIB)}))
            await socket.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1009
    for prompt, word in (("", "empty"), (big, str(PROMPT_MAX))):
        status, _, err = await program.cli("run", "--agent", "echo", "-", input=prompt)
        assert status == 2, err
        assert word in err
    status, _, err = await program.cli("run", "--json", "--agent", "echo", "-", input="y" * PROMPT_MAX)
    assert status == 0, err


async def test_unknown_modes_tools_and_fields_are_refused_by_name(program: Program) -> None:
    bad: list[tuple[dict[str, Any], str]] = [
        ({"permissionMode": "yolo"}, "permissionMode"),
        ({"permissionMode": ""}, "permissionMode"),
        ({"allowedTools": ["Bash(npm test"]}, "allowedTools"),
        ({"allowedTools": ["../x"]}, "allowedTools"),
        ({"allowedTools": [""]}, "allowedTools"),
        ({"allowedTools": "Bash"}, "allowedTools"),
        ({"maxCostUsd": -1}, "maxCostUsd"),
        ({"maxTokens": 0}, "maxTokens"),
        ({"model": "a b\n"}, "model"),
        ({"bogus": 1}, "bogus"),
    ]
    async with program.http() as http, await program.socket() as socket:
        session = (await http.post("/api/sessions", json={"agent": "echo"})).json()["id"]
        for options, named in bad:
            answer = await http.post(f"/api/sessions/{session}/jobs", json={"prompt": "say hi", **options})
            assert answer.status_code == 400, (options, answer.text)
            assert named.lower() in answer.json()["detail"].lower().replace("_", ""), (options, answer.text)
            found = await rejected(socket, type="chat", chatId=session, message="say hi", **options)
            assert named.lower() in found["message"].lower().replace("_", ""), (options, found)
        assert (await http.get(f"/api/sessions/{session}/jobs")).json()["items"] == [], "nothing ran on a guess"
        assert (await http.post("/api/sessions", json={"agent": "nope"})).status_code == 400
        assert (await http.post("/api/sessions", json={"permissionMode": "yolo"})).status_code == 400
    status, _, err = await program.cli("run", "--agent", "echo", "--allowed-tools", "Bash(npm test", "x")
    assert status == 2, err
    assert "--allowed-tools" in err


async def test_a_key_that_is_revoked_ends_what_it_follows(program: Program) -> None:
    session, _, viewer = await begin(program, "sleep 1\nsay going on\nsleep 30", agent="echo")
    await viewer.until("stream")
    async with program.http() as http:
        made = (await http.post("/api/keys", json={"name": "short", "scopes": ["read"]})).json()
        key = {"x-api-key": made["key"]}
        socket = await connect(program.url.replace("http", "ws") + "/ws", additional_headers=key)
        await socket.send(json.dumps({"type": "subscribe", "chatId": session, "after": 0}))
        address = f"/api/sessions/{session}/events"
        async with (
            httpx.AsyncClient(base_url=program.url, headers=key, timeout=20) as other,
            other.stream("GET", address, headers={"accept": "text/event-stream"}) as stream,
        ):
            assert stream.status_code == 200
            lines = stream.aiter_lines()
            while not (await anext(lines)).startswith("data:"):
                pass
            assert (await http.delete(f"/api/keys/{made['id']}")).status_code == 204
            async with asyncio.timeout(20):
                rest = [line async for line in lines]  # a proper end, not a broken one
            assert not [line for line in rest if "complete" in line]
            assert (await other.get(address)).status_code == 401
        with pytest.raises(ConnectionClosed) as closed:
            async with asyncio.timeout(20):
                while True:
                    await socket.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 4401
        with pytest.raises(InvalidStatus) as refused:
            await connect(program.url.replace("http", "ws") + "/ws", additional_headers=key)
        assert refused.value.response.status_code == 401
        assert (await http.post(f"/api/sessions/{session}/stop")).status_code == 204
    await viewer.close()


async def test_sigterm_while_an_answer_streams(capsys: pytest.CaptureFixture[str]) -> None:
    async with installation() as (program, model):
        session, _, viewer = await begin(program, "demo: text 150\ndemo: hold mid\ndemo: text 150\ndemo: say the end")
        await model.held("mid")
        await viewer.until("stream")
        async with (
            program.http() as http,
            http.stream("GET", f"/api/sessions/{session}/events", headers={"accept": "text/event-stream"}) as stream,
        ):
            lines = stream.aiter_lines()
            while not (await anext(lines)).startswith("data:"):
                pass
            began = time.monotonic()
            assert program.process is not None
            program.process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(20):
                async for _ in lines:
                    pass
                await program.process.wait()
            ended = time.monotonic() - began
        assert program.process.returncode == 0, program.log.read_text()[-2000:]
        assert not (program.home / "ph" / "server.json").exists()
        await model.release("mid")  # the answer goes on without a server
        began = time.monotonic()
        await program.start()
        with capsys.disabled():
            sys.stdout.write(f"\n[the server ended in {ended:.2f} s, was back in {time.monotonic() - began:.2f} s]\n")
        done = await viewer.until("complete")
        assert done["outcome"] == "succeeded"
        await asyncio.sleep(0.3)
        viewer.check_whole()
        assert "".join(e["content"] for e in viewer.of("stream")).endswith("the end")
        assert len(viewer.of("complete")) == len(viewer.of("job_started")) == 1
        assert not viewer.of("stream_reset")
        assert (await model.calls())["calls"] == 1
        await viewer.close()
