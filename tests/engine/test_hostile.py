"""Runners that lie, fall silent or break off at the wrong moment; each test is a fault that once ended a session."""

from __future__ import annotations

import asyncio

import pytest

from pilothouse.core import events as ev
from pilothouse.core import link
from pilothouse.core.errors import AlreadyResolved, Conflict, NotFound, Unavailable
from pilothouse.core.ids import ApprovalId
from pilothouse.engine import drive as engine_drive
from pilothouse.engine import link as engine_link
from pilothouse.engine.ports import ModelState
from tests.engine.conftest import Bench
from tests.engine.fakes import LOCAL, some_turns


def completes(events: list[ev.LogEvent]) -> list[ev.Complete]:
    return [e for e in events if isinstance(e, ev.Complete)]


def ask(request: str = "r1", tool: str = "Bash") -> link.PermissionAsk:
    return link.PermissionAsk(request_id=request, tool_id=f"t-{request}", tool=tool, input={"command": "touch x"})


async def test_numbers_beyond_a_databases_end_no_session(bench: Bench) -> None:
    session = await bench.session()
    job, runner = await bench.run(session)
    assert runner.wire is not None
    runner.wire.to_server.put_nowait(b'{"n":99999999999999999999,"ev":{"type":"turn_started","turnId":"x"}}')
    runner.say_raw(b'{"type":"agent_usage","inputTokens":99999999999999999999999}')
    runner.say_raw(b'{"type":"retry","attempt":1e300,"of":1,"delayMs":1,"reason":"x"}')
    runner.end_turn(job.id)
    assert completes(await bench.until(session, ev.Complete))[0].outcome == "succeeded"


async def test_a_turn_within_a_turn_leaves_no_job_without_an_end(bench: Bench) -> None:
    session = await bench.session()
    job, runner = await bench.run(session)
    runner.end_turn(job.id)
    runner.say(link.TurnStarted(turn_id="own-1"), link.TurnStarted(turn_id="own-2"), link.TurnStarted(turn_id="own-3"))
    runner.end_turn("own-3")
    events = await bench.until(session, ev.Complete, 4)
    started = [e.job_id for e in events if isinstance(e, ev.JobStarted)]
    assert sorted(c.job_id or "" for c in completes(events)) == sorted(j or "" for j in started)
    assert not session.jobs.busy


async def test_a_runner_that_never_says_done_does_not_stop_the_clock_or_the_next_job(bench: Bench) -> None:
    session = await bench.session()
    first, runner = await bench.run(session, "one")
    runner.deaf = True
    runner.end_turn(first.id)
    await bench.until(session, ev.Complete)
    made = bench.sessions.job(session, "two", "tester", timeout_s=1)
    await session.jobs.submit(made, client_message_id=None)
    await bench.until(session, ev.JobStarted, 2)
    runner.deaf = False
    runner.say(link.TurnStarted(turn_id=made.id))
    runner.end_turn(made.id)
    assert [c.job_id for c in completes(await bench.until(session, ev.Complete, 2))] == [first.id, made.id]


async def test_a_job_whose_prompt_is_never_taken_ends_when_its_time_is_up(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_drive, "INTERRUPT_S", 0.01)
    session = await bench.session()
    first, runner = await bench.run(session, "one")
    runner.end_turn(first.id)
    await bench.until(session, ev.Complete)
    runner.deaf = True
    late = bench.sessions.job(session, "two", "tester", timeout_s=1)
    await session.jobs.submit(late, client_message_id=None)
    done = completes(await bench.until(session, ev.Complete, 2))[-1]
    assert (done.outcome, done.reason) == ("failed", "timeout")
    third, _ = await bench.run(session, "three")
    assert third.state == "running"
    assert len(bench.sandboxes.started) == 2


async def test_an_agents_own_turn_ends_too_when_its_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    from pilothouse.engine.kit import Limits

    monkeypatch.setattr(engine_drive, "INTERRUPT_S", 0.01)
    bench = Bench(limits=Limits(job_timeout_s=0))
    await bench.start()
    try:
        session = await bench.session()
        job, runner = await bench.run(session, timeout_s=100)
        runner.end_turn(job.id)
        runner.say(link.TurnStarted(turn_id="own", injected=True))
        done = completes(await bench.until(session, ev.Complete, 2))[-1]
        assert (done.outcome, done.reason) == ("failed", "timeout")
    finally:
        await bench.sessions.close()


async def test_a_prompt_is_not_given_to_another_runner_than_its_own(bench: Bench) -> None:
    """One that did not say `done` was sent again to whatever runner greeted next: run twice."""
    session = await bench.session()
    first, runner = await bench.run(session, "one")
    runner.end_turn(first.id)
    await bench.until(session, ev.Complete)
    runner.deaf = True
    second = bench.sessions.job(session, "two", "tester")
    await session.jobs.submit(second, client_message_id=None)
    await bench.until(session, ev.JobStarted, 2)
    from tests.engine.fakes import ScriptedRunner

    another = bench.sandboxes.runners[session.live.record.id] = ScriptedRunner()
    assert runner.wire is not None
    runner.wire.cut()
    done = completes(await bench.until(session, ev.Complete, 2))[-1]
    assert (done.job_id, done.outcome) == (second.id, "failed")
    third, _ = await bench.run(session, "three")
    assert [c.id for c in another.commands if isinstance(c, link.Prompt)] == [third.id]


async def test_a_link_that_fails_for_an_unforeseen_reason_comes_back(bench: Bench) -> None:
    session = await bench.session()
    job, runner = await bench.run(session)
    await bench.until(session, ev.JobStarted)
    real, failures = bench.models.state, iter([RuntimeError("no one foresaw this"), Unavailable("the proxy is away")])

    async def state() -> ModelState:
        for error in failures:
            raise error
        return await real()

    bench.models.state = state  # type: ignore[method-assign]
    assert runner.wire is not None
    runner.wire.cut()
    runner.say(ev.Stream(content="still here", message_id="m"))
    runner.end_turn(job.id)
    assert completes(await bench.until(session, ev.Complete))[0].outcome == "succeeded"


async def test_a_drive_that_fails_for_an_unforeseen_reason_costs_the_job_only(bench: Bench) -> None:
    session = await bench.session()
    bench.sandboxes.refuse = ZeroDivisionError("no one foresaw this")
    job = await session.jobs.submit(bench.sessions.job(session, "x", "t"), client_message_id=None)
    done = completes(await bench.until(session, ev.Complete))[0]
    assert (done.job_id, done.outcome, done.reason) == (job.id, "failed", "bug")
    assert "foresaw" not in done.result
    bench.sandboxes.refuse = None
    again, runner = await bench.run(session)
    runner.end_turn(again.id)
    assert len(completes(await bench.until(session, ev.Complete, 2))) == 2


async def test_asks_that_are_answered_at_once_and_never_taken_fill_no_memory(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_link, "OPEN_MAX", 50)
    session = await bench.session(permission_mode="acceptAll")
    job, runner = await bench.run(session)
    runner.deaf = True
    for number in range(500):
        runner.say(ask(f"r{number}"))
    runner.end_turn(job.id)
    await bench.until(session, ev.Complete)
    assert session.live.link is not None
    assert len(session.live.link._open) <= 50


async def test_messages_that_wait_for_the_store_are_bounded_in_bytes(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_link, "HELD_MAX", 100_000)
    monkeypatch.setattr(engine_link, "BATCH_SIZE", 50_000)
    session = await bench.session()
    job, runner = await bench.run(session)
    await bench.until(session, ev.JobStarted)
    while runner.acked < runner.n:
        await asyncio.sleep(0)
    bench.store.failing = "disk full"
    for number in range(100):
        runner.say(ev.ToolOutput(tool_id=f"t{number}", content="x" * 20_000))
    await asyncio.sleep(0.3)
    assert session.live.link is not None
    assert session.live.link._held < 200_000
    bench.store.failing = ""
    runner.end_turn(job.id)
    events = await bench.until(session, ev.Complete)
    assert sum(isinstance(e, ev.ToolOutput) for e in events) == 100


async def test_a_runner_cannot_take_the_numbers_of_another_sessions(bench: Bench) -> None:
    first, second = await bench.session(), await bench.session()
    job, victim = await bench.run(first)
    from tests.engine.fakes import ScriptedRunner

    thief = bench.sandboxes.runners[second.live.record.id] = ScriptedRunner()
    thief.id = victim.id
    thief.n = 10**6
    stolen, _ = await bench.run(second)
    thief.end_turn(stolen.id)
    await bench.until(second, ev.Complete)
    victim.say(ev.Stream(content="not lost", message_id="m"))
    victim.end_turn(job.id)
    assert any(isinstance(e, ev.Stream) for e in await bench.until(first, ev.Complete))


# --- restarts -------------------------------------------------------------------------------------------------------


async def test_after_a_restart_the_jobs_own_mode_and_tools_still_hold_and_events_name_it(bench: Bench) -> None:
    """They once fell back to the session's mode and to no restriction at all."""
    session = await bench.session(permission_mode="acceptAll")
    job, runner = await bench.run(session, permission_mode="manual", allowed_tools=["Read"])
    await bench.until(session, ev.JobStarted)
    while runner.acked < runner.n:
        await asyncio.sleep(0)
    await bench.restart()
    session = await bench.sessions.get(session.live.record.id, LOCAL)
    while len(runner.fences) < 2:
        await asyncio.sleep(0)
    runner.say(ask("r1"), ask("r2", "Read"), ev.Stream(content="x", message_id="m"))
    events = await bench.until(session, ev.Stream)
    assert [e.tool for e in events if isinstance(e, ev.ApprovalRequired)] == ["Read"]
    assert {e.job_id for e in events[3:]} == {job.id}
    answer = await runner.command(link.PermissionAnswer)
    assert isinstance(answer, link.PermissionAnswer)
    assert (answer.request_id, answer.behavior) == ("r1", "deny")


async def test_a_mode_that_was_changed_while_a_job_runs_is_not_forgotten_by_a_restart(bench: Bench) -> None:
    session = await bench.session(permission_mode="acceptAll")
    _, runner = await bench.run(session)
    await bench.until(session, ev.JobStarted)
    while runner.acked < runner.n:
        await asyncio.sleep(0)
    await bench.sessions.change(session, mode="manual")
    await bench.restart()
    session = await bench.sessions.get(session.live.record.id, LOCAL)
    runner.say(ask())
    await bench.until(session, ev.ApprovalRequired)


# --- people who come at the wrong moment ----------------------------------------------------------------------------


async def test_an_answer_after_the_deadline_is_too_late_even_before_the_timer_has_run(bench: Bench) -> None:
    session = await bench.session()
    _, runner = await bench.run(session)
    runner.say(ask())
    event = (await bench.until(session, ev.ApprovalRequired))[-1]
    assert isinstance(event, ev.ApprovalRequired)
    bench.clock._now += 301
    with pytest.raises(AlreadyResolved) as told:
        await session.approvals.decide(ApprovalId(event.approval_id), approved=True, by="ann")
    assert told.value.details["outcome"] == "expired"
    answer = await runner.command(link.PermissionAnswer)
    assert isinstance(answer, link.PermissionAnswer)
    assert answer.behavior == "deny"
    await bench.clock.wind(10)
    resolved = [e for e in await bench.events(session) if isinstance(e, ev.ApprovalResolved)]
    assert [r.outcome for r in resolved] == ["expired"]


async def test_who_leaves_in_the_middle_of_answering_leaves_no_half_answer(bench: Bench) -> None:
    session = await bench.session()
    _, runner = await bench.run(session)
    runner.say(ask())
    event = (await bench.until(session, ev.ApprovalRequired))[-1]
    assert isinstance(event, ev.ApprovalRequired)
    real, taken = bench.store.commit, asyncio.Event()

    async def slow(*ops):  # type: ignore[no-untyped-def]
        done = await real(*ops)
        taken.set()
        await asyncio.sleep(0.05)
        return done

    bench.store.commit = slow  # type: ignore[method-assign]
    answering = asyncio.create_task(session.approvals.decide(ApprovalId(event.approval_id), approved=True, by="ann"))
    await taken.wait()
    answering.cancel()
    with pytest.raises(AlreadyResolved):
        await session.approvals.decide(ApprovalId(event.approval_id), approved=False, by="bob")
    answer = await runner.command(link.PermissionAnswer)
    assert isinstance(answer, link.PermissionAnswer)
    assert answer.behavior == "allow"
    assert len([e for e in await bench.events(session) if isinstance(e, ev.ApprovalResolved)]) == 1


async def test_an_approval_asked_between_two_turns_ends_with_its_runner(bench: Bench) -> None:
    session = await bench.session()
    job, runner = await bench.run(session)
    runner.end_turn(job.id)
    runner.say(ask())
    await bench.until(session, ev.ApprovalRequired)
    bench.sandboxes.die(session.live.record.id)
    resolved = (await bench.until(session, ev.ApprovalResolved))[-1]
    assert isinstance(resolved, ev.ApprovalResolved)
    assert resolved.outcome == "cancelled"


async def test_a_session_that_is_being_deleted_is_gone_for_everybody(bench: Bench) -> None:
    """A look at it during the deletion once loaded it anew, to write on into a purged log."""
    session = await bench.session()
    sid = session.live.record.id
    begun, go_on = asyncio.Event(), asyncio.Event()
    real = bench.sandboxes.delete

    async def slow(session_id):  # type: ignore[no-untyped-def]
        begun.set()
        await go_on.wait()
        await real(session_id)

    bench.sandboxes.delete = slow  # type: ignore[method-assign]
    deleting = asyncio.create_task(bench.sessions.delete(session))
    await begun.wait()
    with pytest.raises(NotFound):
        await bench.sessions.get(sid, LOCAL)
    with pytest.raises(NotFound):
        await session.jobs.submit(bench.sessions.job(session, "x", "t"), client_message_id=None)
    go_on.set()
    await deleting
    with pytest.raises(NotFound):
        await bench.sessions.get(sid, LOCAL)
    assert await bench.events(session) == []


