"""By what a job was asked for, beyond whose words it is."""

from __future__ import annotations

from dataclasses import dataclass

from pilothouse.core.access import Principal


@dataclass(frozen=True, slots=True)
class Origin:
    key: str = ""
    """Id of the key, where one was shown: usage is told by it."""
    trace: str = ""
    """The span that the job's own is a child of (`core.traceparent`); empty where nothing is traced."""

    @classmethod
    def of(cls, who: Principal, trace: str = "") -> Origin:
        return cls(who.id if who.kind == "key" else "", trace)


NOWHERE = Origin()
