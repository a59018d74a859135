"""What a call changes, in unified format: as the agent reports it afterwards, and as it can be told before."""

from __future__ import annotations

import difflib
import os
import stat
from pathlib import Path
from typing import Any

from pilothouse.core import events as ev

FILE_MAX = 4 * 1024 * 1024
"""A larger file gets no diff before its call; the ask still carries the whole input."""
LINES_MAX = 2000
"""The diff algorithm is quadratic: longer texts get one hunk around everything that differs."""
CONTEXT = 3


def before_write(workspace: Path, input: dict[str, Any]) -> list[ev.Diff]:
    """What a `Write` would do."""
    path, content = input.get("file_path"), input.get("content")
    if not isinstance(path, str) or not isinstance(content, str):
        return []
    old = _read(workspace, path)
    return _diff(workspace, path, old or "", content, "add" if old is None else "edit")


def before_edit(workspace: Path, input: dict[str, Any]) -> list[ev.Diff]:
    """What an `Edit` would do; nothing when it cannot be told or would fail."""
    path, find, put = input.get("file_path"), input.get("old_string"), input.get("new_string")
    if not isinstance(path, str) or not isinstance(find, str) or not isinstance(put, str):
        return []
    old = _read(workspace, path)
    if old is None:
        return _diff(workspace, path, "", put, "add") if not find else []
    if not find or find not in old:
        return []
    new = old.replace(find, put, -1 if input.get("replace_all") is True else 1)
    return _diff(workspace, path, old, new, "edit")


def after(workspace: Path, result: object) -> list[ev.Diff] | None:
    """From the `structuredPatch` that the agent gives with the result of a `Write` or `Edit`."""
    if not isinstance(result, dict) or not isinstance(path := result.get("filePath"), str):
        return None
    name = _name(workspace, path)
    if result.get("type") == "create" and isinstance(content := result.get("content"), str):
        return _diff(workspace, path, "", content, "add")
    hunks = result.get("structuredPatch")
    if not isinstance(hunks, list) or not hunks:
        return None
    lines = [f"--- a/{name}\n", f"+++ b/{name}\n"]
    for hunk in hunks:
        if not isinstance(hunk, dict) or not isinstance(hunk.get("lines"), list):
            return None
        lines.append(
            f"@@ -{hunk.get('oldStart')},{hunk.get('oldLines')} +{hunk.get('newStart')},{hunk.get('newLines')} @@\n"
        )
        lines.extend(f"{line}\n" for line in hunk["lines"])
    return [ev.Diff(path=name, kind="edit", patch="".join(lines))]


def _diff(workspace: Path, path: str, old: str, new: str, kind: Any) -> list[ev.Diff]:
    name = _name(workspace, path)
    patch = unified(name, old, new)
    return [ev.Diff(path=name, kind=kind, patch=patch)] if patch else []


def unified(name: str, old: str, new: str) -> str:
    """A patch from one text to the other."""
    one, other = old.splitlines(True), new.splitlines(True)
    if not one or len(one) + len(other) > LINES_MAX:
        lines = _one_hunk(name, one, other)
    else:
        lines = list(difflib.unified_diff(one, other, f"a/{name}", f"b/{name}", n=CONTEXT))
    return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)


def _one_hunk(name: str, one: list[str], other: list[str]) -> list[str]:
    if one == other:
        return []
    head = 0
    while head < min(len(one), len(other)) and one[head] == other[head]:
        head += 1
    tail = 0
    while tail < min(len(one), len(other)) - head and one[-1 - tail] == other[-1 - tail]:
        tail += 1
    start, end = max(0, head - CONTEXT), max(0, tail - CONTEXT)
    before, gone = one[start:head], one[head : len(one) - tail]
    come, behind = other[head : len(other) - tail], one[len(one) - tail : len(one) - end]
    old, new = len(before) + len(gone) + len(behind), len(before) + len(come) + len(behind)
    at = f"@@ -{start + 1 if old else start},{old} +{start + 1 if new else start},{new} @@\n"
    return [
        f"--- a/{name}\n",
        f"+++ b/{name}\n",
        at,
        *(f" {line}" for line in before),
        *(f"-{line}" for line in gone),
        *(f"+{line}" for line in come),
        *(f" {line}" for line in behind),
    ]


def _name(workspace: Path, path: str) -> str:
    """Relative to the workspace where it is inside."""
    return path.removeprefix(f"{workspace}/")


def _read(workspace: Path, path: str) -> str | None:
    return read_text(workspace / path, FILE_MAX)


def read_text(path: Path, limit: int) -> str | None:
    """A regular file of at most `limit` bytes as text; None for anything else. Never waits on a pipe."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError):
        return None
    with os.fdopen(fd, "rb") as file:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_size > limit:
            return None
        return file.read(limit).decode(errors="replace")
