"""Approvals as conversations: one ask, one answer, one record, whatever happens in between."""

from __future__ import annotations

import asyncio

import pytest

from pilothouse.core import events as ev
from pilothouse.core import link
from pilothouse.core.errors import AlreadyResolved, BadRequest, Conflict, NotFound
from pilothouse.core.ids import ApprovalId
from pilothouse.engine.sessions import Session
from tests.engine.conftest import Bench
from tests.engine.fakes import LOCAL, ScriptedRunner


def bash(request: str = "r1", command: str = "touch x") -> link.PermissionAsk:
    return link.PermissionAsk(request_id=request, tool_id=f"t-{request}", tool="Bash", input={"command": command})


async def asked(
    bench: Bench, session: Session, runner: ScriptedRunner, ask: link.PermissionAsk, count: int = 1
) -> ev.ApprovalRequired:
    runner.say(ask)
    event = (await bench.until(session, ev.ApprovalRequired, count))[-1]
    assert isinstance(event, ev.ApprovalRequired)
    return event


async def answer_to(runner: ScriptedRunner, count: int = 1) -> link.PermissionAnswer:
    command = await runner.command(link.PermissionAnswer, count)
    assert isinstance(command, link.PermissionAnswer)
    return command


async def test_an_approval_shows_the_exact_input_and_the_first_answer_wins(bench: Bench) -> None:
    session = await bench.session()
    job, runner = await bench.run(session)
    event = await asked(bench, session, runner, bash())
    assert event.input == {"command": "touch x"}
    assert [o.id for o in event.options] == ["allow_once", "allow_session", "deny"]
    approval = ApprovalId(event.approval_id)
    decided = await session.approvals.decide(approval, approved=True, by="ann", input_hash=event.input_hash)
    assert decided.state == "approved"
    with pytest.raises(AlreadyResolved) as told:
        await session.approvals.decide(approval, approved=False, by="bob")
    assert (told.value.details["outcome"], told.value.details["by"]) == ("approved", "ann")
    answer = await answer_to(runner)
    assert (answer.request_id, answer.behavior) == ("r1", "allow")
    runner.end_turn(job.id)
    resolved = [e for e in await bench.until(session, ev.Complete) if isinstance(e, ev.ApprovalResolved)]
    assert [(r.outcome, r.by) for r in resolved] == [("approved", "ann")]


async def test_two_answers_at_once_have_one_winner(bench: Bench) -> None:
    session = await bench.session()
    _, runner = await bench.run(session)
    event = await asked(bench, session, runner, bash())
    results = await asyncio.gather(
        *[session.approvals.decide(ApprovalId(event.approval_id), approved=i % 2 == 0, by=f"p{i}") for i in range(10)],
        return_exceptions=True,
    )
    assert sum(isinstance(r, AlreadyResolved) for r in results) == 9
    await answer_to(runner)
    assert len([e for e in await bench.events(session) if isinstance(e, ev.ApprovalResolved)]) == 1


async def test_a_stale_hash_a_foreign_option_and_a_bad_edit_change_nothing(bench: Bench) -> None:
    session = await bench.session()
    _, runner = await bench.run(session)
    event = await asked(bench, session, runner, bash())
    approval = ApprovalId(event.approval_id)
    with pytest.raises(Conflict):
        await session.approvals.decide(approval, approved=True, by="ann", input_hash="0" * 64)
    with pytest.raises(BadRequest, match="optionId"):
        await session.approvals.decide(approval, approved=True, by="ann", option_id="nope")
    with pytest.raises(BadRequest, match="optionId"):
        await session.approvals.decide(approval, approved=True, by="ann", option_id="deny")
    with pytest.raises(BadRequest, match="updatedInput"):
        await session.approvals.decide(approval, approved=True, by="ann", updated_input=[1])
    with pytest.raises(BadRequest, match="updatedInput"):
        await session.approvals.decide(approval, approved=False, by="ann", updated_input={"command": "x"})
    with pytest.raises(NotFound):
        await session.approvals.decide(ApprovalId("x"), approved=True, by="ann")
    assert approval in session.approvals.pending


async def test_deny_carries_the_persons_words_and_an_edit_carries_the_input(bench: Bench) -> None:
    session = await bench.session()
    _, runner = await bench.run(session)
    first = await asked(bench, session, runner, bash("r1"))
    await session.approvals.decide(ApprovalId(first.approval_id), approved=False, by="ann", message="use make")
    answer = await answer_to(runner)
    assert (answer.behavior, answer.message) == ("deny", "use make")
    second = await asked(bench, session, runner, bash("r2"), 2)
    await session.approvals.decide(
        ApprovalId(second.approval_id), approved=True, by="ann", updated_input={"command": "touch y"}
    )
    answer = await answer_to(runner, 2)
    assert (answer.behavior, answer.updated_input) == ("allow", {"command": "touch y"})


