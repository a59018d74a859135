"""Everybody at every address: two organisations, five kinds of members, share links and nobody.

The addresses are those of the route table. What belongs to a session is in `IN_A_SESSION`, written out; the rest
follows from the scope that its entry names. A new entry that is not in `BODIES`, or, being a session's, not in
`IN_A_SESSION`, fails here until somebody has thought about who may use it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import websockets

from pilothouse.core.access import SCOPES_OF_ROLE
from pilothouse.core.namespaces import Namespace
from pilothouse.engine import shelf
from pilothouse.web.routes import TABLE, Entry
from tests.issuer import FakeIssuer
from tests.web.serving import Served, serving
from tests.web.world import ROLES, World

ALL = "viewer operator approver admin owner"
LINKS = " watch-link approve-link type-link"
RUN = "operator approver admin owner"
SHARE = "admin owner"

IN_A_SESSION: dict[str, str] = {
    "GET /api/sessions/{id}": ALL + LINKS,
    "PATCH /api/sessions/{id}": RUN,
    "DELETE /api/sessions/{id}": SHARE,
    "PUT /api/sessions/{id}/grants/{account:path}": SHARE,
    "DELETE /api/sessions/{id}/grants/{account:path}": SHARE,
    "GET /api/sessions/{id}/links": SHARE,
    "POST /api/sessions/{id}/links": SHARE,
    "DELETE /api/sessions/{id}/links/{link}": SHARE,
    "POST /api/sessions/{id}/stop": RUN,
    "GET /api/sessions/{id}/limits": ALL,
    "GET /api/sessions/{id}/events": ALL + LINKS,
    "GET /api/sessions/{id}/network": ALL,
    "GET /api/sessions/{id}/network/stream": ALL,
    "PUT /api/sessions/{id}/egress": RUN,
    "GET /api/sessions/{id}/texts/{digest}": ALL + LINKS,
    "POST /api/sessions/{id}/jobs": RUN,
    "GET /api/sessions/{id}/jobs": ALL + LINKS,
    "GET /api/sessions/{id}/files": ALL,
    "GET /api/sessions/{id}/files/content": ALL,
    "GET /api/sessions/{id}/files/zip": ALL,
    "GET /api/sessions/{id}/artifacts": ALL,
    "GET /api/jobs/{id}/artifacts": ALL,
    "GET /api/jobs/{id}/artifacts/zip": ALL,
    "GET /api/jobs/{id}/artifacts/tar": ALL,
    "GET /api/artifacts/{id}": ALL,
    "GET /api/artifacts/{id}/content": ALL,
    "POST /api/artifacts/{id}/links": ALL,
    "GET /api/jobs/{id}": ALL + LINKS,
    "GET /api/jobs/{id}/events": ALL + LINKS,
    "POST /api/jobs/{id}/interrupt": RUN,
    "GET /api/approvals/{id}": ALL + LINKS,
    "POST /api/approvals/{id}": "approver admin owner approve-link",
    "POST /api/questions/{id}": "approver admin owner approve-link",
    "WS /ws": ALL + LINKS,
    "GET /api/sessions/{id}/secrets": RUN,
    "PUT /api/sessions/{id}/secrets/{name}": SHARE,
    "DELETE /api/sessions/{id}/secrets/{name}": SHARE,
    "GET /api/sessions/{id}/shells": ALL + LINKS,
    "POST /api/sessions/{id}/shells": RUN,
    "DELETE /api/sessions/{id}/shells/{shellId}": RUN,
    "WS /api/sessions/{id}/shells/{shellId}": ALL + LINKS,
    "POST /invoke": RUN,
    "POST /trigger": RUN,
}
"""Who of the session's own organisation may; nobody of the other one ever."""
BODIES: dict[str, Any] = {
    "GET /healthz": None,
    "GET /readyz": None,
    "GET /openapi.json": None,
    "GET /docs": None,
    "GET /metrics": None,
    "POST /api/signin": {"ticket": "x" * 43},
    "GET /api/signin/providers": None,
    "GET /api/signin/oidc/{provider}": None,
    "GET /api/signin/oidc/{provider}/callback": None,
    "POST /api/signout": None,
    "GET /api/signins": None,
    "DELETE /api/signins/{id}": None,
    "GET /api/artifacts/{id}/signed": None,
    "GET /api/me": None,
    "POST /api/tickets": None,
    "GET /api/keys": None,
    "POST /api/keys": {"name": "new"},
    "DELETE /api/keys/{id}": None,
    "GET /api/audit": None,
    "GET /api/audit/head": None,
    "GET /api/usage": None,
    "GET /api/usage.csv": None,
    "GET /api/organisations": None,
    "POST /api/organisations": {"id": "green"},
    "GET /api/members": None,
    "PUT /api/members/{account:path}": {"name": "Vera"},
    "DELETE /api/members/{account:path}": None,
    "GET /api/sessions": None,
    "POST /api/sessions": {"agent": "echo"},
    "GET /api/approvals": None,
    "GET /api/questions": None,
    "GET /api/rules": None,
    "DELETE /api/rules/{id}": None,
    "GET /api/secrets": None,
    "PUT /api/secrets/{name}": {"value": "a value of somebody"},
    "DELETE /api/secrets/{name}": None,
    "GET /api/webhooks": None,
    "POST /api/webhooks": {"url": "https://hooks.invalid/"},
    "GET /api/webhooks/{id}": None,
    "PATCH /api/webhooks/{id}": {"name": "new"},
    "DELETE /api/webhooks/{id}": None,
    "POST /api/webhooks/{id}/rotate": {},
    "POST /api/webhooks/{id}/ping": None,
    "GET /api/webhooks/{id}/deliveries": None,
    "POST /api/webhooks/{id}/deliveries/{delivery}/replay": None,
    "POST /api/webhooks/{id}/replay": None,
    "GET /api/notifications": None,
    "POST /api/notifications": {"kind": "slack", "url": "https://hooks.invalid/"},
    "GET /api/notifications/key": None,
    "PATCH /api/notifications/{id}": {"name": "new"},
    "DELETE /api/notifications/{id}": None,
    "POST /api/notifications/{id}/test": None,
    "GET /api/notifications/{id}/deliveries": None,
    **dict.fromkeys(IN_A_SESSION),
    "PATCH /api/sessions/{id}": {"title": "new"},
    "PUT /api/sessions/{id}/grants/{account:path}": {"right": "run"},
    "POST /api/sessions/{id}/links": {"right": "watch"},
    "POST /api/artifacts/{id}/links": {},
    "PUT /api/sessions/{id}/egress": {},
    "PUT /api/sessions/{id}/secrets/{name}": {"value": "a value of the session"},
    "POST /api/sessions/{id}/jobs": {"prompt": "more"},
    "POST /invoke": {"prompt": "more", "session_id": "sessions"},
    "POST /trigger": {"prompt": "more", "session_id": "sessions"},
    "OPTIONS /invoke": None,
    "OPTIONS /trigger": None,
    "POST /api/sessions/{id}/shells": {"shellId": "spare"},
    "WS /runtimes/{runtime}/ws/shells": None,
    "POST /event": {"channel": "/default/room", "events": ["1"]},
    "OPTIONS /event": None,
    "OPTIONS /event/history": None,
    "OPTIONS /event/presence": None,
    "GET /event/history": None,
    "GET /event/presence": None,
    "WS /event/realtime": None,
    "POST /api/approvals/{id}": {"approved": True},
    "POST /api/questions/{id}": {"answers": {"Which?": "this"}},
}
OF_ONE = {"DELETE /api/keys/{id}", "DELETE /api/rules/{id}", "DELETE /api/signins/{id}"} | {
    n for n in BODIES if n.partition(" ")[2].startswith(("/api/webhooks/{id}", "/api/notifications/{id}"))
}
"""Of an organisation, and named by an id: another organisation's does not exist."""
OF_PEOPLE = {
    "GET /api/signins": 403,
    "DELETE /api/signins/{id}": 404,
    **{n: 403 for n in BODIES if n.partition(" ")[2].startswith("/api/notifications")},
}
"""A person's own. A key has none: it may where it is an admin's, else it is answered so."""
OF_SERVER = {"POST /api/organisations", "GET /metrics"}
"""For the organisation that the server belongs to."""
PUBLIC = {
    "POST /api/signin": 401,  # of a ticket that nobody has
    "GET /api/signin/oidc/{provider}": 303,
    "GET /api/signin/oidc/{provider}/callback": 401,  # of an answer to nothing
    "GET /api/artifacts/{id}/signed": 404,  # of a link that nobody signed
    "OPTIONS /event": 204,
    "OPTIONS /event/history": 204,
    "OPTIONS /event/presence": 204,
    "OPTIONS /invoke": 204,
    "OPTIONS /trigger": 204,
}
"""What a public one answers, where that is not 200."""
ALWAYS_NEW = {"DELETE", "POST", "PATCH", "PUT"}


