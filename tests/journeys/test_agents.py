"""What is killed, stopped or deleted while the real agent works: the job ends in words, the conversation goes on."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests import disks
from tests.journeys.program import Demo, Program, Viewer, begin, installation

pytestmark = pytest.mark.asyncio(loop_scope="module")

RUNNER = "pilothouse.runner"
FIRST = "/etc/pilothouse/sleep infinity"
AGENT = "_bundled/claude"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running() -> AsyncIterator[tuple[Program, Demo]]:
    async with installation() as made:
        yield made


# --- who is who on the host ---


def inside(session: str) -> dict[int, str]:
    """The processes of a session: host pid and command line. Their root's mounts name its folder, or its disk."""
    found = {}
    marks = [session, *(f" - ext4 {device} " for device in disks.devices(session))]
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            argv = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            mounts = (entry / "mountinfo").read_text()
            if argv and any(mark in mounts for mark in marks) and " /workspace " in mounts:
                found[int(entry.name)] = argv
    return found


def one(session: str, what: str) -> int:
    """A program that it starts is a fork of it for a moment, with its arguments."""
    end = time.monotonic() + 20
    while len(pids := [pid for pid, argv in inside(session).items() if what in argv]) != 1:
        assert time.monotonic() < end, inside(session)
        time.sleep(0.01)
    return pids[0]


async def steady(session: str) -> dict[int, str]:
    """Its processes, once none comes or goes."""
    async with asyncio.timeout(20):
        while True:
            found = inside(session)
            await asyncio.sleep(0.2)
            if inside(session) == found:
                return found


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def holder(session: str) -> int:
    """The first process's parent is bwrap, bwrap's is the holder."""
    return parent(parent(one(session, FIRST)))


def proxy(program: Program) -> int:
    """0 while a new one is being noted."""
    return int((program.home / "ph" / "run" / "proxy.pid").read_text().partition(" ")[0] or 0)


async def nobody(session: str, what: str = "") -> None:
    """Until nothing of the session runs (or nothing of that name)."""
    try:
        async with asyncio.timeout(20):
            while any(what in argv for argv in inside(session).values()):
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"still there: {inside(session)}") from None


# --- the conversation ---


def transcripts(program: Program, session: str) -> dict[str, str]:
    """The agent's own memory: conversation id -> transcript."""
    projects = program.own(session) / "home" / ".claude" / "projects"
    return {path.stem: path.read_text() for path in projects.glob("*/*.jsonl")}


async def written(program: Program, session: str, said: str) -> None:
    """Until the agent has written it down, which it does a little later than it says it."""
    async with asyncio.timeout(20):
        while not any(said in text for text in transcripts(program, session).values()):
            await asyncio.sleep(0.02)


async def prompt(program: Program, viewer: Viewer, text: str, **options: object) -> dict[str, object]:
    """A further prompt, to its end."""
    before = len(viewer.of("complete"))
    async with program.http() as http:
        job = await http.post(f"/api/sessions/{viewer.session}/jobs", json={"prompt": text, **options})
        assert job.status_code == 202, job.text
    return await viewer.until("complete", before + 1)


async def check_goes_on(program: Program, viewer: Viewer, said: str) -> None:
    """The next prompt works, in the same conversation, which remembers what was said before."""
    done = await prompt(program, viewer, "demo: bash echo again\ndemo: say back again", permissionMode="acceptAll")
    assert (done["outcome"], done["result"]) == ("succeeded", "back again"), done
    ids = {e["claudeSessionId"] for e in viewer.of("session_update") if "claudeSessionId" in e}
    assert len(ids) == 1, "one conversation"
    await written(program, viewer.session, said)
    found = transcripts(program, viewer.session)
    assert set(found) == ids
    assert said in found[ids.pop()]
    await asyncio.sleep(0.2)
    viewer.check_whole()
    assert len({e["jobId"] for e in viewer.of("complete")}) == len(viewer.of("complete")), "one end per job"
    assert not [e for e in viewer.of("error") if e["code"] == "conversation_lost"]


def check_ended(done: dict[str, object], outcome: str, *words: str) -> None:
    assert done["outcome"] == outcome, done
    assert done["reason"], done
    assert isinstance(done["result"], str)
    assert any(word in done["result"] for word in words), done


