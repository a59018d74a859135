"""The port to code of the user's: handlers of namespaces, and the custom authorizer. It stands beside `ports`.

Two implementations: `adapters/hooks/python`, a callable of this process, and `adapters/hooks/http`, an address. What
they do is contained here: bounded in time, in how many run at once, and named when it fails.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Protocol

from pilothouse.engine.kit import Note, silent, worth_noting

HANDLER_S = 10.0
"""Clients give up on a subscribe after 15 s, and the authorizer may have taken its time before."""
AUTHORIZER_S = 4.0
"""An upgrade is to be answered within 10 s."""
AT_ONCE = 64
"""Calls of one hook that run at one time; others wait for their turn, within their time."""


class HookFailed(Exception):
    """It raised, took too long, could not be reached, or answered what is no JSON. `type` is the name of what it
    raised."""

    def __init__(self, message: str, type: str = "") -> None:
        super().__init__(message)
        self.type = type


class Hook(Protocol):
    @property
    def name(self) -> str:
        """As configured, for the log."""
        ...

    async def call(self, event: Mapping[str, Any], seconds: float) -> Any:
        """What it answers, as JSON has it. Raises HookFailed. It need not be over when its caller has left."""
        ...

    async def close(self) -> None: ...


class Bounded:
    """A hook as the engine uses it."""

    def __init__(self, hook: Hook, seconds: float = HANDLER_S, note: Note = silent, at_once: int = AT_ONCE) -> None:
        self._hook = hook
        self._seconds = seconds
        self._note = note
        self._turn = asyncio.Semaphore(at_once)
        self._failures = 0

    async def call(self, event: Mapping[str, Any]) -> Any:
        """Raises HookFailed."""
        try:
            async with asyncio.timeout(self._seconds), self._turn:
                return await self._hook.call(event, self._seconds)
        except TimeoutError:
            raise self._failed(HookFailed(f"no answer within {self._seconds:g} s", "TimeoutError")) from None
        except HookFailed as error:
            raise self._failed(error) from None

    def said(self, why: str) -> None:
        """It answered, and its answer is none or a no."""
        self._failed(HookFailed(why))

    def _failed(self, error: HookFailed) -> HookFailed:
        self._failures += 1
        if worth_noting(self._failures, 10):
            self._note("hook_failed", hook=self._hook.name, error=str(error)[:300], type=error.type, n=self._failures)
        return error
