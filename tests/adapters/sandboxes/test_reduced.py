"""Real sessions without namespaces: what still keeps them in, and that nothing of them is left."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import tempfile
import uuid
from collections.abc import AsyncIterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from pilothouse.adapters.sandboxes import landlock, probe, profile, reduced
from pilothouse.adapters.sandboxes.bubblewrap import Bubblewrap
from pilothouse.core.errors import BadRequest, Unavailable
from pilothouse.core.events import Source
from pilothouse.core.ids import SessionId
from pilothouse.engine.ports import SandboxSpec
from tests import disks
from tests.adapters.sandboxes.conftest import KEEPER, _end, processes, until
from tests.adapters.sandboxes.test_bubblewrap import holder_pid, keeper_pid, listeners, sh
from tests.adapters.sandboxes.test_levels import LANDLOCK, LESSER, ROOT

pytestmark = [ROOT, LANDLOCK]


@pytest.fixture
async def alone(base: Path) -> AsyncIterator[Bubblewrap]:
    """On a host where nobody may make a user namespace."""
    made = await Bubblewrap.connect_keeper(base / "h", base / "r", argv=(*LESSER, "no-userns", *KEEPER))
    made.allow_reduced = True
    yield made
    await _end(base, made)


async def python(sandboxes: Bubblewrap, session: SessionId, code: str) -> str:
    done = await sandboxes.run(session, ["python3", "-c", code], {}, 20)
    return str(done["output"]).strip()


def _of(uid: int) -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if f"\nUid:\t{uid}\t" in (entry / "status").read_text() and (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def _status(pid: int) -> str:
    """Nothing when it has ended meanwhile."""
    try:
        return Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return ""


async def test_a_session_lives_and_works(alone: Bubblewrap, base: Path, session: SessionId) -> None:
    assert (await alone.open(SandboxSpec(session, "echo"))).alive
    assert (await alone.probe()).isolation == "reduced"
    env = dict(line.split("=", 1) for line in (await sh(alone, session, "env")).splitlines())
    assert not [name for name in env if name.lower().endswith("_proxy")]
    assert await sh(alone, session, "echo $(id -u) $(pwd)") == f"{_uid(base, session)} {env['PWD']}"
    git = "git init -q . && touch a && git add a && git -c user.name=a -c user.email=b commit -qm x"
    git += " && git log --format=%s"
    assert await sh(alone, session, git) == "x"
    assert await sh(alone, session, "bash -c 'cat <(echo piped)'; echo x > $TMPDIR/y && cat $TMPDIR/y") == "piped\nx"
    assert (await alone.runner(session)).runner
    wire = await alone.connect(session)
    assert json.loads(await wire.receive() or b"")["hello"]["agent"] == "echo"
    await wire.close()
    assert {e.name for e in await alone.files(session).list("")} == {"a", ".git"}
    claude = Path(str(find_spec("claude_agent_sdk").origin)).parent  # type: ignore[union-attr]
    found = f"ls -d /run/pilothouse-stage/part*/claude_agent_sdk {claude} 2>/dev/null | head -1"
    assert (await sh(alone, session, f"$({found})/_bundled/claude --version")).endswith("(Claude Code)")
    await alone.delete(session)
    assert not (base / "h" / "sessions" / session).exists()


def _uid(base: Path, session: SessionId) -> int:
    return (disks.own(base / "h", base / "r", session) / "home").stat().st_uid


async def test_the_model_is_reached_and_only_by_its_own_session(alone: Bubblewrap, base: Path) -> None:
    one, two = SessionId(str(uuid.uuid4())), SessionId(str(uuid.uuid4()))
    for session in (one, two):
        await alone.open(SandboxSpec(session, "echo"))
    (model,) = listeners(base, one, ("model",))
    talk = "import os,socket,sys;s=socket.socket(socket.AF_UNIX);s.connect({});s.sendall(b'hello');print(s.recv(9))"
    own = "os.environ['ANTHROPIC_UNIX_SOCKET']"
    asked = asyncio.create_task(python(alone, one, talk.format(own)))
    model.settimeout(20)
    peer, _ = await asyncio.to_thread(model.accept)
    assert await asyncio.to_thread(peer.recv, 100) == b"hello"
    peer.sendall(b"back")
    peer.close()
    assert await asked == "b'back'"
    others = f"{own}.replace({str(two)!r}, {str(one)!r})"
    assert "PermissionError" in await python(alone, two, talk.format(others))
    model.close()


async def test_two_that_want_to_meet_cannot(alone: Bubblewrap, base: Path) -> None:
    one, two = SessionId(str(uuid.uuid4())), SessionId(str(uuid.uuid4()))
    for session in (one, two):
        await alone.open(SandboxSpec(session, "echo"))
    serve = "import socket,os;s=socket.socket(1);s.bind('door');s.listen();os.chmod('door',0o777);os.chmod('.',0o777)"
    serve += ";os.system('(sleep 30) >/dev/null 2>&1 &');print(os.getcwd())"
    where = await python(alone, one, serve)
    reach = f"import socket;socket.socket(1).connect({where + '/door'!r})"
    assert "PermissionError" in await python(alone, two, reach)


async def test_what_lies_outside_stays_outside(alone: Bubblewrap, base: Path) -> None:
    one, two = SessionId(str(uuid.uuid4())), SessionId(str(uuid.uuid4()))
    for session in (one, two):
        await alone.open(SandboxSpec(session, "echo"))
    place = await sh(alone, one, "echo mine > secret; chmod -R 777 . ; chmod 777 ..; pwd")
    with tempfile.TemporaryDirectory(prefix="ph-open-") as directory:
        Path(directory).chmod(0o777)
        open_to_all = Path(directory, "file")
        open_to_all.write_text("x")
        open_to_all.chmod(0o666)
        tried = (
            f"cat {place}/secret; cat {open_to_all}; echo y > {open_to_all}; echo y > {directory}/new; ls {directory}"
        )
        assert (await sh(alone, two, f"({tried}) 2>&1")).count("ermission denied") == 5
        assert (await sh(alone, two, f"ln {open_to_all} here 2>&1; truncate -s0 {open_to_all} 2>&1")).count(
            "denied"
        ) >= 1
        assert open_to_all.read_text() == "x"
        assert [p.name for p in Path(directory).iterdir()] == ["file"]
    for path in ("/proc/1/cmdline", "/proc/self/status", "/proc/net/unix", "/sys/class/net", "/dev/shm", "/tmp"):
        assert "ermission denied" in await sh(alone, two, f"ls {path}/. 2>&1; cat {path} 2>&1"), path
    assert "ermission denied" in await sh(alone, two, f"ls {base / 'r'} 2>&1")


async def test_no_socket_leads_to_the_network_or_across(alone: Bubblewrap, session: SessionId) -> None:
    await alone.open(SandboxSpec(session, "echo"))
    tries = "import socket\nfor f in (2,10,16,17,40):\n try: socket.socket(f)\n except OSError as e: print(e.errno)"
    assert (await python(alone, session, tries)).split() == ["97"] * 5
    assert "not permitted" in await python(alone, session, "import socket;socket.socket(1,2)")
    names = "import socket;print(socket.if_nameindex())"
    assert "OSError" in await python(alone, session, names)
    ioctl = "import fcntl,socket;fcntl.ioctl(socket.socket(1), 0x8910, bytearray(40))"  # SIOCGIFNAME
    assert "not permitted" in await python(alone, session, ioctl)
    if landlock.abi() >= landlock.SIGNALS_ABI:
        name = f"\0{uuid.uuid4()}"
        with socket.socket(socket.AF_UNIX) as abstract:
            abstract.bind(name)
            abstract.listen()
            reach = f"import socket;socket.socket(1).connect({name!r})"
            assert "not permitted" in await python(alone, session, reach)


async def test_processes_outside_are_neither_signalled_nor_read(
    alone: Bubblewrap, base: Path, session: SessionId
) -> None:
    await alone.open(SandboxSpec(session, "echo"))
    pids = [os.getpid(), await keeper_pid(base)]
    if landlock.abi() >= landlock.SIGNALS_ABI:
        pids.append(await holder_pid(base, session))  # of the same uid
    for pid in pids:
        assert "not permitted" in await sh(alone, session, f"kill -0 {pid} 2>&1 || kill -0 {pid} 2>&1"), pid
    assert "not permitted" in await python(alone, session, f"import resource;resource.prlimit({pids[-1]}, 7, (1, 1))")


async def test_the_end_of_the_holder_is_the_end_of_all(alone: Bubblewrap, base: Path, session: SessionId) -> None:
    """Even if the first process is stopped, so that it cannot sweep: the keeper does."""
    await alone.open(SandboxSpec(session, "echo"))
    uid = _uid(base, session)
    await sh(alone, session, "setsid sleep 1000 >/dev/null 2>&1 & (sleep 0.2; kill -STOP $PPID) >/dev/null 2>&1 & true")
    await until(lambda: any("\nState:\tT" in _status(pid) for pid in _of(uid)))
    os.kill(await holder_pid(base, session), signal.SIGKILL)
    await until(lambda: not _of(uid))
    assert (await alone.open(SandboxSpec(session, "echo"))).alive


async def test_whoever_ends_the_first_process_ends_the_session(
    alone: Bubblewrap, base: Path, session: SessionId
) -> None:
    await alone.open(SandboxSpec(session, "echo"))
    uid = _uid(base, session)
    with pytest.raises(Unavailable):
        await sh(alone, session, "setsid sleep 1000 >/dev/null 2>&1 & kill -9 $PPID; sleep 9")
    await until(lambda: len(_of(uid)) == 1)  # the holder, which tells how it ended
    assert (await alone.state(session)).exit == "signal 9"
    await alone.stop(session)
    await until(lambda: not _of(uid))


async def test_nothing_is_cloned_without_a_network(alone: Bubblewrap, session: SessionId) -> None:
    with pytest.raises(BadRequest, match="no network"):
        await alone.open(SandboxSpec(session, "echo", Source(git="https://example.org/a.git")))
    await until(lambda: not processes(str(session)))


def test_only_with_a_uid_of_its_own() -> None:
    for uid in (None, 0):
        with pytest.raises(reduced.Unsafe, match="not root"):
            reduced.check(uid)


def test_nothing_that_everybody_may_write_is_among_the_rules() -> None:
    place = profile.Place("/nowhere/etc", "/s/home", "/s/workspace")
    inside = profile.Interpreter("/p/bin/python", (("/p", "/opt/p"),), ("/app",), "", "3")
    own = {"/s/home", "/s/workspace"}
    for rule in reduced.rules(place, inside):
        assert rule.path in own or not rule.rights & (landlock.MAKE_REG | landlock.REFER | landlock.REMOVE_FILE)
        assert not rule.path.startswith(("/tmp", "/dev/shm", "/run", "/root", "/home", "/var"))
        assert rule.path not in {"/", "/etc", "/dev", "/proc", "/sys"}
    assert len(probe.holes({})) == 1