async def working(program: Program, model: Demo, tag: str) -> tuple[str, Viewer]:
    """A session that has had a turn, and whose agent is in the middle of an answer."""
    session, _, viewer = await begin(program, f"demo: say remember {tag}-zebra")
    await viewer.until("complete")
    async with program.http() as http:
        script = f"demo: text 50\ndemo: hold {tag}\ndemo: say never said"
        assert (await http.post(f"/api/sessions/{session}/jobs", json={"prompt": script})).status_code == 202
    await model.held(tag)
    await viewer.until("stream", 2)
    return session, viewer


async def in_a_tool(program: Program, tag: str) -> tuple[str, Viewer]:
    """A session whose agent waits for a command of its own."""
    session, _, viewer = await begin(program, f"demo: say remember {tag}-zebra")
    await viewer.until("complete")
    async with program.http() as http:
        script = "demo: bash touch begun; exec sleep 4321\ndemo: say never said"
        body = {"prompt": script, "permissionMode": "acceptAll"}
        assert (await http.post(f"/api/sessions/{session}/jobs", json=body)).status_code == 202
    begun = program.own(session) / "workspace" / "begun"
    async with asyncio.timeout(30):
        while not begun.exists():
            await asyncio.sleep(0.05)
    return session, viewer


# --- journeys ---


async def test_the_agent_dies_while_it_speaks(running: tuple[Program, Demo]) -> None:
    program, model = running
    session, viewer = await working(program, model, "dies")
    os.kill(one(session, AGENT), signal.SIGKILL)
    done = await viewer.until("complete", 2)
    check_ended(done, "failed", "process ended")
    assert done["reason"] == "agent_died"
    await check_goes_on(program, viewer, "dies-zebra")
    await viewer.close()


async def test_the_agent_dies_while_a_tool_runs(running: tuple[Program, Demo]) -> None:
    program, _ = running
    session, viewer = await in_a_tool(program, "tooldies")
    os.kill(one(session, AGENT), signal.SIGKILL)
    done = await viewer.until("complete", 2)
    check_ended(done, "failed", "process ended")
    calls = {e["toolId"] for e in viewer.of("tool_use")}
    ended = {e["toolId"]: e for e in viewer.of("tool_result")}
    assert calls == set(ended), "no call stays open"
    assert all(e["isError"] for e in ended.values())
    await check_goes_on(program, viewer, "tooldies-zebra")
    await viewer.close()


async def test_the_agent_dies_with_an_approval_open(running: tuple[Program, Demo]) -> None:
    program, _ = running
    session, _, viewer = await begin(program, "demo: bash touch asked-zebra")
    card = await viewer.until("approval_required")
    await written(program, session, "asked-zebra")
    os.kill(one(session, AGENT), signal.SIGKILL)
    check_ended(await viewer.until("complete"), "failed", "process ended")
    assert viewer.of("approval_resolved")[0]["outcome"] == "cancelled"
    async with program.http() as http:
        late = await http.post(
            f"/api/approvals/{card['approvalId']}", json={"approved": True, "inputHash": card["inputHash"]}
        )
        assert late.status_code == 409, late.text
    assert not (program.own(session) / "workspace" / "asked-zebra").exists()
    await check_goes_on(program, viewer, "asked-zebra")
    await viewer.close()


async def test_the_runner_is_killed_by_a_command_of_the_agent(running: tuple[Program, Demo]) -> None:
    program, _ = running
    session, _, viewer = await begin(program, "demo: say remember runner-zebra")
    await viewer.until("complete")
    command = (
        "(sleep 4322 &); for p in /proc/[0-9]*; do tr '\\\\0' ' ' < $p/cmdline | grep -q 'pilothouse[.]runner'"
        " && kill -9 ${p#/proc/}; done; touch after"
    )
    done = await prompt(program, viewer, f"demo: bash {command}\ndemo: bash touch unasked", permissionMode="acceptAll")
    check_ended(done, "failed", "ended")
    await nobody(session)
    assert not (program.own(session) / "workspace" / "unasked").exists()
    await check_goes_on(program, viewer, "runner-zebra")
    await viewer.close()


