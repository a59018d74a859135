"""The holder: a small process per session, parent of its sandbox, keeper of its sockets; it outlives server and keeper.

Control socket `<runtime>/<uuid>.ctl`, JSON lines (see fdpass), one request at a time on a connection, `hello` first:

    {"verb": "hello", "proto": 1, "watch"?: true}  {"ok": true, "proto": 1, "version", "session", "sandbox", "pid"}
    {"verb": "state"}       {"ok": true, "session", "sandbox", "agent", "alive", "runner", "runnerStarted", "exit",
                             "runnerExit", "shells", "place", "log"} log: the end of the runner's standard error;
                             place: where workspace and home are, if not in the usual place
    {"verb": "runner"}      the state, when a runner is alive: started if there was none
    {"verb": "wait"}        the state, as soon as no runner is alive
    {"verb": "listeners"}   {"ok": true, "listeners": ["model", "egress"]} with as many sockets; without a network
                            there is no egress
    {"verb": "run", "argv": [], "module"?: name, "env"?: {}, "timeout"?: s}
                            {"ok": true, "exit": "exit 0", "output"} when it has ended; a module of ours gets argv
    {"verb": "limits"}      {"ok": true, "limits": [{"name", "unit", "max", "used", "enforced", "hits"}]}
    {"verb": "hits"}        {"ok": true, "hits": [notice]}    the last limits that were hit, see meter
    {"verb": "stop"}        {"ok": true, "exit"} when everything inside has ended; the holder goes too
    {"verb": "forget"}      the same, only if it has ended by itself
    any                     {"ok": false, "error": "..."}

The session's shells have `<runtime>/<uuid>.pty` (`core.shellwire`).

A watcher is told {"ended": "signal 9"} once, and {"limit": notice} when one is hit. What ended by itself stays to be
asked for EXIT_KEPT_S after somebody has read its exit. Nobody but the keeper's uid and root is answered.
"""

from __future__ import annotations

import contextlib
import gc
import os
import re
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pilothouse.adapters.sandboxes import fdpass, interpreter, kernel, launch, meter, profile, shells
from pilothouse.adapters.sandboxes.counter import Client, Counter, turn
from pilothouse.adapters.sandboxes.order import LaunchFailed, Order, Running
from pilothouse.adapters.shells.order import Order as ShellOrder

TAIL_MAX = 16 * 1024
"""The end of what a program wrote: enough for its last words."""
GRACE_S = 3.0
"""From asking politely to the end, at a stop."""
EXIT_KEPT_S = 600.0
ORPHANS_S = 0.05
"""Between two looks for orphans, while a session ends whose starter ended first."""
RUN_MAX_S = 1800.0
_RUNNER_FD = 3
_MODULE = re.compile(r"pilothouse(\.[a-z_]+)+\Z")
_READ = 65536
_WORDS_MAX = 4096
_NAME = b"ph-holder"
_OK = b'{"ok":true}\n'
_SIGNALLED = 128
"""bwrap passes on the end of its child as a shell does: 128 and the signal."""

Reply = dict[str, Any]


@dataclass
class _Task:
    """A process inside that somebody waits for, or the runner."""

    reply: Callable[[Reply], None] | None = None
    output: bytearray = field(default_factory=bytearray)
    pipe: int = -1
    exit: str = ""
    deadline: float = 0.0


