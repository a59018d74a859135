"""Where a span stands in its trace: the header `traceparent` of W3C Trace Context, which comes from outside and is
believed in nothing but its form.

    version "-" trace "-" parent "-" flags     00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01

`version` two, `trace` 32, `parent` 16 and `flags` two digits 0-9a-f; version `ff`, and a trace or parent of zeros
alone, are none. Of version 00 nothing follows; of a later one what follows begins with "-" and is not read. What is
not like this is taken for absent, as the recommendation says, and so is a header that comes twice.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

HEADER = "traceparent"
_FORM = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?\Z", re.ASCII | re.DOTALL)
SAMPLED = 1
LENGTH_MAX = 512


@dataclass(frozen=True, slots=True)
class Place:
    trace: str
    span: str
    sampled: bool

    def __str__(self) -> str:
        return f"00-{self.trace}-{self.span}-{int(self.sampled):02x}"


def parse(headers: Sequence[str]) -> Place | None:
    """All headers of that name."""
    if len(headers) != 1 or len(headers[0]) > LENGTH_MAX:
        return None
    match = _FORM.match(headers[0])
    if match is None:
        return None
    version, trace, span, flags, rest = match.groups()
    if version == "ff" or (version == "00" and rest is not None) or not trace.strip("0") or not span.strip("0"):
        return None
    return Place(trace, span, bool(int(flags, 16) & SAMPLED))


def trace_id(word: str) -> str:
    """The trace of what came without one: the same word gives the same trace."""
    return hashlib.sha256(f"trace:{word}".encode()).hexdigest()[:32]


def span_id(*words: str) -> str:
    return hashlib.sha256("\0".join(("span", *words)).encode("utf-8", "surrogatepass")).hexdigest()[:16]
