"""Control groups: to lift one's own limits, and to learn from their paths where one is."""

from __future__ import annotations

import os
from pathlib import Path

from pilothouse.adapters.sandboxes.escape.ground import Check, Ground, content, failed, first, sure

_KINDS = ("cgroup", "cgroup2")


def _mounts() -> list[tuple[str, str]]:
    """(kind, where) of everything mounted here."""
    rows = [line.split() for line in content("/proc/self/mountinfo").decode(errors="replace").splitlines()]
    return [(row[row.index("-") + 1], row[4]) for row in rows]


def _enter(directory: Path) -> None:
    os.close(os.open(directory / "cgroup.procs", os.O_WRONLY))


def _write(ground: Ground) -> str:
    mounts = _mounts()
    sure(("proc", "/proc") in mounts, "the mounts are readable")
    places = [Path(where) for kind, where in mounts if kind in _KINDS]
    if Path("/sys/fs/cgroup").is_dir():
        places += [Path("/sys/fs/cgroup"), *(p for p in Path("/sys/fs/cgroup").iterdir() if p.is_dir())]
    return first(
        *(failed(f"{place} takes processes", _enter, place) for place in places),
        *(failed(f"a group was made in {place}", (place / f"escape-{ground.id}").mkdir) for place in places),
    )


def _paths(ground: Ground) -> str:
    """Each hierarchy begins where the session is: nothing above is told."""
    for pid in ("self", "1"):
        rows = content(f"/proc/{pid}/cgroup").decode(errors="replace").splitlines()
        sure(rows, f"the groups of {pid} are readable")
        above = [row for row in rows if not row.endswith(":/")]
        if above:
            return f"the host's groups are told: {above[0]}"
    return ""


CHECKS: dict[str, Check] = {"c.write": _write, "c.paths": _paths}