class Holder:
    def __init__(
        self,
        order: Order,
        prepared: tuple[int, ...],
        control: socket.socket,
        runner: socket.socket,
        terminals: socket.socket,
    ) -> None:
        self._order = order
        self._prepared = prepared
        self._control = control
        self._runner_socket = runner
        self._terminals = terminals
        self._selector = selectors.DefaultSelector()
        self._tasks: dict[int, _Task] = {}
        self._keys = 0
        self._runner: int | None = None
        self._runner_exit = ""
        self._runner_log = bytearray()
        self._terminated = False
        self._waiting: list[Client] = []
        self._stopping: list[Client] = []
        self._kill_at = 0.0
        self._exit = ""
        self._leave_at = 0.0
        self._orphans_at = 0.0
        self._done = False
        self._sandbox_log = bytearray()
        self._runners = 0
        self._meter: meter.Meter | None = None
        self._runner_pid: int | None = None
        """As who started it knows it: on the host, but for `reduced` and `host`, where it is the same."""

    def start(self) -> None:
        """Raises LaunchFailed."""
        self.begin(launch.launch(self._order, self._prepared))

    def begin(self, running: Running) -> None:
        self._running = running
        self._pidfd = os.pidfd_open(self._running.pid)
        self._running.entered = self._entered
        if self._running.enter is None:
            self._entered()
        greeting = {"session": self._order.session, "sandbox": self._order.sandbox}
        self._counter = Counter(self._selector, self._control, self._order.allowed_uids, greeting, self._request)
        self._say = self._counter.say
        self._shells = shells.Shells(
            self._selector,
            self._terminals,
            self._order.allowed_uids,
            self._start_shell,
            self._signal,
            lends=self._order.sandbox == "bubblewrap",  # PTYs are opened by a fork of this process, see enter
            ready=self._ready,
        )
        self._selector.register(self._running.control, selectors.EVENT_READ, self._heard)
        self._selector.register(self._pidfd, selectors.EVENT_READ, self._sandbox_ended)
        self._collect(self._running.stderr, self._sandbox_log)

    def _entered(self) -> None:
        self._order.bounds.leaf.entered()
        self._measure().starts(self._running.starter)

    def _measure(self) -> meter.Meter:
        """From the first program or question on: in a session that only waits there is nothing to measure."""
        if self._meter is None:
            bounds, home = self._order.bounds, self._order.place.home
            self._meter = meter.Meter(
                bounds, self._order.sandbox, self._running.first, home, self._limit_hit, self._running.rooms
            )
            self._meter.register(self._selector)
        return self._meter

    def watched_by(self, keeper: socket.socket) -> None:
        self._counter.join(keeper, watching=True)

    def serve(self) -> None:
        while not self._done:
            self.round(self._pause())

    def round(self, pause: float | None) -> None:
        turn(self._selector, pause)
        self._expire(time.monotonic())
        self._shells.tick()

    # --- time

    def _pause(self) -> float | None:
        times = [
            t for t in (self._kill_at, self._leave_at, self._orphans_at, self._meter.next if self._meter else 0.0) if t
        ]
        times += [task.deadline for task in self._tasks.values() if task.deadline]
        pause = max(0.0, min(times) - time.monotonic()) if times else None
        soon = self._shells.pause()
        return soon if pause is None else pause if soon is None else min(soon, pause)

    def _reap(self) -> None:
        """What the starter left behind. Its programs are children from outside their namespace, which does not end
        before somebody has taken leave of them; the host's first process may never do it."""
        with contextlib.suppress(ChildProcessError):
            while found := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                if found.si_pid == self._running.pid:
                    return
                os.waitpid(found.si_pid, 0)

    def _expire(self, now: float) -> None:
        if self._orphans_at and now >= self._orphans_at:
            self._orphans_at = 0.0 if self._exit else now + ORPHANS_S
            self._reap()
        if self._meter and not self._exit:
            self._meter.tick(now, self._runner_pid, busy=bool(self._tasks or self._shells.keys))
        if self._kill_at and now >= self._kill_at:
            self._kill_at = 0.0
            self._kill()
        if self._leave_at and now >= self._leave_at:
            self._done = True
        for key, task in self._tasks.items():
            if task.deadline and now >= task.deadline:
                task.deadline = 0.0
                self._tell({"kill": key, "signal": int(signal.SIGKILL)})

    # --- the control socket

    def _request(self, client: Client, message: dict[str, Any]) -> None:
        verb = message.get("verb")
        if verb == "state":
            if self._exit:
                self._leave_at = self._leave_at or time.monotonic() + EXIT_KEPT_S
            self._say(client, self._state())
        elif verb == "forget" and self._exit:
            self._say(client, {"ok": True, "exit": self._exit})
            self._done = True
        elif verb == "stop":
            self._stop(client)
        elif verb == "hits":
            self._say(client, {"ok": True, "hits": list(self._meter.notices if self._meter else ())})
        elif self._exit:
            self._say(client, {"ok": False, "error": f"the sandbox has ended: {self._exit}"})
        elif verb == "runner":
            self._start_runner(client)
        elif verb == "wait":
            self._wait(client)
        elif verb == "listeners":
            fds = tuple(sock.fileno() for sock in self._running.listeners)
            self._say(client, {"ok": True, "listeners": ["model", "egress"][: len(fds)]}, fds)
        elif verb == "run":
            self._run(client, message)
        elif verb == "limits":
            self._say(client, {"ok": True, "limits": self._measure().states()})
        else:
            self._say(client, {"ok": False, "error": f"unknown verb {str(verb)[:40]!r}"})

    def _state(self) -> Reply:
        return {
            "ok": True,
            "session": self._order.session,
            "sandbox": self._order.sandbox,
            "agent": self._order.agent,
            "alive": not self._exit,
            "runner": self._runner is not None,
            "runnerStarted": self._runners,
            "exit": self._exit,
            "runnerExit": self._runner_exit,
            "shells": self._shells.held,
            "place": [self._running.cwd, self._order.place.home] if self._order.sandbox == "reduced" else None,
            "log": (self._runner_log or self._sandbox_log).decode(errors="replace"),
        }

    # --- processes inside

    def _tell(self, message: Reply, fds: tuple[int, ...] = ()) -> None:
        """Who starts nothing is of no use."""
        try:
            self._running.begin()
            fdpass.send(self._running.control, message, fds)
        except OSError as error:
            self._sandbox_log += f"{error}\n".encode()
            self._kill()

    def _launch(self, argv: list[str], env: dict[str, str], output: bytearray, extra: tuple[int, ...] = ()) -> int:
        self._keys += 1
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        out, into = os.pipe2(os.O_CLOEXEC)
        targets = [0, 1, 2, *range(_RUNNER_FD, _RUNNER_FD + len(extra))]
        start = {"start": self._keys, "argv": argv, "env": env, "cwd": self._running.cwd, "fds": targets}
        self._tell(start, (null, into, into, *extra))
        os.close(null)
        os.close(into)
        self._tasks[self._keys] = _Task(output=output, pipe=out)
        self._collect(out, output)
        return self._keys

    def _start_runner(self, client: Client) -> None:
        if self._runner is None:
            inside = self._running.command
            args = ("--fd", str(_RUNNER_FD), "--agent", self._order.agent)
            argv = interpreter.command(inside, "pilothouse.runner", *args)
            env = self._running.env | ({"LD_LIBRARY_PATH": inside.library} if inside.library else {})
            self._runner_log.clear()
            self._runner_exit = ""
            self._runner = self._launch(argv, env, self._runner_log, (self._runner_socket.fileno(),))
            self._runners += 1
        self._say(client, self._state())

    def _wait(self, client: Client) -> None:
        if self._runner is None:
            self._say(client, self._state())
        else:
            self._waiting.append(client)

    def _run(self, client: Client, message: dict[str, Any]) -> None:
        inside = self._running.command
        argv, env, timeout = _program(message, inside)
        if argv[0] == inside.executable and inside.library:
            env = {"LD_LIBRARY_PATH": inside.library} | env
        output = bytearray()
        task = self._tasks[self._launch(argv, self._running.env | env, output)]
        task.deadline = time.monotonic() + timeout
        task.reply = lambda reply: self._say(client, reply)

    def _ready(self) -> None:
        """Who starts programs is forked before this process touches all that an order touches: what both of them touch
        after that is a copy for each."""
        if not self._exit:
            with contextlib.suppress(OSError):  # then it is tried again, and somebody is told
                self._running.begin()

    def _start_shell(self, order: ShellOrder) -> int:
        """Its key. Raises NotStarted."""
        if self._exit:
            raise shells.NotStarted(f"the sandbox has ended: {self._exit}")
        if order.files and self._order.sandbox != "bubblewrap":
            raise shells.NotStarted("secrets: only the sandbox bubblewrap has a place in memory for files")
        self._keys += 1
        start = shells.message(self._keys, order, self._running.env, self._running.cwd)
        if not fdpass.fits(start):
            raise shells.NotStarted("program and environment are too long")
        self._tell(start)
        return self._keys

    def _signal(self, key: int, number: int) -> None:
        if not self._exit:
            self._tell({"kill": key, "signal": number})

    def _collect(self, fd: int, tail: bytearray) -> None:
        """Reads what comes from a pipe, keeps its end."""
        os.set_blocking(fd, False)
        self._selector.register(fd, selectors.EVENT_READ, lambda: self._drain(fd, tail))

    def _drain(self, fd: int, tail: bytearray) -> None:
        data = os.read(fd, _READ)
        if not data:
            self._selector.unregister(fd)
            os.close(fd)
            for task in self._tasks.values():
                if task.pipe == fd:
                    task.pipe = -1
        tail += data
        del tail[:-TAIL_MAX]

    def _heard(self) -> None:
        """From who starts programs. What it says is taken as hostile: it stands beside the agent."""
        lines = self._running.lines
        try:
            lines.feed()
            fds = lines.take_fds()
            while (message := lines.next()) is not None:
                self._noted(message, fds)
            shells.close(fds)
        except fdpass.Broken:
            self._kill()
            lines.ended = True
        if lines.ended:
            self._selector.unregister(self._running.control)
            self._kill()  # who cannot start anything is of no use
            self._orphans_at = time.monotonic()

    def _noted(self, message: dict[str, Any], fds: list[int]) -> None:
        started = message.get("started")
        if isinstance(started, int) and self._shells.started(started, fds):
            return
        if self._runner is not None and message.get("started") == self._runner and isinstance(message.get("pid"), int):
            self._runner_pid = message["pid"]
        key, status = message.get("exit"), str(message.get("status"))[:40]
        task = self._tasks.pop(key, None) if isinstance(key, int) else None
        if task is None:
            if isinstance(key, int):
                self._shells.ended(key, status)
                self._all_gone()
            return
        if self._meter:
            self._meter.soon()
        if task.pipe >= 0:
            with contextlib.suppress(BlockingIOError):
                self._drain(task.pipe, task.output)
        if key == self._runner:
            self._runner = self._runner_pid = None
            self._runner_exit = status
            self._release()
        self._all_gone()
        if task.reply:
            task.reply({"ok": True, "exit": status, "output": task.output.decode(errors="replace")})

    def _all_gone(self) -> None:
        """At a stop that is what is waited for."""
        if self._stopping and not self._tasks and not self._shells.keys:
            self._kill_at = time.monotonic()

    def _limit_hit(self, notice: Reply) -> None:
        for client in [c for c in self._counter.clients if c.watching]:
            self._say(client, {"limit": notice})

    def _release(self) -> None:
        waiting, self._waiting = self._waiting, []
        for client in waiting:
            self._say(client, self._state())

    # --- the end

    def _stop(self, client: Client) -> None:
        if self._exit:
            self._say(client, {"ok": True, "exit": self._exit})
            self._done = True
            return
        self._stopping.append(client)
        if not self._kill_at:
            for key in self._tasks:
                self._tell({"kill": key, "signal": int(signal.SIGTERM)})
            for key in self._shells.keys:  # an interactive shell ignores the other
                self._tell({"kill": key, "signal": int(signal.SIGHUP)})
            self._kill_at = time.monotonic() + (GRACE_S if self._tasks or self._shells.keys else 0.0)

    def told_to_end(self, number: int, frame: object) -> None:
        """SIGTERM: of a machine that shuts down, or of a person. The session ends, and the holder with it."""
        self._terminated = True
        self._kill()

    def _kill(self) -> None:
        """The first process takes everything inside with it, and bwrap ends when the last of it has. Without a sandbox
        it sweeps when we hang up. A uid of its own is swept from here, where nothing inside can prevent it."""
        if self._order.sandbox == "reduced":
            self._sweep()
        elif self._order.sandbox == "host":
            with contextlib.suppress(OSError):
                self._running.control.shutdown(socket.SHUT_RDWR)
        elif not self._exit:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._running.first, signal.SIGKILL)

    def _sweep(self) -> None:
        """All that has the session's uid, but for this process; forks that are under way included."""
        if os.getuid() == self._order.uid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(-1, signal.SIGKILL)

    def _sandbox_ended(self) -> None:
        if self._order.sandbox == "reduced":
            self._sweep()
        _, status = os.waitpid(self._running.pid, 0)
        code = os.waitstatus_to_exitcode(status)
        code = _SIGNALLED - code if code > _SIGNALLED else code
        self._exit = f"signal {-code}" if code < 0 else f"exit {code}"
        self._selector.unregister(self._pidfd)
        os.close(self._pidfd)
        self._running.end()
        self._runner, self._kill_at = None, 0.0
        for task in self._tasks.values():
            task.deadline = 0.0
            if task.reply:
                task.reply({"ok": False, "error": f"the sandbox has ended: {self._exit}"})
        self._tasks.clear()
        self._shells.all_ended()
        self._release()
        self._done = bool(self._stopping) or self._terminated
        for client in self._stopping:
            self._say(client, {"ok": True, "exit": self._exit})
        if self._meter:
            self._meter.last()
            self._meter.close()
        self._order.bounds.leaf.close()
        for client in [c for c in self._counter.clients if c.watching]:
            self._say(client, {"ended": self._exit})
        for sock in (*self._running.listeners, self._runner_socket):
            sock.close()


