"""A sandbox of namespaces: bwrap, its first process, and who starts programs in it (see enter)."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import socket
import time

from pilothouse.adapters.sandboxes import enter, fdpass, inside, kernel, netns, profile, seccomp
from pilothouse.adapters.sandboxes.order import LaunchFailed, Order, Running
from pilothouse.adapters.sandboxes.spawn import become, join, limit, most

START_MAX_S = 20.0
"""A sandbox starts in 10-40 ms; a machine under load gets a generous factor."""
_STDERR_MAX = 4096
_LOOK_S = 0.001
_ROOMS = {"tmp": "tmp", "shm": "dev/shm", "run": "run"}
_ARGS, _FILTER, _INFO, _BLOCK = 200, 201, 202, 203
"""Descriptors as bwrap finds them: above all that a holder has open."""


def prepare(order: Order) -> tuple[int, ...]:
    """What bwrap reads, as files in memory: its arguments and the filter. The keeper makes them, so that a holder need
    not: it would keep every page that it has used for that. Raises OSError."""
    if order.sandbox != "bubblewrap":
        return ()
    args = profile.arguments(
        order.place,
        order.interpreter,
        {},
        seccomp=_FILTER,
        info=_INFO,
        block=_BLOCK,
        userns=order.userns,
        sizes=(order.bounds.caps.tmp, order.bounds.caps.shm, order.bounds.caps.run),
    )
    try:
        code = seccomp.program(os.uname().machine)
    except KeyError as error:
        raise OSError(f"there is no filter of system calls for {error}") from None
    made = _memfd("args", b"".join(a.encode() + b"\0" for a in args))
    try:
        return made, _memfd("seccomp", code)
    except OSError:
        os.close(made)
        raise


def _memfd(name: str, data: bytes) -> int:
    fd = os.memfd_create(name)
    os.write(fd, data)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def start(
    order: Order,
    prepared: tuple[int, ...],
    ours: socket.socket,
    theirs: socket.socket,
    err_out: int,
    err_in: int,
    deadline: float,
) -> Running:
    info_out, info_in = os.pipe2(os.O_CLOEXEC)
    block_out, block_in = os.pipe2(os.O_CLOEXEC)
    ready_out, ready_in = os.pipe2(os.O_CLOEXEC)
    go_out, go_in = os.pipe2(os.O_CLOEXEC)
    args, filtered = prepared
    argv = [order.bwrap, "--die-with-parent", "--as-pid-1", "--args", str(_ARGS), "--", *order.first]
    keep = {_ARGS: args, _FILTER: filtered, _INFO: info_in, _BLOCK: block_out}
    holder = os.getpid()
    pid = os.fork()
    if pid == 0:
        kernel.volunteer()
        become(order, argv, {}, keep, err_in, holder, ends=(go_out, ready_in))
    for fd in (info_in, block_out, ready_in, go_out, filtered, args):
        os.close(fd)
    try:
        inner = child_pid(info_out, deadline)
        first = os.pidfd_open(inner)
        listeners = netns.listen_inside(inner, (profile.MODEL_PORT, profile.EGRESS_PORT))
        os.write(block_in, b"x")
        patience = max(0.0, deadline - time.monotonic())
        if not select.select([ready_out], [], [], patience)[0] or not os.read(ready_out, 1):
            raise LaunchFailed("bwrap ended before it started anything")
        namespaces = enter.namespaces(inner, first)
        rooms = {name: os.open(f"/proc/{inner}/root/{path}", os.O_PATH | os.O_CLOEXEC) for name, path in _ROOMS.items()}
        os.write(go_in, b"\n")
    except (OSError, LaunchFailed) as error:
        os.close(err_in)
        raise failed(pid, err_out, str(error)) from None
    finally:
        for fd in (info_out, block_in, ready_out, go_in):
            os.close(fd)
    return Running(
        pid,
        ours,
        fdpass.Lines(ours),
        err_out,
        listeners,
        profile.session_environment() | order.env,
        "/workspace",
        order.interpreter,
        first,
        lambda: _starter(order, inner, first, namespaces, theirs, err_in),
        namespaces=namespaces,
        rooms=rooms,
    )


def _starter(order: Order, inner: int, first: int, namespaces: list[int], theirs: socket.socket, stderr: int) -> int:
    """The pid of a fork of this process that enters the sandbox and starts programs there. Raises OSError."""
    deadline = time.monotonic() + START_MAX_S
    while not enter.asleep(inner):  # it falls asleep within a millisecond or two of its start
        if select.select([first], [], [], _LOOK_S)[0] or time.monotonic() > deadline:
            raise OSError("the first process ended before it slept")
    holder = os.getpid()
    pid = os.fork()
    if pid:
        theirs.close()
        os.close(stderr)
        return pid
    try:
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 0)
        os.dup2(null, 1)
        os.dup2(stderr, 2)
        join(order.bounds)
        limit(order.bounds)
        kernel.volunteer()
        kernel.forget_arguments()  # a child of this process is seen inside before it is another program
        enter.enter(namespaces)
        os.closerange(3, theirs.fileno())
        os.closerange(theirs.fileno() + 1, os.sysconf("SC_OPEN_MAX"))
        enter.confine(seccomp.program(os.uname().machine))
        inside.harden(most(order), host=False)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == holder:
            inside.serve(theirs)
    except OSError as error:
        os.write(2, f"entering the sandbox: {error}\n".encode())
    finally:
        os._exit(1)


def child_pid(info: int, deadline: float) -> int:
    """What bwrap writes on `--info-fd`: a JSON object with `child-pid`, maybe in pieces."""
    said = b""
    fcntl.fcntl(info, fcntl.F_SETFL, os.O_NONBLOCK)
    while time.monotonic() < deadline:
        if not select.select([info], [], [], max(0.0, deadline - time.monotonic()))[0]:
            break
        more = os.read(info, 4096)
        said += more
        with contextlib.suppress(ValueError, KeyError, TypeError):
            return int(json.loads(said)["child-pid"])
        if not more:
            raise LaunchFailed("bwrap ended before it started anything")
    raise LaunchFailed("bwrap did not start in time")


def failed(pid: int, stderr: int, why: str) -> LaunchFailed:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    said = b""
    while len(said) < _STDERR_MAX and select.select([stderr], [], [], 1.0)[0]:
        more = os.read(stderr, _STDERR_MAX)
        if not more:
            break
        said += more
    return LaunchFailed(said.decode(errors="replace").strip() or why)
