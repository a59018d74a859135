"""Real sandboxes: what is inside, what outlives what, and what is left afterwards."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import uuid
from pathlib import Path

import pytest

from pilothouse.adapters.sandboxes import checks, client, fdpass
from pilothouse.adapters.sandboxes.bubblewrap import Bubblewrap
from pilothouse.core.errors import BadRequest, Unavailable
from pilothouse.core.events import Source
from pilothouse.core.ids import SessionId
from pilothouse.engine.ports import SandboxSpec
from tests import disks
from tests.adapters.sandboxes.conftest import KEEPER, _end, processes, until


async def sh(sandboxes: Bubblewrap, session: SessionId, script: str) -> str:
    done = await sandboxes.run(session, ["sh", "-c", script], {}, 20)
    return str(done["output"]).strip()


def listeners(base: Path, session: SessionId, names: tuple[str, ...] = ("model", "egress")) -> list[socket.socket]:
    """What the proxy does."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(10)
        sock.connect(str(base / "r" / f"{session}.ctl"))
        lines = fdpass.Lines(sock)
        fdpass.send(sock, {"verb": "hello", "proto": 1})
        fdpass.wait(lines)
        fdpass.send(sock, {"verb": "listeners"})
        assert fdpass.wait(lines)["listeners"] == list(names)
        return [socket.socket(fileno=fd) for fd in lines.take_fds()]


async def keeper_pid(base: Path) -> int:
    reader, writer = await asyncio.open_unix_connection(base / "r" / "keeper.sock")
    writer.write(b'{"verb":"hello","proto":1}\n')
    pid = int(json.loads(await reader.readline())["pid"])
    writer.close()
    return pid


async def holder_pid(base: Path, session: SessionId) -> int:
    reader, writer = await asyncio.open_unix_connection(base / "r" / f"{session}.ctl")
    writer.write(b'{"verb":"hello","proto":1}\n')
    pid = int(json.loads(await reader.readline())["pid"])
    writer.close()
    return pid


async def test_the_probe_finds_isolation(sandboxes: Bubblewrap, base: Path) -> None:
    found = await sandboxes.probe()
    assert (found.isolation, found.usable, found.findings) == ("namespaces", True, ())
    assert not list((base / "h" / "sessions").iterdir())


def test_the_checks_see_holes_where_there_is_no_sandbox(tmp_path: Path) -> None:
    (tmp_path / "canary").write_text("x")
    holes = {name for name, why in checks.run(str(tmp_path / "canary")).items() if why}
    assert {"files", "filter", "privileges"} <= holes


