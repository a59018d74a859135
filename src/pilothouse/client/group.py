"""A part of the API. A further one is a module with a class like the others, and a line in `Client`."""

from __future__ import annotations

from pilothouse.client.transport import Transport


class Group:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport
