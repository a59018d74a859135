"""Runners that attack the server over a real socket: whatever they send, the session ends in words or goes on without
it, nobody else notices, and nothing grows."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from pilothouse.adapters.sandboxes import wire
from pilothouse.adapters.stores.sqlite import SqliteStore
from pilothouse.core import events as ev
from pilothouse.core import link
from pilothouse.engine import drive as engine_drive
from pilothouse.engine import intake as engine_intake
from pilothouse.engine import link as engine_link
from pilothouse.engine import live as engine_live
from pilothouse.engine.kit import Limits
from pilothouse.engine.sessions import Session
from tests.engine.conftest import Bench
from tests.engine.peers import BINARY, CLOSE, PING, TEXT, Peer, PeerSandboxes, Script, Talk, frame, listening, memory

OWN_KINDS = {
    "session", "chat", "job_started", "stream", "error", "complete", "usage", "approval_required", "approval_resolved",
    "question", "question_answered", "tool_use", "tool_result", "session_update",
}  # fmt: skip


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever does not stop when interrupted is stopped at once."""
    monkeypatch.setattr(engine_drive, "INTERRUPT_S", 0.01)


@pytest.fixture
async def bench(tmp_path) -> AsyncIterator[Bench]:  # type: ignore[no-untyped-def]
    store = await SqliteStore.open(tmp_path / "log.sqlite")
    made = Bench(limits=Limits(approval_timeout_s=300), store=store, sandboxes=PeerSandboxes())  # type: ignore[arg-type]
    await made.start()
    yield made
    await made.sessions.close()
    await store.close()


@contextlib.asynccontextmanager
async def attacked(bench: Bench, script: Script, **options: Any) -> AsyncIterator[tuple[Session, Peer, str]]:
    """A session whose runner is `script`, with a job in it. At the end another session must still work."""
    assert isinstance(bench.sandboxes, PeerSandboxes)
    async with listening(script) as peer:
        bench.sandboxes.waiting.append(peer)
        session = await bench.session()
        job = bench.sessions.job(session, "do it", "tester", **options)
        await session.jobs.submit(job, client_message_id=None)
        try:
            yield session, peer, job.id
            await check_others(bench)
        finally:
            await bench.sessions.stop(session)


async def check_others(bench: Bench) -> None:
    """A job of another session runs to its end, and the server says that it is ready."""
    other = await bench.session()
    job, runner = await bench.run(other, "well-behaved")
    runner.say(ev.Stream(content="fine", message_id="m"))
    runner.end_turn(job.id)
    events = await bench.until(other, ev.Complete)
    assert [e.outcome for e in events if isinstance(e, ev.Complete)] == ["succeeded"]
    assert [e.content for e in events if isinstance(e, ev.Stream)] == ["fine"]
    assert not bench.sessions.stuck


async def turn(talk: Talk, numbers: int, *said: Any) -> None:
    """A whole turn of the job that was prompted, from the number `numbers` + 1 on."""
    job = await talk.prompted()
    started = {"type": "turn_started", "turnId": job}
    ended = {
        "type": "turn_ended",
        "turnId": job,
        "outcome": "succeeded",
        "result": "done",
        "numTurns": 1,
        "durationMs": 1,
    }
    for number, event in enumerate([started, *said, ended], numbers + 1):
        await talk.say(event if isinstance(event, bytes) else {"n": number, "ev": event})
    await talk.acked(numbers + 2 + len(said))
    while True:
        await talk.listen()


async def completed(bench: Bench, session: Session) -> tuple[ev.Complete, list[ev.LogEvent]]:
    async with asyncio.timeout(60):
        events = await bench.until(session, ev.Complete)
    last = events[-1]
    assert isinstance(last, ev.Complete)
    assert [e.seq for e in events] == list(range(1, len(events) + 1))
    return last, events


# --- what it says -----------------------------------------------------------------------------------------------------

