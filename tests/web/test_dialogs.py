"""The channels that the server itself publishes to: the log, whole and in order, for whoever may see its session."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import websockets

from pilothouse.core import dialog, link
from pilothouse.core import events as ev
from pilothouse.core.access import SCOPES
from pilothouse.core.channels import channel
from pilothouse.core.ids import JobId
from pilothouse.core.publish import EVENT_MAX, Bad, Event
from pilothouse.engine import dialogs
from pilothouse.engine.sessions import Session
from tests.engine.fakes import ScriptedRunner
from tests.web.serving import Served, serving
from tests.web.test_realtime import DENIED, Client, client, url
from tests.web.world import World


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with serving() as running:
        yield running


class Job:
    """One that runs, and what its runner says."""

    def __init__(self, session: Session, id: JobId, runner: ScriptedRunner) -> None:
        self.session, self.id, self.runner = session, id, runner
        self.sid = session.live.record.id

    @classmethod
    async def begin(cls, served: Served, session: Session | None = None) -> Job:
        sessions = served.platform.sessions
        if session is None:
            session = await sessions.create(owner="local", organisation="default", agent="echo")
        job = sessions.job(session, "do it", "local", account="local")
        await session.jobs.submit(job, client_message_id=None)
        while session.live.record.id not in served.sandboxes.runners:
            await asyncio.sleep(0.005)
        runner = served.sandboxes.runners[session.live.record.id]
        prompts = sum(isinstance(c, link.Prompt) for c in runner.commands) or 1
        await runner.command(link.Prompt, prompts)
        while not any(getattr(c, "id", "") == job.id for c in runner.commands):
            await asyncio.sleep(0.005)
        runner.say(link.TurnStarted(turn_id=job.id))
        return cls(session, job.id, runner)

    def say(self, *texts: str) -> None:
        self.runner.say(*[ev.Stream(content=text, message_id="m") for text in texts])

    async def end(self) -> None:
        self.runner.end_turn(self.id)
        while self.session.jobs.busy:
            await asyncio.sleep(0.005)


async def until(one: Client, kind: str) -> list[dict[str, Any]]:
    """The events up to one of a type."""
    found: list[dict[str, Any]] = []
    while not found or found[-1]["type"] != kind:
        frame = await one.hear()
        assert frame["type"] == "data", frame
        event = json.loads(frame["event"])
        assert event["seq"] == frame["seq"]
        found.append(event)
    return found


async def test_a_dialog_is_its_job_s_part_of_the_log_in_order_to_its_end(served: Served) -> None:
    first = await Job.begin(served)
    async with client(served) as one:
        said = await one.subscribe("live", f"/dialog/{first.id}", after=0)
        assert said["type"] == "subscribe_success"
        assert said["gap"] is False
        first.say("a", "b", "c")
        await first.end()
        events = await until(one, "complete")
        assert [e["type"] for e in events][:1] == ["chat"]
        assert "".join(e["text"] for e in events if e["type"] == "stream") == "abc"
        assert all(e["content"] == e["text"] for e in events if e["type"] == "stream")
        assert {e["jobId"] for e in events} == {first.id}
        second = await Job.begin(served, first.session)
        second.say("other")
        await second.end()
        await one.subscribe("again", f"dialog/{first.id}", after=events[1]["seq"])
        assert await until(one, "complete") == events[2:]
        await one.subscribe("whole", f"session/{first.sid}", after=0)
        whole = await until(one, "complete") + await until(one, "complete")
        assert [e["seq"] for e in whole] == list(range(1, len(whole) + 1))
        assert [e for e in whole if e.get("jobId") == first.id] == events
        assert (await one.ask(type="bogus"))["type"] == "error", "nothing else came"


async def test_many_followers_at_any_place_see_one_sequence(served: Served) -> None:
    job = await Job.begin(served)
    async with client(served) as one:
        for number in range(20):
            job.say(f"{number};")
            await one.say(
                type="subscribe", id=f"s{number}", channel=f"dialog/{job.id}", after=0, authorization=one.given
            )
            while job.runner.acked < job.runner.n:
                await asyncio.sleep(0.002)
        await job.end()
        seen: dict[str, list[int]] = {}
        while sum(events[-1] == job.session.live.head for events in seen.values()) < 20:
            frame = await one.hear()
            if frame["type"] == "data":
                seen.setdefault(frame["id"], []).append(frame["seq"])
        assert len({tuple(events) for events in seen.values()}) == 1


async def test_one_may_subscribe_ahead_of_a_job_and_gets_all_of_it(served: Served) -> None:
    sessions = served.platform.sessions
    session = await sessions.create(owner="local", organisation="default", agent="echo")
    job = sessions.job(session, "later", "local", account="local")
    async with client(served) as one:
        assert await one.subscribe("ahead", f"dialog/{job.id}") == {"type": "subscribe_success", "id": "ahead"}
        await session.jobs.submit(job, client_message_id=None)
        assert [e["type"] for e in await until(one, "chat")] == ["chat"]


async def test_who_may_not_see_it_hears_nothing_and_is_told_when_time_is_up(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job of others looks like one that is not there."""
    monkeypatch.setattr(dialogs, "PENDING_S", 1.0)
    await served.identity.members.make("red", None)
    await served.identity.members.put("red", "owner", role="admin")
    _, key = await served.identity.keys.create("x", SCOPES, account="owner", organisation="red")
    job = await Job.begin(served)
    async with websockets.connect(url(served), additional_headers={"x-api-key": key}) as socket:
        other = Client(socket, {"x-api-key": key})
        for id, name in (("theirs", job.id), ("nobody", "01a1fca5-a696-7da8-a592-78b242187567"), ("word", "job-7")):
            assert await other.subscribe(id, f"dialog/{name}", after=0) == {"type": "subscribe_success", "id": id}
        job.say("secret")
        ended = [await other.hear() for _ in range(3)]
        assert {frame["id"] for frame in ended} == {"theirs", "nobody", "word"}
        assert {(frame["type"], frame["errors"][0]["errorType"]) for frame in ended} == {
            ("error", "UnauthorizedException")
        }
        assert (await other.subscribe("s", f"session/{job.sid}"))["errors"] == [DENIED]
        event = json.dumps({"type": "custom", "name": "x", "data": 1})
        for name in (f"session/{job.sid}", f"dialog/{job.id}"):
            assert (await other.publish("p", name, event))["errors"] == [DENIED]
    assert served.platform.dialogs is not None
    assert served.platform.dialogs._pending == {}