async def test_the_runner_is_killed_while_the_agent_speaks(running: tuple[Program, Demo]) -> None:
    program, model = running
    session, viewer = await working(program, model, "runner2")
    os.kill(one(session, RUNNER), signal.SIGKILL)
    check_ended(await viewer.until("complete", 2), "failed", "ended")
    await nobody(session)
    await check_goes_on(program, viewer, "runner2-zebra")
    await viewer.close()


async def test_the_holder_is_killed(running: tuple[Program, Demo]) -> None:
    program, _ = running
    session, viewer = await in_a_tool(program, "holder")
    os.kill(holder(session), signal.SIGKILL)
    check_ended(await viewer.until("complete", 2), "failed", "lost", "ended")
    await nobody(session)
    await check_goes_on(program, viewer, "holder-zebra")
    await viewer.close()


async def test_the_keeper_is_killed_and_nobody_notices(running: tuple[Program, Demo]) -> None:
    program, model = running
    session, viewer = await working(program, model, "keeper")
    keeper, before = parent(holder(session)), await steady(session)
    proxied = proxy(program)
    os.kill(keeper, signal.SIGKILL)
    other, _, second = await begin(program, "demo: say a new one")
    assert (await second.until("complete"))["outcome"] == "succeeded", "a new keeper serves at once"
    assert parent(holder(other)) != keeper
    assert await steady(session) == before
    await model.release("keeper")
    assert (await viewer.until("complete", 2))["outcome"] == "succeeded"
    assert proxy(program) == proxied, "the new keeper has found the proxy"
    await check_goes_on(program, viewer, "keeper-zebra")
    async with program.http() as http:
        assert (await http.post(f"/api/sessions/{session}/stop")).status_code == 204, "the old holder obeys"
    await nobody(session)
    await viewer.close()
    await second.close()


async def test_the_proxy_is_killed_in_the_middle_of_an_answer(running: tuple[Program, Demo]) -> None:
    program, model = running
    session, viewer = await working(program, model, "proxy")
    before = proxy(program)
    os.kill(before, signal.SIGKILL)
    async with asyncio.timeout(60):
        while "complete" not in [e["type"] for e in viewer.events[-1:]] or len(viewer.of("complete")) < 2:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(2):
                    await model.held("proxy")  # the agent asks again
                    await model.release("proxy")
            await asyncio.sleep(0.1)
    done = viewer.of("complete")[1]
    assert done["outcome"] == "succeeded" or done["result"], done
    text = _shown(viewer)
    if done["outcome"] == "succeeded":
        assert text.count("47.") == text.count("never said") == 1, f"what was streamed twice is shown once: {text}"
    async with asyncio.timeout(20):
        while proxy(program) in (0, before):
            await asyncio.sleep(0.05)
    await check_goes_on(program, viewer, "proxy-zebra")
    records = [
        json.loads(line)
        for path in (program.home / "ph" / "proxy").glob("usage-*.ndjson")
        for line in path.read_text().splitlines()
    ]
    numbers = [r["n"] for r in records]
    assert numbers == list(range(1, len(numbers) + 1)), "no hole, nothing twice"
    assert viewer.of("complete")[-1]["totalCost"] > 0
    assert [r for r in records if r["session"] == session]
    await viewer.close()


def _shown(viewer: Viewer) -> str:
    """The text as a page shows it: by message, with what was taken back taken back."""
    text: dict[str, str] = {}
    for event in viewer.events:
        if event["type"] == "stream_reset":
            text[event["messageId"]] = ""
        elif event["type"] == "stream":
            text[event["messageId"]] = text.get(event["messageId"], "") + event["content"]
    return "\n".join(text.values())


async def test_stop_while_a_tool_runs(running: tuple[Program, Demo]) -> None:
    program, _ = running
    session, viewer = await in_a_tool(program, "stop")
    async with program.http() as http:
        assert (await http.post(f"/api/sessions/{session}/stop")).status_code == 204
        assert (await http.post(f"/api/sessions/{session}/stop")).status_code == 204, "twice is harmless"
        assert (await http.get(f"/api/sessions/{session}")).json()["state"] == "stopped"
    done = await viewer.until("complete", 2)
    check_ended(done, "interrupted", "was stopped")
    assert done["reason"] == "stopped"
    await nobody(session)
    await check_goes_on(program, viewer, "stop-zebra")
    await viewer.close()


