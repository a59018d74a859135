"""`pilothouse audit` against the doors of a real server, and `verify` without any."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.cli.conftest import Pilothouse
from tests.web.serving import Served, serving


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with serving() as running:
        yield running


@pytest.fixture
async def audited(served: Served, tmp_path: Path) -> Pilothouse:
    made = Pilothouse(tmp_path / "home", served)  # type: ignore[arg-type]
    made.env["PILOTHOUSE_API_KEY"] = await served.key()
    return made


async def fill(served: Served, count: int) -> None:
    for n in range(count):
        await served.platform.kit.audit.note(None, "key.create", f"key:{n}", "192.0.2.7", name=f"k{n}\u202e\x1b[31m")


async def test_an_export_is_checked_and_what_was_done_to_it_is_named(
    audited: Pilothouse, served: Served, tmp_path: Path
) -> None:
    await fill(served, 450)  # more than two pages
    exported = await audited("audit", "--json")
    assert exported.status == 0, exported.err
    lines = exported.out.splitlines(keepends=True)
    assert [json.loads(line)["seq"] for line in lines] == list(range(1, 452))
    head = (await audited("audit", "head")).out.strip()
    assert head == f"451:{json.loads(lines[-1])['hash']}"

    async def verify(text: str, *options: str) -> tuple[int, str]:
        file = tmp_path / "audit.jsonl"
        file.write_text(text, newline="")
        ended = await audited("audit", "verify", str(file), *options)
        return ended.status, ended.out + ended.err

    assert await verify(exported.out, "--head", head) == (0, f"whole: records 1 to 451 of default, newest {head}\n")
    status, said = await verify("".join(lines[:-1]))
    assert status == 0
    assert "seen only with --head" in said
    status, said = await verify("".join(lines[:-1]), "--head", head)
    assert (status, said) == (1, "broken at record 451 (line 451): the end is missing: there was a record 451\n")
    status, said = await verify(exported.out.replace('"key:200"', '"key:201"'))
    assert (status, said) == (1, "broken at record 202 (line 202): its content is not what its hash says\n")
    status, said = await verify("".join(lines[9:]))
    assert status == 0
    assert "It begins with record 10" in said
    piped = await audited("audit", "verify", "-", given=exported.out.encode())
    assert piped.status == 0


async def test_verify_needs_no_server_and_names_what_it_cannot_read(audited: Pilothouse, tmp_path: Path) -> None:
    audited.env["PILOTHOUSE_URL"] = "http://127.0.0.1:1"
    empty = tmp_path / "empty"
    empty.write_bytes(b"")
    assert (await audited("audit", "verify", str(empty))).err == "broken at record 1 (line 1): there is no record\n"
    huge = tmp_path / "huge"
    huge.write_bytes(b"x" * 3_000_000)
    assert "it is no record" in (await audited("audit", "verify", str(huge))).err
    for words in (["audit", "verify", str(tmp_path / "none")], ["audit", "verify", str(empty), "--head", "1:xyz"]):
        assert (await audited(*words)).status == 2


async def test_people_read_columns_without_control_characters(audited: Pilothouse, served: Served) -> None:
    await fill(served, 2)
    ended = await audited("audit", "--after", "1")
    assert ended.status == 0, ended.err
    first, second, third = ended.out.splitlines()
    assert first.split() == ["SEQ", "TIME", "WHO", "FROM", "ACTION", "OBJECT", "OUTCOME", "DETAILS"]
    assert "nobody" in second
    assert "192.0.2.7" in third
    assert "<U+202E>" in third
    assert "\x1b" not in ended.out


async def test_follow_goes_on_until_it_is_told_to_end(audited: Pilothouse, served: Served) -> None:
    child = await audited.start("audit", "--follow", "--json")
    assert child.stdout is not None
    try:
        async with asyncio.timeout(30):
            assert json.loads(await child.stdout.readline())["seq"] == 1
            await fill(served, 1)
            assert json.loads(await child.stdout.readline())["object"] == "key:0"
            child.send_signal(signal.SIGINT)
            assert await child.wait() == 0
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()


async def test_a_key_without_the_scope_is_told(audited: Pilothouse, served: Served) -> None:
    audited.env["PILOTHOUSE_API_KEY"] = await served.key("read", "run", "approve")
    ended = await audited("audit")
    assert ended.status == 1
    assert "admin" in ended.err


async def test_a_key_is_made_with_rates_of_its_own(audited: Pilothouse, served: Served) -> None:
    ended = await audited("keys", "create", "--rate-per-s", "2.5", "--rate-burst", "5", "--quota-per-day", "0")
    assert ended.status == 0, ended.err
    (key,) = [k for k in await served.identity.keys.all() if k.rates is not None]
    assert key.rates is not None
    assert (key.rates.per_s, key.rates.burst, key.rates.per_day) == (2.5, 5, 0)


async def test_the_server_s_admins_read_another_organisation_s(audited: Pilothouse, served: Served) -> None:
    await served.identity.members.make("red", None)
    await served.identity.members.put("red", "ann", role="viewer")
    theirs = await audited("audit", "--organisation", "red", "--json")
    assert [json.loads(line)["action"] for line in theirs.out.splitlines()] == ["organisation.create", "member.add"]
    head = await audited("audit", "head", "--organisation", "red")
    assert head.out.startswith("2:")
    assert (await audited("audit", "--organisation", "none")).status != 0
