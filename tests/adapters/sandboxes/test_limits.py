"""Limits held by the real kernel: a session that is too greedy is stopped and told, everybody else notices nothing."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from pilothouse.adapters.sandboxes import client, layout, loops, trees
from pilothouse.adapters.sandboxes.bubblewrap import Bubblewrap
from pilothouse.adapters.sandboxes.disks import IMAGE
from pilothouse.adapters.sandboxes.stage import MOUNTPOINT
from pilothouse.core import sizes
from pilothouse.core.errors import Unavailable
from pilothouse.core.ids import SessionId
from pilothouse.core.limits import GIB, MIB, Caps
from pilothouse.engine.ports import LimitHit, Probe, SandboxSpec
from tests.adapters.sandboxes.conftest import KEEPER, _end, until
from tests.adapters.sandboxes.test_bubblewrap import holder_pid, keeper_pid
from tests.disks import devices

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root has control groups of version 1 and disk images")

CAPS = Caps(memory=GIB, disk=GIB)


@pytest.fixture
async def sandboxes(base: Path) -> AsyncIterator[Bubblewrap]:
    made = await Bubblewrap.connect_keeper(base / "h", base / "r", argv=KEEPER, caps=CAPS)
    made._found = Probe("namespaces", True, "")  # other tests probe
    yield made
    await _end(base, made)


async def opened(sandboxes: Bubblewrap, **limits: float) -> SessionId:
    session = SessionId(str(uuid.uuid4()))
    await sandboxes.open(SandboxSpec(session, "echo", limits=limits))
    return session


async def sh(sandboxes: Bubblewrap, session: SessionId, script: str) -> str:
    done = await sandboxes.run(session, ["bash", "-c", script], {}, 60)
    return str(done["output"])


async def hit(sandboxes: Bubblewrap, name: str) -> LimitHit:
    async with asyncio.timeout(20):
        async for found in sandboxes.hits():
            if found.name == name:
                return found
    raise AssertionError


async def state(sandboxes: Bubblewrap, session: SessionId, name: str) -> Any:
    return next(row for row in await sandboxes.limits(session, {}) if row.name == name)


def leaves(session: str) -> list[Path]:
    """The session's control groups, wherever they are."""
    return [Path(top) / name for top, names, _ in os.walk("/sys/fs/cgroup") for name in names if session in name]


HOG = "python3 -c 'x = b\"a\" * 400_000_000'; echo $?"


async def test_memory(sandboxes: Bubblewrap) -> None:
    greedy, other = await opened(sandboxes, memory=128 * MIB), await opened(sandboxes)
    assert (await sh(sandboxes, greedy, HOG)).endswith("137\n")
    told = await hit(sandboxes, "memory")
    assert told.session == greedy
    assert told.text == "The session reached its memory limit of 128 MiB: the kernel ended a process in it."
    assert await sh(sandboxes, greedy, "echo goes on") == "goes on\n"
    assert await sh(sandboxes, other, HOG) == "0\n"
    await sh(sandboxes, greedy, "head -c 60M /dev/zero > /dev/shm/x; head -c 60M /dev/zero > /tmp/y")
    found = await state(sandboxes, greedy, "memory")
    assert (found.max, found.enforced) == (128 * MIB, "cgroup")
    assert found.used > 100 * MIB  # what lies in /tmp is memory
    assert found.hits >= 1
    assert (await state(sandboxes, other, "memory")).hits == 0
    assert (await state(sandboxes, greedy, "tmp")).used >= 60 * MIB


async def test_processes(sandboxes: Bubblewrap) -> None:
    greedy, other = await opened(sandboxes, processes=32), await opened(sandboxes, processes=32)
    bomb = "for n in $(seq 20); do sleep 5 & done 2>/dev/null; echo started"
    assert "started" in await sh(sandboxes, other, bomb)
    said = await sh(sandboxes, greedy, "python3 -c 'import os\nwhile True: os.fork()' 2>&1 | tail -n 1")
    assert "BlockingIOError" in said
    told = await hit(sandboxes, "processes")
    assert told.session == greedy
    assert told.text.startswith("The session reached its limit of 32 processes and threads: ")
    await until(lambda: _empty(greedy))
    assert await sh(sandboxes, greedy, "echo goes on") == "goes on\n"
    assert (await state(sandboxes, other, "processes")).hits == 0


def _empty(session: str) -> bool:
    """All but ours have ended."""
    pids = next(p for p in leaves(session) if (p / "pids.current").exists())
    return int((pids / "pids.current").read_text()) < 5


