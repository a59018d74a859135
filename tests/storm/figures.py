"""What a run counted, and the same as a Markdown table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

BREACHES: dict[str, str] = {
    "lost": "events lost by a subscriber",
    "doubled": "events doubled for a subscriber, or out of order",
    "differs": "events whose bytes differ between subscribers, or from the log",
    "gap": "gaps told, where everything is kept",
    "log": "events of the log that nobody published, or twice, or in another order than their publisher's; or missing",
    "late": "subscribers that did not become whole",
}


@dataclass
class Return:
    """A server that went, and came."""

    how: str
    stopped_s: float = 0.0
    """From the signal to the end of the process."""
    down_s: float = 0.0
    """From its end until the next one answers."""
    back_s: float = 0.0
    """From then until every subscriber is subscribed again."""
    accept_s: float = 0.0
    """The longest that one which got in had waited for the answer to its upgrade."""
    errors: Counter[str] = field(default_factory=Counter)
    closes: Counter[str] = field(default_factory=Counter)


@dataclass
class Figures:
    seed: int
    subscribers: int
    publishers: int
    say: Callable[[str], None] = lambda _: None
    breaches: list[tuple[str, str]] = field(default_factory=list)
    took: float = 0.0
    events: int = 0
    delivered: int = 0
    """Each compared with what all others got."""
    connections: int = 0
    first_s: float = 0.0
    """Until all had subscribed for the first time."""
    cuts: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    """Of attempts to connect or subscribe that came to nothing."""
    closes: Counter[str] = field(default_factory=Counter)
    repeats: int = 0
    """Publishes that were sent again under their key."""
    returns: list[Return] = field(default_factory=list)
    accept_s: float = 0.0
    memory_mb: float = 0.0
    processor_s: float = 0.0

    def breach(self, kind: str, text: str) -> None:
        assert kind in BREACHES, kind
        self.breaches.append((kind, text))
        if len(self.breaches) <= 20:
            self.say(f"BROKEN {kind}: {text}")

    def kept(self) -> bool:
        return not self.breaches

    def table(self) -> str:
        found = Counter(kind for kind, _ in self.breaches)
        rows: list[tuple[str, object]] = [
            ("subscribers, publishers, seed", f"{self.subscribers}, {self.publishers}, {self.seed}"),
            ("events", self.events),
            ("events received, each compared", self.delivered),
            ("connections", self.connections),
            ("all subscribed for the first time after", f"{self.first_s:.2f} s"),
            ("connections cut by the harness", listed(self.cuts)),
            ("connections closed by the server", listed(self.closes)),
            ("attempts to come back that failed", listed(self.errors)),
            ("publishes sent again under their key", self.repeats),
            ("longest wait for the answer to an upgrade", f"{self.accept_s:.2f} s"),
            ("time", f"{self.took:.0f} s"),
            ("server: most memory, processor time", f"{self.memory_mb:.0f} MB, {self.processor_s:.0f} s"),
        ]
        for number, one in enumerate(self.returns, 1):
            times = f"ended after {one.stopped_s:.2f} s, away {one.down_s:.2f} s, all back {one.back_s:.2f} s later"
            counts = f"closed: {listed(one.closes)}; failed attempts: {listed(one.errors)}"
            told = f"{times}; longest wait {one.accept_s:.2f} s; {counts}"
            rows.append((f"return {number}, {one.how}", told))
        rows += [(text, f"**{found[kind]}**") for kind, text in BREACHES.items()]
        return "\n".join(["| what | how much |", "|---|---|", *[f"| {name} | {value} |" for name, value in rows]])


def listed(counted: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counted.items())) or "none"


def longest(times: Sequence[float]) -> float:
    return max(times, default=0.0)
