"""A zip of a folder, made while it is sent: memory stays at one chunk, whatever the folder holds."""

from __future__ import annotations

import asyncio
import datetime
import io
import zipfile
from collections.abc import AsyncIterator

from pilothouse.core.errors import BadRequest, NotFound
from pilothouse.engine.ports import FileEntry, Files

FILES_MAX = 100_000
"""Files of one zip; more is no download that a person wants."""
BYTES_MAX = 8 * 1024**3
"""Bytes read for one zip: a sparse file of terabytes must not keep a server busy for a day."""


FIRST, LAST = 315_619_200.0, 4_354_732_800.0


class _Sink(io.RawIOBase):
    """Takes what zipfile writes and hands it on; cannot seek, so sizes follow each file."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        part = bytes(data)  # type: ignore[call-overload]  # RawIOBase is given a buffer
        self._parts.append(part)
        return len(part)

    def take(self) -> bytes:
        parts, self._parts = self._parts, []
        return b"".join(parts)


async def zipped(files: Files, path: str) -> AsyncIterator[bytes]:
    """The zip's bytes. A file that vanishes or changes its kind on the way is left out and named in `_LEFT_OUT.txt`."""
    sink = _Sink()
    left_out: list[str] = []
    count = read = 0
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED, allowZip64=True) as archive:
        async for name, entry in files.walk(path):
            count += 1
            if count > FILES_MAX or read > BYTES_MAX:
                left_out.append("everything after this: the zip is at its limit")
                break
            try:
                _, chunks = await files.read(name)
            except (NotFound, BadRequest):
                left_out.append(name)
                continue
            with archive.open(_info(name, entry), "w", force_zip64=True) as member:
                async for chunk in chunks:
                    read += len(chunk)
                    await asyncio.to_thread(member.write, chunk)
                    if out := sink.take():
                        yield out
                    if read > BYTES_MAX:
                        left_out.append(f"the rest of {name}")
                        break
        if left_out:
            archive.writestr("_LEFT_OUT.txt", "\n".join(left_out[:1000]) + "\n")
    yield sink.take()


def _info(name: str, entry: FileEntry) -> zipfile.ZipInfo:
    # A zip knows the years 1980 to 2107; an agent may give its files any time.
    moment = datetime.datetime.fromtimestamp(min(max(entry.mtime, FIRST), LAST), datetime.UTC)
    info = zipfile.ZipInfo(name, date_time=moment.timetuple()[:6])
    info.compress_type = zipfile.ZIP_DEFLATED
    info.external_attr = 0o100644 << 16
    return info
