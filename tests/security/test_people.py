"""Whose is it, and which answer counts: other accounts' things, approvals answered by many, tools nobody knows."""

from __future__ import annotations

import asyncio
import dataclasses
import random
import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

import pilothouse
from pilothouse import config
from pilothouse.core import events as ev
from pilothouse.core import link, policy
from pilothouse.core.errors import AlreadyResolved, Conflict
from pilothouse.core.ids import ApprovalId
from pilothouse.engine.sessions import Session
from pilothouse.web.routes import TABLE
from tests.engine.conftest import Bench
from tests.engine.fakes import LOCAL, ScriptedRunner
from tests.security import raw
from tests.web.serving import Served, serving

SOMEBODY = dataclasses.replace(LOCAL, organisation="other")
"""Of another organisation, with the same account name."""
ANY_ID = "01a1fca5-a696-7da8-a592-78b242187567"


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with serving() as running:
        yield running


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    await made.start()
    yield made
    await made.sessions.close()


def bash(request: str, command: str) -> link.PermissionAsk:
    return link.PermissionAsk(request_id=request, tool_id=f"t-{request}", tool="Bash", input={"command": command})


# --- C13 ---


async def _foreign(served: Served) -> dict[str, str]:
    """A session of somebody else with one of everything, by what an address would call it."""
    sessions = served.platform.sessions
    session = await sessions.create(
        owner="local",
        organisation="other",
        agent="echo",
        permission_mode="manual",
        source=ev.Source(git="https://git.example/x.git"),
    )
    job = await session.jobs.submit(sessions.job(session, "theirs", "x"), client_message_id=None)
    while session.live.record.id not in served.sandboxes.runners:
        await asyncio.sleep(0.01)
    runner = served.sandboxes.runners[session.live.record.id]
    await runner.command(link.Prompt)
    runner.say(link.TurnStarted(turn_id=job.id), bash("r0", "npm test"), bash("r1", "rm x"))
    runner.say(link.QuestionAsk(request_id="q", questions=[ev.Question(question="Which?")]))
    while not session.questions.pending:
        await asyncio.sleep(0.01)
    first, second = session.approvals.pending
    await session.approvals.decide(first, approved=True, by="x", option_id="allow_project")
    return {
        "sessions": session.live.record.id,
        "jobs": job.id,
        "approvals": second,
        "questions": next(iter(session.questions.pending)),
        "rules": served.platform.rules.all(SOMEBODY)[0].id,
        "keys": ANY_ID,
        "artifacts": ANY_ID,
        "webhooks": ANY_ID,
        "notifications": ANY_ID,
        "signins": ANY_ID,
    }


BODIES = {
    "/api/sessions/{id}/grants/{account:path}": {"right": "run"},
    "/api/sessions/{id}/links": {"right": "watch"},
    "/api/approvals/{id}": {"approved": True},
    "/api/questions/{id}": {"answers": {"Which?": "mine"}},
    "/api/sessions/{id}/jobs": {"prompt": "mine"},
    "/api/sessions/{id}": {"title": "mine"},
    "/api/webhooks/{id}": {"name": "mine"},
    "/api/webhooks/{id}/rotate": {},
    "/api/artifacts/{id}/links": {},
    "/api/notifications/{id}": {"name": "mine"},
}


def filled(path: str, id: str) -> str:
    for name, value in {
        "{id}": id,
        "{digest}": "0" * 64,
        "{account:path}": "local",
        "{shellId}": "shell-1",
        "{delivery}": "d",
    }.items():
        path = path.replace(name, value)
    return path


async def test_c13_things_of_others_are_not_there_at_any_address(served: Served) -> None:
    """The same answer as for what does not exist, word for word; and nothing of theirs has changed."""
    theirs = await _foreign(served)
    session = await served.platform.sessions.get(theirs["sessions"], SOMEBODY)
    head = session.live.head
    key = await served.key()
    sockets = {"host": f"127.0.0.1:{served.port}", "x-api-key": key}
    async with httpx.AsyncClient(base_url=served.url, headers={"x-api-key": key}) as http:
        for entry in TABLE:
            if "{id}" not in entry.path or entry.method == "WS":
                continue
            body = BODIES.get(entry.path) if entry.method in {"POST", "PATCH", "PUT"} else None
            kind = entry.path.split("/")[2]
            if entry.method == "WS":
                asked = [raw.upgrade(filled(entry.path, i), sockets) for i in (theirs[kind], ANY_ID)]
                refused = [await raw.exchange(served.url, request) for request in asked]
                assert [raw.status(answer) for answer in refused] == [404, 404], entry
                assert refused[0].partition(b"\r\n\r\n")[2] == refused[1].partition(b"\r\n\r\n")[2], entry
                continue
            foreign, unknown = [
                await http.request(entry.method, filled(entry.path, i), json=body) for i in (theirs[kind], ANY_ID)
            ]
            assert (foreign.status_code, foreign.content) == (unknown.status_code, unknown.content), entry
            assert foreign.status_code == 404, entry
        for entry in (entry for entry in TABLE if entry.method == "WS" and "{id}" in entry.path):
            answers = [
                await raw.exchange(
                    served.url,
                    raw.upgrade(
                        entry.path.replace("{id}", i).replace("{shellId}", "s"),
                        {"host": http.base_url.netloc.decode(), "x-api-key": http.headers["x-api-key"]},
                    ),
                )
                for i in (theirs["sessions"], ANY_ID)
            ]
            assert [raw.status(answer) for answer in answers] == [404, 404], entry
            foreign_body, unknown_body = (answer.partition(b"\r\n\r\n")[2] for answer in answers)
            assert foreign_body == unknown_body, entry
        for listed in ("sessions", "approvals?state=all", "questions?state=all", "rules"):
            assert (await http.get(f"/api/{listed}")).json()["items"] == [], listed
    assert session.live.head == head
    assert theirs["approvals"] in session.approvals.pending
    assert served.platform.rules.all(SOMEBODY)


