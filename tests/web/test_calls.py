"""The same wish again starts nothing: names of jobs, keys of requests, and what stands for whom."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from pilothouse.adapters.stores.memory import MemoryStore
from pilothouse.core import link
from pilothouse.engine import dialogs
from tests.web.answering import answering
from tests.web.serving import Served, serving
from tests.web.test_dialogs import until
from tests.web.test_headless import SSE, events
from tests.web.test_realtime import client

UUID = "01a1fca5-a696-7da8-a592-78b242187567"


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with serving() as running, answering(running.sandboxes):
        yield running


@pytest.fixture
async def http(served: Served) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"x-api-key": await served.key("run")}
    async with httpx.AsyncClient(base_url=served.url, headers=headers, timeout=20) as client:
        yield client


async def key_of(served: Served, organisation: str, account: str, role: str = "operator") -> dict[str, str]:
    members = served.identity.members
    if organisation not in {o.id for o in members.organisations()}:
        await members.make(organisation, None)
    await members.put(organisation, account, role=role)
    _, text = await served.identity.keys.create("k", ("read", "run"), account=account, organisation=organisation)
    return {"x-api-key": text}


async def jobs(served: Served) -> int:
    return len(await served.platform.kit.store.scan("job"))


@pytest.mark.parametrize("name", ["build-7", "A", "9" * 50, UUID])
async def test_a_name_of_the_caller_s_is_echoed_everywhere(served: Served, http: httpx.AsyncClient, name: str) -> None:
    said = (await http.post("/trigger", json={"prompt": "x", "job_id": name})).json()
    assert (said["jobId"], said["channel"]) == (name, f"/dialog/{name}")
    again = await http.post("/trigger", json={"prompt": "another", "job_id": name})
    assert (again.status_code, again.json()) == (202, said)
    output = (await http.post("/invoke", json={"prompt": "x", "job_id": name})).json()["output"]
    assert (output["metadata"]["job_id"], output["session_id"], output["result"]) == (name, said["sessionId"], "x")
    stream = await http.post("/invoke", json={"prompt": "x", "job_id": name}, headers=SSE)
    assert {e["jobId"] for e in events(stream.text)} == {name}
    assert await jobs(served) == 1
    read = {"x-api-key": await served.key("read")}
    by_name = (await http.get(f"/api/jobs/{name}", headers=read)).json()
    assert by_name["name"] == name
    assert (await http.get(f"/api/jobs/{by_name['id']}", headers=read)).json() == by_name
    part = (await http.get(f"/api/jobs/{name}/events", headers=read)).json()["events"]
    assert [e["type"] for e in part] == ["chat", "job_started", "stream", "complete"]


async def test_a_stream_goes_on_where_it_was_left(http: httpx.AsyncClient) -> None:
    given = {"prompt": "x", "job_id": "one"}
    whole = events((await http.post("/invoke", json=given, headers=SSE)).text)
    last = {"last-event-id": str(whole[1]["seq"])}
    assert events((await http.post("/invoke", json=given, headers=SSE | last)).text) == whole[2:]
    last = {"last-event-id": str(whole[-1]["seq"])}
    assert events((await http.post("/invoke", json=given, headers=SSE | last)).text) == []


async def test_whoever_chose_the_name_subscribes_before_and_misses_nothing(
    served: Served, http: httpx.AsyncClient
) -> None:
    async with client(served) as one:
        assert (await one.subscribe("ahead", "/dialog/build-7"))["type"] == "subscribe_success"
        said = (await http.post("/trigger", json={"prompt": "hello", "job_id": "build-7"})).json()
        ahead = await until(one, "complete")
        assert [e["type"] for e in ahead] == ["chat", "job_started", "stream", "complete"]
        assert {e["jobId"] for e in ahead} == {"build-7"}
        assert [e["text"] for e in ahead if e["type"] == "stream"] == ["hello"]
        await one.subscribe("after", "dialog/build-7", after=0)
        assert await until(one, "complete") == ahead
        job = (await http.get("/api/jobs/build-7", headers={"x-api-key": await served.key("read")})).json()
        await one.subscribe("byid", f"dialog/{job['id']}", after=0)
        by_id = await until(one, "complete")
        assert [{**e, "jobId": "build-7"} for e in by_id] == ahead
        assert {e["jobId"] for e in by_id} == {job["id"]}
        assert said["sessionId"] == job["sessionId"]


async def test_both_channels_of_a_job_are_told_as_it_goes_on(served: Served, http: httpx.AsyncClient) -> None:
    async with client(served) as one:
        said = (await http.post("/trigger", json={"prompt": "wait", "job_id": "build-7"})).json()
        while not served.sandboxes.runners:
            await asyncio.sleep(0.002)
        runner = served.sandboxes.runners[said["sessionId"]]
        turn = await runner.command(link.Prompt)
        await one.subscribe("name", "dialog/build-7")
        await one.subscribe("id", f"dialog/{turn.id}")
        runner.end_turn(turn.id)
        frames = [await one.hear() for _ in range(2)]
        assert {(f["id"], f["event"].count("build-7"), f["event"].count(turn.id)) for f in frames} == {
            ("name", 1, 0), ("id", 0, 1),
        }  # fmt: skip


async def test_a_pending_subscription_is_for_those_who_may_see_the_job(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann, bob = await key_of(served, "red", "ann"), await key_of(served, "red", "bob", "viewer")
    blue = await key_of(served, "blue", "ann")
    async with (
        client(served) as nobody,  # of another organisation: time is not up for it
        httpx.AsyncClient(base_url=served.url, headers=ann, timeout=20) as http,
    ):
        await nobody.subscribe("here", "dialog/deploy")
        for given in (bob, blue):
            nobody.given = given | {"host": f"127.0.0.1:{served.port}"}
            said = await nobody.subscribe(given["x-api-key"][:9], "dialog/deploy")
            assert said["type"] == "subscribe_success"
        await http.post("/trigger", json={"prompt": "x", "job_id": "deploy"})
        heard = await nobody.hear()
        assert heard["id"] == bob["x-api-key"][:9]  # of ann's organisation, and her session is not private
        assert served.platform.dialogs is not None
        assert len(served.platform.dialogs._pending["deploy"]) == 2
    assert dialogs.PENDING_S == 600


async def test_a_name_is_one_owner_s_in_its_organisation_and_no_other_organisation_s_business(served: Served) -> None:
    ann, bob = await key_of(served, "red", "ann"), await key_of(served, "red", "bob")
    blue = await key_of(served, "blue", "ann")
    async with httpx.AsyncClient(base_url=served.url, timeout=20) as http:
        for door in ("/trigger", "/invoke"):
            given = {"prompt": "x", "job_id": f"deploy{door[1:]}"}
            first = await http.post(door, json=given, headers=ann)
            taken = await http.post(door, json=given, headers=bob)
            assert (taken.status_code, taken.json()["detail"]) == (409, "job_id: somebody else has used it.")
            elsewhere = await http.post(door, json=given, headers=blue)
            assert elsewhere.status_code == first.status_code
        assert await jobs(served) == 4
        mine = {o: (await http.get("/api/jobs/deploytrigger", headers=h)).json()["id"] for o, h in
                (("red", ann), ("blue", blue))}  # fmt: skip
        assert mine["red"] != mine["blue"]


async def test_a_name_is_not_another_job_s_id(served: Served, http: httpx.AsyncClient) -> None:
    await http.post("/trigger", json={"prompt": "x"})
    [(id, _)] = await served.platform.kit.store.scan("job")
    answer = await http.post("/trigger", json={"prompt": "x", "job_id": id})
    assert (answer.status_code, answer.json()["detail"]) == (409, "job_id: it is another job's.")


@pytest.mark.parametrize("header", ["idempotency-key", "amz-sdk-invocation-id"])
@pytest.mark.parametrize("door", ["/invoke", "/trigger"])
async def test_a_key_of_the_request_starts_one_job(
    served: Served, http: httpx.AsyncClient, header: str, door: str
) -> None:
    ask = {"json": {"prompt": "x"}, "headers": {header: "k-1"}}
    answers: list[httpx.Response] = await asyncio.gather(*(http.post(door, **ask) for _ in range(10)))  # type: ignore[arg-type]
    bodies = [a.content.strip() for a in answers]
    assert len(set(bodies)) == 1
    assert await jobs(served) == 1
    assert len(await served.platform.kit.store.scan("session")) == 1
    other = await http.post(door, json={"prompt": "y"}, headers={header: "k-1"})
    assert (other.status_code, other.json()["detail"]) == (409, f"{header}: it was used for another request.")
    inside = await http.post(door, json={"input": {"prompt": "x"}}, headers={header: "k-1"})
    assert inside.content.strip() == bodies[0]  # the same wish
    bob = await key_of(served, "default", "bob")
    assert (await http.post(door, json={"prompt": "y"}, headers={header: "k-1"} | bob)).is_success
    assert await jobs(served) == 2


async def test_one_who_tries_again_at_the_instant_of_the_end_is_told_the_end(
    served: Served, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask: dict[str, Any] = {"json": {"prompt": "wait"}, "headers": {"idempotency-key": "k"}}
    said = (await http.post("/trigger", **ask)).json()
    session = await served.platform.sessions.found(said["sessionId"])
    assert session is not None
    while (job := session.live.current) is None:
        await asyncio.sleep(0.002)
    runner = served.sandboxes.runners[said["sessionId"]]
    store = served.platform.kit.store
    read = store.get

    async def late(kind: str, id: str) -> bytes | None:
        found = await read(kind, id)
        if kind == "job" and job.state == "running":
            runner.end_turn(job.id, result="the end")  # what was read says that it runs
            await session.jobs.end_of(job)
        return found

    monkeypatch.setattr(store, "get", late)
    output = (await http.post("/invoke", **ask)).json()["output"]
    assert (job.state, output["success"], output["result"]) == ("done", True, "the end")
    monkeypatch.undo()
    assert await jobs(served) == 1


@pytest.mark.parametrize("given", [["", ""], [""], ["x" * 201], ["ü"], ["a", "b"]])
async def test_a_key_that_is_none_is_named(served: Served, http: httpx.AsyncClient, given: list[str]) -> None:
    headers = [(b"idempotency-key", one.encode()) for one in given] + [(b"x-api-key", (await served.key()).encode())]
    if given == ["ü"]:
        headers[0] = (b"idempotency-key", b"\x81")
    async with httpx.AsyncClient(base_url=served.url) as client:
        answer = await client.post("/trigger", json={"prompt": "x"}, headers=headers)
    assert answer.status_code == 400
    assert answer.json()["detail"].startswith("idempotency-key: ")
    assert await jobs(served) == 0


async def test_names_and_keys_hold_over_a_restart_and_the_end_is_told() -> None:
    """Also of a server that was killed between the answer and its reader."""
    store = MemoryStore()
    given: dict[str, Any] = {"prompt": "x", "job_id": "one"}
    told: list[Any] = []
    async with serving(store=store) as served, answering(served.sandboxes):
        key = {"x-api-key": await served.key("run")}
        async with httpx.AsyncClient(base_url=served.url, headers=key) as http:
            told.append((await http.post("/invoke", json=given)).json())
            keyed = (await http.post("/invoke", json={"prompt": "y"}, headers={"idempotency-key": "k"})).json()
    async with serving(store=store) as served, httpx.AsyncClient(base_url=served.url, headers=key) as http:
        assert (await http.post("/invoke", json=given)).json() == told[0]
        again = await http.post("/invoke", json={"prompt": "y"}, headers={"idempotency-key": "k"})
        assert again.json() == keyed
        assert served.sandboxes.started == []


async def test_a_name_goes_with_its_session(served: Served, http: httpx.AsyncClient) -> None:
    said = (await http.post("/trigger", json={"prompt": "x", "job_id": "one"})).json()
    session = await served.platform.sessions.found(said["sessionId"])
    assert session is not None
    await served.platform.sessions.delete(session)
    again = (await http.post("/trigger", json={"prompt": "x", "job_id": "one"})).json()
    assert again["sessionId"] != said["sessionId"]


async def test_what_is_refused_after_all_leaves_no_session_and_no_name(served: Served, http: httpx.AsyncClient) -> None:
    from pilothouse.core.access import SCOPES, Principal
    from pilothouse.engine.audit import SERVER
    from pilothouse.engine.secrets import of_account

    local = Principal("person", "local", "local", "local", frozenset(SCOPES), "")
    await served.platform.secrets.set(of_account(local), "SPARE", "a spare value", who=SERVER)
    given = {"prompt": "print a spare value", "job_id": "one"}
    answer = await http.post("/trigger", json=given)
    assert (answer.status_code, answer.json()["detail"].partition(":")[0]) == (400, "prompt")
    assert await served.platform.kit.store.scan("session") == []
    assert await served.platform.kit.store.scan("call") == []
    assert (await http.post("/trigger", json=given | {"prompt": "x"})).status_code == 202