async def test_a_deletion_that_fails_can_be_tried_again(bench: Bench) -> None:
    session = await bench.session()
    sid = session.live.record.id
    bench.store.failing = "disk full"
    with pytest.raises(Unavailable):
        await bench.sessions.delete(session)
    bench.store.failing = ""
    await bench.sessions.delete(await bench.sessions.get(sid, LOCAL))
    with pytest.raises(NotFound):
        await bench.sessions.get(sid, LOCAL)


async def test_a_prompt_for_a_session_that_was_just_put_to_rest_is_refused_not_swallowed(bench: Bench) -> None:
    session = await bench.session()
    await bench.sessions._put_away(session)
    with pytest.raises(Unavailable):
        await session.jobs.submit(bench.sessions.job(session, "x", "t"), client_message_id=None)
    anew = await bench.sessions.get(session.live.record.id, LOCAL)
    job, runner = await bench.run(anew)
    runner.end_turn(job.id)
    await bench.until(anew, ev.Complete)


async def test_all_who_ask_for_a_session_at_once_get_the_same(bench: Bench) -> None:
    session = await bench.session()
    sid = session.live.record.id
    await bench.sessions._put_away(session)
    found = await asyncio.gather(*[bench.sessions.get(sid, LOCAL) for _ in range(5)])
    assert len({id(s) for s in found}) == 1


async def test_stopping_a_session_that_is_being_prepared_stops_it(bench: Bench) -> None:
    session = await bench.session()
    opening, go_on = asyncio.Event(), asyncio.Event()
    real = bench.sandboxes.open

    async def slow(spec):  # type: ignore[no-untyped-def]
        opening.set()
        await go_on.wait()
        return await real(spec)

    bench.sandboxes.open = slow  # type: ignore[method-assign]
    await session.jobs.submit(bench.sessions.job(session, "x", "t"), client_message_id=None)
    await opening.wait()
    await bench.sessions.stop(session)
    assert completes(await bench.events(session))[0].outcome == "interrupted"
    go_on.set()
    await some_turns()
    assert session.live.record.id not in bench.sandboxes.runners, "nothing may be left running"
    assert len(completes(await bench.events(session))) == 1


async def test_a_sandbox_that_was_opened_for_an_interrupted_job_is_stopped_when_idle(bench: Bench) -> None:
    session = await bench.session()
    opening, go_on = asyncio.Event(), asyncio.Event()
    real = bench.sandboxes.open

    async def slow(spec):  # type: ignore[no-untyped-def]
        opening.set()
        await go_on.wait()
        return await real(spec)

    bench.sandboxes.open = slow  # type: ignore[method-assign]
    job = await session.jobs.submit(bench.sessions.job(session, "x", "t"), client_message_id=None)
    await opening.wait()
    await session.jobs.interrupt("tester", job.id)
    go_on.set()
    await some_turns()
    assert session.live.record.state == "idle"
    assert session.live.record.id in bench.sandboxes.runners
    await bench.clock.wind(2000)
    await some_turns()
    assert session.live.record.id not in bench.sandboxes.runners


async def test_interrupting_a_waiting_job_while_the_store_is_full_changes_nothing(bench: Bench) -> None:
    session = await bench.session()
    first, runner = await bench.run(session)
    await bench.until(session, ev.JobStarted)
    while runner.acked < runner.n:
        await asyncio.sleep(0)
    second = await session.jobs.submit(bench.sessions.job(session, "two", "t"), client_message_id=None)
    bench.store.failing = "disk full"
    with pytest.raises(Unavailable):
        await session.jobs.interrupt("tester", second.id)
    bench.store.failing = ""
    assert second.state == "queued"
    runner.end_turn(first.id)
    await runner.command(link.Prompt, 2)
    runner.say(link.TurnStarted(turn_id=second.id))
    runner.end_turn(second.id)
    assert [c.job_id for c in completes(await bench.until(session, ev.Complete, 2))] == [first.id, second.id]
    with pytest.raises(Conflict):
        await session.jobs.interrupt("tester", second.id)


async def test_the_same_wish_for_a_new_session_makes_one(bench: Bench) -> None:
    made = await asyncio.gather(*[bench.sessions.create(owner="local", agent="echo", once="c1") for _ in range(3)])
    assert len({s.live.record.id for s in made}) == 1
    other = await bench.sessions.create(owner="somebody", agent="echo", once="c1")
    assert other.live.record.id != made[0].live.record.id
