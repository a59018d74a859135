"""What programs use of the client: calls, what their jobs made and used, and being told; against a server."""

from __future__ import annotations

import asyncio
import hashlib
import io
import zipfile
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from pilothouse.client import BadRequest, Client, Conflict, Forbidden, NotFound, events
from pilothouse.core import link, tally
from pilothouse.core.api.kept import Invocation, JobArtifact
from pilothouse.core.api.outgoing import NotifierChange
from pilothouse.core.ids import SessionId
from pilothouse.core.tally import Tally
from pilothouse.engine import tallies
from tests.engine.fakes import ScriptedRunner
from tests.receiver import Receiver, receiving
from tests.web.answering import answering, echo
from tests.web.serving import Served, serving

NOBODY = "00000000-0000-4000-8000-000000000000"
MADE = b"made by the job\n"


@dataclass
class House:
    served: Served
    client: Client
    receiver: Receiver
    root: Path

    async def session(self) -> str:
        id = (await self.client.sessions.make(agent="echo")).id
        (self.root / id).mkdir()
        return id


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    def writing(runner: ScriptedRunner, prompt: link.Prompt) -> None:
        """Each job leaves a file, if its session has a folder."""
        (session,) = (id for id, one in served.sandboxes.runners.items() if one is runner)
        if (tmp_path / session).is_dir():
            (tmp_path / session / f"{prompt.message}.txt").write_bytes(MADE)
        echo(runner, prompt)

    async with (
        receiving() as receiver,
        serving(workspaces=tmp_path, private=[receiver.target]) as served,
        answering(served.sandboxes, writing),
        Client(served.url, await served.key()) as client,
    ):
        yield House(served, client, receiver, tmp_path)


async def test_a_call_runs_to_its_end_and_the_same_word_finds_it_again(house: House) -> None:
    calls = house.client.calls
    wish = Invocation(prompt="hello", session_id=await house.session(), permission_mode="acceptAll", timeout_s=60)
    output = await calls.invoke(wish, key="one")
    assert (output.success, output.result, output.session_id) == (True, "hello", wish.session_id)
    assert output.metadata.num_turns == 1
    assert await calls.invoke(wish, key="one") == output
    assert (await calls.trigger(wish, key="one")).job_id == output.metadata.job_id
    other = await calls.invoke(wish)
    assert other.metadata.job_id != output.metadata.job_id, "without a word of the caller's each is another wish"
    failed = await calls.invoke(Invocation(prompt="fail out of luck"))
    assert (failed.success, failed.result) == (False, "out of luck")
    with pytest.raises(Conflict, match="idempotency-key"):
        await calls.invoke(Invocation(prompt="another"), key="one")


@pytest.mark.parametrize(("wish", "kind", "said"), [
    (Invocation(prompt=" "), BadRequest, "prompt: "),
    (Invocation(prompt="x", max_tokens=0), BadRequest, "max_tokens: "),
    (Invocation(prompt="x", allowed_tools="Hammer"), BadRequest, "allowed_tools: "),
    (Invocation(prompt="x", session_id=NOBODY), NotFound, ""),
])  # fmt: skip
async def test_what_cannot_be_called_is_named(house: House, wish: Invocation, kind: type[Exception], said: str) -> None:
    for call in (house.client.calls.invoke, house.client.calls.trigger):
        with pytest.raises(kind) as caught:
            await call(wish)
        assert str(caught.value).startswith(said)
    assert await house.client.sessions.all() == []


async def test_a_job_is_started_under_a_name_and_followed_by_it(house: House) -> None:
    client = house.client
    wish = Invocation(prompt="hello", job_id="nightly-1")
    made = await client.calls.trigger(wish)
    assert (made.job_id, made.channel) == ("nightly-1", "/dialog/nightly-1")
    seen = [event async for event in client.jobs.follow(made.job_id)]
    assert isinstance(seen[-1], events.Complete)
    assert seen[-1].result == "hello"
    assert (await client.calls.trigger(wish)).session_id == made.session_id
    assert (await client.jobs.get("nightly-1")).outcome == "succeeded"
    assert len(await client.sessions.all()) == 1


