"""Which control groups this process may have, from `/proc/self/mountinfo` and `/proc/self/cgroup`, and what to do about
those that it may not.

Version 2 asks who the group belongs to: one that is delegated (systemd marks it), that is the top of a container's
own, or, for an ordinary user, that holds none but processes of this very interpreter, is ours to divide. Otherwise
root makes a group at the top, as container managers do. So it does in a delegated unit that did not put it into a
subgroup of the unit (DelegateSubgroup=, systemd 254): one that has been divided and still holds sessions cannot be
started again, since the kernel lets no process into a group whose children have controllers.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from pilothouse.adapters.sandboxes.cgroup1 import Version1
from pilothouse.adapters.sandboxes.cgroup2 import Version2
from pilothouse.adapters.sandboxes.cgroups import CONTROLLERS, KEEPER, PREFIX, Groups, Hierarchy, Tree, abandoned
from pilothouse.adapters.sandboxes.layout import written
from pilothouse.core.limits import Caps

_DELEGATED = ("user.delegate", "trusted.delegate")
MOUNTINFO = Path("/proc/self/mountinfo")
MEMBERSHIP = Path("/proc/self/cgroup")


@dataclass(frozen=True)
class Place:
    """A mounted hierarchy."""

    version: int
    controllers: frozenset[str]
    """Of version 1."""
    top: Path
    own: Path
    """The directory of the group that we are in."""


def places(mountinfo: str, membership: str) -> list[Place]:
    groups = {}
    for line in membership.splitlines():
        _, controllers, path = line.split(":", 2)
        groups[controllers] = path
    found: dict[str, Place] = {}
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        if kind not in {"cgroup", "cgroup2"}:
            continue
        root, at = before.split(" ")[3:5]
        held = frozenset(options.split(",")) & CONTROLLERS.keys() if kind == "cgroup" else frozenset()
        name = next((n for n in groups if held and held <= set(n.split(","))), "")
        path = groups.get(name, "") if name or kind == "cgroup2" else ""
        if not path or path.startswith("/.."):
            continue  # none of ours, or outside of what we are shown
        top = Path(at.encode().decode("unicode_escape"))
        below = path[len(root) :] if root != "/" and path.startswith(root) else path if root == "/" else ""
        found.setdefault(name, Place(2 if kind == "cgroup2" else 1, held, top, top / below.strip("/")))
    return list(found.values())


def _delegated(path: Path) -> bool:
    for name in _DELEGATED:
        with contextlib.suppress(OSError):
            if os.getxattr(path, name) == b"1":
                return True
    return False


def _ours_alone(path: Path) -> bool:
    """None but programs of this interpreter: server, keeper, proxy of a unit of their own."""
    me = Path(sys.executable).resolve()
    try:
        pids = (path / "cgroup.procs").read_text().split()
        return bool(pids) and all(Path(f"/proc/{pid}/exe").resolve() == me for pid in pids)
    except OSError:
        return False


def _outside(path: Path, name: str) -> Path:
    """A keeper that was started out of a group that one made before it, belongs where that one did."""
    if path.name == KEEPER:
        path = path.parent
    return path.parent if path.name == name else path


def _version2(tree: Tree, place: Place, name: str, offered: frozenset[str], root: bool) -> Version2:
    own = _outside(place.own, name)
    delegated = own != place.top and _delegated(own)
    if delegated and root and own == place.own:
        return Version2(tree, place.top / name, offered, ours=False, move=False)
    if delegated or (own != place.top and not root and _ours_alone(own)):
        return Version2(tree, own, offered, ours=True)
    if own == place.top and root and _in_container(own):
        return Version2(tree, own, offered, ours=True)
    return Version2(tree, (place.top if root else own) / name, offered, ours=False)


def _in_container(top: Path) -> bool:
    """The true top of all groups has no `cgroup.events`; that of a container's own view has."""
    return (top / "cgroup.events").exists()


def found(home: Path, note: Path, caps: Caps) -> Groups:
    """What can be had, tried out. `note` remembers the bases for the keeper after this one."""
    tree, root = Tree(), os.geteuid() == 0
    name = PREFIX + hashlib.sha256(os.fsencode(home)).hexdigest()[:10]
    before = _noted(note)
    mounted = places(MOUNTINFO.read_text(), MEMBERSHIP.read_text())
    all_of_it: list[Hierarchy] = []
    for place in mounted:
        for c in place.controllers:
            all_of_it.append(Version1(tree, c, before.get(c) or _outside(place.own, name) / name))
    taken = {h.name for h in all_of_it}
    for place in mounted:
        if place.version == 2 and (offered := _offered(place.top) - taken):
            all_of_it.append(_version2(tree, place, name, offered, root))
    groups = Groups(tree, all_of_it, caps)
    for base in groups.bases.values():
        if base.name == name:
            abandoned(tree, base.parent, time.time())
    with contextlib.suppress(OSError):
        written(note, "".join(f"{name} {base}\n" for name, base in groups.bases.items()))
    return groups


def _offered(top: Path) -> frozenset[str]:
    try:
        return frozenset((top / "cgroup.controllers").read_text().split()) & CONTROLLERS.keys()
    except OSError:
        return frozenset()


def _noted(note: Path) -> dict[str, Path]:
    """Bases that still are there."""
    try:
        fd = os.open(note, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with os.fdopen(fd) as file:
            if os.fstat(fd).st_uid != os.geteuid():  # the server's directory too: it must not choose where root writes
                return {}
            pairs = [line.rstrip("\n").split(" ", 1) for line in file]
    except OSError:
        return {}
    return {p[0]: Path(p[1]) for p in pairs if len(p) == 2 and (Path(p[1]) / "cgroup.procs").exists()}


def mend(groups: Groups) -> tuple[str, ...]:
    """What is missing and the command that mends it, a sentence each."""
    if not groups.missing:
        return ()
    words = {"memory": "memory", "pids": "the number of processes", "cpu": "processor time"}
    lacks = [f"The kernel does not limit {words[c]} of sessions ({why})." for c, why in sorted(groups.missing.items())]
    two = not any(p.version == 1 for p in places(MOUNTINFO.read_text(), MEMBERSHIP.read_text()))
    if two and os.geteuid() != 0:
        how = (
            "start it with `systemd-run --user --scope -p Delegate=yes pilothouse serve`, or give its unit "
            "`Delegate=cpu memory pids`"
        )
    elif two:
        how = (
            "give its unit `Delegate=cpu memory pids`; in a container mount /sys/fs/cgroup writable "
            "(docker run --cgroupns=private -v /sys/fs/cgroup:/sys/fs/cgroup:rw)"
        )
    elif os.geteuid() != 0:
        how = (
            "start the keeper as root (`sudo pilothouse serve`), or boot with systemd.unified_cgroup_hierarchy=1 and "
            "start it with `systemd-run --user --scope -p Delegate=yes pilothouse serve`"
        )
    else:
        how = "in a container mount /sys/fs/cgroup writable (docker run -v /sys/fs/cgroup:/sys/fs/cgroup:rw)"
    return (*lacks, f"Mend it: {how}")
