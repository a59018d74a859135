"""The child that becomes a sandbox's program: where it is counted, what it may use, what it keeps open."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Callable

from pilothouse.adapters.sandboxes import kernel, meter
from pilothouse.adapters.sandboxes.order import Order

_NICE = 5
_SPARE_PROCESSES = 64
"""So far above the control group's limit of processes lies the namespace's own, which does not tell when it is hit."""
_LIMITS = (
    (resource.RLIMIT_CORE, 0, 0),
    (resource.RLIMIT_NOFILE, 4096, 65536),
    (resource.RLIMIT_MEMLOCK, 8 * 1024 * 1024, 8 * 1024 * 1024),
)
"""Soft, hard. Cores would be written by the host's handler; the rest is what development tools need."""


def most(order: Order) -> int:
    """How many processes may be, by a limit that does not tell when it is hit."""
    return order.bounds.caps.processes + (_SPARE_PROCESSES if "processes" in order.bounds.leaf.held else 0)


def limit(bounds: meter.Bounds) -> None:
    """Clamped to the present hard limits: raising one needs a capability that even root may lack."""
    size = resource.RLIM_INFINITY if bounds.image else bounds.caps.disk
    for what, soft, hard in (*_LIMITS, (resource.RLIMIT_FSIZE, size, size)):
        _, present = resource.getrlimit(what)
        ceiling = (
            hard
            if present == resource.RLIM_INFINITY
            else present
            if hard == resource.RLIM_INFINITY
            else min(hard, present)
        )
        resource.setrlimit(what, (ceiling if soft == resource.RLIM_INFINITY else min(soft, ceiling), ceiling))


def join(bounds: meter.Bounds) -> None:
    """This process, and with it all that it starts, goes where it is counted."""
    for fd in bounds.leaf.join:
        os.write(fd, b"0")
    if "memory" not in bounds.leaf.held:
        os.nice(_NICE)  # what the kernel does not hold back shall at least not slow the host


def become(
    order: Order,
    argv: list[str],
    env: dict[str, str],
    keep: dict[int, int],
    stderr: int,
    die_with: int | None,
    confine: Callable[[], None] | None = None,
    ends: tuple[int, int] | None = None,
) -> None:
    """In the child. Never returns."""
    try:
        if die_with is not None:
            kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != die_with:
                os._exit(1)
        for signum in (signal.SIGPIPE, signal.SIGTERM, signal.SIGINT):
            signal.signal(signum, signal.SIG_DFL)
        join(order.bounds)
        limit(order.bounds)
        null = os.open(os.devnull, os.O_RDWR)
        stdin, stdout = ends or (null, null)
        os.dup2(stdin, 0)
        os.dup2(stdout, 1)
        os.dup2(stderr, 2)
        for number, fd in keep.items():
            if number == fd:
                os.set_inheritable(fd, True)
            else:
                os.dup2(fd, number)
        os.chdir("/")
        if confine is not None:
            confine()
        os.execve(argv[0], argv, env)  # noqa: S606
    except OSError as error:
        os.write(stderr, f"{argv[0]}: {error}\n".encode())
    finally:
        os._exit(127)