def name(entry: Entry) -> str:
    return f"{entry.method} {entry.path}"


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    kept = Namespace("default", history=10, presence=True)
    async with serving(houses=[FakeIssuer()], namespaces=[kept]) as running:
        yield running


@pytest.fixture
async def world(served: Served) -> World:
    made = World(served)
    await made.settle()
    await made.furnish()
    return made


def test_every_address_has_its_row() -> None:
    assert set(BODIES) == {name(e) for e in TABLE}
    assert set(IN_A_SESSION) == {name(e) for e in TABLE if e.on == "session"}
    linked = {name(e) for e in TABLE if e.links and e.on == "session"}
    assert linked == {n for n, may in IN_A_SESSION.items() if "link" in may}
    assert {name(e) for e in TABLE if e.links} - linked == {"POST /api/signout", "GET /api/me"}


def actors(world: World, links: dict[str, dict[str, str]]) -> dict[tuple[str, str], dict[str, str]]:
    known = {(o, a): world.by_key(o, a) for o in ("red", "blue") for a in ROLES}
    return {("", "nobody"): {}, **known, **{("red", n): h for n, h in links.items()}}


def expected(entry: Entry, organisation: str, actor: str) -> tuple[bool, set[int]]:
    """Whether it may, and the statuses of the refusal otherwise."""
    if entry.policy == "public":
        return True, set()
    if actor == "nobody":
        return False, {401}
    if actor.endswith("-link") and not entry.links:
        return False, {401 if entry.policy == "credential" else 403}  # the one never looks at cookies
    if entry.on == "organisation":
        if actor.endswith("-link"):
            return True, set()
        assert entry.scope is not None
        if name(entry) in OF_PEOPLE and ROLES[actor] != "admin":
            return False, {OF_PEOPLE[name(entry)]}
        if name(entry) in OF_SERVER or entry.scope not in SCOPES_OF_ROLE[ROLES[actor]]:  # type: ignore[index]
            return False, {403}
        return (False, {404}) if name(entry) in OF_ONE and organisation == "blue" else (True, set())
    if organisation == "blue":
        return False, {404}
    return actor in IN_A_SESSION[name(entry)].split(), {403}


