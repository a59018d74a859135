"""The chat socket as conversations, driven by a client that we did not write."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from pilothouse.core import events as ev
from pilothouse.core import link
from pilothouse.core.access import Scope
from pilothouse.engine.sessions import Session
from pilothouse.web.guard import COOKIE
from pilothouse.web.socket import Inbox, Message
from tests.engine.fakes import LOCAL, ScriptedRunner
from tests.web.serving import Served, serving


@pytest.fixture(params=["hot", "plain"])
async def served(request: pytest.FixtureRequest) -> AsyncIterator[Served]:
    async with serving(hot=request.param == "hot") as running:
        yield running


async def dial(served: Served, *scopes: Scope) -> ClientConnection:
    return await connect(
        served.socket_url, additional_headers={"x-api-key": await served.key(*scopes)}, max_size=None, compression=None
    )


async def say(socket: ClientConnection, **message: Any) -> None:
    await socket.send(json.dumps(message))


async def hear(socket: ClientConnection, *types: str) -> dict[str, Any]:
    """The next message of one of the types."""
    while True:
        message: dict[str, Any] = json.loads(await asyncio.wait_for(socket.recv(), 20))
        if message["type"] in types:
            return message


async def begin(served: Served, socket: ClientConnection) -> tuple[str, ScriptedRunner, str]:
    await say(socket, type="chat", message="do it", agent="echo", clientMessageId="c1")
    chat = await hear(socket, "subscribed")
    started = await hear(socket, "job_started")
    while chat["chatId"] not in served.sandboxes.runners:
        await asyncio.sleep(0.01)
    runner = served.sandboxes.runners[chat["chatId"]]
    await runner.command(link.Prompt)
    runner.say(link.TurnStarted(turn_id=started["jobId"]))
    return chat["chatId"], runner, started["jobId"]


async def test_a_prompt_makes_a_session_streams_asks_and_completes(served: Served) -> None:
    async with await dial(served) as socket:
        _, runner, job = await begin(served, socket)
        runner.say(ev.Stream(content="hello", message_id="m"))
        assert (await hear(socket, "stream"))["content"] == "hello"
        runner.say(link.PermissionAsk(request_id="r", tool_id="t", tool="Bash", input={"command": "make"}))
        card = await hear(socket, "approval_required")
        wrong = {"type": "approval_response", "approvalId": card["approvalId"], "approved": True}
        await say(socket, **wrong, inputHash="f" * 64)
        assert (await hear(socket, "rejected"))["code"] == "stale"
        await say(socket, **wrong, inputHash=card["inputHash"])
        assert (await hear(socket, "approval_resolved"))["outcome"] == "approved"
        await say(socket, **wrong)
        late = await hear(socket, "rejected")
        assert (late["code"], late["outcome"], late["ref"]) == ("already_resolved", "approved", card["approvalId"])
        runner.end_turn(job, result="bye")
        assert (await hear(socket, "complete"))["result"] == "bye"


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("{", "bad_message"),
        ("[]", "bad_message"),
        ('{"type":"nope"}', "bad_message"),
        ('{"type":"subscribe"}', "bad_message"),
        ('{"type":"subscribe","chatId":"x"}', "not_found"),
        ('{"type":"subscribe","chatId":"../../etc"}', "not_found"),
        ('{"type":"subscribe","chatId":"01a1fca5-a696-7da8-a592-78b242187567"}', "not_found"),
        ('{"type":"subscribe","chatId":7}', "bad_message"),
        ('{"type":"chat","message":"  "}', "bad_message"),
        ('{"type":"chat","message":"x","agent":"nope"}', "bad_request"),
        ('{"type":"chat","message":"x","permissionMode":"yolo"}', "bad_request"),
        ('{"type":"chat","message":"x","surprise":1}', "bad_message"),
        ('{"type":"approval_response","approvalId":"x","approved":true}', "not_found"),
        ('{"type":"interrupt","chatId":"x"}', "not_found"),
        (json.dumps({"type": "chat", "message": "x" * (1024 * 1024 + 1)}), "too_large"),
        (json.dumps({"type": "chat", "message": "x" * (2 * 1024 * 1024)}), "too_large"),
        (b'{"type":"ping"}', "bad_message"),
        ("[" * 50_000, "bad_message"),
    ],
    ids=lambda v: str(v)[:40],
)
async def test_bad_messages_are_rejected_and_the_socket_stays(served: Served, message: Any, code: str) -> None:
    async with await dial(served) as socket:
        await socket.send(message)
        assert (await hear(socket, "rejected"))["code"] == code
        await say(socket, type="ping")
        await hear(socket, "pong")
        assert not (await served.platform.kit.store.scan("job"))


async def test_a_message_beyond_all_limits_closes_with_1009(served: Served) -> None:
    async with await dial(served) as socket:
        with pytest.raises(ConnectionClosed) as closed:
            await socket.send("x" * (8 * 1024 * 1024 + 1))
            while True:
                await asyncio.wait_for(socket.recv(), 20)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1009


@pytest.mark.parametrize(
    ("headers", "origin", "status"),
    [
        ({}, None, 401),
        ({"x-api-key": "wrong"}, None, 401),
        ({"host": "evil.example"}, None, 421),
        ({"cookie": "good"}, None, 403),
        ({"cookie": "good"}, "http://evil.example", 403),
        ({"cookie": "good"}, "null", 403),
        ({"cookie": f"{COOKIE}=" + "x" * 43}, "ours", 401),
    ],
)
async def test_c01_the_socket_refuses_strangers(
    served: Served, headers: dict[str, str], origin: str | None, status: int
) -> None:
    given = dict(headers)
    if given.get("cookie") == "good":
        given["cookie"] = f"{COOKIE}={await served.cookie()}"
    if origin is not None:
        given["origin"] = served.url if origin == "ours" else origin
    host = given.pop("host", None)
    if host is not None:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(
            f"GET /ws HTTP/1.1\r\nHost: {host}\r\nx-api-key: {await served.key()}\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
        )
        line = await asyncio.wait_for(reader.readline(), 10)
        assert line.split()[1] in {str(status).encode(), b"403"}
        writer.close()
        return
    with pytest.raises(InvalidStatus) as refused:
        await connect(served.socket_url, additional_headers=given)
    assert refused.value.response.status_code == status


async def test_a_cookie_with_our_origin_may_open_it(served: Served) -> None:
    headers = {"cookie": f"{COOKIE}={await served.cookie()}", "origin": served.url}
    async with await connect(served.socket_url, additional_headers=headers) as socket:
        await say(socket, type="ping")
        await hear(socket, "pong")


async def test_scopes_hold_on_the_socket(served: Served) -> None:
    async with await dial(served, "read") as socket:
        await say(socket, type="chat", message="x", clientMessageId="mine")
        refused = await hear(socket, "rejected")
        assert (refused["code"], refused["ref"]) == ("forbidden", "mine")


async def test_a_revoked_key_loses_its_socket(served: Served) -> None:
    record, text = await served.identity.keys.create("short", ("read",))
    async with await connect(served.socket_url, additional_headers={"x-api-key": text}) as socket:
        await served.identity.keys.revoke(record.id)
        with pytest.raises(ConnectionClosed) as closed:
            await asyncio.wait_for(socket.recv(), 10)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 4401


@pytest.mark.parametrize("how", ["revoked", "removed"])
async def test_c12_what_lies_in_the_inbox_when_the_credential_ends_is_not_done(
    served: Served, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One message is being worked on, the others have arrived and wait for it."""
    members, keys = served.identity.members, served.identity.keys
    await members.put("default", "ann", role="operator")
    record, text = await keys.create("ann", ("read", "run"), account="ann")
    session = await served.platform.sessions.create(owner="ann", agent="echo", permission_mode="manual")
    entered, held, changes, arrived = asyncio.Event(), asyncio.Event(), list[str](), list[Message]()
    change, put = served.platform.sessions.change, Inbox.put

    async def slow(session: Session, **what: Any) -> Any:
        changes.append(what["mode"])
        entered.set()
        await held.wait()
        return await change(session, **what)

    def counted(inbox: Inbox, data: bytes, text: bool) -> None:
        arrived.append(Message(data, text))
        put(inbox, data, text)

    monkeypatch.setattr(served.platform.sessions, "change", slow)
    monkeypatch.setattr(Inbox, "put", counted)
    async with await connect(served.socket_url, additional_headers={"x-api-key": text}) as socket:
        sid = session.live.record.id
        await say(socket, type="set_mode", chatId=sid, mode="plan")
        await asyncio.wait_for(entered.wait(), 10)
        for mode in ("acceptAll", "dontAsk", "acceptEdits"):
            await say(socket, type="set_mode", chatId=sid, mode=mode)
        await say(socket, type="chat", chatId=sid, message="after the end")
        async with asyncio.timeout(10):
            while len(arrived) < 5:
                await asyncio.sleep(0.005)
        await (keys.revoke(record.id) if how == "revoked" else members.remove("default", "ann"))
        held.set()
        with pytest.raises(ConnectionClosed) as closed:
            while True:
                await asyncio.wait_for(socket.recv(), 10)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 4401
    async with asyncio.timeout(10):
        while served.platform.gate._open:  # the door has done with it
            await asyncio.sleep(0.005)
    assert changes == ["plan"]
    assert not await served.platform.kit.store.scan("job")


