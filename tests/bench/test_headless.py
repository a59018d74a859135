"""The benchmark of calls runs, in its smallest form: it would otherwise only fail for whoever wants to know."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

BENCH = Path(__file__).parents[2] / "bench" / "headless.py"


def test_it_measures_the_real_program() -> None:
    argv = [sys.executable, str(BENCH), "--rounds", "1", "--loads", "1", "--clients", "4", "--json"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    names = {f"{who} {kind} ms" for who in ("ours", "by hand") for kind in ("warm", "cold")}
    for name in names | {f"{kind} {what}" for kind in ("there", "new") for what in ("accepted/s", "ms")}:
        assert found[name]
        assert all(value > 0 for value in found[name])
