"""What a runner says comes into the log masked, however it is cut into deltas; and nothing of it is lost by waiting."""

from __future__ import annotations

import asyncio
import random

import pytest

from pilothouse.core import events as ev
from pilothouse.core import link
from pilothouse.core.errors import BadRequest, Unavailable
from pilothouse.core.redact import PIECE, Masks
from pilothouse.engine import veil
from pilothouse.engine.audit import SERVER
from pilothouse.engine.secrets import of_session
from pilothouse.engine.sessions import Session
from pilothouse.engine.veil import Veil, veiled
from tests.engine.conftest import Bench

VALUE = "pQ9r8Ls7Mt6Nu5Ov4Pw3Qx2Ry1Sz0Ta9Ub8Vc7Wd"
STARS = "*" * len(VALUE)


def stream(content: str, block: str = "m") -> ev.Stream:
    return ev.Stream(content=content, message_id=block)


def said(taken: list[tuple[int, veil.Said]], block: str = "m") -> str:
    return "".join(e.content for _, e in taken if isinstance(e, ev.Stream) and e.message_id == block)


def test_c27_every_way_to_cut_a_text_into_deltas_masks_the_same() -> None:
    dice = random.Random(1)
    text = f"It is {VALUE}, once more: {VALUE}{VALUE} and pQ9r8 not."
    for _ in range(200):
        curtain, taken, at, n = Veil(Masks([VALUE])), [], 0, 0
        while at < len(text):
            size, n = dice.randrange(1, 30), n + 1
            taken += curtain.feed(n, stream(text[at : at + size]))
            at += size
        taken += curtain.feed(
            n + 1, link.TurnEnded(turn_id="t", outcome="succeeded", result=text, num_turns=1, duration_ms=1)
        )
        assert said(taken) == text.replace(VALUE, STARS)
        assert [number for number, _ in taken] == list(range(1, n + 2)), "each once, in order"
        end = taken[-1][1]
        assert isinstance(end, link.TurnEnded)
        assert end.result == text.replace(VALUE, STARS)


