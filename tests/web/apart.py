"""A network and names of one's own, for clients that know their server by AWS's names and port 443 alone.

async with apart(folder, "bedrock-agentcore.us-west-2.amazonaws.com") as place:
    place.listening     a socket on port 443 there: whoever accepts from it may be anywhere
    place.words         put before a program, they run it there
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
import socket
import struct
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
_SIOCSIFFLAGS = 0x8914
_UP_AND_RUNNING = 0x41


@dataclass
class Apart:
    listening: socket.socket
    words: list[str]


def possible(*kinds: str) -> bool:
    """Whether there can be such namespaces here: `--net`, `--mount`."""
    if os.geteuid() != 0 or shutil.which("unshare") is None or shutil.which("nsenter") is None:
        return False
    return subprocess.run(["unshare", *kinds, "true"], capture_output=True, check=False).returncode == 0


@contextlib.asynccontextmanager
async def apart(folder: Path, *names: str) -> AsyncIterator[Apart]:
    hosts = folder / "hosts"
    hosts.write_text(f"127.0.0.1 localhost {' '.join(names)}\n")
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours:
        keeping = await asyncio.create_subprocess_exec(
            *("unshare", "--net", "--mount", "sh", "-c", 'mount --bind "$0" /etc/hosts && exec "$@"', str(hosts)),
            *(sys.executable, "-m", "tests.web.apart", str(theirs.fileno())),
            cwd=ROOT, pass_fds=[theirs.fileno()], stdin=asyncio.subprocess.PIPE,
        )  # fmt: skip
        theirs.close()
        assert keeping.stdin is not None
        try:
            said, fds, _, _ = await asyncio.to_thread(socket.recv_fds, ours, 1, 1)
            assert said, "no namespace"
            with socket.socket(fileno=fds[0]) as listening:
                yield Apart(listening, ["nsenter", f"--target={keeping.pid}", "--net", "--mount", "--"])
        finally:
            keeping.stdin.close()
            await keeping.wait()


def _keep(told: int) -> None:
    """Inside: listens, hands the socket over, and is there until it is let go."""
    with socket.socket() as listening, socket.socket(fileno=told) as ours:
        fcntl.ioctl(listening, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", _UP_AND_RUNNING))
        listening.bind(("127.0.0.1", 443))
        listening.listen(64)
        socket.send_fds(ours, [b"!"], [listening.fileno()])
    sys.stdin.read()


if __name__ == "__main__":
    _keep(int(sys.argv[1]))
