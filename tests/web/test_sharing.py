"""What is open ends, or may less, as soon as the right to it does: roles, grants, privacy, links, credentials' ends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from pilothouse.adapters.stores.memory import MemoryStore
from pilothouse.core import link, second
from pilothouse.core.access import SCOPES
from pilothouse.engine import records
from pilothouse.engine.identity import COOKIE_S
from pilothouse.engine.kit import Limits
from pilothouse.engine.links import LINK_S
from pilothouse.engine.ports import Put
from pilothouse.web.chat import Connection
from pilothouse.web.guard import COOKIE, LINK_COOKIE
from tests.engine.fakes import HandClock
from tests.web.serving import Served, serving
from tests.web.world import World


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture(params=["hot", "plain"])
async def world(request: pytest.FixtureRequest, clock: HandClock) -> AsyncIterator[World]:
    limits = Limits(second_approver=second.patterns(["Bash(git push*)"]))
    async with serving(hot=request.param == "hot", clock=clock, limits=limits) as served:
        made = World(served)
        await made.settle()
        await made.furnish()
        yield made


async def hear(socket: ClientConnection, *types: str) -> dict[str, Any]:
    while True:
        message: dict[str, Any] = json.loads(await asyncio.wait_for(socket.recv(), 20))
        if message["type"] in types:
            return message


async def say(socket: ClientConnection, **message: Any) -> dict[str, Any]:
    """What the server says to it: a refusal, or `pong`."""
    await socket.send(json.dumps(message))
    await socket.send('{"type":"ping"}')
    refused: dict[str, Any] = {}
    while (got := await hear(socket, "rejected", "pong"))["type"] != "pong":
        refused = got
    return refused or got


async def watching(world: World, headers: dict[str, str]) -> ClientConnection:
    socket = await connect(world.served.socket_url, additional_headers=headers)
    await socket.send(json.dumps({"type": "subscribe", "chatId": world.ids["sessions"]}))
    await hear(socket, "caught_up")
    return socket


async def closed(socket: ClientConnection) -> int:
    with pytest.raises(ConnectionClosed) as end:
        while True:
            await asyncio.wait_for(socket.recv(), 20)
    assert end.value.rcvd is not None
    return end.value.rcvd.code


async def test_c12_a_role_that_changes_holds_on_a_socket_that_is_open(world: World) -> None:
    socket = await watching(world, world.by_key("red", "operator"))
    members, chat = world.served.identity.members, world.ids["sessions"]
    answer = {"type": "approval_response", "approvalId": world.ids["approvals"], "approved": True}
    assert (await say(socket, **answer))["code"] == "forbidden"
    await members.put("red", "operator", role="viewer")
    assert (await say(socket, type="set_model", chatId=chat, model="m"))["code"] == "forbidden"
    assert (await say(socket, type="chat", message="x"))["code"] == "forbidden"
    await members.put("red", "operator", role="approver")
    assert (await say(socket, **answer))["type"] == "pong"
    await members.put("blue", "operator", disabled=True)  # somebody else of the same name
    assert (await say(socket, type="ping"))["type"] == "pong"
    await members.put("red", "operator", disabled=True)
    assert await closed(socket) == 4401
    with pytest.raises(InvalidStatus):
        await connect(world.served.socket_url, additional_headers=world.by_key("red", "operator"))


async def test_c12_a_member_that_is_removed_is_sent_away_with_streams_and_all(world: World) -> None:
    socket = await watching(world, world.by_key("red", "viewer"))
    headers = world.by_key("red", "viewer") | {"accept": "text/event-stream"}
    path = f"/api/sessions/{world.ids['sessions']}/events"
    async with (
        httpx.AsyncClient(base_url=world.served.url, headers=headers, timeout=20) as http,
        http.stream("GET", path) as stream,
    ):
        parts = stream.aiter_bytes()
        await anext(parts)
        await world.served.identity.members.remove("red", "viewer")
        async for _ in parts:
            pass
        assert (await http.get(path)).status_code == 401
    assert await closed(socket) == 4401


async def test_a_session_that_becomes_private_is_gone_for_the_others_and_their_sockets_stay(world: World) -> None:
    socket = await watching(world, world.by_key("red", "viewer"))
    keeping = await watching(world, world.by_key("red", "admin"))
    path = f"/api/sessions/{world.ids['sessions']}"
    async with httpx.AsyncClient(base_url=world.served.url, headers=world.by_key("red", "owner"), timeout=20) as http:
        shown = (await http.patch(path, json={"private": True})).json()
        assert (shown["private"], shown["owner"], shown["grants"]) == (True, "owner", {})
        assert (await hear(socket, "rejected"))["ref"] == world.ids["sessions"]
        assert (await say(socket, type="subscribe", chatId=world.ids["sessions"]))["code"] == "not_found"
        granted = await http.put(f"{path}/grants/viewer", json={"right": "run"})
        assert granted.json()["grants"] == {"viewer": "run"}
        assert (await http.put(f"{path}/grants/nobody", json={"right": "run"})).status_code == 404
        assert (await http.put(f"{path}/grants/viewer", json={"right": "root"})).status_code == 400
        await socket.send(json.dumps({"type": "subscribe", "chatId": world.ids["sessions"]}))
        await hear(socket, "subscribed")
        assert (await say(socket, type="set_model", chatId=world.ids["sessions"], model="m"))["type"] == "pong"
        assert (await http.delete(f"{path}/grants/viewer")).status_code == 204
        nobody = await http.delete(f"{path}/grants/{'0' * 201}")
        assert (nobody.status_code, nobody.json()["detail"][:8]) == (400, "account:")
        assert (await hear(socket, "rejected"))["code"] == "not_found"
    assert (await say(keeping, type="ping"))["type"] == "pong"
    assert world.ids["sessions"] in keeping_follows(world.served, "admin")
    await socket.close()
    await keeping.close()


def keeping_follows(served: Served, name: str) -> set[str]:
    open_ = [c for mine in served.hub._open.values() for c in mine if c.principal.name == name]
    return {sid for viewer in open_ if isinstance(viewer, Connection) for sid in viewer._following}


@pytest.mark.parametrize("how", ["private", "disabled"])
async def test_c12_a_stream_ends_when_its_reader_may_not_look_any_more(world: World, how: str) -> None:
    headers = world.by_key("red", "viewer") | {"accept": "text/event-stream"}
    path = f"/api/sessions/{world.ids['sessions']}/events"
    async with (
        httpx.AsyncClient(base_url=world.served.url, headers=headers, timeout=20) as http,
        http.stream("GET", path) as stream,
    ):
        parts = stream.aiter_bytes()
        await anext(parts)
        if how == "private":
            await world.served.platform.sessions.shelf.share(world.session, private=True)
        else:
            await world.served.identity.members.put("red", "viewer", disabled=True)
        async for _ in parts:
            pass
        assert (await http.get(path)).status_code == (404 if how == "private" else 401)


async def test_only_who_shares_makes_a_session_private(world: World) -> None:
    path = f"/api/sessions/{world.ids['sessions']}"
    async with httpx.AsyncClient(base_url=world.served.url, timeout=20) as http:
        for account in ("operator", "approver"):
            answer = await http.patch(path, json={"private": True}, headers=world.by_key("red", account))
            assert answer.status_code == 403
        assert not (await http.get(path, headers=world.by_key("red", "viewer"))).json()["private"]


# --- links ---


async def test_c10_a_link_is_made_redeemed_used_and_revoked(world: World) -> None:
    path = f"/api/sessions/{world.ids['sessions']}"
    async with httpx.AsyncClient(base_url=world.served.url, timeout=20) as http:
        owner = world.by_key("red", "owner")
        made = (await http.post(f"{path}/links", json={"right": "approve", "name": "Review"}, headers=owner)).json()
        secret = made["url"].partition("#link=")[2]
        assert secret
        assert "?" not in made["url"]
        listed = (await http.get(f"{path}/links", headers=owner)).json()["items"]
        assert {item["name"] for item in listed} == {"Review", "watch"}
        assert secret.partition("_")[2] not in json.dumps(listed)
        for wrong in ({"link": "x"}, {"link": secret, "ticket": "x"}, {}, {"link": secret[:-1]}):
            assert (await http.post("/api/signin", json=wrong)).status_code in {400, 401}
        redeemed = await http.post("/api/signin", json={"link": secret})
        assert redeemed.json() == {"session": world.ids["sessions"]}
        cookie = redeemed.headers["set-cookie"]
        assert cookie.startswith(f"{LINK_COOKIE}=")
        assert "HttpOnly" in cookie
        me = (await http.get("/api/me")).json()
        assert me["principal"]["session"] == world.ids["sessions"]
        assert me["principal"]["kind"] == "link"
        assert "account" not in me["principal"]
        assert me["server"]["isolationSummary"] == ""
        assert "rates" not in me["server"]
        assert (await http.get("/api/sessions")).json()["code"] == "link"
        seen = (await http.get(path)).json()
        assert seen["rights"] == ["read", "approve"]
        assert "owner" not in seen
        headers = {"origin": world.served.url, "x-csrf-token": me["csrf"]}
        approval = f"/api/approvals/{world.ids['approvals']}"
        assert (await http.post(approval, json={"approved": True})).status_code == 403
        assert (await http.post(approval, json={"approved": True}, headers=headers)).status_code == 200
        assert (await http.get(approval)).json()["resolvedBy"] == "link:Review"
        socket = await watching(world, {"cookie": f"{LINK_COOKIE}={secret}", "origin": world.served.url})
        assert (await http.delete(f"{path}/links/{made['id']}", headers=owner)).status_code == 204
        assert await closed(socket) == 4401
        assert (await http.get("/api/me")).status_code == 401


async def test_an_answer_by_link_or_grant_is_remembered_for_this_session_at_most(world: World) -> None:
    await world.served.platform.sessions.shelf.share(world.session, account="viewer", grant="approve")
    always = {"approved": True, "optionId": "allow_project"}
    for headers in (await world.link("approve"), world.by_key("red", "viewer")):
        assert await world.ask("POST", "/api/approvals/{id}", headers, always) == (403, "forbidden")
        socket = await connect(world.served.socket_url, additional_headers=headers)
        answer = {"approvalId": world.ids["approvals"], **always}
        assert (await say(socket, type="approval_response", **answer))["code"] == "forbidden"
        await socket.close()
    edited = {"approved": True, "updatedInput": {"command": "rm -rf /"}}
    assert await world.ask("POST", "/api/approvals/{id}", await world.link("approve"), edited) == (403, "forbidden")
    once = {**always, "optionId": "allow_session"}
    assert await world.ask("POST", "/api/approvals/{id}", world.by_key("red", "viewer"), once) == (200, "")
    await world.furnish()
    for account in ("owner", "approver"):
        assert await world.ask("POST", "/api/approvals/{id}", world.by_key("red", account), always) == (200, "")
        await world.furnish()


async def test_a_link_opens_no_other_session_and_ends_with_its_own(world: World) -> None:
    headers = await world.link("watch")
    first = world.ids["sessions"]
    await world.furnish()
    socket = await connect(world.served.socket_url, additional_headers=headers)
    assert (await say(socket, type="subscribe", chatId=world.ids["sessions"]))["code"] == "not_found"
    approval = {"type": "approval_response", "approvalId": world.ids["approvals"], "approved": True}
    assert (await say(socket, **approval))["code"] == "forbidden"
    for kind in ("sessions", "jobs", "approvals"):
        assert (await world.ask("GET", f"/api/{kind}/{{id}}", headers))[0] == 404, kind
    async with httpx.AsyncClient(base_url=world.served.url, headers=world.by_key("red", "admin"), timeout=20) as http:
        assert (await http.delete(f"/api/sessions/{first}")).status_code == 204
    assert await closed(socket) == 4401


async def test_a_sign_in_goes_before_a_link_and_an_old_one_does_not_shut_it_out(world: World) -> None:
    link_cookie = (await world.link("watch"))["cookie"]
    ticket, _ = await world.served.identity.ticket()
    cookie = await world.served.identity.redeem(ticket)
    async with httpx.AsyncClient(base_url=world.served.url, timeout=20) as http:
        both = {"cookie": f"{COOKIE}={cookie}; {link_cookie}"}
        assert (await http.get("/api/me", headers=both)).json()["principal"]["kind"] == "person"
        await world.served.identity.sign_out(cookie)
        assert (await http.get("/api/me", headers=both)).json()["principal"]["kind"] == "link"


# --- ends ---


@pytest.mark.parametrize("kind", ["link", "sign-in"])
async def test_c12_the_end_of_a_credential_ends_what_it_opened(world: World, clock: HandClock, kind: str) -> None:
    if kind == "link":
        headers = await world.link("watch")
        lasts = LINK_S
    else:
        ticket, _ = await world.served.identity.ticket("owner", "red")
        cookie = await world.served.identity.redeem(ticket)
        headers = {"cookie": f"{COOKIE}={cookie}", "origin": world.served.url}
        lasts = COOKIE_S
    socket = await watching(world, headers)
    path = f"/api/sessions/{world.ids['sessions']}/events"
    async with (
        httpx.AsyncClient(base_url=world.served.url, headers=headers, timeout=20) as http,
        http.stream("GET", path, headers={"accept": "text/event-stream"}) as stream,
    ):
        parts = stream.aiter_bytes()
        await anext(parts)
        await clock.wind(lasts - 1)
        assert (await say(socket, type="ping"))["type"] == "pong"
        await clock.wind(1)
        async for _ in parts:
            pass
    assert await closed(socket) == 4401


# --- a second person, at every door ---


async def _asked_for(world: World, account: str) -> str:
    """An approval that needs a second person, of a job that `account` asked for."""
    sessions = world.served.platform.sessions
    session = await sessions.create(owner=account, organisation="red", agent="echo", permission_mode="acceptAll")
    sid = session.live.record.id
    path = f"/api/sessions/{sid}/jobs"
    async with httpx.AsyncClient(base_url=world.served.url, headers=world.by_key("red", account), timeout=20) as http:
        job = (await http.post(path, json={"prompt": "push it"})).json()
    while sid not in world.served.sandboxes.runners:
        await asyncio.sleep(0.005)
    runner = world.served.sandboxes.runners[sid]
    await runner.command(link.Prompt)
    ask = link.PermissionAsk(request_id="p", tool_id="p", tool="Bash", input={"command": "git push"})
    runner.say(link.TurnStarted(turn_id=job["id"]), ask)
    while not session.approvals.pending:
        await asyncio.sleep(0.005)
    world.session = session
    world.ids = {**world.ids, "sessions": sid, "approvals": next(iter(session.approvals.pending))}
    return world.ids["approvals"]


async def test_c17_the_asker_is_refused_at_every_door_and_another_is_not(world: World) -> None:
    for asker in ("admin", "owner"):
        approval = await _asked_for(world, asker)
        identity = world.served.identity
        other_key = (await identity.keys.create("other", SCOPES, account=asker, organisation="red"))[1]
        doors = [world.by_key("red", asker), {"x-api-key": other_key}]
        for headers in doors:
            status = await world.ask("POST", "/api/approvals/{id}", headers, {"approved": True})
            assert status == (403, "second_approver"), asker
            socket = await connect(world.served.socket_url, additional_headers=headers)
            said = await say(socket, type="approval_response", approvalId=approval, approved=True)
            assert said["code"] == "second_approver"
            await socket.close()
        async with httpx.AsyncClient(base_url=world.served.url, timeout=20) as http:
            shown = (await http.get(f"/api/approvals/{approval}", headers=world.by_key("red", "viewer"))).json()
            assert shown["secondApprover"] is True
            mine = {"right": "approve"}
            path = f"/api/sessions/{world.ids['sessions']}/links"
            url = (await http.post(path, json=mine, headers=world.by_key("red", asker))).json()["url"]
        secret = url.partition("#link=")[2]
        visitor = {
            "cookie": f"{LINK_COOKIE}={secret}",
            "origin": world.served.url,
            "x-csrf-token": identity.csrf(secret),
        }
        status = await world.ask("POST", "/api/approvals/{id}", visitor, {"approved": True})
        assert status == (403, "second_approver"), "a link of the asker's own"
        assert approval in world.session.approvals.pending
        status = await world.ask("POST", "/api/approvals/{id}", world.by_key("red", "approver"), {"approved": True})
        assert status == (200, "")


# --- two tenants ---


async def test_c13_the_same_names_in_two_organisations_are_two_people(world: World) -> None:
    """The same account, the same word for a wish: each its own session, and neither sees the other's."""
    async with httpx.AsyncClient(base_url=world.served.url, timeout=20) as http:
        made: dict[str, str] = {}
        for organisation in ("red", "blue"):
            socket = await connect(world.served.socket_url, additional_headers=world.by_key(organisation, "owner"))
            await socket.send(json.dumps({"type": "chat", "message": "x", "agent": "echo", "clientMessageId": "same"}))
            made[organisation] = (await hear(socket, "subscribed"))["chatId"]
            await socket.close()
        assert made["red"] != made["blue"]
        for organisation, other in (("red", "blue"), ("blue", "red")):
            headers = world.by_key(organisation, "owner")
            assert (await http.get(f"/api/sessions/{made[organisation]}", headers=headers)).status_code == 200
            assert (await http.get(f"/api/sessions/{made[other]}", headers=headers)).status_code == 404
            listed = {s["id"] for s in (await http.get("/api/sessions", headers=headers)).json()["items"]}
            assert made[other] not in listed


