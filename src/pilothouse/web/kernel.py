"""What the kernel knows of a connection."""

from __future__ import annotations

import asyncio
import fcntl
import sys
import termios

from pilothouse.engine.viewing import GONE


def unacknowledged(wire: asyncio.Transport) -> int:
    """What the kernel has of ours: it is thrown away with a process that is killed while something of the client's is
    unread."""
    sock = wire.get_extra_info("socket")
    if sock is None or sock.fileno() < 0:
        return GONE
    try:
        return int.from_bytes(fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, b"\0\0\0\0"), sys.byteorder)
    except OSError:
        return 0  # no such thing here
