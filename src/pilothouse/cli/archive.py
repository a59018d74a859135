"""Unpacking a downloaded zip into a directory: it comes from a session, so nothing in it is trusted.

Only regular files and directories below the target are made. Links, absolute names and `..` are refused before anything
is written. Drive letters, backslashes and control characters, which do no harm where the files come from, are written
out, as `%XX`. Counts and sizes are bounded by what is really unpacked, not by what the archive says of itself. A file
that exists stays as it is unless `force`.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from pilothouse.cli.errors import Failure
from pilothouse.cli.text import exact

FILES_MAX = 100_000
"""More is no workspace but a way to use up inodes."""
BYTES_MAX = 20 * 1024**3
"""Unpacked; a bomb ends here."""
DOWNLOAD_MAX = 10 * 1024**3
"""Bytes of the archive itself."""
NAME_MAX = 200
"""Bytes of a name that is cut."""
_CHUNK = 1024 * 1024
_ESCAPE = re.compile("%(?=[0-9A-Fa-f]{2})")
"""What would look like one of ours: no two names become the same."""


@dataclass(frozen=True, slots=True)
class Unpacked:
    written: int
    kept: tuple[str, ...]
    """Names that existed and were left alone."""
    renamed: tuple[str, ...]
    """What files are called here that are called otherwise where they come from."""


def unpack(source: IO[bytes], target: Path, *, force: bool = False) -> Unpacked:
    """Raises Failure."""
    try:
        with zipfile.ZipFile(source) as archive:
            infos = archive.infolist()
            if len(infos) > FILES_MAX:
                raise Failure(f"The archive has {len(infos)} files, at most {FILES_MAX} are unpacked.")
            names = [(info, _name(info)) for info in infos]
            target.mkdir(parents=True, exist_ok=True)
            return _write(archive, names, target, force)
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, ValueError) as error:
        raise Failure(f"The downloaded archive is damaged: {error}") from None
    except OSError as error:
        raise Failure(f"{target}: {error.strerror or error}") from None


def _name(info: zipfile.ZipInfo) -> PurePosixPath:
    """The entry's path below the target, or a refusal."""
    name = "/".join(map(_short, info.filename.split("/")))
    mode = info.external_attr >> 16
    if stat.S_IFMT(mode) not in {0, stat.S_IFREG, stat.S_IFDIR}:
        raise Failure(f"The archive holds {exact(name)!r}, which is no regular file. Nothing was unpacked.")
    path = PurePosixPath(name)
    bad = path.is_absolute() or ".." in path.parts or not path.parts
    if bad:
        raise Failure(f"The archive holds the unsafe name {exact(name)!r}. Nothing was unpacked.")
    return path


def _short(part: str) -> str:
    """A name as it may be here: a file system takes 255 bytes of it, and what is written out is longer than it was."""
    name = "".join(map(_harmless, _ESCAPE.sub("%25", part)))
    if len(name.encode()) <= NAME_MAX + 9:
        return name
    mark = hashlib.sha256(part.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{name.encode()[:NAME_MAX].decode('utf-8', 'ignore')}~{mark}"


def _harmless(char: str) -> str:
    if char not in "\\:" and exact(char) == char and char not in "\n\t":
        return char
    return "".join(f"%{byte:02X}" for byte in char.encode("utf-8", "surrogatepass"))


def _write(
    archive: zipfile.ZipFile, names: list[tuple[zipfile.ZipInfo, PurePosixPath]], target: Path, force: bool
) -> Unpacked:
    written, left, kept = 0, BYTES_MAX, []
    renamed = [str(path) for info, path in names if not info.is_dir() and str(path) != info.filename]
    for info, path in names:
        folder = path if info.is_dir() else path.parent
        _directory(target, folder)
        if info.is_dir():
            continue
        place = target / path
        if os.path.lexists(place):
            if not force or not _regular(place):
                kept.append(str(path))
                continue
            place.unlink()
        left -= _file(archive, info, place, left)
        written += 1
    return Unpacked(written, tuple(kept), tuple(renamed))


def _directory(target: Path, folder: PurePosixPath) -> None:
    """Step by step: a link that stands in the target must not lead the files out of it."""
    place = target
    for part in folder.parts:
        place = place / part
        if place.is_symlink() or (place.exists() and not place.is_dir()):
            raise Failure(f"{place} is in the way: it is no directory.")
        place.mkdir(exist_ok=True)


def _regular(place: Path) -> bool:
    return stat.S_ISREG(place.lstat().st_mode)


def _file(archive: zipfile.ZipFile, info: zipfile.ZipInfo, place: Path, left: int) -> int:
    """Bytes written."""
    executable = (info.external_attr >> 16) & 0o100
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    size = 0
    with archive.open(info) as source, os.fdopen(os.open(place, flags, 0o755 if executable else 0o644), "wb") as out:
        while chunk := source.read(_CHUNK):
            size += len(chunk)
            if size > left:
                raise Failure(f"The archive unpacks to more than {BYTES_MAX} bytes; stopped at {place}.")
            out.write(chunk)
    return size
