"""Signed links: bound to their artifact, over in time, and signed by this installation alone."""

from __future__ import annotations

import urllib.parse

import pytest

from pilothouse.adapters.stores.memory import MemoryStore
from pilothouse.core.errors import NotFound, TooMany
from pilothouse.core.ids import ArtifactId
from pilothouse.engine import signedlinks
from pilothouse.engine.signedlinks import SignedLinks
from tests.engine.fakes import HandClock, PlainSealer

ONE = ArtifactId("00000000-0000-4000-8000-000000000001")


def parts(url: str) -> tuple[str, str]:
    query = urllib.parse.parse_qs(urllib.parse.urlsplit(url).query)
    return query["expires"][0], query["signature"][0]


async def test_it_ends_when_its_time_is_up_and_outlives_a_restart() -> None:
    store, clock = MemoryStore(), HandClock()
    url, expires = await SignedLinks(store, clock, PlainSealer()).make(ONE, 10_000)
    assert expires == clock.now() + signedlinks.LIFE_MAX_S  # no more than may be
    links = SignedLinks(store, clock, PlainSealer())
    await links.check(ONE, *parts(url))
    await clock.wind(signedlinks.LIFE_MAX_S - 1)
    await links.check(ONE, *parts(url))
    await clock.wind(1)
    with pytest.raises(NotFound):
        await links.check(ONE, *parts(url))


async def test_another_installation_signs_otherwise() -> None:
    clock = HandClock()
    url, _ = await SignedLinks(MemoryStore(), clock, PlainSealer()).make(ONE)
    other = SignedLinks(MemoryStore(), clock, PlainSealer())
    with pytest.raises(NotFound):
        await other.check(ONE, *parts(url))  # it has signed nothing yet
    await other.make(ONE)
    with pytest.raises(NotFound):
        await other.check(ONE, *parts(url))


async def test_the_key_is_kept_sealed_and_made_anew_when_the_seal_is_lost() -> None:
    store, sealer = MemoryStore(), PlainSealer()
    await SignedLinks(store, HandClock(), sealer).make(ONE)
    before = await store.get("signing", "artifacts")
    sealer.broken = "another's"
    await SignedLinks(store, HandClock(), sealer).make(ONE)
    assert before != await store.get("signing", "artifacts")


async def test_downloads_by_links_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signedlinks, "OPEN_MAX", 1)
    links = SignedLinks(MemoryStore(), HandClock(), PlainSealer())
    with links.room(), pytest.raises(TooMany), links.room():
        pass
    with links.room():
        pass
