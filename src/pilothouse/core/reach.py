"""What a session reaches besides the model: a policy, a list of domains, and what an address may be. Pure.

| policy | reaches |
|---|---|
| `off` | nothing |
| `allow` | what is on the list; the rest may be asked about |
| `full` | every public address, on every port |

A domain of a list is `host`, `*.suffix` (any name below, not the suffix itself) or an IP address, with `:port` behind
it for another port than 443 and 80. Names are ASCII: one in another script is written in its `xn--` form, since two
names that look the same are told apart only there.

Under every policy the address that a name leads to must be a public one (`public`), unless the configuration lists the
very `host:port`.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from pilothouse.core.errors import BadRequest
from pilothouse.core.ids import SessionId

Policy = Literal["off", "allow", "full"]
POLICIES: tuple[Policy, ...] = ("off", "allow", "full")
PORTS = frozenset({443, 80})
"""Of a domain that names no port."""
HOLD_S = 120.0
"""At most so long a connection waits for a person: programs give up about then."""
NAME_MAX = 253
"""Characters of a name, as DNS has it."""
DOMAINS_MAX = 200
"""Of one list: more is no list that a person reads."""

_LABEL = r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"({_LABEL}\.)*{_LABEL}\Z")
_NUMBER = re.compile(r"(0x[0-9a-f]*|[0-9]+)\Z")
"""A last label of this form makes the whole a number: `127.1` and `0x7f000001` are addresses to some resolvers."""


class BadTarget(ValueError):
    """What is asked for is no host and port; the message says why, without what was asked for."""


@dataclass(frozen=True, slots=True)
class Target:
    """A host, in the one form it is compared in, and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Domain:
    """One entry of a list."""

    host: str
    below: bool = False
    """It stands for the names below `host`."""
    port: int | None = None

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return ("*." if self.below else "") + host + (f":{self.port}" if self.port else "")

    def matches(self, target: Target) -> bool:
        if target.port != self.port if self.port else target.port not in PORTS:
            return False
        return target.host.endswith("." + self.host) if self.below else target.host == self.host

    def covers(self, other: Domain) -> bool:
        """Whatever the other one allows, this one does."""
        if self.port != other.port and not (self.port is None and other.port in PORTS):
            return False
        if not self.below:
            return not other.below and other.host == self.host
        return other.host.endswith("." + self.host) or (other.below and other.host == self.host)


@dataclass(frozen=True, slots=True)
class Reach:
    """A session's. `ask_s`: so long a connection to what is not listed waits for a person's answer; 0: it does not."""

    policy: Policy = "off"
    domains: tuple[Domain, ...] = field(default=())
    ask_s: float = 0.0

    def allows(self, target: Target) -> bool:
        if self.policy == "allow":
            return any(domain.matches(target) for domain in self.domains)
        return self.policy == "full"


@dataclass(frozen=True, slots=True)
class Asking:
    """Connections of a session that wait for a person: to a domain that is not on its list."""

    id: str
    session: SessionId
    host: str
    port: int
    hold_s: float
    """So long they wait."""


def beyond(wished: Reach, configured: Reach) -> str:
    """What of a wish goes further than the configuration: `policy`, `domains`, or "" for nothing."""
    if POLICIES.index(wished.policy) > POLICIES.index(configured.policy):
        return "policy"
    if wished.policy != "allow" or configured.policy == "full":
        return ""
    covered = all(any(has.covers(wish) for has in configured.domains) for wish in wished.domains)
    return "" if covered else "domains"


# --- reading what people and agents write ---


def host(text: str) -> str:
    """In its one form: lower case, without the last dot; an address as `ipaddress` writes it. Raises BadTarget."""
    if text.startswith("[") and text.endswith("]"):
        return _literal(text[1:-1], 6)
    if not text.isascii():
        raise BadTarget("a name is written in ASCII, in another script in its xn-- form")
    if len(text) > NAME_MAX + 1:
        raise BadTarget(f"a name has at most {NAME_MAX} characters")
    name = text.lower().removesuffix(".")
    if len(name) > NAME_MAX or not _NAME.match(name):
        raise BadTarget("expected the name of a host")
    return _literal(name, 4) if _NUMBER.match(name.rpartition(".")[2]) else name


def _literal(text: str, version: int) -> str:
    try:
        address = ipaddress.IPv4Address(text) if version == 4 else ipaddress.IPv6Address(text)
    except ValueError:
        raise BadTarget("expected a name or an IP address") from None
    if "%" in text:
        raise BadTarget("an address has no zone here")
    return str(address)


