"""Into a sandbox that bwrap has made: a fork of the holder takes on its namespaces and everything that confines it.

That fork starts the session's programs (see `inside`). It shares the holder's pages, where a Python of its own would
cost six megabytes and thirty milliseconds. Its pid namespace is the sandbox's for its children only: nothing inside can
see or signal it, and it is undumpable besides. The sandbox's own first process only keeps the namespaces.

The order matters. The namespaces belong to the user namespace that bwrap made first; the session's own is the one below
that (it maps the uid), and from there the others could not be entered any more. With it come all capabilities in it:
they go at once, and after them the right to gain any.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import select
from pathlib import Path

from pilothouse.adapters.sandboxes import kernel, seccomp

_NS_GET_USERNS = 0xB701
_OTHERS = ("net", "ipc", "uts", "cgroup", "pid", "mnt")
"""`mnt` last: it takes the way to /proc of the host away."""

SLEEPER = "pilothouse/sleep"
"""Below /etc of the session: a copy of `sleep` that may be run and not read (see etcdir). The kernel makes who runs
such a program undumpable: its memory and descriptors are closed to the agent's uid."""
_LIGHT = f"""
echo
read -r _
exec </dev/null >/dev/null 2>&1
exec /usr/bin/env -i --ignore-signal=CHLD /etc/{SLEEPER} infinity
"""
_PLAIN = f"""
import ctypes, os, signal
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
os.write(1, b"x")
os.read(0, 1)
for fd in range(3):
    os.dup2(os.open(os.devnull, os.O_RDWR), fd)
libc = ctypes.CDLL(None)
libc.prctl({kernel.PR_SET_DUMPABLE}, 0, 0, 0, 0)
libc.prctl({kernel.PR_SET_NAME}, b"sleep", 0, 0, 0)
while True:
    signal.pause()
"""


@functools.cache
def _try(sleeper: str) -> None:
    """Raises OSError when it cannot be started so."""
    import subprocess  # see proxied

    trial = ("/usr/bin/env", "--ignore-signal=CHLD", sleeper, "0")
    done = subprocess.run(trial, env={}, stdin=subprocess.DEVNULL, capture_output=True, check=False)  # noqa: S603
    if done.returncode != 0:
        raise OSError(done.stderr.decode(errors="replace"))


def first(etc: str, python: str, library: str) -> tuple[str, ...]:
    """The first process inside: it says that everything is mounted, waits for a word, and then sleeps. That it ignores
    CHLD makes the kernel itself clear away every orphan that ends; as first process it cannot be killed from inside; it
    knows and holds nothing. Not every `env` can start a program so (GNU's can, busybox's not): then `python` does it,
    with its `library` as `profile.Interpreter` says. `etc` is the host side of the session's /etc."""
    try:
        _try(f"{etc}/{SLEEPER}")
    except OSError:
        return ("/usr/bin/env", "-i", f"LD_LIBRARY_PATH={library}", python, "-I", "-S", "-c", _PLAIN)
    return ("/bin/sh", "-c", _LIGHT)


def is_first(command: bytes) -> bool:
    """Whether that is the command line of a session's first process."""
    return command == f"/etc/{SLEEPER}\0infinity\0".encode() or command.endswith(_PLAIN.encode() + b"\0")


def asleep(pid: int) -> bool:
    """Whether the first process is what it is going to be."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_bytes() == b"sleep\n"
    return False


def namespaces(pid: int, first: int) -> list[int]:
    """The namespaces of a sandbox by its first process, as descriptors in the order to enter them; `first` is its
    pidfd. It must not sleep yet: then they are closed to its own uid. Raises OSError."""
    names = [name for name in _OTHERS if not _ours(pid, name)]
    own = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    others = [os.open(f"/proc/{pid}/ns/{name}", os.O_RDONLY | os.O_CLOEXEC) for name in names]
    if select.select([first], [], [], 0)[0]:  # the number may name another process by now
        raise ProcessLookupError("the sandbox has ended")
    return [fcntl.ioctl(others[-1], _NS_GET_USERNS), *others, own]


def _ours(pid: int, name: str) -> bool:
    """One that a sandbox does not have of its own cannot be entered, nor need it be."""
    return os.stat(f"/proc/{pid}/ns/{name}").st_ino == os.stat(f"/proc/self/ns/{name}").st_ino  # noqa: PTH116


def enter(found: list[int]) -> None:
    """This process, which has one thread. Raises OSError, and then it must end."""
    for fd in found:
        kernel.setns(fd, 0)
        os.close(fd)
    os.chdir("/workspace")


def confine(code: bytes) -> None:
    """As bwrap does to what it starts: no capabilities, no way to any, the filter. Raises OSError."""
    kernel.drop_capabilities()
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    seccomp.install(code)