async def test_the_admin_of_the_server_makes_organisations_and_lets_their_first_admin_in(world: World) -> None:
    headers = {"x-api-key": await world.served.key()}
    async with httpx.AsyncClient(base_url=world.served.url, timeout=20) as http:
        assert (await http.post("/api/organisations", json={"id": "green"}, headers=headers)).status_code == 201
        put = await http.put("/api/members/gus?organisation=green", json={"role": "admin"}, headers=headers)
        assert put.json()["organisation"] == "green"
        ticket = (await http.post("/api/tickets?organisation=green&account=gus", headers=headers)).json()
        assert (await http.post("/api/signin", json={"ticket": ticket["ticket"]})).status_code == 204
        me = (await http.get("/api/me")).json()["principal"]
        assert (me["organisation"], me["account"], me["role"]) == ("green", "gus", "admin")
        assert (await http.get(f"/api/sessions/{world.ids['sessions']}", headers=headers)).status_code == 404
        odd = "/api/members/https%3A%2F%2Fiss.example%23a%2Fb?organisation=green"
        assert (await http.put(odd, json={"role": "viewer"}, headers=headers)).json()["account"] == (
            "https://iss.example#a/b"
        )
        assert (await http.delete(odd, headers=headers)).status_code == 204
        last = await http.delete("/api/members/gus?organisation=green", headers=headers)
        assert (last.status_code, last.json()["code"]) == (409, "last_admin")