@pytest.mark.parametrize("entry", [e for e in TABLE if e.method != "WS"], ids=name)
async def test_c13_everybody_at(world: World, entry: Entry) -> None:
    """Who may is not refused; who may not is, as the table says, and nothing has changed."""
    links = {f"{right}-link": await world.link(right) for right in ("watch", "approve", "type")}
    for (organisation, actor), headers in actors(world, links).items():
        if actor == "admin" and name(entry) == "DELETE /api/members/{account:path}":
            await world.served.identity.members.put(organisation, "viewer", role="viewer")
        if actor.endswith("-link"):
            headers = await world.link(actor.removesuffix("-link"))
        may, refusals = expected(entry, organisation, actor)
        before = (world.session.live.head, set(world.session.approvals.pending), world.session.live.record)
        given = BODIES[name(entry)]
        if given and "session_id" in given:
            given = {**given, "session_id": world.ids["sessions"]}
        status, code = await world.ask(entry.method, entry.path, headers, given)
        told = (organisation, actor, status, code)
        if not may:
            assert status in refusals, told
            after = (world.session.live.head, set(world.session.approvals.pending), world.session.live.record)
            assert after == before, told
            continue
        if name(entry) in PUBLIC:
            assert status == PUBLIC[name(entry)], told
        else:
            assert status in {200, 201, 202, 204}, told
        if entry.method in ALWAYS_NEW and entry.policy != "public" and name(entry) != "POST /api/signout":
            await world.furnish()


# --- the socket ---

FRAMES: dict[str, tuple[dict[str, Any], str]] = {
    "subscribe": ({"chatId": "sessions"}, ALL + LINKS),
    "chat": ({"chatId": "sessions", "message": "more"}, RUN),
    "approval_response": ({"approvalId": "approvals", "approved": True}, "approver admin owner approve-link"),
    "question_response": ({"questionId": "questions", "answers": {"Which?": "x"}}, "approver admin owner approve-link"),
    "interrupt": ({"chatId": "sessions"}, RUN),
    "set_mode": ({"chatId": "sessions", "mode": "manual"}, RUN),
    "set_model": ({"chatId": "sessions", "model": "m"}, RUN),
}