async def test_a_cursor_of_another_epoch_or_from_the_future_is_a_gap(served: Served) -> None:
    async with await dial(served) as first:
        chat, runner, job = await begin(served, first)
        runner.end_turn(job)
        await hear(first, "complete")
    for wrong in ({"after": 3, "epoch": "another"}, {"after": 10_000}):
        async with await dial(served) as socket:
            await say(socket, type="subscribe", chatId=chat, **wrong)
            assert (await hear(socket, "subscribed"))["gap"] is True
            assert json.loads(await socket.recv())["seq"] == 1
            assert (await hear(socket, "caught_up"))["seq"] >= 5


async def test_viewers_are_counted_and_told(served: Served) -> None:
    async with await dial(served) as first:
        chat, _, _ = await begin(served, first)
        second = await dial(served)
        await say(second, type="subscribe", chatId=chat)
        assert (await hear(second, "subscribed"))["viewers"] == 2
        while (await hear(first, "viewers"))["viewers"] != 2:
            pass
        await second.close()
        while (await hear(first, "viewers"))["viewers"] != 1:
            pass


async def watch(served: Served, key: str, session: Session, seed: int, last: int) -> list[int]:
    """A viewer that joins when it likes, reads as it likes and comes back by its cursor."""
    dice = random.Random(seed)
    seen: list[int] = []
    epoch: str | None = None
    await asyncio.sleep(dice.random() * 2)
    while not seen or seen[-1] < last:
        # On a busy machine, two hundred clients in one process do not get round to their pongs; and one whose queue is
        # full reads no close, so it would wait for it in vain.
        async with connect(
            served.socket_url, additional_headers={"x-api-key": key}, compression=None, ping_interval=None,
            open_timeout=60, close_timeout=0.2,
        ) as socket:  # fmt: skip
            extra = {"epoch": epoch} if epoch else {}
            await say(socket, type="subscribe", chatId=session.live.record.id, after=seen[-1] if seen else 0, **extra)
            leave_after = dice.choice([None, dice.randrange(1, 400)])
            while not seen or seen[-1] < last:
                message = json.loads(await asyncio.wait_for(socket.recv(), 60))
                if message["type"] == "subscribed":
                    epoch = message["epoch"]
                    assert message["gap"] is False
                if "seq" in message and message["type"] != "caught_up":
                    seen.append(message["seq"])
                    if seed % 10 == 0 and dice.random() < 0.02:
                        await asyncio.sleep(0.05)
                    if leave_after is not None and len(seen) >= leave_after:
                        if dice.random() < 0.5:
                            socket.transport.abort()
                        break
    return seen


@pytest.mark.parametrize("served", ["hot"], indirect=True)
async def test_two_hundred_viewers_end_with_exactly_the_log(served: Served) -> None:
    key = await served.key()
    async with await dial(served) as author:
        chat, runner, job = await begin(served, author)
        session = await served.platform.sessions.get(chat, LOCAL)
        count = 800
        last = 5 + count + 1
        viewers = [asyncio.create_task(watch(served, key, session, seed, last)) for seed in range(200)]
        for i in range(count):
            runner.say(ev.Stream(content=f"{i} " * 20, message_id="m"))
            if i % 4 == 0:
                await asyncio.sleep(0.008)
        while session.live.head < 5 + count - 1:
            await asyncio.sleep(0.05)
        runner.end_turn(job)
        while session.jobs.busy:
            await asyncio.sleep(0.05)
        head = session.live.head
        if head < last:
            await session.live.commit([ev.ErrorEvent(code="filler", message="x")] * (last - head))
        for seen in await asyncio.gather(*viewers):
            assert seen == list(range(1, len(seen) + 1))
            assert seen[-1] >= last
