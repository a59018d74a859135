"""A zip of a folder, made while it is sent: memory stays at one chunk, whatever the folder holds."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import io
import zipfile
from collections.abc import AsyncGenerator

from pilothouse.core.errors import BadRequest, NotFound, TooLarge
from pilothouse.engine.ports import FileEntry, Files

FILES_MAX = 100_000
"""Files of one zip; more is no download that a person wants."""
BYTES_MAX = 8 * 1024**3
"""Bytes read for one zip: a sparse file of terabytes must not keep a server busy for a day."""


NOTED_MAX = 1000
"""Lines that tell what was left out."""
FIRST, LAST = 315_619_200.0, 4_354_732_800.0


class Sink(io.RawIOBase):
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


async def zipped(files: Files, path: str) -> AsyncGenerator[bytes, None]:
    """The zip's bytes. What vanishes or cannot be read is left out and told in `_LEFT_OUT.txt`."""
    sink = Sink()
    left_out: list[str] = []
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED, allowZip64=True) as archive:
        try:
            async with contextlib.aclosing(_members(archive, sink, files, path, left_out)) as parts:
                async for part in parts:
                    yield part
        except TooLarge as why:
            left_out.append(f"everything after this: {why.message}")
        if left_out:
            note = "_LEFT_OUT.txt"
            while note in archive.NameToInfo:
                note = f"_{note}"
            archive.writestr(note, "\n".join(map(_shown, left_out[:NOTED_MAX])) + "\n")
    yield sink.take()


async def _members(
    archive: zipfile.ZipFile, sink: Sink, files: Files, path: str, left_out: list[str]
) -> AsyncGenerator[bytes, None]:
    """Raises TooLarge where the zip must end."""
    count = read = 0
    async for name, met in files.walk(path):
        count += 1
        if count > FILES_MAX or read > BYTES_MAX:
            raise TooLarge("the zip is at its limit")
        if met.kind != "file":
            left_out.append(f"{name}: a folder that cannot be read, or lies too deep")
            continue
        if name in archive.NameToInfo:
            left_out.append(f"{name}: another one of this name")
            continue
        try:
            entry, chunks = await files.read(name)
        except (NotFound, BadRequest, TooLarge) as why:
            unnamed = isinstance(why, NotFound) and "\ufffd" in name  # it is there, and cannot be asked for
            left_out.append(f"{name}: {'its name is not UTF-8' if unnamed else why.message}")
            continue
        with (
            contextlib.closing(chunks),
            archive.open(info(name, entry), "w", force_zip64=True) as member,
        ):
            try:
                async for chunk in chunks:
                    read += len(chunk)
                    await asyncio.to_thread(member.write, chunk)
                    if out := sink.take():
                        yield out
                    if read > BYTES_MAX:
                        left_out.append(f"the rest of {name}")
                        break
            except BadRequest as why:
                left_out.append(f"the rest of {name}: {why.message}")


def _shown(line: str) -> str:
    """On one line, whatever characters a name has."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)


def info(name: str, entry: FileEntry) -> zipfile.ZipInfo:
    # A zip knows the years 1980 to 2107; an agent may give its files any time.
    moment = datetime.datetime.fromtimestamp(min(max(entry.mtime, FIRST), LAST), datetime.UTC)
    info = zipfile.ZipInfo(name, date_time=moment.timetuple()[:6])
    info.compress_type = zipfile.ZIP_DEFLATED
    info.external_attr = 0o100644 << 16
    return info
