"""The proxy as the keeper's ward: started, found again by a new keeper, restarted with a growing pause when it dies."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from pathlib import Path

from pilothouse.adapters.sandboxes.layout import Layout, read_own, written

FIRST_PAUSE_S = 0.5
PAUSE_MAX_S = 30.0
STEADY_S = 60.0
"""A proxy that lived this long gets a fresh row of attempts."""


def _started(pid: int) -> str:
    """When a live process began, in ticks since boot: with the pid a name that is not given twice. One that has ended
    and is only not reaped yet (a container's first process may never do that) is not alive."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if fields[0] in "ZX" else fields[19]
    except (OSError, IndexError):
        return ""


class Proxy:
    def __init__(self, layout: Layout, user: str = "") -> None:
        """`user`: UID:GID that the proxy becomes, "" to stay who the keeper is."""
        self._layout = layout
        self._user = ("--user", user) if user else ()
        self._note = layout.runtime / "proxy.pid"
        self._pause = FIRST_PAUSE_S
        self._next = 0.0
        self._since = 0.0
        self._mark = ""
        self.pid: int | None = None
        with contextlib.suppress(OSError, ValueError):
            pid, mark = self._read().split()
            if mark and _started(int(pid)) == mark:
                self.pid, self._mark = int(pid), mark

    def tend(self, now: float) -> None:
        """Often. Starts it when it is time."""
        if self.pid is not None and _started(self.pid) != self._mark:
            self._pause = FIRST_PAUSE_S if now - self._since > STEADY_S else min(self._pause * 2, PAUSE_MAX_S)
            self._next = now + self._pause
            self.pid = None
        if self.pid is None and now >= self._next:
            self._start(now)

    def _start(self, now: float) -> None:
        import subprocess  # it brings threading along, whose work after each fork costs every holder 400 KB

        places = ["--home", str(self._layout.home), "--runtime", str(self._layout.runtime)]
        child = subprocess.Popen(  # noqa: S603
            [sys.executable, "-P", "-m", "pilothouse", "proxy", *places, *self._user],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        child.returncode = 0  # the keeper reaps every child itself
        self.pid, self._since, self._mark = child.pid, now, _started(child.pid)
        written(self._note, f"{child.pid} {self._mark}\n")

    def _read(self) -> str:
        """What a keeper wrote down; somebody else's file could have us end any process."""
        return read_own(self._note)

    def stop(self) -> None:
        if self.pid is not None and _started(self.pid) == self._mark:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)
        self._note.unlink(missing_ok=True)
