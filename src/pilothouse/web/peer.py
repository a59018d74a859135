"""From which address a request comes. Everything that asks, asks here."""

from __future__ import annotations

import ipaddress
from typing import Protocol

LOCAL = "local"
"""Whoever comes by a unix socket."""


class Asking(Protocol):
    """A Starlette request, or the request of an upgrade."""

    @property
    def client(self) -> tuple[str, int] | None: ...


def peer(request: Asking) -> str:
    """The address of the socket's other end, IPv4 as such where it comes in IPv6."""
    client = request.client
    if client is None:
        return LOCAL
    text = client[0].partition("%")[0]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return text[:64] or LOCAL
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)
