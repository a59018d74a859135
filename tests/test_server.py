"""The wiring's own parts."""

from __future__ import annotations

import errno

from pilothouse import server


class FullDisk:
    """A logger whose file is on it."""

    asked = 0

    def info(self, what: str, **fields: object) -> None:
        self.asked += 1
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_note_that_cannot_be_written_stops_nothing() -> None:
    logger = FullDisk()
    server._noter(logger)("store_failed", session="s", error="the disk is full")
    assert logger.asked == 1