async def test_disk(sandboxes: Bubblewrap, base: Path) -> None:
    session = await opened(sandboxes, disk=64 * MIB, files=2000)
    said = await sh(sandboxes, session, "head -c 300M /dev/zero 2>&1 > big; head -c 1M /dev/zero 2>&1 > ~/more; true")
    assert said.count("No space left on device") == 2
    told = await hit(sandboxes, "disk")
    left = re.fullmatch(r"The session's disk of 64 MiB is nearly full: (.+) are left\.", told.text)
    assert told.session == session
    assert left, told.text
    assert sizes.parse(left[1]) < 2 * MIB  # it may be told while the last pages are written
    image = base / "h" / "sessions" / session / IMAGE
    assert image.stat().st_blocks * 512 < 75 * MIB
    assert (image.stat().st_uid, image.stat().st_mode & 0o777) == (0, 0o600)
    found = await state(sandboxes, session, "disk")
    assert (found.enforced, found.hits) == ("image", 1)
    assert found.used > 0.97 * found.max
    entry, content = await sandboxes.files(session).read("big")
    content.close()
    assert entry.size > 60 * MIB
    assert "No space left" in await sh(
        sandboxes, session, "rm big; for n in $(seq 3000); do > f$n; done 2>&1 | tail -n 1"
    )
    assert "files" in {row.name for row in await sandboxes.limits(session, {}) if row.hits} or await hit(
        sandboxes, "files"
    )


async def test_cpu(sandboxes: Bubblewrap) -> None:
    """By the kernel's own count of the periods in which the session had to wait."""
    held, free = await opened(sandboxes, cpu=0.05), await opened(sandboxes, cpu=8)
    spin = "python3 -c 'import time\nend = time.process_time() + 0.05\nwhile time.process_time() < end: pass'"
    await asyncio.gather(sh(sandboxes, held, spin), sh(sandboxes, free, spin))
    assert (await state(sandboxes, held, "cpu")).hits >= 5  # 5 ms in each period of 100
    assert (await state(sandboxes, free, "cpu")).hits == 0


async def test_nothing_is_left(sandboxes: Bubblewrap, base: Path) -> None:
    session, other = await opened(sandboxes), await opened(sandboxes)
    assert len(leaves(session)) == 3
    assert len(devices(session)) == 1
    await sh(sandboxes, session, "echo here > kept; echo there > ~/kept")
    os.kill(await holder_pid(base, session), signal.SIGKILL)
    await until(lambda: not leaves(session))
    await sandboxes.open(SandboxSpec(session, "echo"))
    assert await sh(sandboxes, session, "cat kept ~/kept; df -P . ~ | grep -c loop") == "here\nthere\n2\n"

    os.kill(await keeper_pid(base), signal.SIGKILL)
    await sandboxes._keeper({"verb": "status"})  # a new one
    assert leaves(session)
    assert len(devices(session)) == 1
    assert await sh(sandboxes, session, "cat kept") == "here\n"
    await sandboxes.stop(session)
    await until(lambda: not leaves(session))
    assert [e.name for e in await sandboxes.files(session).list("")] == ["kept"]
    assert len(devices(session)) == 1  # the same one, for two keepers' mounts
    await sandboxes.delete(session)
    await until(lambda: not devices(session))  # although a session of the first keeper goes on
    assert (await sandboxes.state(other)).alive
    assert not (base / "h" / "sessions" / session).exists()

    for pid in (await keeper_pid(base), await holder_pid(base, other)):
        os.kill(pid, signal.SIGKILL)
    await until(lambda: not devices(other))
    (base / "r" / f"{other}.ctl").unlink()  # nothing names it any more but its groups
    await sandboxes._keeper({"verb": "status"})
    await until(lambda: not leaves(other))


async def test_a_session_from_before_there_were_disks(sandboxes: Bubblewrap, base: Path) -> None:
    session = SessionId(str(uuid.uuid4()))
    own = base / "h" / "sessions" / session
    uid = layout.next_uid(layout.Layout(base / "h", base / "r"))
    trees.make(own, uid)
    (own / "workspace" / "old").write_text("text")
    os.chown(own / "workspace" / "old", uid, uid)
    await sandboxes.open(SandboxSpec(session, "echo"))
    assert await sh(sandboxes, session, "cat old; echo more >> old") == "text"
    assert (own / "workspace" / "old").read_text() == "textmore\n"
    assert not (own / IMAGE).exists()
    assert (await state(sandboxes, session, "disk")).enforced == "watchdog"
    assert (await state(sandboxes, session, "memory")).enforced == "cgroup"


async def test_what_was_hit_is_told_to_whoever_comes_later(sandboxes: Bubblewrap, base: Path) -> None:
    session = await opened(sandboxes, memory=128 * MIB)
    await sh(sandboxes, session, HOG)
    first = await hit(sandboxes, "memory")
    again = await Bubblewrap.connect_keeper(base / "h", base / "r", argv=KEEPER)
    assert [s.session for s in await again.list()] == [session]
    assert await hit(again, "memory") == first  # the same number of the same source: the log takes it once
    await again.close()


async def test_of_a_session_that_does_not_run(sandboxes: Bubblewrap) -> None:
    session = await opened(sandboxes)
    await sandboxes.stop(session)
    rows = {row.name: row for row in await sandboxes.limits(session, {"memory": 200 * MIB})}
    assert (rows["memory"].max, rows["memory"].used, rows["memory"].enforced) == (200 * MIB, None, "cgroup")
    assert (rows["disk"].max, rows["disk"].enforced) == (GIB, "image")


