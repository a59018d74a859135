"""Which check may fail where. Literal: what is not in this table must be blocked."""

from __future__ import annotations

from pilothouse.adapters.sandboxes.escape.attempt import OPEN, Verdict

ROOT_IMAGE = "root with image"
ROOT = "root"
UNPRIVILEGED = "unprivileged"
REDUCED = "reduced"

_NO_QUOTA = frozenset({"l.disk", "l.inodes"})
"""Without an image of its own the workspace lies on the host's file system."""
_NO_CGROUP = frozenset({"l.mem", "l.memfork", "l.cpu"})
"""Without a cgroup nothing counts memory and processor time of a whole session."""
_NO_NAMESPACES = frozenset({"s.unix", "s.abstract"})
"""Landlock keeps nobody from sockets that are open to everybody on the host, before ABI 6 not from abstract ones."""

PERMITTED: dict[str, frozenset[str]] = {
    ROOT_IMAGE: frozenset(),
    ROOT: _NO_QUOTA,
    UNPRIVILEGED: _NO_QUOTA | _NO_CGROUP,
    REDUCED: _NO_QUOTA | _NO_CGROUP | _NO_NAMESPACES,
}


def name(*, root: bool, image: bool, isolation: str) -> str:
    if isolation == "reduced":
        return REDUCED
    if not root:
        return UNPRIVILEGED
    return ROOT_IMAGE if image else ROOT


def unexpected(profile: str, verdicts: list[Verdict]) -> list[Verdict]:
    """What failed and may not."""
    return [v for v in verdicts if v.state == OPEN and v.id not in PERMITTED[profile]]
