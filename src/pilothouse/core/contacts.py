"""What a session contacted and what it was refused: one row per host, port and reason, counted. Pure.

| reason | verdict | meaning |
|---|---|---|
| `listed` | allowed | the domain is on the session's list |
| `full` | allowed | the session's policy is `full` |
| `approved` | allowed | a person approved it |
| `not_found` | allowed | it might, but the name has no address |
| `no_answer` | allowed | it might, but nothing answers there |
| `off` | refused | the session's policy is `off` |
| `not_listed` | refused | the domain is not on the list, and nobody could be asked, or answered |
| `denied` | refused | a person denied it |
| `not_public` | refused | the name leads to an address that is not a public one, or to this machine |
| `limit` | refused | too many connections at one time |
| `malformed` | refused | it was no request for a host and port; such rows have no host |

Host names come from whatever runs in the session. A row's host is "" too when the session has `HOSTS_MAX` rows already:
further hosts are counted together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pilothouse.core.ids import SessionId

Reason = Literal[
    "listed", "full", "approved", "not_found", "no_answer",
    "off", "not_listed", "denied", "not_public", "limit", "malformed",
]  # fmt: skip
Verdict = Literal["allowed", "refused"]
HOSTS_MAX = 500
"""Rows of one session with a host: more is a scan, of which the beginning tells enough."""
_ALLOWED: frozenset[Reason] = frozenset({"listed", "full", "approved", "not_found", "no_answer"})


@dataclass(frozen=True, slots=True)
class Contact:
    """A row of what a session contacted and was refused, as it is now. `n` names its last change and
    grows with every change of any row of a `proxy_id`. Times in seconds since the epoch."""

    proxy_id: str
    n: int
    session: SessionId
    host: str
    port: int
    reason: Reason
    count: int
    first: float
    last: float
    bytes_in: int = 0
    bytes_out: int = 0


def verdict(reason: Reason) -> Verdict:
    return "allowed" if reason in _ALLOWED else "refused"
