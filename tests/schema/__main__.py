"""`python -m tests.schema`: schemathesis over the whole document for so many minutes. Exit status: 0 nothing was found,
1 something, 2 usage.

One server after another, each with the next seed, so that what piles up in one is not all that is looked at.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path

from tests.schema import conduct

STAY_S = 150
"""With one server, at most."""
PHASES = "examples,coverage,fuzzing,stateful"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.schema")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=1, help="of the first server; the next has the next")
    options = parser.parse_args()
    until, seed, cases, found = time.monotonic() + options.minutes * 60, options.seed, 0, 0
    while (left := until - time.monotonic()) > 1:
        with tempfile.TemporaryDirectory() as place:
            ended = asyncio.run(
                conduct.run(Path(place), seed=seed, seconds=min(STAY_S, int(left)), examples=200, phases=PHASES)
            )
        cases += ended.cases
        sys.stdout.write(f"seed {seed}: {ended.cases} cases, exit {ended.status}\n")
        sys.stdout.flush()
        if ended.status or ended.left:
            found += 1
            sys.stdout.write(f"{ended.said}\n{ended.left}\n")
        seed += 1
    sys.stdout.write(f"{cases} cases in all, {seed - options.seed} seeds, {found} with something found\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
