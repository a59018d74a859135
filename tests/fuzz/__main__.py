"""`python -m tests.fuzz`: the event API under whatever can be said, for so many minutes. Exit status: 0 nothing was
found, 1 something, 2 usage.

One server after another, with a store on disk, each for `STAY_S`: its memory is told while it is there and when it has
gone. What is found is told with the smallest case that shows it; it belongs into the corpus.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from pilothouse.adapters.stores.sqlite import SqliteStore
from tests.fuzz import cases, rules
from tests.fuzz.house import House, house

STAY_S = 60.0
AT_ONCE = 200
"""Cases between two looks at the clock."""
WARM = 4
"""Servers before memory is compared: both kinds, and what is made once."""
GROWTH_MAX = 16.0
"""MB that the process may have more at the end than after `WARM` servers."""


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _resident() -> float:
    """MB of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20


class Run:
    def __init__(self, minutes: float, first: int) -> None:
        self._until = time.monotonic() + minutes * 60
        self._seed = first
        self.counts: Counter[str] = Counter()
        self.found = 0
        self.held: list[float] = []
        """MB of the process when a server has gone."""

    def over(self) -> bool:
        return time.monotonic() >= self._until

    def cases(self, name: str, strategy: st.SearchStrategy[Any], check: Callable[[Any], None]) -> None:
        self._seed += 1

        @seed(self._seed)
        @settings(max_examples=AT_ONCE, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(strategy)
        def one(case: Any) -> None:
            self.counts[name] += 1
            check(case)

        try:
            one()
        except Exception:
            self.found += 1
            _say(f"FOUND with {name}, seed {self._seed}\n{traceback.format_exc()}")

    def server(self, kind: str, place: Path) -> None:
        began = time.monotonic()
        with asyncio.Runner() as runner:
            store = runner.run(SqliteStore.open(place / "store.db"))
            server = house(hot=kind == "hot", store=store)
            one = runner.run(server.__aenter__())
            low = _resident()
            try:
                while not self.over() and time.monotonic() - began < STAY_S:
                    self._with(one, kind, runner.run)
                    self._core()
                high = _resident()
            finally:
                try:
                    runner.run(server.__aexit__(None, None, None))
                except AssertionError:
                    self.found += 1
                    _say(f"FOUND at the end of a server\n{traceback.format_exc()}")
                runner.run(store.close())
        gc.collect()
        self.held.append(_resident())
        told = ", ".join(f"{name} {n}" for name, n in sorted(self.counts.items()))
        _say(
            f"{kind}: {low:.0f} MB, at the end {high:.0f}, without it {self.held[-1]:.0f}; cases: {told}; "
            f"found {self.found}"
        )

    def _with(self, one: House, kind: str, run: Callable[[Coroutine[Any, Any, None]], None]) -> None:
        self.cases(
            f"connection, {kind}", st.tuples(cases.openings, cases.packets), lambda case: run(one.connection(*case))
        )
        self.cases(f"request, {kind}", cases.posts, lambda case: run(one.post(case)))

    def _core(self) -> None:
        self.cases("conversation", st.lists(cases.frames, max_size=12), rules.conversation)
        self.cases("body", cases.bodies, rules.body)
        self.cases("channel", cases.channel, rules.channel)
        self.cases("answer", cases.anything, rules.answer)

    def grown(self) -> float:
        """MB that there are more than when everything was warm."""
        return self.held[-1] - self.held[WARM - 1] if len(self.held) > WARM else 0.0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0, help="how long (30)")
    parser.add_argument("--seed", type=int, default=1, help="of the cases (1)")
    given_ = parser.parse_args()
    run, number = Run(given_.minutes, given_.seed * 1_000_000), 0
    while not run.over():
        with tempfile.TemporaryDirectory(prefix="ph-fuzz-") as place:
            run.server(("hot", "plain")[number % 2], Path(place))
        number += 1
    grown = run.grown()
    _say(f"{sum(run.counts.values())} cases, {number} servers, found {run.found}, memory grown by {grown:.1f} MB")
    return 1 if run.found or grown > GROWTH_MAX else 0


if __name__ == "__main__":
    sys.exit(main())
