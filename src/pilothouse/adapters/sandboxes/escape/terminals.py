"""Terminals: to type into one, to reach another's, to be answered by one. Run on a pseudo-terminal made for it."""

from __future__ import annotations

import ctypes
import fcntl
import os
import pty
import select
import termios
import tty
from collections.abc import Callable
from pathlib import Path

from pilothouse.adapters.sandboxes.escape import calls
from pilothouse.adapters.sandboxes.escape.ground import Check, Ground, content, failed, first, pids, refused

_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C
_HIGH = 1 << 32
"""The kernel reads the low half of the number only: a filter that compares all of it is passed by (CVE-2019-10063)."""
_QUESTIONS = b"\x1b[c\x1b[6n\x1b[21t\x1b]52;c;?\x07\x1bP$qm\x1b\\\x05"
"""Who are you, where is the cursor, what is the title, the clipboard, the settings, ENQ."""
_PATIENCE_S = 0.3
_WORD_MAX = 1000


def _on_terminal(attack: Callable[[], str]) -> str:
    """What it says, run with a terminal as its own controlling one."""
    pid, master = pty.fork()
    if pid == 0:
        said = "the check broke"
        try:
            tty.setraw(0)
            said = attack()
        finally:
            os.write(1, said.encode()[:_WORD_MAX] + b"\0")
            os._exit(0)
    heard = b""
    while not heard.endswith(b"\0"):
        heard += os.read(master, _WORD_MAX)
    os.close(master)
    os.waitpid(pid, 0)
    return heard[:-1].decode()


def _controlling() -> str:
    size = fcntl.ioctl(0, termios.TIOCGWINSZ, b"\0" * 8)
    return "" if len(size) == 8 and Path("/dev/tty").exists() else "control: no terminal of its own"


def _ioctl(request: int, data: bytes) -> Callable[[], int]:
    return lambda: calls.by_name("ioctl", 0, request, ctypes.create_string_buffer(data))


def _tiocsti(ground: Ground) -> str:
    """To type into one's own terminal: whoever has it open next would run what was typed."""
    return _on_terminal(
        lambda: first(
            _controlling(),
            refused("input was pushed into the terminal", _ioctl(_TIOCSTI, b"x")),
            refused("input was pushed into the terminal by a number with high bits", _ioctl(_HIGH | _TIOCSTI, b"x")),
        )
    )


def _tioclinux(ground: Ground) -> str:
    """To paste into a virtual console."""
    paste = b"\x03"
    return _on_terminal(
        lambda: first(
            _controlling(),
            refused("the console takes commands", _ioctl(_TIOCLINUX, paste)),
            refused("the console takes commands by a number with high bits", _ioctl(_HIGH | _TIOCLINUX, paste)),
        )
    )


def _otherpts(ground: Ground) -> str:
    """Terminals of the host: whether one arrived at it, the canary tells too."""
    others = [name for name in os.listdir("/dev/pts") if name != "ptmx"]  # noqa: PTH208
    if others and not ground.reduced:
        return f"other terminals are there: {', '.join(others)}"
    names = [f"/dev/pts/{name}" for name in {*others, str(ground.terminal)}]
    names += ["/dev/console", "/dev/tty0", "/dev/tty1", "/dev/vcs", "/dev/ttyS0"]

    def type_into(name: str) -> None:
        fd = os.open(name, os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK)
        os.write(fd, b"x")
        os.close(fd)

    return first(_on_terminal(_controlling), *(failed(f"{name} was typed into", type_into, name) for name in names))


def _report(ground: Ground) -> str:
    """No process here hangs on a terminal of the host, and nothing answers to questions on one's own."""
    for fd in (0, 1, 2):
        if os.isatty(fd):
            return f"descriptor {fd} is a terminal"
    for pid in pids():
        fields = content(f"/proc/{pid}/stat").rpartition(b")")[2].split()
        if len(fields) > 4 and fields[4] != b"0":
            return f"process {pid} has a terminal that is not ours"

    def ask() -> str:
        os.write(1, _QUESTIONS)
        ready = select.select([0], [], [], _PATIENCE_S)[0]
        return "the terminal answers" if ready else ""

    said = _on_terminal(lambda: first(_controlling(), ask()))
    return said.removeprefix(_QUESTIONS.decode())


CHECKS: dict[str, Check] = {
    "t.tiocsti": _tiocsti,
    "t.tioclinux": _tioclinux,
    "t.otherpts": _otherpts,
    "t.report": _report,
}
