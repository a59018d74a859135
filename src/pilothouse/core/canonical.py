"""The canonical form of a request, as AWS Signature Version 4 signs it.

    METHOD \\n path \\n query \\n (name:value \\n)* \\n names joined by ";" \\n payload hash

path     as sent, every byte but letters, digits and `-._~/` escaped once more: `%3A` becomes `%253A`
query    pairs sorted, `&` between them, names and values escaped
headers  those that are signed: lower-case names, values without outer blanks and with single inner ones; a header that
         comes several times has its values joined by `,`
payload  hex SHA-256 of the body

A signature has to stand for one meaning, so what could be read in two ways is refused instead of made alike: paths with
empty, `.` or `..` segments, and repeated parameters in an order that sorting would hide.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import quote, unquote_to_bytes

from pilothouse.core.errors import BadSignature

Headers = Sequence[tuple[str, str]]
"""Names in lower case, in the order of the wire, repeated ones kept."""
PAIRS_MAX = 1000
"""Parameters of a query; sorting more is nobody's need."""
_WIRE = re.compile(r"[!-~]*\Z")
_METHOD = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}\Z")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_BLANKS = re.compile(r"[ \t]+")


def method(name: str) -> str:
    """Raises BadSignature."""
    if not _METHOD.match(name):
        raise BadSignature("method: not one that can be signed", reason="malformed")
    return name


def path(raw: str) -> str:
    """Of a path as sent. Raises BadSignature."""
    if not raw.startswith("/") or not _WIRE.match(raw):
        raise BadSignature("path: expected / and printable ASCII, escaped", reason="malformed")
    *inner, last = raw.split("/")[1:]
    if "" in inner or {".", ".."} & {*inner, last}:
        raise BadSignature("path: a signed path has no empty, `.` or `..` segments", reason="malformed")
    return quote(raw, safe="/~")


def pairs(raw: str) -> list[tuple[str, str]]:
    """Names and values of a query as sent. Raises BadSignature."""
    if not _WIRE.match(raw):
        raise BadSignature("query: expected printable ASCII, escaped", reason="malformed")
    found = [(name, value) for name, _, value in (part.partition("=") for part in raw.split("&"))] if raw else []
    if len(found) > PAIRS_MAX:
        raise BadSignature(f"query: at most {PAIRS_MAX} parameters can be signed", reason="malformed")
    return found


def meaning(text: str) -> bytes:
    """What a name or value of a query says."""
    return unquote_to_bytes(text.replace("+", " "))


def queries(found: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    """The spellings under which a query may have been signed: escaped anew as the standard has it, as botocore does
    (sorted, escapes left alone), and as curl before 8 does (as sent). They are one and the same for most queries, and
    no two queries that mean different things share one. Raises BadSignature."""
    exact = [(quote(meaning(n), safe="~"), quote(meaning(v), safe="~")) for n, v in found]
    last: dict[str, str] = {}
    for name, value in exact:
        if value < last.get(name, ""):
            raise BadSignature(
                f"query: the values of {name[:100]} are not in ascending order, and a signature does not say theirs",
                reason="malformed",
            )
        last[name] = value
    spelled = (_joined(sorted(exact)), _joined(sorted(found)), _joined(found))
    return tuple(dict.fromkeys(spelled))


def _joined(found: Sequence[tuple[str, str]]) -> str:
    return "&".join(f"{name}={value}" for name, value in found)


def value(name: str, values: Sequence[str]) -> str:
    """Of a header that is signed. Raises BadSignature."""
    for text in values:
        if _CONTROL.search(text):
            raise BadSignature(f"{name}: it has control characters", reason="malformed")
    return ",".join(_BLANKS.sub(" ", text.strip(" \t")) for text in values)
