"""The smaller commands: what they print, what they ask of the server, how they end."""

from __future__ import annotations

import asyncio
import json
import uuid
import zipfile
from pathlib import Path

import pytest

from pilothouse.cli.commands.sessions import STOPS
from tests.cli.conftest import Pilothouse
from tests.cli.fake import APPROVAL, JOB, PAIR, QUESTION, SESSION, FakeServer

UNKNOWN = "99999999-9999-4999-8999-999999999999"


async def test_ps(pilothouse: Pilothouse, server: FakeServer) -> None:
    ended = await pilothouse("ps")
    assert ended.status == 0
    assert SESSION in ended.out
    assert "running" in ended.out
    assert JOB in ended.out
    assert "not strictly limited here: cpu, disk; `pilothouse doctor` says why" in ended.err
    raw = await pilothouse("ps", "--json")
    [row] = [json.loads(line) for line in raw.out.splitlines()]
    assert (row["id"], row["jobs"][0]["id"]) == (SESSION, JOB)


async def test_logs_of_a_session_and_of_a_job(pilothouse: Pilothouse, server: FakeServer) -> None:
    server.append({**server.event("session", agent="echo", isolation="none"), "jobId": None})
    server.append(server.event("chat", message="do it", by="Ann"))
    server.append(server.complete())
    shown = await pilothouse("logs", SESSION)
    assert shown.status == 0
    assert "isolation: none" in shown.out
    assert "Ann> do it" in shown.out
    whole = await pilothouse("logs", "--json", SESSION)
    assert [line.encode() for line in whole.out.splitlines()] == server.log
    later = await pilothouse("logs", "--json", "--after", "2", SESSION)
    assert [json.loads(line)["seq"] for line in later.out.splitlines()] == [3]
    job = await pilothouse("logs", "--json", "--follow", JOB)
    assert [json.loads(line)["seq"] for line in job.out.splitlines()] == [2, 3]


async def test_logs_say_what_is_no_longer_kept(pilothouse: Pilothouse, server: FakeServer) -> None:
    for n in range(5):
        server.append(server.event("stream", content=str(n), messageId="m"))
    server.oldest = 4
    ended = await pilothouse("logs", "--json", SESSION)
    assert "events 1 to 3 are no longer kept" in ended.err
    assert [json.loads(line)["seq"] for line in ended.out.splitlines()] == [4, 5]


async def test_logs_beyond_the_end(pilothouse: Pilothouse, server: FakeServer) -> None:
    server.append(server.event("chat", message="do it", by="Ann"))
    server.append(server.complete())
    for id in (SESSION, JOB):
        ended = await pilothouse("logs", id, "--after", "999")
        assert (ended.status, ended.out) == (0, "")
        assert ended.err == "pilothouse: there is nothing after event 999; the last one is 2\n"


async def test_logs_of_nothing(pilothouse: Pilothouse) -> None:
    ended = await pilothouse("logs", UNKNOWN)
    assert ended.status == 1
    assert UNKNOWN in ended.err


async def test_approve_shows_it_and_binds_the_answer(
    pilothouse: Pilothouse, server: FakeServer, tmp_path: Path
) -> None:
    server.ask()
    given = tmp_path / "input.json"
    given.write_text('{"command": "true"}')
    ended = await pilothouse("approve", APPROVAL, "--option", "session", "--message", "ok", "--input", str(given))
    assert ended.status == 0, ended.err
    assert "rm -rf build" in ended.out
    [body] = server.asked("POST", f"/api/approvals/{APPROVAL}")
    assert body == {
        "approved": True,
        "inputHash": server.approvals[APPROVAL]["inputHash"],
        "optionId": "session",
        "message": "ok",
        "updatedInput": {"command": "true"},
    }


