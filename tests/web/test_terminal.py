"""The door to a shell for our own viewers, and the HTTP API beside it: real programs on real PTYs, by both servers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from pilothouse.core.access import SCOPES, Principal
from pilothouse.web.guard import LINK_COOKIE
from tests.web.serving import serving
from tests.web.world import World


@pytest.fixture(params=["hot", "plain"])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    async with serving(hot=request.param == "hot") as served:
        made = World(served)
        await made.settle()
        await made.furnish()
        yield made


def by(world: World, account: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=world.served.url, headers=world.by_key("red", account), timeout=20)


def shells(world: World) -> str:
    return f"/api/sessions/{world.ids['sessions']}/shells"


async def opened(world: World, *command: str, **more: Any) -> str:
    async with by(world, "owner") as http:
        made = await http.post(shells(world), json={"command": list(command) or ["/bin/sh"], **more})
        assert made.status_code == 201, made.text
        return str(made.json()["shellId"])


class Viewer:
    """Keeps what it is sent: the output at its offset, the rest as it was said."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.out = bytearray()
        self.start = 0
        self.said: list[tuple[int, dict[str, Any]]] = []

    async def hear(self, channel: int, *, having: str = "") -> dict[str, Any]:
        """The next of that channel, of that type."""
        while True:
            for at, (kind, body) in enumerate(self.said):
                if kind == channel and (not having or having in json.dumps(body)):
                    del self.said[at]
                    return body
            await self._more()

    async def see(self, data: bytes) -> None:
        while data not in self.out:
            await self._more()

    async def type(self, data: bytes) -> None:
        await self.socket.send(b"\0" + data)

    async def end(self) -> tuple[int, str]:
        try:
            while True:
                await self._more()
        except ConnectionClosed as end:
            assert end.rcvd is not None
            return end.rcvd.code, end.rcvd.reason

    async def _more(self) -> None:
        message = await asyncio.wait_for(self.socket.recv(), 20)
        assert isinstance(message, bytes)
        assert message
        if message[0] == 1:
            self.out += message[1:]
        else:
            body: Any = message[1:].decode()
            if message[0] in {3, 0x10}:
                body = json.loads(body)
            if message[0] == 3 and "offset" in body["metadata"] and not self.out:
                self.start = body["metadata"]["offset"]
            self.said.append((message[0], body))


async def view(world: World, id: str, account: str = "owner", query: str = "", **more: Any) -> Viewer:
    url = f"{world.served.socket_url.removesuffix('/ws')}{shells(world)}/{id}{query}"
    headers = more.pop("headers", None) or world.by_key("red", account)
    return Viewer(await connect(url, additional_headers=headers, max_size=None, compression=None, **more))


STATUS, STDERR, CONTROL = 3, 2, 0x10


async def test_a_shell_is_made_watched_typed_in_resized_and_ends(world: World) -> None:
    id = await opened(world, "/bin/sh", width=70, height=20)
    one = await view(world, id, query="?width=70&height=20")
    met = (await one.hear(STATUS))["metadata"]
    assert (met["shellId"], met["reconnected"], met["offset"], met["typed"]) == (id, False, 0, 0)
    await one.type(b"stty size\n")
    await one.see(b"20 70")
    await one.socket.send(b'\x04{"width":100,"height":31}')
    await one.type(b"stty size\n")
    await one.see(b"31 100")
    two = await view(world, id, "viewer")
    await two.see(b"31 100")
    assert bytes(two.out).startswith(bytes(one.out)) or bytes(one.out).startswith(bytes(two.out))
    await two.type(b"echo no\n")
    assert (await two.hear(CONTROL, having="refused"))["what"] == "typing"
    people = await one.hear(CONTROL, having="viewer")
    while len(people.get("viewers", ())) < 2:
        people = await one.hear(CONTROL, having="viewers")
    assert [(v["name"], v["role"], v["mayType"]) for v in people["viewers"]] == [
        ("key:owner", "type", True), ("key:viewer", "watch", False),
    ]  # fmt: skip
    async with by(world, "viewer") as http:
        (shown,) = [s for s in (await http.get(shells(world))).json()["items"] if s["shellId"] == id]
        assert (shown["running"], shown["width"], shown["height"]) == (True, 100, 31)
        assert [v["role"] for v in shown["viewers"]] == ["type", "watch"]
    await one.type(b"exit 7\n")
    for viewer in (one, two):
        ended = await viewer.hear(STATUS, having="NonZeroExitCode")
        assert ended["details"]["causes"][0]["message"] == "7"
        assert (await viewer.end())[0] == 1000


