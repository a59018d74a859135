"""The matrix of the audit: every act of a person or key, by HTTP and by socket, leaves exactly one record that says who
and from where; and does not happen when the record cannot be written."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import httpx
import msgspec
import pytest
import pytest_asyncio
import websockets

from pilothouse.adapters.stores.memory import MemoryStore
from pilothouse.core import chain, link
from pilothouse.core import events as ev
from pilothouse.core.shell import ShellId
from pilothouse.engine import live
from pilothouse.engine.audit import SERVER
from pilothouse.engine.ports import FileEntry
from pilothouse.engine.sessions import Session
from pilothouse.web.guard import COOKIE
from pilothouse.web.routes import TABLE
from tests.web.serving import Served, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass
class House:
    """A server, a key `ops` with all scopes, and a session whose agent works."""

    served: Served
    http: httpx.AsyncClient
    store: MemoryStore
    key: str
    key_id: str
    asks: int = 0

    async def records(self) -> list[dict[str, Any]]:
        lines = await self.served.platform.kit.audit.after("default", 0, 10_000)
        if lines:
            assert isinstance(chain.verify(lines), chain.Whole)
        return [json.loads(line) for line in lines]

    async def working(self) -> Session:
        sessions = self.served.platform.sessions
        session = await sessions.create(owner="local", agent="echo")
        sid = session.live.record.id
        job = await session.jobs.submit(sessions.job(session, "x", "t"), client_message_id=None)
        while sid not in self.served.sandboxes.runners:
            await _turn()
        runner = self.served.sandboxes.runners[sid]
        await runner.command(link.Prompt)
        runner.say(link.TurnStarted(turn_id=job.id))
        return session

    async def asked(self, session: Session, *, question: bool = False) -> str:
        """The id of an approval or question that waits."""
        self.asks += 1
        request = f"r{self.asks}"
        runner = self.served.sandboxes.runners[session.live.record.id]
        if question:
            runner.say(link.QuestionAsk(request_id=request, questions=[ev.Question(question="Which?", options=[])]))
        else:
            given = {"command": f"make {request}"}
            runner.say(link.PermissionAsk(request_id=request, tool_id=request, tool="Bash", input=given))
        while not (open_ := session.questions.pending if question else session.approvals.pending):
            await _turn()
        return str(next(iter(open_)))


async def _turn() -> None:
    await asyncio.sleep(0.001)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house() -> AsyncIterator[House]:
    store, patch = MemoryStore(), pytest.MonkeyPatch()
    patch.setattr(live, "LOCK_S", 2.0)  # what a session is to do waits so long for a store that is full
    async with serving(store=store) as served:
        record, key = await served.identity.keys.create("ops", ("read", "run", "approve", "admin"))
        async with httpx.AsyncClient(base_url=served.url, headers={"x-api-key": key}, timeout=20) as http:
            yield House(served, http, store, key, record.id)
    patch.undo()


Prepared = Callable[[], Awaitable[tuple[int, str]]]
Prepare = Callable[[House], Awaitable[Prepared]]
"""Makes ready, then gives the act: what it answered, and which thing it was about."""


HOOK = "https://hooks.invalid/x"


def asking(method: str, path: Callable[[House], Awaitable[tuple[str, str]]], **options: Any) -> Prepare:
    async def prepare(house: House) -> Prepared:
        address, thing = await path(house)

        async def act() -> tuple[int, str]:
            answer = await house.http.request(method, address, **options)
            made = answer.json().get("id", "") if answer.status_code == 201 and answer.content else ""
            return answer.status_code, thing.replace("*", made)

        return act

    return prepare


def at(path: str, thing: str = "") -> Callable[[House], Awaitable[tuple[str, str]]]:
    async def where(house: House) -> tuple[str, str]:
        return path, thing

    return where


def of_session(rest: str = "") -> Callable[[House], Awaitable[tuple[str, str]]]:
    async def where(house: House) -> tuple[str, str]:
        sid = (await house.working()).live.record.id
        return f"/api/sessions/{sid}{rest}", f"session:{sid}"

    return where


async def a_key(house: House) -> tuple[str, str]:
    record, _ = await house.served.identity.keys.create("old", ("read",))
    return f"/api/keys/{record.id}", f"key:{record.id}"


async def an_approval(house: House) -> tuple[str, str]:
    name = await house.asked(await house.working())
    return f"/api/approvals/{name}", f"approval:{name}"


async def a_question(house: House) -> tuple[str, str]:
    name = await house.asked(await house.working(), question=True)
    return f"/api/questions/{name}", f"question:{name}"


def a_webhook(rest: str = "") -> Callable[[House], Awaitable[tuple[str, str]]]:
    async def where(house: House) -> tuple[str, str]:
        made = (await house.http.post("/api/webhooks", json={"url": HOOK})).json()["id"]
        return f"/api/webhooks/{made}{rest}", f"webhook:{made}"

    return where


async def a_notifier(house: House) -> tuple[str, str]:
    made = (await house.http.post("/api/notifications", json={"kind": "slack", "url": HOOK})).json()["id"]
    return f"/api/notifications/{made}", f"notifier:{made}"


async def a_rule(house: House) -> tuple[str, str]:
    session = await house.working()
    await house.http.post(
        f"/api/approvals/{await house.asked(session)}", json={"approved": True, "optionId": "allow_session"}
    )
    rules = (await house.http.get("/api/rules")).json()["items"]
    return f"/api/rules/{rules[0]['id']}", f"rule:{rules[0]['id']}"


def by_socket(kind: str) -> Prepare:
    """An answer over the chat socket."""

    async def prepare(house: House) -> Prepared:
        path, thing = await (a_question if kind == "question" else an_approval)(house)
        name = path.rpartition("/")[2]

        async def act() -> tuple[int, str]:
            said: dict[str, Any] = {"type": "approval_response", "approvalId": name, "approved": False}
            if kind == "question":
                said = {"type": "question_response", "questionId": name, "answers": {"Which?": "this"}}
            async with websockets.connect(house.served.socket_url, additional_headers={"x-api-key": house.key}) as ws:
                await ws.send(json.dumps(said))
                await ws.send('{"type":"ping"}')
                answer = json.loads(await ws.recv())
            return (503 if answer["type"] == "rejected" else 200), thing

        return act

    return prepare


async def a_pair(house: House) -> tuple[str, str]:
    record, _ = await house.served.platform.pairs.create("old", ("read",), account="local")
    return f"/api/keys/{record.id}", f"key:{record.id}"


async def a_member(house: House) -> tuple[str, str]:
    house.asks += 1
    account = f"m{house.asks}"
    await house.served.identity.members.put("default", account, role="viewer")
    return f"/api/members/{account}", f"member:{account}"


async def a_grant(house: House) -> tuple[str, str]:
    member, _ = await a_member(house)
    sid = (await house.working()).live.record.id
    return f"/api/sessions/{sid}/grants/{member.rpartition('/')[2]}", f"session:{sid}"


async def a_link(house: House) -> tuple[str, str]:
    sid = (await house.working()).live.record.id
    maker = await house.served.identity.keys.by_secret(house.key)
    made, _ = await house.served.identity.links.make(maker, sid, "watch")
    return f"/api/sessions/{sid}/links/{made.id}", f"link:{made.id}"


async def a_shell(house: House) -> tuple[str, str]:
    session, opener = await house.working(), house.served.platform.opener
    assert opener is not None
    house.asks += 1
    await opener.open(session, ShellId(f"s{house.asks}"), SERVER, argv=("/bin/cat",))
    sid = session.live.record.id
    return f"/api/sessions/{sid}/shells/s{house.asks}", f"session:{sid}"


def a_secret(*, own: bool) -> Callable[[House], Awaitable[tuple[str, str]]]:
    async def where(house: House) -> tuple[str, str]:
        house.asks += 1
        sid = (await house.working()).live.record.id
        address = f"/api/secrets/S{house.asks}" if own else f"/api/sessions/{sid}/secrets/S{house.asks}"
        assert (await house.http.put(address, json={"value": "a value of it"})).status_code == 200
        return address, "account:local" if own else f"session:{sid}"

    return where


async def a_sign_in(house: House) -> tuple[str, str]:
    who = await house.served.identity.by_cookie(await house.served.cookie())
    return f"/api/signins/{who.credential.partition(':')[2]}", who.credential


def links_of_a_session() -> Callable[[House], Awaitable[tuple[str, str]]]:
    async def where(house: House) -> tuple[str, str]:
        return f"/api/sessions/{(await house.working()).live.record.id}/links", "link:*"

    return where


ACTS: dict[str, Prepare] = {
    "ticket.create": asking("POST", at("/api/tickets", "member:local")),
    "signin.end": asking("DELETE", a_sign_in),
    "key.create of a pair": asking("POST", at("/api/keys", "key:*"), json={"name": "new", "kind": "sigv4"}),
    "key.revoke of a pair": asking("DELETE", a_pair),
    "organisation.create": asking("POST", at("/api/organisations", "organisation:*"), json={"id": "green"}),
    "member.add": asking("PUT", at("/api/members/new", "member:new"), json={"role": "viewer"}),
    "member.change": asking("PUT", a_member, json={"role": "operator"}),
    "member.remove": asking("DELETE", a_member),
    "session.share by a grant": asking("PUT", a_grant, json={"right": "run"}),
    "session.share by none": asking("DELETE", a_grant),
    "session.share by hiding": asking("PATCH", of_session(), json={"private": True}),
    "link.create": asking("POST", links_of_a_session(), json={"right": "watch"}),
    "link.revoke": asking("DELETE", a_link),
    "key.create": asking("POST", at("/api/keys", "key:*"), json={"name": "new"}),
    "key.revoke": asking("DELETE", a_key),
    "session.create": asking("POST", at("/api/sessions", "session:*"), json={"agent": "echo"}),
    "session.change": asking("PATCH", of_session(), json={"permissionMode": "manual"}),
    "shell.open": asking("POST", of_session("/shells"), json={"shellId": "new", "command": ["/bin/cat"]}),
    "shell.end": asking("DELETE", a_shell),
    "secret.set": asking("PUT", a_secret(own=True), json={"value": "another"}),
    "secret.remove": asking("DELETE", a_secret(own=True)),
    "secret.set in a session": asking("PUT", a_secret(own=False), json={"value": "another"}),
    "secret.remove in a session": asking("DELETE", a_secret(own=False)),
    "session.stop": asking("POST", of_session("/stop")),
    "session.delete": asking("DELETE", of_session()),
    "webhook.create": asking("POST", at("/api/webhooks", "webhook:*"), json={"url": HOOK}),
    "webhook.change": asking("PATCH", a_webhook(), json={"name": "other"}),
    "webhook.rotate": asking("POST", a_webhook("/rotate"), json={}),
    "webhook.remove": asking("DELETE", a_webhook()),
    "notifier.create": asking("POST", at("/api/notifications", "notifier:*"), json={"kind": "slack", "url": HOOK}),
    "notifier.change": asking("PATCH", a_notifier, json={"name": "other"}),
    "notifier.remove": asking("DELETE", a_notifier),
    "network.change": asking("PUT", of_session("/egress"), json={"policy": "off"}),
    "approval.approve": asking("POST", an_approval, json={"approved": True}),
    "approval.deny": asking("POST", an_approval, json={"approved": False}),
    "question.answer": asking("POST", a_question, json={"answers": {"Which?": "this"}}),
    "rule.remove": asking("DELETE", a_rule),
    "approval.deny by socket": by_socket("approval"),
    "question.answer by socket": by_socket("question"),
}
CHANGES_WITHOUT = {
    "POST /api/signin": "below: it is a person's",
    "POST /api/signout": "below: it is a person's",
    "GET /api/signin/oidc/{provider}/callback": "below: it is a person's",
    "POST /api/sessions/{id}/jobs": "who asked what is in the session's log, each prompt with `by`",
    "POST /api/jobs/{id}/interrupt": "in the session's log",
    "POST /api/artifacts/{id}/links": "in test_artifacts: it is a credential, and comes after its record",
    "POST /event": "an event is no act on anything here; there may be thousands a second",
    "POST /invoke": "as for jobs",
    "POST /trigger": "as for jobs",
    "OPTIONS /invoke": "it changes nothing",
    "OPTIONS /trigger": "it changes nothing",
    "POST /api/webhooks/{id}/ping": "a delivery, which is in the list of them",
    "POST /api/webhooks/{id}/replay": "likewise",
    "POST /api/webhooks/{id}/deliveries/{delivery}/replay": "likewise",
    "POST /api/notifications/{id}/test": "likewise",
    "OPTIONS /event": "it changes nothing",
    "OPTIONS /event/history": "it changes nothing",
    "OPTIONS /event/presence": "it changes nothing",
}


async def test_every_route_that_changes_something_is_in_the_matrix_or_says_why_not() -> None:
    changing = {f"{e.method} {e.path}" for e in TABLE if e.method not in {"GET", "WS"} or "callback" in e.path}
    audited = {
        "POST /api/tickets", "POST /api/keys", "DELETE /api/keys/{id}", "POST /api/sessions",
        "PATCH /api/sessions/{id}", "POST /api/sessions/{id}/stop", "DELETE /api/sessions/{id}",
        "PUT /api/sessions/{id}/egress", "POST /api/approvals/{id}", "POST /api/questions/{id}",
        "DELETE /api/rules/{id}", "DELETE /api/signins/{id}", "POST /api/organisations",
        "PUT /api/members/{account:path}", "DELETE /api/members/{account:path}",
        "PUT /api/sessions/{id}/grants/{account:path}", "DELETE /api/sessions/{id}/grants/{account:path}",
        "POST /api/sessions/{id}/links", "DELETE /api/sessions/{id}/links/{link}",
        "POST /api/sessions/{id}/shells", "DELETE /api/sessions/{id}/shells/{shellId}",
        "PUT /api/secrets/{name}", "DELETE /api/secrets/{name}", "PUT /api/sessions/{id}/secrets/{name}",
        "DELETE /api/sessions/{id}/secrets/{name}", "POST /api/webhooks", "PATCH /api/webhooks/{id}",
        "DELETE /api/webhooks/{id}", "POST /api/webhooks/{id}/rotate", "POST /api/notifications",
        "PATCH /api/notifications/{id}", "DELETE /api/notifications/{id}",
    }  # fmt: skip
    assert changing == audited | set(CHANGES_WITHOUT)


@pytest.mark.parametrize("name", ACTS)
async def test_an_act_leaves_one_record_and_none_happens_without(house: House, name: str) -> None:
    act = await ACTS[name](house)
    before = await house.records()
    house.store.failing = "disk full"
    try:
        status, _ = await act()
    finally:
        house.store.failing = ""
    assert status == 503
    assert await house.records() == before
    status, thing = await act()
    assert status < 300
    (record,) = (await house.records())[len(before) :]
    assert record["action"] == name.partition(" ")[0]
    assert record["object"] == thing
    assert record["actor"] == {"kind": "key", "id": house.key_id, "name": "ops", "credential": f"key:{house.key_id}"}
    assert (record["address"], record["outcome"], record["org"]) == ("127.0.0.1", "ok", "default")
    assert house.key.split("_", 2)[2] not in str(record)


async def test_a_remembered_answer_is_a_record_of_its_own_in_the_same_commit(house: House) -> None:
    before = len(await house.records())
    path, thing = await an_approval(house)
    made = len(await house.records()) - before  # the session's own
    await house.http.post(path, json={"approved": True, "optionId": "allow_session"})
    two = (await house.records())[before + made :]
    assert [r["action"] for r in two] == ["approval.approve", "rule.remember"]
    assert two[0]["object"] == thing
    assert two[1]["actor"]["id"] == house.key_id


async def test_signing_in_and_out_and_failing_to(house: House) -> None:
    before = len(await house.records())
    ticket, _ = await house.served.identity.ticket()
    async with httpx.AsyncClient(base_url=house.served.url) as page:
        house.store.failing = "disk full"
        assert (await page.post("/api/signin", json={"ticket": ticket})).status_code == 503
        house.store.failing = ""
        cookie = (await page.post("/api/signin", json={"ticket": ticket})).cookies[COOKIE]
        for _ in range(5):
            assert (await page.post("/api/signin", json={"ticket": "x" * 43})).status_code == 401
        csrf = (await page.get("/api/me")).json()["csrf"]
        out = await page.post("/api/signout", headers={"x-csrf-token": csrf, "origin": house.served.url})
        assert out.status_code == 204
    _, signin, refused, signout = (await house.records())[before:]
    assert (signin["action"], signin["actor"]["kind"], signin["outcome"]) == ("signin", "person", "ok")
    assert signin["actor"]["credential"].startswith("signin:")
    assert (refused["action"], refused["actor"]["kind"], refused["outcome"]) == ("signin", "nobody", "refused")
    assert (signout["action"], signout["actor"]) == ("signout", signin["actor"])
    assert {r["address"] for r in (signin, refused, signout)} == {"127.0.0.1"}
    assert ticket not in str((signin, refused, signout))
    assert cookie not in str((signin, refused, signout))


async def test_what_a_member_had_is_ended_with_it_by_whoever_removed_it(house: House) -> None:
    identity, pairs = house.served.identity, house.served.platform.pairs
    await identity.members.put("default", "leaver", role="operator")
    _, key = await identity.keys.create("k", ("read",), account="leaver")
    await pairs.create("p", ("read",), account="leaver")
    await identity.redeem((await identity.ticket("leaver"))[0])
    sid = (await house.working()).live.record.id
    await identity.links.make(await identity.keys.by_secret(key), sid, "watch")
    before = len(await house.records())
    assert (await house.http.delete("/api/members/leaver")).status_code == 204
    gone = (await house.records())[before:]
    assert sorted(r["action"] for r in gone) == [
        "key.revoke",
        "key.revoke",
        "link.revoke",
        "member.remove",
        "signin.end",
    ]
    assert gone[-1]["action"] == "member.remove"
    assert {(r["actor"]["id"], r["address"]) for r in gone} == {(house.key_id, "127.0.0.1")}


async def test_whoever_follows_a_link_is_noted_once_and_what_it_answers_is_the_link_s(house: House) -> None:
    session = await house.working()
    name = await house.asked(session)
    maker = await house.served.identity.keys.by_secret(house.key)
    link, secret = await house.served.identity.links.make(maker, session.live.record.id, "approve")
    before = len(await house.records())
    async with httpx.AsyncClient(base_url=house.served.url) as visitor:
        for _ in range(3):
            assert (await visitor.post("/api/signin", json={"link": secret})).status_code == 200
        headers = {"origin": house.served.url, "x-csrf-token": house.served.identity.csrf(secret)}
        answer = await visitor.post(f"/api/approvals/{name}", json={"approved": True}, headers=headers)
        assert answer.status_code == 200, answer.text
    followed, approved = (await house.records())[before:]
    assert (followed["action"], followed["object"], followed["details"]) == (
        "signin",
        f"link:{link.id}",
        {"by": "link"},
    )
    assert (approved["action"], approved["actor"]) == (
        "approval.approve", {"kind": "link", "id": link.id, "name": "approve", "credential": f"link:{link.id}"},
    )  # fmt: skip
    assert secret not in str((followed, approved))


async def test_wrong_credentials_and_what_one_may_not_are_counted(house: House) -> None:
    before = len(await house.records())
    record, weak = await house.served.identity.keys.create("weak", ("read",))
    async with httpx.AsyncClient(base_url=house.served.url) as client:
        for _ in range(3):
            forged = f"ph_{record.id}_" + "x" * 43
            assert (await client.get("/api/me", headers={"x-api-key": forged})).status_code == 401
            assert (await client.get("/api/keys", headers={"x-api-key": weak})).status_code == 403
    _, wrong, may_not = (await house.records())[before:]
    assert (wrong["action"], wrong["actor"]["kind"], wrong["outcome"]) == ("credential.refuse", "nobody", "refused")
    assert (may_not["action"], may_not["actor"]["id"]) == ("access.refuse", record.id)
    assert (may_not["object"], may_not["details"]) == ("route:GET /api/keys", {"why": "forbidden"})


class NoFiles:
    """An empty workspace."""

    async def list(self, path: str) -> list[FileEntry]:
        return []

    async def walk(self, path: str) -> AsyncIterator[tuple[str, FileEntry]]:
        for entry in await self.list(path):
            yield entry.name, entry


async def test_downloads_are_noted_and_go_on_when_nothing_can_be_written(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(house.served.sandboxes, "files", lambda _: NoFiles())
    sid = (await house.working()).live.record.id
    before = len(await house.records())
    for failing in ("", "disk full"):
        house.store.failing = failing
        answer = await house.http.get(f"/api/sessions/{sid}/files/zip")
        house.store.failing = ""
        assert answer.status_code == 200
    (record,) = (await house.records())[before:]
    assert (record["action"], record["object"], record["details"]) == ("files.download", f"session:{sid}", {"path": ""})


# --- reading ---


async def test_an_export_is_the_chain(house: House) -> None:
    lines, after = [], 0
    while True:
        answer = (await house.http.get("/api/audit", params={"after": after, "limit": 3})).content
        items = json.loads(answer)["items"]
        lines += _raw(answer)
        if json.loads(answer)["next"] is None:
            break
        after = items[-1]["seq"]
    head = (await house.http.get("/api/audit/head")).json()
    found = chain.verify(lines, chain.Head(head["seq"], head["hash"]))
    assert isinstance(found, chain.Whole), found
    assert found.first == 1


class _Page(msgspec.Struct):
    items: list[msgspec.Raw]


def _raw(answer: bytes) -> list[bytes]:
    return [bytes(item) for item in msgspec.json.decode(answer, type=_Page).items]


async def test_a_reader_sees_the_newest_first_by_action_and_by_who(house: House) -> None:
    async def page(**query: object) -> dict[str, Any]:
        return dict((await house.http.get("/api/audit", params=query)).json())  # type: ignore[arg-type]

    for made in ("first", "second", "third"):
        assert (await house.http.post("/api/keys", json={"name": made})).status_code == 201
    await house.http.post("/api/tickets")
    newest = await page(limit=2)
    assert newest["items"][0]["action"] == "ticket.create"
    assert newest["next"] == newest["items"][1]["seq"]
    older = await page(limit=2, before=newest["next"])
    assert [r["seq"] for r in older["items"]] == [newest["next"] - 1, newest["next"] - 2]
    keys = (await page(action="key.", limit=200))["items"]
    assert keys
    assert {r["action"].split(".")[0] for r in keys} == {"key"}
    assert {r["actor"]["name"] for r in (await page(who="OPS"))["items"]} == {"ops"}
    assert (await page(who="nobody of that name"))["items"] == []


@pytest.mark.parametrize(
    "query", ["after=x", "before=-1", "limit=0", "action=" + "x" * 101, "who=%00", "after=1&who=a"]
)
async def test_a_bad_query_is_named(house: House, query: str) -> None:
    answer = await house.http.get(f"/api/audit?{query}")
    assert answer.status_code == 400
    assert query.split("=")[0] in answer.json()["detail"]


async def test_an_admin_of_another_organisation_sees_its_own_records_alone(house: House) -> None:
    """And whatever the server's admins do there, which stands in their own chain too."""
    identity = house.served.identity
    made = [
        await house.http.post("/api/organisations", json={"id": "red"}),
        await house.http.put("/api/members/boss?organisation=red", json={"role": "admin"}),
        await house.http.post("/api/keys?organisation=red", json={"name": "theirs", "account": "boss"}),
    ]
    assert [answer.status_code for answer in made] == [201, 200, 201]
    _, text = await identity.keys.create("boss's", ("read", "admin"), account="boss", organisation="red")
    async with httpx.AsyncClient(base_url=house.served.url, headers={"x-api-key": text}) as boss:
        assert (await boss.put("/api/members/ann", json={"role": "viewer"})).status_code == 200
        mine = (await boss.get("/api/audit?after=0")).json()["items"]
        head = (await boss.get("/api/audit/head")).json()
        assert (await boss.get("/api/audit?organisation=default")).status_code == 403
        assert (await boss.get("/api/audit/head?organisation=default")).status_code == 403
    assert [(r["seq"], r["action"], r["actor"]["name"]) for r in mine] == [
        (1, "organisation.create", "ops"), (2, "member.add", "ops"), (3, "key.create", "ops"),
        (4, "key.create", ""), (5, "member.add", "boss's"),
    ]  # fmt: skip
    assert {r["org"] for r in mine} == {"red"}
    lines = await house.served.platform.kit.audit.after("red", 0, 5)  # before what was refused
    assert isinstance(chain.verify(lines, chain.Head(head["seq"], head["hash"])), chain.Whole)
    ours = (await house.http.get("/api/audit", params={"limit": 200})).json()["items"]
    assert [r["action"] for r in ours if r["object"] == "member:boss"] == ["member.add"]
    assert "member:ann" not in {r["object"] for r in ours}
    theirs = (await house.http.get("/api/audit?after=0&organisation=red")).json()["items"]
    assert theirs[: len(mine)] == mine
