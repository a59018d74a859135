"""The wiring's own parts."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import structlog
from structlog.testing import capture_logs

from pilothouse import server


class FullDisk:
    """A logger whose file is on it."""

    asked = 0

    def warning(self, what: str, **fields: object) -> None:
        self.asked += 1
        raise OSError(errno.ENOSPC, "No space left on device")

    info = warning


def test_a_note_that_cannot_be_written_stops_nothing() -> None:
    logger = FullDisk()
    server._noter(logger)("store_failed", session="s", error="the disk is full")
    assert logger.asked == 1


def test_what_has_failed_is_noted_as_a_warning() -> None:
    with capture_logs() as told:
        note = server._noter(structlog.get_logger())
        note("hook_failed", hook="handlers:handler", error="ValueError: no")
        note("session_idle", session="s")
    assert [(one["event"], one["log_level"]) for one in told] == [("hook_failed", "warning"), ("session_idle", "info")]


def test_a_sealing_key_that_others_may_read_is_refused_before_anything_is_started() -> None:
    with tempfile.TemporaryDirectory(prefix="ph-") as name:  # short enough for unix sockets below it
        home = Path(name)
        key = home / "sealing.key"
        key.write_bytes(b"k" * 32)
        key.chmod(0o644)
        env = {"PATH": os.environ["PATH"], "HOME": name, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        env |= {"PILOTHOUSE_HOME": name, "PILOTHOUSE_RUNTIME": f"{name}/run"}
        command = [sys.executable, "-m", "pilothouse", "serve", "--port", "0", "--sandbox", "host"]
        ended = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
        assert ended.returncode == 1
        assert "chmod 600" in ended.stderr
        assert list((home / "run").iterdir()) == []
