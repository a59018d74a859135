"""The person's terminal: what is written to it and read from it. The only place that touches stdin, stdout, stderr."""

from __future__ import annotations

import asyncio
import io
import os
import shlex
import sys
import tempfile
from pathlib import Path

from pilothouse.cli.errors import Failure
from pilothouse.cli.style import Style
from pilothouse.cli.text import plain

INPUT_MAX = 1024 * 1024
"""Bytes of one typed line."""


class Terminal:
    def __init__(self, *, color: bool, editor: str) -> None:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):  # a terminal that cannot show a character gets its number
                stream.reconfigure(errors="backslashreplace")
        self.interactive = sys.stdin.isatty() and sys.stdout.isatty()
        self.style = Style(color and sys.stdout.isatty())
        self._editor = editor
        self._typed = bytearray()

    def write(self, words: str) -> None:
        if words:
            sys.stdout.write(words)
            sys.stdout.flush()

    def write_raw(self, data: bytes) -> None:
        """Bytes as they are, ended by a line break."""
        sys.stdout.flush()
        sys.stdout.buffer.write(data + b"\n")
        sys.stdout.buffer.flush()

    def notice(self, words: str) -> None:
        """For the person, not for the pipe."""
        sys.stdout.flush()
        sys.stderr.write(f"pilothouse: {plain(words)}\n")
        sys.stderr.flush()

    def forget_typed(self) -> None:
        """Drops what was typed before a question was shown: it cannot have been meant as its answer."""
        self._typed.clear()
        if sys.stdin.isatty():
            import termios

            termios.tcflush(sys.stdin.fileno(), termios.TCIFLUSH)

    async def ask(self, prompt: str) -> str | None:
        """A line, without its end; None at the end of the input. May be cancelled while it waits."""
        self.write(prompt)
        while b"\n" not in self._typed:
            chunk = await read(sys.stdin.fileno())
            if not chunk and not self._typed:
                return None
            self._typed += chunk or b"\n"
            if len(self._typed) > INPUT_MAX:
                raise Failure(f"A line of the input is longer than {INPUT_MAX} bytes.")
        line, _, rest = bytes(self._typed).partition(b"\n")
        self._typed = bytearray(rest)
        return line.decode(errors="replace").rstrip("\r")

    async def edit(self, content: str) -> str:
        """The person's editor on a private file."""
        if not self._editor:
            raise Failure("Set EDITOR to the editor to use.")
        descriptor, name = tempfile.mkstemp(prefix="pilothouse-", suffix=".json")
        path = Path(name)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(content)
            child = await asyncio.create_subprocess_exec(*shlex.split(self._editor), name)
            status = await child.wait()
            if status != 0:
                raise Failure(f"The editor ended with status {status}.")
            return path.read_text(encoding="utf-8")  # noqa: ASYNC240  nothing else runs while the person edits
        except (OSError, ValueError) as error:
            raise Failure(f"EDITOR {self._editor!r}: {error}") from None
        finally:
            path.unlink(missing_ok=True)  # noqa: ASYNC240


async def read(fd: int) -> bytes:
    """What can be read next; leaves nothing behind when cancelled."""
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    try:
        loop.add_reader(fd, lambda: None if ready.done() else ready.set_result(None))
    except PermissionError:  # a regular file: always readable, and nothing to wait for
        return os.read(fd, 64 * 1024)
    try:
        await ready
    finally:
        loop.remove_reader(fd)
    return os.read(fd, 64 * 1024)
