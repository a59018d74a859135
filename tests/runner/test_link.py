"""The link as conversations with a real runner process and its echo agent."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pilothouse.core import link
from tests.runner.client import PATIENCE, Runner, running


@pytest.fixture
async def runner(tmp_path: Path) -> AsyncIterator[Runner]:
    async with running(tmp_path) as started:
        yield started


async def test_hello_prompt_text_and_end(runner: Runner) -> None:
    async with runner.connect() as client:
        hello = await client.greet()
        assert (hello["proto"], hello["agent"], hello["first"], hello["last"]) == (1, "echo", 1, 0)
        ended = await client.run("job-1", "say hello there")
    assert ended["outcome"] == "succeeded" and ended["result"] == "hello there"
    assert client.text().strip() == "hello there"
    assert [n for n, _ in client.events] == list(range(1, len(client.events) + 1))
    assert client.done["job-1"] == ""


async def test_a_tool_waits_for_its_answer(runner: Runner) -> None:
    async with runner.attach() as client:
        await client.command("prompt", "j", message='tool Bash {"command": "ls"}')
        ask = await client.event("permission_ask")
        assert ask["input"] == {"command": "ls"} and not client.of("tool_result")
        await client.answer(ask, updatedInput={"command": "pwd"})
        assert (await client.event("tool_result"))["result"] == '{"command": "pwd"}'


async def test_a_denial_is_told_to_the_agent(runner: Runner) -> None:
    async with runner.attach() as client:
        await client.command("prompt", "j", message="tool Bash {}")
        await client.answer(await client.event("permission_ask"), "deny", message="not today")
        result = await client.event("tool_result")
        assert result["isError"] and result["result"] == "not today"


async def test_the_first_answer_stands(runner: Runner) -> None:
    async with runner.attach() as client:
        await client.command("prompt", "j", message="tool Bash {}\nsay on")
        ask = await client.event("permission_ask")
        await client.answer(ask, "deny")
        await client.command("permission_answer", "late", requestId=ask["requestId"], behavior="allow")
        assert (await client.answered("late")).startswith("already_resolved")
        await client.command("permission_answer", "odd", requestId="nothing", behavior="allow")
        assert (await client.answered("odd")).startswith("not_found")
        await client.event("turn_ended")
    assert [result["isError"] for result in client.of("tool_result")] == [True]


async def test_an_ask_survives_reconnects(runner: Runner) -> None:
    """Once acknowledged it is said again under a new number; unacknowledged it is simply sent again."""
    async with runner.attach() as client:
        await client.command("prompt", "j", message="tool Bash {}")
        first = await client.event("permission_ask")
        taken = client.events[-1][0]
    async with runner.attach(2, taken) as client:
        again = await client.event("permission_ask")
        assert again["requestId"] == first["requestId"] and client.events[-1][0] > taken
    async with runner.attach(3, taken, acking=False) as client:
        await client.event("permission_ask")
        await client.answer(first)
        assert (await client.event("turn_ended"))["outcome"] == "succeeded"
        assert len(client.of("permission_ask")) == 1


async def test_unacknowledged_events_come_again(runner: Runner) -> None:
    async with runner.attach(acking=False) as client:
        await client.run("j", "say one\nsay two")
        before = client.events
    async with runner.attach(2, before[1][0], acking=False) as client:
        await client.event("turn_ended")
        assert client.hello["first"] == 1
        assert client.events == before[2:]
    async with runner.attach(3, before[-1][0]) as client:
        await client.run("k", "say three")
        assert client.events[0][0] == before[-1][0] + 1


async def test_a_repeated_command_runs_once(runner: Runner) -> None:
    async with runner.attach() as client:
        for _ in range(3):
            await client.command("prompt", "j", message="say once")
        await client.event("turn_ended")
        await client.command("prompt", "j", message="say once")
        await client.run("k", "say end")
    assert client.text().split() == ["once", "end"]
    assert len(client.of("turn_started")) == 2
    async with runner.attach(2, client.events[-1][0]) as other:
        await other.command("prompt", "j", message="say once")
        assert await other.answered("j") == ""
        await other.run("l", "say after")
    assert other.text().split() == ["after"]


async def test_the_second_attach_fences_the_first(runner: Runner) -> None:
    async with runner.attach(5) as first, runner.attach(6) as second:
        assert await first.closed() == 4409
        assert (await second.run("j", "say mine"))["outcome"] == "succeeded"
        for lower in (5, 6):
            async with runner.attach(lower) as late:
                assert await late.closed() == 4409
        assert (await second.run("k", "say still"))["outcome"] == "succeeded"
    async with runner.attach(6) as same:
        await same.run("l", "say back")


async def test_large_messages_travel_in_fragments_both_ways(runner: Runner) -> None:
    text = "ä€" * 200_000
    async with runner.attach() as client:
        ended = await client.run("j", f"say {text}")
        assert ended["result"] == text
        assert client.text().strip() == text
        await client.command("prompt", "k", message=f"tool T {json.dumps({'x': text})}")
        ask = await client.event("permission_ask")
        assert ask["input"] == {"x": text}


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("no json", 1008),
        ("{}", 1008),
        ('{"ack": 1}', 1008),
        ('{"attach": {"proto": 9, "acked": 0, "fence": 1}}', 1008),
        ('{"attach": {"proto": 1, "acked": 7, "fence": 1}}', 1008),
        ('{"attach": {"proto": 1, "acked": 0, "fence": 1, "env": {"LD_PRELOAD": "x"}}}', 1008),
        ('{"f": "a", "i": 1, "n": 2, "d": "AAAA"}', 1008),
        ("x" * (link.MESSAGE_MAX + 10), 1009),
    ],
)
async def test_a_bad_greeting_ends_the_connection(runner: Runner, message: str, code: int) -> None:
    async with runner.connect() as client:
        await client.next()
        await client.socket.send_str(message)
        assert await client.closed() == code
    async with runner.attach(1) as good:
        assert (await good.run("j", "say fine"))["outcome"] == "succeeded"


async def test_an_acknowledgement_of_the_future_ends_the_connection(runner: Runner) -> None:
    async with runner.attach() as client:
        await client.send({"ack": 10**9})
        assert await client.closed() == 1008


@pytest.mark.parametrize("fields", [{"type": "prompt"}, {"type": "dance"}, {"type": "set_mode", "mode": 7}])
async def test_a_bad_command_is_answered_by_its_id(runner: Runner, fields: dict[str, object]) -> None:
    async with runner.attach() as client:
        await client.send({"cmd": {"id": "odd", **fields}})
        assert (await client.answered("odd")).startswith("bad_command")
        assert (await client.run("j", "say fine"))["outcome"] == "succeeded"


async def test_a_client_that_vanishes_in_the_middle_of_a_message(runner: Runner) -> None:
    raw = socket.socket(socket.AF_UNIX)
    raw.connect(str(runner.path))
    raw.sendall(b"GET /ws HTTP/1.1\r\nHost: r\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n")
    raw.sendall(b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n")
    raw.recv(1024)
    raw.sendall(b"\x81\xfe\x10\x00\x00\x00\x00\x00{")  # a frame of 4096 bytes, of which one comes
    raw.close()
    async with runner.attach() as client:
        assert (await client.run("j", "say fine"))["outcome"] == "succeeded"


async def test_nobody_acknowledges_so_the_agent_waits_and_nothing_is_lost(runner: Runner) -> None:
    """40 MB against 16 MiB kept: the flood stops, the runner still answers, and goes on with the acknowledgements."""
    async with runner.attach(acking=False) as client:
        await client.command("prompt", "j", message="flood 600 65536")
        kept = 0
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    async with asyncio.timeout(2):
                        await client.next()
                except TimeoutError:
                    kept = sum(len(json.dumps(event)) for _, event in client.events)
                    if kept > 12 << 20:  # before that it was the machine that paused
                        break
        assert kept <= 17 << 20
        assert not client.of("turn_ended")
        assert (await runner.ping())["status"] == "HealthyBusy"
        seen = client.events[-1][0]
    async with runner.attach(2, seen) as client:
        await client.event("turn_ended")
        assert len(client.of("tool_output")) > 300
        assert [n for n, _ in client.events] == list(range(seen + 1, client.events[-1][0] + 1))


async def test_interrupt_ends_the_turn_and_cancels_its_ask(runner: Runner) -> None:
    async with runner.attach() as client:
        await client.command("prompt", "j", message="tool Bash {}")
        ask = await client.event("permission_ask")
        await client.command("interrupt", "i")
        await client.command("interrupt", "i2")
        assert (await client.event("ask_cancelled"))["requestId"] == ask["requestId"]
        assert (await client.event("turn_ended"))["outcome"] == "interrupted"
        await client.answer(ask)
        assert await client.answered(f"a-{ask['requestId']}") != ""
        assert (await client.run("k", "say on"))["outcome"] == "succeeded"


async def test_deltas_are_joined(runner: Runner) -> None:
    async with runner.attach() as client:
        await client.run("j", "say " + "word " * 2000)
    assert 2 <= len(client.of("stream")) < 100


async def test_c25_ping_changes_its_time_only_with_its_status(runner: Runner) -> None:
    idle = await runner.ping()
    assert idle["status"] == "Healthy" and isinstance(idle["time_of_last_update"], int)
    async with runner.attach() as client:
        await client.command("prompt", "j", message="sleep 60")
        await client.event("turn_started")
        await asyncio.sleep(1.1)
        busy = await runner.ping()
        assert busy["status"] == "HealthyBusy"
        await asyncio.sleep(1.1)
        assert await runner.ping() == busy
        await client.command("interrupt", "i")
        await client.event("turn_ended")
        done = await runner.ping()
        await asyncio.sleep(1.1)
        assert done["status"] == "Healthy" and await runner.ping() == done


async def test_shutdown_ends_the_process(runner: Runner) -> None:
    async with runner.attach() as client:
        await client.command("shutdown", "s")
        assert await client.closed() == 1001
    assert await runner.process.wait() == 0


async def test_the_runner_cannot_be_read_and_hands_nothing_of_its_own_down(runner: Runner, tmp_path: Path) -> None:
    status = Path(f"/proc/{runner.process.pid}").stat()
    async with runner.attach() as client:
        await client.run("j", "env PYTHONPATH")
        assert client.text().strip() == "PYTHONPATH="
        await client.command("prompt", "k", message="run ls -l /proc/self/fd")
        await client.answer(await client.event("permission_ask"))
        assert "socket" not in (await client.event("tool_result"))["result"]
    assert status.st_uid == 0  # a process that is not dumpable belongs to root in /proc, whoever runs it
