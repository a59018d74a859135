"""Certificate and key: what is wrong with a pair is said, and a changed one is taken whole or not at all."""

from __future__ import annotations

import datetime
import os
import shutil
import ssl
from pathlib import Path

import pytest

from pilothouse.web.certificate import BadPairError, Certificate, Pair, load
from tests.certificates import DAY, Authority

NOW = datetime.datetime.now(datetime.UTC)


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.make()


class Notes:
    def __init__(self) -> None:
        self.said: list[tuple[str, str]] = []

    def __call__(self, kind: str, text: str) -> None:
        self.said.append((kind, text))


def test_only_what_is_current_is_spoken(authority: Authority, tmp_path: Path) -> None:
    pair = load(*authority.write(tmp_path, "a.example", "10.0.0.7", "2001:db8::7"))
    assert pair.context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert pair.context.options & ssl.OP_NO_RENEGOTIATION
    assert pair.context.options & ssl.OP_NO_COMPRESSION
    offered = {c["name"] for c in pair.context.get_ciphers() if c["protocol"] == "TLSv1.2"}
    assert offered
    assert all(name.startswith("ECDHE-") and ("GCM" in name or "CHACHA20" in name) for name in offered)
    assert pair.names == ("a.example", "10.0.0.7", "[2001:db8::7]")


def wrong(authority: Authority, at: Path) -> dict[str, tuple[Path, Path, str]]:
    """Cases: certificate, key, and what the error says."""
    cert, key = authority.write(at, "a.example")
    other_cert, other_key = authority.write(at, "b.example", stem="other")
    _, sealed = authority.write(at, "a.example", password=b"secret", stem="sealed")
    empty, text, directory, huge = at / "empty", at / "text", at / "directory", at / "huge"
    empty.touch()
    text.write_text("-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n")
    directory.mkdir()
    huge.write_bytes(b"x" * 2_000_000)
    old = at / "old.key"
    old.write_text("-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nabc\n-----END RSA PRIVATE KEY-----\n")
    half = at / "half.key"
    half.write_bytes(key.read_bytes()[:100])
    pipe = at / "pipe"
    os.mkfifo(pipe)
    return {
        "another's key": (cert, other_key, "does not belong"),
        "another's certificate": (other_cert, key, "does not belong"),
        "the two swapped": (key, cert, "server.tls_cert"),
        "encrypted": (cert, sealed, "encrypted"),
        "encrypted in the old way": (cert, old, "encrypted"),
        "half a key": (cert, half, "cannot be used"),
        "empty certificate": (empty, key, "no certificate"),
        "empty key": (cert, empty, "no private key"),
        "nonsense": (text, key, "no certificate"),
        "no such certificate": (at / "none", key, "server.tls_cert"),
        "no such key": (cert, at / "none", "server.tls_key"),
        "a directory": (cert, directory, "no file"),
        "a pipe": (pipe, key, "no file"),
        "something else": (huge, key, "longer than"),
        "a name that is too long": (cert, at / ("x" * 300), "server.tls_key"),
    }


def test_each_way_to_be_wrong_is_named(authority: Authority, tmp_path: Path) -> None:
    for what, (cert, key, word) in wrong(authority, tmp_path).items():
        with pytest.raises(BadPairError, match=word) as told:
            load(cert, key)
        assert str(cert) in str(told.value) or str(key) in str(told.value), what


def test_what_will_keep_people_away_is_said_at_the_start(authority: Authority, tmp_path: Path) -> None:
    cert, key = authority.write(tmp_path, "a.example", "*.b.example")
    names = ("a.example", "x.b.example", "localhost", "127.0.0.1", "[::1]")
    assert Certificate(cert, key).worries(names, NOW) == []
    (worry,) = Certificate(cert, key).worries(("a.example", "c.example"), NOW)
    assert "does not name c.example" in worry
    ended = Certificate(*authority.write(tmp_path, "a.example", begins=-2 * DAY, ends=-DAY)).worries((), NOW)
    early = Certificate(*authority.write(tmp_path, "a.example", begins=DAY, ends=2 * DAY)).worries((), NOW)
    assert ["has ended" in w for w in ended] == [True]
    assert ["begins on" in w for w in early] == [True]
    key.chmod(0o644)
    assert any("chmod o=" in worry for worry in Certificate(cert, key).worries((), NOW + 1.5 * DAY))


def test_files_that_are_out_of_reach_after_the_start_are_named_and_end_nothing(
    authority: Authority, tmp_path: Path
) -> None:
    """As in a directory that root alone may enter, once root is given up."""
    cert, key = authority.write(tmp_path, "a.example")
    used, notes = Certificate(cert, key), Notes()
    assert used.unreadable() == ""
    key.unlink()
    assert used.unreadable() == str(key)
    assert used.worries(("a.example",), NOW) == []
    used.check(notes)
    assert notes.said == [], "it was named, once"
    assert used.pair.names == ("a.example",)
    authority.write(tmp_path, "b.example")
    used.check(notes)
    assert used.pair.names == ("b.example",), "and is taken when it can be read again"


def test_a_changed_pair_is_taken_and_a_broken_one_is_not(authority: Authority, tmp_path: Path) -> None:
    cert, key = authority.write(tmp_path, "a.example")
    used, notes = Certificate(cert, key), Notes()
    first = used.pair
    changes: list[Pair] = []
    used.on_change.append(changes.append)
    used.check(notes)
    assert (used.pair, notes.said) == (first, [])

    other, other_key = authority.write(tmp_path, "b.example", stem="other")
    other.rename(cert)  # the certificate is there before its key
    used.check(notes)
    used.check(notes)
    assert used.pair is first
    assert [kind for kind, _ in notes.said] == ["certificate_refused"], "said once"
    assert "stays in use" in notes.said[0][1]

    other_key.rename(key)
    used.check(notes)
    assert used.pair.names == ("b.example",)
    assert used.pair.fingerprint != first.fingerprint
    assert changes == [used.pair]
    assert notes.said[-1][0] == "certificate_changed"

    cert.unlink()
    used.check(notes)
    assert used.pair.names == ("b.example",)
    assert "cannot be read" in notes.said[-1][1]


def test_links_that_are_led_elsewhere_are_a_change(authority: Authority, tmp_path: Path) -> None:
    """As certbot and Kubernetes do it: the name stays, what it leads to is another."""
    for number in ("1", "2"):
        (tmp_path / number).mkdir()
        authority.write(tmp_path / number, f"{number}.example")
    link = tmp_path / "live"
    link.symlink_to("1")
    used, notes = Certificate(link / "server.crt", link / "server.key"), Notes()
    new = tmp_path / "new"
    new.symlink_to("2")
    new.rename(link)
    used.check(notes)
    assert used.pair.names == ("2.example",)


def test_a_file_that_is_written_in_place_is_a_change(authority: Authority, tmp_path: Path) -> None:
    cert, key = authority.write(tmp_path, "a.example")
    used, notes = Certificate(cert, key), Notes()
    other, other_key = authority.write(tmp_path, "b.example", stem="other")
    shutil.copyfile(other, cert)
    shutil.copyfile(other_key, key)
    used.check(notes)
    assert used.pair.names == ("b.example",)
