"""Those who say the same word at one time, one after another: the first acts, the others find what it did."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator


class _Turn:
    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.users = 0


class Words:
    def __init__(self) -> None:
        self._turns: dict[str, _Turn] = {}

    @contextlib.asynccontextmanager
    async def turn(self, *words: str) -> AsyncIterator[None]:
        """While nobody else has any of these words."""
        async with contextlib.AsyncExitStack() as stack:
            for word in sorted(words):  # always in one order, or two would wait for each other
                turn = self._turns.setdefault(word, _Turn())
                turn.users += 1
                stack.callback(self._leave, word, turn)
                await stack.enter_async_context(turn.lock)
            yield

    def __len__(self) -> int:
        """Words that somebody has or waits for."""
        return len(self._turns)

    def _leave(self, word: str, turn: _Turn) -> None:
        turn.users -= 1
        if not turn.users:  # not before: who waits for the lock and who comes now must wait for the same one
            del self._turns[word]
