"""What the OpenAPI document says of every route; a module for each part of the API."""

from __future__ import annotations

from pilothouse.web.operations import access, channels, outgoing, programs, reference, sessions, work
from pilothouse.web.operations.base import Operation

OPERATIONS: tuple[Operation, ...] = (
    *sessions.OPERATIONS,
    *work.OPERATIONS,
    *programs.OPERATIONS,
    *channels.OPERATIONS,
    *outgoing.OPERATIONS,
    *access.OPERATIONS,
    *reference.OPERATIONS,
)
"""In the order of the document."""