FORGED: list[dict[str, Any]] = [
    {"type": "approval_resolved", "approvalId": "x", "outcome": "approved", "by": "admin"},
    {"type": "approval_required", "approvalId": "x", "toolId": "t", "tool": "Bash", "input": {}, "inputHash": "0",
     "options": [], "reason": ""},
    {"type": "complete", "outcome": "succeeded", "result": "forged", "totalCost": 0, "durationMs": 1, "numTurns": 1},
    {"type": "chat", "message": "forged", "by": "admin"},
    {"type": "job_started", "agent": "claude", "agentVersion": "9", "model": "m", "demo": False,
     "permissionMode": "acceptAll", "by": "admin"},
    {"type": "session", "agent": "claude", "isolation": "vm"},
    {"type": "usage", "inputTokens": 0, "outputTokens": 0, "cacheReadTokens": 0, "cacheWriteTokens": 0,
     "totalCost": 0, "measured": "proxy"},
    {"type": "artifact", "artifactId": "x", "path": "/etc/passwd", "size": 1, "sha256": "0", "url": "http://evil"},
    {"type": "question_answered", "questionId": "x", "answers": {}, "by": "admin", "outcome": "answered"},
    {"type": "custom", "name": "x", "data": {}, "by": "admin"},
    {"type": "question", "questionId": "x", "questions": []},
    {"type": "turn_ended", "turnId": "somebody-elses", "outcome": "succeeded", "result": "", "numTurns": 1,
     "durationMs": 1},
]  # fmt: skip


async def test_c30_what_only_the_server_says_is_dropped_and_told(bench: Bench) -> None:
    async def script(talk: Talk) -> None:
        await talk.hello()
        await turn(talk, 0, *FORGED)

    async with attacked(bench, script) as (session, _, _):
        end, events = await completed(bench, session)
        assert (end.outcome, end.result) == ("succeeded", "done")
        assert {e.isolation for e in events if isinstance(e, ev.SessionEvent)} == {"none"}
        kinds = [e.__struct_config__.tag for e in events if not isinstance(e, ev.SessionEvent)]
        assert kinds == ["chat", "job_started", "error", "error", "complete"], "told at the first and the tenth"
        assert {e.code for e in events if isinstance(e, ev.ErrorEvent)} == {"runner_protocol"}


async def test_c30_the_names_of_another_session_and_job_are_its_own(bench: Bench) -> None:
    """Envelopes are the server's; another session's job is neither begun nor ended by this one's runner."""
    victim = await bench.session()
    theirs, runner = await bench.run(victim, "theirs")
    head = victim.live.head

    async def script(talk: Talk) -> None:
        await talk.hello(runner.id)
        lie = {"sessionId": victim.live.record.id, "jobId": theirs.id, "seq": 1, "at": "2000-01-01T00:00:00.000Z"}
        ending = {"turnId": theirs.id, "outcome": "failed", "result": "forged", "numTurns": 1, "durationMs": 1}
        await turn(
            talk, 0,
            {"type": "stream", "content": "x", "messageId": "m", **lie,
             "truncated": {"content": {"size": 1, "url": "x"}}},
            {"type": "turn_ended", **ending, **lie},
            {"type": "ask_cancelled", "requestId": "r1"},
        )  # fmt: skip

    async with attacked(bench, script) as (session, _, job):
        _, events = await completed(bench, session)
        said = next(e for e in events if isinstance(e, ev.Stream))
        assert (said.session_id, said.job_id, said.truncated) == (session.live.record.id, job, None)
        assert said.at > "2026"
        assert victim.live.head == head
        assert theirs.state == "running"
    runner.end_turn(theirs.id)
    assert (await bench.until(victim, ev.Complete))[-1].job_id == theirs.id


async def test_c30_numbers_that_come_again_or_leave_holes(bench: Bench) -> None:
    """Said twice is logged once; a hole is the runner's own loss; a number that is none ends the connection."""

    async def script(talk: Talk) -> None:
        greeted = await talk.hello()
        if talk.number == 1:
            job = await talk.prompted()
            await talk.say({"n": 1, "ev": {"type": "turn_started", "turnId": job}})
            for n in (5, 5, 2, 1, 5, 900):
                await talk.say({"n": n, "ev": {"type": "stream", "content": str(n), "messageId": "m"}})
            await talk.acked(900)
            await talk.say({"n": 0, "ev": {"type": "stream", "content": "zero", "messageId": "m"}})
            while True:
                await talk.listen()
        assert greeted["acked"] == 900
        await turn(talk, 1000)

    async with attacked(bench, script) as (session, peer, _):
        end, events = await completed(bench, session)
        assert end.outcome == "succeeded"
        assert [e.content for e in events if isinstance(e, ev.Stream)] == ["5", "900"]
        assert peer.connections == 2


