"""Processes outside: to see them, look into them, signal them, outlive them."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path

from pilothouse.adapters.sandboxes.escape import calls
from pilothouse.adapters.sandboxes.escape.ground import (
    Check,
    Ground,
    NotApplicable,
    content,
    failed,
    first,
    pids,
    status,
    sure,
)

_SEIZE, _DETACH = 0x4206, 17
"""Seize, not attach: attaching would stop whoever it hits."""
_OURS = b"pilothouse.adapters.sandboxes.escape"


def _is_canary(ground: Ground) -> bool:
    """Whether the canary's number names the canary here: in a namespace of one's own it may name anybody."""
    return ground.reduced or ground.secret in content(f"/proc/{ground.pid}/cmdline")


def _holding(attack: Callable[[int], object], target: int, control: bool = True) -> bool:
    """Whether `attack` works on a process; it must on a child of ours, or it proves nothing."""
    if control:
        child = os.fork()
        if child == 0:
            signal.pause()
        try:
            attack(child)
        except OSError:
            sure(False, "it works on a process of one's own")
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    try:
        attack(target)
    except OSError:
        return False
    return True


def _hits(ground: Ground, attack: Callable[[int], object], what: str) -> str:
    """On the canary, and on the session's first process, which holds its sockets."""
    if not ground.reduced and _holding(attack, 1):
        return f"the first process: {what}"
    return f"the canary: {what}" if _is_canary(ground) and _holding(attack, ground.pid, ground.reduced) else ""


def _visible(ground: Ground) -> str:
    sure(os.getpid() in pids(), "one's own process is in /proc")
    if ground.secret in content(f"/proc/{ground.pid}/cmdline"):
        return "a process of the host is visible"
    for pid in pids():
        uids = status(pid, "Uid").split()
        if uids and set(uids) != {str(os.getuid())}:
            return f"process {pid} of another user is visible"
    return "" if status(1, "PPid") == "0" else "the first process has a parent that is visible"


def _environ(ground: Ground) -> str:
    sure(content("/proc/self/environ"), "one's own environment is readable")
    if not ground.reduced and content("/proc/1/environ"):
        return "the first process's environment is readable"
    found = [pid for pid in {*pids(), ground.pid} if ground.secret in content(f"/proc/{pid}/environ")]
    return "a secret of the host's was in an environment" if found else ""


def _argv(ground: Ground) -> str:
    sure(_OURS in content("/proc/self/cmdline"), "one's own command line is readable")
    found = [pid for pid in {*pids(), ground.pid} if ground.secret in content(f"/proc/{pid}/cmdline")]
    return "a secret of the host's was in a command line" if found else ""


def _argv_paths(ground: Ground) -> str:
    sure(content("/proc/1/cmdline"), "the first process's command line is readable")
    for pid in pids():
        words = content(f"/proc/{pid}/cmdline")
        if any(path.encode() in words for path in ground.paths):
            return f"the command line of process {pid} names a directory of the host"
    return ""


def _ptrace(ground: Ground) -> str:
    def seize(pid: int) -> None:
        calls.ptrace(_SEIZE, pid)
        with contextlib.suppress(OSError):
            calls.ptrace(_DETACH, pid)

    return _hits(ground, seize, "can be traced")


def _vmread(ground: Ground) -> str:
    """At an address that a forked child of ours has as well: for others any error but a bad address is a refusal."""
    buffer = ctypes.create_string_buffer(b"here")

    def read(pid: int) -> None:
        calls.read_memory(pid, ctypes.addressof(buffer), 4)

    def look(pid: int) -> None:
        os.close(os.open(f"/proc/{pid}/mem", os.O_RDONLY))

    def write(pid: int) -> None:
        os.close(os.open(f"/proc/{pid}/mem", os.O_RDWR))

    attacks = ((read, "its memory was read"), (look, "its memory opens"), (write, "its memory opens for writing"))
    return first(*(_hits(ground, attack, what) for attack, what in attacks))


def _kill(ground: Ground) -> str:
    own = os.fork()
    if own == 0:
        signal.pause()
    os.kill(own, signal.SIGKILL)
    sure(os.WIFSIGNALED(os.waitpid(own, 0)[1]), "one's own child can be signalled")
    if not _is_canary(ground):
        return ""
    return failed("the canary was signalled", os.kill, ground.pid, signal.SIGUSR1)


def _pidfd(ground: Ground) -> str:
    """Takes a descriptor out of another process."""

    def take(pid: int) -> None:
        handle = os.pidfd_open(pid)
        try:
            os.close(calls.by_name("pidfd_getfd", handle, 0, 0))
        finally:
            os.close(handle)

    return _hits(ground, take, "a descriptor was taken out of it")


def _prio(ground: Ground) -> str:
    os.setpriority(os.PRIO_PROCESS, 0, os.getpriority(os.PRIO_PROCESS, 0))  # the call itself is allowed
    attacks: list[tuple[Callable[[], object], str]] = [
        (lambda: os.setpriority(os.PRIO_PROCESS, 0, -5), "the session gave itself a better priority"),
        (
            lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)),
            "the session gave itself real-time priority",
        ),
    ]
    if _is_canary(ground):
        attacks.append((lambda: os.setpriority(os.PRIO_PROCESS, ground.pid, 5), "the canary's priority was changed"))
    return first(*(failed(what, attack) for attack, what in attacks))


def _score(pid: int | str, value: int) -> None:
    fd = os.open(f"/proc/{pid}/oom_score_adj", os.O_WRONLY)
    try:
        os.write(fd, str(value).encode())
    finally:
        os.close(fd)


def _oom(ground: Ground) -> str:
    """Not to be the one that goes when memory runs out; or to make somebody else that."""
    present = content("/proc/self/oom_score_adj")
    if _is_canary(ground) and failed("changed", _score, ground.pid, 999):
        return "the canary's score was changed"
    sure(present, "one's own score is readable")
    _score("self", max(1, int(present)))
    attacks = [("self", -1, "the session is spared when memory runs out"), (1, -1, "its first process is spared")]
    return first(*(failed(what, _score, pid, value) for pid, value, what in attacks))


def _core(ground: Ground) -> str:
    """A crash writes no core, and starts no program of the host's."""
    if resource.getrlimit(resource.RLIMIT_CORE)[1] != 0:
        return "cores may be written"
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (4096, 4096))
    except (OSError, ValueError):
        pass
    else:
        return "the limit of cores was raised"
    pattern = content("/proc/sys/kernel/core_pattern").decode(errors="replace").strip()
    if pattern.startswith("|"):  # the kernel asks no limit then, and it is nothing a session could choose
        raise NotApplicable(f"this host gives every core to a program of its own: {pattern.split()[0]}")
    child = os.fork()
    if child == 0:
        os.abort()
    _, ended = os.waitpid(child, 0)
    sure(os.WIFSIGNALED(ended), "a child of its own crashed")
    return "a core was written" if os.WCOREDUMP(ended) or Path("core").exists() else ""


CHECKS: dict[str, Check] = {
    "p.visible": _visible,
    "p.environ": _environ,
    "p.argv": _argv,
    "p.argv_paths": _argv_paths,
    "p.ptrace": _ptrace,
    "p.vmread": _vmread,
    "p.kill": _kill,
    "p.pidfd": _pidfd,
    "p.prio": _prio,
    "p.oom": _oom,
    "p.core": _core,
}
