"""What starts a session's programs when the holder asks for them, and reports how they ended.

It talks JSON lines over a socket it inherits; nothing the agent can reach leads to it. With bwrap it is a fork of the
holder in the session's namespaces (see `enter`), which no process inside can see. Elsewhere it is the first process
and a Python of its own: it reaps orphans and, without namespaces, ends all that is left. It is undumpable, so its
memory and descriptors are closed to the agent's uid.

    holder -> inside  {"start": key, "argv": [], "env": {}, "cwd": path, "fds": [n]}   descriptors beside it
                      {"start": key, "argv": [], "env": {}, "cwd": path, "terminal": [rows, columns]}
                                                          on a PTY of its own, whose master comes back with "started";
                                                          with "files": {name: text}, "shell": id it finds each text
                                                          in a file in memory, whose path is in NAME_FILE
                      {"kill": key, "signal": n}                                       its process group
    inside -> holder  {"ready": sys.version, "pid": n}
                      {"started": key, "pid": n}
                      {"exit": key, "status": "exit 0" | "signal 9"}
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import selectors
import signal
import socket
import struct
import sys
import termios
from pathlib import Path
from typing import Any

from pilothouse.adapters.sandboxes import fdpass, kernel, memoryfiles

_DEFAULT = tuple(sorted(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}))
_HIGH_FD = 100
"""Received descriptors move above every number they may become."""


def status_text(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    return f"signal {-code}" if code < 0 else f"exit {code}"


class Inside:
    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._lines = fdpass.Lines(control)
        self._children: dict[int, int] = {}
        self._files: dict[int, str] = {}
        """By key, whose files lie in memory as long as it runs."""

    def serve(self) -> None:
        """Until the holder goes away."""
        wake, wake_in = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake_in, warn_on_full_buffer=False)
        fdpass.send(self._control, {"ready": sys.version, "pid": os.getpid()})
        with selectors.DefaultSelector() as selector:
            selector.register(self._control, selectors.EVENT_READ)
            selector.register(wake, selectors.EVENT_READ)
            while not self._lines.ended:
                for key, _ in selector.select():
                    if key.fileobj is self._control:
                        self._lines.feed()
                    else:
                        os.read(wake, 4096)
                while (message := self._lines.next()) is not None:
                    self._handle(message)
                self._reap()

    def _handle(self, message: dict[str, Any]) -> None:
        if "start" in message:
            key = int(message["start"])
            if "terminal" in message:
                self._open(key, message)
                return
            self._start(key, message)
        elif "kill" in message:
            for pid, key in self._children.items():
                if key == message["kill"]:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(pid, int(message["signal"]))

    def _start(self, key: int, message: dict[str, Any]) -> None:
        fds = self._lines.take_fds()
        pid = self._fork(key)
        if pid == 0:
            _become(message, fds)
        for fd in fds:
            os.close(fd)
        if pid is not None:
            self._children[pid] = key
            fdpass.send(self._control, {"started": key, "pid": pid})

    def _fork(self, key: int) -> int | None:
        """None when there is no room for another process: the session has as many as it may, and somebody wants to see
        why, or end them."""
        try:
            return os.fork()
        except OSError:
            fdpass.send(self._control, {"exit": key, "status": "no room for another process"})
            return None

    def _open(self, key: int, message: dict[str, Any]) -> None:
        """The PTY is one of this place, so that its programs find it by name."""
        env = message["env"]
        try:
            if files := message.get("files"):
                env = env | memoryfiles.write(message["shell"], files)
                self._files[key] = message["shell"]
            master, slave = os.openpty()
        except OSError as error:
            self._forget(key)
            fdpass.send(self._control, {"exit": key, "status": f"no terminal, or no place for files: {error.strerror}"})
            return
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", *message["terminal"], 0, 0))
        pid = self._fork(key)
        if pid == 0:
            os.close(master)
            _become(message | {"fds": [0, 1, 2], "env": env}, [slave, slave, slave])
        os.close(slave)
        if pid is not None:
            self._children[pid] = key
            fdpass.send(self._control, {"started": key, "pid": pid}, (master,))
        os.close(master)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            key = self._children.pop(pid, None)
            if key is not None:
                self._forget(key)
                fdpass.send(self._control, {"exit": key, "status": status_text(status)})

    def _forget(self, key: int) -> None:
        shell = self._files.pop(key, None)
        if shell is not None:
            memoryfiles.remove(shell)


def _become(message: dict[str, Any], fds: list[int]) -> None:
    """In the child: a new process session, the descriptors in place, then the program."""
    try:
        signal.set_wakeup_fd(-1)
        for number in _DEFAULT:  # what is ignored here would stay so in the program
            signal.signal(number, signal.SIG_DFL)
        os.setsid()
        moved = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _HIGH_FD) for fd in fds]
        for fd, target in zip(moved, message["fds"], strict=True):
            os.dup2(fd, target, inheritable=True)
        if "terminal" in message:
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        os.chdir(message["cwd"])
        os.execvpe(message["argv"][0], message["argv"], message["env"])  # noqa: S606
    except (OSError, ValueError, KeyError, TypeError) as error:
        os.write(2, f"cannot start {message.get('argv')}: {error}\n".encode())
    finally:
        os._exit(127)


def harden(processes: int, *, host: bool) -> None:
    """`processes`: threads count. It is set here, after the namespaces are made: a limit set before counts the user's
    other processes on the host as well."""
    if not host:
        resource.setrlimit(resource.RLIMIT_NPROC, (processes, processes))
    kernel.prctl(kernel.PR_SET_DUMPABLE, 0)


def _descendants(root: int) -> list[int]:
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError, IndexError):
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    found: list[int] = []
    todo = [root]
    while todo:
        parent = todo.pop()
        children = [pid for pid, of in parents.items() if of == parent]
        found += children
        todo += children
    return found


def sweep() -> None:
    """Ends every process below this one. Without a pid namespace orphans come to us (subreaper) until none is left."""
    while True:
        for pid in _descendants(os.getpid()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def sweep_uid() -> None:
    """Ends every process that Landlock and the session's own uid let this one reach."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(-1, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)


def serve(control: socket.socket) -> None:
    """Until the holder goes away."""
    with contextlib.suppress(fdpass.Broken, BrokenPipeError, ConnectionResetError):
        Inside(control).serve()


_SWEEPS = {"host": sweep, "reduced": sweep_uid}
"""Where no namespace ends with us."""


def main(argv: list[str]) -> int:
    """`FD sandbox processes`: the socket, what to sweep by at the end, how many may be."""
    control = socket.socket(fileno=int(argv[0]))
    control.set_inheritable(False)
    clear = _SWEEPS.get(argv[1])
    kernel.volunteer()
    harden(int(argv[2]), host=argv[1] == "host")
    if clear:
        kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
    try:
        serve(control)
    finally:
        if clear:
            clear()
    return 0
