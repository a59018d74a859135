from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def holder() -> Iterator[str]:
    """A process that holds shells; the path of its socket."""
    with tempfile.TemporaryDirectory(prefix="ph-", dir="/tmp") as folder:
        path = f"{folder}/shells"
        words = [sys.executable, "-m", "tests.adapters.shells.keeping", path]
        environ = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
        process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, env=environ)
        assert process.stdin is not None and process.stdout is not None
        with process:
            assert process.stdout.readline() == b"ready\n"
            yield path
            process.stdin.close()
            assert process.wait(30) == 0
