"""What is done to the programs, and when: drawn from a seed, so that a run can be repeated.

Fault number n of a seed is always the same one: kind, moment, which session, how long. What it meets in the programs
depends on the machine's scheduling and is not repeated to the microsecond.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

Point = Literal["any", "start", "stream", "tool", "approval", "answer", "end"]
"""Where in a job: at any moment; just submitted; text is streaming; a tool runs; an approval is open; an approval is
being answered; the tools are done and the last words are to come."""
Excuse = Literal["none", "unstarted", "session", "all"]
"""Whose jobs may fail of it: nobody's; those that the agent has not begun; its session's; everybody's."""
POINTS: tuple[Point, ...] = ("any", "any", "start", "stream", "tool", "approval", "answer", "end")


@dataclass(frozen=True, slots=True)
class Kind:
    name: str
    excuse: Excuse
    weight: int = 1
    aims: bool = True
    """It is for one session, or comes when one is at a certain point."""
    root: bool = False
    alone: bool = False
    """Not together with another one of these: they need the server, or its disk, to themselves."""
    longest: float = 0.0
    """Seconds that it lasts, at most."""
    returns: bool = False
    """The server goes and comes back."""


KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("kill-server", "none", weight=2, alone=True, returns=True),
        Kind("term-server", "none", alone=True, returns=True),
        Kind("kill-all", "unstarted", alone=True, returns=True),  # server, keeper and proxy at once
        Kind("kill-twice", "none", alone=True, returns=True),  # again while it is only starting
        Kind("kill-away", "session", alone=True, returns=True),  # a runner or holder dies while no server is there
        Kind("kill-hosts", "unstarted"),  # keeper and proxy: who would start the proxy again is dead too
        Kind("kill-proxy", "unstarted", weight=2),
        Kind("kill-keeper", "unstarted", weight=2),
        Kind("kill-holder", "session", weight=2),
        Kind("kill-sandbox", "session"),
        Kind("kill-runner", "session", weight=3),
        Kind("kill-cli", "session", weight=3),
        Kind("hang-server", "none", alone=True, longest=3.0),
        Kind("hang-proxy", "none", longest=3.0),
        Kind("hang-keeper", "none", longest=3.0),
        Kind("hang-holder", "none", longest=2.5),
        Kind("hang-runner", "none", longest=3.0),
        Kind("hang-cli", "none", longest=3.0),
        Kind("disk-full", "all", root=True, alone=True, longest=2.0),
        Kind("store-fails", "none", alone=True, longest=2.0),
        Kind("store-locked", "none", alone=True, longest=7.0),
        Kind("net-cut", "none", weight=3, aims=False),
        Kind("net-half", "none", weight=2, aims=False),
        Kind("net-stall", "none", weight=2, aims=False, longest=2.0),
        Kind("net-dribble", "none", weight=2, aims=False, longest=2.0),
        Kind("net-delay", "none", weight=2, aims=False, longest=2.0),
        Kind("link-cut", "none", weight=3, root=True),
        Kind("model-cut", "none", weight=2, root=True),
        Kind("clock-jump", "all", weight=2, aims=False, longest=1.0),
    )
}
JUMPS = (90.0, 7200.0, 86_400.0, -30.0, -3600.0, -86_400.0)
"""Seconds by which the clock is set wrong, and then right again."""


@dataclass(frozen=True, slots=True)
class Fault:
    n: int
    kind: Kind
    point: Point
    pause: float
    """Seconds since the fault before."""
    delay: float
    """Seconds after the point was reached."""
    lasts: float
    dice: int
    """For what is drawn when it happens: which session, which bytes."""

    def line(self) -> str:
        lasts = f" lasts={self.lasts:.2f}" if self.lasts else ""
        return f"{self.n} {self.kind.name} point={self.point} pause={self.pause:.2f} delay={self.delay:.3f}{lasts}"


def plan(seed: int, count: int, kinds: Sequence[Kind], pace: float) -> Iterator[Fault]:
    """`count` faults. Each kind comes once per weight in a round, in an order of the round's own. `pace`: the mean
    pause between two."""
    bag = [kind for kind in kinds for _ in range(kind.weight)]
    n = 0
    while n < count:
        order = random.Random(f"{seed}:round:{n}").sample(bag, len(bag))
        for kind in order[: count - n]:
            n += 1
            yield _fault(seed, n, kind, pace)


def _fault(seed: int, n: int, kind: Kind, pace: float) -> Fault:
    dice = random.Random(f"{seed}:{n}")
    return Fault(
        n=n,
        kind=kind,
        point=dice.choice(POINTS) if kind.aims else "any",
        pause=dice.uniform(0.2, 1.8) * pace,
        delay=dice.choice((0.0, dice.uniform(0.0, 0.05), dice.uniform(0.0, 0.4))),
        lasts=dice.uniform(0.2, 1.0) * kind.longest,
        dice=dice.randrange(2**32),
    )
