"""Each attack in a child of its own with a time limit; whatever it leaves behind is ended."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass

from pilothouse.adapters.sandboxes.escape.ground import WHY_MAX, Check, Ground, NotApplicable, Unfit

BLOCKED = "blocked"
OPEN = "open"
SKIPPED = "not applicable"
SECONDS = 15.0
"""Quick checks take milliseconds; a loaded machine gets a generous factor."""
BOMB_SECONDS = 60.0
_ANSWER_MAX = 4096
_VICTIM = b"1000"
"""oom_score_adj: when memory runs out it is the bomb that goes."""


@dataclass(frozen=True)
class Verdict:
    id: str
    state: str
    why: str = ""


def judge(check: Check, ground: Ground) -> tuple[str, str]:
    """In the child."""
    try:
        why = check(ground)
    except NotApplicable as reason:
        return SKIPPED, str(reason)
    except Unfit as error:
        return (SKIPPED, f"shut even for its own: {error}") if ground.reduced else (OPEN, str(error))
    except MemoryError:
        return BLOCKED, "no memory"
    except OSError as error:
        return (SKIPPED, f"shut even for its own: {error}") if ground.reduced else _broke(error)
    except Exception as error:  # noqa: BLE001  whatever it is: an attack that broke off proves nothing
        return _broke(error)
    return (OPEN, why) if why else (BLOCKED, "")


def _broke(error: Exception) -> tuple[str, str]:
    return OPEN, f"the check broke: {type(error).__name__}: {error}"


def _child(check: Check, ground: Ground, into: int, bomb: bool) -> None:
    """Never returns."""
    try:
        os.setpgid(0, 0)
        if bomb:
            with contextlib.suppress(OSError):
                fd = os.open("/proc/self/oom_score_adj", os.O_WRONLY)
                os.write(fd, _VICTIM)
                os.close(fd)
        state, why = judge(check, ground)
        os.write(into, json.dumps((state, why[:WHY_MAX])).encode())
    finally:
        os._exit(0)


def _read(fd: int) -> tuple[str, str] | None:
    """What a child said, None when it died without a word."""
    try:
        state, why = json.loads(os.read(fd, _ANSWER_MAX))
    except ValueError:
        return None
    return str(state), str(why)


def together(checks: Mapping[str, Check], ground: Ground, *, bomb: bool = False) -> list[Verdict]:
    """All of them at one time; back when each has ended and nothing of them is left."""
    running: dict[int, tuple[str, int]] = {}
    verdicts: dict[str, Verdict] = {}
    deadline = time.monotonic() + (BOMB_SECONDS if bomb else SECONDS)
    with selectors.DefaultSelector() as selector:
        for name, check in checks.items():
            out, into = os.pipe2(os.O_CLOEXEC)
            pid = os.fork()
            if pid == 0:
                _child(check, ground, into, bomb)
            os.close(into)
            running[out] = (name, pid)
            selector.register(out, selectors.EVENT_READ)
        while running and (left := deadline - time.monotonic()) > 0:
            for key, _ in selector.select(left):
                name, pid = running.pop(key.fd)
                verdicts[name] = _verdict(name, _read(key.fd), bomb)
                selector.unregister(key.fd)
                os.close(key.fd)
                _end(pid)
        for out, (name, pid) in running.items():
            verdicts[name] = Verdict(name, OPEN, "the check did not end in time")
            os.close(out)
            _end(pid)
    _reap()
    return [verdicts[name] for name in checks]


def _verdict(name: str, said: tuple[str, str] | None, bomb: bool) -> Verdict:
    if said is None:  # killed. A bomb's end is what is wished for; elsewhere it tells nothing
        return Verdict(name, BLOCKED, "killed") if bomb else Verdict(name, OPEN, "the check died")
    return Verdict(name, *said)


def _end(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _reap() -> None:
    """Until no child is left; as subreaper we also inherit those of our children."""
    with contextlib.suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)
