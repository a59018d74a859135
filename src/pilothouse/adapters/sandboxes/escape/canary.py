"""The process outside that the suite tries to see, reach and signal: `canary SECRET`, with the secret in its
environment too. It does nothing but answer, and count who came.

Standard input: a JSON object {"directory", "sockets": {name: path}, "abstract"}; then each further line asks for a
report. Standard output: one JSON object a line: {"pid", "port", "udp", "shared_key", "terminal"}, then per report
{"touched": {name: count}} since the last one. It ends, and takes everything of it away, with its standard input.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import random
import selectors
import signal
import socket
import sys
import tty
from pathlib import Path
from typing import Any

from pilothouse.adapters.sandboxes.escape import calls

_CREATE = 0o3666
"""IPC_CREAT, IPC_EXCL, for everybody."""
_KEYS = range(0x50480000, 0x5048FFFF)
"""Ours ("PH"); a key that is taken is left alone."""


class Canary:
    def __init__(self, secret: bytes, told: dict[str, Any]) -> None:
        self._secret = secret
        self._selector = selectors.DefaultSelector()
        self._touched: dict[str, int] = {}
        self._sockets = dict(told["sockets"])
        os.chdir(told["directory"])
        signal.signal(signal.SIGUSR1, lambda *_: self._touch("signal"))
        tcp = self._listen("tcp", socket.AF_INET, ("127.0.0.1", 0))
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        udp.bind(("127.0.0.1", 0))
        self._selector.register(udp, selectors.EVENT_READ, lambda: self._datagram(udp))
        for name, path in self._sockets.items():
            self._listen(name, socket.AF_UNIX, path)
            Path(path).chmod(0o777)
        self._listen("abstract", socket.AF_UNIX, "\0" + told["abstract"])
        key = self._share()
        self._master, slave = os.openpty()
        tty.setraw(slave)
        self._selector.register(self._master, selectors.EVENT_READ, self._typed)
        self._memory = mmap.mmap(-1, 4096)
        self._memory.write(secret)
        self._selector.register(0, selectors.EVENT_READ, self._asked)
        self._done = self._wanted = False
        self._say(
            {
                "pid": os.getpid(),
                "port": tcp.getsockname()[1],
                "udp": udp.getsockname()[1],
                "shared_key": key,
                "terminal": int(os.ttyname(slave).rpartition("/")[2]),
            }
        )

    def serve(self) -> None:
        while not self._done:
            for key, _ in self._selector.select():
                with contextlib.suppress(BlockingIOError, ConnectionError):
                    key.data()
            if self._wanted and not self._selector.select(0):  # all that had come before the question is counted
                self._report()
        for path in self._sockets.values():
            Path(path).unlink(missing_ok=True)
        calls.shmrm(self._segment)
        calls.msgrm(self._queue)

    def _listen(self, name: str, family: int, address: Any) -> socket.socket:
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.bind(address)
        sock.listen(8)
        self._selector.register(sock, selectors.EVENT_READ, lambda: self._greet(name, sock))
        return sock

    def _share(self) -> int:
        """A System V segment and a queue of one key."""
        for key in random.sample(_KEYS, 64):
            with contextlib.suppress(FileExistsError):
                self._segment = calls.shmget(key, 4096, _CREATE)
                self._queue = calls.msgget(key, _CREATE)
                return key
        raise OSError("no free key for shared memory")

    def _touch(self, name: str) -> None:
        self._touched[name] = self._touched.get(name, 0) + 1

    def _greet(self, name: str, sock: socket.socket) -> None:
        peer, _ = sock.accept()
        with peer:
            self._touch(name)
            peer.sendall(self._secret)

    def _datagram(self, sock: socket.socket) -> None:
        sock.recvfrom(100)
        self._touch("udp")

    def _typed(self) -> None:
        os.read(self._master, 4096)
        self._touch("terminal")

    def _asked(self) -> None:
        line = os.read(0, 4096)
        if not line:
            self._done = True
            return
        self._wanted = True

    def _report(self) -> None:
        self._say({"touched": self._touched})
        self._touched, self._wanted = {}, False

    def _say(self, message: dict[str, Any]) -> None:
        sys.stdout.write(json.dumps(message) + "\n")
        sys.stdout.flush()


def main(argv: list[str]) -> int:
    with open(0, "rb", buffering=0, closefd=False) as told:  # nothing beyond the line may be read
        Canary(argv[0].encode(), json.loads(told.readline())).serve()
    return 0
