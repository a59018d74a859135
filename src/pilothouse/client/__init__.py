"""The typed client of the HTTP API, for asyncio:

    async with Client("http://127.0.0.1:8420", key) as client:
        session = await client.sessions.make(title="Find the slow test")
        job = await client.jobs.submit(session.id, "Which test is the slowest?")
        async for event in client.jobs.follow(job.id):
            if isinstance(event, events.Stream):
                print(event.content, end="")

What it gives are the types of the modules in `pilothouse.core.api` (`jobs.Job`, `sessions.Session`, …) and, of
`client.calls`, those of `pilothouse.core.invoke`; events are those of `pilothouse.core.events`. What it raises is the
tree of `pilothouse.client.errors`. Nothing in it is global, and it reads nothing of the environment.
"""

from __future__ import annotations

from pilothouse.client import errors
from pilothouse.client.client import Client
from pilothouse.client.errors import (
    AlreadyResolved,
    BadRequest,
    ClientError,
    Conflict,
    Forbidden,
    Malformed,
    NoServer,
    NotFound,
    Refused,
    TooLarge,
    TooMany,
    Unauthenticated,
    Unavailable,
)
from pilothouse.client.follow import Event, Gap, Unknown
from pilothouse.client.transport import Endpoint
from pilothouse.core import events
from pilothouse.core.api.kept import Invocation

__all__ = [
    "AlreadyResolved", "BadRequest", "Client", "ClientError", "Conflict", "Endpoint", "Event", "Forbidden", "Gap",
    "Invocation", "Malformed", "NoServer", "NotFound", "Refused", "TooLarge", "TooMany", "Unauthenticated",
    "Unavailable", "Unknown", "errors", "events",
]  # fmt: skip