async def test_what_a_job_made(house: House) -> None:
    client, session = house.client, await house.session()
    outputs = [await client.calls.invoke(Invocation(prompt=word, session_id=session)) for word in ("first", "second")]
    job = outputs[0].metadata.job_id
    (told,) = outputs[0].metadata.uploaded_files
    (kept,) = await client.artifacts.of_job(job)
    assert isinstance(kept, JobArtifact)
    assert (kept.path, kept.size, kept.job_id, kept.session_id) == ("first.txt", len(MADE), job, session)
    assert told.file_name == kept.path
    assert told.sha256 == kept.sha256 == hashlib.sha256(MADE).hexdigest()
    assert told.url.startswith(house.served.url)
    assert {one.path async for one in client.artifacts.of_session(session)} == {"first.txt", "second.txt"}
    assert await client.artifacts.get(kept.id) == kept
    assert await whole(client.artifacts.open(kept.id)) == MADE
    with zipfile.ZipFile(io.BytesIO(await whole(client.artifacts.zip(job)))) as archive:
        assert [archive.read(name) for name in archive.namelist()] == [MADE]
    signed = await client.artifacts.link(kept.id, 60)
    async with aiohttp.ClientSession() as anybody, anybody.get(signed.url) as answer:
        assert await answer.read() == MADE
    with pytest.raises(BadRequest, match="expiresInS"):
        await client.artifacts.link(kept.id, 0)
    for asked in (client.artifacts.get(NOBODY), whole(client.artifacts.open(NOBODY))):
        with pytest.raises(NotFound):
            await asked


async def whole(download: AbstractAsyncContextManager[AsyncIterator[bytes]]) -> bytes:
    async with download as chunks:
        return b"".join([chunk async for chunk in chunks])


async def test_what_was_used(house: House) -> None:
    kit, client = house.served.platform.kit, house.client
    today = tally.day(kit.clock.now())
    for day, model, tokens in ((today, "m-1", 1), (today, "m-2", 2), ("2020-01-01", "m-1", 4)):
        made = Tally(
            organisation="default", person="ann", session=SessionId(NOBODY),
            day=day, model=model, input_tokens=tokens, calls=1,
        )  # fmt: skip
        await kit.store.commit(tallies.put(made))
    report = await client.usage.get(by=["person", "model"])
    assert {(one.person, one.model, one.input_tokens) for one in report.items} == {("ann", "m-1", 1), ("ann", "m-2", 2)}
    assert report.total.input_tokens == 3
    old = await client.usage.get(first="2020-01-01", last="2020-01-01")
    assert [(one.day, one.input_tokens) for one in old.items] == [("2020-01-01", 4)]
    for wrong in (client.usage.get(by=["colour"]), client.usage.get(first="yesterday")):
        with pytest.raises(BadRequest):
            await wrong


async def test_how_somebody_is_told(house: House) -> None:
    mine = house.client.notifications
    assert await mine.all() == []
    made = await mine.slack(f"{house.receiver.url}/services/secret", name="team", events=["job"])
    assert (made.kind, made.name, made.events, made.sessions) == ("slack", "team", ["job"], "own")
    assert made.to == house.receiver.url, "its path is a secret"
    sent = await mine.test(made.id)
    (got,) = await house.receiver.until(1)
    assert got.path == "/services/secret"
    async with asyncio.timeout(20):
        while [one.id for one in await mine.deliveries(made.id, "delivered")] != [sent.id]:
            await asyncio.sleep(0.01)
    off = await mine.change(made.id, NotifierChange(enabled=False, sessions="all"))
    assert (off.enabled, off.sessions, off.events) == (False, "all", ["job"])
    with pytest.raises(Conflict):
        await mine.test(made.id)
    assert [one.id for one in await mine.all()] == [made.id]
    await mine.remove(made.id)
    assert await mine.all() == []
    with pytest.raises(BadRequest, match="url: "):
        await mine.slack("http://example.com/")
    async with Client(house.served.url, await house.served.key("read", "run")) as weak:
        with pytest.raises(Forbidden):
            await weak.notifications.all()


async def test_what_a_receiver_refuses_is_said(house: House) -> None:
    house.receiver.answer = lambda got: web.Response(status=410)
    mine = house.client.notifications
    made = await mine.slack(house.receiver.url)
    await mine.test(made.id)
    async with asyncio.timeout(20):
        while not (dead := await mine.deliveries(made.id, "dead")):
            await asyncio.sleep(0.01)
    assert (dead[0].status, dead[0].attempts) == (410, 1)


async def test_events_of_a_program_come_to_a_session_too(house: House) -> None:
    """Its channels take no key, which the client makes for others."""
    session = await house.session()
    said = '{"type":"custom","name":"deploy","data":{"step":1}}'
    done = await house.client.channels.publish(f"/session/{session}", [said])
    assert (len(done.successful), done.failed) == (1, [])
    with pytest.raises(BadRequest, match="key"):
        await house.client.channels.publish(f"/session/{session}", [said], key="mine")
    again = [await house.client.channels.publish("/default/room", ["1"], key="mine") for _ in range(2)]
    assert again[0] == again[1]
