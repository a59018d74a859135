"""What this process uses of the machine, as Linux says it; elsewhere as much as is known everywhere."""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path

from pilothouse.engine.ports import Vitals

SELF = Path("/proc/self")
_STARTED_FIELD = 19
"""Of `/proc/self/stat`, counted from behind the name, which may have spaces and brackets in it."""


def vitals() -> Vitals:
    used = resource.getrusage(resource.RUSAGE_SELF)
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    cpu = used.ru_utime + used.ru_stime
    try:
        stat = (SELF / "stat").read_text().rpartition(")")[2].split()
        booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
        started = booted + int(stat[_STARTED_FIELD]) / os.sysconf("SC_CLK_TCK")
        resident = int((SELF / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        return Vitals(cpu, started, most, resident, sum(1 for _ in (SELF / "fd").iterdir()) - 1)
    except (OSError, ValueError, IndexError, AttributeError):
        return Vitals(cpu, time.time() - time.process_time(), most)