@pytest.mark.parametrize("command", ["approve", "deny"])
async def test_without_an_id_what_waits_is_listed(pilothouse: Pilothouse, server: FakeServer, command: str) -> None:
    nothing = await pilothouse(command)
    assert (nothing.status, nothing.out) == (0, "Nothing waits for approval.\n")
    server.ask(input={"command": "rm -rf build\n# \u202e", "description": "tidy"})
    listed = await pilothouse(command)
    assert listed.status == 0
    head, row = listed.out.splitlines()
    assert head.split() == ["ID", "SESSION", "TOOL", "INPUT"]
    assert row.split(maxsplit=3) == [APPROVAL, SESSION, "Bash", "rm -rf build # <U+202E>"]
    server.ask(tool="mcp", input={"n": 1})
    assert '{"n":1}' in (await pilothouse(command)).out
    assert not server.asked("POST", f"/api/approvals/{APPROVAL}")


async def test_deny_with_words(pilothouse: Pilothouse, server: FakeServer) -> None:
    server.ask()
    ended = await pilothouse("deny", APPROVAL, "--message", "not today")
    assert ended.status == 0
    [body] = server.asked("POST", f"/api/approvals/{APPROVAL}")
    assert (body["approved"], body["message"]) == (False, "not today")


async def test_a_decided_approval_stays_decided(pilothouse: Pilothouse, server: FakeServer) -> None:
    server.ask()
    server.approvals[APPROVAL] |= {"state": "denied", "resolvedBy": "Ann", "resolvedAt": "2026-11-21T09:01:00.000Z"}
    ended = await pilothouse("approve", APPROVAL)
    assert (ended.status, ended.out) == (1, "")
    assert ended.err == "pilothouse: already denied by Ann at 2026-11-21T09:01:00.000Z\n"
    assert not server.asked("POST", f"/api/approvals/{APPROVAL}")


@pytest.mark.parametrize(
    ("args", "named"),
    [
        (["approve", "nonsense"], "nonsense"),
        (["approve", APPROVAL, "--option", "other"], "--option"),
        (["approve", APPROVAL, "--option", "no"], "deny"),
        (["approve", "--message", "ok"], "--message"),
        (["deny", "--message", "no"], "--message"),
        (["stop"], "--all"),
        (["stop", "--all", SESSION], "--all"),
        (["keys", "create", "--scope", "root"], "--scope"),
        (["logs", SESSION, "--after", "-1"], "--after"),
        (["logs", "../x"], "../x"),
        (["files", SESSION, "--out", "x", "--zip", "y"], "--zip"),
        (["bogus"], "bogus"),
    ],
)
async def test_bad_usage(pilothouse: Pilothouse, server: FakeServer, args: list[str], named: str) -> None:
    server.ask()
    ended = await pilothouse(*args)
    assert ended.status == 2
    assert named in ended.err
    assert all(method == "GET" for method, _, _ in server.calls)


async def test_bad_input_files(pilothouse: Pilothouse, server: FakeServer, tmp_path: Path) -> None:
    server.ask()
    for content in (b"[1]", b"{", b"\xff", b'{"a":' * 5000):
        (tmp_path / "bad").write_bytes(content)
        ended = await pilothouse("approve", APPROVAL, "--input", str(tmp_path / "bad"))
        assert ended.status == 2
        assert "--input" in ended.err


@pytest.mark.parametrize(
    ("args", "named"),
    [
        (["approve", UNKNOWN], f"approval {UNKNOWN}"),
        (["deny", UNKNOWN], f"approval {UNKNOWN}"),
        (["stop", UNKNOWN], f"session {UNKNOWN}"),
        (["files", UNKNOWN], f"session or job {UNKNOWN}"),
        (["run", "--session", UNKNOWN, "x"], f"session {UNKNOWN}"),
        (["network", UNKNOWN], f"session {UNKNOWN}"),
        (["keys", "revoke", "nosuch"], "key nosuch"),
    ],
)
async def test_unknown_ids(pilothouse: Pilothouse, args: list[str], named: str) -> None:
    ended = await pilothouse(*args)
    assert (ended.status, ended.out) == (1, "")
    assert ended.err == f"Error: There is no {named}, or it is not yours to see.\n"