async def test_who_comes_back_gets_what_it_has_not_seen(world: World) -> None:
    id = await opened(world)
    one = await view(world, id, query="?typist=77")
    await one.type(b"echo first\n")
    await one.see(b"first\r\n")
    await one.socket.close()
    again = await view(world, id, query=f"?after={len(one.out)}&typist=77")
    status = await again.hear(STATUS)
    assert status["metadata"]["offset"] == len(one.out)
    assert status["metadata"]["typed"] == 11
    await again.type(b"echo second\n")
    await again.see(b"second\r\n")
    whole = await view(world, id, "viewer")
    await whole.see(b"second\r\n")
    together = bytes(one.out + again.out)
    assert together.startswith(bytes(whole.out)) or bytes(whole.out).startswith(together)
    late = await view(world, id, query="?after=999999999")
    assert "after" in (await late.hear(STATUS, having="InternalError"))["message"]
    assert (await late.end())[0] == 1008


@pytest.mark.parametrize(
    ("messages", "code"),
    [
        ([b""] * 5, 1003),
        (["text"] * 5, 1003),
        ([b"\0" + b"x" * 65_537], 1009),
        ([b"\x07what"] * 5, 1003),
        ([b"\x01mine"] * 5, 1003),
        ([b'\x04{"width":0,"height":1}'] * 5, 1008),
        ([b'\x04{"width":1001,"height":1}'] * 5, 1008),
        ([b'\x04{"width":-1,"height":1}'] * 5, 1008),
        ([b'\x04{"width":NaN,"height":1}'] * 5, 1008),
        ([b"\x04nonsense"] * 5, 1008),
        ([b'\x10{"type":"wish"}'] * 5, 1008),
        ([b"\x05"] * 251, 1008),
        ([b"\xff"], 1000),
    ],
    ids=lambda what: repr(what)[:24],
)
async def test_what_a_viewer_may_not_send_ends_its_connection_alone(
    world: World, messages: list[bytes | str], code: int
) -> None:
    id = await opened(world)
    other = await view(world, id, "operator")
    one = await view(world, id)
    for message in messages:
        await one.socket.send(message)
    assert (await one.end())[0] == code
    if code == 1000:  # it was closed for good
        assert (await other.hear(STATUS, having="Signal"))["status"] == "Failure"
        return
    await other.type(b"echo st''ill\n")
    await other.see(b"still")


async def test_addresses_and_queries_that_are_wrong_are_refused_with_a_reason(world: World) -> None:
    id = await opened(world)
    for query, status in {
        "?after=x": 400, "?after=-1": 400, "?after=1&after=2": 400, "?role=admin": 400, "?width=0&height=1": 400,
        "?width=5": 400, "?height=1001&width=1": 400, "?typist=18446744073709551616": 400, "?colour=red": 400,
        "?" + "role=watch&" * 101: 400,
    }.items():  # fmt: skip
        with pytest.raises(InvalidStatus) as refused:
            await view(world, id, query=query)
        assert refused.value.response.status_code == status, query
        assert refused.value.response.headers["content-type"] == "application/problem+json"
    for wrong, status in {"nobody": 404, "-x": 400, "a%2Fb": 400, "a" * 129: 400}.items():
        with pytest.raises(InvalidStatus) as refused:
            await view(world, wrong)
        assert refused.value.response.status_code == status, wrong
    with pytest.raises(InvalidStatus) as refused:
        await view(world, id, headers=world.by_key("blue", "admin"))
    assert refused.value.response.status_code == 404
    with pytest.raises(InvalidStatus) as refused:
        await view(world, id, headers={"x-api-key": "nonsense"})
    assert refused.value.response.status_code == 401
    link = await world.link("type")
    await world.furnish()  # another session
    with pytest.raises(InvalidStatus) as refused:
        await view(world, "spare", headers=link)
    assert refused.value.response.status_code == 404


