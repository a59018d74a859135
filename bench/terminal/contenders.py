"""Who is measured: started, asked for shells, looked at from outside by the kernel's figures, stopped.

Peers live in environments of their own below `.make/bench`, made at the first run by pip and npm; where that does not
go (no network, no npm) the peer is missing, and the run says so.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections import defaultdict
from pathlib import Path
from typing import Any, Protocol

HERE = Path(__file__).parent
MADE = HERE.parents[1] / ".make" / "bench"
TERMINADO = ("terminado==0.18.1",)
NODE = ("@lydell/node-pty@1.1.0", "ws@8.18.3")
"""node-pty with its binary in the package: the original has it compiled where it is installed."""
SHELL = ("bash", "--norc", "--noprofile")
SHELLS_A_SESSION = 10
START_S = 60.0
INSTALL_S = 300.0


class Missing(Exception):
    """A contender cannot be had here; says why."""


class Contender(Protocol):
    name: str
    wire: str
    headers: list[str]
    port: int

    def prepare(self) -> None:
        """What it is made of is installed. Raises Missing."""
        ...

    def start(self) -> None: ...

    def paths(self, count: int, at: int = 0, among: int = 1) -> list[str]:
        """Where so many fresh shells are looked at; where shells are in sessions, `among` so many from number `at` on,
        in turn."""
        ...

    def done(self) -> None:
        """Nobody looks at them any more."""
        ...

    def pids(self) -> list[int]:
        """Its processes, without the shells and what runs in them."""
        ...

    def stop(self) -> None: ...


def memory(pids: list[int], *, files: bool = True) -> int:
    """Bytes of PSS: each shared page divided among its users. Without `files`: what is no file's, which other programs
    that start or end meanwhile do not change. Raises PermissionError."""
    kinds, total = (("Pss:",) if files else ("Pss_Anon:", "Pss_Shmem:")), 0
    for pid in pids:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith(kinds):
                    total += int(line.split()[1]) * 1024
    return total


def family(roots: list[int]) -> list[int]:
    """The processes and their descendants, but for shells and theirs."""
    children: dict[int, list[int]] = defaultdict(list)
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            children[int(entry.read_text().rpartition(")")[2].split()[1])].append(int(entry.parent.name))
    found: dict[int, None] = {}
    waiting = list(roots)
    while waiting:
        pid = waiting.pop()
        if pid not in found and not _is_shell(pid):
            found[pid] = None
            waiting += children[pid]
    return list(found)


def _is_shell(pid: int) -> bool:
    with contextlib.suppress(OSError):
        program, *words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
        return (Path(program).name, *words[: len(SHELL) - 1]) == SHELL
    return True


class Peer:
    """One program that opens a shell for every WebSocket and says its port when it is up."""

    def __init__(self, name: str, wire: str, path: str) -> None:
        self.name, self.wire, self.headers, self.port = name, wire, list[str](), 0
        self._path = path
        self._process: subprocess.Popen[bytes] | None = None

    def command(self) -> tuple[list[str], dict[str, str]]:
        """How it is started, and with what besides our environment. Raises Missing."""
        raise NotImplementedError

    def prepare(self) -> None:
        self.command()

    def start(self) -> None:
        argv, env = self.command()
        out, err = subprocess.PIPE, subprocess.DEVNULL  # they complain of every connection that ends
        self._process = subprocess.Popen(argv, stdout=out, stderr=err, env=os.environ | env, start_new_session=True)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.strip().isdigit():
            raise RuntimeError(f"{self.name} does not start")
        self.port = int(line)

    def paths(self, count: int, at: int = 0, among: int = 1) -> list[str]:
        return [self._path] * count

    def done(self) -> None: ...

    def pids(self) -> list[int]:
        assert self._process is not None
        return family([self._process.pid])

    def stop(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


class Node(Peer):
    def __init__(self) -> None:
        super().__init__("node-pty", "plain", "/")

    def command(self) -> tuple[list[str], dict[str, str]]:
        node, npm = shutil.which("node"), shutil.which("npm")
        if node is None or npm is None:
            raise Missing("no node or npm on the PATH")
        place = MADE / "node"
        made_by(place, NODE, [[npm, "install", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", "{}", *NODE]])
        return [node, str(HERE / "node.js")], {"NODE_PATH": str(place / "node_modules")}


class Terminado(Peer):
    def __init__(self) -> None:
        super().__init__("terminado", "terminado", "/websocket")

    def command(self) -> tuple[list[str], dict[str, str]]:
        place = MADE / "terminado"
        pip = ["{}/bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *TERMINADO]
        made_by(place, TERMINADO, [[sys.executable, "-m", "venv", "{}"], pip])
        return [str(place / "bin" / "python"), str(HERE / "tornado_terminado.py")], {}


def made_by(place: Path, wanted: tuple[str, ...], commands: list[list[str]]) -> None:
    """Once for each set of versions. Raises Missing."""
    stamp = place / "made"
    if stamp.exists() and stamp.read_text() == repr(wanted):
        return
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    for command in commands:
        words = [word.replace("{}", str(place)) for word in command]
        try:
            subprocess.run(words, check=True, capture_output=True, timeout=INSTALL_S)
        except subprocess.CalledProcessError as error:
            raise Missing(f"{' '.join(wanted)}: {error.stderr.decode(errors='replace').strip()[-200:]}") from None
        except (OSError, subprocess.TimeoutExpired) as error:
            raise Missing(f"{' '.join(wanted)}: {error}") from None
    stamp.write_text(repr(wanted))


class Pilothouse:
    """The real program: server, keeper, proxy, sessions in their sandboxes, each with ten shells at most."""

    name, wire = "pilothouse", "ours"

    def __init__(self) -> None:
        self.headers: list[str] = []
        self.port = 0
        self._home = Path()
        self._server: subprocess.Popen[bytes] | None = None
        self._sessions: list[str] = []
        self._shells: list[tuple[str, str]] = []

    def prepare(self) -> None: ...

    def furnish(self, home: Path) -> None:
        """What is in its directory before it starts."""

    def environment(self) -> dict[str, str]:
        """What it is started with besides."""
        return {}

    def start(self) -> None:
        self._sessions, self._shells = [], []
        self._home = Path(tempfile.mkdtemp(prefix="ph-"))
        self._home.chmod(0o755)
        (self._home / "ph").mkdir()
        self.furnish(self._home / "ph")
        env = {
            "PATH": os.environ["PATH"],
            "HOME": str(self._home),
            "LANG": "C.UTF-8",
            "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
            "PILOTHOUSE_HOME": str(self._home / "ph"),
            "PILOTHOUSE_SPARES": "0",
            "PILOTHOUSE_RATE_PER_S": "0",
            **self.environment(),
        }
        log = self._home / "log"
        with log.open("wb") as out:
            argv = [sys.executable, "-m", "pilothouse", "serve", "--port", "0"]
            self._server = subprocess.Popen(argv, env=env, stdout=out, stderr=out, stdin=subprocess.DEVNULL)
        deadline, said = time.monotonic() + START_S, self._home / "ph" / "server.json"
        while time.monotonic() < deadline and self._server.poll() is None:
            with contextlib.suppress(OSError, ValueError, KeyError):
                self.port = int(json.loads(said.read_text())["url"].rpartition(":")[2])
                self.headers = ["x-api-key: " + (self._home / "ph" / "local.key").read_text().strip()]
                self._ask("GET", "/healthz")
                return
            time.sleep(0.05)
        raise RuntimeError(f"the server did not come up: {log.read_text()[-1000:]}")

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        name, _, value = self.headers[0].partition(": ")
        asked = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}",
            None if body is None else json.dumps(body).encode(),
            {name: value, "content-type": "application/json"},
            method=method,
        )
        with urllib.request.urlopen(asked, timeout=START_S) as answer:
            text = answer.read()
        found: dict[str, Any] = json.loads(text) if text[:1] == b"{" else {}
        return found

    def paths(self, count: int, at: int = 0, among: int = 1) -> list[str]:
        while len(self._sessions) < at + among:
            self._sessions.append(str(self._ask("POST", "/api/sessions", {"agent": "echo"})["id"]))
        found = []
        for number in range(count):
            session, shell = self._sessions[at + number % among], str(uuid.uuid4())
            self._ask("POST", f"/api/sessions/{session}/shells", {"shellId": shell, "command": list(SHELL)})
            self._shells.append((session, shell))
            found.append(f"/api/sessions/{session}/shells/{shell}")
        return found

    def done(self) -> None:
        for session, shell in self._shells:
            with contextlib.suppress(urllib.error.HTTPError):
                self._ask("DELETE", f"/api/sessions/{session}/shells/{shell}")
        self._shells.clear()

    def pids(self) -> list[int]:
        return family(self._marked())

    def _marked(self) -> list[int]:
        """Every process whose command line or environment names this installation."""
        mark, found = str(self._home / "ph").encode(), []
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if mark in (entry / "cmdline").read_bytes() or mark in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
        return found

    def stop(self) -> None:
        if self._server is not None:
            self._server.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._server.wait(10)
            for _ in range(100):
                left = self._marked()
                for pid in left:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                if not left:
                    break
                time.sleep(0.05)
            self._server.wait()
        shutil.rmtree(self._home, ignore_errors=True)


EVERY: tuple[type[Pilothouse] | type[Node] | type[Terminado], ...] = (Pilothouse, Node, Terminado)
