"""From a holder to a running sandbox: fork, limits, bwrap, listeners. Blocking, with a deadline, once per holder."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
import time

from pilothouse.adapters.sandboxes import (
    fdpass,
    interpreter,
    kernel,
    namespaced,
    netns,
    profile,
    reduced,
    seccomp,
)
from pilothouse.adapters.sandboxes.namespaced import START_MAX_S, failed
from pilothouse.adapters.sandboxes.order import LaunchFailed, Order, Running
from pilothouse.adapters.sandboxes.spawn import become, most

_MODULE = "pilothouse.adapters.sandboxes.inside"


def rehearse() -> None:
    """What every launch uses, used: forks share it then."""
    with contextlib.suppress(KeyError):  # a machine for which there is none
        seccomp.program(os.uname().machine)
    profile.session_environment()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    fdpass.send(ours, json.loads(json.dumps({"ok": True})))
    fdpass.wait(fdpass.Lines(theirs))
    kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
    ours.close()
    theirs.close()
    out, into = os.pipe2(os.O_CLOEXEC)
    os.write(into, b'{"child-pid": 1}')
    namespaced.child_pid(out, time.monotonic() + START_MAX_S)
    os.close(out)
    os.close(into)
    signal.getsignal(signal.SIGTERM)


def launch(order: Order, prepared: tuple[int, ...]) -> Running:
    """Starts the sandbox with its first process; `prepared` are the files of `prepare`. Raises LaunchFailed; then
    nothing is left of it."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    err_out, err_in = os.pipe2(os.O_CLOEXEC)
    deadline = time.monotonic() + START_MAX_S
    if order.sandbox == "host":
        running = _on_host(order, ours, theirs, err_out, err_in)
    elif order.sandbox == "reduced":
        running = _reduced(order, ours, theirs, err_out, err_in)
    else:
        running = namespaced.start(order, prepared, ours, theirs, err_out, err_in, deadline)
    if running.enter is not None:  # its first process has said that everything is there
        running.control.setblocking(False)
        return running
    theirs.close()
    os.close(err_in)
    try:
        _await_ready(running, deadline)
    except (fdpass.Broken, OSError, LaunchFailed) as error:
        raise failed(running.pid, err_out, str(error)) from None
    return running


def _await_ready(running: Running, deadline: float) -> None:
    running.control.settimeout(max(0.1, deadline - time.monotonic()))
    running.said = fdpass.wait(running.lines)
    version = running.said.get("ready")
    if version != sys.version:
        raise LaunchFailed(f"the Python inside is another one: {version!r}, outside {sys.version!r}")
    running.control.setblocking(False)


def _on_host(order: Order, ours: socket.socket, theirs: socket.socket, err_out: int, err_in: int) -> Running:
    listeners = netns.listen((0, 0))
    model, egress = (sock.getsockname()[1] for sock in listeners)
    env = profile.environment(order.place.home, "/tmp", order.place.workspace, model, egress)  # noqa: S108
    argv = interpreter.command(order.interpreter, _MODULE, *_inside(order, theirs))
    pid = os.fork()
    if pid == 0:
        become(order, argv, env, {theirs.fileno(): theirs.fileno()}, err_in, None)
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
    python = order.interpreter
    try:
        version = reduced.check(order.uid)
        reduced.prepare(order.place)
        listeners = reduced.listen(order.place)
    except (OSError, reduced.Unsafe) as error:
        raise LaunchFailed(str(error)) from None
    env = reduced.environment(order.place)
    argv = interpreter.command(python, _MODULE, *_inside(order, theirs))
    with_library = env | ({"LD_LIBRARY_PATH": python.library} if python.library else {})
    pid = os.fork()
    if pid == 0:
        confine = lambda: reduced.confine(order.place, python, version)  # noqa: E731
        become(order, argv, with_library, {theirs.fileno(): theirs.fileno()}, err_in, None, confine)
    cwd, lines, first = order.place.workspace, fdpass.Lines(ours), os.pidfd_open(pid)
    return Running(pid, ours, lines, err_out, listeners, env | order.env, cwd, python, first)


def _inside(order: Order, theirs: socket.socket) -> tuple[str, str, str]:
    """The arguments of a first process that is ours."""
    return str(theirs.fileno()), order.sandbox, str(most(order))
