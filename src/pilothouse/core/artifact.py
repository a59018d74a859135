"""What artifacts are called where they are stored, and which tool call made one.

key    outputs/YYYYMMDD_HHMMSS-<jobId>/<path>   the time is when the job was accepted, UTC

A path is the agent's: any bytes but NUL. In a key each of its names keeps letters, digits, spaces and what else does no
harm; all other characters, a name that is only dots, and what makes a name or the key too long are written as `%XX` or
cut, with `~` and a part of the path's sha256. A path's own `~` is written as `%7E`: two paths never have one key.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

NAME_MAX = 200
"""Bytes of one name in a key: a file system takes 255."""
KEY_MAX = 900
"""Bytes of a key: S3 takes 1024."""
MENTION_MIN = 3
"""Characters of a name that is looked for in commands: shorter ones stand in any."""
COMMAND_MAX = 16 * 1024
"""Characters of a command that are looked at."""
WORDS_MAX = 200
"""Words of a command that are remembered."""
CALLS_MAX = 2000
"""Tool calls of one job that are remembered; the last ones are."""
_PATH_FIELDS = ("file_path", "notebook_path", "path", "filePath", "abs_path")
_HARMLESS = re.compile(r"[^\w .,@+=()^&#$!'\[\]{}-]")
_WORD = re.compile(r"[^\s/'\"`;|&<>()=,:{}\[\]\\]+")
_QUOTED = re.compile(r"\"([^\"\n]{1,1024})\"|'([^'\n]{1,1024})'")
_CHANGES = frozenset({"edit", "delete", "move", "other"})


def prefix(created_at: str, job: str) -> str:
    """`created_at` as the log writes times."""
    digits = re.sub(r"\D", "", created_at)
    return f"outputs/{digits[:8]}_{digits[8:14]}-{job}/"


def key(under: str, path: str) -> str:
    names = [_name(part) for part in path.split("/")]
    made = under + "/".join(names)
    if "/".join(names) == path and len(made.encode()) <= KEY_MAX:
        return made
    mark = hashlib.sha256(path.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    names[-1] = f"{_short(names[-1], NAME_MAX - 17)}~{mark}"
    made = under + "/".join(names)
    return made if len(made.encode()) <= KEY_MAX else f"{under}{names[-1]}"


def _name(name: str) -> str:
    safe = _HARMLESS.sub(_escape, name) if name.strip(".") else "".join(map(_hexed, name)) or "%"
    return _short(safe, NAME_MAX)


def _escape(found: re.Match[str]) -> str:
    return "".join(map(_hexed, found[0]))


def _hexed(sign: str) -> str:
    return "".join(f"%{byte:02X}" for byte in sign.encode("utf-8", "surrogatepass"))


def _short(name: str, most: int) -> str:
    return name.encode()[:most].decode("utf-8", "ignore")


# --- which tool call -------------------------------------------------------------------------------------------------


@dataclass
class _Call:
    tool_id: str
    kind: str
    began: float
    ended: float | None = None
    paths: frozenset[str] = frozenset()
    words: frozenset[str] = frozenset()


@dataclass
class Makers:
    """The tool calls of a job, in their order; asked which of them made a file."""

    workspace: str
    calls: dict[str, _Call] = field(default_factory=dict)

    def began(self, tool_id: str, kind: str, tool_input: Any, places: Iterable[str], at: float) -> None:
        given = tool_input if isinstance(tool_input, Mapping) else {}
        named = [*places, *(value for name in _PATH_FIELDS if isinstance(value := given.get(name), str))]
        command = given.get("command")
        words = _words(command[:COMMAND_MAX]) if isinstance(command, str) else frozenset()
        self.calls.pop(tool_id, None)
        self.calls[tool_id] = _Call(tool_id, kind, at, paths=frozenset(map(self._below, named)), words=words)
        if len(self.calls) > CALLS_MAX:
            del self.calls[next(iter(self.calls))]

    def ended(self, tool_id: str, at: float) -> None:
        call = self.calls.get(tool_id)
        if call is not None:
            call.ended = at

    def of(self, path: str, mtime: float) -> str | None:
        """The last call that names the file among what it changes; else the last command that speaks of it; else the
        only command during which it was written."""
        latest = list(reversed(self.calls.values()))
        for call in latest:
            if call.kind in _CHANGES and path in call.paths:
                return call.tool_id
        name = path.rpartition("/")[2]
        commands = [call for call in latest if call.kind == "execute"]
        if len(name) >= MENTION_MIN:
            for call in commands:
                if name in call.words:
                    return call.tool_id
        during = [c for c in commands if c.began <= mtime <= (c.ended if c.ended is not None else mtime)]
        return during[0].tool_id if len(during) == 1 else None

    def _below(self, path: str) -> str:
        return path.removeprefix(self.workspace.rstrip("/") + "/").removeprefix("./")


def _words(command: str) -> frozenset[str]:
    """What may be a file's name in it: `app.py` is not in `myapp.pyc`; a name with spaces counts where it is quoted.
    They are found once, so that a file is looked for in thousands of commands at the price of as many look-ups."""
    words: set[str] = set()
    quoted = (found[1] or found[2] for found in _QUOTED.finditer(command))
    bare = (found[0] for found in _WORD.finditer(command))
    for word in itertools.chain((text.rpartition("/")[2] for text in quoted), bare):
        if MENTION_MIN <= len(word) <= 255:
            words.add(word)
        if len(words) == WORDS_MAX:
            break
    return frozenset(words)
