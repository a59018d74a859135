"""What each session contacted and was refused, counted by the proxy and kept until its session is deleted.

Spool `<home>/proxy/contacts-<proxyId>.ndjson`: a `Contact` a line, whole and cumulative, so the last line of a row is
the row; `{"forget": SESSION}` ends all of a session's. `n` counts the changes of all rows and grows by one with each
line: who has taken everything up to `n` lacks exactly the rows with a higher one. A row is written when it begins, and
again at most every FLUSH_S while it changes: a proxy that is killed forgets no contact, only the last half second of
its count. The file is written anew when it has grown to a multiple of what it says.
"""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import msgspec

from pilothouse.core.contacts import HOSTS_MAX, Contact, Reason
from pilothouse.core.ids import SessionId
from pilothouse.core.reach import Target

FLUSH_S = 0.5
ROWS_MAX = 50_000
"""Of all sessions; beyond, hosts that are new are counted together."""
SPOOL_MIN = 4 * 1024 * 1024
"""A shorter file is left as it is."""
SLACK = 4
"""Times the size of its rows."""
BATCH = 500
_PREFIX, _SUFFIX = "contacts-", ".ndjson"

_Key: TypeAlias = tuple[SessionId, str, int, Reason]


@dataclass(slots=True)
class Row:
    n: int
    count: int
    first: float
    last: float
    bytes_in: int = 0
    bytes_out: int = 0


class _Line(msgspec.Struct, frozen=True):
    forget: SessionId = SessionId("")
    row: Contact | None = None


_encode = msgspec.json.Encoder().encode
_line = msgspec.json.Decoder(_Line)


class Contacts:
    """One per proxy."""

    def __init__(self, home: Path, now: Callable[[], float] = time.time) -> None:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._now = now
        self._rows: dict[_Key, Row] = {}
        """In the order of their `n`."""
        self._hosts: dict[SessionId, int] = {}
        self._dirty: set[_Key] = set()
        self._n = 0
        self._grown = asyncio.Event()
        self._flushing: asyncio.TimerHandle | None = None
        found = sorted(home.glob(f"{_PREFIX}*{_SUFFIX}"), key=lambda p: p.stat().st_mtime)
        self._path = found[-1] if found else home / f"{_PREFIX}{uuid.uuid4()}{_SUFFIX}"
        self.proxy_id = self._path.name.removeprefix(_PREFIX).removesuffix(_SUFFIX)
        if found:
            self._load()
        self._fd, self._size = -1, 0
        self._torn = False
        """The last line may lack its end."""
        self._anew()

    # --- counting ---

    def note(self, session: SessionId, target: Target | None, reason: Reason) -> _Key:
        """One more; what it is called here."""
        key: _Key = (session, target.host if target else "", target.port if target else 0, reason)
        row = self._rows.get(key)
        if row is None and key[1] and (self._hosts.get(session, 0) >= HOSTS_MAX or len(self._rows) >= ROWS_MAX):
            key = (session, "", 0, reason)
            row = self._rows.get(key)
        now = self._now()
        if row is None:
            self._rows[key] = Row(0, 1, now, now)
            self._hosts[session] = self._hosts.get(session, 0) + bool(key[1])
            self._flush([key])
        else:
            row.count += 1
            row.last = now
            self._later(key)
        return key

    def moved(self, key: _Key, into: int, out: int) -> None:
        row = self._rows.get(key)
        if row is not None:
            row.bytes_in += into
            row.bytes_out += out
            row.last = self._now()
            self._later(key)

    def forget(self, session: SessionId) -> None:
        """The session is deleted."""
        for key in [k for k in self._rows if k[0] == session]:
            del self._rows[key]
            self._dirty.discard(key)
        if self._hosts.pop(session, None) is not None:
            self._write(_encode(_Line(forget=session)) + b"\n")

    # --- telling ---

    async def follow(self, marks: Mapping[str, int]) -> AsyncGenerator[list[Contact], None]:
        """Rows that changed after the mark, as they are, and again when they change; by ascending `n`."""
        at = marks.get(self.proxy_id, 0)
        if at > self._n:
            at = 0  # the file that those numbers were in is gone
        while True:
            grown = self._grown
            changed = self._after(at)
            for start in range(0, len(changed), BATCH):
                yield changed[start : start + BATCH]
            if changed:
                at = changed[-1].n
                await asyncio.sleep(FLUSH_S)
            else:
                await grown.wait()

    def _after(self, at: int) -> list[Contact]:
        found: list[Contact] = []
        for key in reversed(self._rows):
            row = self._rows[key]
            if row.n <= at:
                break
            found.append(self._shown(key, row))
        return found[::-1]

    def _shown(self, key: _Key, row: Row) -> Contact:
        session, host, port, reason = key
        return Contact(
            self.proxy_id, row.n, session, host, port, reason,
            row.count, row.first, row.last, row.bytes_in, row.bytes_out,
        )  # fmt: skip

    # --- keeping ---

    def _later(self, key: _Key) -> None:
        self._dirty.add(key)
        if self._flushing is None:
            self._flushing = asyncio.get_running_loop().call_later(FLUSH_S, self._flush_dirty)

    def _flush_dirty(self) -> None:
        self._flushing = None
        dirty, self._dirty = self._dirty, set()
        self._flush(sorted(dirty))

    def _flush(self, keys: list[_Key]) -> None:
        out = bytearray()
        for key in keys:
            row = self._rows.pop(key)
            self._n += 1
            row.n = self._n
            self._rows[key] = row  # at the end: the newest
            out += _encode(_Line(row=self._shown(key, row))) + b"\n"
        self._write(out)
        grown, self._grown = self._grown, asyncio.Event()
        grown.set()

    def _write(self, data: bytes | bytearray) -> None:
        """On a full disk the rows stay in memory, and go into the next file that is written whole."""
        line = b"\n" + data if self._torn else data
        self._torn = True
        with suppress(OSError):
            written = os.write(self._fd, line)
            self._size += written
            self._torn = written < len(line)
        if self._size > max(SPOOL_MIN, SLACK * 200 * len(self._rows)):
            self._anew()

    def _anew(self) -> None:
        """A file of the rows alone, in place of the one that has grown."""
        fresh = self._path.with_suffix(".new")
        lines = b"".join(_encode(_Line(row=self._shown(key, row))) + b"\n" for key, row in self._rows.items())
        try:
            fresh.unlink(missing_ok=True)
            fd = os.open(fresh, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError:
            self._size = 0  # tried again when as much has come
            return
        written = 0
        with suppress(OSError):
            written = os.write(fd, lines)
        if written < len(lines):
            os.close(fd)
            self._size = 0
            return
        fresh.replace(self._path)
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._size, self._torn = fd, written, False

    def _load(self) -> None:
        """A line that is none was cut off when the proxy was killed; the next one says the row again."""
        for text in self._path.read_bytes().splitlines():
            try:
                line = _line.decode(text)
            except msgspec.MsgspecError:
                continue
            if line.forget:
                self._rows = {k: r for k, r in self._rows.items() if k[0] != line.forget}
            if line.row is not None:
                c = line.row
                key: _Key = (c.session, c.host, c.port, c.reason)
                self._rows.pop(key, None)
                self._rows[key] = Row(c.n, c.count, c.first, c.last, c.bytes_in, c.bytes_out)
                self._n = max(self._n, c.n)
        for session, host, _, _ in self._rows:
            self._hosts[session] = self._hosts.get(session, 0) + bool(host)

    def close(self) -> None:
        if self._flushing is not None:
            self._flushing.cancel()
            self._flush_dirty()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
