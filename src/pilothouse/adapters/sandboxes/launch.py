"""From a holder to a running sandbox: fork, limits, bwrap, listeners. Blocking, with a deadline, once per holder."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import resource
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from pilothouse.adapters.sandboxes import fdpass, interpreter, kernel, meter, netns, profile, reduced, seccomp

START_MAX_S = 20.0
"""A sandbox starts in 10-40 ms; a machine under load gets a generous factor."""
_STDERR_MAX = 4096
_NICE = 5
_SPARE_PROCESSES = 64
"""So far above the control group's limit of processes lies the namespace's own, which does not tell when it is hit."""
_MODULE = "pilothouse.adapters.sandboxes.inside"

_LIMITS = (
    (resource.RLIMIT_CORE, 0, 0),
    (resource.RLIMIT_NOFILE, 4096, 65536),
    (resource.RLIMIT_MEMLOCK, 8 * 1024 * 1024, 8 * 1024 * 1024),
)
"""Soft, hard. Cores would be written by the host's handler; the rest is what development tools need."""


class LaunchFailed(Exception):
    """The sandbox did not start; the message is what bwrap or the first process said."""


@dataclass(frozen=True)
class Order:
    """What a holder is to hold. Paths are as the session's uid reaches them."""

    session: str
    sandbox: str
    """bubblewrap, reduced or host"""
    agent: str
    env: dict[str, str]
    place: profile.Place
    interpreter: profile.Interpreter
    """With the host side of `binds` as the session's uid reaches it."""
    bwrap: str
    uid: int | None
    """The session's own uid when the keeper is root, None to stay who we are."""
    control: str
    runner: str
    allowed_uids: tuple[int, ...]
    """Who may use the control socket."""
    owner: tuple[int, int] | None = None
    """Whose the sockets are, when not whose process makes them."""
    userns: bool = True
    bounds: meter.Bounds = field(default_factory=meter.Bounds)


@dataclass
class Running:
    pid: int
    """bwrap's, or the first process's own without a sandbox."""
    control: socket.socket
    lines: fdpass.Lines
    stderr: int
    listeners: list[socket.socket]
    """For the model and, where there is a network, for egress."""
    env: dict[str, str]
    cwd: str
    command: profile.Interpreter
    first: int
    """A pidfd of the first process."""
    said: dict[str, object] = field(default_factory=dict)


def _memfd(name: str, data: bytes) -> int:
    fd = os.memfd_create(name)
    os.write(fd, data)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def _limit(bounds: meter.Bounds) -> None:
    """Clamped to the present hard limits: raising one needs a capability that even root may lack."""
    size = resource.RLIM_INFINITY if bounds.image else bounds.caps.disk
    for what, soft, hard in (*_LIMITS, (resource.RLIMIT_FSIZE, size, size)):
        _, most = resource.getrlimit(what)
        ceiling = (
            hard if most == resource.RLIM_INFINITY else most if hard == resource.RLIM_INFINITY else min(hard, most)
        )
        resource.setrlimit(what, (ceiling if soft == resource.RLIM_INFINITY else min(soft, ceiling), ceiling))


def _enter(bounds: meter.Bounds) -> None:
    """This process, and with it all that it starts, goes where it is counted."""
    for fd in bounds.leaf.join:
        os.write(fd, b"0")
    if "memory" not in bounds.leaf.held:
        os.nice(_NICE)  # what the kernel does not hold back shall at least not slow the host


def _exec(
    order: Order,
    argv: list[str],
    env: dict[str, str],
    keep: tuple[int, ...],
    stderr: int,
    die_with: int | None,
    confine: Callable[[], None] | None = None,
) -> None:
    """In the child. Never returns."""
    try:
        if die_with is not None:
            kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != die_with:
                os._exit(1)
        for number in (signal.SIGPIPE, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        _enter(order.bounds)
        _limit(order.bounds)
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 0)
        os.dup2(null, 1)
        os.dup2(stderr, 2)
        for fd in keep:
            os.set_inheritable(fd, True)
        os.chdir("/")
        if confine is not None:
            confine()
        os.execve(argv[0], argv, env)  # noqa: S606
    except OSError as error:
        os.write(stderr, f"{argv[0]}: {error}\n".encode())
    finally:
        os._exit(127)


