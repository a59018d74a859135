"""The numbers that sessions run under."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pilothouse.adapters.sandboxes import layout
from pilothouse.adapters.sandboxes.layout import FIRST_UIDS, Layout, LayoutError, next_uid


@pytest.fixture
def place(tmp_path: Path) -> tuple[Layout, Path]:
    return Layout(tmp_path / "h", tmp_path / "r"), tmp_path / "machine"


def mapped(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(layout, "_mapped", lambda uid: uid < count)


def test_no_number_twice_whatever_the_home(place: tuple[Layout, Path], tmp_path: Path) -> None:
    here, machine = place
    other = Layout(tmp_path / "h2", tmp_path / "r2")
    given = [next_uid(where, machine) for where in (here, other, here, other)]
    assert len(set(given)) == 4
    assert min(given) >= 60_001


def test_old_small_numbers_are_left_behind(place: tuple[Layout, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    here, machine = place
    mapped(monkeypatch, 2**32 - 1)
    machine.mkdir()
    (machine / "next-uid").write_text("61414\n")
    assert next_uid(here, machine) == FIRST_UIDS[0]
    assert next_uid(here, machine) == FIRST_UIDS[0] + 1


def test_a_container_has_fewer_and_then_none(place: tuple[Layout, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    here, machine = place
    mapped(monkeypatch, 65_536)
    assert next_uid(here, machine) == 60_001
    (machine / "next-uid").write_text("65533\n")
    assert next_uid(here, machine) == 65_533
    with pytest.raises(LayoutError, match="no uid is left"):
        next_uid(here, machine)


@pytest.mark.parametrize("text", ["", "-5\n", "x\n"])
def test_a_counter_that_is_none_gives_no_number(place: tuple[Layout, Path], text: str) -> None:
    here, machine = place
    machine.mkdir()
    (machine / "next-uid").write_text(text)
    if text.startswith("-"):
        assert next_uid(here, machine) in FIRST_UIDS
    else:
        with pytest.raises(LayoutError, match="not a number"):
            next_uid(here, machine)


def test_a_linked_counter_is_not_followed(place: tuple[Layout, Path], tmp_path: Path) -> None:
    here, machine = place
    machine.mkdir()
    (machine / "next-uid.lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        next_uid(here, machine)
    assert not os.path.lexists(tmp_path / "elsewhere")