async def test_inside(sandboxes: Bubblewrap, session: SessionId, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = await sandboxes.open(SandboxSpec(session, "echo", env={"COLOUR": "blue"}))
    assert (opened.alive, opened.runner) == (True, False)
    env = dict(line.split("=", 1) for line in (await sh(sandboxes, session, "env")).splitlines())
    assert env["ANTHROPIC_BASE_URL"] == "http://127.0.0.1:3129"
    assert env["HTTPS_PROXY"] == "http://127.0.0.1:3128"
    assert env["COLOUR"] == "blue"
    for name in set(os.environ) & set(env):
        assert name in {"PATH", "HOME", "USER", "LOGNAME", "SHELL", "TERM", "LANG", "TMPDIR", "PWD", "SHLVL", "_"} or (
            name.upper().endswith("_PROXY")
        ), name
    assert await sh(sandboxes, session, "pwd; id -u; hostname") == "/workspace\n1000\nsandbox"
    assert await sh(sandboxes, session, "ls /root /home /work 2>&1 | grep -v agent | grep -c :") != "0"
    assert "Permission denied" in await sh(sandboxes, session, "ls /proc/1/fd 2>&1")
    assert await sh(sandboxes, session, "cat /etc/pilothouse/sleep 2>&1 | tail -c 18") == "Permission denied"
    assert await sh(sandboxes, session, "kill -9 1; echo alive") == "alive"


async def test_the_bundled_agent_runs_inside(sandboxes: Bubblewrap, session: SessionId) -> None:
    await sandboxes.open(SandboxSpec(session, "claude"))
    said = await sh(sandboxes, session, "/opt/pilothouse/site*/claude_agent_sdk/_bundled/claude --version")
    assert said.endswith("(Claude Code)")


PLAIN = """
import sys
from pilothouse import keeper
from pilothouse.adapters.sandboxes import enter
enter.SLEEPER = "none"
sys.exit(keeper.main(sys.argv[1:]))
"""


@pytest.mark.parametrize("argv", [KEEPER, (sys.executable, "-c", PLAIN, "--no-proxy")], ids=["light", "plain"])
async def test_orphans_are_cleared_away(base: Path, session: SessionId, argv: tuple[str, ...]) -> None:
    """Also where no `env` can start a program that ignores the end of its children."""
    made = await Bubblewrap.connect_keeper(base / "h", base / "r", argv=argv)
    await made.open(SandboxSpec(session, "echo"))
    await sh(made, session, "for n in $(seq 30); do (sleep 0 &); done; sh -c '(sleep 0.3; echo > done) &'")
    assert ("python" in await sh(made, session, "tr '\\0' ' ' < /proc/1/cmdline")) is (argv is not KEEPER)
    assert "Permission denied" in await sh(made, session, "ls /proc/1/fd 2>&1")
    assert (
        await sh(made, session, "until [ -e done ]; do sleep 0.05; done; grep -l '^State:.Z' /proc/[0-9]*/status") == ""
    )
    assert await sh(made, session, "kill -9 1; kill -TERM 1; echo goes on") == "goes on"
    await _end(base, made)


async def test_c33_sessions_do_not_see_each_other_nor_the_host(sandboxes: Bubblewrap, base: Path) -> None:
    one, two = SessionId(str(uuid.uuid4())), SessionId(str(uuid.uuid4()))
    for session in (one, two):
        await sandboxes.open(SandboxSpec(session, "echo"))
    await sh(sandboxes, one, "echo mine > secret; sleep 1234 >/dev/null 2>&1 &")
    for path in (
        base / "h" / "sessions" / one / "workspace" / "secret",
        base / "h",
        base / "r",
        "/run/pilothouse-stage",
    ):
        assert "No such file" in await sh(sandboxes, two, f"ls {path} 2>&1")
    assert "1234" not in await sh(sandboxes, two, "cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
    if os.geteuid() == 0:
        owners = {(disks.own(base / "h", base / "r", s) / "workspace").stat().st_uid for s in (one, two)}
        assert len(owners) == 2
        assert 0 not in owners
        status = Path(f"/proc/{await holder_pid(base, one)}/status").read_text()
        assert any(f"Uid:\t{uid}\t" in status for uid in owners)


async def test_listeners_are_inside_and_accept_outside(sandboxes: Bubblewrap, base: Path, session: SessionId) -> None:
    await sandboxes.open(SandboxSpec(session, "echo"))
    for sock, port in zip(listeners(base, session), (3129, 3128), strict=True):
        talk = f"exec 3<>/dev/tcp/127.0.0.1/{port}; echo hello >&3; cat <&3"
        asked = asyncio.create_task(sandboxes.run(session, ["bash", "-c", talk], {}, 20))
        sock.settimeout(20)
        peer, _ = await asyncio.to_thread(sock.accept)
        assert await asyncio.to_thread(peer.recv, 100) == b"hello\n"
        peer.sendall(b"back")
        peer.close()
        sock.close()
        assert (await asked)["output"] == "back"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        probe.listen()
        port = probe.getsockname()[1]
        assert "refused" in await sh(sandboxes, session, f"bash -c 'exec 3<>/dev/tcp/127.0.0.1/{port}' 2>&1")


async def test_the_runner_is_started_linked_and_started_again(
    sandboxes: Bubblewrap, base: Path, session: SessionId
) -> None:
    with pytest.raises(Unavailable):
        await sandboxes.runner(session)
    await sandboxes.open(SandboxSpec(session, "echo"))
    with pytest.raises(Unavailable, match="no runner"):
        await sandboxes.connect(session)
    assert (await sandboxes.runner(session)).runner_started == 1
    assert (await sandboxes.runner(session)).runner_started == 1
    wire = await sandboxes.connect(session)
    first = json.loads(await wire.receive() or b"")["hello"]
    assert first["agent"] == "echo"
    waiting = asyncio.create_task(client.ask(base / "r" / f"{session}.ctl", {"verb": "wait"}))
    await sh(sandboxes, session, "pkill -9 -f pilothouse.runner || kill -9 $(pgrep -f pilothouse.runner)")
    assert (await waiting)["runnerExit"] == "signal 9"
    assert await wire.receive() is None
    await wire.close()
    again = await sandboxes.runner(session)
    assert (again.runner, again.runner_started) == (True, 2)
    wire = await sandboxes.connect(session)
    assert json.loads(await wire.receive() or b"")["hello"]["runnerId"] != first["runnerId"]
    await wire.close()


async def test_opening_at_once_makes_one(sandboxes: Bubblewrap, base: Path, session: SessionId) -> None:
    await asyncio.gather(*(sandboxes.open(SandboxSpec(session, "echo")) for _ in range(5)))
    assert len([pid for pid in processes(str(base)) if _parent_is(pid, await keeper_pid(base))]) == 1


def _parent_is(pid: int, parent: int) -> bool:
    try:
        return f"PPid:\t{parent}\n" in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


async def test_the_keeper_dies_and_nothing_else(sandboxes: Bubblewrap, base: Path, session: SessionId) -> None:
    await sandboxes.open(SandboxSpec(session, "echo"))
    await sandboxes.runner(session)
    wire = await sandboxes.connect(session)
    before = json.loads(await wire.receive() or b"")["hello"]["runnerId"]
    await wire.close()
    old = await keeper_pid(base)
    os.kill(old, signal.SIGKILL)
    await until(lambda: not Path(f"/proc/{old}/cmdline").exists() or not Path(f"/proc/{old}/cmdline").read_bytes())
    assert (await sandboxes.state(session)).runner
    assert (await sandboxes.open(SandboxSpec(session, "echo"))).runner
    assert await keeper_pid(base) != old
    told = await sandboxes._keeper({"verb": "status"})
    assert told["sessions"] == [session]
    assert [s.session for s in await sandboxes.list()] == [session]
    wire = await sandboxes.connect(session)
    assert json.loads(await wire.receive() or b"")["hello"]["runnerId"] == before
    await wire.close()
    other = SessionId(str(uuid.uuid4()))
    await sandboxes.open(SandboxSpec(other, "echo"))
    await sandboxes.delete(session)


async def test_the_holder_dies_and_everything_in_the_session(
    sandboxes: Bubblewrap, base: Path, session: SessionId
) -> None:
    await sandboxes.open(SandboxSpec(session, "echo"))
    await sandboxes.runner(session)
    mark = f"9{uuid.uuid4().int % 10**9}"
    await sh(sandboxes, session, f"setsid nohup sleep {mark} >/dev/null 2>&1 & echo started > kept")
    await until(lambda: bool(processes(mark)))
    os.kill(await holder_pid(base, session), signal.SIGKILL)
    await until(lambda: not processes(mark) and not processes(str(session)))
    assert not (await sandboxes.state(session)).alive
    assert (await sandboxes.open(SandboxSpec(session, "echo"))).alive
    assert await sh(sandboxes, session, "cat kept") == "started"


async def test_stopping_keeps_files_and_deleting_takes_them(
    sandboxes: Bubblewrap, base: Path, session: SessionId
) -> None:
    await sandboxes.open(SandboxSpec(session, "echo"))
    deep = "python3 -c \"import os\nfor _ in range(3000): os.mkdir('d'); os.chdir('d')\""
    await sh(sandboxes, session, f"echo x > a; ln -s /etc p; mkdir locked; touch locked/f; chmod 0 locked; {deep}")
    mark = f"8{uuid.uuid4().int % 10**9}"
    await sh(sandboxes, session, f"(trap '' TERM; sleep {mark}) >/dev/null 2>&1 &")
    await sandboxes.stop(session)
    await until(lambda: not processes(mark))
    assert (await sandboxes.state(session)).exit == ""
    assert [e.name for e in await sandboxes.files(session).list("")] == ["d", "locked", "a", "p"]
    assert (await sandboxes.open(SandboxSpec(session, "echo"))).alive
    await sandboxes.delete(session)
    await sandboxes.delete(session)
    assert not (base / "h" / "sessions" / session).exists()
    assert Path("/etc/passwd").exists()


async def test_an_end_by_itself_is_kept_until_asked(sandboxes: Bubblewrap, base: Path, session: SessionId) -> None:
    await sandboxes.open(SandboxSpec(session, "echo"))
    (first,) = [pid for pid in processes("infinity") if _parent_is(pid, await _bwrap(base, session))]
    os.kill(first, signal.SIGKILL)
    while (state := await sandboxes.state(session)).alive:
        await asyncio.sleep(0.02)
    assert state.exit == "signal 9"
    assert not state.runner
    with pytest.raises(Unavailable, match="ended"):
        await sandboxes.runner(session)
    assert (await sandboxes.open(SandboxSpec(session, "echo"))).alive


async def _bwrap(base: Path, session: SessionId) -> int:
    """The holder's child."""
    holder = await holder_pid(base, session)
    for pid in processes("--die-with-parent"):
        if _parent_is(pid, holder):
            return pid
    raise AssertionError("no bwrap")


async def test_bad_sources_and_names_change_nothing(sandboxes: Bubblewrap, base: Path, session: SessionId) -> None:
    for source in (Source(git="file:///etc"), Source(git="-x"), Source(dir="/"), Source(git="https://a", dir="/tmp")):
        with pytest.raises(BadRequest):
            await sandboxes.open(SandboxSpec(session, "echo", source))
    for spec in (
        SandboxSpec(session, "../x"),
        SandboxSpec(session, "echo", env={"LD_PRELOAD": "x"}),
        SandboxSpec(session, "echo", env={"A B": "x"}),
    ):
        with pytest.raises(Unavailable):
            await sandboxes.open(spec)
    assert not list((base / "h" / "sessions").iterdir())


async def test_a_runtime_path_too_long_is_said(base: Path) -> None:
    with pytest.raises(Unavailable, match="too long for unix sockets"):
        await Bubblewrap.connect_keeper(base / "h", base / ("r" * 100))
