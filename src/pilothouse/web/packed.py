"""A job's artifacts as one zip or tar.gz, made while it is sent: memory stays at one chunk.

Names are those of the workspace, which lead nowhere else: none is absolute, has `..` or is a link. Each file has the
size and time of its record. One that cannot be read breaks the download off: half an archive shall not look whole.
"""

from __future__ import annotations

import asyncio
import contextlib
import tarfile
import zipfile
import zlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Literal, TypeAlias

from pilothouse.core.errors import Unavailable
from pilothouse.engine import records
from pilothouse.engine.ports import Blob, FileEntry
from pilothouse.engine.records import ArtifactRecord
from pilothouse.web.zipped import Sink, info

Form: TypeAlias = Literal["zip", "tar.gz"]
Open: TypeAlias = Callable[[ArtifactRecord], Awaitable[Blob]]
_GZIP = 16 + zlib.MAX_WBITS


def packed(form: Form, found: Sequence[ArtifactRecord], open_one: Open) -> AsyncGenerator[bytes, None]:
    return _zip(found, open_one) if form == "zip" else _tar(found, open_one)


async def _zip(found: Sequence[ArtifactRecord], open_one: Open) -> AsyncGenerator[bytes, None]:
    sink = Sink()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED, allowZip64=True) as archive:
        for one in found:
            entry = FileEntry(one.path, "file", one.size, records.seconds(one.created))
            with (
                contextlib.closing(await open_one(one)) as content,
                archive.open(info(one.path, entry), "w", force_zip64=True) as member,
            ):
                async for chunk in content:
                    await asyncio.to_thread(member.write, chunk)
                    if out := sink.take():
                        yield out
    yield sink.take()


async def _tar(found: Sequence[ArtifactRecord], open_one: Open) -> AsyncGenerator[bytes, None]:
    squeeze = zlib.compressobj(6, zlib.DEFLATED, _GZIP)
    for one in found:
        head = tarfile.TarInfo(one.path)
        head.size, head.mode, head.mtime = one.size, 0o644, int(records.seconds(one.created))
        yield squeeze.compress(head.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape"))
        left = one.size
        with contextlib.closing(await open_one(one)) as content:
            async for chunk in content:
                left -= len(chunk)
                yield await asyncio.to_thread(squeeze.compress, chunk)
        if left:
            raise Unavailable("An artifact is not as long as it was.")
        yield squeeze.compress(bytes(-one.size % tarfile.BLOCKSIZE))
    yield squeeze.compress(bytes(2 * tarfile.BLOCKSIZE)) + squeeze.flush()
