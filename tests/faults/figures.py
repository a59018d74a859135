"""What a run counted: the promises' breaches, the faults, the times; and the same as a Markdown table."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

SOON_S = 1.0
"""All viewers whole within this after the server is back."""
BREACHES: dict[str, str] = {
    "lost": "events lost by a viewer",
    "doubled": "events doubled for a viewer",
    "reordered": "events reordered for a viewer",
    "differs": "events whose bytes differ between log and viewer",
    "broken": "messages that could not be read",
    "log": "faults of the log itself (numbers, file and API)",
    "ran twice": "commands run twice",
    "ran unallowed": "commands run that were denied or not answered",
    "not run": "commands reported as run that did not run",
    "complete": "jobs without exactly one `complete`, as their last event",
    "hung": "jobs that did not end",
    "no reason": "jobs that failed without a reason",
    "no cause": "jobs that failed although no fault of theirs was fatal to them",
    "prompt": "prompts accepted twice or lost",
    "approval": "approvals not resolved exactly once, or not as answered",
    "text": "jobs whose shown text is not what was said",
    "usage": "usage records lost or counted twice",
    "never whole": "viewers that did not become whole",
    "left": "processes or mounts left at the end",
    "unchecked": "sessions that could not be checked to their end",
    "server": "times that the server did not come back",
}


@dataclass
class Figures:
    seed: int
    say: Callable[[str], None] = lambda _: None
    began: float = field(default_factory=time.monotonic)
    took: float = 0.0
    breaches: list[tuple[str, str]] = field(default_factory=list)
    injected: Counter[str] = field(default_factory=Counter)
    missed: Counter[str] = field(default_factory=Counter)
    left_out: list[str] = field(default_factory=list)
    points: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    plans: Counter[str] = field(default_factory=Counter)
    sessions: Counter[str] = field(default_factory=Counter)
    commands_run: int = 0
    lost_on_disk: int = 0
    approvals: int = 0
    events: int = 0
    witnessed: int = 0
    connects: int = 0
    resets: int = 0
    viewers: int = 0
    calls: int = 0
    returns: int = 0
    whole: list[float] = field(default_factory=list)
    """Seconds from the server's return until a viewer was whole, one for each viewer and return."""
    whole_slow: list[float] = field(default_factory=list)
    """The same for viewers that read slowly."""
    recovered: list[float] = field(default_factory=list)
    """Seconds from a fault's end until every viewer had what the log had then."""

    def breach(self, kind: str, text: str) -> None:
        assert kind in BREACHES, kind
        self.say(f"BROKEN {kind}: {text}")
        self.breaches.append((kind, text))

    @property
    def faults(self) -> int:
        return self.injected.total()

    def kept(self) -> bool:
        return not self.breaches

    def late(self) -> str:
        return f"{sum(t > SOON_S for t in self.whole)} of {len(self.whole)}"

    def table(self) -> str:
        found = Counter(kind for kind, _ in self.breaches)
        rows = [
            ("faults injected", f"{self.faults}"),
            ("by kind", ", ".join(f"{k} {n}" for k, n in sorted(self.injected.items()))),
            ("at which point of a job", ", ".join(f"{k} {n}" for k, n in sorted(self.points.items()))),
            ("not injected (nobody there to hit at that moment)", f"{self.missed.total()}"),
            ("kinds left out on this machine", ", ".join(self.left_out) or "none"),
            ("seed", f"{self.seed}"),
            ("time", f"{self.took / 60:.1f} min"),
            ("sessions", ", ".join(f"{k} {n}" for k, n in sorted(self.sessions.items()))),
            ("jobs", f"{self.outcomes.total()}: " + ", ".join(f"{k} {n}" for k, n in sorted(self.outcomes.items()))),
            ("commands", f"{self.plans.total()}: " + ", ".join(f"{k} {n}" for k, n in sorted(self.plans.items()))),
            ("commands that ran", f"{self.commands_run}"),
            ("of them, lines in the workspace that the full disk lost", f"{self.lost_on_disk}"),
            ("approvals", f"{self.approvals}"),
            ("events in the logs", f"{self.events}"),
            ("events received by viewers, each compared", f"{self.witnessed}"),
            ("viewers, and how often they connected", f"{self.viewers}, {self.connects}"),
            ("calls to the model that were metered", f"{self.calls}"),
            *((text, f"**{found[kind]}**") for kind, text in BREACHES.items()),
            ("returns of the server", f"{self.returns}"),
            ("from its return until a viewer is whole", _times(self.whole)),
            ("viewers later than one second", self.late()),
            ("the same for viewers that read slowly", _times(self.whole_slow)),
            ("from the end of any other fault until all viewers are whole", _times(self.recovered)),
        ]
        return "\n".join(["| what | how much |", "|---|---|", *(f"| {what} | {much} |" for what, much in rows)])


def _times(seconds: list[float]) -> str:
    if not seconds:
        return "none measured"
    cuts = statistics.quantiles(seconds, n=100, method="inclusive") if len(seconds) > 1 else seconds * 99
    return f"p50 {cuts[49]:.2f} s, p99 {cuts[98]:.2f} s, longest {max(seconds):.2f} s ({len(seconds)} measured)"