def test_blocks_that_take_turns_are_each_their_own_text() -> None:
    curtain, taken = Veil(Masks([VALUE])), []
    for n in range(len(VALUE)):
        taken += curtain.feed(2 * n + 1, stream(VALUE[n], "one"))
        taken += curtain.feed(2 * n + 2, stream("ab"[n % 2], "two"))
    taken += curtain.release()
    assert said(taken, "one") == STARS
    assert said(taken, "two") == "ab" * (len(VALUE) // 2)
    assert [number for number, _ in taken] == list(range(1, 2 * len(VALUE) + 1))


def test_only_what_may_be_a_beginning_waits() -> None:
    curtain = Veil(Masks([VALUE]))
    assert [n for n, _ in curtain.feed(1, stream("plain text"))] == [1]
    assert curtain.feed(2, stream("the key is pQ")) == []
    waits = [curtain.waits]
    assert [n for n, _ in curtain.feed(3, stream("? no"))] == [2, 3]
    assert [*waits, curtain.waits] == [True, False]
    assert curtain.feed(4, stream(VALUE[: PIECE // 2])) == []
    assert said(curtain.release()) == "*" * (PIECE // 2)


def test_every_text_of_an_event_is_masked_and_the_rest_is_as_it_was() -> None:
    masks = Masks([VALUE])
    event = ev.ToolUse(
        tool="Bash",
        tool_id="t",
        kind="execute",
        input={"command": f"curl {VALUE}", "n": [1, {VALUE: None}], "ok": True},
    )
    clean = veiled(masks, event)
    assert clean.input == {"command": f"curl {STARS}", "n": [1, {STARS: None}], "ok": True}
    assert clean.tool_id == "t"
    plain = ev.ToolUse(tool="Bash", tool_id="t", kind="execute", input={"a": [1, "b"]})
    assert veiled(masks, plain) is plain
    diff = [ev.Diff(path="x", kind="add", patch=f"+{VALUE}")]
    ask = link.PermissionAsk(request_id="r", tool_id="t", tool="Write", input={"content": VALUE}, diff=diff)
    assert VALUE not in str(veiled(masks, ask))


# --- in a session ---


async def secret(bench: Bench, use: str = "both") -> Session:
    session = await bench.session()
    await bench.secrets.set(of_session(session.live.record), "TOKEN", VALUE, use=use, who=SERVER)
    return session


async def everything(bench: Bench) -> bytes:
    """All that is in the store, but for the sealed ones themselves."""
    found = b""
    for kind in ("session", "job", "approval", "question", "text", "audit", "resend"):
        found += b"".join(doc for _, doc in await bench.store.scan(kind))
    return found


async def test_c27_what_a_runner_says_is_masked_in_log_and_ledger(bench: Bench) -> None:
    session = await secret(bench)
    job, runner = await bench.run(session)
    assert runner.env == {"TOKEN": VALUE}
    runner.say(
        stream(f"it is {VALUE[:21]}"),
        stream(VALUE[21:]),
        ev.ToolUse(tool="Bash", tool_id="t", kind="execute", input={"command": VALUE}),
        ev.ToolOutput(tool_id="t", content=VALUE[:1]),
        ev.ToolOutput(tool_id="t", content=VALUE[1:]),
        ev.ToolResult(tool_id="t", result=f"{VALUE} {'x' * 200_000} {VALUE}", is_error=False),
        link.PermissionAsk(request_id="r", tool_id="u", tool="Bash", input={"command": f"rm {VALUE}"}),
    )
    await bench.until(session, ev.ApprovalRequired)
    runner.end_turn(job.id, result=f"done with {VALUE}")
    events = await bench.until(session, ev.Complete)
    assert VALUE not in str(events)
    assert f"done with {STARS}" in str(events)
    assert VALUE.encode() not in await everything(bench)
    assert runner.kept == []


async def test_a_delta_that_waits_is_not_acknowledged_and_comes_after_a_while(bench: Bench) -> None:
    session = await secret(bench)
    _, runner = await bench.run(session)
    runner.say(stream("before "), stream("and pQ9"))
    events = await bench.until(session, ev.Stream)
    async with asyncio.timeout(20):
        while len(runner.kept) > 1:
            await asyncio.sleep(0)
    assert [e.content for e in events if isinstance(e, ev.Stream)] == ["before "]
    assert [n for n, _ in runner.kept] == [runner.n], "a server that is killed now is told again"
    await bench.clock.wind(veil.HOLD_S)
    events = await bench.until(session, ev.Stream, 2)
    assert [e.content for e in events if isinstance(e, ev.Stream)] == ["before ", "and pQ9"]


async def test_a_server_that_is_killed_while_a_delta_waits_loses_and_doubles_nothing(bench: Bench) -> None:
    session = await secret(bench)
    job, runner = await bench.run(session)
    runner.say(stream("first "), stream("it is " + VALUE[:9]))
    await bench.until(session, ev.Stream)
    await bench.restart()
    again = await bench.sessions.found(session.live.record.id)
    assert again is not None
    runner.say(stream(VALUE[9:]))
    runner.end_turn(job.id)
    events = await bench.until(again, ev.Complete)
    assert "".join(e.content for e in events if isinstance(e, ev.Stream)) == f"first it is {STARS}"


async def test_what_a_dead_runner_said_last_is_in_the_log(bench: Bench) -> None:
    session = await secret(bench)
    _, runner = await bench.run(session)
    runner.say(stream("one "), stream("last words pQ9"))
    await bench.until(session, ev.Stream)
    bench.sandboxes.die(session.live.record.id)
    events = await bench.until(session, ev.Complete)
    assert [e.content for e in events if isinstance(e, ev.Stream)] == ["one ", "last words pQ9"]


async def test_c27_people_do_not_say_a_value(bench: Bench) -> None:
    """What they say is kept and shown: it is refused, and nothing has happened."""
    session = await secret(bench)
    with pytest.raises(BadRequest, match="prompt: it has the value of a secret"):
        await session.jobs.submit(bench.sessions.job(session, f"use {VALUE}", "me"), client_message_id=None)
    assert not session.jobs.busy
    _, runner = await bench.run(session)
    with pytest.raises(BadRequest, match="message"):
        await session.jobs.steer(f"use {VALUE}", "me", None)
    runner.say(link.PermissionAsk(request_id="r", tool_id="u", tool="Bash", input={"command": "x"}))
    runner.say(link.QuestionAsk(request_id="q", questions=[ev.Question(question="Which?")]))
    await bench.until(session, ev.QuestionEvent)
    (approval,), (question,) = session.approvals.pending, session.questions.pending
    with pytest.raises(BadRequest, match="updatedInput"):
        await session.approvals.decide(approval, approved=True, by="me", updated_input={"command": VALUE})
    with pytest.raises(BadRequest, match="message"):
        await session.approvals.decide(approval, approved=False, by="me", message=VALUE)
    with pytest.raises(BadRequest, match="answers"):
        await session.questions.answer(question, {"Which?": VALUE}, by="me")
    assert approval in session.approvals.pending
    assert question in session.questions.pending
    assert VALUE.encode() not in await everything(bench)


async def test_a_key_file_that_is_gone_starts_nothing_and_loses_nothing(bench: Bench) -> None:
    session = await secret(bench)
    bench.sealer.broken = "sealing.key is missing"
    await bench.restart()
    again = await bench.sessions.found(session.live.record.id)
    assert again is not None
    with pytest.raises(Unavailable, match=r"TOKEN cannot be read: .* is missing"):
        await again.jobs.submit(bench.sessions.job(again, "work", "me"), client_message_id=None)
    bench.sealer.broken = ""
    assert [one.value for one in await bench.secrets.given(again.live.record)] == [VALUE]
    await bench.run(again)
