"""The benchmark of fan-out runs, in its smallest form and against nobody: it would otherwise only fail for whoever
wants to know."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCH = Path(__file__).parents[2] / "bench" / "fanout.py"
SMALLEST = ("--rounds", "1", "--sizes", "1,5", "--seconds", "0.3", "--tokens", "5", "--json")
LINES = ("deliveries/s", "CPU us", "p50 ms", "p99 ms")


def figures(who: str) -> dict[str, Any]:
    argv = [sys.executable, str(BENCH), *SMALLEST, "--only", who]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    (found,) = json.loads(done.stdout)[who]
    for size in (1, 5):
        for load in ("closed", "open"):
            assert all(found[f"{size} {load} {line}"] > 0 for line in LINES)
            assert found[f"{size} {load} p50 ms"] <= found[f"{size} {load} p99 ms"]
    assert found["connects/s"] > 0
    return dict(found)


@pytest.mark.parametrize("who", ["pilothouse", "with history"])
def test_it_measures_the_real_program(who: str) -> None:
    found = figures(who)
    assert who != "pilothouse" or 0 < found["token p50 ms"] <= found["token p99 ms"]


def test_it_measures_a_peer_that_needs_no_installing() -> None:
    figures("starlette")