@pytest.mark.parametrize(
    "body",
    [
        {"shellId": "-x"}, {"shellId": ""}, {"shellId": "a" * 129}, {"command": []}, {"command": [""]},
        {"command": ["a\0"]}, {"command": ["x" * 40_000]}, {"width": 0}, {"height": 1001}, {"width": "80"},
        {"cwd": "\0"}, {"cwd": "x" * 5000}, {"colour": "red"},
    ],
    ids=lambda body: repr(body)[:30],
)  # fmt: skip
async def test_a_shell_that_cannot_be_is_refused_and_none_is_made(world: World, body: dict[str, Any]) -> None:
    async with by(world, "owner") as http:
        before = len((await http.get(shells(world))).json()["items"])
        refused = await http.post(shells(world), json=body)
        assert refused.status_code == 400, refused.text
        assert refused.json()["detail"]
        assert len((await http.get(shells(world))).json()["items"]) == before


async def test_a_command_is_shown_with_its_secrets_masked_and_a_shell_of_the_session_s_own_has_none(
    world: World,
) -> None:
    id, value = await opened(world, "sh", "-c", "cat; : later-a-secret-1"), "later-a-secret-1"
    async with by(world, "owner") as http:
        own = (await http.post(shells(world), json={})).json()
        assert "command" not in own
        listed = {one["shellId"]: one.get("command") for one in (await http.get(shells(world))).json()["items"]}
        assert (listed[own["shellId"]], listed[id]) == (None, ["sh", "-c", f"cat; : {value}"])
        path = f"/api/sessions/{world.ids['sessions']}/secrets/LATER"
        assert (await http.put(path, json={"value": value})).status_code == 200
        listed = {one["shellId"]: one.get("command") for one in (await http.get(shells(world))).json()["items"]}
        assert listed[id] == ["sh", "-c", f"cat; : {'*' * len(value)}"]


async def test_ten_shells_and_no_more(world: World) -> None:
    for _ in range(9):  # there is one already
        await opened(world, "/bin/cat")
    async with by(world, "owner") as http:
        refused = await http.post(shells(world), json={})
        assert refused.status_code == 429
        assert "10" in refused.json()["detail"]
        assert (await http.post(shells(world), json={"shellId": "spare"})).status_code == 200  # it is there


async def test_ending_a_shell_and_stopping_its_session_tell_those_who_look(world: World) -> None:
    one, two = await opened(world), await opened(world, "/bin/cat")
    first, second = await view(world, one), await view(world, two)
    async with by(world, "owner") as http:
        assert (await http.delete(f"{shells(world)}/{one}")).status_code == 204
        assert (await first.end())[0] == 1000
        assert (await http.delete(f"{shells(world)}/nobody")).status_code == 404
        stopped = await http.post(f"/api/sessions/{world.ids['sessions']}/stop")
        assert stopped.status_code == 204
        assert (await second.end())[0] == 1001
        assert (await http.get(shells(world))).json()["items"] == []
        audit = (await by(world, "admin").get("/api/audit")).json()["items"]
        done = [(r["action"], r["details"]["shell"]) for r in audit if r["action"].startswith("shell.")]
        assert ("shell.open", one) in done
        assert ("shell.end", one) in done


async def test_who_may_less_watches_and_who_may_nothing_goes(world: World) -> None:
    id = await opened(world)
    members = world.served.identity.members
    one = await view(world, id, "operator")
    await one.type(b"echo mi''ne\n")
    await one.see(b"mine")
    await members.put("red", "operator", role="viewer")
    await one.type(b"echo no''more\n")
    assert (await one.hear(CONTROL, having="refused"))["what"] == "typing"
    assert b"nomore" not in one.out
    await members.put("red", "operator", role="operator")
    await one.socket.send(b'\x10{"type":"role","role":"type"}')
    await one.type(b"echo a''gain\n")
    await one.see(b"again")
    await world.served.platform.sessions.shelf.share(world.session, private=True)
    assert (await one.end())[0] == 4401


