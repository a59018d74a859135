"""A store that says how long its commits take. Everything else is the store's own."""

from __future__ import annotations

import time

from pilothouse.engine.metrics import Metrics
from pilothouse.engine.ports import Commit, EventStore, Op, StoreFailed


class TimedStore:
    def __init__(self, store: EventStore, metrics: Metrics) -> None:
        self._commit = store.commit
        self._spread = metrics.commit_s
        self._failed = metrics.commits_failed
        self.epoch = store.epoch
        self.read = store.read
        self.get = store.get
        self.scan = store.scan
        self.marked = store.marked
        self.trim = store.trim
        self.fold = store.fold
        self.close = store.close

    async def commit(self, *ops: Op) -> Commit:
        since = time.perf_counter()
        try:
            return await self._commit(*ops)
        except StoreFailed:
            self._failed.add()
            raise
        finally:
            self._spread.add(time.perf_counter() - since)
