"""The typed client of the HTTP API, for asyncio:

    async with Client("http://127.0.0.1:8420", key) as client:
        session = await client.sessions.make(title="Find the slow test")
        job = await client.jobs.submit(session.id, "Which test is the slowest?")
        async for event in client.jobs.follow(job.id):
            if isinstance(event, events.Stream):
                print(event.content, end="")

What it gives are the types of `pilothouse.core.api`, events those of `pilothouse.core.events`; what it raises is the
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

__all__ = [
    "AlreadyResolved", "BadRequest", "Client", "ClientError", "Conflict", "Endpoint", "Event", "Forbidden", "Gap",
    "Malformed", "NoServer", "NotFound", "Refused", "TooLarge", "TooMany", "Unauthenticated", "Unavailable", "Unknown",
    "errors", "events",
]  # fmt: skip
