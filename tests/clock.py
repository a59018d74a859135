"""A clock that is wound by hand."""

from __future__ import annotations

import asyncio


class HandClock:
    def __init__(self, seconds: float = 1_767_225_600.0) -> None:
        self.seconds = seconds

    def now(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        self.seconds += seconds
        await asyncio.sleep(0)
