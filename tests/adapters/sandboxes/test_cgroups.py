"""Control groups: which there are, and version 2, which may be missing here, on a directory that behaves like it."""

from __future__ import annotations

import errno
import gc
import os
import subprocess
import time
import uuid
from pathlib import Path

import pytest

from pilothouse.adapters.sandboxes import hierarchies
from pilothouse.adapters.sandboxes.cgroup2 import Version2
from pilothouse.adapters.sandboxes.cgroups import ABANDONED_S, KEEPER, Groups, Tree, abandoned
from pilothouse.core.limits import GIB, Caps
from tests.adapters.sandboxes.cgroupfs import ME, Unified

ALL = frozenset({"memory", "pids", "cpu"})
CAPS = Caps(memory=GIB, processes=64, cpu=1.5)
SERVER = 4_000_001
"""A pid that no process has."""


@pytest.fixture
def tree(tmp_path: Path) -> Unified:
    """A delegated unit with a server and this keeper in it."""
    return Unified(tmp_path, "cpu io memory pids".replace(" io", ""), SERVER, ME)


def session() -> str:
    return str(uuid.uuid4())


def test_a_delegated_group_is_divided(tree: Unified) -> None:
    groups = Groups(tree, [Version2(tree, tree.top, ALL, ours=True)], CAPS)
    assert groups.missing == {}
    assert groups.held == {"memory", "processes", "cpu"}
    assert sorted(tree.members[tree.top / KEEPER]) == sorted([SERVER, ME])
    assert tree.members[tree.top] == []
    one = session()
    leaf = groups.leaf(one, CAPS)
    (path,) = [p for p in tree.members if p.name.startswith(one)]
    told = {
        name: (path / name).read_text() for name in ("memory.max", "memory.swap.max", "memory.oom.group", "cpu.max")
    }
    assert told == {
        "memory.max": str(GIB),
        "memory.swap.max": "0",
        "memory.oom.group": "0",
        "cpu.max": "150000 100000",
    }
    assert (path / "pids.max").read_text() == "64"
    assert not (path / "memory.high").exists()
    assert len(leaf.join) == 1
    assert set(leaf.files) == {"memory", "memory.stat", "memory.hits", "processes", "processes.hits", "cpu.stat"}
    leaf.close()


def test_an_ended_session_is_killed_and_its_group_removed_when_it_is_empty(tree: Unified) -> None:
    groups = Groups(tree, [Version2(tree, tree.top, ALL, ours=True)], CAPS)
    one, two = session(), session()
    for name in (one, two):
        groups.leaf(name, CAPS).close()
    (path,) = [p for p in tree.members if p.name.startswith(one)]
    tree.members[path] = [SERVER + 1]
    groups.over(one)
    assert tree.killed == [path.name]
    assert not path.exists()
    tree.refused["cgroup.kill"] = errno.EIO
    (path,) = [p for p in tree.members if p.name.startswith(two)]
    tree.members[path] = [SERVER + 2]
    groups.over(two)
    assert path.exists()  # busy
    assert groups.pause(60) < 1
    tree.members[path] = []
    groups.tend(time.monotonic() + 1)
    assert not path.exists()
    assert groups.pause(60) == 60


def test_a_new_keeper_removes_what_nobody_holds(tree: Unified) -> None:
    before = Groups(tree, [Version2(tree, tree.top, ALL, ours=True)], CAPS)
    lost, living = session(), session()
    for name in (lost, living):
        before.leaf(name, CAPS).close()
    after = Groups(tree, [Version2(tree, tree.top, ALL, ours=True)], CAPS)
    after.sweep(lambda name: name == living)
    assert [p.name[:36] for p in tree.members if p.name[:36] in (lost, living)] == [living]
    assert (tree.top / KEEPER).exists()


def test_what_keepers_of_other_homes_have_left(tree: Unified) -> None:
    for name in ("pilothouse-gone", "pilothouse-held", "pilothouse-busy", "docker"):
        for path in (tree.top / name, tree.top / name / KEEPER, tree.top / name / session()):
            tree.make(path)
    tree.members[tree.top / "pilothouse-held" / KEEPER] = [SERVER]
    tree.members[next(p for p in tree.members if p.parent.name == "pilothouse-busy" and p.name != KEEPER)] = [SERVER]
    abandoned(tree, tree.top, time.time())
    assert len(tree.names(tree.top)) == 4  # too fresh
    abandoned(tree, tree.top, time.time() + ABANDONED_S + 60)
    assert sorted(tree.names(tree.top)) == ["docker", "pilothouse-busy", "pilothouse-held"]
    assert len(tree.names(tree.top / "docker")) == len(tree.names(tree.top / "pilothouse-held")) == 2