def _all_texts(values: object) -> bool:
    return isinstance(values, list) and all(isinstance(v, str) and "\0" not in v for v in values)


def _program(message: dict[str, Any], inside: profile.Interpreter) -> tuple[list[str], dict[str, str], float]:
    """What `run` asks for: an argument list, or a module of this package. Raises Broken."""
    argv, env, timeout = message.get("argv", []), message.get("env", {}), message.get("timeout", RUN_MAX_S)
    module = message.get("module")
    if not _all_texts(argv) or not (argv or module):
        raise fdpass.Broken("run: argv is a list of texts")
    if not isinstance(env, dict) or not _all_texts(list(env.values())):
        raise fdpass.Broken("run: env is an object of texts")
    if not isinstance(timeout, int | float) or not 0 < timeout <= RUN_MAX_S:
        raise fdpass.Broken(f"run: timeout is a number of seconds, at most {RUN_MAX_S:.0f}")
    if module is not None:
        if not isinstance(module, str) or not _MODULE.match(module):
            raise fdpass.Broken("run: module is one of this package")
        argv = interpreter.command(inside, module, *argv)
    return argv, env, timeout


def _bind(path: str, owner: tuple[int, int] | None) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        sock.bind(path)
    finally:
        os.umask(before)
    if owner is not None:
        os.chown(path, *owner, follow_symlinks=False)
    sock.listen(16)
    return sock


def _drop(uid: int) -> None:
    kernel.drop_bounding_set()
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)


def hold(order: Order, report: socket.socket, prepared: tuple[int, ...]) -> int:
    """The whole life of a holder, in a freshly forked process. `report` is told {"ok": true} or {"error": why} and is
    the keeper's watching connection from then on; `prepared` are the files of `namespaced.prepare`."""
    gc.disable()  # a collection writes to every object; what is made from here on is little, and without circles
    kernel.name(_NAME)
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    try:
        control, runner, terminals = (_bind(path, order.owner) for path in (order.control, order.runner, order.shells))
        if order.uid == 0:
            raise LaunchFailed("no session runs as root")
        if order.uid is not None:
            _drop(order.uid)
        kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
        holder = Holder(order, prepared, control, runner, terminals)
        holder.start()
        kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
        signal.signal(signal.SIGTERM, holder.told_to_end)
    except (OSError, KeyError, LaunchFailed) as error:
        fdpass.send(report, {"error": str(error)[:_WORDS_MAX]})
        return 1
    os.write(report.fileno(), _OK)
    holder.watched_by(report)
    holder.serve()
    sys.stderr.flush()
    return 0
