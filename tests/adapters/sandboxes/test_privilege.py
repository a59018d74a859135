"""Root given up for good, in processes of their own: what is reached then, what is not, what cannot be replaced."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import socket
import subprocess
import sys
import textwrap
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from pilothouse import bootstrap, config
from pilothouse.adapters.sandboxes import client, owner
from pilothouse.adapters.sandboxes.layout import Layout, LayoutError, make, shared
from pilothouse.adapters.sandboxes.notes import Notes
from pilothouse.core.errors import Unavailable
from pilothouse.core.events import Source
from pilothouse.core.ids import SessionId
from tests.adapters.sandboxes.conftest import KEEPER, processes, until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root has root to give up")

UID, GID = 2101, 2102
SERVER = owner.Owner(UID, GID)


@pytest.fixture(autouse=True)
def _passable(base: Path) -> None:
    base.chmod(0o711)


def _child(code: str, *arguments: object) -> dict[str, object]:
    """What a fresh process prints as JSON."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


BECOME = """
    import json, os, sys
    from pathlib import Path
    from pilothouse.adapters.sandboxes.layout import LayoutError
    from pilothouse.adapters.sandboxes.owner import Owner
    from pilothouse.adapters.sandboxes.privilege import become, own_parts
    closed, needed = Path(sys.argv[1]), [Path(p) for p in sys.argv[2:]]
    try:
        become(Owner(2101, 2102), [*needed, *own_parts()])
    except LayoutError as error:
        print(json.dumps({"refused": str(error)}))
        sys.exit()
    def works(act):
        try:
            act()
            return True
        except OSError as error:
            return error.strerror
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    import email.mime.audio  # a module that nothing has loaded yet
    print(json.dumps({
        "uids": status["Uid"].split(), "gids": status["Gid"].split(), "groups": status["Groups"].split(),
        "caps": [status[c].strip() for c in ("CapEff", "CapPrm", "CapAmb")], "nnp": status["NoNewPrivs"].strip(),
        "back": works(lambda: os.setuid(0)),
        "here": sorted(os.listdir(needed[0])), "around": works(lambda: os.listdir(closed)),
        "secret": works(lambda: (closed / "secret").read_text()),
        "write": works(lambda: (needed[0] / "mine").write_text("x")),
        "above": works(lambda: (closed / "made").write_text("x")),
    }))
"""


def _tree(base: Path) -> tuple[Path, Path]:
    """A directory of root's that is closed, with one in it that is shared, and a secret beside it."""
    closed = base / "closed"
    needed = closed / "deep" / "er" / "home"
    needed.mkdir(parents=True)
    for path in (closed, closed / "deep", closed / "deep" / "er"):
        path.chmod(0o700)
    (closed / "secret").write_text("root's")
    (needed / "theirs").write_text("x")
    os.chown(needed, UID, GID)
    return closed, needed


def test_root_is_gone_and_what_is_needed_is_there(base: Path) -> None:
    closed, needed = _tree(base)
    base.chmod(0o700)
    told = _child(BECOME, closed, needed, base / "none")
    assert told["uids"] == ["2101"] * 4
    assert told["gids"] == ["2102"] * 4
    assert told["groups"] == []
    assert told["caps"] == ["0" * 16] * 3
    assert told["nnp"] == "1"
    assert told["back"] == "Operation not permitted"
    assert told["here"] == ["theirs"]
    assert told["write"] is True
    assert (needed / "mine").read_text() == "x", "the same directory as everybody's"
    assert told["above"] is not True


def test_what_lies_beside_it_is_out_of_sight(base: Path) -> None:
    closed, needed = _tree(base)
    told = _child(BECOME, closed, needed)
    assert told["secret"] == "No such file or directory"
    assert told["around"] == "Permission denied"
    assert (closed / "secret").exists(), "for everybody else it is where it was"


def test_what_cannot_be_read_is_named(base: Path) -> None:
    closed, needed = _tree(base)
    os.chown(needed, 0, 0)
    needed.chmod(0o700)
    assert str(needed) in str(_child(BECOME, closed, needed)["refused"])


