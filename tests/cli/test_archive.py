"""Zips from a session: nothing gets out of the target, nothing is overwritten."""

from __future__ import annotations

import io
import stat
import zipfile
from pathlib import Path

import pytest

from pilothouse.cli import archive
from pilothouse.cli.errors import Failure


def packed(*entries: tuple[str, bytes, int]) -> io.BytesIO:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as made:
        for name, data, mode in entries:
            info = zipfile.ZipInfo("x")
            info.filename = name
            info.external_attr = mode << 16
            made.writestr(info, data)
    out.seek(0)
    return out


FILE = stat.S_IFREG | 0o644


def test_files_and_directories(tmp_path: Path) -> None:
    source = packed(("a/b.sh", b"x", stat.S_IFREG | 0o4777), ("empty/", b"", stat.S_IFDIR | 0o755), ("c", b"y", 0))
    result = archive.unpack(source, tmp_path / "new" / "out")
    assert result == archive.Unpacked(2, (), ())
    out = tmp_path / "new" / "out"
    assert (out / "a/b.sh").read_bytes() == b"x"
    assert (out / "a/b.sh").stat().st_mode & 0o7022 == 0  # no setuid, not writable by others
    assert (out / "a/b.sh").stat().st_mode & 0o100
    assert (out / "empty").is_dir()


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/x", "..", "./..", "//x"])
def test_c09_unsafe_names_write_nothing(tmp_path: Path, name: str) -> None:
    with pytest.raises(Failure, match="unsafe name"):
        archive.unpack(packed(("good", b"g", FILE), (name, b"bad", FILE)), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_c09_what_may_do_harm_in_a_name_is_written_out_and_still_leads_nowhere(tmp_path: Path) -> None:
    names = ("a\nb", "C:x", "C:/x", "..\\x", "a\\..\\x", "\u202egpj.exe", "sub/\x1b[31m", "a\x01b", "100%.txt", "%0a")
    made = archive.unpack(packed(*((name, name.encode(), FILE) for name in names)), tmp_path / "out")
    assert made.written == 10
    assert made.renamed == (
        "a%0Ab", "C%3Ax", "C%3A/x", "..%5Cx", "a%5C..%5Cx", "%E2%80%AEgpj.exe", "sub/%1B[31m", "a%01b", "%250a",
    )  # fmt: skip
    assert {str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*") if p.is_file()} == {
        "100%.txt", *made.renamed
    }  # fmt: skip
    for name in ("../x", "/etc/x", "a/../../x"):
        with pytest.raises(Failure, match="unsafe name"):
            archive.unpack(packed((name, b"bad", FILE)), tmp_path / "other")
    (tmp_path / "link").symlink_to(tmp_path / "out")
    with pytest.raises(Failure, match="in the way"):
        archive.unpack(packed(("link/x", b"bad", FILE)), tmp_path, force=True)
    (tmp_path / "file").symlink_to(tmp_path / "out" / "C%3Ax")
    assert archive.unpack(packed(("file", b"bad", FILE)), tmp_path, force=True).kept == ("file",)


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFSOCK])
def test_c09_only_regular_files(tmp_path: Path, kind: int) -> None:
    with pytest.raises(Failure, match="no regular file"):
        archive.unpack(packed(("good", b"g", FILE), ("x", b"/etc/passwd", kind | 0o777)), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_existing_files_stay(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("mine")
    assert archive.unpack(packed(("a", b"theirs", FILE)), tmp_path).kept == ("a",)
    assert (tmp_path / "a").read_text() == "mine"
    archive.unpack(packed(("a", b"theirs", FILE)), tmp_path, force=True)
    assert (tmp_path / "a").read_text() == "theirs"


def test_twice_in_one_archive(tmp_path: Path) -> None:
    assert archive.unpack(packed(("a", b"1", FILE), ("./a", b"2", FILE)), tmp_path).kept == ("a",)
    assert (tmp_path / "a").read_text() == "1"


def test_links_in_the_target_lead_nowhere(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    target = tmp_path / "out"
    target.mkdir()
    (target / "d").symlink_to(outside)
    (target / "f").symlink_to(outside / "f")
    with pytest.raises(Failure, match="in the way"):
        archive.unpack(packed(("d/x", b"x", FILE)), target, force=True)
    assert archive.unpack(packed(("f", b"x", FILE)), target, force=True).kept == ("f",)
    assert list(outside.iterdir()) == []


def test_c09_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "BYTES_MAX", 1000)
    monkeypatch.setattr(archive, "FILES_MAX", 3)
    with pytest.raises(Failure, match="more than 1000 bytes"):
        archive.unpack(packed(("a", b"0" * 600, FILE), ("b", b"0" * 600, FILE)), tmp_path / "one")
    with pytest.raises(Failure, match="at most 3"):
        archive.unpack(packed(*((str(n), b"", FILE) for n in range(4))), tmp_path / "two")


@pytest.mark.parametrize("data", [b"", b"nonsense", b"PK\x03\x04" + b"\0" * 40])
def test_no_archive(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(Failure, match="damaged"):
        archive.unpack(io.BytesIO(data), tmp_path / "out")


def test_a_damaged_member(tmp_path: Path) -> None:
    data = bytearray(packed(("a", b"hello world, hello world", 0)).getvalue())
    data[35] ^= 0xFF
    with pytest.raises(Failure, match="damaged"):
        archive.unpack(io.BytesIO(bytes(data)), tmp_path / "out")


def test_names_that_are_too_long_when_written_out_are_cut_and_stay_two(tmp_path: Path) -> None:
    names = ("\n" * 250, "\n" * 249, "a%0Ab", "a\nb")
    made = archive.unpack(packed(*((name, b"x", FILE) for name in names)), tmp_path / "out")
    assert made.written == 4
    found = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert found[2:] == ["a%0Ab", "a%250Ab"]
    assert all(name.startswith("%0A" * 66) and name[-9] == "~" for name in found[:2])
