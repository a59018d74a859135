"""The network on the command line: chosen for a session, shown, followed, changed."""

from __future__ import annotations

import asyncio
import json
import signal
from typing import Any

import msgspec
import pytest

from pilothouse.cli import card, wire
from pilothouse.cli.style import Style
from tests.cli.conftest import Pilothouse
from tests.cli.fake import SESSION, FakeServer


def contact(host: str = "pypi.org", **more: Any) -> dict[str, Any]:
    return {
        "host": host, "port": 443, "verdict": "allowed", "reason": "listed", "count": 1,
        "first": "2026-11-21T09:00:00.000Z", "last": "2026-11-21T09:00:01.000Z",
        "bytesIn": 2048, "bytesOut": 10, **more,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("options", "egress"),
    [
        (["--network", "off"], {"policy": "off"}),
        (["--network", "full"], {"policy": "full"}),
        (
            ["--allow-domain", "a.org", "--allow-domain", "*.b.org"],
            {"policy": "allow", "domains": ["a.org", "*.b.org"]},
        ),
        ([], None),
    ],
)
async def test_a_run_chooses_what_its_session_reaches(
    pilothouse: Pilothouse, server: FakeServer, options: list[str], egress: dict[str, Any] | None
) -> None:
    server.script = [server.complete()]
    ended = await pilothouse("run", *options, "hello")
    assert ended.status == 0, ended.err
    [made] = server.asked("POST", "/api/sessions")
    assert made.get("egress") == egress


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["run", "x", "--network", "off", "--allow-domain", "a.org"], "goes with the policy allow, not with off"),
        (["run", "x", "--network", "open"], "'open' is not one of"),
        (["run", "x", "--session", SESSION, "--network", "off"], "--network is for a new session"),
        (["run", "x", "--session", SESSION, "--allow-domain", "a.org"], "--allow-domain is for a new session"),
        (["network", "nowhere"], "is no id"),
        (["network", SESSION, "--policy", "full", "--allow-domain", "a.org"], "not with full"),
    ],
)
async def test_wrong_words_are_named(pilothouse: Pilothouse, server: FakeServer, words: list[str], why: str) -> None:
    ended = await pilothouse(*words)
    assert ended.status == 2
    assert why in ended.err
    assert not server.asked("POST", "/api/sessions")


async def test_contacts_are_shown_and_nothing_in_a_name_is_obeyed(pilothouse: Pilothouse, server: FakeServer) -> None:
    evil = "evil\x1b[2J\u202e.test"
    refused = {"verdict": "refused", "bytesIn": 0, "bytesOut": 0}
    server.network["contacts"] = [
        contact(),
        contact(evil, reason="not_listed", **refused),
        contact("", port=0, reason="malformed", count=3, **refused),
    ]
    ended = await pilothouse("network", SESSION)
    assert ended.status == 0, ended.err
    first, head, *rows = ended.out.splitlines()
    assert first == "policy: allow (pypi.org)"
    assert head.split() == ["HOST", "TIMES", "IN", "OUT", "LAST", "WHY"]
    assert [row.split()[0] for row in rows] == ["allowed", "refused", "refused"]
    assert "pypi.org:443" in rows[0]
    assert rows[0].endswith("on the list")
    assert "evil<U+001B>[2J<U+202E>.test:443" in rows[1]
    assert "\x1b" not in ended.out
    assert "(several)" in rows[2]
    raw = await pilothouse("network", SESSION, "--json")
    assert json.loads(raw.out) == server.network


async def test_the_policy_is_changed(pilothouse: Pilothouse, server: FakeServer) -> None:
    ended = await pilothouse("network", SESSION, "--allow-domain", "a.org")
    assert (ended.status, ended.out) == (0, "policy: allow (a.org)\n")
    assert server.asked("PUT", f"/api/sessions/{SESSION}/egress") == [{"policy": "allow", "domains": ["a.org"]}]


async def test_following_shows_each_change_once_over_a_restart(pilothouse: Pilothouse, server: FakeServer) -> None:
    server.network["contacts"] = [contact()]
    whole = {**server.network, "contacts": [contact(), contact("new.org")]}
    server.streams = [
        [{**server.network}, {**whole, "contacts": [contact("new.org")]}],
        [whole, {**whole, "contacts": [contact(count=2)]}],
    ]
    child = await pilothouse.start("network", SESSION, "--follow", "--json")
    assert child.stdout is not None
    seen: list[list[tuple[str, int]]] = []
    async with asyncio.timeout(60):
        while len(seen) < 3:
            view = json.loads(await child.stdout.readline())
            seen.append([(c["host"], c["count"]) for c in view["contacts"]])
    child.send_signal(signal.SIGINT)
    _, err = await asyncio.wait_for(child.communicate(), 30)
    assert seen == [[("pypi.org", 1)], [("new.org", 1)], [("pypi.org", 2)]]
    assert (child.returncode, err) == (0, b"")


def test_a_connection_is_asked_for_in_words() -> None:
    item = wire.Approval(
        approval_id="a", session_id="s", job_id=None, tool_id="t", tool="network", options=[], reason="", created_at="",
        input={"host": "example.org", "port": 443}, input_hash="h", state="pending",
    )  # fmt: skip
    assert "Connect to example.org, port 443\n" in card.approval(item, Style(False))
    other = msgspec.structs.replace(item, tool="Network")
    assert "Network asks for approval\n" in card.approval(other, Style(False))
