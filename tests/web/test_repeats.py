"""`Idempotency-Key` at every change of the API: sent twice it is made once."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from pilothouse.adapters.stores.memory import MemoryStore
from pilothouse.adapters.stores.sqlite import SqliteStore
from pilothouse.core import link
from pilothouse.core.access import Scope
from pilothouse.core.bucket import Rates
from pilothouse.engine.clock import SystemClock
from pilothouse.engine.gate import Gate
from pilothouse.engine.ports import Clock, EventStore
from pilothouse.engine.repeats import KEY_S, KIND
from pilothouse.web import openapi
from pilothouse.web.guard import COOKIE
from pilothouse.web.routes import TABLE, Entry
from pilothouse.web.wire import BODY_MAX
from tests.engine.fakes import some_turns
from tests.web.answering import answering
from tests.web.serving import Served, serving
from tests.web.test_matrix import BODIES, OF_SERVER, name
from tests.web.world import World

KEYED = [entry for entry in TABLE if entry.keyed]
CHANGES = {"POST", "PUT", "PATCH", "DELETE"}
ELSEWHERE = {
    "POST /event",  # `key`, by `engine.once`
    "POST /invoke",  # by `engine.calls`
    "POST /trigger",
    "POST /api/signin",  # a ticket is used up, and who asks is nobody yet
    "POST /api/signout",
}
SECRET = {"key", "secret", "secretAccessKey", "sessionToken", "token", "ticket", "link", "url", "value", "password"}
ORIGIN = {"PATCH /api/webhooks/{id}": {"url"}}
"""Of an address the origin alone is shown."""
ANEW = {"POST /api/artifacts/{id}/links", "POST /api/tickets"}
"""Made again each time, which does no harm: it is a link for minutes."""


def test_every_change_takes_one() -> None:
    assert {name(e) for e in TABLE if e.method in CHANGES} - {name(e) for e in KEYED} == ELSEWHERE
    paths = openapi.document(TABLE)["paths"]
    for entry in KEYED:
        told = paths[entry.path.replace(":path}", "}")][entry.method.lower()]
        assert [p["name"] for p in told["parameters"] if p["in"] == "header"] == ["Idempotency-Key"], name(entry)
        assert {"400", "409", "413"} <= set(told["responses"]), name(entry)
        done = [answer for status, answer in told["responses"].items() if status.startswith("2")]
        replayed = bool(entry.kept or entry.now)
        assert [("Idempotent-Replayed" in answer["headers"]) for answer in done] == [replayed] * len(done), name(entry)


def shown(schema: Any, components: dict[str, Any], seen: frozenset[str] = frozenset()) -> set[str]:
    """Every field's name."""
    if isinstance(schema, list):
        return {field for one in schema for field in shown(one, components, seen)}
    if not isinstance(schema, dict):
        return set()
    ref = schema.get("$ref", "")
    if ref and ref not in seen:
        return shown(components[ref.rpartition("/")[2]], components, seen | {ref})
    return {*schema.get("properties", {})} | {f for one in schema.values() for f in shown(one, components, seen)}


@pytest.mark.parametrize("entry", KEYED, ids=name)
def test_an_answer_that_shows_a_secret_is_not_kept(entry: Entry) -> None:
    document = openapi.document(TABLE)
    told = document["paths"][entry.path.replace(":path}", "}")][entry.method.lower()]["responses"]
    answers = [said.get("content", {}) for status, said in told.items() if status.startswith("2")]
    fields = shown(answers, document["components"]["schemas"])
    assert not (entry.kept and fields & SECRET - ORIGIN.get(name(entry), set())), fields & SECRET


@contextlib.asynccontextmanager
async def world() -> AsyncIterator[World]:
    async with serving() as served:
        made = World(served)
        await made.settle()
        await made.furnish()
        yield made


def everything(world: World) -> dict[Any, Any]:
    """The ledger, without what says who has asked."""
    store = world.served.platform.kit.store
    assert isinstance(store, MemoryStore)
    return {key: doc for key, doc in store._docs.items() if key[0] not in {KIND, "signing"}}


