"""Values that nobody shall read: found in bytes, and masked byte for byte, so that no offset moves.

A value is looked for as it is, line by line where it has several, and in the forms that common tools give it: quoted
by a shell, escaped in JSON, percent-encoded, in base64 (both alphabets, wherever in its groups of three it begins) and
in hex. A form of more than PIECE bytes is looked for in pieces that overlap by half: a long part of it is found
as well, and no more than PIECE - 1 bytes ever have to wait for what follows.

What is not found: a value of less than LEAST bytes, a form that is broken into lines or spaced, a part that is shorter
than a piece, and whatever a program makes of a value to hide it.

Standard library only: the holders use it too.
"""

from __future__ import annotations

import binascii
import json
import re
import sys
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from typing import Final

LEAST = 8
"""Shorter ones stand in any output by chance."""
PIECE = 32
"""More than any two texts have in common by chance, and few enough bytes to wait for."""
ENCODED_MAX = 4096
"""Of longer values only the text itself is looked for, and of those over LONG besides it only base64, which is how a
key file travels: their encodings would be thousands of pieces."""
LONG = 512
"""Pieces of a longer form do not overlap."""
MASK: Final = b"*"
_MANY = 400
"""Pieces from which on memory counts more than time: a word for every place in a step is kept of each."""
_DISTINCT = 5
"""A line of fewer different bytes is a rule or an indentation, not what is secret of a value."""
_ARMOUR = re.compile(r"-{5}(BEGIN|END) [A-Z0-9 ]+-{5}\Z")


