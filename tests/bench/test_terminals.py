"""The benchmark of terminals runs, in its smallest form and against nobody: it would otherwise only fail for whoever
wants to know."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

BENCH = Path(__file__).parents[2] / "bench" / "terminals.py"
SMALLEST = ("--rounds", "1", "--floods", "2", "--megabytes", "1", "--seconds", "0.1", "--only", "pilothouse", "--json")


def test_it_measures_the_real_program() -> None:
    done = subprocess.run([sys.executable, BENCH, *SMALLEST], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    (figures,) = json.loads(done.stdout)["pilothouse"]
    assert figures["cat bytes/frame"] > 1000
    assert 0 < figures["echo p50 ms"] <= figures["echo p99 ms"]
    assert min(figures.values()) >= 0
    for line in ("cat MB/s", "cat CPU ms/MB", "flooded echo p50 ms", "flood MB/s", "MB/idle shell with its session"):
        assert figures[line] > 0, line