async def test_what_the_server_says_of_a_part_of_it_stays(pilothouse: Pilothouse) -> None:
    ended = await pilothouse("files", SESSION, "nosuch")
    assert (ended.status, ended.err) == (1, "Error: no such file in the workspace\n")


async def test_a_changed_input_without_a_field_is_warned_of(
    pilothouse: Pilothouse, server: FakeServer, tmp_path: Path
) -> None:
    server.ask(input={"file_path": "a.py", "old_string": "1", "new_string": "2"})
    (tmp_path / "changed.json").write_text('{"file_path": "a.py", "new_string": "3"}')
    ended = await pilothouse("approve", APPROVAL, "--input", str(tmp_path / "changed.json"))
    assert ended.status == 0
    assert "pilothouse: the changed input is without old_string, and" in ended.err
    server.ask()
    (tmp_path / "changed.json").write_text('{"command": "true", "timeout": 1}')
    whole = await pilothouse("approve", APPROVAL, "--input", str(tmp_path / "changed.json"))
    assert (whole.status, whole.err) == (0, "")


async def test_stop(pilothouse: Pilothouse, server: FakeServer) -> None:
    for argument in (SESSION, "--all"):
        ended = await pilothouse("stop", argument)
        assert ended.status == 0
        assert ended.out == f"stopped {SESSION}\n"
    assert len(server.asked("POST", f"/api/sessions/{SESSION}/stop")) == 2


async def test_many_are_stopped_together_and_one_that_cannot_be_keeps_none_running(
    pilothouse: Pilothouse, server: FakeServer
) -> None:
    server.more = [str(uuid.UUID(int=number)) for number in range(1, 2 * STOPS)]
    server.together = asyncio.Barrier(STOPS)
    ended = await asyncio.wait_for(pilothouse("stop", "--all"), 60)
    assert ended.status == 1
    assert sorted(ended.out.splitlines()) == sorted(f"stopped {id}" for id in [SESSION, *server.more[1:]])
    assert f"{server.more[0]}: the store cannot write" in ended.err
    assert server.most_under_way == STOPS


async def test_files_are_listed_and_downloaded(pilothouse: Pilothouse, server: FakeServer, tmp_path: Path) -> None:
    server.pack({"src/a.py": b"print()"})
    listed = await pilothouse("files", SESSION, "sub")
    assert "src/" in listed.out
    assert "a<U+001B>[31m.txt" in listed.out
    assert (await pilothouse("files", SESSION, "--out", str(tmp_path / "o"))).status == 0
    assert (tmp_path / "o/src/a.py").read_bytes() == b"print()"
    target = tmp_path / "w.zip"
    saved = await pilothouse("files", SESSION, "--zip", str(target))
    assert (saved.status, saved.err) == (0, f"pilothouse: {target} written ({len(server.zip)} B)\n")
    assert zipfile.ZipFile(target).namelist() == ["src/a.py"]
    again = await pilothouse("files", SESSION, "--zip", str(target))
    assert again.status == 2
    assert "--force" in again.err
    kept = await pilothouse("files", SESSION, "--out", str(tmp_path / "o"))
    assert "1 file exists and was kept (--force overwrites): src/a.py" in kept.err


async def test_a_name_that_may_do_harm_here_keeps_no_file_from_coming(
    pilothouse: Pilothouse, server: FakeServer, tmp_path: Path
) -> None:
    server.pack({"a.py": b"print()", "2026-11-22T10:00.log": b"done"})
    brought = await pilothouse("files", SESSION, "--out", str(tmp_path / "o"))
    assert (brought.status, brought.out) == (0, "")
    assert "1 file has another name here: 2026-11-22T10%3A00.log\n" in brought.err
    assert {p.name: p.read_bytes() for p in (tmp_path / "o").iterdir()} == {
        "a.py": b"print()", "2026-11-22T10%3A00.log": b"done"
    }  # fmt: skip


