"""A whole workspace, looked at by its desk: what is there, and what is not as it was. Standard library only.

A mark is 16 bytes for one regular file: BLAKE2b of its path, a NUL, size, mtime and ctime in nanoseconds and inode, as
four 64-bit numbers. A file whose ctime is not before `moment` gets none, so that it counts as changed: whether it was
written to before or after it was looked at cannot be told. (No program can set a ctime.)

Links are not followed and are no files; nor are FIFOs, sockets and devices. Nothing is opened but directories.
"""

from __future__ import annotations

import os
import struct
from _blake2 import blake2b  # `hashlib` would load OpenSSL into the keeper, and so into each of its children
from collections.abc import Callable, Iterator, Sequence
from typing import Any

MARK = 16
"""Bytes of a mark."""
MARKS_PAGE = 2500 * MARK
"""In base64 below a packet's most."""
PAGE = 40 * 1024
"""Most that a page of changes takes, reckoned by bytes as if each were an escape (a character of four bytes is two
escapes of six); one path of any length is below it."""
FOUND_MAX = 50_000
"""Changed files that are told; of so many none is a person's."""
RULES_MAX = 500
LEFT_MAX = 1000
DEPTH_MAX = 64
PATH_MAX = 4000
"""Bytes; the kernel takes 4096 with what is put before it."""
RULES = b".gitignore"
_ESCAPED, _BESIDE = 6, 60
_LONG = 1000
_STATE = struct.Struct("<qqqQ")
_Seen = tuple[bytes, os.stat_result]


class Walk:
    """Once through the workspace. `open_at` opens a directory beneath it; `by`: names of directories that are passed
    by; `most`: names that are looked at, `over` says that there are more."""

    def __init__(self, open_at: Callable[[bytes], int], by: Sequence[Any], most: int) -> None:
        self._open_at = open_at
        self._by = {os.fsencode(name) for name in by if isinstance(name, str)}
        self._most = most
        self._met = 0
        self.over = False
        self.left: list[tuple[bytes, str]] = []

    def files(self) -> Iterator[_Seen]:
        todo: list[tuple[bytes, int]] = [(b"", 0)]
        while todo and not self.over:
            here, depth = todo.pop()
            try:
                fd = self._open_at(here or b".")
            except OSError:
                if not here:
                    raise
                self._leave(here, "unreadable")
                continue
            try:
                yield from self._inside(fd, here, depth, todo)
            except OSError:
                self._leave(here, "unreadable")
            finally:
                os.close(fd)

    def _inside(self, fd: int, here: bytes, depth: int, todo: list[tuple[bytes, int]]) -> Iterator[_Seen]:
        with os.scandir(fd) as entries:
            for entry in entries:
                self._met += 1
                if self._met > self._most:
                    self.over = True
                    return
                name = os.fsencode(entry.name)
                path = here + b"/" + name if here else name
                if entry.is_dir(follow_symlinks=False):
                    if name in self._by:
                        continue
                    if depth >= DEPTH_MAX or len(path) > PATH_MAX:
                        self._leave(path, "deep")
                    else:
                        todo.append((path, depth + 1))
                elif entry.is_file(follow_symlinks=False):
                    try:
                        status = entry.stat(follow_symlinks=False)
                    except OSError:  # gone, or in a directory that may be listed and not passed
                        continue
                    if len(path) > PATH_MAX:
                        self._leave(path, "deep")
                    else:
                        yield path, status

    def _leave(self, path: bytes, why: str) -> None:
        if len(self.left) < LEFT_MAX:
            self.left.append((path, why))

    def marks(self, moment: int) -> Iterator[bytes]:
        page = bytearray()
        for path, status in self.files():
            if status.st_ctime_ns < moment:
                page += mark(path, status)
                if len(page) >= MARKS_PAGE:
                    yield bytes(page)
                    page.clear()
        if page:
            yield bytes(page)

    def changed(self, moment: int, marks: int | None) -> Iterator[dict[str, Any]]:
        """Pages of the files without a mark; where there are no marks, of those that changed since `moment`."""
        known = None if marks is None else _read(marks)
        found: list[tuple[str, int, float]] = []
        rules: list[str] = []
        length = count = ruled = 0
        for path, status in self.files():
            ruling = ruled < RULES_MAX and (path == RULES or path.endswith(b"/" + RULES))
            new = status.st_ctime_ns >= moment if known is None else mark(path, status) not in known
            if not (ruling or new):
                continue
            try:
                text = path.decode()
            except UnicodeDecodeError:
                self._leave(path, "name")
                continue
            cost = len(path) * _ESCAPED + _BESIDE
            if ruling:
                if length + cost > PAGE:
                    yield {"found": found, "rules": rules}
                    found, rules, length = [], [], 0
                ruled += 1
                rules.append(text)
                length += cost
            if new:
                if length + cost > PAGE:
                    yield {"found": found, "rules": rules}
                    found, rules, length = [], [], 0
                count += 1
                found.append((text, status.st_size, status.st_mtime))
                length += cost
            if count >= FOUND_MAX:
                self.over = True
                break
        if found or rules:
            yield {"found": found, "rules": rules}
        yield from self._told()

    def _told(self) -> Iterator[dict[str, Any]]:
        page: list[tuple[str, str]] = []
        length = 0
        for path, why in self.left:
            cut = path[:_LONG].decode("utf-8", "replace")
            cost = len(cut.encode()) * _ESCAPED + _BESIDE
            if length + cost > PAGE:
                yield {"left": page}
                page, length = [], 0
            page.append((cut, why))
            length += cost
        if page:
            yield {"left": page}


def mark(path: bytes, status: os.stat_result) -> bytes:
    state = _STATE.pack(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino & (2**64 - 1))
    return blake2b(path + b"\0" + state, digest_size=MARK).digest()


def _read(marks: int) -> set[bytes]:
    """By position: whoever passed the descriptor shares its offset."""
    known: set[bytes] = set()
    at = 0
    while data := os.pread(marks, 4096 * MARK, at):
        at += len(data)
        known.update(data[i : i + MARK] for i in range(0, len(data), MARK))
    return known
