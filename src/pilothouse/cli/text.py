"""Text of agents and tools, made safe and honest for a terminal. Pure.

`plain` is for running text: nothing in it can move the cursor, set a colour or turn the reading direction.
`exact` is for what a person decides about: every character that does not show as itself is written out.
"""

from __future__ import annotations

import re
import unicodedata

import msgspec

from pilothouse.core import events as ev

# What of a tool's input says most in one line, best first.
_TELLING = ("command", "file_path", "path", "pattern", "query", "url", "prompt", "description")
_OVERRIDES = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")
_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
# Letters and marks by category, but drawn as nothing or as a blank.
_BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")


def _named(found: re.Match[str]) -> str:
    return f"<U+{ord(found[0]):04X}>"


def plain(text: str) -> str:
    text = text.replace("\r\n", "\n")
    return _OVERRIDES.sub(_named, _CONTROLS.sub(_named, text))


def exact(text: str) -> str:
    if text.isascii() and text.replace("\n", "").replace("\t", "").isprintable():
        return text
    return "".join(c if c == "\n" or c == "\t" or _shows(c) else f"<U+{ord(c):04X}>" for c in text)


def name(text: str) -> str:
    """A file's name on one line: line ends and tabs are written out as well."""
    return re.sub("[\n\t]", _named, exact(text))


def _shows(char: str) -> bool:
    category = unicodedata.category(char)
    if category in _INVISIBLE or char in _BLANK or (category == "Zs" and char != " "):
        return False
    # Variation selectors can carry hidden bytes behind any letter.
    return not ("\ufe00" <= char <= "\ufe0f" or "\U000e0100" <= char <= "\U000e01ef")


def line(text: str, width: int) -> str:
    """One line of at most `width` characters."""
    flat = " ".join(plain(text).split())
    return flat if len(flat) <= width else flat[: max(width - 1, 0)] + "…"


def telling(given: ev.Json) -> str:
    """What of a tool's input tells one call from another, as it came; empty where nothing does."""
    values = [given.get(name) for name in _TELLING] if isinstance(given, dict) else []
    return next((value for value in values if isinstance(value, str) and value), "")


def pretty(value: ev.Json) -> str:
    """JSON as a person reads it; long texts keep their line breaks, and every odd character is written out."""
    if (
        isinstance(value, dict)
        and value
        and all(isinstance(v, str | int | float | bool | None) for v in value.values())
    ):
        return "\n".join(f"{exact(str(k))}: {_field(v)}" for k, v in value.items())
    return exact(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def _field(value: ev.Json) -> str:
    if not isinstance(value, str):
        return exact(msgspec.json.encode(value).decode())
    shown = exact(value)
    return shown if "\n" not in shown else "\n" + "\n".join(f"  | {part}" for part in shown.split("\n"))


def size(count: int) -> str:
    number = float(count)
    for unit in ("B", "kB", "MB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "B" or number >= 10 else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} GB"


def some(count: int, noun: str) -> str:
    """`1 file`, `2 files`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
