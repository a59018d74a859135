"""Channels of the event API: what is published to, and what is subscribed.

    channel   /namespace(/segment){0,4}     each of 1-50 letters, digits and dashes, no dash at either end
    pattern   a channel, or one with `*` as its last segment: all that is deeper, and not the place itself

Case counts. A slash at the beginning or end may be there or not; here it begins with one and ends with none. Nothing
else passes, so no name has control characters, and none needs escapes in JSON or in an address.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

from pilothouse.core.errors import BadRequest
from pilothouse.core.ids import is_segment

SEGMENTS_MAX = 5
"""`*` counts as one."""
CHANNEL_MAX = SEGMENTS_MAX * 51 + 1
"""Characters, with a slash before each segment and one at the end; longer ones are not looked into."""
KNOWN = 1024
"""Names that need not be looked at again, some 0.5 KB each: a publisher says the same with every event."""
_SHOWN = 60


class BadChannel(BadRequest):
    """It is no channel; the message says why."""


@dataclass(frozen=True, slots=True)
class Channel:
    path: str

    @property
    def segments(self) -> tuple[str, ...]:
        return tuple(self.path[1:].split("/"))

    @property
    def namespace(self) -> str:
        return self.path[1:].partition("/")[0]

    @property
    def wild(self) -> bool:
        return False

    def wildcards(self) -> tuple[str, ...]:
        """The paths of all wildcard patterns that it matches."""
        return _wildcards(self.path)


@dataclass(frozen=True, slots=True)
class Pattern:
    path: str

    @property
    def segments(self) -> tuple[str, ...]:
        return tuple(self.path[1:].split("/"))

    @property
    def namespace(self) -> str:
        return self.path[1:].partition("/")[0]

    @property
    def wild(self) -> bool:
        return self.path.endswith("/*")

    @property
    def channel(self) -> Channel | None:
        """The one that it stands for; None for a wildcard."""
        return None if self.wild else Channel(self.path)

    def matches(self, channel: Channel) -> bool:
        return channel.path.startswith(self.path[:-1]) if self.wild else channel.path == self.path


def channel(text: object) -> Channel:
    """Raises BadChannel."""
    return _channel(_text(text))


@functools.lru_cache(KNOWN)
def _channel(text: str) -> Channel:
    parts = _parts(text)
    if "*" in parts:
        raise BadChannel("channel: a wildcard is for subscribing")
    return Channel("/" + "/".join(map(_segment, parts)))


@functools.lru_cache(KNOWN)
def _wildcards(path: str) -> tuple[str, ...]:
    parts = path[1:].split("/")
    return tuple("/" + "/".join(parts[:size]) + "/*" for size in range(1, len(parts)))


def pattern(text: object) -> Pattern:
    """Raises BadChannel."""
    *before, last = _parts(_text(text))
    if not before and last == "*":
        raise BadChannel("channel: a wildcard needs a namespace before it")
    if "*" in before:
        raise BadChannel("channel: only the last segment may be a wildcard")
    return Pattern("/" + "/".join([*map(_segment, before), last if last == "*" else _segment(last)]))


def _text(text: object) -> str:
    if not isinstance(text, str):
        raise BadChannel("channel: expected a text")
    if len(text) > CHANNEL_MAX:
        raise BadChannel(f"channel: longer than {CHANNEL_MAX} characters")
    return text


def _parts(text: str) -> list[str]:
    parts = text.removeprefix("/").removesuffix("/").split("/")
    if parts == [""]:
        raise BadChannel("channel: it is empty")
    if len(parts) > SEGMENTS_MAX:
        raise BadChannel(f"channel: {len(parts)} segments, at most {SEGMENTS_MAX}")
    return parts


def _segment(text: str) -> str:
    if not is_segment(text):
        raise BadChannel(
            f"channel: {ascii(text)[:_SHOWN]} is no segment: 1 to 50 letters, digits and dashes, no dash at either end"
        )
    return text
