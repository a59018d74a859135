"""A prompt's way through the engine, as conversations with a runner."""

from __future__ import annotations

import asyncio
import base64
import dataclasses

import pytest

from pilothouse.core import events as ev
from pilothouse.core import link
from pilothouse.core.attach import pictures
from pilothouse.core.chat import Attached
from pilothouse.core.errors import BadRequest, Conflict, NotFound, Unavailable
from tests.engine.conftest import Bench
from tests.engine.fakes import LOCAL


def kinds(events: list[ev.LogEvent]) -> list[str]:
    return [e.__struct_config__.tag for e in events]  # type: ignore[misc]


async def test_a_job_runs_to_its_end_and_complete_is_last_and_once(bench: Bench) -> None:
    session = await bench.session()
    job, runner = await bench.run(session, "say hi")
    runner.say(ev.Stream(content="hel", message_id="m1"), ev.Stream(content="lo", message_id="m1"))
    runner.end_turn(job.id, result="hello")
    events = await bench.until(session, ev.Complete)
    assert kinds(events) == ["session", "chat", "session", "job_started", "stream", "stream", "complete"]
    assert [e.seq for e in events] == list(range(1, len(events) + 1))
    assert {e.job_id for e in events[3:]} == {job.id}
    done = events[-1]
    assert isinstance(done, ev.Complete)
    assert (done.outcome, done.result) == ("succeeded", "hello")
    while runner.acked < runner.n:
        await asyncio.sleep(0)
    runner.end_turn(job.id)
    runner.say(ev.Stream(content="late", message_id="m2"))
    late = await bench.until(session, ev.Stream, 3)
    assert kinds(late).count("complete") == 1
    assert late[-1].job_id is None


async def test_jobs_of_a_session_run_one_after_another(bench: Bench) -> None:
    session = await bench.session()
    first, runner = await bench.run(session, "one")
    second = await session.jobs.submit(bench.sessions.job(session, "two", "tester"), client_message_id=None)
    await asyncio.sleep(0.01)
    assert [c.id for c in runner.commands if isinstance(c, link.Prompt)] == [first.id]
    runner.end_turn(first.id)
    prompt = await runner.command(link.Prompt, 2)
    assert prompt.id == second.id


async def test_the_same_client_message_id_starts_nothing_twice(bench: Bench) -> None:
    session = await bench.session()
    jobs = [
        await session.jobs.submit(bench.sessions.job(session, "x", "tester"), client_message_id="c1") for _ in range(2)
    ]
    assert jobs[0].id == jobs[1].id
    assert kinds(await bench.events(session)).count("chat") == 1


async def test_a_session_that_cannot_be_opened_fails_the_job_and_says_why(bench: Bench) -> None:
    bench.sandboxes.refuse = BadRequest("git: repository not found")
    session = await bench.session()
    await session.jobs.submit(bench.sessions.job(session, "x", "t"), client_message_id=None)
    done = (await bench.until(session, ev.Complete))[-1]
    assert isinstance(done, ev.Complete)
    assert (done.outcome, done.result) == ("failed", "git: repository not found")


async def test_a_runner_that_dies_fails_the_job_and_runs_nothing_again(bench: Bench) -> None:
    session = await bench.session()
    job, runner = await bench.run(session)
    ask = link.PermissionAsk(request_id="r1", tool_id="t1", tool="Bash", input={"command": "ls"})
    runner.say(ask)
    await bench.until(session, ev.ApprovalRequired)
    bench.sandboxes.die(session.live.record.id)
    events = await bench.until(session, ev.Complete)
    assert kinds(events)[-2:] == ["approval_resolved", "complete"]
    done = events[-1]
    assert isinstance(done, ev.Complete)
    assert (done.outcome, done.reason) == ("failed", "session_lost")
    assert bench.sandboxes.started == [session.live.record.id]
    again, _ = await bench.run(session, "next")
    assert again.id != job.id
    assert len(bench.sandboxes.started) == 2


async def test_interrupt_reaches_the_agent_and_a_done_job_cannot_be_interrupted(bench: Bench) -> None:
    session = await bench.session()
    job, runner = await bench.run(session)
    await session.jobs.interrupt("tester")
    await runner.command(link.Interrupt)
    runner.end_turn(job.id, "interrupted", "stopped")
    done = (await bench.until(session, ev.Complete))[-1]
    assert isinstance(done, ev.Complete)
    assert done.outcome == "interrupted"
    with pytest.raises(Conflict):
        await session.jobs.interrupt("tester", job.id)


async def test_a_queued_job_can_be_interrupted_before_it_starts(bench: Bench) -> None:
    session = await bench.session()
    first, runner = await bench.run(session)
    second = await session.jobs.submit(bench.sessions.job(session, "two", "t"), client_message_id=None)
    await session.jobs.interrupt("tester", second.id)
    runner.end_turn(first.id)
    events = await bench.until(session, ev.Complete, 2)
    outcomes = {e.job_id: e.outcome for e in events if isinstance(e, ev.Complete)}
    assert outcomes == {second.id: "interrupted", first.id: "succeeded"}