async def test_c13_an_answer_that_others_remembered_does_not_speak_for_a_person(bench: Bench) -> None:
    """The same project, another account."""
    source = ev.Source(git="https://git.example/x.git")
    theirs = await bench.sessions.create(owner="somebody", agent="echo", source=source)
    _, runner = await bench.run(theirs)
    runner.say(bash("r1", "npm test"))
    shown = (await bench.until(theirs, ev.ApprovalRequired))[-1]
    assert isinstance(shown, ev.ApprovalRequired)
    await theirs.approvals.decide(ApprovalId(shown.approval_id), approved=True, by="x", option_id="allow_project")
    runner.say(bash("r2", "npm test"))
    await runner.command(link.PermissionAnswer, 2)
    mine = await bench.sessions.create(owner="local", agent="echo", source=source)
    _, other = await bench.run(mine)
    other.say(bash("r1", "npm test"))
    await bench.until(mine, ev.ApprovalRequired)


# --- C16, C17 ---


async def _two_asks(bench: Bench) -> tuple[Session, ScriptedRunner, ev.ApprovalRequired, ev.ApprovalRequired]:
    session = await bench.session()
    _, runner = await bench.run(session)
    runner.say(bash("r1", "ls harmless"), bash("r2", "rm -rf harmful"))
    first, second = [
        e for e in await bench.until(session, ev.ApprovalRequired, 2) if isinstance(e, ev.ApprovalRequired)
    ]
    return session, runner, first, second


async def test_c16_an_answer_never_lands_on_a_newer_prompt(bench: Bench) -> None:
    """Two asks at one moment: each keeps its id and its input, and an answer about the one is none about the other."""
    session, runner, first, second = await _two_asks(bench)
    assert [first.input["command"], second.input["command"]] == ["ls harmless", "rm -rf harmful"]
    with pytest.raises(Conflict):
        await session.approvals.decide(
            ApprovalId(second.approval_id), approved=True, by="ann", input_hash=first.input_hash
        )
    await session.approvals.decide(ApprovalId(first.approval_id), approved=True, by="ann", input_hash=first.input_hash)
    answer = await runner.command(link.PermissionAnswer)
    assert isinstance(answer, link.PermissionAnswer)
    assert (answer.request_id, answer.behavior) == ("r1", "allow")
    assert list(session.approvals.pending) == [second.approval_id]


async def test_c16_an_ask_that_comes_again_with_another_input_is_not_taken_for_the_first(bench: Bench) -> None:
    """A runner repeats its ask under the same id, with other words: what was shown is what stays asked."""
    session, runner, first, _ = await _two_asks(bench)
    runner.say(bash("r1", "rm -rf swapped"))
    runner.say(ev.Stream(content="after", message_id="m"))
    events = await bench.until(session, ev.Stream)
    shown = [e.input["command"] for e in events if isinstance(e, ev.ApprovalRequired)]
    assert shown == ["ls harmless", "rm -rf harmful"]
    kept = session.approvals.pending[ApprovalId(first.approval_id)]
    assert (kept.input, kept.input_hash) == ({"command": "ls harmless"}, first.input_hash)


@pytest.mark.parametrize("seed", range(6))
async def test_c17_many_who_answer_at_once_have_one_winner_and_are_told(bench: Bench, seed: int) -> None:
    """People, the clock and the agent's own change of mind, in any order: resolved once, and all agree on how."""
    dice = random.Random(seed)
    session, runner, first, second = await _two_asks(bench)

    async def person(n: int, which: ev.ApprovalRequired) -> object:
        await asyncio.sleep(dice.random() / 100)
        try:
            done = await session.approvals.decide(
                ApprovalId(which.approval_id), approved=dice.random() < 0.5, by=f"p{n}", input_hash=which.input_hash
            )
        except AlreadyResolved as late:
            return late.details["outcome"]
        return done.state

    async def agent() -> object:
        await asyncio.sleep(dice.random() / 100)
        runner.say(link.AskCancelled(request_id="r1"))
        return None

    async def clock() -> object:
        await asyncio.sleep(dice.random() / 100)
        await bench.clock.wind(dice.choice([1, 301]))
        return None

    people = [person(n, first if n % 2 else second) for n in range(12)]
    told = await asyncio.gather(*people, agent(), clock())
    resolved = {e.approval_id: e.outcome for e in await bench.events(session) if isinstance(e, ev.ApprovalResolved)}
    for which, answers in ((first, told[1:12:2]), (second, told[0:12:2])):
        assert set(answers) == {resolved[which.approval_id]}
    both = [e.approval_id for e in await bench.events(session) if isinstance(e, ev.ApprovalResolved)]
    assert sorted(both) == sorted({first.approval_id, second.approval_id})
    answers_down = [c for c in runner.commands if isinstance(c, link.PermissionAnswer)]
    assert len({c.request_id for c in answers_down}) == len(answers_down) <= 2