# --- what was there before ---


async def test_a_session_and_a_key_from_before_there_were_organisations_are_still_there() -> None:
    store = MemoryStore()
    old = records.SessionRecord(
        id="01a1fca5-a696-7da8-a592-78b242187567",  # type: ignore[arg-type]
        owner="local", agent="echo", isolation="namespaces", created_at="2026-01-01T00:00:00.000Z",
        last_active_at="2026-01-01T00:00:00.000Z", state="stopped", permission_mode="manual",
    )  # fmt: skip
    document = json.loads(records.put(old).doc)
    assert not {"organisation", "private", "grants"} & set(document)
    await store.commit(Put("session", old.id, json.dumps(document).encode(), "local"))
    async with serving(store=store) as served:
        record, key = await served.identity.keys.create("old", SCOPES)
        kept = json.loads((await store.get("key", record.id)) or b"")
        kept.pop("organisation", None)
        await store.commit(Put("key", record.id, json.dumps(kept).encode()))
        served.identity.keys._known.clear()
        async with httpx.AsyncClient(base_url=served.url, headers={"x-api-key": key}, timeout=20) as http:
            assert [s["id"] for s in (await http.get("/api/sessions")).json()["items"]] == [old.id]
            assert (await http.get(f"/api/sessions/{old.id}")).json()["owner"] == "local"
    async with (
        serving(store=store) as served,
        httpx.AsyncClient(base_url=served.url, headers={"x-api-key": key}, timeout=20) as http,
    ):
        assert len((await http.get("/api/sessions")).json()["items"]) == 1


async def test_c11_a_key_may_no_more_than_its_account_whatever_it_was_made_with(world: World) -> None:
    async with httpx.AsyncClient(base_url=world.served.url, timeout=20) as http:
        for account, may in (("viewer", {"read"}), ("operator", {"read", "run"}), ("admin", set(SCOPES))):
            claimed = {"x-role": "admin", "x-scopes": "admin", "x-organisation": "blue"}
            me = (await http.get("/api/me?role=admin", headers=world.by_key("red", account) | claimed)).json()
            assert set(me["principal"]["scopes"]) == may
            assert me["principal"]["organisation"] == "red"
