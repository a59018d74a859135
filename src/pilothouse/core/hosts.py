"""Host names, made comparable: `Host` headers as clients write them, names as settings give them.

    example.org   Example.ORG:8443   example.org.   127.0.0.1:80   [2001:DB8::1]:443

Lower case, without port and without the root's dot; IPv6 in brackets in its short form. A name with other letters than
ASCII travels in its ASCII form (`xn--…`); browsers do that by themselves. Anything else is no host name: a name with a
user before it, with a path after it, or with a port that is none.
"""

from __future__ import annotations

import functools
import ipaddress
import re

LOOPBACK = frozenset({"127.0.0.1", "localhost", "[::1]"})
NAME_MAX = 253
"""Characters of a name in the DNS."""
HEADER_MAX = NAME_MAX + len(".:65535")
KNOWN_MAX = 256
"""Headers that need not be read again: almost all requests have one of a few."""
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?", re.ASCII)
_PORT = re.compile(r"[0-9]{1,5}", re.ASCII)


def of_header(text: str) -> str:
    """The name in a `Host` header; empty where there is none."""
    return _known(text) if len(text) <= HEADER_MAX else _of_header(text)


def _of_header(text: str) -> str:
    if text.startswith("["):
        name, bracket, rest = text[1:].partition("]")
        return _six(name) if bracket and (not rest or _is_port(rest)) else ""
    name, colon, port = text.partition(":")
    return _name(name) if not colon or _is_port(colon + port) else ""


def plain(text: str) -> str:
    """A name without port, as a setting gives it; empty where it is none."""
    if text.startswith("[") and text.endswith("]"):
        return _six(text[1:-1])
    return "" if ":" in text else _name(text)


def covers(pattern: str, name: str) -> bool:
    """Whether a name of a certificate stands for this one; `*.` stands for one label."""
    pattern = pattern.lower().rstrip(".")
    if pattern.startswith("*."):
        return name.partition(".")[2] == pattern[2:] != ""
    return name == pattern


def _six(text: str) -> str:
    try:
        address = ipaddress.IPv6Address(text)
    except ValueError:
        return ""
    return f"[{address.compressed}]" if address.scope_id is None else ""


def _name(text: str) -> str:
    name = text.lower().removesuffix(".")
    whole = len(name) <= NAME_MAX and all(_LABEL.fullmatch(label) for label in name.split("."))
    return name if whole else ""


def _is_port(text: str) -> bool:
    return text.startswith(":") and _PORT.fullmatch(text[1:]) is not None and 0 < int(text[1:]) < 65_536


_known = functools.lru_cache(maxsize=KNOWN_MAX)(_of_header)
