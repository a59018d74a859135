"""The canaries of one run: files, sockets and a process of the host, made for it and taken away after it.

Before the suite starts each canary is tried from out here, so that one that nobody could reach is no canary.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pwd
import secrets
import shutil
import signal
import socket
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pilothouse.adapters.sandboxes import interpreter
from pilothouse.adapters.sandboxes.escape.ground import Ground

_MODULE = "pilothouse.adapters.sandboxes.escape.canary"
_PATIENCE_S = 20.0
_SHM = Path("/dev/shm")  # noqa: S108
_KINDS = ("tcp", "udp", "runtime", "world", "abstract", "terminal", "signal")
_MARKS = {
    "tcp": "s.loopback",
    "udp": "s.loopback",
    "runtime": "s.hostsock",
    "world": "s.unix",
    "abstract": "s.abstract",
    "terminal": "t.otherpts",
    "signal": "p.kill",
}
"""What the canary notices, and the check that did it."""


class CannotPlant(Exception):
    """A canary does not do what it is there for; the message says which."""


@dataclass
class Planted:
    ground: Ground
    process: asyncio.subprocess.Process
    priority: int = 0
    oom: str = ""

    async def touched(self) -> dict[str, str]:
        """Check -> what arrived out here since the last time."""
        came = await self._report()
        return {
            _MARKS[name]: f"the canary noticed it ({name}, {n} times)" for name, n in came.items()
        } | self._changed()

    def _changed(self) -> dict[str, str]:
        holes = {}
        if Path(self.ground.files["victim"]).read_bytes():
            holes["fs.symlink_write"] = "the canary file was written"
        if os.getpriority(os.PRIO_PROCESS, self.process.pid) != self.priority:
            holes["p.prio"] = "the canary's priority was changed"
        if _oom(self.process.pid) != self.oom:
            holes["p.oom"] = "the canary's oom_score_adj was changed"
        return holes

    async def _report(self) -> dict[str, int]:
        assert self.process.stdin is not None
        self.process.stdin.write(b"\n")
        said = (await _line(self.process))["touched"]
        return {str(name): int(n) for name, n in said.items()}

    async def prove(self) -> None:
        """Raises CannotPlant."""
        await asyncio.to_thread(_visit, self.ground)
        seen: set[str] = set()
        async with asyncio.timeout(_PATIENCE_S):
            while not seen.issuperset(_KINDS):
                seen |= set(await self._report())
                await asyncio.sleep(0.01)


def _oom(pid: int) -> str:
    return Path(f"/proc/{pid}/oom_score_adj").read_text()


def _visit(ground: Ground) -> None:
    """Everything that the suite will try, by somebody who may."""
    addresses: list[tuple[int, Any]] = [(socket.AF_INET, ("127.0.0.1", ground.port))]
    addresses += [(socket.AF_UNIX, path) for path in (*ground.sockets.values(), "\0" + ground.abstract)]
    for family, address in addresses:
        with socket.socket(family, socket.SOCK_STREAM) as sock:
            sock.settimeout(_PATIENCE_S)
            sock.connect(address)
            if sock.recv(100) != ground.secret:
                raise CannotPlant(f"the canary at {address!r} does not answer")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"x", ("127.0.0.1", ground.udp))
    os.kill(ground.pid, signal.SIGUSR1)
    terminal = os.open(f"/dev/pts/{ground.terminal}", os.O_WRONLY | os.O_NOCTTY)
    os.write(terminal, b"x")
    os.close(terminal)
    for name, path in ground.files.items():
        if name != "victim" and ground.secret not in Path(path).read_bytes():
            raise CannotPlant(f"the canary file {path} cannot be read")


async def _line(process: asyncio.subprocess.Process) -> dict[str, Any]:
    assert process.stdout is not None
    async with asyncio.timeout(_PATIENCE_S):
        line = await process.stdout.readline()
    if not line:
        raise CannotPlant("the canary ended")
    said: dict[str, Any] = json.loads(line)
    return said


def _person(otherwise: Path) -> Path:
    """The home directory of whoever runs this, where a canary can lie in it."""
    with contextlib.suppress(KeyError):
        home = Path(pwd.getpwuid(os.geteuid()).pw_dir)
        if home.is_dir() and os.access(home, os.W_OK):
            return home
    return otherwise


def _write(path: Path, data: bytes, mode: int) -> str:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(data)
    path.chmod(mode)
    return str(path)


def _files(stack: contextlib.ExitStack, private: Path, world: Path, secret: bytes) -> dict[str, str]:
    """Made, and taken away with the stack."""
    for directory, mode in ((private, 0o700), (world, 0o755)):
        directory.mkdir(mode=mode)
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        directory.chmod(mode)
    places = {
        "database": (private / "log.sqlite", 0o600),
        "secrets": (private / "local.key", 0o600),
        "world": (world / "world", 0o644),
        "home": (_person(private) / f".{private.name}", 0o600),
        "shm": (_SHM / private.name, 0o666),
    }
    files = {"victim": _write(world / "victim", b"", 0o666)}
    for what, (path, mode) in places.items():
        files[what] = _write(path, secret, mode)
        stack.callback(path.unlink, missing_ok=True)
    return files


@contextlib.asynccontextmanager
async def planted(
    home: Path, runtime: Path, limits: dict[str, float], isolation: str = "namespaces"
) -> AsyncIterator[Planted]:
    """Raises CannotPlant, OSError."""
    ident = secrets.token_hex(4)
    halves = (secrets.token_hex(12), secrets.token_hex(12))
    secret = "".join(halves)
    private = home / f"pilothouse-escape-{ident}"
    world = Path(tempfile.gettempdir(), f"{private.name}-{secrets.token_hex(4)}")
    sockets = {"runtime": str(runtime / f"escape-{ident}.sock"), "world": str(world / "sock")}
    with contextlib.ExitStack() as stack:
        files = _files(stack, private, world, secret.encode())
        process = await _canary(secret)
        try:
            told = {"directory": str(private), "sockets": sockets, "abstract": private.name}
            assert process.stdin is not None
            process.stdin.write(json.dumps(told).encode() + b"\n")
            said = await _line(process)
            ground = Ground(
                id=ident,
                halves=halves,
                files=files,
                sockets=sockets,
                abstract=private.name,
                paths=(str(home), str(runtime), str(world)),
                limits=limits,
                isolation=isolation,
                **said,
            )
            made = Planted(ground, process, os.getpriority(os.PRIO_PROCESS, process.pid), _oom(process.pid))
            await made.prove()
            yield made
        finally:
            await _end(process)


async def _canary(secret: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *interpreter.command(interpreter.on_host(), _MODULE, secret),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={"PILOTHOUSE_CANARY": secret},
    )


async def _end(process: asyncio.subprocess.Process) -> None:
    assert process.stdin is not None
    process.stdin.close()
    try:
        async with asyncio.timeout(_PATIENCE_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
