"""A job's life, as a table.

| state / step | start | prompt | end |
|---|---|---|---|
| queued | running | - | done |
| running | - | running | done |
| done | - | - | - |

`start` appends `job_started`, `end` appends `complete`; since nothing leads out of `done` there is exactly one
`complete`, and it is the job's last event because no event is given to a job that is done.
"""

from __future__ import annotations

from typing import Literal

from pilothouse.core.errors import Conflict

State = Literal["queued", "running", "done"]
Step = Literal["start", "prompt", "end"]

TABLE: dict[State, dict[Step, State]] = {
    "queued": {"start": "running", "end": "done"},
    "running": {"prompt": "running", "end": "done"},
    "done": {},
}


def step(state: State, to: Step) -> State:
    """Raises Conflict naming state and step."""
    if to not in TABLE[state]:
        raise Conflict(f"A job that is {state} cannot {to}.")
    return TABLE[state][to]
