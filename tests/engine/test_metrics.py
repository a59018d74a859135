"""Counters of the store, the model calls and the event loop; and what collecting costs."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import pytest

from pilothouse.adapters.stores.memory import MemoryStore
from pilothouse.core.exposition import encode
from pilothouse.core.ids import JobId, SessionId
from pilothouse.engine import metrics as module
from pilothouse.engine.metrics import MODELS, Lag, Metrics
from pilothouse.engine.ports import Commit, Op, Put, StoreFailed, UsageRecord
from pilothouse.engine.resting import Resting
from pilothouse.engine.timed import TimedStore
from tests.engine.fakes import HandClock

RECORD = UsageRecord("p", 1, SessionId("s"), JobId("j"), "claude-x", 200, 10, 20, 30, 40, 0.5, at=1.0, ms=2500)


class FullStore(MemoryStore):
    full = False

    async def commit(self, *ops: Op) -> Commit:
        if self.full:
            raise StoreFailed("full")
        return await super().commit(*ops)


async def test_commits_are_timed_and_failures_counted() -> None:
    store, metrics = FullStore(), Metrics()
    timed = TimedStore(store, metrics)
    await timed.commit(Put("x", "1", b"{}"))
    assert await timed.get("x", "1") == b"{}"
    assert timed.epoch == store.epoch
    store.full = True
    with pytest.raises(StoreFailed):
        await timed.commit(Put("x", "2", b"{}"))
    assert metrics.commit_s.count() == 2
    assert metrics.commits_failed.total == 1


def test_model_calls_are_counted_by_model_and_kind() -> None:
    metrics = Metrics()
    metrics.called(RECORD)
    metrics.called(replace(RECORD, refused="budget", status=402, at=None, ms=None, price_guessed=True))
    assert metrics.calls.value("claude-x", "200") == metrics.calls.value("claude-x", "budget") == 1
    kinds = {kind: metrics.tokens.value("claude-x", kind) for kind in ("input", "output", "cache_read", "cache_write")}
    assert kinds == {"input": 20, "output": 40, "cache_read": 60, "cache_write": 80}
    assert metrics.cost.value("claude-x", "listed") == metrics.cost.value("claude-x", "guessed") == 0.5
    assert metrics.call_s.count("claude-x") == 1


def test_an_agent_that_asks_for_any_model_fills_no_memory() -> None:
    metrics = Metrics()
    for n in range(10_000):
        metrics.called(replace(RECORD, model=f"{n}" * 20))
    assert metrics.calls.total == 10_000
    assert len(encode(metrics.families())) < 200_000
    assert len(metrics.call_s.family().samples) <= (MODELS + 1) * (len(metrics.call_s.bounds) + 3)


async def test_a_loop_that_is_held_up_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LAG_EVERY_S", 0.01)
    metrics = Metrics()
    lag = Lag(metrics.lag)
    lag.start()
    time.sleep(0.1)
    while not metrics.lag.count():
        await asyncio.sleep(0.005)
    lag.close()
    assert metrics.lag.family().samples[-2].value > 0.05


async def test_resting_sessions_are_counted_once_a_minute() -> None:
    store, clock = MemoryStore(), HandClock()
    for n in range(1005):
        await store.commit(Put("session", f"{n:04d}", b'{"state":"stopped"}' if n % 2 else b"{}"))
    resting = Resting(store, clock)
    assert await resting.count() == {"stopped": 502, "new": 503}
    await store.commit(Put("session", "x", b'{"state":"lost"}'))
    assert (await resting.count())["lost"] == 0
    await clock.wind(61)
    assert (await resting.count())["lost"] == 1
