"""`pilothouse notify`, against a server and what takes Slack's messages."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from tests.cli.here import Here, running

SOME = "5d0c7a7e-0000-4000-8000-000000000000"


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Here]:
    async with running("notify", tmp_path) as made:
        yield made


async def test_being_told_by_slack_from_the_first_to_the_last(here: Here) -> None:
    address = f"{here.receiver.url}/services/T0/secret"
    status, out, err = await here("slack", "--name", "team", "--event", "approval", given=f"{address}\n")
    assert (status, err) == (0, "")
    head, row = out.splitlines()
    id = row.split()[0]
    assert head.split()[:4] == ["ID", "KIND", "NAME", "TO"]
    assert row.split()[1:] == ["slack", "team", here.receiver.url, "approval", "own"], "nobody is shown the address"
    assert await here("test", id) == (0, "delivered\n", "")
    assert here.receiver.got[0].path == "/services/T0/secret"
    status, out, _ = await here("change", id, "--sessions", "all", "--event", "job", "--event", "question")
    assert out.splitlines()[1].split()[4:] == ["question,job", "all", "delivered"]
    here.receiver.answer = lambda got: web.Response(status=410)
    assert await here("test", id) == (1, "dead: It answered 410.\n", "")
    status, out, _ = await here("deliveries", id, "--state", "dead")
    assert out.splitlines()[1].endswith("dead (It answered 410.)")
    status, out, _ = await here("list")
    assert "off (" in out
    assert "secret" not in out
    assert (await here("test", id))[0] == 1, "it is off"
    assert (await here("change", id, "--enable"))[0] == 0
    assert await here("remove", id) == (0, f"removed {id}\n", "")
    assert len((await here("list"))[1].splitlines()) == 1


async def test_what_is_wrong_is_named(here: Here) -> None:
    status, _, err = await here("slack", given="http://example.com/services/secret")
    assert (status, err) == (
        1,
        "Error: url: must be https; plain http is for a HOST:PORT that webhooks.allow_private lists\n",
    )
    status, _, err = await here("slack", given=" \n")
    assert status == 2
    assert "Give the address on standard input." in err
    for words in (["change", SOME], ["test", "x"], ["slack", "--event", "ping"], ["slack", "https://example.com/"]):
        assert (await here(*words))[0] == 2, words
    assert (await here("remove", SOME))[0] == 1
