"""The agent's own directory before each start: what it remembers stays, whatever configures it goes."""

from __future__ import annotations

from pathlib import Path

import pytest

from pilothouse.adapters.agents.claude import house


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "home" / ".claude"
    directory.mkdir(parents=True)
    monkeypatch.setenv("CLAUDE_CONFIG_DIR", str(directory))
    monkeypatch.setenv(house.OWN_HOME, "1")
    return directory


def names(path: Path) -> set[str]:
    return {p.name for p in path.iterdir()}


def remember(here: Path) -> None:
    (here / "projects" / "-workspace").mkdir(parents=True)
    (here / "projects" / "-workspace" / "talk.jsonl").write_text("said")


def test_what_it_remembers_stays(here: Path) -> None:
    remember(here)
    for name in ("settings.json", ".claude.json", "hooks.json"):
        (here / name).write_text("{}")
    (here / "plugins" / "evil").mkdir(parents=True)
    for _ in range(2):
        house.clear()
        assert names(here) == {"projects"}
        assert names(here.parent) == {".claude"}
    assert (here / "projects" / "-workspace" / "talk.jsonl").read_text() == "said"


def test_a_link_is_not_followed(here: Path, tmp_path: Path) -> None:
    evil = tmp_path / "evil"
    remember(evil)
    (evil / "settings.json").write_text("{}")
    here.rmdir()
    here.symlink_to(evil)
    (here.parent / ".claude.new").symlink_to(evil)
    (here.parent / ".claude.old").symlink_to(evil)
    house.clear()
    assert not here.is_symlink()
    assert names(here) == set()
    assert names(evil) == {"projects", "settings.json"}, "what it pointed to is left alone"


def test_what_is_remembered_is_no_link_either(here: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (here / "projects").symlink_to(tmp_path / "elsewhere")
    (here / "plans").write_text("a file")
    house.clear()
    assert names(here) == set()


def test_a_clearing_that_was_cut_short_loses_no_conversation(here: Path) -> None:
    half = here.parent / ".claude.new"
    remember(half)
    (half / "settings.json").write_text("{}")
    (here / "settings.json").write_text("{}")
    (here / "plans").mkdir()
    house.clear()
    assert names(here) == {"projects", "plans"}
    assert names(here.parent) == {".claude"}


def test_directories_that_forbid_it_are_cleared_too(here: Path) -> None:
    deep = here / "plugins" / "evil"
    deep.mkdir(parents=True)
    (deep / "hook").write_text("x")
    deep.chmod(0o500)
    here.chmod(0o500)
    house.clear()
    assert names(here) == set()


def test_there_may_be_nothing_yet_or_a_file_in_its_place(here: Path) -> None:
    here.rmdir()
    house.clear()
    assert names(here) == set()
    here.rmdir()
    here.write_text("a file")
    house.clear()
    assert names(here) == set()


def test_a_persons_own_directory_is_left_alone(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(house.OWN_HOME)
    (here / "settings.json").write_text("mine")
    house.clear()
    assert names(here) == {"settings.json"}
