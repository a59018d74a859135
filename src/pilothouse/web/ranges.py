"""One stretch of a download (RFC 9110, 14): `Range: bytes=…`, `If-Range`, `If-None-Match`, by strong ETag.

Several stretches in one request, other units and what cannot be parsed are passed over, as the standard allows: the
whole is sent. A stretch that begins beyond the end is refused with 416.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_RANGE = re.compile(r"bytes=\s*(\d{0,18})-(\d{0,18})\s*\Z", re.ASCII)


@dataclass(frozen=True, slots=True)
class Stretch:
    start: int
    end: int
    """Before this one it ends."""
    size: int

    @property
    def header(self) -> str:
        return f"bytes {self.start}-{self.end - 1}/{self.size}"


def asked(header: str | None, if_range: str | None, etag: str, size: int) -> Stretch | None:
    """The stretch to send; None for the whole. Raises ValueError for one that the file does not have."""
    found = _RANGE.match(header) if header is not None else None
    if found is None or found.groups() == ("", ""):
        return None
    if if_range is not None and if_range.strip() != etag:  # also a date: what we store has none that would do
        return None
    first, last = found.groups()
    if first == "":
        if int(last) == 0 or size == 0:
            raise ValueError(f"bytes */{size}")
        return Stretch(max(size - int(last), 0), size, size)
    start = int(first)
    if last and int(last) < start:
        return None
    if start >= size:
        raise ValueError(f"bytes */{size}")
    return Stretch(start, min(int(last) + 1, size) if last else size, size)


def unchanged(if_none_match: str | None, etag: str) -> bool:
    if if_none_match is None:
        return False
    tags = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    return etag in tags or "*" in tags
