"""`pilothouse secret`: how a value comes in, and that it goes nowhere but to the server."""

from __future__ import annotations

import os
import pty
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Pilothouse
from tests.cli.fake import SESSION, FakeServer

VALUE = "pQ9r8Ls7Mt6Nu5Ov4Pw3Qx2Ry1Sz"


GIT = {"git": "https://x/a.git"}


@pytest.mark.parametrize(
    ("words", "given", "path", "body"),
    [
        ([], VALUE + "\n", "/api/secrets/A", {}),
        (["--for", "both"], VALUE + "\n\n", "/api/secrets/A", {"value": VALUE + "\n", "for": "both"}),
        (["--session", SESSION, "--file"], VALUE, f"/api/sessions/{SESSION}/secrets/A", {"file": True}),
        (["--project", GIT["git"]], VALUE, "/api/secrets/A", {"project": GIT}),
        (["--project", "/tmp/../srv"], VALUE, "/api/secrets/A", {"project": {"dir": "/srv"}}),
    ],
)
async def test_a_value_comes_from_standard_input(
    pilothouse: Pilothouse, server: FakeServer, words: list[str], given: str, path: str, body: dict[str, Any]
) -> None:
    ended = await pilothouse("secret", "set", "A", *words, given=given.encode())
    assert (ended.status, ended.out) == (0, "set A (account)\n"), ended.err
    assert server.asked("PUT", path) == [{"value": VALUE, **body}]
    assert VALUE not in ended.out + ended.err


async def test_a_value_comes_from_a_file_as_it_is(pilothouse: Pilothouse, server: FakeServer, tmp_path: Path) -> None:
    (tmp_path / "value").write_bytes(f"{VALUE}\n".encode())
    ended = await pilothouse("secret", "set", "A", "--from-file", str(tmp_path / "value"))
    assert ended.status == 0, ended.err
    assert server.asked("PUT", "/api/secrets/A")[0]["value"] == VALUE + "\n"


async def test_a_person_types_it_without_seeing_it(pilothouse: Pilothouse, server: FakeServer) -> None:
    master, slave = pty.openpty()
    child = await pilothouse.start("secret", "set", "A", stdin=slave, stderr=slave, start_new_session=True)
    os.close(slave)
    shown = os.read(master, 1000)
    os.write(master, VALUE.encode() + b"\n")
    assert await child.wait() == 0
    shown += os.read(master, 1000)
    os.close(master)
    assert b"A" in shown
    assert VALUE.encode() not in shown
    assert server.asked("PUT", "/api/secrets/A")[0]["value"] == VALUE


async def test_a_short_one_is_said_to_be_too_short(pilothouse: Pilothouse) -> None:
    ended = await pilothouse("secret", "set", "A", given=b"short")
    assert ended.status == 0
    assert "so short that it is not masked" in ended.err


@pytest.mark.parametrize(
    ("words", "given", "why"),
    [
        (["set", "PATH"], VALUE, "PATH may not be set"),
        (["set", "a"], VALUE, "is no name"),
        (["set", "A"], "", "it is empty"),
        (["set", "A"], "\n", "it is empty"),
        (["set", "A"], VALUE + "\0", "NUL"),
        (["set", "A"], VALUE * 1000, "more than 16384"),
        (["set", "A", VALUE], VALUE, "unexpected extra argument"),
        (["set", "A", "--from-file", "/nowhere"], VALUE, "does not exist"),
        (["set", "A", "--for", "all"], VALUE, "'all' is not one of"),
        (["set", "A", "--session", SESSION, "--project", "/x"], VALUE, "exclude each other"),
        (["set", "A", "--session", "x"], VALUE, "is no id"),
    ],
)
async def test_wrong_words_are_named(
    pilothouse: Pilothouse, server: FakeServer, words: list[str], given: str, why: str
) -> None:
    ended = await pilothouse("secret", *words, given=given.encode())
    assert ended.status == 2
    assert why in ended.err
    assert server.calls == []


async def test_bytes_that_are_no_text_are_refused(pilothouse: Pilothouse, server: FakeServer) -> None:
    ended = await pilothouse("secret", "set", "A", given=b"\xff\xfe" * 10)
    assert (ended.status, server.calls) == (2, [])
    assert "UTF-8" in ended.err


async def test_names_are_listed_and_removed(pilothouse: Pilothouse, server: FakeServer) -> None:
    listed = await pilothouse("secret", "list")
    assert [line.split()[:4] for line in listed.out.splitlines()] == [
        ["NAME", "OF", "FOR", "AS"],
        ["A", "account", "shells", "environment"],
        ["B", "https://x/a.git", "shells", "file"],
    ]
    assert "too short to mask" in listed.out
    removed = await pilothouse("secret", "remove", "B", "--project", "https://x/a.git")
    assert (removed.status, removed.out) == (0, "removed B\n"), removed.err
