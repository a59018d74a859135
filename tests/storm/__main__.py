"""`python -m tests.storm`: many subscribers of the event API in the real program, cut and killed. Exit status: 0 every
promise kept, 1 not, 2 usage."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

import uvloop

from tests.storm import conduct
from tests.storm.conduct import Options


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.storm", description=__doc__)
    parser.add_argument("--subscribers", type=int, help="how many (1000; with --restart 5000)")
    parser.add_argument("--publishers", type=int, default=10, help="how many at one time (10)")
    parser.add_argument("--events", type=int, default=20_000, help="that they publish (20000)")
    parser.add_argument("--cut", type=float, default=20.0, metavar="S", help="mean life of a connection (20)")
    parser.add_argument("--seed", type=int, default=1, help="of cuts and events (1)")
    parser.add_argument("--restart", action="store_true", help="no cuts: SIGTERM and kill -9 under all subscribers")
    parser.add_argument("--fixed", type=float, default=0.0, metavar="S", help="come back after S, as Amplify after 5")
    return parser.parse_args()


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main() -> int:
    given = _arguments()
    common = {"seed": given.seed, "fixed_s": given.fixed, "say": _say}
    place = Path(tempfile.mkdtemp(prefix="ph-storm-", dir="/tmp"))
    place.chmod(0o755)
    try:
        if given.restart:
            options = Options(given.subscribers or 5000, 1, 0, ("SIGTERM", "kill -9"), 0.0, **common)
            figures = uvloop.run(conduct.restart(options, place))
        else:
            options = Options(given.subscribers or 1000, given.publishers, given.events, cut_s=given.cut, **common)
            figures = uvloop.run(conduct.storm(options, place))
    finally:
        shutil.rmtree(place, ignore_errors=True)
    _say(figures.table())
    return 0 if figures.kept() else 1


if __name__ == "__main__":
    sys.exit(main())
