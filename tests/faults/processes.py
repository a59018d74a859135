"""Who is who on the host, by what they are: who listens on the keeper's socket is the keeper, whatever started it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import socket
from pathlib import Path

RUNNER = "pilothouse.runner"
FIRST = "/etc/pilothouse/sleep infinity"
AGENT = "_bundled/claude"
_PIDFD_GETFD = 438
_LISTENS = 0x10000
"""The flag of a listening socket in /proc/net/unix."""


def listener(path: Path) -> int | None:
    """The process that holds the listening end of a unix socket: whoever made it may have handed it on."""
    inodes = set()
    for line in Path("/proc/net/unix").read_text().splitlines()[1:]:
        fields = line.split(maxsplit=7)
        if fields[7:] == [str(path)] and int(fields[3], 16) & _LISTENS:
            inodes.add(f"socket:[{fields[6]}]")
    for entry in Path("/proc").glob("[0-9]*/fd") if inodes else ():
        with contextlib.suppress(OSError):
            if any(str(fd.readlink()) in inodes for fd in entry.iterdir()):
                return int(entry.parent.name)
    return None


def parents() -> dict[int, int]:
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError, ValueError):
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            if fields[0] not in "ZX":
                found[int(entry.name)] = int(fields[1])
    return found


def below(root: int) -> dict[int, str]:
    """Its descendants: pid and command line."""
    parent = parents()
    under = {root}
    found = {}
    while more := {child for child, of in parent.items() if of in under} - under:
        under |= more
    for pid in under - {root}:
        with contextlib.suppress(OSError):
            found[pid] = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return found


def named(pids: dict[int, str], what: str) -> int | None:
    return next((pid for pid, argv in pids.items() if what in argv), None)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (OSError, IndexError):
        return False


def born(pid: int) -> str:
    """When it began, in ticks since boot: with the pid a name that is not given twice. Empty: it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19] if alive(pid) else ""
    except (OSError, IndexError):
        return ""


def argv(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")[:200]
    except OSError:
        return ""


def send(pid: int, number: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
        return True
    return False


def resume(pid: int) -> None:
    send(pid, signal.SIGCONT)


def shut(pid: int, peer: str = "", family: int = socket.AF_UNIX) -> int:
    """Shuts sockets of another process down, as a broken connection would be: unix ones connected to the path `peer`,
    or every TCP one that is connected. Needs root. Answers how many."""
    libc = ctypes.CDLL(None, use_errno=True)
    pidfd = os.pidfd_open(pid)
    count = 0
    try:
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                if not str(entry.readlink()).startswith("socket:"):
                    continue
                fd = libc.syscall(_PIDFD_GETFD, pidfd, int(entry.name), 0)
                if fd < 0:
                    continue
                with socket.socket(fileno=fd) as sock:
                    if sock.family == family and (sock.getpeername() == peer or not peer):
                        sock.shutdown(socket.SHUT_RDWR)
                        count += 1
    finally:
        os.close(pidfd)
    return count


def limit_files(pid: int, size: int) -> bool:
    """No file of that process may grow beyond `size`. Done by its own user, whom the kernel lets: even root may not
    always."""
    try:
        uid = Path(f"/proc/{pid}").stat().st_uid
    except OSError:
        return False
    child = os.fork()
    if child == 0:
        status = 1
        try:
            if os.geteuid() != uid:
                os.setgroups([])
                os.setresgid(uid, uid, uid)
                os.setresuid(uid, uid, uid)
            _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, hard))
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
