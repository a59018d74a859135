"""The escape suite in every profile this machine can give, and in sandboxes that have holes on purpose.

What may fail where is written out here once more: a line that is added to the table of the product must be added here.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pilothouse.adapters.sandboxes import client, landlock
from pilothouse.adapters.sandboxes.bubblewrap import Bubblewrap
from pilothouse.adapters.sandboxes.escape import profiles, suite
from pilothouse.adapters.sandboxes.escape.attempt import BLOCKED, OPEN
from pilothouse.adapters.sandboxes.escape.examine import examine
from tests.adapters.sandboxes import lesser_host
from tests.journeys.plain import as_user
from tests.journeys.program import Program

HERE = Path(__file__).parent
UID = 60999
"""Nobody: no session of this machine gets that number soon."""
DISK = {"l.disk", "l.inodes"}
MEMORY = {"l.mem", "l.memfork", "l.cpu"}
UNSURE = {"l.cpu", "l.mem", "l.memfork", "l.disk", "p.core"}
"""A machine that is busy, small or full, or gives cores to a program, cannot tell; nothing else may be skipped."""
SMALL = {
    "PILOTHOUSE_LIMITS_MEMORY": "512M",
    "PILOTHOUSE_LIMITS_CPU": "1",
    "PILOTHOUSE_LIMITS_DISK": "1G",
    "PILOTHOUSE_LIMITS_FILES": "10000",
    "PILOTHOUSE_LIMITS_PROCESSES": "128",
}
"""So that the bombs are small too."""

root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give every session a uid of its own")


@dataclass
class Said:
    status: int
    text: str

    @property
    def verdicts(self) -> dict[str, str]:
        return dict(re.findall(r"^  ([a-z]+\.\S+) +(blocked|open|not applicable)", self.text, re.MULTILINE))

    def having(self, verdict: str) -> set[str]:
        return {name for name, found in self.verdicts.items() if found == verdict}


@contextlib.asynccontextmanager
async def place(uid: int | None = None, env: dict[str, str] | None = None) -> AsyncIterator[Program]:
    """A home of its own, and no process left."""
    with tempfile.TemporaryDirectory(prefix="ph-") as name:
        home = Path(name)
        home.chmod(0o755)
        program = Program(home, **(env or {}))
        if uid is not None:
            os.chown(home, uid, uid)
            program.prefix = as_user(uid, home)
        try:
            yield program
        finally:
            await program.stop()


async def escape(program: Program) -> Said:
    status, out, err = await program.cli("doctor", "--escape", timeout=300)
    return Said(status, out + err)


def check(said: Said, profile: str, may_fail: set[str]) -> None:
    assert f"profile: {profile}\n" in said.text, said.text
    assert len(said.verdicts) >= 84, said.text
    assert said.having("open") <= may_fail, said.text
    assert said.having("not applicable") <= UNSURE, said.text
    numbers = [len(said.having(v)) for v in ("blocked", "open", "not applicable")]
    assert said.text.rstrip().splitlines()[-1] == "{} passed, {} failed, {} skipped".format(*numbers)
    assert said.status == 0, said.text


@root
async def test_root_with_an_image() -> None:
    if not Path("/dev/loop-control").exists():
        pytest.skip("this machine has no loop devices, so no session can have a disk of its own")
    async with place(env=SMALL) as program:
        check(_with_cgroups(await escape(program)), "root with image", set())


@root
async def test_root_without_an_image() -> None:
    async with place(env=SMALL | {"PILOTHOUSE_LIMITS_IMAGE": "false"}) as program:
        check(_with_cgroups(await escape(program)), "root", DISK)


def _with_cgroups(said: Said) -> Said:
    lacking = [name for name in ("memory", "cpu") if f"{name} by cgroup" not in said.text]
    if lacking and "Limits: " in said.text:
        pytest.skip(f"this machine lets root make no control groups for {' and '.join(lacking)}")
    return said


async def test_an_ordinary_user() -> None:
    if os.geteuid() != 0:
        async with place(env=SMALL) as program:
            check(await escape(program), "unprivileged", DISK | MEMORY)
        return
    async with place(UID, SMALL) as program:
        check(await escape(program), "unprivileged", DISK | MEMORY)


@root
@pytest.mark.skipif(landlock.abi() < 2, reason="needs a kernel with Landlock")
async def test_reduced() -> None:
    """Without namespaces much is shut even for the session itself, so that nothing can be tried there."""
    async with place(env=SMALL | {"PILOTHOUSE_ALLOW_REDUCED": "true"}) as program:
        program.prefix = [sys.executable, lesser_host.__file__, "no-userns"]
        said = await escape(program)
    assert "profile: reduced\n" in said.text, said.text
    assert len(said.verdicts) >= 84, said.text
    assert said.having("open") <= {"s.unix", "s.abstract"}, said.text
    held = ("fs.", "k.", "id.", "t.")
    assert {v.split(".")[0] + "." for v in said.having("not applicable") - {"k.kcore"}}.isdisjoint(held), said.text
    assert said.status == 0, said.text


QUICK = tuple(group for group in suite.GROUPS if group != suite.LIMITS)
WITHOUT = {
    "net": {"s.abstract", "s.netunix", "s.loopback", "s.ifaces"},
    "filter": {
        "k.compat32", "k.io_uring", "k.keyring", "k.personality", "k.userfaultfd", "k.userns",
        "s.exotic", "s.vsock", "t.tiocsti", "t.tioclinux",
    },
    "binds": {
        "fs.world", "fs.symlink_read", "fs.symlink_write", "fs.write_sys", "fs.chmod_sys",
        "s.unix", "s.sysvshm", "s.devshm", "t.otherpts", "c.paths",
    },
}  # fmt: skip
MAYBE = {
    "net": {"s.direct", "s.metadata"},
    "filter": {"k.bpf", "k.perf", "k.kallsyms", "s.raw"},
    "binds": {"s.netunix", "t.tiocsti", "t.tioclinux", "t.report"},
}
"""Depends on the host: a route of its own; what its kernel gives to everybody or was built without; whether a session
can make a terminal among the host's, or else those controls fail; and how soon the canary closes a connection, as its
end of one that was made from inside is listed there."""


@root
@pytest.mark.parametrize("weakness", WITHOUT)
async def test_a_hole_is_seen(weakness: str) -> None:
    with tempfile.TemporaryDirectory(prefix="ph-") as name:
        home, runtime = Path(name, "h"), Path(name, "r")
        weak = (sys.executable, str(HERE / "weak_keeper.py"), weakness, "--no-proxy")
        sandboxes = await Bubblewrap.connect_keeper(home, runtime, argv=weak)
        try:
            report = await examine(sandboxes, home, runtime, isolation="namespaces", groups=QUICK)
        finally:
            await client.ask(runtime / "keeper.sock", {"verb": "stop_all"})
            await sandboxes.close()
        failed = {v.id: v.why for v in report.all if v.state == OPEN}
        found = set(failed)
        assert found >= WITHOUT[weakness] - {"k.compat32"}, failed
        assert found <= WITHOUT[weakness] | MAYBE[weakness], failed
        assert {v.id for v in report.unexpected} == found
        assert report.count(BLOCKED) > 50


def test_what_may_fail_is_as_written_here() -> None:
    expected = {
        "root with image": set[str](),
        "root": DISK,
        "unprivileged": DISK | MEMORY,
        "reduced": DISK | MEMORY | {"s.unix", "s.abstract"},
    }
    assert expected == profiles.PERMITTED
    known = {name for group in suite.GROUPS for name in suite.names(group)}
    assert len(known) >= 84
    assert known >= set().union(*profiles.PERMITTED.values())


def test_it_refuses_to_run_where_nothing_isolates(capsys: pytest.CaptureFixture[str]) -> None:
    assert suite.main([]) == 2
    assert "refused" in capsys.readouterr().err
