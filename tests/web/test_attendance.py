"""What a headless job asks: a person who is there, or nobody at all."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import websockets

from pilothouse.core import events as ev
from pilothouse.core import link, policy
from pilothouse.core.reach import Asking
from pilothouse.engine.attendance import NO_ANSWER, NOBODY
from pilothouse.engine.kit import Limits
from pilothouse.engine.sessions import Session
from pilothouse.web import hub
from pilothouse.web.guard import COOKIE
from tests.engine.fakes import ScriptedRunner
from tests.web.serving import Served, serving

BASH = link.PermissionAsk(request_id="r", tool_id="t", tool="Bash", input={"command": "make"})


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with serving() as running:
        yield running


async def begun(served: Served, **fields: Any) -> tuple[Session, ScriptedRunner, str]:
    """A job of `/trigger` at work: its session, its runner, its turn."""
    async with httpx.AsyncClient(base_url=served.url, headers={"x-api-key": await served.key("run")}) as http:
        said = (await http.post("/trigger", json={"prompt": "x", **fields})).json()
    session = await served.platform.sessions.found(said["sessionId"])
    assert session is not None
    sid = session.live.record.id
    while sid not in served.sandboxes.runners:
        await asyncio.sleep(0.002)
    runner = served.sandboxes.runners[sid]
    turn = (await runner.command(link.Prompt)).id
    runner.say(link.TurnStarted(turn_id=turn))
    return session, runner, turn


@contextlib.asynccontextmanager
async def signed_in(served: Served, account: str = "local", role: str = "admin") -> AsyncIterator[Any]:
    """Somebody with the page open."""
    await served.identity.members.put("default", account, role=role)
    cookie = await served.identity.redeem((await served.identity.ticket(account))[0])
    headers = {"cookie": f"{COOKIE}={cookie}", "origin": served.url}
    async with websockets.connect(served.socket_url, additional_headers=headers) as socket:
        yield socket


async def told(runner: ScriptedRunner, count: int = 1) -> link.PermissionAnswer:
    answer = await runner.command(link.PermissionAnswer, count)
    assert isinstance(answer, link.PermissionAnswer)
    return answer


async def kinds(served: Served, session: Session) -> list[str]:
    page = await served.platform.kit.log.page(session.live.record.id, 0, 500)
    return [json.loads(row.body)["type"] for row in page.rows]


async def test_with_nobody_there_it_is_denied_at_once_and_the_agent_is_told(served: Served) -> None:
    session, runner, _ = await begun(served)
    runner.say(BASH)
    answer = await told(runner)
    assert (answer.behavior, answer.message) == ("deny", NOBODY)
    assert "approval_required" not in await kinds(served, session)


async def test_who_is_signed_in_and_may_approve_is_asked(served: Served) -> None:
    session, runner, _ = await begun(served)
    async with signed_in(served):
        runner.say(BASH)
        while not session.approvals.pending:
            await asyncio.sleep(0.002)
        [approval] = session.approvals.pending
    await session.approvals.decide(approval, approved=True, by="local")  # also who has left meanwhile
    answer = await told(runner)
    assert answer.behavior == "allow"


async def test_who_reloads_the_page_is_still_there_and_who_left_is_nobody_soon(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, runner, turn = await begun(served)
    async with signed_in(served):
        pass
    while served.hub._open:
        await asyncio.sleep(0.002)
    runner.say(BASH)
    while not session.approvals.pending:
        await asyncio.sleep(0.002)
    runner.end_turn(turn)
    monkeypatch.setattr(hub, "LINGER_S", 0.01)
    served.hub._left.clear()
    async with signed_in(served):
        pass
    while served.hub._open or served.hub._left:
        await asyncio.sleep(0.002)
    _, runner, _ = await begun(served)
    runner.say(BASH)
    assert (await told(runner)).message == NOBODY


@pytest.mark.parametrize("role", ["viewer", "operator"])
async def test_who_is_signed_in_and_may_not_approve_is_nobody(served: Served, role: str) -> None:
    _, runner, _ = await begun(served)
    async with signed_in(served, "vera", role):
        runner.say(BASH)
        answer = await told(runner)
    assert answer.message == NOBODY


async def test_somebody_of_another_organisation_is_nobody(served: Served) -> None:
    _, runner, _ = await begun(served)
    await served.identity.members.make("red", None)
    await served.identity.members.put("red", "ann", role="admin")
    cookie = await served.identity.redeem((await served.identity.ticket("ann", "red"))[0])
    headers = {"cookie": f"{COOKIE}={cookie}", "origin": served.url}
    async with websockets.connect(served.socket_url, additional_headers=headers):
        runner.say(BASH)
        answer = await told(runner)
    assert answer.message == NOBODY


async def test_a_program_that_may_approve_counts_where_it_follows_the_session(served: Served) -> None:
    session, runner, _ = await begun(served)
    key = {"x-api-key": await served.key("read", "approve")}
    async with websockets.connect(served.socket_url, additional_headers=key) as socket:
        runner.say(BASH)
        answer = await told(runner)
        assert answer.message == NOBODY
        await socket.send(json.dumps({"type": "subscribe", "chatId": session.live.record.id}))
        while json.loads(await socket.recv())["type"] != "caught_up":
            pass
        runner.say(link.PermissionAsk(request_id="r2", tool_id="t", tool="Bash", input={"command": "make"}))
        while not session.approvals.pending:
            await asyncio.sleep(0.002)


async def test_where_a_second_person_is_needed_the_first_is_nobody() -> None:
    async with serving(limits=Limits(second_approver=(policy.Pattern("Bash"),))) as served:
        session, runner, _ = await begun(served)
        async with signed_in(served):
            runner.say(BASH)
            answer = await told(runner)
            assert answer.message == NOBODY
            async with signed_in(served, "ann", "approver"):
                runner.say(link.PermissionAsk(request_id="r2", tool_id="t", tool="Bash", input={"command": "make"}))
                while not session.approvals.pending:
                    await asyncio.sleep(0.002)


async def test_a_question_and_a_domain_are_answered_at_once_too(served: Served) -> None:
    session, runner, _ = await begun(served)
    runner.say(link.QuestionAsk(request_id="q", questions=[ev.Question(question="Which?")]))
    answer = await runner.command(link.QuestionAnswer)
    assert isinstance(answer, link.QuestionAnswer)
    assert (answer.answers, answer.message) == ({}, NO_ANSWER)
    assert "question" not in await kinds(served, session)
    await session.domains.settle([Asking("a1", session.live.record.id, "example.org", 443, 120.0)])
    [(_, allowed, why, _)] = served.models.answers
    assert not allowed
    assert "nobody who could allow it can be reached" in why


async def test_what_a_background_task_begins_is_headless_like_its_job(served: Served) -> None:
    _, runner, turn = await begun(served)
    runner.end_turn(turn)
    runner.say(link.TurnStarted(turn_id="own", injected=True), BASH)
    answer = await told(runner)
    assert answer.message == NOBODY


async def test_a_person_s_job_in_the_same_session_waits(served: Served) -> None:
    session, runner, turn = await begun(served)
    runner.end_turn(turn)
    sessions = served.platform.sessions
    job = await session.jobs.submit(sessions.job(session, "y", "local", account="local"), client_message_id=None)
    await runner.command(link.Prompt, 2)
    runner.say(link.TurnStarted(turn_id=job.id), BASH)
    while not session.approvals.pending:
        await asyncio.sleep(0.002)


WRITE = ("Write", {"file_path": "a.py", "content": ""})
EDIT = ("Edit", {"file_path": "a.py"})
OUTSIDE = ("Write", {"file_path": "/etc/x"})
RUN = ("Bash", {"command": "npm test x"})


@pytest.mark.parametrize(
    ("fields", "allowed"),
    [
        ({}, {"Write", "Edit"}),
        ({"permission_mode": "default"}, set()),
        ({"permission_mode": "manual"}, set()),
        ({"permission_mode": "plan"}, set()),
        ({"permission_mode": "dontAsk"}, set()),
        ({"permission_mode": "acceptAll"}, {"Write", "Edit", "Bash", "outside"}),
        ({"permission_mode": "bypassPermissions"}, {"Write", "Edit", "Bash", "outside"}),
        ({"permission_mode": "bypassPermissions", "allowed_tools": "Replace"}, {"Edit"}),
        ({"allowed_tools": "Bash(npm test:*),Replace"}, {"Edit", "Bash"}),
        ({"allowed_tools": "Bash(npm ci:*),Write"}, {"Write", "outside"}),
        ({"permission_mode": "dontAsk", "allowed_tools": "Bash,Edit"}, {"Edit", "Bash"}),
    ],
)
async def test_modes_and_tools_of_a_call(served: Served, fields: dict[str, str], allowed: set[str]) -> None:
    _, runner, _ = await begun(served, **fields)
    found = set()
    for n, (name, (tool, given)) in enumerate({"Write": WRITE, "Edit": EDIT, "outside": OUTSIDE, "Bash": RUN}.items()):
        runner.say(link.PermissionAsk(request_id=f"r{n}", tool_id="t", tool=tool, input=given))
        answer = await told(runner, n + 1)
        if answer.behavior == "allow":
            found.add(name)
    assert found == allowed
