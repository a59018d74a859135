"""What is left of root: a child that can do one thing, start the keeper, and ends with the server.

    server -> launcher   {"home", "runtime", "argv", "env"}   once, while the server is root: how it is started
    server -> launcher   start                                as often as it must be
    launcher -> server   ok | why it does not start

It is forked before the server is imported and imports nothing itself: what one of two processes writes on, of memory
that both have, is there twice from then on. Each start is a child of its own, which takes what it needs with it.

Every message is a line. What a bare interpreter has not is imported where it is used, and never from the directory in
which the server was started: whoever may write there would have root.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pilothouse.adapters.sandboxes.layout import Layout

_FDS_MAX = 4096
"""A server that has only begun has a handful."""
_ROOT = 0


class Launcher:
    """The server's side. `fork` first of all, `order` once, then what that gave."""

    def __init__(self, pid: int, out: int, into: int) -> None:
        self.pid = pid
        self._into = os.fdopen(into, "wb", buffering=0)  # or closing it would write what could not be written
        self._out = os.fdopen(out, "rb")

    @classmethod
    def fork(cls) -> Launcher:
        """Raises OSError."""
        asked, into = os.pipe()
        out, said = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.close(into)
                os.close(out)
                _serve(asked, said)
            finally:
                os._exit(0)
        os.close(asked)
        os.close(said)
        return cls(pid, out, into)

    def order(self, layout: Layout, argv: list[str], env: Mapping[str, str] | None = None) -> Callable[[Layout], None]:
        """What brings a keeper up from then on, and raises Unavailable. Raises OSError."""
        import json

        env = None if env is None else dict(env)
        self._say(
            json.dumps({"home": str(layout.home), "runtime": str(layout.runtime), "argv": argv, "env": env}).encode()
        )
        return self._start

    def close(self) -> None:
        self._into.close()
        self._out.close()

    def _start(self, _: Layout) -> None:
        from pilothouse.core.errors import Unavailable

        try:
            self._say(b"start")
            said = self._out.readline().decode(errors="replace").strip()
        except OSError:
            said = ""
        if said != "ok":
            raise Unavailable(said or "the keeper cannot be started any more; restart the server")

    def _say(self, line: bytes) -> None:
        self._into.write(line + b"\n")


def forked() -> Launcher | None:
    """For whoever is root, and may give it up."""
    return Launcher.fork() if os.geteuid() == _ROOT else None


# --- the child's side


def _serve(asked: int, said: int) -> None:
    os.setsid()
    sys.path[:] = trusted(sys.path)  # first: what is relative there is so to where the server was started
    os.chdir("/")
    first, last = sorted((asked, said))
    for start, end in ((3, first), (first + 1, last), (last + 1, _FDS_MAX)):
        os.closerange(start, end)
    _hear_no_signals()
    lines = os.fdopen(asked, "rb")
    order = lines.readline()
    while lines.readline() == b"start\n":
        pid = os.fork()
        if pid == 0:
            try:
                os.write(said, _started(order).replace("\n", " ").encode(errors="replace") + b"\n")
                os._exit(0)
            finally:
                os._exit(1)
        _, status = os.waitpid(pid, 0)
        if status:  # it said nothing, or the server would wait for its word for ever
            os.write(said, b"the keeper's start ended without a word (wait status %d)\n" % status)


def trusted(path: Sequence[str]) -> list[str]:
    """Where to import from: without the current directory, which `python -m` and `-c` put there (as Python's own `-P`
    has it), and nothing relative. Our package is loaded and knows where its other parts are."""
    here, own = os.stat("."), os.path.dirname(os.__file__)  # noqa: PTH116, PTH120  pathlib would be imported too soon
    every = [os.path.abspath(entry) for entry in path if entry]  # noqa: PTH100
    return [entry for entry in every if entry == own or not _is(entry, here)]


def _is(entry: str, directory: os.stat_result) -> bool:
    try:
        return os.path.samestat(os.stat(entry), directory)  # noqa: PTH116
    except OSError:
        return False


def _hear_no_signals() -> None:
    """Those of the server's terminal and its service manager: the child ends when the server has."""
    import signal

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def _started(order: bytes) -> str:
    """`ok`, or why not."""
    try:
        import json
        from pathlib import Path

        from pilothouse.adapters.sandboxes import client
        from pilothouse.adapters.sandboxes.layout import Layout

        found = json.loads(order)
        client.start(Layout(Path(found["home"]), Path(found["runtime"])), found["argv"], found["env"])
    except Exception as error:  # noqa: BLE001 - whatever it is, the server waits for a line
        return str(error) or type(error).__name__
    return "ok"
