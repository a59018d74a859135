"""The server's part is killed in the middle of a flood, again and again, and comes back: no byte of the shell's output
is lost, doubled or changed. Compared byte by byte with what the program itself wrote into a file."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.adapters.shells.conftest import ROOT

LINES = 1_200_000
"""Some 9 MB: several times what is kept, and long enough to be killed in."""
KILLS = 8


def serve(holder: str, got: Path, program: str) -> subprocess.Popen[bytes]:
    words = [sys.executable, "-m", "tests.adapters.shells.serving", holder, str(got), program]
    environ = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    return subprocess.Popen(words, stdout=subprocess.PIPE, cwd=ROOT, env=environ)


def grown(got: Path, by: int, process: subprocess.Popen[bytes]) -> None:
    """Waits until so much more has arrived, or all of it."""
    start = got.stat().st_size if got.exists() else 0
    end = time.monotonic() + 60
    while process.poll() is None and (not got.exists() or got.stat().st_size < start + by):
        assert time.monotonic() < end, "nothing arrives"
        time.sleep(0.001)


def test_no_byte_is_lost_or_doubled_however_often_the_server_is_killed(holder: str, tmp_path: Path) -> None:
    got, written = tmp_path / "got", tmp_path / "written"
    program = f"stty -opost; seq 1 {LINES} | tee {written}"
    rng, said = random.Random(4), []
    for _ in range(KILLS):
        process = serve(holder, got, program)
        with process:
            assert process.stdout is not None
            said.append(process.stdout.readline())
            grown(got, rng.randrange(1, 900_000), process)
            process.send_signal(signal.SIGKILL)
        # What a killed server wrote last may be half of a frame; a client knows what it got, and says so.
        os.truncate(got, max(0, got.stat().st_size - rng.choice([0, 0, 1, 5_000])))
    process = serve(holder, got, program)
    with process:
        assert process.stdout is not None
        said += process.stdout.read().splitlines(keepends=True)
    assert said[0] == b"new\n"
    assert set(said[1:-1]) == {b"found\n"}
    assert said[-1] == b"ended %d\n" % written.stat().st_size
    assert got.read_bytes() == written.read_bytes()
