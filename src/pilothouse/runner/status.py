"""Busy or not, in AgentCore's words. The time changes only when the status does, or an idle runner lives for ever."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pilothouse.core import link


class Status:
    """Busy while a turn runs or a prompt waits for its turn. An open ask belongs to a running turn."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._turns: set[str] = set()
        self._since = int(now())

    @property
    def busy(self) -> bool:
        return bool(self._turns)

    def expect(self, turn_id: str) -> None:
        self._change(self._turns | {turn_id})

    def forget(self, turn_id: str) -> None:
        self._change(self._turns - {turn_id})

    async def hear(self, event: link.RunnerEvent) -> None:
        if isinstance(event, link.TurnStarted):
            self.expect(event.turn_id)
        elif isinstance(event, link.TurnEnded):
            self.forget(event.turn_id)

    def ping(self) -> dict[str, Any]:
        return {"status": "HealthyBusy" if self.busy else "Healthy", "time_of_last_update": self._since}

    def _change(self, turns: set[str]) -> None:
        if bool(turns) != self.busy:
            self._since = int(self._now())
        self._turns = turns
