"""What a program in a shell asks a terminal or does with it, taken out of what is shown. A terminal answers a question
by typing: shown again, it would type into the shell that asked long ago. And what it was told it does again: it would
put an old text on the clipboard, show a message once more.

Nothing else is changed, and the same is taken out wherever the output is cut.
"""

from __future__ import annotations

import re

HELD_MAX = 4096
"""Bytes of a sequence that waits for its end: questions are short, and a picture is not held back."""

_CSI, _OSC, _DCS, _APC = (
    rb"(?:\x1b\[|\xc2\x9b)",
    rb"(?:\x1b\]|\xc2\x9d)",
    rb"(?:\x1bP|\xc2\x90)",
    rb"(?:\x1b_|\xc2\x9f)",
)
_P = rb"[\x00-\x17\x19\x1c-\x1f\x7f0-9:;]*"
"""Parameters, and control characters, which a terminal carries out where they stand."""
_TEXT = rb"[^\x07\x18\x1a\x1b]*"
_END = rb"(?:[\x07\x18\x1a]|(?=\x1b)|\Z)"
"""Of a string: its own, the beginning of another sequence; or it has not come yet."""
_ON = rb"(?!\xc2[\x90\x9b-\x9f])\xc2"
"""No other sequence begins here by one character, nor does the string end: before that it asks, or each of a flood of
beginnings would be looked through to the end of all."""
_SETS = rb"(?:4|5|1\d|2[12]|52|60|99);[^\x07\x18\x1a\x1b\xc2?]*(?:" + _ON + rb"[^\x07\x18\x1a\x1b\xc2?]*)*"
_KEYS = rb"G[^\x07\x18\x1a\x1b\xc2;]*(?:" + _ON + rb"[^\x07\x18\x1a\x1b\xc2;]*)*"
_QUESTIONS = (
    _CSI + rb"[?>=]?" + _P + rb"c",  # what are you
    _CSI + rb"\??" + _P + rb"n",  # where is the cursor, how are you
    _CSI + rb"\??" + _P + rb"\$p",  # is this mode on
    _CSI + rb"(?:>" + _P + rb"q|\?" + _P + rb"[mSu])",  # which version, keys, pictures
    _CSI + _P + rb"(?:x|\*y|\$[uw]|&w|'\|)",  # other states
    _CSI + rb"(?!2[23][;t])" + _P + rb"t",  # where and how large is the window; and what moves it
    rb"\x1bZ|\xc2\x9a",
    _OSC + rb"(?:" + _SETS + rb"\?|1337;Re(?:port|quest))" + _TEXT + _END,
    _DCS + _P + rb"[$+]q" + _TEXT + _END,
    _APC + _KEYS + rb"a=q" + _TEXT + _END,
)
_ACTS = (
    _OSC + rb"(?:(?:9|52|99|777);|1337;(?:Copy|Steal))" + _TEXT + _END,  # clipboard, messages
    _APC + rb"G" + _TEXT + _END,  # pictures, each of which is acknowledged
    _CSI + rb"\??" + _P + rb"i",  # the printer
)
QUESTIONS = re.compile(b"|".join(_QUESTIONS))
ALL = re.compile(b"|".join(_QUESTIONS + _ACTS))
_UNFINISHED = re.compile(
    rb"(?:\x1b|\xc2|"
    + _CSI
    + rb"[\x00-\x17\x19\x1c-\x3f\x7f]*|"
    + _OSC
    + rb"(?:\d*|"
    + _SETS
    + rb"|1337;[A-Z]?[a-z]*)|"
    + _DCS
    + _P
    + rb"[$+]?|"
    + _APC
    + rb"(?:"
    + _KEYS
    + rb")?)\Z"
)
_WHO = b"\x05"
"""ENQ, the oldest question; it may stand within others."""
_CANCEL = b"\x18"
_STRING = re.compile(rb"\x1b[\]P_]|\xc2[\x9d\x90\x9f]")
_STRING_END = re.compile(rb"[\x07\x18\x1a]|(?=\x1b)")


class Mute:
    """Takes output as it comes, in pieces of any size."""

    __slots__ = ("_cut", "_held", "_within")

    def __init__(self) -> None:
        self._held = b""
        self._cut = False
        """What was given out ends within a sequence: what is left of another one is not to be the rest of it."""
        self._within = False
        """The last bytes were taken out, and what they begin has not ended."""

    def take(self, data: bytes, what: re.Pattern[bytes] | None) -> bytes:
        """`what` is taken out of it: QUESTIONS, ALL, or nothing, which is also said where one of them ends."""
        data, self._held = self._held + data, b""
        if self._within:
            end = _STRING_END.search(data)
            if end is None:
                return b""
            data, self._within = data[end.end() :], False
        if what is None:
            self._cut = False
            return data
        data = data.replace(_WHO, b"")
        out, at = bytearray(), 0
        for found in what.finditer(data):
            out += self._given(data[at : found.start()])
            if self._cut:
                out += self._given(_CANCEL)
            at = found.end()
            self._within = at == len(data) and _open(found[0])
        rest = data[at:]
        unfinished = _UNFINISHED.search(rest)
        if unfinished is not None and len(unfinished[0]) <= HELD_MAX:
            self._held = unfinished[0]
            rest = rest[: unfinished.start()]
        return bytes(out + self._given(rest))

    def _given(self, data: bytes) -> bytes:
        if data:
            self._cut = _UNFINISHED.search(data) is not None
        return data


def _open(taken: bytes) -> bool:
    """Whether it is a string whose end has not come."""
    return _STRING.match(taken) is not None and taken[-1] not in b"\x07\x18\x1a"
