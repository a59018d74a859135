"""A connection that waits for a person: asked as an approval of the running job, by the proxy and by nobody else."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from pilothouse.core import events as ev
from pilothouse.core import link, reach
from pilothouse.core.errors import BadRequest
from pilothouse.core.ids import ApprovalId, SessionId
from pilothouse.core.reach import Asking, Reach
from pilothouse.engine.contacts import NetworkIntake
from pilothouse.engine.kit import Limits
from pilothouse.engine.sessions import Session
from tests.engine.conftest import Bench
from tests.engine.fakes import LOCAL

CONFIGURED = Reach("allow", reach.domains(["pypi.org"], "domains"), 120.0)
LIMITS = Limits(egress=CONFIGURED)


@pytest.fixture
async def intake(bench: Bench) -> NetworkIntake:
    await bench.sessions.close()
    bench.limits = LIMITS
    await bench.start()
    return NetworkIntake(bench.sessions.kit, bench.sessions)


def asks(session: Session, ask_id: str = "a1", host: str = "example.org", port: int = 443) -> Asking:
    return Asking(ask_id, session.live.record.id, host, port, 120.0)


async def settle(intake: NetworkIntake, bench: Bench, *asking: Asking) -> None:
    """What the proxy tells, taken to its end."""
    bench.models.asked.put_nowait(list(asking))
    bench.models.asked.put_nowait(None)
    await intake._wishes()
    await asyncio.gather(*(settling.task for settling in intake._settling.values()))


async def answers(bench: Bench, count: int = 1) -> list[tuple[str, bool, str, bool]]:
    async with asyncio.timeout(10):
        while len(bench.models.answers) < count:
            bench.models.answered.clear()
            await bench.models.answered.wait()
    return bench.models.answers


async def required(bench: Bench, session: Session, count: int = 1) -> ev.ApprovalRequired:
    event = (await bench.until(session, ev.ApprovalRequired, count))[-1]
    assert isinstance(event, ev.ApprovalRequired)
    return event


async def test_it_is_an_approval_of_the_running_job_and_the_answer_goes_back(
    bench: Bench, intake: NetworkIntake
) -> None:
    session = await bench.session()
    job, runner = await bench.run(session)
    await settle(intake, bench, asks(session))
    event = await required(bench, session)
    assert (event.job_id, event.tool, event.input) == (job.id, "network", {"host": "example.org", "port": 443})
    assert [(o.id, o.label, o.scope) for o in event.options] == [
        ("allow_once", "Allow once", "once"),
        ("allow_session", "Allow for this session", "session"),
        ("deny", "Deny", None),
    ]
    await settle(intake, bench, asks(session))  # told again: it is the same
    approval = ApprovalId(event.approval_id)
    with pytest.raises(BadRequest, match="updatedInput"):
        await session.approvals.decide(approval, approved=True, by="ann", updated_input={"host": "x", "port": 1})
    await session.approvals.decide(approval, approved=True, by="ann", input_hash=event.input_hash)
    assert await answers(bench) == [("a1", True, "", False)]
    assert bench.models.reaches[session.live.record.id] == CONFIGURED, "once is once"
    assert not [c for c in runner.commands if isinstance(c, link.PermissionAnswer)]
    assert not bench.sessions.rules.all(LOCAL)


async def test_allowed_for_the_session_it_is_on_its_list_from_then_on(bench: Bench, intake: NetworkIntake) -> None:
    session = await bench.session()
    await bench.run(session)
    await settle(intake, bench, asks(session))
    event = await required(bench, session)
    await session.approvals.decide(ApprovalId(event.approval_id), approved=True, by="ann", option_id="allow_session")
    sid = session.live.record.id
    assert await answers(bench) == [("a1", True, "", False)]
    while len(bench.models.reaches[sid].domains) < 2:
        await asyncio.sleep(0)
    assert [str(d) for d in bench.models.reaches[sid].domains] == ["pypi.org", "example.org:443"]
    assert not bench.models.reaches[sid].allows(reach.target("example.org:80")), "what was shown, and no more"
    await bench.restart()
    again = await bench.sessions.get(sid, LOCAL)
    await again.live.tell_reach()
    assert bench.models.reaches[sid].allows(reach.target("example.org:443"))
    assert not bench.sessions.rules.all(LOCAL)


async def test_a_denial_is_told_in_the_persons_words_and_remembered(bench: Bench, intake: NetworkIntake) -> None:
    session = await bench.session()
    await bench.run(session)
    await settle(intake, bench, asks(session))
    event = await required(bench, session)
    await session.approvals.decide(ApprovalId(event.approval_id), approved=False, by="ann", message="not there")
    assert await answers(bench) == [("a1", False, "not there", True)]
    await settle(intake, bench, asks(session))  # the answer was lost: the proxy still asks
    assert await answers(bench, 2) == [("a1", False, "not there", True), ("a1", False, "not there", False)]


@pytest.mark.parametrize("mode", ["acceptAll", "dontAsk", "plan"])
async def test_modes_that_ask_nobody_refuse_at_once(bench: Bench, intake: NetworkIntake, mode: str) -> None:
    session = await bench.session()
    await bench.run(session, permission_mode=mode)
    await settle(intake, bench, asks(session))
    ((ask, allow, why, remember),) = await answers(bench)
    assert (ask, allow, remember) == ("a1", False, False)
    assert f"the permission mode {mode} asks nobody" in why
    assert not session.approvals.pending


async def test_without_a_job_nobody_is_asked(bench: Bench, intake: NetworkIntake) -> None:
    session = await bench.session()
    unknown = replace(asks(session, "a2"), session=SessionId("5d0c7a7e-0000-4000-8000-000000000000"))
    await settle(intake, bench, asks(session), unknown)
    found = {ask: why for ask, allow, why, _ in await answers(bench, 2) if not allow}
    assert "no job is running" in found["a1"]
    assert "nobody works in this session" in found["a2"]


async def test_the_end_of_the_job_the_time_and_the_program_that_leaves_end_it(
    bench: Bench, intake: NetworkIntake
) -> None:
    session = await bench.session()
    job, runner = await bench.run(session)
    await settle(intake, bench, asks(session, "a1"), asks(session, "a2", "b.example"), asks(session, "a3", "c.example"))
    await required(bench, session, 3)
    await settle(intake, bench, asks(session, "a1"), asks(session, "a3", "c.example"))  # a2's program has gone
    resolved = (await bench.until(session, ev.ApprovalResolved))[-1]
    assert isinstance(resolved, ev.ApprovalResolved)
    assert (resolved.outcome, resolved.by) == ("cancelled", "agent")
    runner.end_turn(job.id)
    seen = await bench.until(session, ev.Complete)
    assert [e.outcome for e in seen if isinstance(e, ev.ApprovalResolved)] == ["cancelled"] * 3
    told = {ask: (allow, remember) for ask, allow, _, remember in await answers(bench, 3)}
    assert told == {"a1": (False, False), "a2": (False, False), "a3": (False, False)}
    _, _ = await bench.run(session, "again")
    await settle(intake, bench, asks(session, "a4"))
    await required(bench, session, 4)
    await bench.clock.wind(121)
    seen = await bench.until(session, ev.ApprovalResolved, 4)
    assert isinstance(seen[-1], ev.ApprovalResolved)
    assert seen[-1].outcome == "expired"
    assert (await answers(bench, 4))[-1] == ("a4", False, "Approval timed out; the action was not performed.", False)


async def test_it_waits_on_over_a_restart_of_the_server(bench: Bench, intake: NetworkIntake) -> None:
    session = await bench.session()
    await bench.run(session)
    await settle(intake, bench, asks(session))
    event = await required(bench, session)
    await bench.restart()
    intake = NetworkIntake(bench.sessions.kit, bench.sessions)
    again = await bench.sessions.get(session.live.record.id, LOCAL)
    await settle(intake, bench, asks(again))
    assert list(again.approvals.pending) == [event.approval_id]
    await again.approvals.decide(ApprovalId(event.approval_id), approved=True, by="ann")
    assert (await answers(bench))[0][:2] == ("a1", True)


async def test_after_a_restart_what_nobody_waits_for_any_more_is_cancelled(bench: Bench, intake: NetworkIntake) -> None:
    session = await bench.session()
    await bench.run(session)
    await settle(intake, bench, asks(session))
    await required(bench, session)
    await bench.restart()
    again = await bench.sessions.get(session.live.record.id, LOCAL)
    await settle(NetworkIntake(bench.sessions.kit, bench.sessions), bench)
    await bench.until(again, ev.ApprovalResolved)
    assert not again.approvals.pending


@pytest.mark.parametrize(
    "name", ["network", "Network", " NETWORK\t", "net\u200bwork", "ｎｅｔｗｏｒｋ", "net-work", "_network"]
)
async def test_no_runner_can_ask_under_its_name(bench: Bench, intake: NetworkIntake, name: str) -> None:
    session = await bench.session()
    _, runner = await bench.run(session, permission_mode="manual")
    forged = {"host": "example.org", "port": 443}
    runner.say(link.PermissionAsk(request_id="r1", tool_id="network-1", tool=name, input=forged))
    answer = await runner.command(link.PermissionAnswer)
    assert isinstance(answer, link.PermissionAnswer)
    assert (answer.behavior, answer.message) == ("deny", "No tool may be called network.")
    assert not session.approvals.pending


async def test_a_runner_that_knows_the_ask_neither_gets_nor_ends_it(bench: Bench, intake: NetworkIntake) -> None:
    """Whatever it calls itself: who asked is part of the key, and it is the server who says that."""
    session = await bench.session()
    _, runner = await bench.run(session, permission_mode="manual")
    await settle(intake, bench, asks(session))
    await required(bench, session)
    runner.say(link.AskCancelled(request_id="a1"))
    runner.say(link.PermissionAsk(request_id="a1", tool_id="t", tool="Bash", input={"command": "ls"}))
    event = await required(bench, session, 2)
    assert event.tool == "Bash"
    assert len(session.approvals.pending) == 2
    await session.approvals.decide(ApprovalId(event.approval_id), approved=True, by="ann")
    assert isinstance(await runner.command(link.PermissionAnswer), link.PermissionAnswer)
    assert bench.models.answers == []
