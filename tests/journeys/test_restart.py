"""`kill -9` of the server at ten seeded moments of a job: nothing lost, doubled or run twice, whoever watched is whole.

The demo model stops at `hold` points, so each kill lands where it is meant to: in the middle of streamed text, while a
tool runs, with an approval open.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.disks import within
from tests.journeys.program import Demo, Program, Viewer, begin, decide, installation

pytestmark = pytest.mark.asyncio(loop_scope="module")

SEEDS = range(6)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def installed() -> AsyncIterator[tuple[Program, Demo]]:
    async with installation() as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def running(installed: tuple[Program, Demo]) -> tuple[Program, Demo]:
    """With a server that runs, also after a test that failed while it did not."""
    program, _ = installed
    if program.process is None or program.process.returncode is not None:
        await program.start()
    return installed


def agent_processes(session: str) -> dict[int, str]:
    """The session's agents: pid and start time, so that a pid given again is not the same."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            argv = (entry / "cmdline").read_bytes().split(b"\0")
            if argv and argv[0].endswith(b"/_bundled/claude") and within(int(entry.name), session):
                found[int(entry.name)] = (entry / "stat").read_text().rpartition(")")[2].split()[19]
    return found


async def steady(session: str) -> dict[int, str]:
    """The agent alone: a program that it starts is a fork of it for a moment, with its arguments."""
    async with asyncio.timeout(20):
        while len(found := agent_processes(session)) != 1:
            await asyncio.sleep(0.01)
    return found


async def answers(model: Demo) -> int:
    """Which the model has given so far, to whomever."""
    return int((await model.calls())["calls"])


async def check_end(program: Program, viewers: list[Viewer], model: Demo, until: int) -> None:
    """`until`: how many answers the model has given then."""
    for viewer in viewers:
        await viewer.until("complete")
        await asyncio.sleep(0.2)
        viewer.check_whole()
        assert len(viewer.of("complete")) == 1
        assert viewer.of("complete")[0]["outcome"] == "succeeded", viewer.of("complete")
        assert len(viewer.of("job_started")) == 1
        assert not viewer.of("stream_reset")
        assert not viewer.of("retry")
    assert viewers[0].events == viewers[-1].events
    calls = await model.calls()
    assert calls["calls"] == until, json.dumps(calls["log"], indent=1)
    async with program.http() as http:
        page = (await http.get(f"/api/sessions/{viewers[0].session}/events")).json()
        assert [e["seq"] for e in page["events"]] == [e["seq"] for e in viewers[0].events]


async def over(program: Program, *viewers: Viewer) -> None:
    for viewer in viewers:
        await viewer.close()
    async with program.http() as http:
        assert (await http.delete(f"/api/sessions/{viewers[0].session}")).status_code == 204


async def kill_and_return(program: Program, dice: random.Random) -> None:
    await program.kill()
    await asyncio.sleep(dice.random() * 0.8)
    await program.start()


@pytest.mark.parametrize("seed", SEEDS)
async def test_killed_in_the_middle_of_streamed_text(running: tuple[Program, Demo], seed: int) -> None:
    dice = random.Random(seed)
    program, model = running
    given = await answers(model)
    hold = f"here-{seed}"
    prompt = f"demo: text 200\ndemo: hold {hold}\ndemo: text 200\ndemo: say the end"
    session, _, first = await begin(program, prompt)
    await model.held(hold)
    await first.until("stream")
    before = await steady(session)
    release_first = dice.random() < 0.5
    if release_first:  # in full flow
        await model.release(hold)
        await asyncio.sleep(dice.random() * 0.3)
        await kill_and_return(program, dice)
    else:  # while it pauses
        await kill_and_return(program, dice)
        await model.release(hold)
    second = Viewer(program, session)
    await check_end(program, [first, second], model, given + 1)
    assert await steady(session) == before
    text = "".join(e["content"] for e in first.of("stream"))
    assert text.endswith("the end")
    assert text == second_text(second)
    await over(program, first, second)


def second_text(viewer: Viewer) -> str:
    return "".join(e["content"] for e in viewer.of("stream"))


@pytest.mark.parametrize("seed", SEEDS)
async def test_killed_while_a_tool_runs(running: tuple[Program, Demo], seed: int) -> None:
    dice = random.Random(seed)
    program, model = running
    given = await answers(model)
    command = "echo ran >> ran.txt; while [ ! -e go ]; do read -t 0.05 < /dev/zero; done; echo finished"
    session, _, first = await begin(program, f"demo: bash {command}\ndemo: say over", permissionMode="acceptAll")
    await first.until("tool_use")
    ran = program.own(session) / "workspace" / "ran.txt"
    async with asyncio.timeout(30):
        while not ran.exists():
            await asyncio.sleep(0.02)
    before = await steady(session)
    await asyncio.sleep(dice.random() * 0.3)
    await program.kill()
    go_first = dice.random() < 0.5
    if go_first:
        touch(ran.with_name("go"), like=ran)
        await asyncio.sleep(dice.random() * 0.6)
    await program.start()
    if not go_first:
        touch(ran.with_name("go"), like=ran)
    second = Viewer(program, session)
    await check_end(program, [first, second], model, given + 2)
    assert await steady(session) == before
    assert ran.read_text() == "ran\n", "the command ran once"
    assert "finished" in first.of("tool_result")[0]["result"]
    await over(program, first, second)


def touch(path: Path, like: Path) -> None:
    path.write_text("")
    info = like.stat()
    with contextlib.suppress(PermissionError):
        os.chown(path, info.st_uid, info.st_gid)


@pytest.mark.parametrize("seed", SEEDS)
async def test_killed_with_an_approval_open(running: tuple[Program, Demo], seed: int) -> None:
    dice = random.Random(seed)
    program, model = running
    given = await answers(model)
    session, _, first = await begin(program, "demo: bash echo ran >> ran.txt\ndemo: say over")
    card = await first.until("approval_required")
    before = await steady(session)
    await asyncio.sleep(dice.random() * 0.3)
    await kill_and_return(program, dice)
    if dice.random() < 0.5:
        await asyncio.sleep(dice.random() * 0.5)
    async with program.http() as http:
        waiting = (await http.get("/api/approvals?state=pending")).json()["items"]
        assert [w["approvalId"] for w in waiting] == [card["approvalId"]]
    await decide(program, card)
    if dice.random() < 0.5:  # and again, right behind the answer
        await kill_and_return(program, dice)
    second = Viewer(program, session)
    await check_end(program, [first, second], model, given + 2)
    assert await steady(session) == before
    assert len(first.of("approval_required")) == len(first.of("approval_resolved")) == 1
    ran = program.own(session) / "workspace" / "ran.txt"
    assert ran.read_text() == "ran\n"
    await over(program, first, second)