# --- C19, C20, C33 ---


@pytest.mark.parametrize("tool", ["Reader", "read", "Bash2", "mcp__shell__run", "ReadAndExecute", "", "Edit\u200b"])
@pytest.mark.parametrize("mode", ["acceptEdits", "manual"])
def test_c19_a_tool_that_nobody_knows_is_asked_about(tool: str, mode: policy.Mode) -> None:
    """By its exact name: none is allowed because its name contains that of a harmless one."""
    for given in ({}, {"file_path": "/workspace/x"}, {"command": "ls"}):
        assert policy.decide(tool, given, mode=mode, allowed=None, rules=()).verdict == "ask"


def test_c19_nothing_starts_an_agent_past_its_questions() -> None:
    """No source of ours has an agent's bypass flag; the alias of a mode is the one word of it, and means our policy."""
    root = Path(pilothouse.__file__).parent
    found = []
    for path in root.rglob("*.py"):
        text = path.read_text()
        for word in re.findall(r"dangerously[-_a-zA-Z]*|IS_SANDBOX|--yolo|--full-auto|bypassPermissions", text):
            found.append((path.relative_to(root).as_posix(), word))
    assert set(found) == {
        ("core/policy.py", "bypassPermissions"),  # takes the alias
        ("core/api/base.py", "bypassPermissions"),  # documents it
        ("cli/commands/run.py", "bypassPermissions"),
    }
    assert config.Config().permission_mode == "acceptEdits"


async def test_c19_a_question_that_nobody_answers_is_a_denial(bench: Bench) -> None:
    session, runner, *_ = await _two_asks(bench)
    await bench.clock.wind(301)
    for count in (1, 2):
        answer = await runner.command(link.PermissionAnswer, count)
        assert isinstance(answer, link.PermissionAnswer)
        assert answer.behavior == "deny"
    resolved = [e.outcome for e in await bench.events(session) if isinstance(e, ev.ApprovalResolved)]
    assert resolved == ["expired", "expired"]


def _stories() -> list[str]:
    """Commands that begin as the remembered one does, and go on."""
    chains = [
        " ".join(["npm test"] + [f"&& echo {n}" for n in range(many)] + ["; rm -rf /"]) for many in (1, 49, 50, 51, 500)
    ]
    files = ["npm test -- *", "npm test -- $HOME", "npm test -- ~/x", "npm test -- a[b]", "npm test -- {a,b}"]
    edits = ["npm test -- 's/x/y/e' w", "npm test --prefix=/tmp\nrm x", "npm test\\\nrm x", "npm test -- `id`"]
    long = ["npm test " + "a " * 100_000 + "; rm x", "npm test " + "'" * 1001 + "; rm x"]
    return [*chains, *files, *edits[1:], *long]


@pytest.mark.parametrize("command", _stories(), ids=lambda c: f"{c[:30]}…{len(c)}")
def test_c20_a_remembered_beginning_never_carries_what_follows(command: str) -> None:
    rules = [policy.Rule(policy.pattern("Bash(npm test:*)"), "approved")]
    assert policy.decide("Bash", {"command": command}, mode="acceptEdits", allowed=None, rules=rules).verdict == "ask"


def test_c33_what_a_session_may_do_before_anybody_is_asked() -> None:
    """The defaults: isolated, a list of domains, edits inside the workspace; whatever lies outside of it is asked."""
    shipped = config.Config()
    assert (shipped.sandbox, shipped.egress) == ("bubblewrap", "allow")
    assert "*" not in shipped.egress_domains
    mode = policy.mode(shipped.permission_mode)
    for path in (
        "/etc/passwd",
        "/workspace/../etc/x",
        "~/.ssh/authorized_keys",
        "/home/agent/.bashrc",
        "/workspacex/a",
    ):
        for tool in ("Write", "Edit", "Read"):
            verdict = policy.decide(tool, {"file_path": path}, mode=mode, allowed=None, rules=()).verdict
            assert verdict == "ask", (tool, path)
    for tool, given in (("Bash", {"command": "ls"}), ("WebFetch", {"url": "https://pypi.org"}), ("Agent", {})):
        assert policy.decide(tool, given, mode=mode, allowed=None, rules=()).verdict == "ask", tool
