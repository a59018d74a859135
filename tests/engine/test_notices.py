"""Notifications: who is told, who is not, what is said, and that it is true."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from pilothouse.adapters.outgoing import push
from pilothouse.core import events as ev
from pilothouse.core import link
from pilothouse.core.access import ORGANISATION, Principal
from pilothouse.core.errors import BadRequest, Conflict, NotFound, TooMany
from pilothouse.core.ids import ApprovalId
from pilothouse.engine.audit import Who
from pilothouse.engine.deliveries import Answer, DeliveryRecord, Withheld
from pilothouse.engine.notices import FLOOD_MAX
from pilothouse.engine.notifier import Keys, NotifierRecord, Wish
from pilothouse.engine.notifiers import OWN_MAX
from pilothouse.engine.sessions import Session
from tests.adapters.outgoing.test_push import public
from tests.engine.conftest import Bench
from tests.engine.fakes import ScriptedRunner
from tests.engine.posted import House

SLACK = "https://hooks.slack.example/services/T0/B0/secretpart"


@pytest.fixture
async def house(bench: Bench) -> AsyncIterator[House]:
    made = House(bench)
    await made.start()
    for account, role in (("vera", "viewer"), ("otto", "operator"), ("anna", "approver")):
        await made.identity.members.put(ORGANISATION, account, role=role)
    yield made
    await made.outgoing.close()


async def signed_in(house: House, account: str = "local") -> Who:
    ticket, _ = await house.identity.ticket(account)
    return Who(await house.identity.by_cookie(await house.identity.redeem(ticket)), "192.0.2.1")


def browser(n: int = 0) -> tuple[str, Keys]:
    key = ec.generate_private_key(ec.SECP256R1())
    return f"https://push.example/send/{n}", Keys(p256dh=public(key), auth=push.encoded(bytes([n]) * 16))


async def asks(house: House, session: Session, n: int = 1) -> ScriptedRunner:
    _, runner = await house.bench.run(session)
    for i in range(n):
        ask = link.PermissionAsk(request_id=f"r{i}", tool_id=f"t{i}", tool="Bash", input={"command": f"cat hunter{i}"})
        runner.say(ask)
    await house.bench.until(session, ev.ApprovalRequired, n)
    return runner


async def session(house: House, owner: str = "local", **options: object) -> Session:
    return await house.bench.sessions.create(
        owner=owner,
        agent="echo",
        title="Fix <!here> the login",
        permission_mode="manual",
        **options,  # type: ignore[arg-type]
    )


async def ended(house: House, record: NotifierRecord, count: int = 1) -> list[DeliveryRecord]:
    for _ in range(3000):
        found = await house.outgoing.couriers.deliveries.page(record.id, "", "", 100)
        if sum(d.state != "pending" for d in found) >= count:
            return found
        await asyncio.sleep(0)
    raise AssertionError([d.state for d in found])


async def quiet(house: House) -> None:
    """Whatever was to be told is promised, and has been sent."""
    for _ in range(300):
        await asyncio.sleep(0)
    assert not house.outgoing.herald._grown


async def test_an_approval_is_told_to_a_browser_and_to_slack_without_what_it_is_about(house: House) -> None:
    who = await signed_in(house)
    url, keys = browser()
    pushed = await house.outgoing.notifiers.subscribe(who, url, keys, Wish())
    slack = await house.outgoing.notifiers.slack(who, SLACK, Wish())
    made = await session(house)
    await asks(house, made)
    await house.outside.until(2)
    assert (await ended(house, pushed))[0].state == "delivered"
    assert (await ended(house, slack))[0].state == "delivered"
    by_url = {r.url: r for r in house.outside.got}
    said = msgspec.json.decode(by_url[SLACK].body)["text"]
    assert said.startswith("*Approval wanted: Bash* in Fix &lt;")
    assert f"<https://pilothouse.example/#/s/{made.live.record.id}|Open the session>" in said
    request = by_url[url]
    assert request.headers["content-encoding"] == "aes128gcm"
    assert 1 <= int(request.headers["ttl"]) <= 300, "no longer than somebody may answer"
    assert "https://push.example" in str(push.decoded(request.headers["authorization"].split(".")[1]))
    for one in house.outside.got:
        assert b"hunter" not in one.body
    docs = [doc for kind in ("delivery", "notifier") for _, doc in await house.bench.store.scan(kind)]
    assert not [doc for doc in docs if b"hunter" in doc]


async def test_only_who_may_answer_is_needed_and_only_who_may_see_is_told(house: House) -> None:
    made = {}
    for account in ("vera", "otto", "anna"):
        who = await signed_in(house, account)
        wish = Wish(events=["approval", "job"], sessions="all")
        made[account] = await house.outgoing.notifiers.slack(who, f"https://slack.example/{account}", wish)
    await asks(house, await session(house))
    await ended(house, made["anna"])
    await quiet(house)
    urls = [r.url for r in house.outside.got]
    assert set(urls) == {"https://slack.example/anna"}, "the others could not answer"
    house.outside.got.clear()
    hidden = await session(house)
    await house.bench.sessions.shelf.share(hidden, private=True)
    job, runner = await house.bench.run(hidden)
    runner.end_turn(job.id)
    seen = await session(house)
    job, runner = await house.bench.run(seen)
    runner.end_turn(job.id)
    await house.outside.until(3)
    await quiet(house)
    told = sorted((r.url.rpartition("/")[2], str(seen.live.record.id) in r.body.decode()) for r in house.outside.got)
    assert told == [("anna", True), ("otto", True), ("vera", True)]


async def test_own_sessions_are_those_one_owns_or_asked_in(house: House) -> None:
    record = await house.outgoing.notifiers.slack(await signed_in(house, "anna"), SLACK, Wish(events=["job"]))
    sessions = house.bench.sessions
    for owner, account in (("local", "local"), ("anna", ""), ("local", "anna")):
        made = await session(house, owner)
        job = await made.jobs.submit(sessions.job(made, "x", "x", account=account), client_message_id=None)
        while made.live.record.id not in house.bench.sandboxes.runners:
            await asyncio.sleep(0)
        runner = house.bench.sandboxes.runners[made.live.record.id]
        await runner.command(link.Prompt)
        runner.say(link.TurnStarted(turn_id=job.id))
        runner.end_turn(job.id)
        await house.bench.until(made, ev.Complete)
    await quiet(house)
    assert len(await ended(house, record, 2)) == 2


async def test_rights_are_asked_again_when_it_is_sent(house: House) -> None:
    who = await signed_in(house, "anna")
    record = await house.outgoing.notifiers.slack(who, SLACK, Wish(events=["approval"], sessions="all"))
    house.outside.answer = lambda request: Answer(503)
    made = [await session(house) for _ in range(4)]
    for one in made:
        await asks(house, one)
    await house.outside.until(4)
    await quiet(house)
    house.outside.answer = lambda request: Answer(200)
    await house.bench.sessions.shelf.share(made[0], private=True)
    first = next(iter(made[1].approvals.pending))
    await made[1].approvals.decide(ApprovalId(first), approved=False, by="local")
    await house.bench.sessions.delete(made[2])
    await house.bench.clock.wind(3)
    found = {d.session_id: d for d in await ended(house, record, 4)}
    states = [(found[one.live.record.id].state, found[one.live.record.id].error) for one in made]
    assert states == [
        ("withheld", "Its person may not see the session any more."),
        ("withheld", "It was answered meanwhile."),
        ("withheld", "The session is gone."),
        ("delivered", ""),
    ]
    assert len(house.outside.got) == 5


async def test_what_came_while_it_was_off_or_was_not_wanted_is_not_told(house: House) -> None:
    who = await signed_in(house, "anna")
    notifiers = house.outgoing.notifiers
    wishes = [Wish(events=["job"], sessions="all"), Wish(events=["approval"], sessions="all"), Wish(events=["job"])]
    made = [await notifiers.slack(who, SLACK, wish) for wish in wishes]
    await notifiers.change(who, made[0].id, Wish(), enabled=False)
    sid = (await house.finished()).live.record.id
    house.bench.clock._now += 60
    await notifiers.change(who, made[0].id, Wish(), enabled=True)
    await notifiers.change(who, made[1].id, Wish(events=["approval", "job"]), enabled=None)
    await notifiers.change(who, made[2].id, Wish(sessions="all"), enabled=None)
    await house.outgoing.herald.settle(sid)
    await house.restart()
    await quiet(house)
    assert not house.outside.got
    house.bench.clock._now += 60
    await house.finished()
    await house.outside.until(3)
    await quiet(house)
    assert len(house.outside.got) == 3


async def test_what_nobody_needs_to_be_told_any_more_is_withheld(house: House) -> None:
    who = await signed_in(house)
    record = await house.outgoing.notifiers.slack(who, SLACK, Wish())
    made = await house.outgoing.notices.test(principal(who), record.id)
    assert made.expires_at is not None
    await ended(house, record)
    house.bench.clock._now = made.expires_at
    assert not isinstance(await house.outgoing.notices.request(made), Withheld)
    house.bench.clock._now += 1  # no server was running until now
    assert await house.outgoing.notices.request(made) == Withheld("It came too late to be told.")


async def test_whoever_leaves_or_is_shut_out_is_told_no_more(house: House) -> None:
    who = await signed_in(house, "anna")
    record = await house.outgoing.notifiers.slack(who, SLACK, Wish(events=["approval"], sessions="all"))
    await house.identity.members.put(ORGANISATION, "anna", disabled=True)
    await asks(house, await session(house))
    await quiet(house)
    assert not house.outside.got
    await house.identity.members.remove(ORGANISATION, "anna")
    assert record.id not in house.outgoing.notifiers.here
    assert await house.bench.store.scan("notifier") == []


async def test_a_browser_is_told_as_long_as_its_person_is_signed_in(house: House) -> None:
    who = await signed_in(house)
    url, keys = browser()
    record = await house.outgoing.notifiers.subscribe(who, url, keys, Wish())
    assert who.principal is not None
    await house.identity.end(who.principal.credential.removeprefix("signin:"))
    await quiet(house)
    assert record.id not in house.outgoing.notifiers.here
    again = await house.outgoing.notifiers.subscribe(await signed_in(house), url, keys, Wish())
    house.bench.clock._now += 31 * 86_400  # a sign-in ends by itself
    made = await house.outgoing.notices.test(who.principal, again.id)
    assert await house.outgoing.notices.request(made) == Withheld("The sign-in of this browser has ended.")


async def test_a_browser_has_one_person(house: House) -> None:
    url, keys = browser()
    anna, otto = await signed_in(house, "anna"), await signed_in(house, "otto")
    first = await house.outgoing.notifiers.subscribe(anna, url, keys, Wish(name="Laptop", sessions="all"))
    same = await house.outgoing.notifiers.subscribe(anna, url, keys, Wish(events=["job"]))
    assert (same.name, same.sessions, same.events) == ("Laptop", "all", ["job"])
    theirs = await house.outgoing.notifiers.subscribe(otto, url, keys, Wish())
    assert list(house.outgoing.notifiers.here) == [theirs.id]
    assert first.id not in house.outgoing.notifiers.here
    with pytest.raises(NotFound):
        house.outgoing.notifiers.get(principal(anna), theirs.id)


def principal(who: Who) -> Principal:
    assert who.principal is not None
    return who.principal


@pytest.mark.parametrize("status", [404, 410])
async def test_a_subscription_that_is_over_is_removed_and_a_webhook_is_switched_off(house: House, status: int) -> None:
    who = await signed_in(house)
    url, keys = browser()
    pushed = await house.outgoing.notifiers.subscribe(who, url, keys, Wish())
    slack = await house.outgoing.notifiers.slack(who, SLACK, Wish())
    house.outside.answer = lambda request: Answer(status)
    await asks(house, await session(house))
    await house.outside.until(2)
    await quiet(house)
    assert list(house.outgoing.notifiers.here) == [slack.id]
    assert house.outgoing.notifiers.here[slack.id].record.disabled == f"its receiver answered {status}"
    assert await house.outgoing.couriers.deliveries.page(pushed.id, "", "", 10) == []
    (dead,) = await ended(house, slack)
    assert (dead.state, dead.status, dead.error) == ("dead", status, f"It answered {status}.")
    with pytest.raises(Conflict):
        await house.outgoing.notices.test(principal(who), slack.id)


async def test_what_failed_is_said_to_have_failed(house: House) -> None:
    who = await signed_in(house)
    record = await house.outgoing.notifiers.slack(who, SLACK, Wish())
    house.outside.answer = lambda request: Answer(403)
    await house.outgoing.notices.test(principal(who), record.id)
    (dead,) = await ended(house, record)
    assert (dead.state, dead.attempts, dead.status) == ("dead", 1, 403), "a 403 does not mend itself"
    house.outside.answer = lambda request: Answer(500)
    await house.outgoing.notices.test(principal(who), record.id)
    for pause in (2, 8, 32, 120):
        await quiet(house)
        await house.bench.clock.wind(pause)
    found = await ended(house, record, 2)
    assert {(d.state, d.attempts) for d in found} == {("dead", 1), ("dead", 5)}


async def test_an_agent_that_asks_without_end_is_told_of_at_first(house: House) -> None:
    who = await signed_in(house)
    record = await house.outgoing.notifiers.slack(who, SLACK, Wish())
    await asks(house, await session(house), FLOOD_MAX + 10)
    found = await ended(house, record, FLOOD_MAX + 10)
    assert len(house.outside.got) == FLOOD_MAX
    assert sum(d.state == "withheld" and "within a minute" in d.error for d in found) == 10


async def test_the_key_of_an_installation_outlives_it_and_is_sealed(house: House) -> None:
    key = await house.outgoing.vapid.public()
    assert len(push.decoded(key)) == 65
    doc = await house.bench.store.get("vapid", "key")
    assert doc is not None
    assert doc.startswith(b"vapid:key="), "sealed, under its own name"
    await house.restart()
    assert await house.outgoing.vapid.public() == key


async def test_bad_wishes_are_named_and_change_nothing(house: House) -> None:
    who = await signed_in(house)
    url, keys = browser()
    bad: list[tuple[str, Keys | None, Wish, str]] = [
        ("http://push.example/", keys, Wish(), "url: must be https"),
        ("https://169.254.169.254/", keys, Wish(), "url: 169.254.169.254 does not lead to a public address"),
        (url, Keys(p256dh="x", auth=keys.auth), Wish(), "keys: p256dh"),
        (url, Keys(p256dh=keys.p256dh, auth="x"), Wish(), "keys: auth"),
        (url, keys, Wish(events=["all"]), "events: 'all'"),
        (url, None, Wish(sessions="theirs"), "sessions: 'theirs'"),
        (url, None, Wish(name=""), "name: "),
    ]
    for address, given, wish, said in bad:
        with pytest.raises(BadRequest, match=said):
            if given is None:
                await house.outgoing.notifiers.slack(who, address, wish)
            else:
                await house.outgoing.notifiers.subscribe(who, address, given, wish)
    assert not house.outgoing.notifiers.here
    key = Who(Principal("key", "k", "k", "local", frozenset({"read"}), "key:k"))
    with pytest.raises(Conflict, match="signed in"):
        await house.outgoing.notifiers.subscribe(key, url, keys, Wish())
    for n in range(OWN_MAX):
        await house.outgoing.notifiers.slack(who, f"{SLACK}{n}", Wish())
    with pytest.raises(TooMany):
        await house.outgoing.notifiers.slack(who, SLACK, Wish())
    assert "secretpart" not in str([n.record.shown for n in house.outgoing.notifiers.here.values()])
    audit = await house.bench.sessions.kit.audit.after(ORGANISATION, 0, 1000)
    assert not [r for r in audit if b"secretpart" in r]