@pytest.mark.parametrize("limits", [{"memory": 1}, {"disk": "x"}, {"luck": 5}, {"processes": 64.5}, [], {"cpu": True}])
async def test_a_keeper_takes_no_nonsense(sandboxes: Bubblewrap, base: Path, limits: Any) -> None:
    asked = {"verb": "open", "session": str(uuid.uuid4()), "sandbox": "bubblewrap", "agent": "echo", "limits": limits}
    with pytest.raises(Unavailable, match="limits"):
        await client.ask(base / "r" / "keeper.sock", asked)
    assert not list((base / "h" / "sessions").iterdir())


@pytest.fixture
def image(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "disk.img"
    with path.open("wb") as file:
        file.truncate(MIB)
    yield path
    end = time.monotonic() + 20  # the kernel may let go of it a moment later
    while loops.is_attached(path):
        assert time.monotonic() < end
        time.sleep(0.02)


def test_an_image_is_on_one_device_however_many_want_it(image: Path) -> None:
    with loops.attached(image) as one, loops.attached(image) as two:
        assert one == two
        assert loops.is_attached(image)


async def test_the_disk_is_seen_by_the_keeper_alone(sandboxes: Bubblewrap, base: Path) -> None:
    session = await opened(sandboxes)
    assert str(MOUNTPOINT / "disks" / session) in Path(f"/proc/{await keeper_pid(base)}/mountinfo").read_text()
    assert session not in Path("/proc/self/mountinfo").read_text()


_DISKS = """
import os, sys
from pathlib import Path
from pilothouse.adapters.sandboxes import disks, kernel, layout, loops
from pilothouse.core.limits import Caps

kernel.unshare(kernel.CLONE_NEWNS)
kernel.mount("none", "/", "", kernel.MS_REC | kernel.MS_PRIVATE)
base, one = Path(sys.argv[1]), "11111111-2222-4333-8444-555555555555"
made = layout.make(base / "h", base / "r")
found = disks.Disks(made, base / "m")
assert not found.missing, found.missing
assert [p.name for p in made.sessions.iterdir()] == [], "the trial is gone"
found.new(one, Caps(disk=64 << 20))
where = found.ready(one, 0.0)
(where / "file").write_text("kept")
flags = next(line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(where) in line)
assert "nosuid" in flags and "nodev" in flags, flags
image = made.session(one) / disks.IMAGE
found.tend(1000.0, lambda session: True)
assert (where / "file").exists(), "its sandbox runs"
with (where / "file").open():
    found.tend(1000.0, lambda session: False)
    assert (where / "file").exists(), "somebody reads"
found.tend(2000.0, lambda session: False)
assert not where.exists() and not loops.is_attached(image)
assert (found.ready(one, 2000.0) / "file").read_text() == "kept"
found.drop(one)
assert not loops.is_attached(image)
try:
    disks.Disks(made, None).ready(one, 0.0)
except OSError as error:
    print("refused:", error)
try:
    disks.make(base / "none" / "x.img", 1 << 30, 1000)
except OSError as error:
    print("not made:", error)
"""


def test_a_disk_that_nobody_uses_is_unmounted(base: Path) -> None:
    """In a process and a mount namespace of its own."""
    done = subprocess.run([sys.executable, "-c", _DISKS, str(base)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "refused: [Errno 1] the session's disk is an image" in done.stdout
    assert "not made: " in done.stdout


_BROKEN = """
import os, sys
from pathlib import Path
from pilothouse.adapters.sandboxes import disks, kernel, layout
from pilothouse.core.limits import Caps

kernel.unshare(kernel.CLONE_NEWNS)
kernel.mount("none", "/", "", kernel.MS_REC | kernel.MS_PRIVATE)
base, one = Path(sys.argv[1]), "11111111-2222-4333-8444-555555555555"
made = layout.make(base / "h", base / "r")
before, after = disks.Disks(made, base / "m"), disks.Disks(made, base / "n")
before.new(one, Caps(disk=64 << 20))
where = before.ready(one, 0.0)
with (where / "file").open("w") as file:
    file.write("kept")
    file.flush()
    os.fsync(file)  # what is only on its way to the disk is lost
device = next(line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(where) in line).split()[-2]
Path("/sys/fs/ext4", Path(device).name, "trigger_fs_error").write_text("a test")
for _ in range(2):
    assert (after.ready(one, 0.0) / "file").read_text() == "kept", "a keeper that comes later can read it"
try:
    (where / "more").write_text("")
    raise SystemExit("it takes more")
except OSError as error:
    print(error)
try:
    with (after.ready(one, 0.0) / "file").open():
        after.mend(one)
    raise SystemExit("it was taken from who reads")
except OSError as error:
    print(error)
before.drop(one)
after.mend(one)
(after.ready(one, 0.0) / "more").write_text("again")
assert (after.ready(one, 0.0) / "file").read_text() == "kept"
after.drop(one)
"""


def test_a_disk_that_met_an_error_can_be_read_and_is_mounted_anew(base: Path) -> None:
    done = subprocess.run([sys.executable, "-c", _BROKEN, str(base)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Read-only file system" in done.stdout
    assert "busy" in done.stdout
