"""A pipe through a PTY, byte for byte: the PTY's line discipline is told to change nothing, and what goes in is written
so that it says the same again. The command itself has a pipe where we have none of a terminal: `tar x` refuses to read
from one, and an interpreter would begin a dialogue.

Lines stay lines. A byte that would mean something (end of file, "literally") is quoted; a line too long for the
kernel's buffer is handed over in pieces by an end of file that is not at the beginning of one, which ends nothing
(termios(3)).
"""

from __future__ import annotations

import re

END = b"\x04"
QUOTE = b"\x16"
PIECE = 1024
"""Bytes of a line until it is handed over; the kernel's buffer holds 4095."""
READY = b"\x06"
"""Written when the PTY is set up, before anything of the command's: what came earlier would be changed and echoed."""
_CHANGES = "-isig -icrnl -inlcr -igncr -istrip -iuclc -ixon -ixoff -ixany -imaxbel -parmrk -inpck -iutf8"
_KEYS = "erase undef kill undef werase undef rprnt undef eol undef eol2 undef"
_NAME = "pilothouse-sh"
"""What the script is called by itself; a command is known by it to have been wrapped."""
_SETUP = (
    f"stty -echo -echonl -opost {_CHANGES} icanon iexten {_KEYS} eof '^D' lnext '^V' && printf '\\006' || exit; "
    "exec 3<&0 4>&1 5>&2 2>/dev/null; "
)
"""What the shells themselves have to say (that a command was killed) goes nowhere: it would be among the output."""
_COMMAND = 'exec "$@" 2>&5 3<&- 4>&- 5>&- 6>&-'
_FEED = "sh -c 'echo $$; exec cat' <&3 3<&- 4>&- 5>&- 6>&-"
"""Begins with its own number: whoever runs the command ends it after that, since it may wait for more."""
_FED = f"{_FEED} | {{ read -r feed; ({_COMMAND}); s=$?; kill $feed; (exit $s); }}"
_PLAIN = f"({_COMMAND})"


def _drained(run: str) -> str:
    """With a pipe for its output. The status comes by a way of its own, for that of a pipe is its last command's."""
    return f's=$({{ {{ {run}; echo $? >&6; }} | cat >&4 6>&-; }} 6>&1); exit "${{s:-1}}"'


_MEANS = re.compile(b"[\x04\x16]")


def wrapped(command: list[str], *, source: bool = True, sink: bool = True) -> list[str]:
    """`command` on a PTY that changes nothing; its input (`source`), its output (`sink`) or both are pipes. One that is
    not there ends with 127, as anywhere."""
    run = _FED if source else _PLAIN
    return ["/bin/sh", "-c", _SETUP + (_drained(run) if sink else run), _NAME, *command]


def meant(command: list[str]) -> list[str]:
    """What was wrapped, or the command itself."""
    return command[4:] if command[3:4] == [_NAME] else command


class Piped:
    """What is read from a pipe, as it goes to the PTY."""

    def __init__(self) -> None:
        self._since = 0

    def take(self, data: bytes) -> bytes:
        out = bytearray()
        first, *others = data.split(b"\n")
        self._line(first, out)
        for line in others:
            out += b"\n"
            self._since = 0
            self._line(line, out)
        return bytes(out)

    def end(self) -> bytes:
        """One hands over what is there, the next one ends."""
        return END * 2 if self._since else END

    def _line(self, line: bytes, out: bytearray) -> None:
        at = 0
        while at < len(line):
            piece = line[at : at + PIECE - self._since]
            out += _MEANS.sub(lambda found: QUOTE + found[0], piece)
            at += len(piece)
            self._since += len(piece)
            if self._since == PIECE:
                out += END
                self._since = 0
