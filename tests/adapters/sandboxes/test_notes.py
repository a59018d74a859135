"""What is noted of a session's source, on a disk that takes nothing more."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pilothouse.adapters.sandboxes.layout import Layout
from pilothouse.adapters.sandboxes.notes import Notes
from pilothouse.core.errors import Unavailable
from pilothouse.core.events import Source
from pilothouse.core.ids import SessionId

SESSION = SessionId("01a1fd62-ab40-7d47-b406-98f24df494ef")
GIT = Source(git="https://example.org/x.git")


def test_a_note_is_read_again_and_gone_when_removed(tmp_path: Path) -> None:
    notes = Notes(Layout(tmp_path, tmp_path))
    assert notes.read(SESSION) is None
    notes.write(SESSION, GIT)
    assert notes.read(SESSION) == GIT
    notes.remove(SESSION)
    assert notes.read(SESSION) is None


def test_a_full_disk_is_said_in_words_and_stops_only_what_is_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = Notes(Layout(tmp_path, tmp_path))
    notes.write(SESSION, GIT)

    def full(*_: object, **__: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "rename", full)
    notes.write(SESSION, GIT)
    with pytest.raises(Unavailable, match="No space left"):
        notes.write(SESSION, Source())
    assert notes.read(SESSION) == GIT
