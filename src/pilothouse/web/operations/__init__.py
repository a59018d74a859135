"""What the OpenAPI document says of every route; a module for each part of the API."""

from __future__ import annotations

from pilothouse.web.operations import access, channels, reference, sessions, work
from pilothouse.web.operations.base import Operation

OPERATIONS: tuple[Operation, ...] = (
    *sessions.OPERATIONS,
    *work.OPERATIONS,
    *channels.OPERATIONS,
    *access.OPERATIONS,
    *reference.OPERATIONS,
)
"""In the order of the document."""
