"""An approval's life, as a table. The first valid answer wins; everything after it is told who won.

| state / step | approve | deny | expire | cancel |
|---|---|---|---|---|
| pending | approved | denied | expired | cancelled |
| any other | AlreadyResolved | AlreadyResolved | stays | stays |

`expire` and `cancel` are the server's own steps and may come late without harm; `approve` and `deny` are a person's
and get an answer in any case. An answer that comes after `expiresAt` is too late even if the timer has not run yet.
"""

from __future__ import annotations

import hashlib
from typing import Any, Literal

import msgspec

from pilothouse.core.errors import AlreadyResolved, Conflict

State = Literal["pending", "approved", "denied", "expired", "cancelled"]
Step = Literal["approve", "deny", "expire", "cancel"]

TABLE: dict[State, dict[Step, State]] = {
    "pending": {"approve": "approved", "deny": "denied", "expire": "expired", "cancel": "cancelled"},
    "approved": {"expire": "approved", "cancel": "approved"},
    "denied": {"expire": "denied", "cancel": "denied"},
    "expired": {"expire": "expired", "cancel": "expired"},
    "cancelled": {"expire": "cancelled", "cancel": "cancelled"},
}

TOLD: dict[State, str] = {
    "denied": "The user rejected this action.",
    "expired": "Approval timed out; the action was not performed.",
    "cancelled": "The action was cancelled.",
}
"""What the agent is told when the person gave no words."""


def step(state: State, to: Step, *, by: str | None = None) -> State:
    """Raises AlreadyResolved with the winner."""
    row = TABLE[state]
    if to not in row:
        raise AlreadyResolved(f"It was {state} already" + (f" by {by}." if by else "."), outcome=state, by=by or "")
    return row[to]


def input_hash(tool_input: Any) -> str:
    """sha256 of canonical JSON: keys sorted, no white space, UTF-8. Any JSON value has one."""
    return hashlib.sha256(msgspec.json.encode(tool_input, order="deterministic")).hexdigest()


def check_hash(shown: str | None, recorded: str) -> None:
    """The answer must be about the input that was shown. Raises Conflict."""
    if shown is not None and shown != recorded:
        raise Conflict("inputHash is not that of this approval: what was shown is not what would run.", code="stale")
