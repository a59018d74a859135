"""Sizes in bytes as people write and read them: `512M`, `2G`, `1.5GiB`; always powers of 1024."""

from __future__ import annotations

import re

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_SIZE = re.compile(r"([0-9]{1,20}(?:\.[0-9]{1,6})?)\s*([KMGT]?)(?:i?B)?\Z", re.IGNORECASE | re.ASCII)


def parse(text: str) -> int:
    """Bytes. Raises ValueError."""
    found = _SIZE.match(text.strip())
    if found is None:
        raise ValueError("a size such as 512M or 2G")
    return int(float(found[1]) * _UNITS[found[2].upper()])


def text(size: float) -> str:
    """`4 GiB`, `1.5 GiB`, `300 B`: at most one digit after the point."""
    for unit in ("T", "G", "M", "K"):
        if size >= _UNITS[unit]:
            number = f"{size / _UNITS[unit]:.1f}".removesuffix(".0")
            return f"{number} {unit}iB"
    return f"{int(size)} B"