# --- directories that two users share ---


@pytest.fixture
def layout(base: Path) -> Layout:
    home, runtime = base / "h", base / "h" / "run"
    owner.share(home, runtime, SERVER)
    return make(home, runtime)


def _as_server(act: Callable[[], object]) -> str:
    """What the server's user gets: "ok" or why not."""
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        said = b"ok"
        try:
            os.setgroups([])
            os.setresgid(GID, GID, GID)
            os.setresuid(UID, UID, UID)
            act()
        except OSError as error:
            said = str(error.strerror).encode()
        finally:
            theirs.sendall(said)
            os._exit(0)
    theirs.close()
    os.waitpid(pid, 0)
    with ours:
        return ours.recv(1000).decode()


def test_the_server_makes_files_and_replaces_none_of_the_keepers(layout: Layout) -> None:
    (layout.home / "keeper.log").write_text("")
    assert _as_server(lambda: (layout.home / "log.sqlite").write_text("x")) == "ok"
    assert _as_server(lambda: make(layout.home, layout.runtime)) == "ok"
    for act in (
        lambda: layout.sessions.rename(layout.home / "other"),
        lambda: layout.sessions.rmdir(),
        lambda: (layout.sessions / "x").mkdir(),
        lambda: (layout.home / "keeper.log").unlink(),
        lambda: (layout.home / "keeper.log").rename(layout.home / "k"),
        lambda: layout.home.chmod(0o777),
    ):
        assert _as_server(act) in {"Operation not permitted", "Permission denied"}


def test_nobody_else_comes_in(layout: Layout) -> None:
    done = subprocess.run(["ls", str(layout.home)], user=2103, group=2103, extra_groups=[], check=False, stderr=-3)
    assert done.returncode != 0


def test_files_of_a_server_that_was_root_are_handed_over_links_are_not(base: Path) -> None:
    home, victim = base / "h", base / "victim"
    (home / "proxy").mkdir(parents=True, mode=0o700)
    home.chmod(0o700)
    victim.write_text("root's")
    (home / "log.sqlite").write_text("x")
    (home / "proxy" / "usage.ndjson").write_text("x")
    (home / "local.key").symlink_to(victim)
    os.link(victim, home / "server.json")
    owner.share(home, base / "r", SERVER)
    assert (home / "log.sqlite").stat().st_uid == (home / "proxy" / "usage.ndjson").stat().st_uid == UID
    assert victim.stat().st_uid == 0
    assert shared(home) and shared(base / "r")


def test_a_home_of_somebody_else_is_refused(base: Path) -> None:
    (base / "h").mkdir()
    os.chown(base / "h", 2103, 2103)
    with pytest.raises(LayoutError, match="2103"):
        owner.share(base / "h", base / "r", SERVER)


def test_who_it_becomes(base: Path) -> None:
    home = base / "h"
    home.mkdir()
    assert owner.chosen("root", home, base) is None
    assert owner.chosen("2104", home, base) == owner.Owner(2104, 2104)
    first = owner.chosen("", home, base)
    assert first is not None and first.uid and first == owner.chosen("", home, base), "the same at the next start"
    for wrong in ("0", "0:5", "no-such-user", "-1", "1.5"):
        with pytest.raises(LayoutError):
            owner.chosen(wrong, home, base)
    (home / "server-uid").unlink()
    (home / "server-uid").symlink_to("/etc/hostname")
    with pytest.raises(OSError, match="levels"):
        owner.chosen("", home, base)


async def test_a_root_keeper_writes_through_nothing_that_the_server_has_laid(layout: Layout, base: Path) -> None:
    victim = base / "victim"
    victim.write_text("root's")
    for path in (layout.log, layout.runtime / "start.lock", layout.runtime / "proxy.pid"):
        assert _as_server(functools.partial(path.symlink_to, victim)) == "ok"
    argv = [*KEEPER[:-1], "--user", SERVER.word]
    with pytest.raises(OSError, match="symbolic links"):
        client.start(layout, argv)
    for path in (layout.log, layout.runtime / "start.lock"):
        path.unlink()
    client.start(layout, argv)
    status = await client.ask(layout.keeper, {"verb": "status"})
    await until(lambda: not (layout.runtime / "proxy.pid").is_symlink())
    assert victim.read_text() == "root's"
    assert layout.keeper.stat().st_uid == UID, "the server may knock"
    await client.ask(layout.keeper, {"verb": "stop_all"})
    assert status["ok"]
    await until(lambda: not processes(str(base)))


