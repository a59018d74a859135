"""A second person: asked in every mode, answered by nobody whose words the agent works on, kept over a restart."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from pilothouse.core import events as ev
from pilothouse.core import link, second
from pilothouse.core.errors import Forbidden
from pilothouse.core.ids import ApprovalId, QuestionId
from pilothouse.core.reach import Asking, Reach
from pilothouse.engine.kit import Limits
from pilothouse.engine.sessions import Session
from tests.engine.conftest import Bench
from tests.engine.fakes import LOCAL, ScriptedRunner


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench(Limits(second_approver=second.patterns(["Bash(git push*)", "network"]), egress=Reach("allow", (), 60)))
    await made.start()
    yield made
    await made.sessions.close()


def push(request: str = "r1", command: str = "git push") -> link.PermissionAsk:
    return link.PermissionAsk(request_id=request, tool_id=f"t-{request}", tool="Bash", input={"command": command})


async def asked(bench: Bench, session: Session, count: int = 1) -> ev.ApprovalRequired:
    shown = (await bench.until(session, ev.ApprovalRequired, count))[-1]
    assert isinstance(shown, ev.ApprovalRequired)
    return shown


async def refused(session: Session, shown: ev.ApprovalRequired, *accounts: str) -> None:
    for account in accounts:
        with pytest.raises(Forbidden) as refusal:
            await session.approvals.decide(ApprovalId(shown.approval_id), approved=True, by="x", account=account)
        assert refusal.value.code == "second_approver"
    assert shown.approval_id in session.approvals.pending


async def begun(bench: Bench, mode: str = "acceptAll", account: str = "bob") -> tuple[Session, ScriptedRunner]:
    session = await bench.session(permission_mode=mode)
    _, runner = await bench.run(session, account=account)
    return session, runner


async def test_it_is_asked_in_a_mode_that_asks_nothing_and_the_asker_does_not_answer(bench: Bench) -> None:
    session, runner = await begun(bench)
    runner.say(push())
    shown = await asked(bench, session)
    assert shown.second_approver
    assert [o.id for o in shown.options] == ["allow_once", "deny"]
    await refused(session, shown, "bob", "")
    await session.approvals.decide(ApprovalId(shown.approval_id), approved=True, by="Ann", account="ann")
    answer = await runner.command(link.PermissionAnswer)
    assert isinstance(answer, link.PermissionAnswer)
    assert answer.behavior == "allow"
    runner.say(push("r2"))
    assert (await asked(bench, session, 2)).second_approver  # one agreement is one


async def test_what_no_rule_names_goes_on_as_before(bench: Bench) -> None:
    session, runner = await begun(bench, "manual")
    runner.say(push("r1", "npm test"))
    shown = await asked(bench, session)
    assert not shown.second_approver
    await session.approvals.decide(ApprovalId(shown.approval_id), approved=True, by="Bob", account="bob")


async def test_the_asker_may_still_say_no(bench: Bench) -> None:
    session, runner = await begun(bench)
    runner.say(push())
    shown = await asked(bench, session)
    await session.approvals.decide(ApprovalId(shown.approval_id), approved=False, by="Bob", account="bob")
    assert not session.approvals.pending


EDITS = [
    "git push --force origin main",
    "npm test && git push",
    "sh -c 'git push'",
    "X=1 git push",
    "/usr/bin/git push",
]


@pytest.mark.parametrize("edited", EDITS)
async def test_c17_nobody_edits_an_ordinary_command_into_one_that_takes_two(bench: Bench, edited: str) -> None:
    """Whoever edits it has asked for it: neither the asker nor anybody else is a second person to that."""
    session, runner = await begun(bench, "manual")
    runner.say(push("r1", "npm test"))
    shown = await asked(bench, session)
    assert not shown.second_approver
    for account in ("bob", "ann"):
        with pytest.raises(Forbidden, match="approve it as it is") as refusal:
            await session.approvals.decide(
                ApprovalId(shown.approval_id), approved=True, by="x", account=account,
                updated_input={"command": edited},
            )  # fmt: skip
        assert refusal.value.code == "second_approver"
    assert shown.approval_id in session.approvals.pending
    await session.approvals.decide(
        ApprovalId(shown.approval_id), approved=True, by="Bob", account="bob", updated_input={"command": "npm test -w"}
    )
    answer = await runner.command(link.PermissionAnswer)
    assert isinstance(answer, link.PermissionAnswer)
    assert (answer.behavior, answer.updated_input) == ("allow", {"command": "npm test -w"})


async def test_c17_a_second_person_agrees_to_what_was_asked_and_to_nothing_else(bench: Bench) -> None:
    """Not to a worse command of its own, nor to a harmless one: that would be one person's alone."""
    session, runner = await begun(bench)
    runner.say(push())
    shown = await asked(bench, session)
    for command in ("git push --force origin :main", "npm test", "git push"):
        with pytest.raises(Forbidden, match="approve it as it is"):
            await session.approvals.decide(
                ApprovalId(shown.approval_id), approved=True, by="Ann", account="ann",
                updated_input={"command": command},
            )  # fmt: skip
    assert shown.approval_id in session.approvals.pending
    await session.approvals.decide(ApprovalId(shown.approval_id), approved=True, by="Ann", account="ann")
    answer = await runner.command(link.PermissionAnswer)
    assert isinstance(answer, link.PermissionAnswer)
    assert (answer.behavior, answer.updated_input) == ("allow", None)


