"""`python -m tests.faults`: faults by plan on the real programs. Exit status: 0 every promise kept, 1 not, 2 usage."""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path

from tests.faults import conduct
from tests.faults.figures import Figures
from tests.faults.plan import KINDS

BEGIN, END = "<!-- figures -->", "<!-- end of figures -->"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--count", type=int, default=60, help="faults to inject (60)")
    parser.add_argument("--seed", type=int, default=1, help="of the plan (1)")
    parser.add_argument(
        "--only", action="append", metavar="KIND", choices=sorted(KINDS), help="this kind alone; again for more"
    )
    parser.add_argument("--pace", type=float, default=0.6, help="mean seconds between two faults (0.6)")
    parser.add_argument("--claude", type=int, default=2, help="sessions of the real agent at a time (2)")
    parser.add_argument("--echo", type=int, default=4, help="sessions of the echo agent at a time (4)")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="leave the logs of the programs and the store here")
    parser.add_argument("--report", type=Path, metavar="FILE", help="put the figures between the marks of this page")
    return parser.parse_args()


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def write(page: Path, figures: Figures) -> None:
    text = page.read_text()
    made = re.sub(f"{BEGIN}.*?{END}", lambda _: f"{BEGIN}\n{figures.table()}\n{END}", text, count=1, flags=re.DOTALL)
    page.write_text(made)


def main() -> int:
    given = _arguments()
    if given.report and BEGIN not in given.report.read_text():  # before the run, not after it
        raise SystemExit(f"{given.report}: no {BEGIN} … {END} in it")
    kinds = [KINDS[name] for name in given.only or KINDS]
    options = conduct.Options(given.seed, given.count, kinds, given.claude, given.echo, given.pace, _say)
    place = Path(tempfile.mkdtemp(prefix="ph-faults-", dir="/tmp"))
    os.environ.setdefault("PILOTHOUSE_TEST_RUN", place.name)
    try:
        figures = asyncio.run(conduct.run(options, place, given.keep))
    finally:
        shutil.rmtree(place, ignore_errors=True)
    _say(figures.table())
    if given.report:
        write(given.report, figures)
    return 0 if figures.kept() else 1


if __name__ == "__main__":
    sys.exit(main())