def test_what_a_unit_was_not_given_is_missing_and_the_rest_works(tmp_path: Path) -> None:
    tree = Unified(tmp_path, "memory pids", ME)
    groups = Groups(tree, [Version2(tree, tmp_path, ALL, ours=True)], CAPS)
    assert groups.missing == {"cpu": f"{tmp_path}: this group was not given it"}
    leaf = groups.leaf(session(), CAPS)
    assert leaf.held == {"memory", "processes"}
    assert "cpu.stat" not in leaf.files
    leaf.close()


@pytest.mark.parametrize("file", ["cgroup.procs", "cgroup.subtree_control"])
def test_nothing_may_be_done(tree: Unified, file: str) -> None:
    tree.refused[file] = errno.EACCES
    groups = Groups(tree, [Version2(tree, tree.top, ALL, ours=True)], CAPS)
    assert groups.held == frozenset()
    assert all("Permission denied" in why for why in groups.missing.values())
    leaf = groups.leaf(session(), CAPS)
    assert (leaf.join, leaf.files, leaf.held) == ([], {}, frozenset())


def test_a_limit_that_the_kernel_refuses_ends_the_start_and_leaves_nothing(tree: Unified) -> None:
    groups = Groups(tree, [Version2(tree, tree.top, ALL, ours=True)], CAPS)
    tree.refused["pids.max"] = errno.EINVAL
    gc.collect()  # what other tests have left is not to be counted
    open_before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match="Invalid argument"):
        groups.leaf(session(), CAPS)
    assert len(os.listdir("/proc/self/fd")) <= open_before
    assert {p.name for p in tree.members} == {tree.top.name, KEEPER}


def test_root_makes_a_group_at_the_top(tmp_path: Path) -> None:
    tree = Unified(tmp_path, "memory pids cpu")
    groups = Groups(tree, [Version2(tree, tmp_path / "pilothouse-x", ALL, ours=False)], CAPS)
    assert groups.missing == {}
    assert tree.members[tmp_path / "pilothouse-x" / KEEPER] == [ME]
    tree.members[tmp_path / "pilothouse-x" / KEEPER].clear()
    assert groups.bases == {"unified": tmp_path / "pilothouse-x"}


def _unit(tmp_path: Path, subgroup: str = "") -> hierarchies.Place:
    """A delegated unit below the top of all groups, and us in it."""
    unit = tmp_path / "system.slice" / "keeper.service"
    (unit / subgroup).mkdir(parents=True)
    os.setxattr(unit, "user.delegate", b"1")
    return hierarchies.Place(2, frozenset(), tmp_path, unit / subgroup)


def test_a_unit_that_can_be_started_again_is_divided(tmp_path: Path) -> None:
    place = _unit(tmp_path, KEEPER)
    for root in (True, False):
        chosen = hierarchies._version2(Tree(), place, "pilothouse-x", ALL, root)
        assert (chosen.base, chosen._ours) == (place.own.parent, True)


def test_one_that_could_not_is_left_whole_by_root(tmp_path: Path) -> None:
    place = _unit(tmp_path)
    chosen = hierarchies._version2(Tree(), place, "pilothouse-x", ALL, True)
    assert (chosen.base, chosen._ours, chosen._move) == (tmp_path / "pilothouse-x", False, False)
    chosen = hierarchies._version2(Tree(), place, "pilothouse-x", ALL, False)
    assert (chosen.base, chosen._ours) == (place.own, True)


def test_a_shell_of_roots_and_one_of_anybody_else(tmp_path: Path) -> None:
    own = tmp_path / "user.slice" / "session-1.scope"
    own.mkdir(parents=True)
    (own / "cgroup.procs").write_text("1\n")
    place = hierarchies.Place(2, frozenset(), tmp_path, own)
    chosen = hierarchies._version2(Tree(), place, "pilothouse-x", ALL, True)
    assert (chosen.base, chosen._ours, chosen._move) == (tmp_path / "pilothouse-x", False, True)
    chosen = hierarchies._version2(Tree(), place, "pilothouse-x", ALL, False)
    assert (chosen.base, chosen._ours) == (own / "pilothouse-x", False)  # which it may try, and will be refused
    (own / "cgroup.procs").write_text(f"{os.getpid()}\n")
    assert hierarchies._version2(Tree(), place, "pilothouse-x", ALL, False)._ours