@pytest.mark.parametrize("entry", KEYED, ids=name)
async def test_the_same_again_changes_nothing(entry: Entry) -> None:
    async with world() as house:
        headers = house.by_key("red", "admin")
        if name(entry) in OF_SERVER:
            headers = {"x-api-key": await house.served.key()}
        headers |= {"idempotency-key": "7f0d"}
        async with httpx.AsyncClient(base_url=house.served.url, headers=headers, timeout=20) as http:
            address, body = house.address(entry.path), BODIES[name(entry)]
            first = await http.request(entry.method, address, json=body)
            assert 200 <= first.status_code < 300, first.text
            assert "idempotent-replayed" not in first.headers
            await some_turns()
            before = everything(house)
            again = await http.request(entry.method, address, json=body)
            if name(entry) in ANEW:
                before = everything(house)
            assert everything(house) == before
            if entry.kept:
                assert (again.status_code, again.content) == (first.status_code, first.content)
                assert again.headers["idempotent-replayed"] == "true"
                assert again.headers.get("content-type") == first.headers.get("content-type")
            elif entry.again:
                assert again.status_code == first.status_code
                assert again.headers.get("idempotent-replayed") == ("true" if entry.now else None)
            else:
                assert (again.status_code, again.json()["code"], again.json()["reason"]) == (409, "conflict", "made")
                assert "shows a secret once" in again.json()["detail"]
            more = (json.dumps(body).encode() if body is not None else b"") + b" "
            as_json = {"content-type": "application/json"}
            other = await http.request(entry.method, address, content=more, headers=as_json)
            assert (other.status_code, other.json()["code"], other.json()["reason"]) == (409, "conflict", "other")
            assert other.json()["detail"].startswith("idempotency-key: it was used for another request")
            if entry.method != "DELETE":
                other = await http.request(entry.method, address, json={"another": 1})
                assert other.status_code == 409
            assert everything(house) == before


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with serving() as running:
        yield running


async def client(served: Served, *scopes: Scope, key: str = "one") -> httpx.AsyncClient:
    headers = {"x-api-key": await served.key(*scopes), "idempotency-key": key}
    return httpx.AsyncClient(base_url=served.url, headers=headers, timeout=20)


@pytest.mark.parametrize("key", ["", "x" * 201, "a\x80b", "tab\tbed", "\xa0"])
async def test_a_key_that_is_none_is_named(served: Served, key: str) -> None:
    async with await client(served) as http:
        del http.headers["idempotency-key"]
        answer = await http.post(
            "/api/sessions",
            json={"agent": "echo"},
            headers=[*http.headers.raw, (b"idempotency-key", key.encode("latin-1"))],
        )
        assert answer.status_code == 400
        assert answer.json()["detail"] == "idempotency-key: 1 to 200 printable characters"
        assert (await http.get("/api/sessions")).json()["items"] == []


async def test_two_keys_are_one_too_many(served: Served) -> None:
    async with await client(served) as http:
        twice = [*http.headers.raw, (b"idempotency-key", b"two")]
        answer = await http.post("/api/sessions", json={"agent": "echo"}, headers=twice)
        assert (answer.status_code, answer.json()["detail"]) == (400, "idempotency-key: given twice")
        assert (await http.get("/api/sessions")).json()["items"] == []


async def test_a_body_where_none_is_wanted_is_bounded_too(served: Served) -> None:
    async with await client(served) as http:
        sid = (await http.post("/api/sessions", json={"agent": "echo"})).json()["id"]
        http.headers["idempotency-key"] = "two"
        large = await http.request("DELETE", f"/api/sessions/{sid}", content=bytes(BODY_MAX + 1))
        assert (large.status_code, large.json()["code"]) == (413, "too_large")

        async def endless() -> AsyncIterator[bytes]:
            for _ in range(64):
                yield bytes(1024 * 1024)

        large = await http.request("DELETE", f"/api/sessions/{sid}", content=endless())
        assert large.status_code == 413
        assert (await http.request("DELETE", f"/api/sessions/{sid}", content=b"x" * BODY_MAX)).status_code == 204