class Masks:
    """The values of one session, ready to be looked for. What it costs does not depend on their number: a word is taken
    out of the data at every so many bytes and looked up in a set; so far apart that a piece, wherever it stands, covers
    one of these places whole."""

    __slots__ = ("__weakref__", "_first", "_index", "_pieces", "_step", "_word", "_words", "reach")

    def __init__(self, values: Iterable[str]) -> None:
        self._pieces = sorted({piece for value in values for form in forms(value) for piece in pieces(form)})
        """Sorted: what begins one is found by bisection."""
        lengths = [len(piece) for piece in self._pieces]
        least = min(lengths, default=LEAST)
        self._word = 8 if least >= 15 else 4
        self._step = (least - self._word + 1) // self._word * self._word
        if len(lengths) > _MANY:
            self._step = self._word
        self.reach = max(lengths, default=1) - 1
        """So many bytes at most may be the beginning of something."""
        self._first = frozenset(piece[0] for piece in self._pieces)
        self._index: dict[int, list[tuple[int, bytes]]] = {}
        for piece in self._pieces:
            for shift in range(self._step):
                at = max(range(shift, len(piece) - self._word + 1, self._step), key=lambda n: _rarity(piece, n))
                word = int.from_bytes(piece[at : at + self._word], sys.byteorder)
                self._index.setdefault(word, []).append((at, piece))
        self._words = frozenset(self._index)

    def __bool__(self) -> bool:
        return bool(self._pieces)

    def spans(self, data: bytes) -> list[tuple[int, int]]:
        """Where something stands that nobody shall read: (from, to), ascending, apart from each other."""
        size = self._word
        if len(data) < size or not self._pieces:
            return []
        every = memoryview(data)[: len(data) // size * size].cast("Q" if size == 8 else "I")
        words = every[:: self._step // size]
        if self._words.isdisjoint(words):
            return []
        found: set[tuple[int, int]] = set()
        for word in self._words.intersection(words):
            text = word.to_bytes(size, sys.byteorder)
            at = data.find(text)
            while at >= 0:
                for offset, piece in self._index[word]:
                    if offset <= at and data.startswith(piece, at - offset):
                        found.add((at - offset, at - offset + len(piece)))
                at = data.find(text, at + 1)
        return _joined(sorted(found))

    def begun(self, data: bytes) -> tuple[int, int]:
        """How many of the last bytes may be the beginning of something; and of how many it is sure enough, since they
        are half of it."""
        tail = data[-self.reach :] if self.reach else b""
        longest = sure = 0
        for at, byte in enumerate(tail):
            if byte in self._first:
                start = tail[at:]
                where = bisect_left(self._pieces, start)
                if where < len(self._pieces) and self._pieces[where].startswith(start):
                    longest = longest or len(start)
                    if not sure and any(2 * len(start) >= len(p) for p in self._beginning(start, where)):
                        sure = len(start)
        return longest, sure

    def _beginning(self, start: bytes, where: int) -> Iterator[bytes]:
        if 2 * len(start) < LEAST:
            return
        while where < len(self._pieces) and self._pieces[where].startswith(start):
            yield self._pieces[where]
            where += 1

    def mask(self, data: bytes) -> bytes:
        spans = self.spans(data)
        if not spans:
            return data
        masked = bytearray(data)
        for start, end in spans:
            masked[start:end] = MASK * (end - start)
        return bytes(masked)

    def text(self, text: str) -> str:
        """The same for a text. What a mask cuts a character of, it replaces whole."""
        data = text.encode("utf-8", "surrogatepass")
        spans = self.spans(data)
        return self.mask(data).decode("utf-8", "replace") if spans else text


class Seen:
    """One stream of bytes as it is read, in pieces of any size. Its last bytes are held back while they may be the
    beginning of something; whoever reads lets them go after a while (`release`).

    Offsets are the stream's own. What has been let go stays known: when a value is complete after all, all of it is
    named, also what is out already.
    """

    __slots__ = ("_sure", "_tail", "begun", "end", "held", "masks")

    def __init__(self, masks: Masks, end: int = 0) -> None:
        self.masks = masks
        self.end = end
        """How much has been read."""
        self.held = 0
        """How many of the last bytes nobody may have yet."""
        self.begun = 0
        """How many of the last bytes may be the beginning of something, those that are out already among them."""
        self._tail = b""
        """What was read last, as it was, as far as something may have begun in it."""
        self._sure = 0

    def feed(self, fresh: bytes) -> list[tuple[int, int]]:
        """What has to be masked: (from, to)."""
        data = self._tail + fresh
        base = self.end - len(self._tail)
        self.end += len(fresh)
        before = self.held + len(fresh)
        spans = self.masks.spans(data)
        self.begun, self._sure = self.masks.begun(data)
        masked = len(data) - spans[-1][1] if spans else len(data)
        self.held = min(self.begun, before, masked)  # what is masked need not wait
        self._tail = data[-self.masks.reach :]
        return [(base + start, base + end) for start, end in spans]

    def release(self) -> tuple[int, int] | None:
        """Nothing came for a while. What has to be masked of what was held: half of something is taken for it."""
        held, self.held = self.held, 0
        count = min(held, self._sure)
        return (self.end - count, self.end) if count else None


def forms(value: str) -> set[bytes]:
    """As it may stand somewhere; none of less than LEAST bytes."""
    lines = [line.strip() for line in value.splitlines()] if "\n" in value or "\r" in value else [value]
    if len(lines) > 1:
        lines = [line for line in lines if len(set(line)) >= _DISTINCT and not _ARMOUR.match(line)]
    found = {line.encode() for line in lines}
    if len(value.encode()) <= ENCODED_MAX:
        for line in lines:
            found |= _escaped(line)
        if len(value.encode()) >= LEAST:
            found |= _encoded(value)
    return {form for form in found if len(form) >= LEAST}


def _escaped(line: str) -> set[bytes]:
    """As shells and JSON show it."""
    texts = {json.dumps(line)[1:-1], json.dumps(line, ensure_ascii=False)[1:-1]}
    texts |= {text.replace("/", "\\/") for text in texts}
    texts |= {
        re.sub(r'(["\\$`])', r"\\\1", line),
        line.replace("'", "'\\''"),
        line.replace("'", "'\"'\"'"),
        re.sub(r"([^\w@%+=:,./-])", r"\\\1", line),
    }
    if len(line.encode()) < LEAST:
        return set()
    return {text.encode() for text in texts}


def _encoded(value: str) -> set[bytes]:
    raw = value.encode()
    return _base64(raw) if len(raw) > LONG else _base64(raw) | _hex_and_percent(raw)


def _hex_and_percent(raw: bytes) -> set[bytes]:
    found = {raw.hex().encode(), raw.hex().upper().encode()}
    quoted = {_percent(raw, safe) for safe in (b"", b"/", b"()*!'")}
    quoted |= {text.replace(b"%20", b"+") for text in quoted}
    return found | quoted | {re.sub(rb"%..", lambda m: m[0].lower(), text) for text in quoted}


def _base64(raw: bytes) -> set[bytes]:
    found: set[bytes] = set()
    for shift, begin in ((0, 0), (1, 2), (2, 3)):
        count = shift + len(raw)
        coded = binascii.b2a_base64(b"\0" * shift + raw, newline=False)[begin : count // 3 * 4 + count % 3]
        found |= {coded, coded.translate(_URL_SAFE)}
    return found


def _percent(raw: bytes, safe: bytes) -> bytes:
    return re.sub(rb"[^\w.~" + re.escape(safe) + rb"-]", lambda m: b"%%%02X" % m[0][0], raw)


_URL_SAFE = bytes.maketrans(b"+/", b"-_")


def pieces(form: bytes) -> Iterator[bytes]:
    if len(form) <= PIECE:
        yield form
        return
    for at in range(0, len(form) - PIECE, PIECE // 2 if len(form) <= LONG else PIECE):
        yield form[at : at + PIECE]
    yield form[-PIECE:]


def _rarity(piece: bytes, at: int) -> int:
    """How unlike ordinary output a word is: it is looked at more closely each time that it comes."""
    word = piece[at : at + 4]
    return len(set(word)) + sum(64 < byte < 91 for byte in word)


def _joined(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    joined: list[tuple[int, int]] = []
    for start, end in spans:
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined
