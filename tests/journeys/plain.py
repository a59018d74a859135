"""Programs as an ordinary user, also where Python lies below a directory that only root can pass."""

from __future__ import annotations

import os
import sys
from pathlib import Path

_BECOME = """
import os, sys
from pathlib import Path
from pilothouse.adapters.sandboxes.owner import named
from pilothouse.adapters.sandboxes.privilege import become, own_parts
uid, needed, argv = sys.argv[1], sys.argv[2].split(":"), sys.argv[3:]
become(named(uid), [*map(Path, needed), *own_parts()])
os.execv(argv[0], argv)
"""


def as_user(uid: int, *needed: Path) -> list[str]:
    """What to put before a command so that it runs as `uid`, with `needed` in reach. Only for root."""
    return [sys.executable, "-c", _BECOME, str(uid), os.pathsep.join(map(str, needed))]
