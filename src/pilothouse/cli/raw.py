"""The person's terminal in raw mode, and the escape that leaves it: `~.` at the beginning of a line, as ssh has it.

~.   leave; the shell goes on        ~~   a tilde        ~?   these        ~t   type again, when another has taken it
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import termios
import tty
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

from pilothouse.cli.terminal import read

HELP = b"\r\n~.  leave; the shell goes on\r\n~t  type again, when another has taken it\r\n~~  a tilde\r\n~?  this\r\n"

_OFF = (1, 9, 1000, 1002, 1003, 1004, 1005, 1006, 1015, 1016, 1047, 2004, 2026, 2031)
"""Cursor keys for programs, mouse, focus, the other screen, marked pastes, drawing held back, colours told."""
_REST = b"\x1b[?7h\x1b[?25h\x1b[<u\x1b[>4m\x1b[0m\x1b(B\x0f\x1b>\x1b7\x1b[r\x1b8"
"""Lines wrap, the cursor is seen, keys and letters are the usual ones, and all of the screen scrolls."""
RESET = b"".join(b"\x1b[?%dl" % mode for mode in _OFF) + _REST
"""What a program that is left alone has set, and nobody would set back: each is nothing where it was not."""


@dataclass(slots=True)
class Escapes:
    """Takes what is typed apart. A tilde at the beginning of a line is held back until it is known what follows."""

    fresh: bool = True
    held: bool = False
    yielded: bool = False
    """Another types: `~t` is a name's beginning otherwise."""

    def take(self, typed: bytes) -> tuple[bytes, str]:
        """What is for the shell, and what was asked of us: "", "leave", "help", "take"."""
        out, asked = bytearray(), ""
        for at in range(len(typed)):
            byte = typed[at : at + 1]
            if self.held:
                self.held = False
                if byte == b".":
                    return bytes(out), "leave"
                if byte == b"?" or (byte == b"t" and self.yielded):
                    self.fresh, asked = True, "help" if byte == b"?" else "take"
                    continue
                if byte != b"~":
                    out += b"~"
            elif self.fresh and byte == b"~":
                self.held = True
                continue
            out += byte
            self.fresh = byte in b"\r\n"
        return bytes(out), asked


class Raw:
    """Standard input and output as bytes, whether they are a terminal or not."""

    def __init__(self, *, piped: bool = False) -> None:
        """`piped`: the input is lines or bytes, also if somebody types them."""
        self.fd = sys.stdin.fileno()
        self.terminal = os.isatty(self.fd) and not piped
        self.screen = os.isatty(sys.stdout.fileno()) and not piped
        """What is written is shown by a terminal, which can be asked something."""
        self.resized = asyncio.Event()

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """The terminal is as it was afterwards, whatever happened."""
        loop = asyncio.get_running_loop()
        before = termios.tcgetattr(self.fd) if self.terminal else None
        if before is not None:
            tty.setraw(self.fd, termios.TCSADRAIN)  # what was typed ahead stays
            loop.add_signal_handler(signal.SIGWINCH, self.resized.set)
        try:
            yield
        finally:
            if before is not None:
                loop.remove_signal_handler(signal.SIGWINCH)
                if self.screen:
                    with contextlib.suppress(OSError):
                        self.write(RESET)
                termios.tcsetattr(self.fd, termios.TCSADRAIN, before)

    @property
    def size(self) -> tuple[int, int] | None:
        """Columns and rows."""
        for fd in (self.fd, sys.stdout.fileno()):
            with contextlib.suppress(OSError):
                found = os.get_terminal_size(fd)
                return max(1, min(found.columns, 1000)), max(1, min(found.lines, 1000))
        return None

    def write(self, data: bytes) -> None:
        """All of it; a terminal that does not take it now makes us wait, and with us the shell."""
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()

    async def typed(self) -> AsyncIterator[bytes]:
        """Ends with the input."""
        while data := await read(self.fd):
            yield data
