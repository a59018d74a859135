"""`POST /invoke` and `POST /trigger` at a server on fakes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from pilothouse.adapters.stores.memory import MemoryStore
from pilothouse.core import link
from pilothouse.core.access import SCOPES
from pilothouse.core.errors import BadRequest, Unavailable
from pilothouse.core.ids import SessionId
from pilothouse.engine.ports import UsageRecord
from pilothouse.web import streams
from tests.engine.fakes import ScriptedRunner
from tests.web.answering import answering, echo
from tests.web.serving import Served, serving

SSE = {"accept": "text/event-stream"}


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with serving() as running, answering(running.sandboxes):
        yield running


@contextlib.asynccontextmanager
async def caller(served: Served) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"x-api-key": await served.key("run")}
    async with httpx.AsyncClient(base_url=served.url, headers=headers, timeout=20) as client:
        yield client


@pytest.fixture
async def http(served: Served) -> AsyncIterator[httpx.AsyncClient]:
    async with caller(served) as client:
        yield client


def events(text: str) -> list[dict[str, Any]]:
    return [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: ")]


# --- what is answered ---


async def test_the_answer_field_by_field(served: Served, http: httpx.AsyncClient) -> None:
    answer = await http.post("/invoke", json={"prompt": "hello", "agent": "echo"})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-accel-buffering"] == "no"
    [(_, job, _)] = served.models.admitted
    said = answer.json()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}", said["output"]["timestamp"])
    assert said == {
        "output": {
            "success": True, "result": "hello", "session_id": said["output"]["session_id"],
            "timestamp": said["output"]["timestamp"], "model": "demo-1",
            "metadata": {
                "duration_ms": 5, "num_turns": 1, "total_cost_usd": 0.0, "job_id": job, "uploaded_files": [],
            },
        }
    }  # fmt: skip
    assert list(said["output"]) == ["success", "result", "session_id", "timestamp", "model", "metadata"]


async def test_the_prompt_may_stand_inside_input_and_cost_and_model_are_told(
    served: Served, http: httpx.AsyncClient
) -> None:
    def charged(runner: ScriptedRunner, prompt: link.Prompt) -> None:
        session, job, _ = served.models.admitted[-1]
        assert job is not None
        served.models.totals[job] = UsageRecord("p", 1, session, job, "m-2", 200, 1, 2, 0, 0, 0.25)
        echo(runner, prompt)

    async with serving() as other, answering(other.sandboxes, charged):
        served, other.models.demo = other, False
        async with httpx.AsyncClient(base_url=other.url, headers={"x-api-key": await other.key("run")}) as client:
            given = {"input": {"prompt": "hi", "agent": "echo", "model": "m-2"}}
            output = (await client.post("/invoke", json=given)).json()["output"]
    assert (output["result"], output["model"], output["metadata"]["total_cost_usd"]) == ("hi", "m-2", 0.25)


async def test_the_demo_model_is_named_whatever_was_asked_for(served: Served, http: httpx.AsyncClient) -> None:
    output = (await http.post("/invoke", json={"prompt": "hi", "model": "claude-opus-4-5"})).json()["output"]
    job = await http.get(f"/api/jobs/{output['metadata']['job_id']}", headers={"x-api-key": await served.key("read")})
    assert (output["model"], job.json()["model"]) == ("demo-1", "demo-1")
    served.sandboxes.refuse = Unavailable("no room on this disk")
    never = (await http.post("/invoke", json={"prompt": "hi", "model": "claude-opus-4-5"})).json()["output"]
    assert (never["success"], never["model"]) == (False, "demo-1")


async def test_a_job_that_fails_is_200_with_the_reason(http: httpx.AsyncClient) -> None:
    answer = await http.post("/invoke", json={"prompt": "fail out of luck"})
    assert answer.status_code == 200
    output = answer.json()["output"]
    assert (output["success"], output["result"], output["metadata"]["uploaded_files"]) == (False, "out of luck", [])


async def test_an_agent_that_said_nothing_has_no_words_put_into_its_mouth(
    served: Served, http: httpx.AsyncClient
) -> None:
    waiting = asyncio.create_task(http.post("/invoke", json={"prompt": "wait"}))
    while not served.sandboxes.runners:
        await asyncio.sleep(0.002)
    [runner] = served.sandboxes.runners.values()
    runner.end_turn((await runner.command(link.Prompt)).id, result="")
    output = (await waiting).json()["output"]
    assert (output["success"], output["result"]) == (True, "")


async def test_a_sandbox_that_does_not_open_is_a_job_that_failed(served: Served, http: httpx.AsyncClient) -> None:
    served.sandboxes.refuse = Unavailable("no room on this disk")
    output = (await http.post("/invoke", json={"prompt": "x"})).json()["output"]
    assert (output["success"], output["result"], output["model"]) == (False, "no room on this disk", "demo-1")


@pytest.mark.parametrize("size", [99_999, 100_000, 150_000, 700_000])
async def test_a_long_result_comes_whole(http: httpx.AsyncClient, size: int) -> None:
    prompt = "é" + "0123456789" * (size // 10)
    output = (await http.post("/invoke", json={"prompt": prompt})).json()["output"]
    assert output["result"] == prompt


async def test_trigger_answers_at_once(served: Served, http: httpx.AsyncClient) -> None:
    answer = await http.post("/trigger", json={"prompt": "wait"})
    assert answer.status_code == 202
    said = answer.json()
    assert list(said) == ["jobId", "sessionId", "channel"]
    assert said["channel"] == f"/dialog/{said['jobId']}"
    job = (await http.get(f"/api/jobs/{said['jobId']}", headers={"x-api-key": await served.key("read")})).json()
    assert (job["sessionId"], job["prompt"], job["by"]) == (said["sessionId"], "wait", "key:test")


async def test_a_stream_ends_with_complete_and_numbers_its_events(http: httpx.AsyncClient) -> None:
    answer = await http.post("/invoke", json={"prompt": "hello"}, headers=SSE)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    said = events(answer.text)
    assert [e["type"] for e in said] == ["chat", "job_started", "stream", "complete"]
    assert [int(n) for n in re.findall(r"^id: (\d+)$", answer.text, re.MULTILINE)] == [e["seq"] for e in said]
    assert said[-1]["result"] == "hello"
    assert len({e["jobId"] for e in said}) == 1


# --- one session ---


async def test_a_session_goes_on_where_one_is_named(http: httpx.AsyncClient) -> None:
    first = (await http.post("/invoke", json={"prompt": "one"})).json()["output"]
    again = (await http.post("/invoke", json={"prompt": "two", "session_id": first["session_id"]})).json()["output"]
    assert again["session_id"] == first["session_id"]
    assert again["metadata"]["job_id"] != first["metadata"]["job_id"]


async def test_a_named_agent_is_not_another_one_than_the_session_s(served: Served, http: httpx.AsyncClient) -> None:
    made = (await http.post("/invoke", json={"prompt": "one", "agent": "echo"})).json()["output"]["session_id"]
    answer = await http.post("/invoke", json={"prompt": "x", "session_id": made, "agent": "claude"})
    assert (answer.status_code, answer.json()["detail"]) == (409, "agent: this session's agent is echo")


async def test_what_is_not_there_and_what_is_another_s_are_one_404(served: Served, http: httpx.AsyncClient) -> None:
    members = served.identity.members
    await members.make("red", None)
    await members.put("red", "ann", role="admin")
    foreign = (await served.platform.sessions.create(owner="ann", organisation="red")).live.record.id
    told = []
    for sid in (foreign, "01a1fca5-a696-7da8-a592-78b242187567"):
        answer = await http.post("/invoke", json={"prompt": "x", "session_id": sid})
        told.append((answer.status_code, answer.json()))
    assert told[0] == told[1]
    assert (told[0][0], told[0][1]["detail"][:12]) == (404, "session_id: ")


async def test_a_hundred_at_once_in_one_session_are_queued_or_refused_and_none_is_mixed(
    served: Served, http: httpx.AsyncClient
) -> None:
    sid = (await served.platform.sessions.create(owner="local", agent="echo")).live.record.id
    answers = await asyncio.gather(
        *(http.post("/invoke", json={"prompt": f"p{n}", "session_id": sid}) for n in range(100))
    )
    done = {n: a.json()["output"] for n, a in enumerate(answers) if a.status_code == 200}
    assert len(done) >= served.platform.kit.limits.queue_max
    assert {n: o["result"] for n, o in done.items()} == {n: f"p{n}" for n in done}
    assert len({o["metadata"]["job_id"] for o in done.values()}) == len(done)
    refused = [a for a in answers if a.status_code != 200]
    assert {(a.status_code, a.json()["code"]) for a in refused} <= {(409, "conflict")}
    assert len(done) + len(refused) == 100
    jobs = await served.platform.kit.store.scan("job", owner=sid)
    assert len(jobs) == len(done)  # what was refused left nothing


async def test_fifty_at_once_lose_and_mix_nothing(served: Served, http: httpx.AsyncClient) -> None:
    answers = await asyncio.gather(*(http.post("/invoke", json={"prompt": f"p{n}"}) for n in range(50)))
    outputs = [a.json()["output"] for a in answers]
    assert [o["result"] for o in outputs] == [f"p{n}" for n in range(50)]
    assert len({o["session_id"] for o in outputs}) == len({o["metadata"]["job_id"] for o in outputs}) == 50


# --- while it takes long ---


async def test_a_long_call_is_kept_alive_and_is_json_all_the_same(
    served: Served, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "SILENCE_S", 0.005)
    async with http.stream("POST", "/invoke", json={"prompt": "wait"}) as answer:
        assert answer.status_code == 200
        chunks = answer.aiter_raw()
        assert [await anext(chunks) for _ in range(3)] == [b" "] * 3
        await finish(served)
        rest = b"".join([chunk async for chunk in chunks])
    assert json.loads(rest)["output"]["result"] == "late"


async def test_a_silent_stream_is_kept_alive_by_comments(
    served: Served, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "SILENCE_S", 0.005)
    async with http.stream("POST", "/invoke", json={"prompt": "wait"}, headers=SSE) as answer:
        text, waits = "", True
        async for chunk in answer.aiter_text():
            text += chunk
            if waits and text.count("\n:\n\n") >= 3:  # two may come at once
                waits = False
                await finish(served)
    assert events(text)[-1]["type"] == "complete"


async def finish(served: Served) -> None:
    """Ends the job that waits."""
    [session] = served.sandboxes.runners
    runner = served.sandboxes.runners[session]
    turn = await runner.command(link.Prompt)
    runner.end_turn(turn.id, result="late")


@pytest.mark.parametrize("headers", [{}, SSE])
@pytest.mark.parametrize("cancel", [False, True])
async def test_who_leaves_ends_the_job_only_if_that_was_asked_for(
    served: Served, http: httpx.AsyncClient, cancel: bool, headers: dict[str, str]
) -> None:
    given = {"prompt": "wait", "cancel_on_disconnect": cancel}
    async with http.stream("POST", "/invoke", json=given, headers=headers):
        while not served.sandboxes.runners:
            await asyncio.sleep(0.002)
        [session] = served.sandboxes.runners
        runner = served.sandboxes.runners[session]
        await runner.command(link.Prompt)
    here = served.platform.sessions.here(session)
    assert here is not None
    while here.jobs.awaited:
        await asyncio.sleep(0.002)
    if cancel:
        await runner.command(link.Interrupt)
        while here.jobs.busy:
            await asyncio.sleep(0.002)
    else:
        assert here.jobs.busy
        await finish(served)


async def test_a_job_that_nobody_waits_for_is_not_ended_by_who_leaves(served: Served, http: httpx.AsyncClient) -> None:
    """`/trigger` takes the same request as `/invoke`."""
    given = {"prompt": "wait", "cancel_on_disconnect": True, "job_id": "one"}
    async with httpx.AsyncClient(base_url=served.url, headers=http.headers) as gone:
        assert (await gone.post("/trigger", json=given)).status_code == 202
    while not served.sandboxes.runners:
        await asyncio.sleep(0.002)
    await finish(served)
    output = (await http.post("/invoke", json=given)).json()["output"]
    assert (output["success"], output["result"]) == (True, "late")


async def test_while_another_waits_the_job_goes_on(served: Served, http: httpx.AsyncClient) -> None:
    given = {"prompt": "wait", "cancel_on_disconnect": True, "job_id": "one"}
    staying = asyncio.create_task(http.post("/invoke", json=given))
    async with http.stream("POST", "/invoke", json=given):
        while not served.sandboxes.runners:
            await asyncio.sleep(0.002)
        [session] = served.sandboxes.runners
        here = served.platform.sessions.here(session)
        assert here is not None
        while sum(here.jobs.awaited.values()) < 2:
            await asyncio.sleep(0.002)
    while sum(here.jobs.awaited.values()) > 1:
        await asyncio.sleep(0.002)
    await finish(served)
    assert (await staying).json()["output"]["result"] == "late"


@pytest.mark.parametrize("headers", [{}, SSE])
async def test_a_key_that_is_revoked_in_mid_stream_ends_the_answer_and_not_the_job(
    served: Served, headers: dict[str, str]
) -> None:
    record, text = await served.identity.keys.create("gone", ("run",))
    async with (
        httpx.AsyncClient(base_url=served.url, headers={"x-api-key": text}, timeout=20) as client,
        client.stream("POST", "/invoke", json={"prompt": "wait"}, headers=headers) as answer,
    ):
        while not served.sandboxes.runners:
            await asyncio.sleep(0.002)
        [session] = served.sandboxes.runners
        await served.identity.keys.revoke(record.id)
        if headers:
            assert "complete" not in "".join([chunk async for chunk in answer.aiter_text()])
        else:
            with pytest.raises(httpx.RemoteProtocolError):  # half an answer does not look like a whole one
                await answer.aread()
        assert (await client.post("/invoke", json={"prompt": "x"})).status_code == 401
    here = served.platform.sessions.here(session)
    assert here is not None
    assert here.jobs.busy


async def test_a_session_that_is_deleted_ends_the_call(served: Served, http: httpx.AsyncClient) -> None:
    waiting = asyncio.create_task(http.post("/invoke", json={"prompt": "wait"}))
    while not served.sandboxes.runners:
        await asyncio.sleep(0.002)
    [session] = served.sandboxes.runners
    await served.sandboxes.runners[session].command(link.Prompt)
    await http.delete(f"/api/sessions/{session}", headers={"x-api-key": await served.key(*SCOPES)})
    output = (await waiting).json()["output"]
    assert (output["success"], output["result"]) == (False, "The session was deleted.")


async def test_a_session_that_is_deleted_ends_the_stream_with_complete(served: Served, http: httpx.AsyncClient) -> None:
    """Or its reader would come back and begin the job anew."""
    given = {"prompt": "wait", "job_id": "mine"}
    waiting = asyncio.create_task(http.post("/invoke", json=given, headers=SSE))
    while not served.sandboxes.runners:
        await asyncio.sleep(0.002)
    [session] = served.sandboxes.runners
    await served.sandboxes.runners[session].command(link.Prompt)
    await http.delete(f"/api/sessions/{session}", headers={"x-api-key": await served.key(*SCOPES)})
    found = events((await waiting).text)
    last = found[-1]
    assert (last["type"], last["outcome"], last["reason"]) == ("complete", "interrupted", "stopped")
    assert (last["jobId"], last["sessionId"], last["result"]) == ("mine", session, "The session was deleted.")
    assert [e["seq"] for e in found] == sorted({e["seq"] for e in found})
    assert sum(e["type"] == "complete" for e in found) == 1
    again = (await http.post("/trigger", json=given)).json()
    assert (again["jobId"], again["sessionId"] == session) == ("mine", False), "its name went with the session"
    gone = await http.post("/trigger", json={"prompt": "wait", "session_id": session})
    assert (gone.status_code, gone.json()["code"]) == (404, "not_found")


async def test_a_number_that_the_log_has_not_reached_is_of_another_log(http: httpx.AsyncClient) -> None:
    given = {"prompt": "hello", "job_id": "one"}
    first = events((await http.post("/invoke", json=given, headers=SSE)).text)
    again = await asyncio.wait_for(http.post("/invoke", json=given, headers={**SSE, "last-event-id": "9999"}), 10)
    assert events(again.text) == first


async def test_a_stream_of_a_job_goes_on_after_what_was_read_last(served: Served, http: httpx.AsyncClient) -> None:
    said = events((await http.post("/invoke", json={"prompt": "hello", "job_id": "one"}, headers=SSE)).text)
    read = {**SSE, "x-api-key": await served.key("read")}
    for last, rest in ((said[1]["seq"], said[2:]), (9999, said), ("x", said)):
        told = await http.get("/api/jobs/one/events?after=0", headers={**read, "last-event-id": str(last)})
        assert [e["seq"] for e in events(told.text)] == [e["seq"] for e in rest]


async def test_an_end_that_is_no_longer_kept_is_a_gap_in_the_stream_and_told_in_the_document() -> None:
    store, given = MemoryStore(), {"prompt": "hello", "job_id": "one"}
    async with serving(store=store) as before, answering(before.sandboxes), caller(before) as http:
        first = (await http.post("/invoke", json=given)).json()["output"]
        more = {"prompt": "more", "session_id": first["session_id"]}
        [*_, last] = events((await http.post("/invoke", json=more, headers=SSE)).text)
    await store.trim(SessionId(first["session_id"]), last["seq"])
    async with serving(store=store) as after, caller(after) as http:  # its memory has nothing of it
        said = (await http.post("/invoke", json=given, headers=SSE)).text
        assert (await http.post("/invoke", json=given)).json()["output"] == first
    opening, gap = said.strip().rsplit("\n\n", 1)
    assert "data:" not in opening
    assert gap.startswith("event: gap\n")
    assert events(gap)[0]["to"] == last["seq"] - 1


async def test_a_number_of_another_log_does_not_hold_up_a_job_that_runs(
    served: Served, http: httpx.AsyncClient
) -> None:
    given = {"prompt": "wait", "job_id": "one"}
    await http.post("/trigger", json=given)
    while not served.sandboxes.runners:
        await asyncio.sleep(0.002)
    waiting = asyncio.create_task(http.post("/invoke", json=given, headers={**SSE, "last-event-id": "9999"}))
    [session] = served.sandboxes.runners
    here = served.platform.sessions.here(session)
    assert here is not None
    while not here.jobs.awaited:
        await asyncio.sleep(0.002)
    await finish(served)
    assert events((await asyncio.wait_for(waiting, 10)).text)[-1]["type"] == "complete"


async def test_the_document_comes_whole_where_the_proxy_is_away(
    served: Served, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away() -> None:
        raise Unavailable("The proxy is away.")

    served.sandboxes.refuse = BadRequest("no room")
    given = {"prompt": "hello", "job_id": "one"}
    await http.post("/invoke", json=given)
    monkeypatch.setattr(served.models, "state", away)
    output = (await http.post("/invoke", json=given)).json()["output"]
    assert (output["result"], output["model"]) == ("no room", "")
