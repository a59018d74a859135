"""The installation's key for web push, with which browsers' push services recognise it: made when it is first needed,
kept sealed (the document `vapid`). A browser subscribes to this key; with another one all would have to do so again.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from pilothouse.core.errors import Unavailable
from pilothouse.engine.ports import EventStore, Put, SealBroken, Sealer

_ABOUT = "vapid:key"


class Push(Protocol):
    """What web push needs of cryptography."""

    def new_key(self) -> bytes: ...

    def public(self, key: bytes) -> str: ...

    def check(self, p256dh: str, auth: str) -> None:
        """Raises ValueError naming what is wrong."""
        ...

    def message(
        self,
        key: bytes,
        url: str,
        p256dh: str,
        auth: str,
        text: bytes,
        *,
        subject: str,
        now: float,
        ttl: int,
        topic: str,
    ) -> tuple[dict[str, str], bytes]:
        """Headers and body. Raises ValueError."""
        ...


class Vapid:
    def __init__(self, store: EventStore, sealer: Sealer, push: Push) -> None:
        self._store = store
        self._sealer = sealer
        self._push = push
        self._making = asyncio.Lock()
        self._key: bytes | None = None

    async def public(self) -> str:
        """With which browsers subscribe. Raises Unavailable."""
        return self._push.public(await self.key())

    async def key(self) -> bytes:
        """Raises Unavailable."""
        async with self._making:
            if self._key is None:
                self._key = await self._found()
            return self._key

    async def _found(self) -> bytes:
        sealed = await self._store.get("vapid", "key")
        try:
            if sealed is not None:
                return self._sealer.unseal(sealed, _ABOUT)
            key = self._push.new_key()
            await self._store.commit(Put("vapid", "key", self._sealer.seal(key, _ABOUT)))
        except SealBroken as error:
            raise Unavailable(f"The key of web push cannot be read, or kept: {error}") from None
        return key
