"""Who forks holders and who starts programs: what they have of their parents, and what their end costs."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import uuid
from pathlib import Path

import pytest

from pilothouse.adapters.sandboxes import client
from pilothouse.adapters.sandboxes.bubblewrap import Bubblewrap
from pilothouse.adapters.sandboxes.zygote import NAME
from pilothouse.core.errors import Unavailable
from pilothouse.core.ids import SessionId
from pilothouse.engine.ports import SandboxSpec
from tests.adapters.sandboxes.conftest import _end, comm, until
from tests.adapters.sandboxes.test_bubblewrap import holder_pid, keeper_pid, sh


def children(pid: int) -> list[int]:
    return [int(found) for found in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def zygote_pid(base: Path) -> int:
    """Of the one that there is: it has its name a moment later than it is forked."""
    keeper = await keeper_pid(base)

    def named() -> list[int]:
        return [pid for pid in children(keeper) if comm(pid) == NAME.decode()]

    await until(lambda: len(named()) == 1)
    return named()[0]


def held(pid: int) -> list[str]:
    """What its descriptors are, but for the three of everybody."""
    fds = Path(f"/proc/{pid}/fd")
    return sorted(os.readlink(fd).split(":")[0] for fd in fds.iterdir() if int(fd.name) > 2)


async def test_it_holds_nothing_of_any_session(sandboxes: Bubblewrap, base: Path, session: SessionId) -> None:
    other = SessionId(str(uuid.uuid4()))
    for name in (session, other):
        await sandboxes.open(SandboxSpec(name, "echo"))
        assert await sh(sandboxes, name, "echo here") == "here"
    assert held(await zygote_pid(base)) == ["socket"]  # to its keeper

    os.kill(await zygote_pid(base), signal.SIGKILL)
    third = SessionId(str(uuid.uuid4()))
    await sandboxes.open(SandboxSpec(third, "echo"))
    assert held(await zygote_pid(base)) == ["socket"]  # a new one, forked beside three sessions
    for name in (session, other, third):
        assert await sh(sandboxes, name, "echo here") == "here"


async def test_a_holder_that_ends_is_not_left_behind(sandboxes: Bubblewrap, base: Path, session: SessionId) -> None:
    await sandboxes.open(SandboxSpec(session, "echo"))
    zygote, holder = await zygote_pid(base), await holder_pid(base, session)
    assert holder in children(zygote)
    os.kill(holder, signal.SIGKILL)
    await until(lambda: not children(zygote))
    assert not (await sandboxes.state(session)).alive
    await sandboxes.open(SandboxSpec(session, "echo"))
    assert await sh(sandboxes, session, "echo here") == "here"


async def test_programs_begin_as_programs_do(sandboxes: Bubblewrap, session: SessionId) -> None:
    """Nothing of what their starter ignores, holds, may or is called is theirs."""
    await sandboxes.open(SandboxSpec(session, "echo"))
    assert await sh(sandboxes, session, "cat /proc/self/oom_score_adj") == "500"
    ignored = int(await sh(sandboxes, session, "sed -n 's/^SigIgn:.//p' /proc/self/status"), 16)
    assert ignored & ~(0b11 << 31) == 0  # two are the C library's own: as they were when the tests were started
    assert await sh(sandboxes, session, "sed -n 's/^SigBlk:.//p' /proc/self/status | tr -d 0") == ""
    assert await sh(sandboxes, session, "sed -n 's/^Cap...:.//p' /proc/self/status | tr -d '0\\n'") == ""
    assert await sh(sandboxes, session, "ls /proc/self/fd | wc -l") == "4"  # three, and the directory
    for number in ("INT", "HUP", "PIPE", "TERM", "QUIT", "XFSZ"):
        said = await sh(sandboxes, session, f"exec 2>&-; sh -c 'kill -{number} $$; echo goes on' || echo ends")
        assert said == "ends"


async def test_no_argument_of_the_host_is_seen_inside(sandboxes: Bubblewrap, base: Path, session: SessionId) -> None:
    """A program is a fork of its starter for a moment: that has no arguments."""
    await sandboxes.open(SandboxSpec(session, "echo"))
    watch = (
        "python3 -c '"
        "import glob, os\n"
        "seen = set()\n"
        'while not os.path.exists("enough"):\n'
        '  for name in glob.glob("/proc/[0-9]*/cmdline"):\n'
        "    try: seen.add(open(name).read())\n"
        "    except OSError: pass\n"
        'print(len(seen), *(s for s in seen if "kee" "per" in s or "--ho" "me" in s))\''
    )
    watching = asyncio.create_task(sh(sandboxes, session, watch))
    for _ in range(60):
        await sandboxes.run(session, ["true"], {}, 20)
    await sh(sandboxes, session, "touch enough")
    seen = (await watching).split(maxsplit=1)
    assert int(seen[0]) > 2  # it did look
    assert len(seen) == 1, seen


UMASK = """
import os, sys
os.umask(0o077)
from pilothouse import keeper
sys.exit(keeper.main(sys.argv[1:]))
"""


async def test_whatever_the_umask_that_it_was_started_with(base: Path, session: SessionId) -> None:
    argv = (sys.executable, "-c", UMASK, "--no-proxy")
    made = await Bubblewrap.connect_keeper(base / "h", base / "r", argv=argv)
    await made.open(SandboxSpec(session, "echo"))
    assert await sh(made, session, "cat /etc/hosts | grep -c localhost; touch a; stat -c %a a") == "2\n644"
    await _end(base, made)


FULL = """
import os, sys
from pilothouse import keeper
really = os.fork
def fork():
    if os.path.exists("full"):
        raise BlockingIOError(11, "Resource temporarily unavailable")
    return really()
os.fork = fork
os.chdir(sys.argv.pop(1))
sys.exit(keeper.main(sys.argv[1:]))
"""


async def test_no_room_for_another_process_is_said_and_passes(base: Path, session: SessionId) -> None:
    argv = (sys.executable, "-c", FULL, str(base), "--no-proxy")
    made = await Bubblewrap.connect_keeper(base / "h", base / "r", argv=argv)
    zygote = await zygote_pid(base)
    (base / "full").touch()
    with pytest.raises(Unavailable):
        await made.open(SandboxSpec(session, "echo"))
    (base / "full").unlink()
    await made.open(SandboxSpec(session, "echo"))
    assert await sh(made, session, "echo here") == "here"
    assert await zygote_pid(base) == zygote
    assert await client.ask(base / "r" / "keeper.sock", {"verb": "status"})
    await _end(base, made)
