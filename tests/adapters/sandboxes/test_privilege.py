"""Root given up for good, in processes of their own: what is reached then, what is not, what cannot be replaced."""

from __future__ import annotations

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

from pilothouse.adapters.sandboxes import client, owner
from pilothouse.adapters.sandboxes.layout import Layout, LayoutError, make, shared
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
        from pilothouse.adapters.sandboxes.layout import Layout
        from pilothouse.adapters.sandboxes.owner import Owner
        layout = Layout(Path(sys.argv[1]), Path(sys.argv[2]))
        server = Owner({UID}, {GID})
        argv = [sys.executable, "-m", "pilothouse.keeper", "--no-proxy", "--user", server.word]
        start = privilege.starter(layout, argv)
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