def launch(order: Order) -> Running:
    """Starts the sandbox with its first process. Raises LaunchFailed; then nothing is left of it."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    err_out, err_in = os.pipe2(os.O_CLOEXEC)
    deadline = time.monotonic() + START_MAX_S
    if order.sandbox == "host":
        running = _on_host(order, ours, theirs, err_out, err_in)
    elif order.sandbox == "reduced":
        running = _reduced(order, ours, theirs, err_out, err_in)
    else:
        running = _in_bwrap(order, ours, theirs, err_out, err_in, deadline)
    theirs.close()
    os.close(err_in)
    try:
        _await_ready(running, deadline)
    except (fdpass.Broken, OSError, LaunchFailed) as error:
        raise _failed(running.pid, err_out, str(error)) from None
    return running


def _await_ready(running: Running, deadline: float) -> None:
    running.control.settimeout(max(0.1, deadline - time.monotonic()))
    running.said = fdpass.wait(running.lines)
    version = running.said.get("ready")
    if version != sys.version:
        raise LaunchFailed(f"the Python inside is another one: {version!r}, outside {sys.version!r}")
    running.control.setblocking(False)


def _failed(pid: int, stderr: int, why: str) -> LaunchFailed:
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


def _on_host(order: Order, ours: socket.socket, theirs: socket.socket, err_out: int, err_in: int) -> Running:
    listeners = netns.listen((0, 0))
    model, egress = (sock.getsockname()[1] for sock in listeners)
    env = profile.environment(order.place.home, "/tmp", order.place.workspace, model, egress)  # noqa: S108
    argv = interpreter.command(order.interpreter, _MODULE, *_inside(order, theirs))
    pid = os.fork()
    if pid == 0:
        _exec(order, argv, env, (theirs.fileno(),), err_in, None)
    env |= order.env
    return Running(
        pid,
        ours,
        fdpass.Lines(ours),
        err_out,
        listeners,
        env,
        order.place.workspace,
        order.interpreter,
        os.pidfd_open(pid),
    )


def _reduced(order: Order, ours: socket.socket, theirs: socket.socket, err_out: int, err_in: int) -> Running:
    inside = order.interpreter
    try:
        version = reduced.check(order.uid)
        reduced.prepare(order.place)
        listeners = reduced.listen(order.place)
    except (OSError, reduced.Unsafe) as error:
        raise LaunchFailed(str(error)) from None
    env = reduced.environment(order.place)
    argv = interpreter.command(inside, _MODULE, *_inside(order, theirs))
    with_library = env | ({"LD_LIBRARY_PATH": inside.library} if inside.library else {})
    pid = os.fork()
    if pid == 0:
        confine = lambda: reduced.confine(order.place, inside, version)  # noqa: E731
        _exec(order, argv, with_library, (theirs.fileno(),), err_in, None, confine)
    cwd, lines, first = order.place.workspace, fdpass.Lines(ours), os.pidfd_open(pid)
    return Running(pid, ours, lines, err_out, listeners, env | order.env, cwd, inside, first)


def _in_bwrap(
    order: Order, ours: socket.socket, theirs: socket.socket, err_out: int, err_in: int, deadline: float
) -> Running:
    info_out, info_in = os.pipe2(os.O_CLOEXEC)
    block_out, block_in = os.pipe2(os.O_CLOEXEC)
    env = profile.session_environment()
    with_library = env | ({"LD_LIBRARY_PATH": order.interpreter.library} if order.interpreter.library else {})
    filtered = _memfd("seccomp", seccomp.program(os.uname().machine))
    data = profile.arguments(
        order.place,
        order.interpreter,
        with_library,
        seccomp=filtered,
        info=info_in,
        block=block_out,
        userns=order.userns,
        sizes=(order.bounds.caps.tmp, order.bounds.caps.shm, order.bounds.caps.run),
    )
    args = _memfd("args", b"".join(a.encode() + b"\0" for a in data))
    argv = [order.bwrap, "--die-with-parent", "--as-pid-1", "--args", str(args), "--"]
    argv += interpreter.command(order.interpreter, _MODULE, *_inside(order, theirs))
    holder = os.getpid()
    pid = os.fork()
    if pid == 0:
        _exec(order, argv, {}, (args, filtered, info_in, block_out, theirs.fileno()), err_in, holder)
    for fd in (info_in, block_out, filtered, args):
        os.close(fd)
    try:
        inner = _child_pid(info_out, deadline)
        first = os.pidfd_open(inner)
        listeners = netns.listen_inside(inner, (profile.MODEL_PORT, profile.EGRESS_PORT))
        os.write(block_in, b"x")
    except (OSError, LaunchFailed) as error:
        os.close(err_in)
        raise _failed(pid, err_out, str(error)) from None
    finally:
        os.close(info_out)
        os.close(block_in)
    return Running(
        pid, ours, fdpass.Lines(ours), err_out, listeners, env | order.env, "/workspace", order.interpreter, first
    )


def _inside(order: Order, theirs: socket.socket) -> tuple[str, str, str]:
    """The first process's arguments."""
    most = order.bounds.caps.processes + (_SPARE_PROCESSES if "processes" in order.bounds.leaf.held else 0)
    return str(theirs.fileno()), order.sandbox, str(most)


def _child_pid(info: int, deadline: float) -> int:
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
