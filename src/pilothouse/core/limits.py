"""What one session may use: the names, their units and bounds, and a caller's own wishes.

    {"memory": 2147483648, "cpu": 1.5}    any of the names; the others are as configured

A caller may ask for less than what is configured; for more only if `most` is None (an administrator).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from pilothouse.core import sizes
from pilothouse.core.errors import BadRequest

KIB, MIB, GIB, TIB = 1 << 10, 1 << 20, 1 << 30, 1 << 40

Unit = Literal["bytes", "count", "cores"]
Enforced = Literal["cgroup", "image", "watchdog", "rlimit", "tmpfs", "none"]


@dataclass(frozen=True, slots=True)
class Kind:
    name: str
    unit: Unit
    low: float
    """Below it no agent starts, or the kernel refuses."""
    high: float

    def shown(self, value: float) -> str:
        return sizes.text(value) if self.unit == "bytes" else f"{value:g}"


KINDS = {
    kind.name: kind
    for kind in (
        Kind("memory", "bytes", 64 * MIB, 64 * TIB),
        Kind("processes", "count", 16, 1_000_000),
        Kind("cpu", "cores", 0.05, 4096),
        Kind("disk", "bytes", 64 * MIB, 15 * TIB),
        Kind("files", "count", 1000, 1_000_000_000),
        Kind("tmp", "bytes", MIB, 64 * TIB),
        Kind("shm", "bytes", MIB, 64 * TIB),
        Kind("run", "bytes", MIB, 64 * TIB),
    )
}


@dataclass(frozen=True, slots=True)
class Caps:
    """All limits of a session."""

    memory: int = 4 * GIB
    """Bytes, /tmp, /dev/shm and /run among them."""
    processes: int = 512
    """Threads count."""
    cpu: float = 1.0
    disk: int = 10 * GIB
    """Workspace and home together."""
    files: int = 500_000
    tmp: int = 256 * MIB
    shm: int = 64 * MIB
    run: int = 16 * MIB

    def given(self, name: str) -> float:
        value: float = getattr(self, name)
        return value

    def changed(self, asked: Mapping[str, float]) -> Caps:
        """With some of them otherwise; `asked` has been checked."""
        values = {n: float(v) if KINDS[n].unit == "cores" else int(v) for n, v in asked.items()}
        return replace(self, **values)  # type: ignore[arg-type]  # the names are KINDS' own

    def values(self) -> dict[str, float]:
        return {name: self.given(name) for name in KINDS}


@dataclass(frozen=True, slots=True)
class State:
    """One limit of one session as it is now."""

    name: str
    unit: Unit
    max: float | None
    used: float | None
    enforced: Enforced
    hits: int = 0
    """How often it was reached since the sandbox was started."""


def planned(caps: Caps, enforced: Mapping[str, Enforced]) -> list[State]:
    """Of a session that does not run."""
    return [State(k.name, k.unit, caps.given(k.name), None, enforced.get(k.name, "none")) for k in KINDS.values()]


def check(asked: Mapping[str, object], most: Caps | None = None) -> dict[str, float]:
    """The wishes as numbers. Raises BadRequest naming the limit."""
    found: dict[str, float] = {}
    for name, value in asked.items():
        kind = KINDS.get(name)
        if kind is None:
            raise BadRequest(f"limits.{name[:40]}: there is no such limit; there are {', '.join(KINDS)}")
        if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
            raise BadRequest(f"limits.{name}: expected a number of {_unit(kind)}")
        if kind.unit != "cores" and value != value // 1:
            raise BadRequest(f"limits.{name}: expected a whole number of {_unit(kind)}")
        high = kind.high if most is None else min(most.given(name), kind.high)
        if not kind.low <= value <= high:
            more = "" if most is None or value < kind.low else "; more takes a server's admin, or the setting limits."
            raise BadRequest(
                f"limits.{name}: from {kind.shown(kind.low)} to {kind.shown(high)}, not "
                f"{kind.shown(min(value, 1e15))}{more + name if more else ''}"
            )
        found[name] = value
    return found


def _unit(kind: Kind) -> str:
    return {"bytes": "bytes", "cores": "cores", "count": "them"}[kind.unit]