@pytest.mark.parametrize("when", ["before", "meanwhile"])
async def test_c12_who_waits_for_a_job_sees_it_by_what_it_may_when_the_job_comes(
    served: Served, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    members, sessions = served.identity.members, served.platform.sessions
    await members.make("red", None)
    for account in ("owner", "boss", "other"):
        await members.put("red", account, role="admin")
    session = await sessions.create(owner="owner", organisation="red", agent="echo")
    await sessions.shelf.share(session, private=True)
    job = sessions.job(session, "later", "owner", account="owner")
    _, key = await served.identity.keys.create("x", SCOPES, account="boss", organisation="red")
    looked = sessions.of_job

    async def late(*args: Any) -> Any:
        found = await looked(*args)
        await members.put("red", "boss", role="viewer")
        return found

    async with websockets.connect(url(served), additional_headers={"x-api-key": key}) as socket:
        one = Client(socket, {"x-api-key": key})
        assert (await one.subscribe("ahead", f"dialog/{job.id}"))["type"] == "subscribe_success"
        if when == "before":
            await members.put("red", "boss", role="viewer")  # who sees no private session of others
        else:
            monkeypatch.setattr(sessions, "of_job", late)
        await session.jobs.submit(job, client_message_id=None)
        frame = await one.hear()
        assert (frame["type"], frame["id"]) == ("error", "ahead")


async def test_c12_a_right_that_ends_ends_the_subscription_and_no_other(served: Served) -> None:
    world = World(served)
    await world.settle()
    await world.furnish()
    key = world.keys["red", "viewer"]
    async with websockets.connect(url(served), additional_headers={"x-api-key": key}) as socket:
        one = Client(socket, {"x-api-key": key})
        await one.subscribe("log", f"session/{world.ids['sessions']}")
        await one.subscribe("own", "default/room")
        await served.platform.sessions.shelf.share(world.session, private=True)
        frame = await one.hear()
        assert (frame["type"], frame["id"]) == ("error", "log")
        assert (await one.subscribe("log", f"session/{world.ids['sessions']}"))["errors"] == [DENIED]
        assert await one.ask(type="unsubscribe", id="own") == {"type": "unsubscribe_success", "id": "own"}


async def test_c12_a_credential_of_one_subscription_ends_that_one(served: Served) -> None:
    record, text = await served.identity.keys.create("short", ("read",))
    async with client(served) as one:
        await one.subscribe("own", "default/room")
        await Client(one.socket, {"x-api-key": text}).subscribe("lent", "default/room")
        await served.identity.keys.revoke(record.id)
        frame = await one.hear()
        assert (frame["type"], frame["id"]) == ("error", "lent")
        assert (await one.ask(type="unsubscribe", id="own"))["type"] == "unsubscribe_success"


async def test_c30_a_credential_that_holds_nothing_any_more_is_forgotten(served: Served) -> None:
    record, text = await served.identity.keys.create("lent", ("read",))
    async with client(served) as one:
        lent = Client(one.socket, {"x-api-key": text})
        for _ in range(2):
            for id in ("a", "b"):
                assert (await lent.subscribe(id, "default/room"))["type"] == "subscribe_success"
            await one.ask(type="unsubscribe", id="a")
            assert f"key:{record.id}" in served.hub._open, "it holds another one"
            await one.ask(type="unsubscribe", id="b")
            assert f"key:{record.id}" not in served.hub._open
        await lent.subscribe("a", "default/room")
        await served.identity.keys.revoke(record.id)
        assert ((await one.hear())["id"], f"key:{record.id}" in served.hub._open) == ("a", False)
        assert (await one.ask(type="connection_init"))["type"] == "connection_ack"


async def test_a_session_that_is_deleted_ends_its_subscriptions(served: Served) -> None:
    job = await Job.begin(served)
    await job.end()
    async with client(served) as one, httpx.AsyncClient(base_url=served.url) as http:
        await one.subscribe("s", f"session/{job.sid}")
        await one.subscribe("d", f"dialog/{job.id}")
        gone = await http.delete(f"/api/sessions/{job.sid}", headers={"x-api-key": await served.key()})
        assert gone.status_code == 204
        ended = {(f["type"], f["id"]) for f in [await one.hear(), await one.hear()]}
        assert ended == {("error", "s"), ("error", "d")}
    assert served.platform.dialogs is not None
    assert served.platform.dialogs._watches == {}


async def test_admins_may_follow_everything_of_their_organisation(served: Served) -> None:
    async with client(served) as admin, client(served, "read", "run") as person:
        for pattern in ("session/*", "dialog/*"):
            assert (await person.subscribe("s", pattern))["errors"] == [DENIED]
            assert (await admin.subscribe(pattern.partition("/")[0], pattern))["type"] == "subscribe_success"
        await served.identity.members.make("red", None)
        await served.platform.sessions.create(owner="x", organisation="red", agent="echo")
        job = await Job.begin(served)
        await job.end()
        seen: list[tuple[str, dict[str, Any]]] = []
        while sum(event["type"] == "complete" for _, event in seen) < 2:
            frame = await admin.hear()
            seen.append((frame["id"], json.loads(frame["event"])))
        assert {event["sessionId"] for _, event in seen} == {job.sid}
        assert [e["seq"] for id, e in seen if id == "session"] == list(range(1, job.session.live.head + 1))
        assert all(e.get("jobId") == job.id for id, e in seen if id == "dialog")
    assert served.platform.dialogs is not None
    assert served.platform.dialogs._watches == {}


async def test_what_others_publish_there_is_custom_and_in_the_log(served: Served) -> None:
    job = await Job.begin(served)
    key = await served.key()
    async with client(served) as one, httpx.AsyncClient(base_url=served.url, headers={"x-api-key": key}) as http:
        await one.subscribe("d", f"dialog/{job.id}")
        text = json.dumps({"type": "custom", "name": "build", "data": {"ok": True}})
        done = await http.post("/event", json={"channel": f"/dialog/{job.id}", "events": [text]})
        assert (done.status_code, len(done.json()["successful"])) == (200, 1)
        [event] = await until(one, "custom")
        assert (event["name"], event["data"], event["by"], event["jobId"]) == (
            "build",
            {"ok": True},
            "key:test",
            job.id,
        )
        head = job.session.live.head
        for bad in (
            '{"type": "complete", "outcome": "succeeded"}',
            '{"type": "custom"}',
            "7",
            '{"type":"approval_resolved"}',
        ):
            answer = await http.post("/event", json={"channel": f"/session/{job.sid}", "events": [text, bad]})
            assert (answer.status_code, answer.headers["x-amzn-errortype"]) == (400, "BadRequestException")
        for channel_ in ("/dialog", f"/dialog/{job.id}/x", f"/session/{job.sid}/x"):
            assert (await http.post("/event", json={"channel": channel_, "events": [text]})).status_code == 400
        reader = await served.key("read")
        refused = await http.post(
            "/event", json={"channel": f"/session/{job.sid}", "events": [text]}, headers={"x-api-key": reader}
        )
        assert refused.status_code == 403
        assert job.session.live.head == head
        await job.end()
        late = await http.post("/event", json={"channel": f"/dialog/{job.id}", "events": [text]})
        assert (late.status_code, late.headers["x-amzn-errortype"]) == (409, "ConflictException")
        assert (await until(one, "complete"))[-1]["type"] == "complete"
        assert (await http.get(f"/event/history?channel=dialog/{job.id}")).status_code == 400


# --- what is told ---


def test_what_is_too_large_for_a_channel_says_where_it_is() -> None:
    row = b'{"type":"tool_result","sessionId":"s","jobId":"j","at":"t","result":"%b","seq":7}' % (b"x" * EVENT_MAX)
    job, rest = dialog.told(row, 7)
    frame = json.loads(b"{" + rest)
    event = json.loads(frame["event"])
    assert (job, frame["seq"], event["seq"], event["type"]) == ("j", 7, 7, "tool_result")
    assert event["truncated"]["event"] == {"size": len(row), "url": "/api/sessions/s/events?after=6&limit=1"}


@pytest.mark.parametrize("text", ["null", "[]", '{"type":"custom","name":""}', '{"type":"custom","name":"a\\nb"}',
                                  '{"type":"custom","name":7}', '{"type":"stream","content":"x"}'])  # fmt: skip
def test_what_is_not_custom(text: str) -> None:
    with pytest.raises(Bad):
        dialog.custom(Event.of(text.encode()))


def test_a_channel_has_two_words() -> None:
    assert dialog.about(channel("/dialog/x")) == "x"