async def test_a_remembered_rule_answers_the_next_ask_by_itself(bench: Bench) -> None:
    session = await bench.session()
    _, runner = await bench.run(session)
    event = await asked(bench, session, runner, bash("r1", "touch x"))
    await session.approvals.decide(ApprovalId(event.approval_id), approved=True, by="ann", option_id="allow_session")
    runner.say(bash("r2", "touch y"))
    assert (await answer_to(runner, 2)).request_id == "r2"
    await asked(bench, session, runner, bash("r3", "touch y; rm -rf ."), 2)
    other = await bench.session()
    _, runner2 = await bench.run(other)
    await asked(bench, other, runner2, bash("r1", "touch y"))


async def test_time_out_denies_and_an_answer_after_it_is_too_late(bench: Bench) -> None:
    session = await bench.session()
    _, runner = await bench.run(session)
    event = await asked(bench, session, runner, bash())
    await bench.clock.wind(299)
    assert ApprovalId(event.approval_id) in session.approvals.pending
    await bench.clock.wind(2)
    answer = await answer_to(runner)
    assert (answer.behavior, answer.message) == ("deny", "Approval timed out; the action was not performed.")
    with pytest.raises(AlreadyResolved):
        await session.approvals.decide(ApprovalId(event.approval_id), approved=True, by="ann")


async def test_an_approval_outlives_the_server_and_keeps_its_grace(bench: Bench) -> None:
    session = await bench.session()
    job, runner = await bench.run(session)
    event = await asked(bench, session, runner, bash())
    await bench.sessions.close()
    bench.clock._now += 1000
    await bench.start()
    session = await bench.sessions.get(session.live.record.id, LOCAL)
    await bench.clock.wind(30)
    await session.approvals.decide(ApprovalId(event.approval_id), approved=True, by="ann")
    assert (await answer_to(runner)).behavior == "allow"
    runner.end_turn(job.id)
    events = await bench.until(session, ev.Complete)
    assert sum(isinstance(e, ev.ApprovalRequired) for e in events) == 1
    assert sum(isinstance(e, ev.ApprovalResolved) for e in events) == 1


async def test_an_answer_that_the_server_died_on_reaches_the_runner_afterwards(bench: Bench) -> None:
    session = await bench.session()
    _, runner = await bench.run(session)
    event = await asked(bench, session, runner, bash())
    while runner.acked < runner.n:
        await asyncio.sleep(0)
    runner.deaf = True
    await session.approvals.decide(ApprovalId(event.approval_id), approved=True, by="ann")
    await bench.sessions.close()
    runner.deaf = False
    await bench.start()
    assert (await answer_to(runner)).behavior == "allow"


async def test_a_cancelled_ask_is_resolved_as_cancelled(bench: Bench) -> None:
    session = await bench.session()
    _, runner = await bench.run(session)
    await asked(bench, session, runner, bash())
    runner.say(link.AskCancelled(request_id="r1"))
    resolved = (await bench.until(session, ev.ApprovalResolved))[-1]
    assert isinstance(resolved, ev.ApprovalResolved)
    assert resolved.outcome == "cancelled"


async def test_manual_asks_for_reading_too_and_allowed_tools_deny_the_rest(bench: Bench) -> None:
    session = await bench.session(permission_mode="manual")
    _, runner = await bench.run(session)
    await asked(
        bench, session, runner,
        link.PermissionAsk(request_id="r", tool_id="t", tool="Read", input={"file_path": "/workspace/a"}),
    )  # fmt: skip
    other = await bench.session()
    _, runner = await bench.run(other, allowed_tools=["Read"])
    runner.say(bash())
    assert (await answer_to(runner)).behavior == "deny"


async def test_a_plan_is_accepted_with_a_mode(bench: Bench) -> None:
    session = await bench.session(permission_mode="plan")
    _, runner = await bench.run(session)
    ask = link.PermissionAsk(request_id="r", tool_id="t", tool="ExitPlanMode", input={"plan": "# Plan"})
    event = await asked(bench, session, runner, ask)
    await session.approvals.decide(ApprovalId(event.approval_id), approved=True, by="ann", option_id="accept_edits")
    assert (await answer_to(runner)).mode == "acceptEdits"
    assert session.live.record.permission_mode == "acceptEdits"


async def test_a_question_is_answered_once_and_completely(bench: Bench) -> None:
    session = await bench.session()
    _, runner = await bench.run(session)
    runner.say(link.QuestionAsk(request_id="q1", questions=[ev.Question(question="Which?", options=[])]))
    event = (await bench.until(session, ev.QuestionEvent))[-1]
    assert isinstance(event, ev.QuestionEvent)
    from pilothouse.core.ids import QuestionId

    question = QuestionId(event.question_id)
    with pytest.raises(BadRequest, match="no answer"):
        await session.questions.answer(question, {}, by="ann")
    with pytest.raises(BadRequest, match="no question"):
        await session.questions.answer(question, {"Which?": "a", "Other?": "b"}, by="ann")
    await session.questions.answer(question, {"Which?": "this one"}, by="ann")
    with pytest.raises(AlreadyResolved):
        await session.questions.answer(question, {"Which?": "that one"}, by="bob")
    answer = await runner.command(link.QuestionAnswer)
    assert isinstance(answer, link.QuestionAnswer)
    assert answer.answers == {"Which?": "this one"}
