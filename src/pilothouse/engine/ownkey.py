"""A key of the installation's own: made when it is first needed, kept sealed, the same after a restart."""

from __future__ import annotations

import asyncio
import os

from pilothouse.core.errors import Unavailable
from pilothouse.engine.ports import EventStore, Put, SealBroken, Sealer

SIZE = 32
"""Bytes."""


class OwnKey:
    def __init__(self, store: EventStore, sealer: Sealer, name: str, about: str) -> None:
        """The document `signing` of this name; `about`: what it is sealed for."""
        self._store = store
        self._sealer = sealer
        self._name = name
        self._about = about
        self._key: bytes | None = None
        self._making = asyncio.Lock()

    async def get(self, *, make: bool = True) -> bytes:
        """Another one where the seal of the last is broken. Raises Unavailable: there is none and none is to be made,
        or none can be sealed."""
        async with self._making:
            return self._key or await self._found(make=make)

    async def _found(self, *, make: bool) -> bytes:
        doc = await self._store.get("signing", self._name)
        try:
            if doc is not None:
                self._key = self._sealer.unseal(doc, self._about)
                return self._key
        except SealBroken:
            pass  # what it was used for is over soon
        if not make:
            raise Unavailable
        self._key = await self._made()
        return self._key

    async def _made(self) -> bytes:
        key = os.urandom(SIZE)
        try:
            await self._store.commit(Put("signing", self._name, self._sealer.seal(key, self._about)))
        except SealBroken as error:
            raise Unavailable(f"Nothing can be signed: {error}") from None
        return key
