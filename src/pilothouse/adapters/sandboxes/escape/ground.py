"""What a check is told of the canaries, and how it says what it found.

A check is a function of the `Ground`. It answers "" when its attack was refused, else what was possible; it raises
`NotApplicable` where the attack has no meaning, and `Unfit` when its own control failed: a check that could not have
succeeded proves nothing, so it counts as failed. (At the level `reduced` much is shut that a control needs, one's own
/proc and ptrace among it; there such a check does not apply, and says so.)
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

VARIABLE = "PILOTHOUSE_ESCAPE"
"""The ground travels in this variable and not in an argument, since checks search command lines for host paths."""
WHY_MAX = 90
"""All answers of a group fit what a holder keeps of a program's output."""
REFUSALS = frozenset({errno.EPERM, errno.EACCES, errno.ENOSYS, errno.EROFS})
"""How a kernel says no. Any other error means that the attack got further than it should."""


class NotApplicable(Exception):
    """The attack has no meaning here; the message says why."""


class Unfit(Exception):
    """The check's own control failed."""


@dataclass(frozen=True)
class Ground:
    id: str
    halves: tuple[str, str]
    """The secret in two parts: what carries this text about must not be taken for a leak of it."""
    files: dict[str, str]
    """Canary files of the host, by what they stand for."""
    pid: int
    """The canary's, as the host counts."""
    port: int
    udp: int
    sockets: dict[str, str]
    abstract: str
    shared_key: int
    terminal: int
    """The number of a pseudo-terminal of the host."""
    paths: tuple[str, ...]
    """Directories of the host that no command line inside may show."""
    limits: dict[str, float] = field(default_factory=dict)
    """Those in force for this session: memory and disk in bytes, cpu in processors; absent: none."""
    isolation: str = "namespaces"
    """As the probe found it. At the level `reduced` a session has the host's paths and numbers of processes."""
    root: str = ""
    home: str = ""
    tmp: str = ""
    """Of the session, as it sees them itself: workspace, home, temporary files. Filled in inside."""

    @property
    def reduced(self) -> bool:
        return self.isolation == "reduced"

    @property
    def writable(self) -> tuple[str, ...]:
        """Where a session may make files."""
        own = (self.root, self.home, self.tmp)
        return own if self.reduced else (*own, "/dev/shm", "/run")  # noqa: S108

    def own(self, name: str) -> Path:
        """A name in the workspace that nobody else has."""
        return Path(self.root, f".escape-{self.id}-{name}")

    @property
    def secret(self) -> bytes:
        return "".join(self.halves).encode()


Check = Callable[[Ground], str]


def encode(ground: Ground) -> str:
    return json.dumps(asdict(ground))


def decode(text: str, root: str, home: str, tmp: str) -> Ground:
    found = json.loads(text) | {"root": root, "home": home, "tmp": tmp}
    found["halves"], found["paths"] = tuple(found["halves"]), tuple(found["paths"])
    return Ground(**found)


def sure(good: object, what: str) -> None:
    """A control: the check works at all. Raises Unfit."""
    if not good:
        raise Unfit(f"control: {what}")


def refused(what: str, attack: Callable[..., object], *arguments: object) -> str:
    """ "" when the kernel says no, else `what` was possible."""
    try:
        attack(*arguments)
    except OSError as error:
        if error.errno in REFUSALS:
            return ""
        return f"{what}: reached the kernel ({errno.errorcode.get(error.errno or 0)})"
    return what


def failed(what: str, attack: Callable[..., object], *arguments: object) -> str:
    """ "" when it ends in any error of the system, else `what` was possible."""
    try:
        attack(*arguments)
    except OSError:
        return ""
    return what


def first(*answers: str) -> str:
    """The first that tells of a hole."""
    return next((answer for answer in answers if answer), "")


def content(path: str | Path) -> bytes:
    """The beginning of a file, b"" when it cannot be read."""
    try:
        with Path(path).open("rb") as file:
            return file.read(65536)
    except OSError:
        return b""


def status(pid: int | str, name: str) -> str:
    """A line of /proc/PID/status; "" when there is none."""
    for line in content(f"/proc/{pid}/status").decode(errors="replace").splitlines():
        if line.startswith(name + ":"):
            return line.split(":", 1)[1].strip()
    return ""


def pids() -> list[int]:
    """None where not even /proc may be listed."""
    try:
        return sorted(int(name) for name in os.listdir("/proc") if name.isdecimal())  # noqa: PTH208
    except PermissionError:
        return []