def port(text: str) -> int:
    """Raises BadTarget."""
    if not text.isascii() or not text.isdigit() or len(text) > 5 or not 0 < int(text) < 65536:
        raise BadTarget("a port is a number from 1 to 65535")
    return int(text)


def target(text: str, default: int | None = None) -> Target:
    """`host:port`, the port with a `default` optional. Raises BadTarget."""
    name, colon, number = text.rpartition(":")
    if not colon or text.endswith("]"):
        if default is None:
            raise BadTarget("expected host:port")
        return Target(host(text), default)
    return Target(host(name), port(number))


def domain(text: str) -> Domain:
    """An entry of a list. Raises BadTarget."""
    text = text.strip()
    if text == "*":
        raise BadTarget("for every domain say the policy full")
    if "/" in text:
        raise BadTarget("expected the name of a host, without a scheme or a path")
    below = text.startswith("*.")
    name, colon, number = text.removeprefix("*.").rpartition(":")
    if not colon or text.endswith("]"):
        name, number = text.removeprefix("*."), ""
    found = host(name)
    if below and (is_address(found) or "." not in found):
        raise BadTarget("*. stands before a domain of two parts at least")
    return Domain(found, below, port(number) if number else None)


def is_address(name: str) -> bool:
    return ":" in name or bool(_NUMBER.match(name.rpartition(".")[2]))


def policy(name: str, where: str) -> Policy:
    """Raises BadRequest."""
    for known in POLICIES:
        if name == known:
            return known
    raise BadRequest(f"{where}: {name[:20]!r} is none of {', '.join(POLICIES)}")


def domains(texts: Sequence[str], where: str) -> tuple[Domain, ...]:
    """A list, doubles left out. Raises BadRequest naming the entry."""
    if len(texts) > DOMAINS_MAX:
        raise BadRequest(f"{where}: {len(texts)} domains, at most {DOMAINS_MAX}")
    found: dict[Domain, None] = {}
    for text in texts:
        try:
            found[domain(text)] = None
        except BadTarget as error:
            raise BadRequest(f"{where}: {text[:60]!r}: {error}") from None
    return tuple(found)


# --- addresses ---

_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")
_COMPATIBLE = ipaddress.IPv6Network("::/96")
_TRANSLATED = ipaddress.IPv6Network("64:ff9b::/96")
_SIX_TO_FOUR = ipaddress.IPv6Network("2002::/16")
_UNICAST = ipaddress.IPv6Network("2000::/3")
_NEVER: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = tuple(
    ipaddress.ip_network(text)
    for text in (
        "168.63.129.16/32",  # Azure's host, in public space
        "100.64.0.0/10",  # carriers' own; 100.100.100.200 tells Alibaba's credentials
        "192.0.0.0/24",  # 192.0.0.192 tells Oracle's
        "192.88.99.0/24",  # relays to 6to4
        "169.254.0.0/16",
        "224.0.0.0/3",  # multicast and reserved
        "2001::/23",  # Teredo and other special purposes
        "2001:db8::/32",
        "3fff::/20",
    )
)
_ISATAP = (0x0000_5EFE, 0x0200_5EFE)


def public(text: str) -> bool:
    """Whether a session may connect to the address: one of the public Internet, also by what is embedded in it."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address):
        embedded = _embedded(address)
        if embedded is not None:
            return _public(embedded)
        if address not in _UNICAST or address.scope_id or (int(address) >> 32) & 0xFFFF_FFFF in _ISATAP:
            return False
    return _public(address)


def inside(host: str) -> bool:
    """Whether a host, in its one form, is known to lead to no public address without looking it up: such an address, or
    this machine by a name that every resolver has to keep for it (RFC 6761)."""
    return not public(host) if is_address(host) else f".{host}".endswith((".localhost", ".localhost.localdomain"))


def not_public(host: str) -> str:
    """The words for it, wherever it is refused."""
    return f"{host} does not lead to a public address"


def _public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    if any(address in network for network in _NEVER if network.version == address.version):
        return False
    return address.is_global and not address.is_multicast


def _embedded(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that packets to this one end at."""
    if address in _MAPPED or address in _COMPATIBLE or address in _TRANSLATED:
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    if address in _SIX_TO_FOUR:
        return ipaddress.IPv4Address((int(address) >> 80) & 0xFFFF_FFFF)
    return None
