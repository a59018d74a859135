"""Wakes whoever follows something of a session that is not in its log. Like the log's own latches: taken before the
look, so that no change falls between."""

from __future__ import annotations

import asyncio

from pilothouse.core.ids import SessionId


class Bells:
    def __init__(self) -> None:
        self._latches: dict[SessionId, asyncio.Event] = {}

    def latch(self, session: SessionId) -> asyncio.Event:
        """Set at the next ring."""
        return self._latches.setdefault(session, asyncio.Event())

    def ring(self, session: SessionId) -> None:
        latch = self._latches.pop(session, None)
        if latch is not None:
            latch.set()