async def said(world: World, headers: dict[str, str], kind: str, fields: dict[str, Any]) -> str:
    """`ok`, or the code of the refusal."""
    known = {"chatId", "approvalId", "questionId"}
    frame = {"type": kind, **{k: world.ids[v] if k in known else v for k, v in fields.items()}}
    async with websockets.connect(world.served.socket_url, additional_headers=headers) as socket:
        await socket.send(json.dumps(frame))
        await socket.send('{"type":"ping"}')
        answer = "ok"
        while True:
            got = json.loads(await asyncio.wait_for(socket.recv(), 20))
            if got.get("type") == "rejected":
                answer = got["code"]
            if got.get("type") == "pong":
                return answer


@pytest.mark.parametrize("kind", FRAMES)
async def test_c13_everybody_on_the_socket(world: World, kind: str) -> None:
    fields, may = FRAMES[kind]
    for organisation in ("red", "blue"):
        for actor in (*ROLES, *(LINKS.split() if organisation == "red" else ())):
            linked = actor.endswith("-link")
            headers = await world.link(actor.removesuffix("-link")) if linked else world.by_key(organisation, actor)
            head = world.session.live.head
            answer = await said(world, headers, kind, fields)
            if organisation == "red" and actor in may.split():
                assert answer == "ok", (actor, answer)
                if kind != "subscribe":
                    await world.furnish()
                continue
            # Of another organisation: by the scope first, which its own role may lack nowhere; then it does not exist.
            assert answer == ("forbidden" if organisation == "red" else "not_found"), (organisation, actor, answer)
            assert world.session.live.head == head, actor


async def test_nobody_opens_a_socket_and_a_link_makes_no_session(world: World) -> None:
    with pytest.raises(websockets.InvalidStatus) as refused:
        await websockets.connect(world.served.socket_url)
    assert refused.value.response.status_code == 401
    link = await world.link("type")
    assert await said(world, link, "chat", {"message": "x"}) == "forbidden"
    assert await said(world, world.by_key("red", "viewer"), "chat", {"message": "x"}) == "forbidden"
    with pytest.raises(websockets.InvalidStatus):
        await websockets.connect(world.served.socket_url, additional_headers={"cookie": link["cookie"]})


# --- lists ---


async def test_lists_are_of_what_one_may_see_and_pages_are_full(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Private sessions of others lie between; no cursor names one, and no page comes out short because of them."""
    monkeypatch.setattr(shelf, "PAGE", 3)  # a list is many reads
    sessions = world.served.platform.sessions
    mine: list[str] = [world.ids["sessions"]]
    hidden: set[str] = set()
    for number in range(12):
        made = await sessions.create(owner="admin", organisation="red", agent="echo")
        if number % 3 == 0:
            mine.append(made.live.record.id)
        else:
            await sessions.shelf.share(made, private=True)
            hidden.add(made.live.record.id)
    seen: list[str] = []
    cursor = ""
    async with httpx.AsyncClient(base_url=world.served.url, headers=world.by_key("red", "viewer")) as http:
        while True:
            page = (await http.get("/api/sessions", params={"limit": 2, "cursor": cursor})).json()
            seen += [s["id"] for s in page["items"]]
            if page["next"] is None:
                break
            assert len(page["items"]) == 2
            cursor = page["next"]
            assert cursor not in hidden
        assert seen == sorted(mine, reverse=True)
        assert [i["approvalId"] for i in (await http.get("/api/approvals")).json()["items"]] == [world.ids["approvals"]]
        for item in (await http.get("/api/sessions")).json()["items"]:
            assert item["rights"] == ["read"]
            assert "grants" not in item
    async with httpx.AsyncClient(base_url=world.served.url, headers=world.by_key("blue", "admin")) as http:
        for listed in ("sessions", "approvals?state=all", "questions?state=all", "rules"):
            assert (await http.get(f"/api/{listed}")).json()["items"] == [], listed
        assert (await http.get(f"/api/sessions?cursor={world.ids['sessions']}")).json()["items"] == []
        assert {k["account"] for k in (await http.get("/api/keys")).json()["items"]} == set(ROLES)
        assert (await http.get("/api/members?organisation=red")).status_code == 403
        assert (await http.post("/api/tickets?organisation=red&account=admin")).status_code == 403
        assert [o["id"] for o in (await http.get("/api/organisations")).json()["items"]] == ["blue"]
