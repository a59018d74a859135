"""A connection to a shell whose right ends between the upgrade's answer and the first message, or with messages on the
way: nothing is shown, nothing is typed."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from pilothouse.core.access import SCOPES
from pilothouse.core.shell import ShellId
from pilothouse.engine.opener import Opener
from pilothouse.engine.terminal import Terminal
from pilothouse.web.doors import doors
from pilothouse.web.guard import LOOPBACK, Guard, Trust
from pilothouse.web.socket import Accept, Frames, Message, UpgradeRequest
from tests.core.signing import signed
from tests.web.serving import serving
from tests.web.world import World


class Wire:
    """A socket in the hands of the test."""

    def __init__(self) -> None:
        self.request = UpgradeRequest("", "", [], None, None)
        self.sent: list[bytes] = []
        self.code: int | None = None
        self.full = False
        self.inbox: asyncio.Queue[Message | None] = asyncio.Queue()

    @property
    def closed(self) -> bool:
        return self.code is not None

    def send_text(self, data: bytes) -> None: ...
    def send_frames(self, frames: Frames) -> None: ...
    def send_run(self, prefix: bytes, run: object) -> Any: ...
    def attach(self, valve: object) -> None: ...
    def detach(self, valve: object) -> None: ...
    def listen(self, on_message: object) -> None: ...

    def send_binary(self, data: bytes) -> None:
        if not self.closed:
            self.sent.append(data)

    def buffered(self) -> int:
        return 0

    def underway(self) -> int:
        return 0

    async def writable(self) -> bool:
        return not self.closed

    async def receive(self) -> Message | None:
        return await self.inbox.get()

    def close(self, code: int = 1000, reason: str = "") -> None:
        if not self.closed:
            self.code = code
            self.inbox.put_nowait(None)

    def types(self, data: bytes) -> None:
        self.inbox.put_nowait(Message(b"\0" + data, text=False))

    def controls(self, type: str) -> list[dict[str, object]]:
        found = [json.loads(frame[1:]) for frame in self.sent if frame[0] == 0x10]
        return [body for body in found if body["type"] == type]


class House(World):
    @property
    def opener(self) -> Opener:
        assert self.served.platform.opener is not None
        return self.served.platform.opener

    async def terminal(self) -> Terminal:
        return await self.opener.find(self.session, ShellId("spare"))

    async def accepted(self, path: str, headers: dict[str, str], query: str = "") -> Accept:
        """What a door says to an upgrade."""
        guard = Guard(self.served.identity, lambda: Trust(hosts=LOOPBACK), pairs=self.served.platform.pairs)
        door = doors(self.served.platform, guard, self.served.hub)(path)
        assert door is not None
        given = [("host", f"127.0.0.1:{self.served.port}"), *headers.items()]
        answer = await door.authorize(UpgradeRequest(path, query, given, ("127.0.0.1", 1), secure=False))
        assert isinstance(answer, Accept), answer
        return answer

    async def ours(self, headers: dict[str, str]) -> Accept:
        return await self.accepted(f"/api/sessions/{self.ids['sessions']}/shells/spare", headers)


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with serving() as served:
        made = House(served)
        await made.settle()
        await made.furnish()
        yield made


async def test_a_key_that_is_revoked_during_the_upgrade_shows_nothing(house: House) -> None:
    record, text = await house.served.identity.keys.create("short", SCOPES, account="owner", organisation="red")
    answer, wire = await house.ours({"x-api-key": text}), Wire()
    await house.served.identity.keys.revoke(record.id)
    await asyncio.wait_for(answer.serve(wire), 20)
    assert (wire.code, wire.sent) == (4401, [])
    assert (await house.terminal()).viewers == ()


async def test_a_session_that_becomes_private_during_the_upgrade_shows_nothing(house: House) -> None:
    answer, wire = await house.ours(house.by_key("red", "operator")), Wire()
    await house.served.platform.sessions.shelf.share(house.session, private=True)
    await asyncio.wait_for(answer.serve(wire), 20)
    assert (wire.code, wire.sent) == (4401, [])


async def test_who_may_only_look_since_the_upgrade_began_types_nothing(house: House) -> None:
    answer, wire = await house.ours(house.by_key("red", "operator")), Wire()
    await house.served.identity.members.put("red", "operator", role="viewer")
    wire.types(b"no")
    wire.inbox.put_nowait(None)
    await asyncio.wait_for(answer.serve(wire), 20)
    assert [viewer["mayType"] for viewer in wire.controls("presence")[0]["viewers"]] == [False]  # type: ignore[attr-defined]
    assert [refused["what"] for refused in wire.controls("refused")] == ["typing"]


async def test_a_client_of_the_shell_api_whose_pair_ends_during_the_upgrade(house: House) -> None:
    record, secret = await house.served.platform.pairs.create("p", SCOPES, account="owner", organisation="red")
    named = (("X-Amzn-Bedrock-AgentCore-Runtime-Session-Id", house.ids["sessions"]),)
    path = "/runtimes/my_agent-AbCdEf1234/ws/shells"
    url = f"{house.served.url}{path}?shellId=spare"
    request = signed("GET", url, named, key=(record.id, secret.secret_access_key), now=time.time())
    headers = {name.lower(): value for name, value in request.headers if name.lower() != "host"}
    answer, wire = await house.accepted(path, headers, "shellId=spare"), Wire()
    await house.served.platform.pairs.revoke(record.id)
    await asyncio.wait_for(answer.serve(wire), 20)
    assert (wire.code, wire.sent) == (1008, [])


async def test_a_shell_that_ended_during_the_upgrade_is_not_shown_as_failed(house: House) -> None:
    """To a client the code says: come back. It finds another shell of that name, or none."""
    answer, wire = await house.ours(house.by_key("red", "owner")), Wire()
    await house.served.platform.sessions.stop(house.session)
    await asyncio.wait_for(answer.serve(wire), 20)
    assert (wire.code, wire.sent) == (1011, [])


async def test_what_was_on_its_way_when_the_right_ended_is_not_typed(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal, typed = await house.terminal(), list[bytes]()

    def write(typist: int, offset: int, data: bytes) -> int:
        typed.append(data)
        return 0

    monkeypatch.setattr(terminal.shell, "write", write)
    record, text = await house.served.identity.keys.create("short", SCOPES, account="owner", organisation="red")
    answer, wire = await house.ours({"x-api-key": text}), Wire()
    serving_it = asyncio.ensure_future(answer.serve(wire))
    wire.types(b"before")
    while not typed:
        await asyncio.sleep(0)
    wire.types(b"after")  # has arrived, and nobody has looked at it yet
    house.served.hub.revoked(f"key:{record.id}")
    await serving_it
    assert (wire.code, typed) == (4401, [b"before"])