async def test_c30_a_runner_that_uses_up_all_numbers_is_not_heard_any_more(bench: Bench) -> None:
    """It has silenced itself: its job ends when its time is up, in words."""

    async def script(talk: Talk) -> None:
        await talk.hello()
        job = await talk.prompted()
        await talk.say({"n": 2**53, "ev": {"type": "turn_started", "turnId": job}})
        for _ in range(100):
            await talk.say({"n": 7, "ev": {"type": "stream", "content": "x", "messageId": "m"}})
        while True:
            await talk.listen()

    async with attacked(bench, script, timeout_s=1) as (session, _, _):
        end, _ = await completed(bench, session)
        assert (end.outcome, end.reason) == ("failed", "timeout")


NESTED = b"[" * 200 + b"]" * 200
DEEP = b"[" * 3000 + b"]" * 3000
BODIES = [
    b'{"n":%d,"ev":{"type":"tool_use","tool":"T","toolId":"t","kind":"read","input":{"x":' + b"9" * 400 + b"}}}",
    b'{"n":%d,"ev":{"type":"tool_use","tool":"T","toolId":"t","kind":"read","input":{"x":1e400}}}',
    b'{"n":%d,"ev":{"type":"tool_use","tool":"T","toolId":"t","kind":"read","input":{"x":-0.0,"y":1e-400}}}',
    b'{"n":%d,"ev":{"type":"permission_ask","requestId":"d","toolId":"t","tool":"T","input":{},"suggestions":['
    + NESTED
    + b"]}}",
    b'{"n":%d,"ev":{"type":"permission_ask","requestId":"e","toolId":"t","tool":"T","input":' + NESTED + b"}}",
    b'{"n":%d,"ev":{"type":"stream","type":"complete","content":"x","messageId":"m"}}',
    b'{"n":%d,"ev":{"type":"stream","content":null,"messageId":["m"]}}',
    b'{"n":%d,"ev":{"type":"stream","content":"x","messageId":"a\\u0000b"}}',
    b'{"n":%d,"ev":{"type":"agent_usage","totalCost":1e300,"inputTokens":1}}',
    b'{"n":%d,"ev":{"type":"agent_usage","totalCost":-5,"inputTokens":1}}',
    b'{"n":%d,"ev":[]}', b'{"n":%d,"ev":null}', b'{"n":%d,"ev":"stream"}', b'{"n":%d,"ev":{}}', b'{"n":%d}',
    b'{"n":%d,"ev":{"type":"session_update","mode":"acceptAll","claudeSessionId":"../../etc"}}',
    b'{"n":%d,"ev":{"type":"plan","entries":[{"content":"x","status":"pending"}]},"done":"x","hello":null}',
]  # fmt: skip


async def test_c30_values_that_no_agent_has(bench: Bench) -> None:
    """Numbers without end, no numbers, deep nesting, half characters: each is dropped, the next is heard."""

    async def script(talk: Talk) -> None:
        await talk.hello()
        await turn(talk, 0, *[body.replace(b"%d", b"%d" % n) for n, body in enumerate(BODIES, 2)])

    async with attacked(bench, script) as (session, peer, job):
        end, events = await completed(bench, session)
        assert (end.outcome, end.result) == ("succeeded", "done")
        assert peer.connections == 1
        assert all(e.__struct_config__.tag in OWN_KINDS | {"plan"} for e in events)
        assert {e.job_id for e in events if not isinstance(e, ev.SessionEvent)} == {job}
        assert session.live.record.permission_mode == "acceptEdits"


# --- how it says it ---------------------------------------------------------------------------------------------------


def text(data: bytes, **how: Any) -> bytes:
    return frame(TEXT, data, **how)


