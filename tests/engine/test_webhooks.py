"""Webhooks: what is promised with the log is delivered, whatever happens to server, store and receiver."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import msgspec
import pytest

from pilothouse.adapters.stores.memory import MemoryStore
from pilothouse.core import events as ev
from pilothouse.core import link, webhook
from pilothouse.core.access import ORGANISATION
from pilothouse.core.errors import BadRequest, Conflict, NotFound, TooMany, Unavailable
from pilothouse.engine import couriers as lanes
from pilothouse.engine import deliveries as kept
from pilothouse.engine import records
from pilothouse.engine.deliveries import Answer, DeliveryRecord, NotSent, Request
from pilothouse.engine.ports import Commit, Op, StoreFailed
from pilothouse.engine.sessions import Session
from pilothouse.engine.webhooks import WEBHOOKS_MAX, WebhookRecord
from tests.engine.conftest import Bench
from tests.engine.posted import URL, House


@pytest.fixture
async def house(bench: Bench) -> AsyncIterator[House]:
    made = House(bench)
    await made.start()
    yield made
    await made.outgoing.close()


# --- what is told ---


async def test_a_job_that_ends_is_told_once_and_says_no_more_than_it_should(house: House) -> None:
    record, secret = await house.webhook()
    session = await house.finished("failed", "the password is hunter2")
    (request,) = await house.outside.until(1)
    done = await house.state(record.id, "delivered")
    assert len(done) == 1
    assert request.url == URL
    said = msgspec.json.decode(request.body)
    assert said["type"] == "job.completed"
    assert said["data"] == {
        "sessionId": session.live.record.id, "sessionTitle": "Fix it", "jobId": done_job(said), "outcome": "failed",
        "url": f"https://pilothouse.example/#/s/{session.live.record.id}", "totalCost": 0.0, "durationMs": 5,
        "numTurns": 1,
    }  # fmt: skip
    assert b"hunter2" not in request.body
    assert secret.startswith("whsec_")


def done_job(said: dict[str, Any]) -> str:
    return str(said["data"]["jobId"])


async def test_an_approval_and_a_budget_are_told_too(house: House) -> None:
    await house.webhook()
    session = await house.bench.session(permission_mode="manual")
    job, runner = await house.bench.run(session)
    runner.say(link.PermissionAsk(request_id="r", tool_id="t", tool="Bash", input={"command": "cat hunter2"}))
    (request,) = await house.outside.until(1)
    said = msgspec.json.decode(request.body)
    assert said["type"] == "approval.required"
    assert said["data"]["approvalId"] in session.approvals.pending
    assert said["data"]["tool"] == "Bash"
    assert b"hunter2" not in request.body
    runner.end_turn(job.id, "budget_exceeded", "")
    await house.outside.until(3)
    assert sorted(type for type, _ in house.outside.said()) == [
        "approval.required",
        "budget.exceeded",
        "job.completed",
    ]


async def test_only_what_is_wanted_by_whom_it_is_for(house: House) -> None:
    await house.webhook(events=["budget.exceeded"])
    other, _ = await house.webhook(name="other")
    off, _ = await house.webhook(name="off")
    await house.outgoing.webhooks.change(ORGANISATION, off.id, enabled=False)
    await house.bench.sessions.kit.store.commit()
    elsewhere = await house.bench.sessions.create(owner="x", organisation="elsewhere", agent="echo")
    job, runner = await house.bench.run(elsewhere)
    runner.end_turn(job.id)
    await house.bench.until(elsewhere, ev.Complete)
    await house.finished()
    await house.state(other.id, "delivered")
    assert len(house.outside.got) == 1


async def test_nothing_from_before_a_webhook_was_made(house: House) -> None:
    await house.finished()
    house.bench.clock._now += 10
    record, _ = await house.webhook()
    house.bench.clock._now += 10
    await house.finished()
    await house.state(record.id, "delivered")
    await house.restart()
    await house.finished()
    await house.outside.until(2)
    assert len({id for _, id in house.outside.said()}) == 2


async def test_nothing_from_while_it_was_off(house: House) -> None:
    record, _ = await house.webhook()
    webhooks = house.outgoing.webhooks
    await webhooks.change(ORGANISATION, record.id, enabled=False)
    session = await house.finished()
    house.bench.clock._now += 30 * 86_400
    await webhooks.change(ORGANISATION, record.id, enabled=True)
    await house.outgoing.herald.settle(session.live.record.id)
    await house.restart()
    for one in (session, await house.finished()):
        await house.outgoing.herald.settle(one.live.record.id)
    assert len(await house.outgoing.couriers.deliveries.page(record.id, "", "", 10)) == 1


async def test_a_new_event_is_wanted_from_then_on_and_none_that_waits_is_skipped(house: House) -> None:
    record, _ = await house.webhook(events=["budget.exceeded"])
    await house.outgoing.herald.close()  # it has not come to it yet
    session = await house.finished("budget_exceeded")
    house.bench.clock._now += 10
    await house.outgoing.webhooks.change(ORGANISATION, record.id, events=["budget.exceeded", "job.completed"])
    await house.outgoing.herald.settle(session.live.record.id)
    found = await house.outgoing.couriers.deliveries.page(record.id, "", "", 10)
    assert [d.type for d in found] == ["budget.exceeded"]


# --- whatever happens to the server ---


class Mortal(MemoryStore):
    """Kills the server at its n-th commit, before or after it."""

    left = 10**9
    after = False
    dead: asyncio.Event

    async def commit(self, *ops: Op) -> Commit:
        if self.dead.is_set():
            await asyncio.Event().wait()
        self.left -= 1
        if self.left >= 0:
            return await super().commit(*ops)
        if self.after:
            await super().commit(*ops)
        self.dead.set()
        await asyncio.Event().wait()
        raise AssertionError


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_killed_at_any_commit_it_loses_nothing(after: bool) -> None:
    """A job ends; the server dies at each commit from there on, just before it and just after. What the log has is
    delivered by the next server, under one id."""
    for n in range(1, 12):
        store = Mortal()
        store.dead = asyncio.Event()
        bench = Bench(store=store)
        await bench.start()
        house = House(bench)
        await house.start()
        record, _ = await house.webhook()
        session = await bench.session(permission_mode="manual")
        job, runner = await bench.run(session)
        store.left, store.after = n, after
        runner.say(link.PermissionAsk(request_id="r", tool_id="t", tool="Bash", input={"command": "true"}))
        runner.end_turn(job.id)
        done = asyncio.ensure_future(house.outside.until(2))
        dead = asyncio.ensure_future(store.dead.wait())
        await asyncio.wait([done, dead], return_when=asyncio.FIRST_COMPLETED, timeout=10)
        for _ in range(50):
            await asyncio.sleep(0)
        dead.cancel()
        done.cancel()
        await killed(house)
        store.left, store.dead = 10**9, asyncio.Event()
        await bench.start()
        await house.start()
        await bench.until(session, ev.Complete)  # what was not in the log yet, the runner says again
        async with asyncio.timeout(10):
            while set(house.outside.said()) != (expected := await promised(house, session, record)):
                await asyncio.sleep(0)
            while house.outgoing.couriers.waiting(record.id):
                await asyncio.sleep(0)
        assert len(house.outside.got) <= 2 * len(expected), "only what came just before the kill comes twice"
        states = await house.outgoing.couriers.deliveries.page(record.id, "", "", 10)
        assert [d.state for d in states] == ["delivered"] * len(expected)
        await house.outgoing.close()
        await bench.sessions.close()


async def promised(house: House, session: Session, record: WebhookRecord) -> set[tuple[str, str]]:
    """What is to be told of what the log has, and under which ids."""
    told = {ev.ApprovalRequired: "approval.required", ev.Complete: "job.completed"}
    events = [e for e in await house.bench.events(session) if type(e) in told]
    sid = session.live.record.id
    named = [(told[type(e)], e.seq, records.seconds(e.at)) for e in events]
    return {(type, webhook.message_id(record.id, sid, seq, type, at)) for type, seq, at in named}


async def killed(house: House) -> None:
    """Every task of the server ends where it is."""
    house.outgoing.herald._sessions.kit.log.on_rows.clear()
    mine = asyncio.current_task()
    for task in asyncio.all_tasks():
        if task is not mine:
            task.cancel()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.05):
            await house.bench.sessions.close()


async def test_what_nobody_told_of_the_next_server_tells(house: House) -> None:
    """The log has it, and the server is killed before it looks; nothing more happens in that session."""
    record, _ = await house.webhook()
    await house.outgoing.herald.close()
    await house.finished()
    assert await house.outgoing.couriers.deliveries.page(record.id, "", "", 10) == []
    await house.restart()
    await house.state(record.id, "delivered")
    await house.restart()
    for _ in range(100):
        await asyncio.sleep(0)
    assert len(house.outside.got) == 1, "and the one after that does not"


async def test_a_session_that_is_deleted_at_once_is_told_of_all_the_same(house: House) -> None:
    record, _ = await house.webhook()
    await house.outgoing.herald.close()  # it has not come to it yet
    session = await house.finished()
    await house.bench.sessions.delete(session)
    await house.state(record.id, "delivered")
    assert len(house.outside.got) == 1


async def test_a_log_that_cannot_be_told_of_keeps_no_session_from_going(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    await house.webhook()
    session = await house.finished()
    errors: list[Exception] = [StoreFailed("full"), ValueError("a bug")]

    async def tell(id: str) -> None:
        raise errors[0]

    monkeypatch.setattr(house.outgoing.herald, "_tell", tell)
    with pytest.raises(Unavailable):  # what it has to tell is not lost with it
        await house.bench.sessions.delete(session)
    del errors[0]
    session = await house.finished()
    await house.bench.sessions.delete(session)
    assert await house.bench.store.get("session", session.live.record.id) is None


async def test_a_store_that_fails_delays_and_doubles_nothing(house: House) -> None:
    record, _ = await house.webhook()

    def fills(request: Request) -> Answer:
        house.bench.store.failing = "full"
        return Answer(204)

    house.outside.answer = fills
    await house.finished()
    await house.outside.until(1)
    for _ in range(5):
        await house.bench.clock.wind(1)
    assert len(house.outside.got) == 1, "it is not sent again only because its answer could not be kept"
    house.bench.store.failing = ""
    for _ in range(3):
        await house.bench.clock.wind(1)
    await house.state(record.id, "delivered")
    assert len(house.outside.got) == 1


# --- whatever the receiver does ---


async def test_it_is_tried_again_ever_more_rarely_and_then_given_up(house: House) -> None:
    record, _ = await house.webhook()
    house.outside.answer = lambda request: Answer(500)
    await house.finished()
    await house.outside.until(1)
    waits = [5, 20, 80, 320, 1280, 5120, 20480, 21600, 21600]
    for n, wait in enumerate(waits, 1):
        await settled(house, record, n)
        await house.bench.clock.wind(wait - 1)
        assert len(house.outside.got) == n, "not a second too early"
        await house.bench.clock.wind(1)
        await house.outside.until(n + 1)
    (dead,) = await house.state(record.id, "dead")
    assert (dead.attempts, dead.status, dead.error) == (10, 500, "It answered 500.")
    assert len(set(house.outside.said())) == 1
    house.outside.answer = lambda request: Answer(200)
    assert await house.outgoing.couriers.replay_dead(record.id) == 1
    await house.state(record.id, "delivered")
    assert len(set(house.outside.said())) == 1, "the same event, so the same id"
    assert await house.outgoing.couriers.replay_dead(record.id) == 0


async def settled(house: House, record: WebhookRecord, attempts: int) -> DeliveryRecord:
    for _ in range(2000):
        found = await house.outgoing.couriers.deliveries.page(record.id, "", "", 10)
        if found and found[0].attempts == attempts:
            for _ in range(20):
                await asyncio.sleep(0)  # the lane plans the next one
            return found[0]
        await asyncio.sleep(0)
    raise AssertionError(found)


async def test_its_wish_to_be_left_alone_is_kept(house: House) -> None:
    record, _ = await house.webhook()
    answers: Iterator[Answer | Exception] = iter([Answer(503, "100"), NotSent("No answer."), Answer(200)])
    house.outside.answer = lambda request: next(answers)
    await house.finished()
    await settled(house, record, 1)
    await house.bench.clock.wind(99)
    assert len(house.outside.got) == 1
    await house.bench.clock.wind(1)
    assert (await settled(house, record, 2)).error == "No answer."
    await house.bench.clock.wind(20)
    await house.state(record.id, "delivered")


async def test_410_ends_a_webhook_and_404_does_not(house: House) -> None:
    record, _ = await house.webhook()
    house.outside.answer = lambda request: Answer(404)
    await house.finished()
    await settled(house, record, 1)
    assert not house.outgoing.webhooks.get(ORGANISATION, record.id).disabled
    house.outside.answer = lambda request: Answer(410)
    await house.bench.clock.wind(5)
    (dead,) = await house.state(record.id, "dead")
    assert dead.status == 410
    async with asyncio.timeout(20):
        while not house.outgoing.webhooks.get(ORGANISATION, record.id).disabled:
            await asyncio.sleep(0)
    await house.finished()
    with pytest.raises(Conflict, match="disabled"):
        await house.outgoing.webhooks.ping(ORGANISATION, record.id)
    assert len(house.outside.got) == 2
    await house.outgoing.webhooks.change(ORGANISATION, record.id, enabled=True)
    house.outside.answer = lambda request: Answer(200)
    await house.outgoing.webhooks.ping(ORGANISATION, record.id)
    await house.state(record.id, "delivered")
    audit = [msgspec.json.decode(doc) for doc in await house.bench.sessions.kit.audit.after(ORGANISATION, 0, 100)]
    assert [r["action"] for r in audit if r["action"].startswith("webhook.")] == [
        "webhook.create", "webhook.disable", "webhook.change"
    ]  # fmt: skip
    assert "token" not in str(audit), "an address may be a secret"


async def test_one_that_never_answers_keeps_nobody_waiting(house: House) -> None:
    slow, _ = await house.webhook(url="https://slow.example/")
    quick, _ = await house.webhook()
    house.outside.slow.add("https://slow.example/")
    for _ in range(8):
        await house.finished()
    async with asyncio.timeout(10):
        while sum(r.url == URL for r in house.outside.got) < 8:
            await asyncio.sleep(0)
    assert sum(r.url != URL for r in house.outside.got) == lanes.WIDTH
    assert house.outgoing.couriers.waiting(slow.id) == 8
    assert len(await house.state(quick.id, "delivered", 8)) == 8
    await house.outgoing.webhooks.remove(ORGANISATION, slow.id)
    assert house.outgoing.couriers.waiting(slow.id) == 0
    assert await house.outgoing.couriers.deliveries.page(slow.id, "", "", 10) == []


async def test_what_waits_and_what_is_kept_has_an_end(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "PENDING_MAX", 2)
    for word in ("dead", "done"):
        monkeypatch.setitem(kept._MOST, word, 3)
    record, _ = await house.webhook()
    house.outside.slow.add(URL)
    for _ in range(4):
        await house.finished()
    found = await house.state(record.id, "dead", 2)
    assert sorted(d.state for d in found) == ["dead", "dead", "pending", "pending"]
    assert {d.error for d in found if d.state == "dead"} == {"More than 2 wait for this receiver."}
    house.outside.slow.clear()
    monkeypatch.setattr(lanes, "PENDING_MAX", 100)
    await house.restart()
    for _ in range(5):
        await house.outgoing.webhooks.ping(ORGANISATION, record.id)
        await asyncio.sleep(0)
    async with asyncio.timeout(20):
        while house.outgoing.couriers.waiting(record.id):
            await asyncio.sleep(0)
    assert await house.outgoing.couriers.deliveries.count(record.id, "done") == 3
    left = await house.outgoing.couriers.deliveries.page(record.id, "", "", 100)
    assert sorted(d.state for d in left) == ["dead", "dead", "delivered", "delivered", "delivered"]


async def test_dead_letters_have_an_end_while_nothing_is_delivered(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "PENDING_MAX", 1)
    record, _ = await house.webhook()
    house.outside.slow.add(URL)
    made = [await house.outgoing.webhooks.ping(ORGANISATION, record.id) for _ in range(8)]
    monkeypatch.setitem(kept._MOST, "dead", 3)  # more than that are there, as a server before this one left them
    for _ in range(2):
        house.bench.clock._now += 10
        session = await house.finished()
        await house.outgoing.herald.settle(session.live.record.id)
        assert await house.outgoing.couriers.deliveries.count(record.id) == 3
    left = await house.outgoing.couriers.deliveries.page(record.id, "", "", 100)
    assert sorted(d.state for d in left) == ["dead", "dead", "dead", "pending"]
    assert [d.type for d in left].count("job.completed") == 2, "the oldest go"
    assert made[0].id in {d.id for d in left}, "and nothing that waits"


# --- secrets ---


async def test_a_secret_is_changed_without_a_gap(house: House) -> None:
    record, first = await house.webhook()
    second = await house.outgoing.webhooks.rotate(ORGANISATION, record.id, 60)
    assert await good(house, record) == {first, second}
    await house.bench.clock.wind(61)
    assert await good(house, record) == {second}
    third = await house.outgoing.webhooks.rotate(ORGANISATION, record.id, 0)
    assert await good(house, record) == {third}
    await house.restart()
    assert await good(house, record) == {third}
    for bad in (-1, 10**9):
        with pytest.raises(BadRequest, match="graceS"):
            await house.outgoing.webhooks.rotate(ORGANISATION, record.id, bad)


async def good(house: House, record: WebhookRecord) -> set[str]:
    """Which of all secrets there ever were sign now."""
    made = await house.outgoing.webhooks.ping(ORGANISATION, record.id)
    request = await house.outgoing.webhooks.request(made)
    assert isinstance(request, Request)
    signatures = request.headers["webhook-signature"].split(" ")
    found = house.outgoing.webhooks._webhooks[record.id].open
    assert found is not None
    every = {kept.value for kept in found.secrets}
    stamp = int(request.headers["webhook-timestamp"])
    return {s for s in every if webhook.signature([s], made.id, stamp, request.body) in signatures}


async def test_what_cannot_be_opened_is_said_and_sent_when_it_can(house: House) -> None:
    record, _ = await house.webhook()
    house.bench.sealer.broken = "the key file is missing"
    await house.restart()
    await house.finished()
    assert "cannot be read" in (await settled(house, record, 1)).error
    with pytest.raises(Unavailable, match="cannot be read"):
        await house.outgoing.webhooks.rotate(ORGANISATION, record.id, 0)
    assert not house.outside.got
    house.bench.sealer.broken = ""
    await house.restart()
    await house.bench.clock.wind(5)
    await house.state(record.id, "delivered")


async def test_nothing_is_readable_in_the_store(house: House) -> None:
    _, secret = await house.webhook()
    house.bench.sealer.broken = ""
    docs = [doc for _, doc in await house.bench.store.scan("webhook")]
    assert docs
    for doc in docs:
        record = msgspec.json.decode(doc)
        record.pop("sealed")
        assert "hidden" not in str(record)
        assert secret not in str(record)
        assert record["shown"] == "https://hooks.example/…"


async def test_bad_wishes_change_nothing(house: House) -> None:
    record, _ = await house.webhook()
    for wish in ({"url": "http://hooks.example/"}, {"events": ["x"]}, {"name": "a\nb"}, {"url": "https://10.0.0.1/"}):
        with pytest.raises(BadRequest):
            await house.webhook(**wish)
        with pytest.raises(BadRequest):
            await house.outgoing.webhooks.change(ORGANISATION, record.id, **wish)
    assert house.outgoing.webhooks.all(ORGANISATION) == [record]
    for act in (house.outgoing.webhooks.remove, house.outgoing.webhooks.ping):
        with pytest.raises(NotFound):
            await act("elsewhere", record.id)
    house.bench.store.failing = "full"
    with pytest.raises(Unavailable):
        await house.webhook()
    house.bench.store.failing = ""
    for _ in range(WEBHOOKS_MAX - 1):
        await house.webhook()
    with pytest.raises(TooMany):
        await house.webhook()
