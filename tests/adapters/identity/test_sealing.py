"""The key file: made once, for its user alone, and never taken from somebody else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pilothouse.adapters.identity.sealing import KeyFile, KeyFileError
from pilothouse.engine.ports import SealBroken


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sealing.key"


def test_what_is_sealed_opens_after_a_restart_and_for_its_own_record_alone(path: Path) -> None:
    sealed = KeyFile(path).seal(b"secret", "PHKA1")
    assert b"secret" not in sealed
    assert KeyFile(path).unseal(sealed, "PHKA1") == b"secret"
    with pytest.raises(SealBroken):
        KeyFile(path).unseal(sealed, "PHKA2")
    for damaged in (sealed[:-1], sealed[:5], b"", sealed[:12] + b"\0" + sealed[13:]):
        with pytest.raises(SealBroken):
            KeyFile(path).unseal(damaged, "PHKA1")


def test_the_same_secret_is_never_sealed_alike(path: Path) -> None:
    keys = KeyFile(path)
    assert len({keys.seal(b"secret", "x") for _ in range(20)}) == 20


def test_the_file_is_made_at_the_first_seal_for_its_user_alone(path: Path) -> None:
    old = os.umask(0)
    try:
        keys = KeyFile(path)
        assert not path.exists()
        keys.seal(b"a", "x")
        keys.seal(b"b", "x")
    finally:
        os.umask(old)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.stat().st_size == 32
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666])
def test_a_file_that_others_may_read_is_refused(path: Path, mode: int) -> None:
    KeyFile(path).seal(b"a", "x")
    path.chmod(mode)
    with pytest.raises(KeyFileError, match="chmod 600"):
        KeyFile(path)


def test_what_is_no_file_of_ours_is_refused(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(b"k" * 32)
    other.chmod(0o600)
    path.symlink_to(other)
    with pytest.raises(KeyFileError, match="cannot be read"):
        KeyFile(path)
    path.unlink()
    os.mkfifo(path, 0o600)
    with pytest.raises(KeyFileError, match="not a file"):
        KeyFile(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(KeyFileError, match="not a file"):
        KeyFile(path)


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_file_of_another_size_is_refused(path: Path, size: int) -> None:
    path.write_bytes(b"k" * size)
    path.chmod(0o600)
    with pytest.raises(KeyFileError, match="32 bytes"):
        KeyFile(path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_user_is_refused(path: Path) -> None:
    KeyFile(path).seal(b"a", "x")
    os.chown(path, 12345, -1)
    with pytest.raises(KeyFileError, match="uid 12345"):
        KeyFile(path)


def test_without_its_file_nothing_opens(path: Path) -> None:
    sealed = KeyFile(path).seal(b"a", "x")
    path.unlink()
    with pytest.raises(SealBroken, match="missing"):
        KeyFile(path).unseal(sealed, "x")
    another = KeyFile(path)
    another.seal(b"b", "x")
    with pytest.raises(SealBroken, match="not the file"):
        another.unseal(sealed, "x")


def test_what_came_meanwhile_is_not_written_over(path: Path) -> None:
    first, second = KeyFile(path), KeyFile(path)
    sealed = first.seal(b"a", "x")
    with pytest.raises(SealBroken, match="cannot be made"):
        second.seal(b"b", "x")
    assert KeyFile(path).unseal(sealed, "x") == b"a"


def test_a_folder_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    with pytest.raises(SealBroken, match="cannot be made"):
        KeyFile(tmp_path / "nowhere" / "sealing.key").seal(b"a", "x")
