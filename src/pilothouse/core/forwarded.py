"""What proxies in front tell of a request, believed as far as they are trusted.

    X-Forwarded-For: CLIENT, PROXY1, …       each proxy adds, at the right, whom it spoke with
    X-Forwarded-Proto: https                 X-Forwarded-Host: example.org
    Forwarded: for=CLIENT;proto=https;host=example.org, for="[2001:db8::1]:4711"        RFC 7239

A client may write any of these itself, and a proxy passes on what it does not know. So one form counts, the one that
the proxy writes, and it is read from the right: each trusted proxy has added one entry; the first address that is not a
trusted proxy's is the client, and what stands left of it is the client's own story. An entry that cannot be read ends
the reading: the nearest proxy that is known then stands for the client.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
Form = Literal["x-forwarded", "forwarded"]
Every = Callable[[str], list[str]]
"""All values of a header, in order."""

HOPS_MAX = 32
"""Entries that are read; no chain of proxies is longer."""
_SCHEMES = {"http": "http", "https": "https", "ws": "http", "wss": "https"}
_PAIR = re.compile(
    r'\s*([!#$%&\'*+.^_`|~0-9A-Za-z-]+)=([!#$%&\'*+.^_`|~0-9A-Za-z:\[\]-]+|"(?:[^"\\]|\\.)*")\s*', re.ASCII
)


@dataclass(frozen=True, slots=True)
class Hop:
    client: str
    """Address of who asked; of the connection's other end where nobody trusted says more."""
    scheme: str | None = None
    host: str | None = None
    """As told; not checked."""


@dataclass(frozen=True, slots=True)
class _Entry:
    client: str
    scheme: str | None = None
    host: str | None = None


def networks(texts: tuple[str, ...]) -> tuple[Network, ...]:
    """Raises ValueError with the text that is no address and no network."""
    made: list[Network] = []
    for text in texts:
        try:
            made.append(ipaddress.ip_network(text))
        except ValueError:
            raise ValueError(text) from None
    return tuple(made)


def address(text: str) -> str:
    """In its shortest form; IPv4 that came by IPv6 as IPv4. Raises ValueError."""
    found = ipaddress.ip_address(text.partition("%")[0])
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return str(mapped or found)


def is_in(text: str, trusted: tuple[Network, ...]) -> bool:
    try:
        found = ipaddress.ip_address(address(text))
    except ValueError:
        return False
    return any(found in network for network in trusted)


def read(peer: str, every: Every, trusted: tuple[Network, ...], form: Form) -> Hop:
    """`peer` is the connection's other end."""
    try:
        peer = address(peer)
    except ValueError:
        return Hop(peer)
    if not is_in(peer, trusted):
        return Hop(peer)
    return _standard(peer, every, trusted) if form == "forwarded" else _usual(peer, every, trusted)


def _usual(peer: str, every: Every, trusted: tuple[Network, ...]) -> Hop:
    client, hops = _walk(peer, (_Entry(text) for text in reversed(_list(every("x-forwarded-for")))), trusted)
    # Each hop may have added here too, or the last one has written it anew.
    told = [_list(every(name)) for name in ("x-forwarded-proto", "x-forwarded-host")]
    scheme, host = (values[-min(max(hops, 1), len(values))] if values else None for values in told)
    return Hop(client, _SCHEMES.get((scheme or "").lower()), host or None)


def _standard(peer: str, every: Every, trusted: tuple[Network, ...]) -> Hop:
    entries = list(_entries(every("forwarded")))[:HOPS_MAX]
    client, hops = _walk(peer, iter(entries), trusted)
    last = entries[hops - 1] if hops else _Entry("")
    return Hop(client, last.scheme, last.host)


def _walk(peer: str, entries: Iterator[_Entry], trusted: tuple[Network, ...]) -> tuple[str, int]:
    """From the right: the client, and how many entries trusted proxies have written."""
    client, hops = peer, 0
    for entry in entries:
        found = _node(entry.client)
        hops += 1
        if found is None:
            break
        client = found
        if hops == HOPS_MAX or not is_in(client, trusted):
            break
    return client, hops


def _list(lines: list[str]) -> list[str]:
    return [part.strip() for line in lines for part in line.split(",")][-HOPS_MAX:] if lines else []


def _node(text: str) -> str | None:
    """An address, maybe with a port; None for what hides or is none."""
    bare = text.strip()
    if bare.startswith("["):
        bare, bracket, port = bare[1:].partition("]")
        if not bracket or (port and not re.fullmatch(r":[0-9]{1,5}", port, re.ASCII)):
            return None
    elif bare.count(":") == 1:
        bare = bare.partition(":")[0]
    try:
        return address(bare)
    except ValueError:
        return None


def _entries(lines: list[str]) -> Iterator[_Entry]:
    """Of `Forwarded`, from the right. A line that cannot be read hides all that stands before it."""
    for line in reversed(lines):
        read = _line(line)
        if read is None:
            return
        yield from reversed(read)


def _line(line: str) -> list[_Entry] | None:
    made: list[_Entry] = []
    fields: dict[str, str] = {}
    place = 0
    while True:
        pair = _PAIR.match(line, place)
        if pair is None or pair[1].lower() in fields:
            return None
        value = pair[2]
        fields[pair[1].lower()] = re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value
        place = pair.end()
        sign = line[place : place + 1]
        if sign != ";":
            scheme = _SCHEMES.get(fields.get("proto", "").lower())
            made.append(_Entry(fields.get("for", ""), scheme, fields.get("host") or None))
            fields = {}
        if not sign:
            return made
        if sign not in ";,":
            return None
        place += 1