async def test_a_session_of_a_server_without_root(layout: Layout, base: Path) -> None:
    """The server's user opens one through its starter, and can end it; others cannot knock."""
    session = str(uuid.uuid4())
    code = f"""
        import asyncio, json, sys
        from pathlib import Path
        from pilothouse.adapters.sandboxes import client, privilege
        from pilothouse.adapters.sandboxes.launcher import Launcher
        from pilothouse.adapters.sandboxes.layout import Layout
        from pilothouse.adapters.sandboxes.owner import Owner
        layout = Layout(Path(sys.argv[1]), Path(sys.argv[2]))
        server = Owner({UID}, {GID})
        argv = [sys.executable, "-m", "pilothouse.keeper", "--no-proxy", "--user", server.word]
        start = Launcher.fork().order(layout, argv)
        privilege.become(server, [layout.home, layout.runtime, *privilege.own_parts()])
        async def main():
            await client.ensure_keeper(layout.home, layout.runtime, start)
            ask = {{"verb": "open", "session": "{session}", "sandbox": "bubblewrap", "agent": "echo", "env": {{}}}}
            opened = await client.ask(layout.keeper, ask)
            control = layout.control("{session}")
            done = await client.ask(control, {{"verb": "run", "argv": ["id", "-u"]}})
            state = await client.ask(control, {{"verb": "state"}})
            stopped = await client.ask(control, {{"verb": "stop"}})
            control.unlink()
            await client.ask(layout.keeper, {{"verb": "delete", "session": "{session}"}})
            await client.ask(layout.keeper, {{"verb": "stop_all"}})
            await client.ensure_keeper(layout.home, layout.runtime, start)
            again = await client.ask(layout.keeper, {{"verb": "stop_all"}})
            print(json.dumps({{"opened": opened, "id": done["output"], "alive": state["alive"], "again": again["ok"]}}))
        asyncio.run(main())
    """
    told = _child(code, layout.home, layout.runtime)
    assert told["opened"] == {"ok": True, "started": True}
    assert (told["id"], told["alive"], told["again"]) == ("1000\n", True, True)
    await until(lambda: not processes(str(base)))


# --- what a server's user that has been taken over could lay there ---


def test_a_tree_that_is_the_servers_is_never_walked_by_root(layout: Layout, base: Path) -> None:
    victim = base / "etc"
    victim.mkdir()
    (victim / "shadow").write_text("root's")
    assert _as_server(functools.partial((layout.home / "proxy").symlink_to, victim)) == "ok"
    assert _as_server(functools.partial((layout.home / "sources").mkdir, 0o700)) == "ok"
    assert _as_server(functools.partial((layout.home / "sources" / "in").symlink_to, victim)) == "ok"
    owner.share(layout.home, layout.runtime, SERVER)
    assert victim.stat().st_uid == (victim / "shadow").stat().st_uid == 0


def test_root_takes_no_settings_from_the_server(layout: Layout) -> None:
    laid = layout.home / "pilothouse.toml"
    assert _as_server(functools.partial(laid.write_text, '[server]\nuser = "root"\n')) == "ok"
    env = {"PILOTHOUSE_HOME": str(layout.home), "PILOTHOUSE_RUNTIME": str(layout.runtime)}
    with pytest.raises(config.ConfigError, match="root takes no settings"):
        config.load(env)


@pytest.mark.parametrize("name", ["symlink_to", "hardlink_to"])
def test_the_lock_is_opened_through_nothing(layout: Layout, base: Path, name: str) -> None:
    victim = base / "victim"
    victim.write_text("")
    getattr(layout.home / "server.lock", name)(victim)
    env = {"PILOTHOUSE_HOME": str(layout.home), "PILOTHOUSE_RUNTIME": str(layout.runtime)}
    with pytest.raises(bootstrap.CannotStartError, match=r"server\.lock"):
        bootstrap.only_one(config.load(env))


