"""Approvals with the real agent: what must be asked is asked, and what the person says is what happens."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.journeys.program import Demo, Program, Viewer, begin, decide, installation

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running() -> AsyncIterator[tuple[Program, Demo]]:
    async with installation() as made:
        yield made


def workspace(program: Program, session: str) -> Path:
    return program.own(session) / "workspace"


async def transcript_tools(program: Program, session: str, least: int) -> list[str]:
    """Ids of the tool calls in the agent's own transcript, a count that is not ours: once so many are written down,
    which it does a little later than it says it."""
    async with asyncio.timeout(20):
        while len(found := _tools(program, session)) < least:
            await asyncio.sleep(0.05)
    return found


def _tools(program: Program, session: str) -> list[str]:
    found = []
    for path in (program.own(session) / "home" / ".claude" / "projects").rglob("*.jsonl"):
        for line in path.read_text().splitlines():
            content = json.loads(line).get("message", {}).get("content", [])
            if isinstance(content, list):
                found += [b["id"] for b in content if isinstance(b, dict) and b.get("type") == "tool_use"]
    return sorted(set(found))


async def approve_all(program: Program, viewer: Viewer) -> None:
    """Approves one after another until the job is complete."""
    done = 0
    while not viewer.of("complete"):
        cards = viewer.of("approval_required")
        if len(cards) > done:
            await decide(program, cards[done])
            done += 1
            continue
        viewer._grown.clear()
        await viewer._grown.wait()


async def test_manual_not_one_tool_call_without_an_answer(running: tuple[Program, Demo]) -> None:
    program, _ = running
    script = (
        "demo: write a.txt hello\ndemo: read a.txt\ndemo: bash ls -la\ndemo: + bash echo two\n"
        "demo: edit a.txt hello => bye\ndemo: todo one | two\ndemo: agent demo: bash pwd"
    )
    session, _, viewer = await begin(program, script, permissionMode="manual")
    await approve_all(program, viewer)
    used = {e["toolId"]: e["tool"] for e in viewer.of("tool_use")}
    asked = {e["toolId"] for e in viewer.of("approval_required")}
    ended = {e["toolId"] for e in viewer.of("tool_result")}
    own = await transcript_tools(program, session, 7)
    assert set(own) <= asked, {t: used.get(t) for t in set(own) - asked}
    assert ended <= asked
    assert viewer.of("complete")[0]["outcome"] == "succeeded"
    assert (workspace(program, session) / "a.txt").read_text().strip() == "bye"
    await viewer.close()


async def test_accept_edits_lets_edits_go_ahead_and_asks_for_commands(running: tuple[Program, Demo]) -> None:
    program, _ = running
    script = (
        "demo: write a.txt hello\ndemo: edit a.txt hello => bye\n"
        "demo: write .git/hooks/pre-commit evil\ndemo: bash cat a.txt"
    )
    _, _, viewer = await begin(program, script)
    await approve_all(program, viewer)
    cards = viewer.of("approval_required")
    assert [(c["tool"], c["input"].get("file_path") or c["input"].get("command")) for c in cards] == [
        ("Write", "/workspace/.git/hooks/pre-commit"),
        ("Bash", "cat a.txt"),
    ]
    diffs = [e["diff"] for e in viewer.of("tool_result") if "diff" in e]
    assert "-hello" in json.dumps(diffs)
    assert "+bye" in json.dumps(diffs)
    await viewer.close()


async def test_a_tool_that_is_not_allowed_is_denied_and_a_pattern_goes_ahead(running: tuple[Program, Demo]) -> None:
    program, _ = running
    script = "demo: bash echo yes\ndemo: bash touch no.txt\ndemo: write no2.txt x\ndemo: read /etc/hostname"
    session, _, viewer = await begin(program, script, allowedTools=["Bash(echo:*)"])
    await viewer.until("complete")
    assert viewer.of("approval_required") == []
    results = [(e["isError"], e["result"]) for e in viewer.of("tool_result")]
    assert [failed for failed, _ in results] == [False, True, True, True]
    assert "allowed tools" in results[1][1]
    assert not list(workspace(program, session).iterdir())
    await viewer.close()


async def test_a_denial_tells_the_model_the_persons_words(running: tuple[Program, Demo]) -> None:
    program, _ = running
    session, _, viewer = await begin(program, "Write a small program and run it", permissionMode="manual")
    card = await viewer.until("approval_required")
    words = "please use the name hello-zebra.py instead"
    await decide(program, card, approved=False, message=words)
    done = await viewer.until("complete")
    assert words in viewer.of("tool_result")[0]["result"]
    said = "".join(e["content"] for e in viewer.of("stream"))
    assert "hello-zebra.py" in said, "the model quotes what it was told"
    assert done["outcome"] == "succeeded"
    assert not list(workspace(program, session).iterdir())
    await viewer.close()


async def test_an_edited_input_is_what_runs(running: tuple[Program, Demo]) -> None:
    program, _ = running
    session, _, viewer = await begin(program, "demo: bash touch theirs.txt")
    card = await viewer.until("approval_required")
    edited = {**card["input"], "command": "touch mine.txt"}
    await decide(program, card, updatedInput=edited)
    await viewer.until("complete")
    assert [p.name for p in workspace(program, session).iterdir()] == ["mine.txt"]
    resolved = viewer.of("approval_resolved")[0]
    assert resolved["updatedInput"]["command"] == "touch mine.txt"
    await viewer.close()


async def test_a_remembered_rule_is_not_asked_again(running: tuple[Program, Demo]) -> None:
    program, _ = running
    script = "demo: bash touch a\ndemo: bash touch b\ndemo: bash touch c; touch d\ndemo: bash mkdir e"
    _, _, viewer = await begin(program, script)
    first = await viewer.until("approval_required")
    await decide(program, first, optionId="allow_session")
    second = await viewer.until("approval_required", 2)
    assert second["input"]["command"] == "touch c; touch d", "a chained command is never covered by a prefix"
    await decide(program, second)
    third = await viewer.until("approval_required", 3)
    assert third["input"]["command"] == "mkdir e"
    await decide(program, third)
    await viewer.until("complete")
    async with program.http() as http:
        rules = (await http.get("/api/rules")).json()["items"]
        assert [(r["rule"], r["outcome"]) for r in rules] == [("Bash(touch:*)", "approved")]
    await viewer.close()


async def test_no_answer_in_time_denies_and_says_so() -> None:
    async with installation(PILOTHOUSE_APPROVAL_TIMEOUT_S="2") as (program, _):
        session, _, viewer = await begin(program, "demo: bash touch never.txt")
        await viewer.until("complete")
        assert viewer.of("approval_resolved")[0]["outcome"] == "expired"
        assert "Approval timed out; the action was not performed." in viewer.of("tool_result")[0]["result"]
        assert not list(workspace(program, session).iterdir())
        await viewer.close()


async def test_a_question_is_answered_and_a_plan_accepted(running: tuple[Program, Demo]) -> None:
    program, _ = running
    _, _, viewer = await begin(program, "demo: ask Which one? | Red | Blue\ndemo: say fine")
    card = await viewer.until("question")
    async with program.http() as http:
        bad = await http.post(f"/api/questions/{card['questionId']}", json={"answers": {"Other?": "x"}})
        assert bad.status_code == 400
        text = card["questions"][0]["question"]
        good = await http.post(f"/api/questions/{card['questionId']}", json={"answers": {text: "Blue"}})
        assert good.status_code == 200
    await viewer.until("complete")
    assert "Blue" in viewer.of("tool_result")[0]["result"]
    await viewer.close()
    session, _, viewer = await begin(
        program, "demo: plan # My plan\\n1. write\ndemo: write done.txt yes", permissionMode="plan"
    )
    card = await viewer.until("approval_required")
    assert card["tool"] == "ExitPlanMode"
    assert "My plan" in card["input"]["plan"]
    await decide(program, card, optionId="accept_edits")
    await viewer.until("complete")
    assert (workspace(program, session) / "done.txt").exists()
    await viewer.close()


async def test_interrupt_with_an_approval_open_cancels_it(running: tuple[Program, Demo]) -> None:
    program, _ = running
    _, job, viewer = await begin(program, "demo: bash touch x")
    await viewer.until("approval_required")
    async with program.http() as http:
        assert (await http.post(f"/api/jobs/{job['id']}/interrupt")).status_code == 202
    done: dict[str, Any] = await viewer.until("complete")
    assert done["outcome"] == "interrupted"
    assert viewer.of("approval_resolved")[0]["outcome"] == "cancelled"
    await viewer.close()