async def test_a_turn_of_the_agents_own_is_a_job_by_agent(bench: Bench) -> None:
    session = await bench.session()
    job, runner = await bench.run(session)
    runner.end_turn(job.id)
    runner.say(link.TurnStarted(turn_id="own-1", injected=True), ev.Stream(content="by the way", message_id="m"))
    runner.end_turn("own-1")
    events = await bench.until(session, ev.Complete, 2)
    started = [e for e in events if isinstance(e, ev.JobStarted)]
    assert [s.by for s in started] == ["tester", "agent"]
    assert events[-1].job_id == started[1].job_id != job.id


async def test_steering_joins_the_running_job(bench: Bench) -> None:
    session = await bench.session()
    with pytest.raises(Conflict):
        await session.jobs.steer("left", "tester", None)
    job, runner = await bench.run(session)
    await session.jobs.steer("left, please", "tester", "c9")
    await session.jobs.steer("left, please", "tester", "c9")
    steer = await runner.command(link.Steer)
    assert isinstance(steer, link.Steer)
    assert steer.message == "left, please"
    chats = [e for e in await bench.events(session) if isinstance(e, ev.Chat)]
    assert [(c.job_id, c.steer) for c in chats] == [(job.id, False), (job.id, True)]


async def test_what_a_runner_may_not_say_is_dropped_counted_and_reported(bench: Bench) -> None:
    session = await bench.session()
    job, runner = await bench.run(session)
    runner.say_raw(b'{"type":"complete","outcome":"succeeded","result":"","totalCost":0,"durationMs":1,"numTurns":1}')
    runner.say_raw(b'{"type":"approval_resolved","approvalId":"x","outcome":"approved","by":"me"}')
    runner.say_raw(b'{"type":"stream","content":"x","messageId":"a b"}')
    runner.say_raw(
        b'{"type":"stream","content":"ok","messageId":"m","seq":99,"sessionId":"other","jobId":"other","from":3}'
    )
    runner.end_turn("some-other-turn")
    runner.end_turn(job.id)
    events = await bench.until(session, ev.Complete)
    errors = [e for e in events if isinstance(e, ev.ErrorEvent)]
    assert [e.code for e in errors] == ["runner_protocol"]
    stream = next(e for e in events if isinstance(e, ev.Stream))
    assert (stream.job_id, stream.session_id, stream.from_) == (job.id, session.live.record.id, 0)
    assert kinds(events).count("complete") == 1
    assert not [e for e in events if isinstance(e, ev.ApprovalResolved)]


async def test_nothing_is_lost_or_doubled_over_a_restart_and_the_prompt_is_not_run_twice(bench: Bench) -> None:
    session = await bench.session()
    job, runner = await bench.run(session)
    runner.say(*[ev.Stream(content=str(i), message_id="m") for i in range(10)])
    await bench.until(session, ev.Stream, 10)
    await bench.sessions.close()
    runner.say(*[ev.Stream(content=str(i), message_id="m") for i in range(10, 20)])
    await bench.start()
    session = await bench.sessions.get(session.live.record.id, LOCAL)
    while not runner.repeats:  # the prompt was offered again, and known
        await asyncio.sleep(0)
    runner.end_turn(job.id)
    events = await bench.until(session, ev.Complete)
    assert [e.content for e in events if isinstance(e, ev.Stream)] == [str(i) for i in range(20)]
    assert kinds(events).count("job_started") == kinds(events).count("complete") == 1
    assert [c.id for c in runner.commands if isinstance(c, link.Prompt)] == [job.id]
    assert runner.fences == sorted(set(runner.fences))


async def test_what_is_sent_again_is_in_the_log_once(bench: Bench) -> None:
    """The server died between its commit and its acknowledgement, or the runner lies about what was acknowledged."""
    session = await bench.session()
    job, runner = await bench.run(session)
    runner.forgets_acks = True
    runner.say(*[ev.Stream(content=str(i), message_id="m") for i in range(10)])
    await bench.until(session, ev.Stream, 10)
    for _ in range(2):
        await bench.restart()
        session = await bench.sessions.get(session.live.record.id, LOCAL)
    assert runner.wire is not None
    runner.wire.cut()
    runner.say(ev.Stream(content="10", message_id="m"))
    runner.end_turn(job.id)
    events = await bench.until(session, ev.Complete)
    assert [e.content for e in events if isinstance(e, ev.Stream)] == [str(i) for i in range(11)]
    assert await bench.store.marked(f"runner:{session.live.record.id}:{runner.id}") == runner.n


async def test_a_turn_of_the_agents_own_outlives_the_server_too(bench: Bench) -> None:
    session = await bench.session()
    job, runner = await bench.run(session)
    runner.end_turn(job.id)
    runner.say(link.TurnStarted(turn_id="own-1", injected=True), ev.Stream(content="so", message_id="m"))
    await bench.until(session, ev.Stream)
    await bench.sessions.close()
    runner.say(ev.Stream(content="on", message_id="m"))
    runner.end_turn("own-1")
    await bench.start()
    session = await bench.sessions.get(session.live.record.id, LOCAL)
    events = await bench.until(session, ev.Complete, 2)
    assert [e.content for e in events if isinstance(e, ev.Stream)] == ["so", "on"]