def test_a_note_is_written_through_nothing(layout: Layout, base: Path) -> None:
    victim, session = base / "victim", SessionId(str(uuid.uuid4()))
    victim.write_text("root's")
    assert _as_server(functools.partial((layout.home / "sources").mkdir, 0o700)) == "ok"
    assert _as_server(functools.partial((layout.home / "sources" / f"{session}.new").symlink_to, victim)) == "ok"
    Notes(layout).write(session, Source(git="https://example.org/x"))
    assert victim.read_text() == "root's"
    assert Notes(layout).read(session) == Source(git="https://example.org/x")
    (layout.home / "sources").rename(layout.home / "old")
    (layout.home / "sources").symlink_to(base)
    with pytest.raises(Unavailable):
        Notes(layout).write(SessionId(str(uuid.uuid4())), Source(git="https://example.org/y"))


async def test_what_the_keeper_refuses_its_server(layout: Layout, base: Path) -> None:
    """`host` would be root; a NUL would put options into the sandbox's arguments; the slow are not waited for."""
    client.start(layout, [*KEEPER, "--user", SERVER.word])
    session = str(uuid.uuid4())
    ask = {"verb": "open", "session": session, "sandbox": "bubblewrap", "agent": "echo", "env": {}}
    with pytest.raises(Unavailable, match="would run it as root"):
        await client.ask(layout.keeper, ask | {"sandbox": "host"})
    with pytest.raises(Unavailable, match="absolute path"):
        await client.ask(layout.keeper, ask | {"dir": "/tmp\0/workspace\0--share-net"})
    with socket.socket(socket.AF_UNIX) as forged:
        forged.bind(str(layout.control(session)))
        forged.listen(1)
        task = asyncio.create_task(client.ask(layout.keeper, ask))
        forged.setblocking(False)
        talking, _ = await asyncio.get_running_loop().sock_accept(forged)
        with talking:
            while not task.done():
                with contextlib.suppress(OSError):
                    await asyncio.get_running_loop().sock_sendall(talking, b" ")
                await asyncio.sleep(0.2)
    with pytest.raises(Unavailable, match="does not answer"):
        await task
    await client.ask(layout.keeper, {"verb": "stop_all"})
    await until(lambda: not processes(str(base)))


def test_nothing_is_imported_from_where_somebody_stands(base: Path) -> None:
    """A repository, or /tmp, with a module of our name."""
    (base / "pilothouse").mkdir()
    (base / "pilothouse" / "__init__.py").write_text(f"open({str(base / 'ran')!r}, 'w')\n")
    code = f"""
        import json, os, sys
        sys.path = [p for p in sys.path if p]
        from pathlib import Path
        from pilothouse.adapters.sandboxes import client, kept
        from pilothouse.adapters.sandboxes.layout import make
        os.chdir({str(base)!r})
        found = make(Path({str(base / "h2")!r}), Path({str(base / "r2")!r}))
        client.start(found, [*kept.KEEPER, "--no-proxy"])
        print(json.dumps({{"up": found.keeper.exists()}}))
    """
    assert _child(code)["up"] is True
    assert not (base / "ran").exists()


async def test_a_session_that_was_half_made_does_not_run_as_root(layout: Layout, base: Path) -> None:
    session = str(uuid.uuid4())
    own = layout.session(session)
    for path in (own, own / "home", own / "workspace"):
        path.mkdir()
    client.start(layout, [*KEEPER, "--user", SERVER.word])
    ask = {"verb": "open", "session": session, "sandbox": "bubblewrap", "agent": "echo", "env": {}}
    assert (await client.ask(layout.keeper, ask))["started"] is True
    assert (own / "home").stat().st_uid == (own / "workspace").stat().st_uid >= 60_001
    await client.ask(layout.keeper, {"verb": "stop_all"})
    await until(lambda: not processes(str(base)))
