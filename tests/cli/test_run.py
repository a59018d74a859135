"""`pilothouse run`: what people and programs see of a job, and what it tells the server."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path

import pytest

from tests.cli.conftest import Pilothouse
from tests.cli.fake import APPROVAL, JOB, SESSION, FakeServer


def stream(server: FakeServer, *texts: str) -> None:
    for text in texts:
        server.script.append(server.event("stream", content=text, messageId="m1"))


async def test_text_is_shown_and_the_status_says_succeeded(pilothouse: Pilothouse, server: FakeServer) -> None:
    stream(server, "Hello ", "world")
    server.script.append(server.complete())
    ended = await pilothouse("run", "hello")
    assert ended.status == 0
    assert "Hello world\n" in ended.out
    assert "succeeded · 2 turns" in ended.out
    assert "\x1b" not in ended.out
    [body] = server.asked("POST", f"/api/sessions/{SESSION}/jobs")
    assert body["prompt"] == "hello"
    assert body["clientMessageId"]


@pytest.mark.parametrize("outcome", ["failed", "interrupted", "budget_exceeded"])
async def test_any_other_outcome_is_a_failure(pilothouse: Pilothouse, server: FakeServer, outcome: str) -> None:
    server.script = [server.complete(outcome, reason="the reason")]
    ended = await pilothouse("run", "hello")
    assert ended.status == 1
    assert "the reason" in ended.out


async def test_json_is_the_log_byte_for_byte(pilothouse: Pilothouse, server: FakeServer) -> None:
    stream(server, "a", "ü\u202e\x1b[2J")
    server.script.append(server.event("brand_new_type", x={"y": [1]}))
    server.script.append(server.complete())
    ended = await pilothouse("run", "--json", "hello")
    assert ended.status == 0
    lines = ended.out.encode().split(b"\n")
    assert lines.pop() == b""
    assert lines == server.log
    assert json.loads(lines[-1])["type"] == "complete"


async def test_events_of_other_jobs_are_left_out(pilothouse: Pilothouse, server: FakeServer) -> None:
    server.script = [{**server.complete(), "jobId": "other"}, server.complete()]
    ended = await pilothouse("run", "--json", "hello")
    assert [json.loads(line)["jobId"] for line in ended.out.splitlines()] == [None, JOB, JOB]


@pytest.mark.parametrize("code", [None, 1001, 4508])
async def test_a_cut_connection_goes_on_exactly(pilothouse: Pilothouse, server: FakeServer, code: int | None) -> None:
    stream(server, *"abcdefgh")
    server.script.append(server.complete())
    server.cuts, server.close_code = [2, 4, 7], code
    ended = await pilothouse("run", "--json", "hello")
    assert ended.status == 0
    assert [line.encode() for line in ended.out.splitlines()] == server.log
    assert [s["after"] for s in server.subscriptions] == [0, 2, 4, 7]
    assert server.subscriptions[-1]["epoch"] == "e1"
    assert "connection lost" in ended.err
    assert "connected again" in ended.err


async def test_a_final_close_code_is_not_tried_again(pilothouse: Pilothouse, server: FakeServer) -> None:
    stream(server, "a", "b")
    server.cuts, server.close_code = [2], 4401
    ended = await pilothouse("run", "hello")
    assert ended.status == 1
    assert "no longer valid" in ended.err
    assert len(server.subscriptions) == 1


async def test_options_reach_the_server(pilothouse: Pilothouse, server: FakeServer, tmp_path: Path) -> None:
    server.script = [server.complete()]
    options = [
        "--agent",
        "claude",
        "--model",
        "m",
        "--permission-mode",
        "manual",
        "--max-cost",
        "0.5",
        "--timeout",
        "30",
        "--title",
        "T",
        "--memory",
        "2G",
        "--disk",
        "5G",
        "--cpu",
        "1.5",
        "--allowed-tools",
        "Bash(ls,pwd:*),Read",
    ]
    ended = await pilothouse("run", *options, "--source", str(tmp_path), "hello")
    assert ended.status == 0, ended.err
    [made] = server.asked("POST", "/api/sessions")
    limits = {"memory": 2 << 30, "disk": 5 << 30, "cpu": 1.5}
    assert made.pop("limits") == limits
    assert made == {"agent": "claude", "title": "T", "source": {"dir": str(tmp_path)}, "permissionMode": "manual"}
    [body] = server.asked("POST", f"/api/sessions/{SESSION}/jobs")
    body.pop("clientMessageId")
    assert body == {
        "prompt": "hello",
        "permissionMode": "manual",
        "allowedTools": ["Bash(ls,pwd:*)", "Read"],
        "maxCostUsd": 0.5,
        "timeoutS": 30,
        "model": "m",
    }


async def test_an_older_session_is_shown_from_this_job_on(pilothouse: Pilothouse, server: FakeServer) -> None:
    server.append(server.event("stream", content="long ago", messageId="m0"))
    server.script = [server.complete()]
    ended = await pilothouse("run", "--json", "--session", SESSION, "again")
    assert ended.status == 0
    assert "long ago" not in ended.out
    assert not server.asked("POST", "/api/sessions")


async def test_the_prompt_from_stdin(pilothouse: Pilothouse, server: FakeServer) -> None:
    server.script = [server.complete()]
    ended = await pilothouse("run", "-", given="fix ü\n".encode())
    assert ended.status == 0
    assert server.asked("POST", f"/api/sessions/{SESSION}/jobs")[0]["prompt"] == "fix ü\n"


@pytest.mark.parametrize(
    ("args", "given", "named"),
    [
        (["run"], None, "PROMPT"),
        (["run", ""], None, "PROMPT"),
        (["run", " \n"], None, "PROMPT"),
        (["run", "-"], b"", "PROMPT"),
        (["run", "-"], b"x" * (1024 * 1024 + 1), "PROMPT"),
        (["run", "-"], b"\xff\xfe", "PROMPT"),
        (["run", "--max-cost", "-1", "x"], None, "--max-cost"),
        (["run", "--max-cost", "nan", "x"], None, "--max-cost"),
        (["run", "--timeout", "soon", "x"], None, "--timeout"),
        (["run", "--permission-mode", "yolo", "x"], None, "--permission-mode"),
        (["run", "--session", "../../etc", "x"], None, "--session"),
        (["run", "--session", SESSION, "--agent", "echo", "x"], None, "--agent"),
        (["run", "--source", "/no/such/place", "x"], None, "--source"),
        (["run", "--allowed-tools", "Bash,,Read", "x"], None, "--allowed-tools"),
        (["run", "--model", " ", "x"], None, "--model"),
        (["run", "--force", "x"], None, "--force"),
        (["run", "--nonsense", "x"], None, "--nonsense"),
    ],
)
async def test_bad_usage_names_the_option(
    pilothouse: Pilothouse, server: FakeServer, args: list[str], given: bytes | None, named: str
) -> None:
    ended = await pilothouse(*args, given=given)
    assert ended.status == 2
    assert named in ended.err
    assert ended.out == ""
    assert server.calls == []


async def test_nobody_at_the_named_address(pilothouse: Pilothouse) -> None:
    pilothouse.env["PILOTHOUSE_URL"] = "http://127.0.0.1:9"
    ended = await pilothouse("run", "hello")
    assert ended.status == 3
    assert ended.err == "Error: No Pilothouse server answers at http://127.0.0.1:9: Connection refused\n"


async def test_a_wrong_key_says_how_to_make_one(pilothouse: Pilothouse) -> None:
    pilothouse.env["PILOTHOUSE_API_KEY"] = "ph_wrong"
    ended = await pilothouse("run", "hello")
    assert ended.status == 1
    assert "keys create" in ended.err
    assert "ph_wrong" not in ended.err + ended.out


async def test_a_refusal_shows_its_detail(pilothouse: Pilothouse, server: FakeServer) -> None:
    from tests.cli.fake import problem

    server.refuse = problem(400, "bad_request", "agent: unknown agent 'x\x1b[2J'")
    ended = await pilothouse("run", "--agent", "x", "hello")
    assert ended.status == 2
    assert "--agent: unknown agent 'x<U+001B>[2J'" in ended.err
    server.refuse = problem(429, "too_many", "Too many jobs: wait a minute.")
    ended = await pilothouse("run", "hello")
    assert ended.status == 1
    assert "Too many jobs" in ended.err


async def test_without_a_terminal_an_approval_is_left_for_others(pilothouse: Pilothouse, server: FakeServer) -> None:
    server.script = [server.ask()]
    child = await pilothouse.start("run", "hello")
    assert child.stderr is not None and child.stdout is not None
    said = b""
    while APPROVAL.encode() not in said:
        line = await child.stderr.readline()
        assert line, said
        said += line
    assert f"pilothouse approve {APPROVAL}".encode() in said
    elsewhere = await pilothouse("approve", APPROVAL)
    assert elsewhere.status == 0
    assert "rm -rf build" in elsewhere.out
    server.append(server.complete())
    assert await child.wait() == 0
    await child.stdout.read()


@pytest.mark.parametrize(
    ("outcomes", "said"),
    [
        (["approved", "cancelled"], ""),
        (["expired", "approved"], "pilothouse: 1 tool call was not approved.\n"),
        (["denied", "expired"], "pilothouse: 2 tool calls were not approved.\n"),
    ],
)
@pytest.mark.parametrize("options", [[], ["--json"]])
async def test_what_was_not_approved_is_counted_at_the_end(
    pilothouse: Pilothouse, server: FakeServer, outcomes: list[str], said: str, options: list[str]
) -> None:
    for number, outcome in enumerate(outcomes):
        resolved = server.event("approval_resolved", approvalId=str(number), outcome=outcome, by="timeout")
        server.script.append(resolved)
    server.script.append({**server.script[0], "jobId": "other"})
    server.script.append(server.complete())
    ended = await pilothouse("run", *options, "hello")
    assert ended.status == 0
    assert ended.err.removeprefix(f"pilothouse: session {SESSION}\n") == said


async def test_ctrl_c_interrupts_and_twice_leaves(pilothouse: Pilothouse, server: FakeServer) -> None:
    interrupted = asyncio.Event()
    server.on_interrupt = interrupted.set
    stream(server, "working")
    child = await pilothouse.start("run", "hello")
    assert child.stdout is not None
    await child.stdout.readuntil(b"working")
    child.send_signal(signal.SIGINT)
    await asyncio.wait_for(interrupted.wait(), 30)
    child.send_signal(signal.SIGINT)
    _, err = await asyncio.wait_for(child.communicate(), 30)
    assert child.returncode == 1
    assert b"may still be running" in err
    assert b"Traceback" not in err


async def test_an_interrupted_job_ends_with_its_complete(pilothouse: Pilothouse, server: FakeServer) -> None:
    server.on_interrupt = lambda: server.append(server.complete("interrupted"))
    stream(server, "working")
    child = await pilothouse.start("run", "hello")
    assert child.stdout is not None
    await child.stdout.readuntil(b"working")
    child.send_signal(signal.SIGINT)
    out, _ = await asyncio.wait_for(child.communicate(), 30)
    assert child.returncode == 1
    assert b"interrupted" in out


async def test_files_arrive_and_nothing_is_overwritten(
    pilothouse: Pilothouse, server: FakeServer, tmp_path: Path
) -> None:
    server.script = [server.complete()]
    server.pack({"a.txt": b"new", "sub/b.txt": b"b"})
    out = tmp_path / "out"
    out.mkdir()
    (out / "a.txt").write_text("mine")
    ended = await pilothouse("run", "--files", str(out), "hello")
    assert ended.status == 0, ended.err
    assert (out / "a.txt").read_text() == "mine"
    assert (out / "sub/b.txt").read_text() == "b"
    assert "a.txt" in ended.err
    assert (await pilothouse("run", "--files", str(out), "--force", "hello")).status == 0
    assert (out / "a.txt").read_text() == "new"


async def test_a_narrow_terminal_encoding_is_survived(pilothouse: Pilothouse, server: FakeServer) -> None:
    pilothouse.env |= {"LANG": "C", "LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    stream(server, "grün ✓")
    server.script.append(server.complete())
    ended = await pilothouse("run", "hello")
    assert ended.status == 0, ended.err
    assert "gr\\xfcn" in ended.out


async def test_a_reader_that_has_enough_is_no_traceback(pilothouse: Pilothouse, server: FakeServer) -> None:
    stream(server, *["x" * 60_000] * 20)
    child = await pilothouse.start("run", "hello")
    assert child.stdout is not None and child.stderr is not None
    await child.stdout.read(1)
    child.stdout._transport.close()  # type: ignore[attr-defined]
    err = await asyncio.wait_for(child.stderr.read(), 30)
    await child.wait()
    assert child.returncode == 1
    assert b"Traceback" not in err
    assert b"Broken pipe" not in err