async def test_delete_while_it_runs(running: tuple[Program, Demo]) -> None:
    program, _ = running
    session, viewer = await in_a_tool(program, "delete")
    folder = program.home / "ph" / "sessions" / session
    async with program.http() as http:
        job = (await http.get(f"/api/sessions/{session}/jobs")).json()["items"][0]["id"]
        assert (await http.delete(f"/api/sessions/{session}")).status_code == 204
        assert (await http.delete(f"/api/sessions/{session}")).status_code == 404
        for path in (f"/api/sessions/{session}", f"/api/sessions/{session}/events", f"/api/jobs/{job}"):
            assert (await http.get(path)).status_code == 404, path
        assert session not in (await http.get("/api/sessions")).text
    await nobody(session)
    assert not folder.exists()
    assert not list((program.home / "ph" / "run").glob(f"{session}*"))
    await viewer.close()


async def test_an_idle_session_is_stopped_and_the_next_prompt_remembers() -> None:
    async with installation(PILOTHOUSE_IDLE_S="5") as (program, model):
        session, viewer = await working(program, model, "idle")
        await asyncio.sleep(11)
        assert one(session, AGENT), "who works is not idle"
        await model.release("idle")
        await viewer.until("complete", 2)
        await nobody(session)
        async with program.http() as http, asyncio.timeout(20):  # it is written down after they have ended
            while (await http.get(f"/api/sessions/{session}")).json()["state"] != "stopped":
                await asyncio.sleep(0.05)
        await check_goes_on(program, viewer, "idle-zebra")
        await viewer.close()


@pytest.mark.parametrize("pause", [0.0, 0.1, 0.5])
async def test_stop_and_delete_while_it_is_only_starting(running: tuple[Program, Demo], pause: float) -> None:
    program, _ = running
    session, _, viewer = await begin(program, "demo: delay 30\ndemo: say never said")
    await asyncio.sleep(pause)
    async with program.http() as http:
        assert (await http.post(f"/api/sessions/{session}/stop")).status_code == 204
        check_ended(await viewer.until("complete"), "interrupted", "was stopped")
        await nobody(session)
        assert (await http.post(f"/api/sessions/{session}/jobs", json={"prompt": "demo: delay 30"})).status_code == 202
        await asyncio.sleep(pause)
        assert (await http.delete(f"/api/sessions/{session}")).status_code == 204
    await nobody(session)
    assert not (program.home / "ph" / "sessions" / session).exists()
    assert not list((program.home / "ph" / "run").glob(f"{session}*"))
    await viewer.close()


async def test_server_keeper_and_proxy_are_killed_at_once() -> None:
    async with installation() as (program, model):
        session, viewer = await in_a_tool(program, "all")
        keeper, before = parent(holder(session)), inside(session)
        os.kill(keeper, signal.SIGKILL)
        os.kill(proxy(program), signal.SIGKILL)
        await program.kill()
        await program.start()
        os.kill(next(pid for pid, argv in inside(session).items() if argv.startswith("sleep 4321")), signal.SIGTERM)
        done = await viewer.until("complete", 2)
        assert (done["outcome"], done["result"]) == ("succeeded", "never said")
        assert {pid for pid in before if RUNNER in before[pid] or AGENT in before[pid]} <= set(inside(session))
        await check_goes_on(program, viewer, "all-zebra")
        await program.kill()
        os.kill(one(session, RUNNER), signal.SIGKILL)
        await program.start()
        await nobody(session)
        await check_goes_on(program, viewer, "all-zebra")
        async with program.http() as http:
            script = {"prompt": "demo: hold away"}
            assert (await http.post(f"/api/sessions/{session}/jobs", json=script)).status_code == 202
        await model.held("away")
        await program.kill()
        os.kill(holder(session), signal.SIGKILL)
        await program.start()
        check_ended(await viewer.until("complete", 5), "failed", "ended", "lost")
        await check_goes_on(program, viewer, "all-zebra")
        await viewer.close()