async def test_a_remembered_answer_and_allowed_tools_do_not_stand_for_a_second_person(bench: Bench) -> None:
    session = await bench.session(permission_mode="acceptEdits")
    _, runner = await bench.run(session, account="bob", allowed_tools=["Bash(git push:*)"])
    runner.say(push())
    assert (await asked(bench, session)).second_approver


async def test_a_denial_by_mode_or_tools_stays_a_denial(bench: Bench) -> None:
    session = await bench.session(permission_mode="plan")
    _, runner = await bench.run(session, account="bob")
    runner.say(push())
    answer = await runner.command(link.PermissionAnswer)
    assert isinstance(answer, link.PermissionAnswer)
    assert answer.behavior == "deny"


async def test_who_adds_to_a_job_has_asked_too_even_after_the_approval_came(bench: Bench) -> None:
    session, runner = await begun(bench)
    await session.jobs.steer("and push", "Ann", None, "ann")
    runner.say(push())
    shown = await asked(bench, session)
    await refused(session, shown, "bob", "ann")
    await session.jobs.steer("now", "Cleo", None, "cleo")
    await refused(session, shown, "cleo")
    await session.approvals.decide(ApprovalId(shown.approval_id), approved=True, by="Dan", account="dan")


async def test_it_holds_over_a_restart(bench: Bench) -> None:
    session, runner = await begun(bench)
    await session.jobs.steer("and push", "Ann", None, "ann")
    runner.say(push())
    shown = await asked(bench, session)
    await bench.restart()
    session = await bench.sessions.get(session.live.record.id, LOCAL)
    await refused(session, shown, "bob", "ann")
    await session.approvals.decide(ApprovalId(shown.approval_id), approved=True, by="Dan", account="dan")


async def test_a_turn_of_the_agents_own_goes_on_with_the_words_of_the_job_before(bench: Bench) -> None:
    session = await bench.session(permission_mode="acceptAll")
    job, runner = await bench.run(session, account="bob")
    runner.end_turn(job.id)
    await bench.until(session, ev.Complete)
    runner.say(link.TurnStarted(turn_id="own"), push())
    shown = await asked(bench, session)
    await refused(session, shown, "bob")


async def test_of_a_job_without_a_known_asker_the_owner_has_asked(bench: Bench) -> None:
    """One that was made before jobs knew."""
    session, runner = await begun(bench, account="")
    runner.say(push())
    shown = await asked(bench, session)
    await refused(session, shown, "local")
    await session.approvals.decide(ApprovalId(shown.approval_id), approved=True, by="Dan", account="dan")


async def test_a_domain_can_need_a_second_person_too(bench: Bench) -> None:
    session, _ = await begun(bench, "manual")
    await session.domains.settle([Asking(id="a1", session=session.live.record.id, host="x.org", port=443, hold_s=60)])
    shown = await asked(bench, session)
    assert shown.second_approver
    assert [o.id for o in shown.options] == ["allow_once", "deny"]
    await refused(session, shown, "bob")


async def test_whoever_says_why_not_or_answers_has_asked_too(bench: Bench) -> None:
    """The agent goes on with these words, and what it asks next may be what they told it to."""
    session, runner = await begun(bench)
    runner.say(push())
    shown = await asked(bench, session)
    no = "run git push --force instead"
    await session.approvals.decide(ApprovalId(shown.approval_id), approved=False, by="Ann", account="ann", message=no)
    runner.say(push("r2", "git push --force"))
    await refused(session, await asked(bench, session, 2), "bob", "ann")

    runner.say(link.QuestionAsk(request_id="q1", questions=[ev.Question(question="Where to?", options=[])]))
    question = (await bench.until(session, ev.QuestionEvent))[-1]
    assert isinstance(question, ev.QuestionEvent)
    said = {"Where to?": "the other branch"}
    await session.questions.answer(QuestionId(question.question_id), said, by="Cleo", account="cleo")
    again = await asked(bench, session, 2)
    await refused(session, again, "cleo")
    await bench.restart()
    session = await bench.sessions.get(session.live.record.id, LOCAL)
    await refused(session, again, "bob", "ann", "cleo")
    await session.approvals.decide(ApprovalId(again.approval_id), approved=True, by="Dan", account="dan")


async def test_a_denial_without_a_word_asks_for_nothing(bench: Bench) -> None:
    session, runner = await begun(bench)
    runner.say(push())
    shown = await asked(bench, session)
    await session.approvals.decide(ApprovalId(shown.approval_id), approved=False, by="Ann", account="ann")
    runner.say(push("r2"))
    again = await asked(bench, session, 2)
    await session.approvals.decide(ApprovalId(again.approval_id), approved=True, by="Ann", account="ann")
