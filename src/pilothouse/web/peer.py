"""From which address a request comes. Everything that asks, asks here."""

from __future__ import annotations

import functools
import ipaddress

from starlette.requests import HTTPConnection

from pilothouse.web.socket import UpgradeRequest

ADDRESS_MAX = 64
"""Characters that are shown of what is none, and up to which one is remembered."""
KNOWN_MAX = 1024
"""Addresses that need not be read again: who comes back comes from the same."""
UNKNOWN = "-"
"""Whoever comes by a unix socket."""


def peer(request: HTTPConnection) -> str:
    """The address of the socket's other end."""
    return UNKNOWN if request.client is None else _plain(request.client.host)


def upgrade_peer(request: UpgradeRequest) -> str:
    return UNKNOWN if request.client is None else _plain(request.client[0])


def _plain(text: str) -> str:
    """An IPv4 address as such where it comes in IPv6, and no interface."""
    return _known(text) if len(text) <= ADDRESS_MAX else _read(text)


def _read(text: str) -> str:
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return text[:ADDRESS_MAX] or UNKNOWN
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


_known = functools.lru_cache(maxsize=KNOWN_MAX)(_read)
