"""A process that holds shells and nothing else, as a session's holder does beside its other duties.

python -m tests.adapters.shells.keeping SOCKET        ends when its standard input does
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
import sys

from pilothouse.adapters.shells.holding import Holding
from pilothouse.adapters.shells.order import Order
from pilothouse.adapters.shells.spawn import spawn
from pilothouse.core.shell import Exit, ShellId


def main(path: str) -> None:
    selector = selectors.DefaultSelector()
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listening.bind(path)
    listening.listen(8)
    pids: dict[ShellId, int] = {}

    def start(order: Order) -> None:
        try:
            pid, master = spawn(order.argv, order.env, order.cwd, order.size)
        except OSError as error:
            holding.failed(order.id, str(error))
            return
        pids[order.id] = pid
        pidfd = os.pidfd_open(pid)
        selector.register(pidfd, selectors.EVENT_READ, lambda: reap(order.id, pidfd))
        holding.opened(order.id, master)

    def reap(id: ShellId, pidfd: int) -> None:
        selector.unregister(pidfd)
        os.close(pidfd)
        _, status = os.waitpid(pids.pop(id), 0)
        holding.exited(id, Exit.of(os.waitstatus_to_exitcode(status)))

    def kill(id: ShellId, number: int) -> None:
        os.killpg(pids[id], number)

    holding = Holding(selector, listening, (os.getuid(),), start, kill, lends=True)
    selector.register(sys.stdin, selectors.EVENT_READ, "end")
    os.write(1, b"ready\n")
    while True:
        for key, _ in selector.select(holding.pause()):
            if key.data == "end":
                for pid in pids.values():
                    os.killpg(pid, signal.SIGKILL)
                return
            if selector.get_map().get(key.fd) is key:
                key.data()
        holding.tick()


if __name__ == "__main__":
    main(sys.argv[1])