JUNK: dict[str, list[bytes]] = {
    "no JSON": [text(b"hello there")],
    "no UTF-8": [text(b'{"done":"\xff\xfe"}')],
    "no UTF-8, binary": [frame(BINARY, b"\xff\xfe\x00")],
    "not a number": [text(b'{"n":NaN,"ev":{}}')],
    "nested": [text(b"[" * 30_000)],
    "nested in an event": [text(b'{"n":2,"ev":' + b'{"a":' * 5000)],
    "nested in an ask": [
        text(b'{"n":2,"ev":{"type":"permission_ask","requestId":"d","toolId":"t","tool":"T","input":' + DEEP + b"}}")
    ],
    "half a character": [text(b'{"n":2,"ev":{"type":"stream","content":"\\ud800","messageId":"m"}}')],
    "wrong types": [text(b'{"n":"1","ev":{}}'), text(b'{"done":7}')],
    "a list": [text(b"[]")],
    "a number without end": [text(b'{"n":' + b"9" * 30_000 + b',"ev":{}}')],
    "longer than a message": [text(b'{"done":"' + b"x" * 33_000 + b'"}')],
    "far longer than a message": [text(b'{"done":"' + b"x" * 500_000 + b'"}')],
    "claims an exabyte": [frame(TEXT, b"x" * 1000, size=2**62)],
    "claims more than there can be": [frame(TEXT, b"x" * 1000, size=2**64 - 1)],
    "frames without end": [text(b"{", fin=False), *[frame(0, b"x" * 30_000, fin=False)] * 60],
    "goes on without a beginning": [frame(0, b"x")],
    "reserved bits": [text(b"{}", rsv=4)],
    "an unknown kind of frame": [frame(3, b"x")],
    "a ping too long": [frame(PING, b"x" * 200)],
    "a close code that is none": [frame(CLOSE, b"\x00\x01")],
    "half a close code": [frame(CLOSE, b"\x03")],
    "pieces without an end": [
        text(b'{"f":"a","i":%d,"n":8000,"d":"%b"}' % (i, b"A" * 20_000)) for i in range(700)
    ],
    "pieces of nothing": [text(b'{"f":"a","i":0,"n":0,"d":""}')],
    "pieces out of order": [text(b'{"f":"a","i":7,"n":9,"d":"AAAA"}')],
    "pieces of many": [text(b'{"f":"%d","i":0,"n":9,"d":"AAAA"}' % i) for i in range(50)],
    "pieces that are no base64": [text(b'{"f":"a","i":0,"n":2,"d":"\\u0000!"}')],
    "cut in a frame": [b"\x81\x7e\x10"],
    "plain HTTP": [b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"],
}  # fmt: skip


@pytest.mark.parametrize("name", JUNK)
async def test_c30_bytes_that_are_no_message_cost_the_connection_only(bench: Bench, name: str) -> None:
    """The runner comes back, and its job ends as if nothing had been."""

    async def script(talk: Talk) -> None:
        await talk.hello()
        if talk.number == 1:
            await talk.prompted()
            for piece in JUNK[name]:
                await talk.send(piece)
            if name.startswith("cut"):
                return
            while True:
                await talk.listen()
        await turn(talk, 0)

    before = memory()
    async with attacked(bench, script) as (session, peer, _):
        end, events = await completed(bench, session)
        assert (end.outcome, end.result) == ("succeeded", "done")
        assert peer.connections == 2, "the first was given up"
        assert not [e for e in events if isinstance(e, ev.Stream)]
    assert memory() - before < 64 * 2**20


HARMLESS: dict[str, list[bytes]] = {
    "nothing in it": [text(b"{}")] * 50,
    "answers to what was never asked": [text(b'{"done":"%d","error":"x"}' % i) for i in range(1000)],
    "another hello": [
        text(b'{"hello":{"proto":1,"runnerId":"other","agent":"x","agentVersion":"x","first":1,"last":0}}')
    ],
    "pings": [frame(PING, b"x" * 100)] * 2000,
    "empty frames": [text(b"{", fin=False), *[frame(0, b"", fin=False)] * 5000, frame(0, b"}")],
    "a byte at a time": [bytes([b]) for b in text(b'{"done":"slow"}')],
}


@pytest.mark.parametrize("name", HARMLESS)
async def test_c30_messages_that_mean_nothing_are_passed_over(bench: Bench, name: str) -> None:
    async def script(talk: Talk) -> None:
        await talk.hello()
        await talk.prompted()
        for piece in HARMLESS[name]:
            await talk.send(piece)
            await asyncio.sleep(0)
        await turn(talk, 0)

    async with attacked(bench, script) as (session, peer, _):
        assert (await completed(bench, session))[0].outcome == "succeeded"
        assert peer.connections == 1


GREETINGS: dict[str, bytes] = {
    "another protocol": b'{"hello":{"proto":99,"runnerId":"r","agent":"x","agentVersion":"x","first":1,"last":0}}',
    "a name that is none": b'{"hello":{"proto":1,"runnerId":"a b","agent":"x","agentVersion":"x","first":1,"last":0}}',
    "an agent without end": b'{"hello":{"proto":1,"runnerId":"r","agent":"%b","agentVersion":"x","first":1,"last":0}}'
    % (b"x" * 5000),
    "capabilities without end": b'{"hello":{"proto":1,"runnerId":"r","agent":"x","agentVersion":"x","first":1,"last":0,'
    b'"capabilities":[%b""]}}' % (b'"",' * 8000),
    "no hello": b'{"done":"x"}',
    "numbers that are none": b'{"hello":{"proto":1,"runnerId":"r","agent":"x","agentVersion":"x","first":-1,"last":0}}',
}


@pytest.mark.parametrize("name", GREETINGS)
async def test_c30_a_greeting_that_is_none_is_not_attached(bench: Bench, name: str) -> None:
    async def script(talk: Talk) -> None:
        if talk.number == 1:
            await talk.accept()
            await talk.send(text(GREETINGS[name]))
            with contextlib.suppress(asyncio.IncompleteReadError):
                while True:
                    await talk.listen()
            assert not talk.heard
            return
        await talk.hello()
        await turn(talk, 0)

    async with attacked(bench, script) as (session, _, _):
        assert (await completed(bench, session))[0].outcome == "succeeded"


ANSWERS: dict[str, bytes] = {
    "a refusal": b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n",
    "a way elsewhere": b"HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/x\r\nContent-Length: 0\r\n\r\n",
    "no HTTP": b"SSH-2.0-OpenSSH_9\r\n\r\n",
    "headers without end": b"HTTP/1.1 101 Switching Protocols\r\n" + b"X-Y: " + b"z" * 200_000 + b"\r\n\r\n",
    "headers without number": b"HTTP/1.1 101 Switching Protocols\r\n" + b"X: y\r\n" * 20_000 + b"\r\n",
    "another's key": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: AAAA\r\n\r\n",
    "hangs up": b"",
}


@pytest.mark.parametrize("name", ANSWERS)
async def test_c30_an_upgrade_that_is_none_is_tried_again(bench: Bench, name: str) -> None:
    async def script(talk: Talk) -> None:
        if talk.number == 1:
            await talk.reader.readuntil(b"\r\n\r\n")
            await talk.send(ANSWERS[name])
            if ANSWERS[name]:
                await talk.reader.read()
            return
        await talk.hello()
        await turn(talk, 0)

    async with attacked(bench, script) as (session, _, _):
        assert (await completed(bench, session))[0].outcome == "succeeded"


@pytest.mark.parametrize("after", ["nothing", "the upgrade"])
async def test_c30_a_runner_that_says_nothing_is_not_waited_for(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, after: str
) -> None:
    """A byte now and then is nothing."""
    monkeypatch.setattr(wire, "CONNECT_MAX_S", 1.0)
    monkeypatch.setattr(engine_link, "HELLO_S", 1.0)

    async def script(talk: Talk) -> None:
        if talk.number == 1:
            if after == "the upgrade":
                await talk.accept()
            while True:
                await talk.send(b"H" if after == "nothing" else frame(PING, b""))
                await asyncio.sleep(0.02)
        await talk.hello()
        await turn(talk, 0)

    async with attacked(bench, script) as (session, peer, _):
        assert (await completed(bench, session))[0].outcome == "succeeded"
        assert peer.connections == 2


# --- how much ---------------------------------------------------------------------------------------------------------


async def test_c30_a_flood_fills_no_memory_and_holds_nobody_up(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """100 000 events as fast as they are taken: another session's job begins and ends in the middle of it."""
    monkeypatch.setattr(engine_link, "RATE", 10**9)
    count, met = 100_000, asyncio.Event()
    body = b'{"n":%d,"ev":{"type":"tool_output","toolId":"t","content":"' + b"x" * 700 + b'"}}'

    async def script(talk: Talk) -> None:
        await talk.hello()
        job = await talk.prompted()
        await talk.say({"n": 1, "ev": {"type": "turn_started", "turnId": job}})

        async def listen() -> None:
            while True:
                await talk.listen()
                talk.heard = talk.heard[-5:]

        listening_too = asyncio.create_task(listen())
        for n in range(2, count + 2):
            talk.writer.write(text(body.replace(b"%d", b"%d" % n)))
            if n % 200 == 0:
                await talk.writer.drain()
            if n == count // 4:
                met.set()
        ended = {
            "type": "turn_ended",
            "turnId": job,
            "outcome": "succeeded",
            "result": "",
            "numTurns": 1,
            "durationMs": 1,
        }
        await talk.say({"n": count + 2, "ev": ended})
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await listening_too

    async with attacked(bench, script) as (session, _, _):
        await met.wait()
        before = memory()
        await check_others(bench)
        assert session.live.head < count, "the others were served in the middle"
        most = 0
        async for row in bench.sessions.kit.log.follow(session.live.record.id, count):
            most = max(most, memory() - before)
            if b'"complete"' in row.body[:200]:  # type: ignore[union-attr]
                break
        events = session.live.head - sum(isinstance(e, ev.SessionEvent) for e in await bench.events(session))
        assert events == count + 3
        assert most < 64 * 2**20, f"{most >> 20} MiB"


async def test_c30_asks_and_calls_without_number(bench: Bench) -> None:
    """Thousands of asks: as many as a person can look at are kept, the rest is denied. Calls that never end end with
    their job."""
    asks = [
        {
            "type": "permission_ask",
            "requestId": f"r{n}",
            "toolId": f"t{n}",
            "tool": "Bash",
            "input": {"command": f"rm {n}"},
        }
        for n in range(3000)
    ]
    questions = [{"type": "question_ask", "requestId": f"q{n}", "questions": [{"question": "?"}]} for n in range(500)]
    calls = [{"type": "tool_use", "tool": "T", "toolId": f"c{n}", "input": {}, "kind": "other"} for n in range(500)]
    denied: list[str] = []

    async def script(talk: Talk) -> None:
        await talk.hello()
        try:
            await turn(talk, 0, *calls, *asks, *questions)
        finally:
            denied.extend(c["requestId"] for m in talk.heard if (c := m.get("cmd", {})).get("behavior") == "deny")

    async with attacked(bench, script) as (session, _, _):
        end, events = await completed(bench, session)
        assert end.outcome == "succeeded"
        required = [e for e in events if isinstance(e, ev.ApprovalRequired)]
        resolved = [e for e in events if isinstance(e, ev.ApprovalResolved)]
        assert len(required) == len(resolved) == 50
        assert {e.outcome for e in resolved} == {"cancelled"}
        assert sum(isinstance(e, ev.QuestionEvent) for e in events) == 20
        assert not session.approvals.pending
        assert not session.questions.pending
        assert len(session.approvals._answered) <= 500
        assert len(session.live._sends) < 3500
    assert len(set(denied)) >= 1000


async def test_c30_a_runner_that_reads_nothing_is_ended_when_its_time_is_up(bench: Bench) -> None:
    """It asks for answers and takes none, so that what goes down to it stands still; nothing else does."""

    async def script(talk: Talk) -> None:
        await talk.hello()
        job = await talk.prompted()
        await talk.say({"n": 1, "ev": {"type": "turn_started", "turnId": job}})
        for n in range(2, 5000):
            ask = {
                "type": "permission_ask",
                "requestId": f"r{n}",
                "toolId": "t",
                "tool": "Read",
                "input": {"file_path": "a"},
            }
            await talk.say({"n": n, "ev": ask})
        await asyncio.sleep(3600)

    before = memory()
    async with attacked(bench, script, timeout_s=2) as (session, _, _):
        end, _ = await completed(bench, session)
        assert (end.outcome, end.reason) == ("failed", "timeout")
        assert session.live.link is None or len(session.live.link._open) <= engine_link.OPEN_MAX
    assert memory() - before < 64 * 2**20


async def test_c30_a_storm_of_connections_slows_down(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A runner that greets and hangs up at once, under another name each time, is called less and less often."""
    pauses: list[float] = []
    real = asyncio.sleep

    async def sleep(seconds: float, *more: Any) -> None:
        if seconds in engine_link.RETRY_S:
            pauses.append(seconds)
        await real(min(seconds, 0.01), *more)

    monkeypatch.setattr(asyncio, "sleep", sleep)

    async def script(talk: Talk) -> None:
        await talk.hello(f"liar-{talk.number}" if talk.number < 30 else "settled")
        if talk.number >= 30:
            await talk.prompted()
            await turn(talk, 0)

    async with attacked(bench, script) as (session, peer, _):
        end, _ = await completed(bench, session)
        assert end.outcome == "failed", "its own runner was gone, and another is not given its prompt"
        assert peer.connections <= 30
        async with asyncio.timeout(30):
            while peer.connections < 25:
                await real(0.01)
        assert pauses[-5:] == [engine_link.RETRY_S[-1]] * 5


async def test_c30_large_asks_fill_no_memory(bench: Bench) -> None:
    """Each as long as a message may be: as many as fit are kept, the rest is denied."""
    ask = b'{"n":%d,"ev":{"type":"permission_ask","requestId":"r%d","toolId":"t","tool":"Write","input":{"content":"'

    async def script(talk: Talk) -> None:
        await talk.hello()
        asks = [ask.replace(b"%d", b"%d" % n) + b"x" * 6_000_000 + b'"}}}' for n in range(2, 9)]
        await turn(talk, 0, *asks)

    before = memory()
    async with attacked(bench, script) as (session, _, _):
        _, events = await completed(bench, session)
        assert sum(isinstance(e, ev.ApprovalRequired) for e in events) == 5
        assert session.approvals._sizes == {}
    assert memory() - before < 256 * 2**20


async def test_c30_a_log_that_is_full_ends_the_job_in_words(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """One session does not fill the disk for all; its next job is told the same."""
    monkeypatch.setattr(engine_live, "LOG_MAX", 1_000_000)

    async def script(talk: Talk) -> None:
        await talk.hello()
        job = await talk.prompted()
        await talk.say({"n": 1, "ev": {"type": "turn_started", "turnId": job}})
        n = 1
        while True:
            n += 1
            await talk.say({"n": n, "ev": {"type": "tool_output", "toolId": "t", "content": "x" * 20_000}})
            await asyncio.sleep(0)

    async with attacked(bench, script) as (session, _, _):
        end, _ = await completed(bench, session)
        assert (end.outcome, end.reason) == ("failed", "log_full")
        assert "log is full" in end.result
        again = bench.sessions.job(session, "again", "tester")
        await session.jobs.submit(again, client_message_id=None)
        assert [e.reason for e in await bench.until(session, ev.Complete, 2) if isinstance(e, ev.Complete)][
            1
        ] == "log_full"
        assert again.state == "done"


async def test_c30_turns_that_nobody_asked_for_are_not_jobs_without_end(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_intake, "OWN_TURNS_MAX", 5)

    async def script(talk: Talk) -> None:
        await talk.hello()
        await turn(talk, 0)

    async with attacked(bench, script) as (session, _, _):
        await completed(bench, session)
    session = await bench.session()
    job, runner = await bench.run(session)
    runner.end_turn(job.id)
    for n in range(50):
        runner.say(link.TurnStarted(turn_id=f"own-{n}", injected=True))
    runner.say(ev.Stream(content="after", message_id="m"))
    events = await bench.until(session, ev.Stream)
    assert sum(isinstance(e, ev.JobStarted) and e.by == "agent" for e in events) == 5


async def test_c30_what_a_runner_causes_does_not_fill_the_servers_log(bench: Bench) -> None:
    noted: list[str] = []
    object.__setattr__(bench.sessions.kit, "note", lambda what, **_: noted.append(what))
    asks = [
        {"type": "permission_ask", "requestId": f"r{n}", "toolId": "t", "tool": "Read", "input": {"file_path": "a"}}
        for n in range(3000)
    ]

    async def script(talk: Talk) -> None:
        await talk.hello()
        await turn(talk, 0, *FORGED * 100, *asks)

    async with attacked(bench, script) as (session, _, _):
        await completed(bench, session)
    assert noted.count("runner_protocol") < 10
    assert noted.count("tool_decision") < 1100
