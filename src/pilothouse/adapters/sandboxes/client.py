"""The server's side of keeper and holder: one short connection per request. Raises Unavailable with their words."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import socket
import subprocess
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any

from pilothouse.adapters.sandboxes import fdpass, layout
from pilothouse.core.errors import Unavailable

PROTO = 1
START_MAX_S = 30.0
"""A keeper that must first copy certificates and mount, on a loaded machine."""
STARTS = 3
"""One that is killed as soon as it is up is started again; one that ends by itself says why, and is not."""
ANSWER_MAX_S = 40.0
"""Longer than a sandbox may take to start."""
_LOG_TAIL = 2000
UNIT_MAX_S = 5.0
"""A service manager that starts both at once has the keeper up long before."""


class Away(Exception):
    """Nobody answers on that socket."""


async def ask(path: Path, message: dict[str, Any], patience: float = ANSWER_MAX_S) -> dict[str, Any]:
    """The answer to one request. Raises Away, or Unavailable when it is refused."""
    try:
        async with asyncio.timeout(patience):
            reader, writer = await asyncio.open_unix_connection(path, limit=fdpass.LINE_MAX)
            try:
                await _exchange(reader, writer, {"verb": "hello", "proto": PROTO})
                answer = await _exchange(reader, writer, message)
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
    except TimeoutError:
        raise Unavailable(f"{message['verb']}: no answer within {patience:.0f} s") from None
    except (OSError, ValueError, fdpass.Broken) as error:
        raise Away(f"{message['verb']}: {error}") from None
    if answer.get("ok") is not True:
        raise Unavailable(str(answer.get("error") or "refused"))
    return answer


async def _exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, message: dict[str, Any]
) -> dict[str, Any]:
    writer.write(json.dumps(message).encode() + b"\n")
    await writer.drain()
    line = await reader.readline()
    if not line:
        raise fdpass.Broken("hung up")
    return fdpass.parse(line)


Start = Callable[[layout.Layout], None]
"""Brings a keeper up; blocks until it answers. Raises Unavailable."""


async def ensure_keeper(home: Path, runtime: Path, start: Start) -> layout.Layout:
    """A keeper that answers, started when there is none.

    Raises Unavailable.
    """
    try:
        found = layout.make(home, runtime)
    except (layout.LayoutError, OSError) as error:
        raise Unavailable(str(error)) from None
    for _ in range(STARTS):
        if await _answers(found):
            return found
        await _wholly(asyncio.to_thread(start, found))
    if not await _answers(found):
        raise Unavailable(f"the keeper does not answer; see {found.log}")
    return found


async def _wholly(starts: Coroutine[Any, Any, None]) -> None:
    """To its end even if the caller is cancelled: a thread left behind would bring up a keeper that nobody wants."""
    running = asyncio.ensure_future(starts)
    try:
        await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.gather(running, return_exceptions=True)
        raise


async def _answers(found: layout.Layout) -> bool:
    try:
        await ask(found.keeper, {"verb": "status"}, patience=5.0)
    except Away:
        return False
    return True


def wait_for_unit(found: layout.Layout) -> None:
    """A keeper that the machine's own service manager starts."""
    until = time.monotonic() + UNIT_MAX_S
    while time.monotonic() < until:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.connect(str(found.keeper))
            return
        time.sleep(0.2)
    raise Unavailable("the keeper does not run: systemctl status pilothouse-keeper")


def start(found: layout.Layout, argv: Sequence[str], env: Mapping[str, str] | None = None) -> None:
    """`argv` is the keeper's command without directories, `env` all that it shall inherit. Under a lock of its own, so
    that two servers do not race; the keeper's own lock settles it in any case. Raises Unavailable."""
    where = ["--home", str(found.home), "--runtime", str(found.runtime), "--detach"]
    lock = _own(found.runtime / "start.lock", os.O_RDWR)
    log = _own(found.log, os.O_WRONLY | os.O_APPEND)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = subprocess.run(  # noqa: S603
            [*argv, *where],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            env=env,
            start_new_session=True,
            timeout=START_MAX_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"the keeper did not start: {error}") from None
    finally:
        os.close(log)
        os.close(lock)
    if done.returncode != 0:
        tail = found.log.read_bytes()[-_LOG_TAIL:].decode(errors="replace").strip()
        raise Unavailable(f"the keeper did not start: {tail.splitlines()[-1] if tail else done.returncode}")


def _own(path: Path, flags: int) -> int:
    """A file of ours, made anew if somebody has laid another there."""
    for _ in range(2):
        fd = os.open(path, flags | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        status = os.fstat(fd)
        if status.st_uid == os.geteuid() and status.st_nlink == 1:
            return fd
        os.close(fd)
        path.unlink()
    raise Unavailable(f"{path}: not a file of ours")
