"""The one thread that writes: it takes all that waits, runs it in one transaction and answers after the commit.

Batches form by themselves: whatever arrives while one transaction is being committed shares the next. A batch that
fails is rolled back and its units are tried again one by one, so that a bad one, or one too large for what is left of
the disk, fails alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from pilothouse.adapters.stores.schema import connect
from pilothouse.adapters.stores.transaction import Transaction
from pilothouse.engine.ports import StoreFailed

BATCH_UNITS = 256
"""Beyond this a larger batch saves nothing more and only lets its first unit wait."""
BATCH_BYTES = 4 * 1024 * 1024
"""Likewise in bytes."""
CHECKPOINT_BYTES = 4 * 1024 * 1024
"""Bytes appended between two checkpoints: small enough that each takes a few ms of disk time."""
IDLE_S = 1.0
"""A rest of this length is used for a checkpoint."""


@dataclass(frozen=True, slots=True)
class Unit:
    """Work of one caller: all of it is in the store or nothing."""

    work: Callable[[Transaction], Any]
    size: int
    future: asyncio.Future[Any]


_Answer = tuple[asyncio.Future[Any], Any, BaseException | None]


class Writer:
    """Starts its two threads when made; `close` ends them after all that was put before it."""

    def __init__(self, path: Path, loop: asyncio.AbstractEventLoop, *, full: bool, max_pages: int) -> None:
        self._path = path
        self._loop = loop
        self._full = full
        self._max_pages = max_pages
        self._queue: SimpleQueue[Unit | None] = SimpleQueue()
        self._due: SimpleQueue[bool] = SimpleQueue()
        self._checkpointing = threading.Event()
        self._db = self._connect()
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._checkpointer = threading.Thread(target=self._checkpoint, name="store-checkpoint", daemon=True)
        self._thread.start()
        self._checkpointer.start()

    def put(self, unit: Unit) -> None:
        self._queue.put(unit)

    def close(self) -> None:
        """Blocks until everything put before is committed. Harmless to repeat."""
        self._queue.put(None)
        self._thread.join()
        self._due.put(False)
        self._checkpointer.join()
        self._db.close()  # the last connection out makes a full checkpoint and removes the WAL

    def _connect(self) -> sqlite3.Connection:
        db = connect(self._path, full=self._full)
        if self._max_pages:
            db.execute(f"pragma max_page_count={self._max_pages:d}")
        return db

    def _run(self) -> None:
        unsettled = 0
        while True:
            try:
                unit = self._queue.get(timeout=IDLE_S if unsettled else None)
            except Empty:
                unsettled = 0
                self._ask_checkpoint()
                continue
            batch, last = self._gather(unit)
            if batch:
                self._answer(self._together(batch))
                unsettled += sum(unit.size for unit in batch) + 1
                if unsettled > CHECKPOINT_BYTES:
                    unsettled = 0
                    self._ask_checkpoint()
            if last:
                return

    def _gather(self, unit: Unit | None) -> tuple[list[Unit], bool]:
        batch: list[Unit] = []
        size = 0
        while unit is not None:
            batch.append(unit)
            size += unit.size
            if len(batch) >= BATCH_UNITS or size >= BATCH_BYTES:
                return batch, False
            try:
                unit = self._queue.get_nowait()
            except Empty:
                return batch, False
        return batch, True

    def _together(self, batch: list[Unit]) -> list[_Answer]:
        try:
            results = self._transact(batch)
        except Exception as error:  # noqa: BLE001 - not ours to judge: each unit is answered with its own outcome
            if len(batch) == 1:
                return [(batch[0].future, None, _failure(error))]
            return [answer for unit in batch for answer in self._together([unit])]
        return [(unit.future, result, None) for unit, result in zip(batch, results, strict=True)]

    def _transact(self, batch: list[Unit]) -> list[Any]:
        self._db.execute("begin immediate")
        try:
            transaction = Transaction(self._db)
            results = [unit.work(transaction) for unit in batch]
            transaction.flush()
            self._db.execute("commit")
        except BaseException:
            self._rollback()
            raise
        return results

    def _rollback(self) -> None:
        """SQLite rolls some failures back by itself. A connection that cannot even do that is replaced."""
        try:
            if self._db.in_transaction:
                self._db.execute("rollback")
        except sqlite3.Error:
            self._db.close()
            self._db = self._connect()

    def _answer(self, answers: list[_Answer]) -> None:
        """One call into the loop for the whole batch. A loop that has ended has nobody waiting."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(_settle, answers)

    def _ask_checkpoint(self) -> None:
        if not self._checkpointing.is_set():
            self._checkpointing.set()
            self._due.put(True)

    def _checkpoint(self) -> None:
        """Moves the WAL into the file beside the writer, never in its way. A failure is left for the next time: the
        WAL keeps everything, and a disk that is really broken fails commits as well."""
        while self._due.get():
            self._checkpointing.clear()
            with contextlib.suppress(sqlite3.Error), contextlib.closing(connect(self._path)) as db:
                db.execute("pragma wal_checkpoint(passive)")


def _failure(error: Exception) -> Exception:
    if isinstance(error, sqlite3.Error):
        failed = StoreFailed(f"the store could not write: {error}")
        failed.__cause__ = error
        return failed
    return error


def _settle(answers: list[_Answer]) -> None:
    for future, result, error in answers:
        if future.done():
            continue  # whoever asked has gone; what it asked for is done all the same
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)
