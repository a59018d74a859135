"""The parts of the client, each against a server: what it gives are types, what it raises is the tree of errors."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import msgspec
import pytest

from pilothouse import client as package
from pilothouse.client import (
    AlreadyResolved,
    BadRequest,
    Client,
    Conflict,
    Forbidden,
    Malformed,
    NotFound,
    Refused,
    TooMany,
    Unauthenticated,
)
from pilothouse.client.errors import refused
from pilothouse.core import events as ev
from pilothouse.core import link
from pilothouse.core.api.access import NewKey
from pilothouse.core.api.kept import Invocation
from pilothouse.core.api.sessions import Wish
from pilothouse.core.ids import SessionId
from tests.web.serving import Served
from tests.web.world import OneFile

NOBODY = "00000000-0000-4000-8000-000000000000"


async def test_sessions(client: Client) -> None:
    made = [await client.sessions.make(agent="echo", title=f"number {n}") for n in range(3)]
    assert [one.id for one in await client.sessions.all()] == [one.id for one in reversed(made)]
    first = made[0]
    assert (await client.sessions.get(first.id)).title == "number 0"
    assert (await client.sessions.change(first.id, title="other", private=True)).private is True
    assert "memory" in {limit.name for limit in await client.sessions.limits(first.id)}
    assert (await client.sessions.network(first.id)).contacts == []
    assert (await client.sessions.set_egress(first.id, Wish(policy="off"))).policy == "off"
    log = await client.sessions.events(first.id)
    assert isinstance(log.events[0], ev.SessionEvent)
    await client.sessions.stop(first.id)
    await client.sessions.delete(first.id)
    with pytest.raises(NotFound) as caught:
        await client.sessions.get(first.id)
    assert (caught.value.status, caught.value.code) == (404, "not_found")


async def test_every_page_of_a_list(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pilothouse.client.transport.PAGE", 2)
    made = [(await client.sessions.make(agent="echo")).id for _ in range(5)]
    assert [one.id async for one in client.sessions.each()] == made[::-1]


async def test_a_job_with_an_approval_and_a_question(client: Client, served: Served) -> None:
    session = await client.sessions.make(agent="echo", permission_mode="manual")
    job = await client.jobs.submit(session.id, "hello", max_cost_usd=1.5, key="once")
    assert (await client.jobs.submit(session.id, "hello", key="once")).id == job.id, "the same word, the same job"
    sid = SessionId(session.id)
    while sid not in served.sandboxes.runners:
        await asyncio.sleep(0.005)
    runner = served.sandboxes.runners[sid]
    await runner.command(link.Prompt)
    ask = link.PermissionAsk(request_id="r", tool_id="t", tool="Bash", input={"command": "npm test"})
    question = link.QuestionAsk(request_id="q", questions=[ev.Question(question="Which?")])
    runner.say(link.TurnStarted(turn_id=job.id), ask, question)
    seen: list[Any] = []
    async for event in client.jobs.follow(job.id):
        seen.append(event)
        if isinstance(event, ev.ApprovalRequired):
            approval = await client.approvals.get(event.approval_id)
            assert approval.input == {"command": "npm test"}
            assert [one.approval_id for one in await client.approvals.all(session=session.id)] == [event.approval_id]
            with pytest.raises(Conflict) as stale:
                await client.approvals.decide(msgspec.structs.replace(approval, input_hash="0" * 64), True)
            assert stale.value.code == "stale"
            assert (await client.approvals.decide(approval, True)).state == "approved"
            with pytest.raises(AlreadyResolved) as second:
                await client.approvals.decide(approval, False)
            assert (second.value.outcome, second.value.by) == ("approved", "key:test")
        if isinstance(event, ev.QuestionEvent):
            with pytest.raises(BadRequest, match="answers"):
                await client.questions.answer(event.question_id, {"Who?": "me"})
            assert len(await client.questions.all()) == 1
            await client.questions.answer(event.question_id, {"Which?": "this"})
            runner.say(link.TurnEnded(turn_id=job.id, outcome="succeeded", result="done", duration_ms=1, num_turns=1))
    assert isinstance(seen[-1], ev.Complete)
    done = await client.jobs.wait(job.id)
    assert (done.state, done.outcome, done.result) == ("done", "succeeded", "done")
    assert [one.id for one in await client.jobs.all(session.id)] == [job.id]
    assert {event.seq for event in seen} == {e.seq for e in (await client.jobs.events(job.id)).events}
    with pytest.raises(Conflict):
        await client.jobs.interrupt(job.id)
    assert await client.rules.all() == []


async def test_files_shells_secrets(client: Client, served: Served) -> None:
    cast(Any, served.sandboxes).files = lambda session: OneFile()
    session = (await client.sessions.make(agent="echo")).id
    assert [entry.name for entry in (await client.files.listing(session)).entries] == ["x"]
    assert await client.files.read(session, "x") == b"x"
    async with client.files.zip(session) as chunks:
        assert b"".join([chunk async for chunk in chunks]).startswith(b"PK")
    shell = await client.shells.open(session, id="build", command=["/bin/cat"], width=100)
    assert (shell.shell_id, shell.width) == ("build", 100)
    assert [one.shell_id for one in await client.shells.all(session)] == ["build"]
    await client.shells.end(session, "build")
    for place in ({}, {"session": session}, {"git": "https://git.example/a.git"}):
        made = await client.secrets.set("TOKEN", "a value of some length", use="both", **place)  # type: ignore[arg-type]
        assert (made.name, made.use, made.masked) == ("TOKEN", "both", True)
        assert "TOKEN" in {one.name for one in await client.secrets.all(place.get("session"))}
        await client.secrets.remove("TOKEN", **place)
    with pytest.raises(ValueError, match="not of both"):
        await client.secrets.set("TOKEN", "x", session=session, git="https://git.example/a.git")


async def test_keys_members_audit_channels(client: Client, served: Served) -> None:
    made = await client.keys.make(NewKey(name="ci", scopes=["read"]))
    assert made.key and made.key not in repr(made)
    assert made.id in {one.id for one in await client.keys.all()}
    async with Client(served.url, made.key) as weak:
        assert (await weak.me()).principal.scopes == ["read"]
        with pytest.raises(Forbidden):
            await weak.sessions.make()
    await client.keys.revoke(made.id)
    async with Client(served.url, made.key) as gone:
        with pytest.raises(Unauthenticated):
            await gone.me()
    assert (await client.keys.ticket()).url.startswith(served.url)
    assert (await client.members.set("ann", role="viewer", name="Ann")).role == "viewer"
    assert {one.account for one in await client.members.all()} >= {"ann", "local"}
    await client.members.remove("ann")
    assert (await client.organisations.make("red", "Red")).id in {one.id for one in await client.organisations.all()}
    records = await client.audit.after(0)
    assert msgspec.json.decode(records[-1])["seq"] == (await client.audit.head()).seq
    published = await client.channels.publish("default/room", ["1", "2"])
    assert len(published.successful) == 2
    with pytest.raises(Refused):
        await client.channels.history("default/room")


async def test_an_empty_key_is_refused_and_guards_nothing_in_silence(client: Client) -> None:
    """As a variable has it that nobody has set."""
    session = await client.sessions.make(agent="echo", key="one")
    for call in (
        lambda: client.sessions.make(agent="echo", key=""),
        lambda: client.jobs.submit(session.id, "x", key=""),
        lambda: client.calls.invoke(Invocation(prompt="x"), key=""),
        lambda: client.calls.trigger(Invocation(prompt="x"), key=""),
        lambda: client.channels.publish("/default/room", ["1"], key=""),
    ):
        with pytest.raises(BadRequest, match="1 to"):
            await call()
    assert [one.id for one in await client.sessions.all()] == [session.id]


async def test_what_has_no_method_yet(client: Client) -> None:
    assert (await client.ask(dict[str, Any], "GET", "/healthz")) == {"status": "ok"}
    with pytest.raises(Malformed):
        await client.ask(int, "GET", "/healthz")


def test_an_error_says_what_there_is_to_know() -> None:
    body = b'{"title":"","code":"rate_limited","detail":"slow","limit":20,"remaining":0,"resetAt":17,"retryAfterS":3}'
    error = refused("http://x", 429, body)
    assert isinstance(error, TooMany)
    assert (str(error), error.limit, error.remaining, error.reset_at, error.retry_after_s) == ("slow", 20, 0, 17, 3)
    plain = refused("http://x", 429, b"<html>", {"retry-after": "7"})
    assert isinstance(plain, TooMany)
    assert (plain.retry_after_s, str(plain)) == (7, "the server at http://x answered 429")
    assert type(refused("http://x", 418, b"")) is Refused


def test_everything_public_says_what_it_is() -> None:
    for name in package.__all__:
        assert getattr(package, name).__doc__ or name == "Event", name
    for group in vars(Client("http://x")).values():
        for name in [n for n in dir(group) if not n.startswith("_")]:
            method = getattr(group, name)
            short = name in {"all", "get", "each", "remove"}
            assert method.__doc__ or short or group.__class__.__name__ == "Transport", f"{group}.{name}"
