"""Files of secrets in a session whose agent has laid all kinds of things in their place before."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from pilothouse.adapters.sandboxes import memoryfiles

FILES = {"A": "value one", "B": "value two"}


def test_files_are_private_and_gone_with_their_shell(tmp_path: Path) -> None:
    env = memoryfiles.write("s1", FILES, str(tmp_path))
    assert env == {"A_FILE": f"{tmp_path}/secrets/s1/A", "B_FILE": f"{tmp_path}/secrets/s1/B"}
    for name, text in FILES.items():
        path = Path(env[f"{name}_FILE"])
        assert path.read_text() == text
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "secrets" / "s1").stat().st_mode) == 0o700
    memoryfiles.write("s2", FILES, str(tmp_path))
    (tmp_path / "secrets" / "s1" / "more").write_text("of the shell's own")
    memoryfiles.remove("s1", str(tmp_path))
    assert [p.name for p in (tmp_path / "secrets").iterdir()] == ["s2"]
    memoryfiles.remove("s1", str(tmp_path))


def test_c26_nothing_that_was_laid_there_is_written_into_or_followed(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    for lay in (
        lambda run: (run / "secrets").symlink_to(disk),
        lambda run: (run / "secrets").write_text("a file"),
        lambda run: (run / "secrets" / "s1").mkdir(parents=True),
        lambda run: ((run / "secrets").mkdir(), (run / "secrets" / "s1").symlink_to(disk)),
    ):
        run = tmp_path / os.urandom(4).hex()
        run.mkdir()
        lay(run)
        with pytest.raises(OSError, match=r"."):
            memoryfiles.write("s1", FILES, str(run))
        memoryfiles.remove("s1", str(run))
        assert list(disk.iterdir()) == []


def test_half_of_them_is_none(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"."):
        memoryfiles.write("s1", FILES | {"C" * 300: "no such name"}, str(tmp_path))
    assert list((tmp_path / "secrets").iterdir()) == []