async def test_what_a_job_made_is_listed_and_downloaded(
    pilothouse: Pilothouse, server: FakeServer, tmp_path: Path
) -> None:
    server.pack({"src/\u202ea.py": b"print()"})
    listed = await pilothouse("files", JOB)
    assert listed.out == "       7 B  src/<U+202E>a.py\n    5.0 GB  large  (not kept: too_large)\n"
    brought = await pilothouse("files", JOB, "--out", str(tmp_path / "o"))
    assert (brought.status, (tmp_path / "o/src/%E2%80%AEa.py").read_bytes()) == (0, b"print()")
    assert "1 file of the job was not kept" in brought.err
    assert (await pilothouse("files", JOB, "--zip", str(tmp_path / "j.zip"))).status == 0
    assert zipfile.ZipFile(tmp_path / "j.zip").namelist() == ["src/\u202ea.py"]


async def test_a_single_file_of_a_job_is_downloaded(pilothouse: Pilothouse, server: FakeServer, tmp_path: Path) -> None:
    path, out = "src/\u202ea.py", tmp_path / "o"
    saved = await pilothouse("files", JOB, path, "--out", str(out))
    assert saved.status == 0, saved.err
    assert [(p.name, p.read_text()) for p in out.iterdir()] == [("\u202ea.py", QUESTION)], "the bytes of that artifact"
    assert (await pilothouse("files", JOB, path, "--out", str(out))).err.endswith("exists; --force overwrites it.\n")
    assert (await pilothouse("files", JOB, path, "--zip", str(tmp_path / "j.zip"))).status == 0
    assert zipfile.ZipFile(tmp_path / "j.zip").read(path).decode() == QUESTION
    for wrong, told in (
        ("src", "Among the files that the job made or changed is no src; "),
        ("large", "large was not"),
    ):
        ended = await pilothouse("files", JOB, wrong, "--out", str(out))
        assert (ended.status, ended.out, ended.err.startswith(f"Error: {told}")) == (1, "", True), ended.err
    assert len(list(out.iterdir())) == 1


async def test_a_single_file_is_downloaded(pilothouse: Pilothouse, server: FakeServer, tmp_path: Path) -> None:
    pilothouse.folder = tmp_path / "here"
    pilothouse.folder.mkdir()
    here, out = pilothouse.folder / "a.py", tmp_path / "o"
    saved = await pilothouse("files", SESSION, "src/a.py")
    assert (saved.status, saved.out, saved.err) == (0, "", "pilothouse: a.py written (7 B)\n")
    assert here.read_bytes() == b"print()"
    here.write_bytes(b"mine")
    again = await pilothouse("files", SESSION, "src/a.py")
    assert (again.status, again.err) == (1, "Error: a.py exists; --force overwrites it.\n")
    assert here.read_bytes() == b"mine"
    assert (await pilothouse("files", SESSION, "src/a.py", "--force")).status == 0
    assert here.read_bytes() == b"print()"
    assert (await pilothouse("files", SESSION, "src/a.py", "--out", str(out))).status == 0
    assert (out / "a.py").read_bytes() == b"print()"
    assert (await pilothouse("files", SESSION, "src/a.py", "--zip", str(out / "a.zip"))).status == 0
    assert zipfile.ZipFile(out / "a.zip").read("src/a.py") == b"print()"
    missing = await pilothouse("files", SESSION, "src/b.py", "--out", str(out))
    assert (missing.status, missing.err) == (1, "Error: no such file in the workspace\n")
    assert sorted(p.name for p in out.iterdir()) == ["a.py", "a.zip"]