async def test_a_share_link_watches_or_types_in_the_shells_that_are_there(world: World) -> None:
    id = await opened(world)
    owner = await view(world, id)
    for right in ("watch", "approve", "type"):
        headers = await world.link(right)
        async with httpx.AsyncClient(base_url=world.served.url, headers=headers, timeout=20) as http:
            assert id in [shown["shellId"] for shown in (await http.get(shells(world))).json()["items"]]
            assert (await http.post(shells(world), json={"shellId": "mine"})).status_code == 403
            assert (await http.delete(f"{shells(world)}/{id}")).status_code == 403
        visitor = await view(world, id, query="?role=type", headers=headers)
        await visitor.type(b"echo b''y-%b\n" % right.encode())
        if right == "type":
            await owner.see(b"by-type")
            await visitor.see(b"by-type")
        else:
            assert (await visitor.hear(CONTROL, having="refused"))["what"] == "typing"
            await visitor.socket.send(b'\x10{"type":"take"}')
            assert (await visitor.hear(CONTROL, having="refused"))["what"] == "typing"
            await owner.type(b"echo se''en-%b\n" % right.encode())
            await visitor.see(b"seen-%b" % right.encode())
        await visitor.socket.close()
    assert b"by-watch" not in owner.out
    assert b"by-approve" not in owner.out
    with pytest.raises(InvalidStatus) as refused:  # a page of another origin has the cookie and not the right
        await view(world, id, headers=headers | {"origin": "http://evil.example"})
    assert refused.value.response.status_code == 403


async def test_who_comes_by_a_link_is_told_no_addresses(world: World) -> None:
    id = await opened(world)
    _, text = await world.served.identity.keys.create("ann@example.com", SCOPES, account="owner", organisation="red")
    ann = await view(world, id, headers={"x-api-key": text})
    headers = await world.link("watch")
    visitor = await view(world, id, headers=headers)
    seen = await visitor.hear(CONTROL, having="viewers")
    assert [v["name"] for v in seen["viewers"]] == ["key:ann", "link:watch"]
    told = await ann.hear(CONTROL, having="link:watch")
    assert [v["name"] for v in told["viewers"]] == ["key:ann@example.com", "link:watch"]
    async with httpx.AsyncClient(base_url=world.served.url, headers=headers, timeout=20) as http:
        assert "example.com" not in (await http.get(shells(world))).text


async def test_a_link_types_as_long_as_its_maker_may(world: World) -> None:
    id = await opened(world)
    members, shelf = world.served.identity.members, world.served.platform.sessions.shelf
    await shelf.share(world.session, account="viewer", grant="run")
    maker = Principal("person", "x", "x", "viewer", frozenset(SCOPES), "x", organisation="red")
    made, text = await world.served.identity.links.make(maker, world.session.live.record.id, "type")
    headers = {"cookie": f"{LINK_COOKIE}={text}", "origin": world.served.url}
    visitor = await view(world, id, headers=headers)
    await visitor.type(b"echo fi''rst\n")
    await visitor.see(b"first")
    await shelf.share(world.session, account="viewer", grant="watch")
    await visitor.type(b"echo sec''ond\n")
    assert (await visitor.hear(CONTROL, having="refused"))["what"] == "typing"
    assert b"second" not in visitor.out
    await members.put("red", "viewer", role="operator")
    await visitor.socket.send(b'\x10{"type":"role","role":"type"}')
    await visitor.type(b"echo th''ird\n")
    await visitor.see(b"third")
    await world.served.identity.links.revoke(made.session_id, made.id)
    assert (await visitor.end())[0] == 4401


async def test_a_key_that_is_revoked_closes_its_shells(world: World) -> None:
    id = await opened(world)
    keys = world.served.identity.keys
    record, text = await keys.create("short", SCOPES, account="owner", organisation="red")
    one = await view(world, id, headers={"x-api-key": text})
    other = await view(world, id)
    await keys.revoke(record.id)
    assert (await one.end())[0] == 4401
    await other.type(b"echo st''ill\n")
    await other.see(b"still")


async def test_a_server_that_goes_says_so_and_600_kb_of_input_arrive(world: World) -> None:
    id = await opened(world, "/bin/sh", "-c", "stty raw -echo; echo ready; head -c 600000 | cksum; sleep 100")
    one = await view(world, id)
    await one.see(b"ready")
    for _ in range(10):
        await one.type(b"x" * 60_000)
    await one.see(b" 600000")
    world.served.hub.all_away()
    assert (await one.end())[0] == 1001
