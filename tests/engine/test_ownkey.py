"""The installation's own key: one, the same after a restart, and none where none can be kept."""

from __future__ import annotations

import asyncio

import pytest

from pilothouse.adapters.stores.memory import MemoryStore
from pilothouse.core.errors import Unavailable
from pilothouse.engine.ownkey import SIZE, OwnKey
from pilothouse.engine.ports import SealBroken
from tests.engine.fakes import PlainSealer


def own(store: MemoryStore, sealer: PlainSealer | None = None, name: str = "x") -> OwnKey:
    return OwnKey(store, sealer or PlainSealer(), name, "about x")


async def test_one_for_all_who_ask_at_once_and_after_a_restart() -> None:
    store = MemoryStore()
    with pytest.raises(Unavailable):
        await own(store).get(make=False)
    key = own(store)
    found = await asyncio.gather(*(key.get() for _ in range(20)))
    assert len(set(found)) == 1
    assert len(found[0]) == SIZE
    assert await own(store).get(make=False) == found[0]
    assert await own(store, name="y").get() != found[0]


async def test_one_whose_seal_is_broken_is_replaced() -> None:
    store, broken = MemoryStore(), PlainSealer()
    first = await own(store).get()
    broken.broken = "another host"
    with pytest.raises(Unavailable):
        await own(store, broken).get(make=False)
    second = await own(store, broken).get()
    assert second != first
    assert await own(store).get(make=False) == second


async def test_one_that_cannot_be_sealed_is_not_used() -> None:
    class Never(PlainSealer):
        def seal(self, secret: bytes, about: str) -> bytes:
            raise SealBroken("no key file")

    store = MemoryStore()
    with pytest.raises(Unavailable, match="no key file"):
        await own(store, Never()).get()
    assert await store.scan("signing") == []