async def test_stopping_ends_the_running_job_and_starts_none_that_waits(bench: Bench) -> None:
    session = await bench.session()
    await bench.run(session)
    await session.jobs.submit(bench.sessions.job(session, "two", "t"), client_message_id=None)
    await bench.sessions.stop(session)
    events = await bench.until(session, ev.Complete, 2)
    assert [e.reason for e in events if isinstance(e, ev.Complete)] == ["stopped", "stopped"]
    assert session.live.record.state == "stopped"
    assert len(bench.sandboxes.started) == 1


async def test_a_job_whose_session_ended_with_the_server_away_fails_once(bench: Bench) -> None:
    session = await bench.session()
    await bench.run(session)
    await bench.sessions.close()
    bench.sandboxes.die(session.live.record.id)
    await bench.start()
    session = await bench.sessions.get(session.live.record.id, LOCAL)
    done = (await bench.until(session, ev.Complete))[-1]
    assert isinstance(done, ev.Complete)
    assert done.reason == "session_lost"


async def test_a_store_that_fails_stops_the_acknowledging_and_loses_nothing(bench: Bench) -> None:
    session = await bench.session()
    job, runner = await bench.run(session)
    runner.say(ev.Stream(content="before", message_id="m"))
    await bench.until(session, ev.Stream)
    while runner.acked < runner.n:
        await asyncio.sleep(0)
    bench.store.failing = "disk full"
    runner.say(ev.Stream(content="during", message_id="m"))
    while not session.live.stuck:
        await asyncio.sleep(0)
    assert bench.sessions.stuck == [session.live.record.id]
    assert runner.acked == runner.n - 1
    other = await bench.sessions.get(session.live.record.id, LOCAL)
    assert len(await bench.events(other)) == 5
    with pytest.raises(Unavailable):
        await bench.session()
    bench.store.failing = ""
    runner.end_turn(job.id)
    events = await bench.until(session, ev.Complete)
    assert [e.content for e in events if isinstance(e, ev.Stream)] == ["before", "during"]
    assert [e.seq for e in events] == list(range(1, len(events) + 1))


async def test_sessions_of_others_and_malformed_ids_are_indistinguishable(bench: Bench) -> None:
    session = await bench.session()
    for wrong in ("", "x", "../etc", "0" * 36, "00000000-0000-7000-8000-000000000000"):
        with pytest.raises(NotFound):
            await bench.sessions.get(wrong, LOCAL)
    with pytest.raises(NotFound):
        await bench.sessions.get(session.live.record.id, dataclasses.replace(LOCAL, organisation="other"))


@pytest.mark.parametrize("prompt", ["", "  \n", "a\x00b", "x" * (1024 * 1024 + 1)])
async def test_bad_prompts_are_refused_by_name_and_change_nothing(bench: Bench, prompt: str) -> None:
    session = await bench.session()
    with pytest.raises(BadRequest, match="prompt"):
        bench.sessions.job(session, prompt, "tester")
    assert kinds(await bench.events(session)) == ["session"]


async def test_deleting_a_session_leaves_nothing(bench: Bench) -> None:
    session = await bench.session()
    await bench.run(session)
    sid = session.live.record.id
    await bench.sessions.delete(session)
    assert bench.sandboxes.deleted == [sid]
    assert (await bench.store.read(sid, 0, 10)).rows == ()
    assert not await bench.store.scan("job", owner=sid)
    with pytest.raises(NotFound):
        await bench.sessions.get(sid, LOCAL)


PNG = b"\x89PNG\r\n\x1a\n" + b"x" * 20_000


async def test_a_picture_reaches_the_agent_and_the_log_has_only_its_name(bench: Bench) -> None:
    session = await bench.session()
    given = pictures([Attached(name="shot.png", media_type="image/png", data=base64.b64encode(PNG).decode())])
    job = bench.sessions.job(session, "what is this?", "tester")
    await session.jobs.submit(job, client_message_id=None, attachments=given)
    while session.live.record.id not in bench.sandboxes.runners:
        await asyncio.sleep(0)
    prompt = await bench.sandboxes.runners[session.live.record.id].command(link.Prompt)
    assert isinstance(prompt, link.Prompt)
    assert base64.b64decode(prompt.attachments[0]["data"]) == PNG
    chat = next(e for e in await bench.events(session) if isinstance(e, ev.Chat))
    assert chat.attachments == [ev.Attachment(name="shot.png", media_type="image/png", size=len(PNG))]


@pytest.mark.parametrize(
    ("media", "data", "named"),
    [
        ("image/svg+xml", b"<svg/>", "accepted are"),
        ("image/png", b"GIF89a", "looks like"),
        ("", PNG, "untyped"),
    ],
)
def test_what_is_no_picture_is_refused_by_name(media: str, data: bytes, named: str) -> None:
    with pytest.raises(BadRequest, match=named):
        pictures([Attached(name="a", media_type=media, data=base64.b64encode(data).decode())])
    with pytest.raises(BadRequest, match="base64"):
        pictures([Attached(name="a", media_type="image/png", data="no base64!")])