def test_who_stays_in_its_unit(tmp_path: Path) -> None:
    tree = Unified(tmp_path, "memory pids cpu", ME)
    tree.members[tmp_path].clear()
    groups = Groups(tree, [Version2(tree, tmp_path / "pilothouse-x", ALL, ours=False, move=False)], CAPS)
    assert groups.held == {"memory", "processes", "cpu"}
    assert tree.members[tmp_path / "pilothouse-x" / KEEPER] == []


UNIFIED = Path("/sys/fs/cgroup/unified")


@pytest.mark.skipif(
    os.geteuid() != 0 or not (UNIFIED / "cgroup.procs").exists(),
    reason="only root has groups of version 2 beside those of version 1",
)
def test_joining_and_killing_in_the_real_version_2() -> None:
    """Without controllers, which version 1 has here: processes go in, are killed by the group, and it goes."""
    base = UNIFIED / f"pilothouse-test-{uuid.uuid4().hex[:8]}"
    tree = Tree()
    version2 = Version2(tree, base, frozenset(), ours=False)
    base.mkdir()
    try:
        groups = Groups(tree, [], CAPS)
        groups._all = [version2]
        one = session()
        leaf = groups.leaf(one, CAPS)
        with subprocess.Popen(["sleep", "60"]) as inside:
            os.write(leaf.join[0], str(inside.pid).encode())
            assert one in Path(f"/proc/{inside.pid}/cgroup").read_text()
            leaf.close()
            groups.over(one)
            assert inside.wait() == -9
            groups.tend(time.monotonic() + 1)
        assert [p for p in base.iterdir() if p.is_dir()] == []
    finally:
        base.rmdir()


# --- which there are ---

HYBRID = """\
25 20 0:22 / /proc rw - proc proc rw
30 25 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
31 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:5 - cgroup cgroup rw,cpu,cpuacct
32 30 0:28 /docker/abc /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
33 30 0:29 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd
34 30 0:30 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
"""
MEMBER = "5:cpu,cpuacct:/user\n4:memory:/docker/abc/x\n3:pids:/a\n1:name=systemd:/u\n0::/user.slice/s.scope\n"


def test_a_hybrid_machine() -> None:
    found = {(p.version, *sorted(p.controllers)): p.own for p in hierarchies.places(HYBRID, MEMBER)}
    assert found == {
        (1, "cpu"): Path("/sys/fs/cgroup/cpu,cpuacct/user"),
        (1, "memory"): Path("/sys/fs/cgroup/memory/x"),
        (2,): Path("/sys/fs/cgroup/unified/user.slice/s.scope"),
    }


@pytest.mark.parametrize(
    ("root", "member", "own"),
    [
        ("/", "0::/", "/sys/fs/cgroup"),
        ("/", "0::/system.slice/p.service", "/sys/fs/cgroup/system.slice/p.service"),
        ("/kubepods/x", "0::/kubepods/x/y", "/sys/fs/cgroup/y"),
    ],
)
def test_version_2_alone(root: str, member: str, own: str) -> None:
    mounted = f"30 25 0:26 {root} /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
    (place,) = hierarchies.places(mounted, member + "\n")
    assert (place.version, place.own) == (2, Path(own))


def test_a_group_outside_of_what_is_shown_is_none() -> None:
    mounted = "30 25 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"
    assert hierarchies.places(mounted, "0::/../../elsewhere\n") == []
    assert hierarchies.places("", "") == []


def test_what_somebody_else_noted_is_not_believed(tmp_path: Path) -> None:
    note = tmp_path / "cgroups"
    base = tmp_path / "base"
    base.mkdir()
    (base / "cgroup.procs").touch()
    note.write_text(f"memory {base}\ncpu /nowhere\nnonsense\n")
    assert hierarchies._noted(note) == {"memory": base}
    if os.geteuid() == 0:
        os.chown(note, 2001, 2001)
        assert hierarchies._noted(note) == {}
    note.unlink()
    note.symlink_to(base)
    assert hierarchies._noted(note) == {}