async def test_a_conversation_from_a_pipe_and_from_a_file(
    pilothouse: Pilothouse, server: FakeServer, tmp_path: Path
) -> None:
    server.script = [server.complete()]
    piped = await pilothouse("chat", SESSION, given=b"one\ntwo")
    assert piped.status == 0, piped.err
    (tmp_path / "prompts").write_text("three\n\nnever sent\n")
    with (tmp_path / "prompts").open("rb") as file:
        child = await pilothouse.start("chat", SESSION, stdin=file)
        assert (await child.communicate(), child.returncode)[1] == 0
    prompts = [body["prompt"] for body in server.asked("POST", f"/api/sessions/{SESSION}/jobs")]
    assert prompts == ["one", "two", "three"]


async def test_ticket_and_keys(pilothouse: Pilothouse, server: FakeServer) -> None:
    assert (await pilothouse("ticket")).out == "http://127.0.0.1:8420/#ticket=T\n"
    made = await pilothouse("keys", "create", "--name", "ci", "--scope", "read,run", "--plain")
    assert (made.status, made.out, made.err) == (0, "ph_00000000-0000-0000-0000-000000000007\n", "")
    [body] = server.asked("POST", "/api/keys")
    assert body == {"name": "ci", "scopes": ["read", "run"]}
    assert "never" in (await pilothouse("keys", "list")).out
    assert (await pilothouse("keys", "revoke", "k1")).out == "revoked k1\n"


async def test_key_pairs(pilothouse: Pilothouse, server: FakeServer) -> None:
    made = await pilothouse("keys", "create", "--sigv4", "--name", "ci", "--scope", "read")
    assert made.status == 0
    assert made.out == f"AWS_ACCESS_KEY_ID={PAIR}\nAWS_SECRET_ACCESS_KEY=s3cret\n"
    assert "not shown again" in made.err
    short = await pilothouse("keys", "create", "--sigv4", "--plain", "--session-token", "--expires", "3600")
    assert (short.out, short.err) == (f"{PAIR}:s3cret:t0ken\n", "")
    assert server.asked("POST", "/api/keys") == [
        {"name": "ci", "scopes": ["read"], "kind": "sigv4"},
        {"kind": "sigv4", "expiresInS": 3600, "sessionToken": True},
    ]
    gone = await pilothouse("keys", "revoke", PAIR)
    assert (gone.out, gone.err) == (f"revoked {PAIR}\n", "")
    for wrong in (("--expires", "60"), ("--session-token",), ("--sigv4", "--expires", "-1")):
        refused = await pilothouse("keys", "create", *wrong)
        assert (refused.status, "--" in refused.err) == (2, True)


async def test_members_and_organisations(pilothouse: Pilothouse, server: FakeServer) -> None:
    assert "viewer" in (await pilothouse("members", "list", "--organisation", "red")).out
    done = await pilothouse(
        "members", "set", "https://iss#1/x", "--role", "admin", "--disable", "--organisation", "red"
    )
    assert done.status == 0, done.err
    assert "disabled" in done.out
    [(path, body)] = [(path, body) for method, path, body in server.calls if method == "PUT"]
    assert path.endswith("?organisation=red")
    assert body == {"role": "admin", "disabled": True}
    assert "https://iss#1/x" in done.out
    assert (await pilothouse("members", "remove", "ann")).out == "removed ann\n"
    assert "Red" in (await pilothouse("organisations", "list")).out
    assert "blue" in (await pilothouse("organisations", "make", "blue")).out
    assert (await pilothouse("ticket", "--account", "ann")).status == 0
    wrong = await pilothouse("members", "set", "ann")
    assert (wrong.status, "--role" in wrong.err) == (2, True)


async def test_help_and_version_need_no_server(pilothouse: Pilothouse, server: FakeServer) -> None:
    listed = await pilothouse("--help")
    assert listed.status == 0
    for name in [
        "serve",
        "run",
        "chat",
        "ps",
        "logs",
        "approve",
        "deny",
        "stop",
        "files",
        "ticket",
        "keys",
        "config",
        "doctor",
    ]:
        assert f"\n  {name} " in listed.out
    assert (await pilothouse("--version")).out.startswith("pilothouse ")
    assert server.calls == []
