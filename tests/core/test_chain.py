"""What a chain shows: a change of any byte, a record that is gone or elsewhere, and an end that is missing."""

from __future__ import annotations

import hashlib
import json

import pytest

from pilothouse.core import chain
from pilothouse.core.chain import ORIGIN, Actor, Broken, Head, Whole, seal, verify

ME = Actor("person", "local", "local", "signin:ab")


def make(length: int, details: dict[str, chain.Value] | None = None, org: str = "default") -> list[bytes]:
    head, lines = Head(), []
    for n in range(length):
        head, line = seal(
            head, org=org, at=f"2026-01-01T00:00:0{n}.000Z", actor=ME, action="key.create", object=f"key:{n}",
            address="127.0.0.1", outcome="ok", details=details or {},
        )  # fmt: skip
        lines.append(line)
    return lines


ONE = make(1)[0]


def why(lines: list[bytes], head: Head | None = None) -> str:
    found = verify(lines, head)
    assert isinstance(found, Broken)
    return found.why


def test_a_chain_that_is_whole() -> None:
    lines = make(5)
    last = json.loads(lines[-1])
    found = Whole("default", 1, 5, ORIGIN, last["hash"])
    assert verify(lines) == verify(lines, Head(5, last["hash"])) == found
    part = verify(lines[2:])
    assert isinstance(part, Whole)
    assert (part.first, part.prev) == (3, json.loads(lines[1])["hash"])


def test_a_second_reader_of_the_form_finds_the_same_hashes() -> None:
    """By the standard library alone: the docstring says enough to write a checker of one's own."""
    prev = ORIGIN
    for line in make(
        3, {"name": 'é"\\/\x00\x1f\x7f\t\n\u2028\U0001f600', "n": 2**52, "yes": True, "words": ["a", "ß"]}
    ):
        record = json.loads(line)
        digest = record.pop("hash")
        text = json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        assert hashlib.sha256(text.encode()).hexdigest() == digest
        assert record["prev"] == prev
        prev = digest


def test_every_changed_byte_is_found_in_its_record() -> None:
    lines = make(3, {"name": "ci", "scopes": ["read", "run"], "number": 12})
    for at in range(len(lines[1])):
        for flip in (0x01, 0x20, 0x80):
            changed = bytearray(lines[1])
            changed[at] ^= flip
            found = verify([lines[0], bytes(changed), lines[2]])
            assert isinstance(found, Broken), (at, flip)
            assert found.line == 2, (at, flip)


def test_bytes_that_are_put_in_or_left_out_are_found() -> None:
    lines = make(2)
    for at in range(len(lines[0])):
        for text in (b" ", b"0", b"\n"):
            assert isinstance(verify([lines[0][:at] + text + lines[0][at:], lines[1]]), Broken)
        assert isinstance(verify([lines[0][:at] + lines[0][at + 1 :], lines[1]]), Broken)


def test_removed_moved_doubled_and_foreign_records_are_named() -> None:
    lines = make(6)
    assert why(lines[:2] + lines[4:]) == "3 to 4 are missing"
    found = verify([lines[0], lines[2], lines[1], *lines[3:]])
    assert isinstance(found, Broken)
    assert (found.line, found.seq) == (2, 3)
    assert why([*lines[:3], lines[2]]) == "it stands after 3"
    assert "organisation" in why([lines[0], make(2, org="other")[1]])
    assert why([lines[0], make(2, {"other": "way"})[1]]) == "it does not hold the hash of the record before it"


def test_a_record_sealed_anew_breaks_the_next() -> None:
    lines = make(3)
    first = json.loads(lines[0])
    _, forged = seal(
        Head(1, first["hash"]), org="default", at="2026-01-01T00:00:01.000Z", actor=ME, action="key.revoke",
        object="key:1", address="127.0.0.1", outcome="ok", details={},
    )  # fmt: skip
    found = verify([lines[0], forged, lines[2]])
    assert isinstance(found, Broken)
    assert found.seq == 3


def test_a_missing_end_is_seen_only_with_the_head() -> None:
    lines = make(4)
    head = Head(4, json.loads(lines[-1])["hash"])
    assert isinstance(verify(lines[:3]), Whole)
    assert why(lines[:3], head) == "the end is missing: there was a record 4"
    assert "made anew" in why(make(4, {"other": "story"}), head)


def test_a_head_that_was_kept_holds_for_whatever_came_since() -> None:
    lines, other = make(6), make(6, {"other": "story"})
    kept = Head(3, json.loads(lines[2])["hash"])
    assert isinstance(verify(lines, kept), Whole)
    assert isinstance(verify(lines[2:], kept), Whole)
    assert isinstance(verify(lines[3:], kept), Whole), "it goes on from the one that is known"
    assert "made anew" in why(other, kept)
    assert "does not go on" in why(other[3:], kept)
    assert "begins after record 3" in why(lines[4:], kept)


@pytest.mark.parametrize(
    "line",
    [b"", b"{}", b"null", b"\xff\xfe", b"[" * 100_000, b'{"v":1}', ONE + b" ", ONE.replace(b'"v":1', b'"v":2'),
     ONE[:-1] + b',"x":1}', ONE.replace(b'"seq":1', b'"seq":1.0'), ONE.replace(b'"seq":1', b'"seq":0')],
)  # fmt: skip
def test_what_is_no_record_is_refused(line: bytes) -> None:
    found = verify([line])
    assert isinstance(found, Broken)
    assert found.line == 1
    assert why([]) == "there is no record"


def test_texts_are_cut_and_made_sayable() -> None:
    _, line = seal(
        Head(), org="default", at="x", actor=Actor("key", name="\ud800" + "n" * 1000), action="a", object="",
        address="", outcome="ok", details={"text": "x" * 10_000, "list": ["y" * 10_000] * 1000},
    )  # fmt: skip
    record = json.loads(line)
    assert record["actor"]["name"] == "\ufffd" + "n" * 499
    assert len(record["details"]["text"]) == 500
    assert len(record["details"]["list"]) == 100
    assert isinstance(verify([line]), Whole)


@pytest.mark.parametrize(
    "details", [{"a b": "x"}, {"": "x"}, {"a": 1.5}, {"a": None}, {"a": [1]}, {"a": {}}, {"a": 2**60}]
)
def test_what_a_record_cannot_hold_is_refused(details: dict[str, chain.Value]) -> None:
    with pytest.raises(ValueError, match="detail"):
        make(1, details)
