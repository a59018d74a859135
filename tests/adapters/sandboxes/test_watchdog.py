"""Where no control group holds a session: who is ended, what files are counted."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pilothouse.adapters.sandboxes import walk
from pilothouse.adapters.sandboxes.watchdog import Process, Watchdog, victims


def process(pid: int, size: int, *, runner: bool = False) -> Process:
    return Process(pid, "1", size, 1, runner)


@pytest.mark.parametrize(
    ("sizes", "over", "chosen"),
    [
        ([10, 50, 20], 0, []),
        ([10, 50, 20], 1, [1]),
        ([10, 50, 20], 51, [1, 2]),
        ([10, 50, 20], 1000, [1, 2, 0]),
        ([], 10, []),
    ],
)
def test_the_largest_go_first(sizes: list[int], over: int, chosen: list[int]) -> None:
    processes = [process(n, size) for n, size in enumerate(sizes)]
    assert [p.pid for p in victims(processes, over)] == chosen


def test_the_runner_goes_last_but_it_goes() -> None:
    processes = [process(1, 500, runner=True), process(2, 10), process(3, 20)]
    assert [p.pid for p in victims(processes, 25)] == [3, 2]
    assert [p.pid for p in victims(processes, 100)] == [3, 2, 1]


@pytest.fixture
def family() -> Iterator[subprocess.Popen[bytes]]:
    """A process with a child of 64 MiB."""
    hog = "import time; x = b'a' * (64 << 20); print('ready', flush=True); time.sleep(60)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {hog!r}]); print('ended', flush=True)"
    parent += "; sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", parent], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as made:
        assert made.stdout is not None
        assert made.stdout.readline() == b"ready\n"
        yield made
        Watchdog(made.pid).end(Watchdog(made.pid).look(None), runner_too=True)
        made.kill()


def test_what_is_too_large_is_ended_and_nothing_else(family: subprocess.Popen[bytes]) -> None:
    dog = Watchdog(family.pid)
    found = dog.look(None)
    (child,) = found.others
    assert child.size > 64 << 20
    assert found.memory > child.size
    assert found.threads == 2
    assert dog.relieve(found, 1 << 30) == 0
    assert dog.relieve(found, 32 << 20) == 1
    assert family.stdout is not None
    assert family.stdout.readline() == b"ended\n"
    assert family.poll() is None
    assert dog.relieve(found, 32 << 20) == 0  # another process may have its number by now
    assert dog.look(None).others == ()


def test_ours_alone_are_not_measured(family: subprocess.Popen[bytes]) -> None:
    child = Watchdog(family.pid).look(None).others[0].pid
    assert Watchdog(family.pid).look(child).others == ()


def test_files_are_counted_once_and_links_not_followed(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "file").write_bytes(b"x" * 1_000_000)
    os.link(tmp_path / "a" / "file", tmp_path / "again")
    (tmp_path / "out").symlink_to("/usr")
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    assert 1_000_000 <= walk.measure((str(tmp_path),)) < 1_100_000
    assert walk.measure((str(tmp_path), str(tmp_path / "none"))) < 1_100_000
    assert walk.measure((str(tmp_path),), most=1) < 1_000_000


def test_more_than_it_may_and_growing(tmp_path: Path) -> None:
    """Times are arguments; what is waited for is the counting child."""

    def counted(walker: walk.Walk, now: float) -> int:
        while not walker.due(now):
            time.sleep(0.01)
        return walker.used

    walker = walk.Walk((str(tmp_path),))
    for n, grown in enumerate((1_000_000, 3_000_000, 6_000_000)):
        (tmp_path / str(n)).write_bytes(b"x" * 1_000_000 * (n + 1))
        used = counted(walker, n * 1000.0)
        assert grown <= used
        assert (walker.over(2_000_000), walker.again) == [(False, False), (True, False), (True, True)][n]
    (tmp_path / "2").unlink()
    counted(walker, 5000.0)
    assert walker.used > 2_000_000
    assert not walker.over(2_000_000)  # it is being cleaned up
    assert not walker.due(5001.0)
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