async def test_who_leaves_within_the_body_of_a_delete_has_not_deleted(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    async with await client(served) as http:
        sid = (await http.post("/api/sessions", json={"agent": "echo"})).json()["id"]
        _, writer = await asyncio.open_connection("127.0.0.1", served.port)
        head = f"DELETE /api/sessions/{sid} HTTP/1.1\r\nhost: 127.0.0.1:{served.port}\r\ncontent-length: 9\r\n"
        writer.write(f"{head}x-api-key: {http.headers['x-api-key']}\r\nidempotency-key: two\r\n\r\nabc".encode())
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.close()
        await writer.wait_closed()
        await asyncio.sleep(0.05)
        assert (await http.get(f"/api/sessions/{sid}")).status_code == 200
    assert [record for record in caplog.records if record.exc_info] == []


async def test_thirty_at_once_make_one_session(served: Served) -> None:
    async with await client(served) as http:
        answers = await asyncio.gather(*(http.post("/api/sessions", json={"agent": "echo"}) for _ in range(30)))
        assert {answer.status_code for answer in answers} == {201}
        assert len({answer.json()["id"] for answer in answers}) == 1
        assert sum("idempotent-replayed" in answer.headers for answer in answers) == 29
        assert len((await http.get("/api/sessions")).json()["items"]) == 1


async def test_what_was_refused_is_tried_anew(served: Served) -> None:
    async with await client(served) as http:
        assert (await http.post("/api/sessions", json={"agent": "nobody"})).status_code == 400
        assert (await http.post("/api/sessions", json={"agent": "echo"})).status_code == 201


async def test_who_has_lost_the_right_is_not_told_again(served: Served) -> None:
    house = World(served)
    await house.settle()
    await house.furnish()
    address = house.address("/api/sessions/{id}")
    headers = house.by_key("red", "operator") | {"idempotency-key": "one"}
    async with httpx.AsyncClient(base_url=served.url, headers=headers, timeout=20) as http:
        assert (await http.patch(address, json={"title": "new"})).json()["title"] == "new"
        assert (await http.patch(address, json={"title": "new"})).headers["idempotent-replayed"] == "true"
        owner = house.by_key("red", "owner")
        async with httpx.AsyncClient(base_url=served.url, headers=owner, timeout=20) as other:
            assert (await other.patch(address, json={"private": True})).status_code == 200
        refused = await http.patch(address, json={"title": "new"})
        assert refused.status_code == 404
        assert b"new" not in refused.content


async def test_an_answer_is_not_for_a_credential_that_may_less(served: Served) -> None:
    async with await client(served) as http:
        sid = (await http.post("/api/sessions", json={"agent": "echo"})).json()["id"]
        less = {"x-api-key": await served.key("read", "run"), "idempotency-key": "two"}
        for address, body in (
            (f"/api/sessions/{sid}", {"title": "new"}),
            (f"/api/sessions/{sid}/egress", {"policy": "off"}),
        ):
            method = "PATCH" if "title" in body else "PUT"
            http.headers["idempotency-key"] = less["idempotency-key"] = method
            assert (await http.request(method, address, json=body)).status_code == 200
            refused = await http.request(method, address, json=body, headers=less)
            assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
            assert "idempotent-replayed" in (await http.request(method, address, json=body)).headers


async def test_a_notifier_is_shown_to_no_key_without_the_scope(served: Served) -> None:
    await served.identity.members.put("default", "ann", role="viewer")
    ticket, _ = await served.identity.ticket("ann", "default")
    cookie = await served.identity.redeem(ticket)
    person = {"cookie": f"{COOKIE}={cookie}", "origin": served.url, "x-csrf-token": served.identity.csrf(cookie)}
    _, key = await served.identity.keys.create("ann", ("read",), account="ann", organisation="default")
    body = {"kind": "slack", "url": "https://hooks.slack.com/services/T/B/x"}
    async with httpx.AsyncClient(base_url=served.url, headers={"idempotency-key": "one"}, timeout=20) as http:
        for replayed in (None, "true"):
            made = await http.post("/api/notifications", json=body, headers=person)
            assert (made.status_code, made.headers.get("idempotent-replayed")) == (201, replayed)
        refused = await http.post("/api/notifications", json=body, headers={"x-api-key": key})
        assert refused.status_code == 403


async def test_what_was_answered_about_a_session_goes_with_it(served: Served) -> None:
    async with await client(served) as http:
        sid = (await http.post("/api/sessions", json={"agent": "echo"}, headers={"idempotency-key": "x"})).json()["id"]
        assert (await http.patch(f"/api/sessions/{sid}", json={"title": "a plan"})).status_code == 200
        notes = len(await served.platform.kit.store.scan(KIND))
        http.headers["idempotency-key"] = "two"
        for _ in range(2):
            assert (await http.delete(f"/api/sessions/{sid}")).status_code == 204
        kept = await served.platform.kit.store.scan(KIND)
        assert len(kept) == notes  # less the one, and that it was deleted
        assert all(not (answer := json.loads(doc)["answer"])["body"] or answer["status"] == 201 for _, doc in kept)


async def test_a_secret_is_in_no_note_of_it(served: Served) -> None:
    async with await client(served) as http:
        made = await http.post("/api/keys", json={"name": "ci"})
        put = await http.put("/api/secrets/TOKEN", json={"value": "hunter2hunter2"}, headers={"idempotency-key": "two"})
        assert (made.status_code, put.status_code // 100) == (201, 2)
        docs = b"".join(doc for _, doc in await served.platform.kit.store.scan(KIND))
        assert made.json()["key"].encode() not in docs
        assert b"hunter2" not in docs
        assert len((await http.get("/api/keys")).json()["items"]) == 2  # the client's own, and this


async def test_a_restart_forgets_no_key(tmp_path: Path) -> None:
    for turn in range(2):
        store = await SqliteStore.open(tmp_path / "db", full=True)
        async with serving(store=store) as served:
            if turn == 0:
                key = await served.key()
            headers = {"x-api-key": key, "idempotency-key": "one"}
            async with httpx.AsyncClient(base_url=served.url, headers=headers, timeout=20) as http:
                answer = await http.post("/api/sessions", json={"agent": "echo", "title": "once"})
                if turn == 0:
                    first = answer.content
                assert answer.content == first
                assert len((await http.get("/api/sessions")).json()["items"]) == 1
        await store.close()
    assert json.loads(first)["title"] == "once"


async def test_jobs_say_how_they_are_now_and_refuse_another_prompt(served: Served) -> None:
    async with answering(served.sandboxes), await client(served, key="session") as http:
        sid = (await http.post("/api/sessions", json={"agent": "echo"})).json()["id"]
        http.headers["idempotency-key"] = "job"
        made = (await http.post(f"/api/sessions/{sid}/jobs", json={"prompt": "wait"})).json()
        assert (
            await http.post(f"/api/jobs/{made['id']}/interrupt", headers={"idempotency-key": "x"})
        ).status_code == 202
        async with asyncio.timeout(10):
            while (await http.get(f"/api/jobs/{made['id']}")).json()["state"] != "done":
                await asyncio.sleep(0.01)
        again = await http.post(f"/api/sessions/{sid}/jobs", json={"prompt": "wait"})
        assert (again.json()["id"], again.json()["state"]) == (made["id"], "done")
        other = await http.post(f"/api/sessions/{sid}/jobs", json={"prompt": "another"})
        assert other.status_code == 409
        assert len((await http.get(f"/api/sessions/{sid}/jobs")).json()["items"]) == 1


async def prompted(http: httpx.AsyncClient, key: str, **body: Any) -> httpx.Response:
    sid = str(http.headers["x-session"])
    return await http.post(f"/api/sessions/{sid}/jobs", json=body, headers={"idempotency-key": key})


@contextlib.asynccontextmanager
async def conversing(served: Served, **headers: str) -> AsyncIterator[httpx.AsyncClient]:
    """With a session, and a runner that answers."""
    headers = headers or {"x-api-key": await served.key()}
    async with answering(served.sandboxes), httpx.AsyncClient(base_url=served.url, headers=headers, timeout=20) as http:
        http.headers["x-session"] = (await http.post("/api/sessions", json={"agent": "echo"})).json()["id"]
        yield http


async def until(http: httpx.AsyncClient, job: str, state: str) -> None:
    async with asyncio.timeout(10):
        while (await http.get(f"/api/jobs/{job}")).json()["state"] != state:
            await asyncio.sleep(0.01)


async def test_the_key_of_a_prompt_is_nobody_else_s(served: Served) -> None:
    house = World(served)
    await house.settle()
    async with conversing(served, **house.by_key("red", "operator")) as http:
        mine = (await prompted(http, "nightly", prompt="mine")).json()
        http.headers.update(house.by_key("red", "admin"))
        theirs = (await prompted(http, "nightly", prompt="theirs")).json()
        assert (mine["prompt"], theirs["prompt"]) == ("mine", "theirs")
        assert (await prompted(http, "nightly", prompt="theirs")).json()["id"] == theirs["id"]


async def test_the_key_of_a_prompt_is_no_client_message_id(served: Served) -> None:
    async with conversing(served) as http:
        named = (await prompted(http, "a", prompt="named", clientMessageId="nightly")).json()
        keyed = (await prompted(http, "nightly", prompt="keyed")).json()
        assert (named["prompt"], keyed["prompt"]) == ("named", "keyed")


class Later(SystemClock):
    later = 0.0

    def now(self) -> float:
        return super().now() + self.later


async def test_the_key_of_a_prompt_stands_for_a_day() -> None:
    clock = Later()
    async with serving(clock=clock) as served, conversing(served) as http:
        monday = (await prompted(http, "nightly", prompt="look")).json()
        clock.later = KEY_S - 60
        assert (await prompted(http, "nightly", prompt="look")).json()["id"] == monday["id"]
        clock.later = KEY_S
        assert (await prompted(http, "nightly", prompt="look")).json()["id"] != monday["id"]


async def test_what_joined_a_job_that_is_over_is_not_said_to_have_failed(served: Served) -> None:
    async with conversing(served) as http:
        first = (await prompted(http, "a", prompt="wait")).json()["id"]
        await until(http, first, "running")
        joined = await prompted(http, "b", prompt="and this", steer=True)
        assert joined.status_code == 202
        await http.post(f"/api/jobs/{first}/interrupt")
        await until(http, first, "done")
        again = await prompted(http, "b", prompt="and this", steer=True)
        assert (again.status_code, again.json()["id"], again.json()["state"]) == (202, first, "done")
        other = (await prompted(http, "c", prompt="wait")).json()["id"]
        await until(http, other, "running")
        assert (await prompted(http, "b", prompt="and this", steer=True)).json()["id"] == first


async def test_a_prompt_that_is_sent_again_is_not_counted_again() -> None:
    def gate(store: EventStore, clock: Clock) -> Gate:
        return Gate(store, clock, Rates(0, 1, 2))

    async with serving(gate=gate) as served, conversing(served) as http:
        for _ in range(4):
            answer = await prompted(http, "a", prompt="x")
            assert (answer.status_code, answer.json()["prompt"]) == (202, "x")
        assert (await prompted(http, "a", prompt="another")).status_code == 409
        assert (await prompted(http, "b", prompt="x")).headers["x-ratelimit-remaining"] == "0"
        assert (await prompted(http, "c", prompt="x")).status_code == 429
        assert (await prompted(http, "a", prompt="x")).status_code == 202


async def test_an_answer_to_a_long_approval_is_the_same_again_and_nothing_of_it_is_kept(served: Served) -> None:
    sessions = served.platform.sessions
    session = await sessions.create(owner="local", agent="echo", permission_mode="manual")
    job = await session.jobs.submit(sessions.job(session, "x", "local", account="local"), client_message_id=None)
    while session.live.record.id not in served.sandboxes.runners:
        await asyncio.sleep(0.005)
    runner = served.sandboxes.runners[session.live.record.id]
    await runner.command(link.Prompt)
    content = "a line of a file\n" * 50_000
    tool = {"file_path": "/workspace/a", "content": content}
    ask = link.PermissionAsk(request_id="r", tool_id="t", tool="Write", input=tool)
    runner.say(link.TurnStarted(turn_id=job.id), ask)
    async with asyncio.timeout(10):
        while not session.approvals.pending:
            await asyncio.sleep(0.005)
    async with await client(served) as http:
        address = f"/api/approvals/{next(iter(session.approvals.pending))}"
        first = await http.post(address, json={"approved": True})
        again = await http.post(address, json={"approved": True})
        assert (first.status_code, again.status_code, again.content == first.content) == (200, 200, True)
        assert (await http.post(address, json={"approved": False})).status_code == 409
    [(_, doc)] = await served.platform.kit.store.scan(KIND)
    assert len(doc) < 1000
