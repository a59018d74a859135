"""`pilothouse webhook`, against a server and a receiver."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from standardwebhooks.webhooks import Webhook

from tests.cli.here import Here, running


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Here]:
    async with running("webhook", tmp_path) as made:
        yield made


async def test_a_webhook_s_life(here: Here) -> None:
    status, out, err = await here(
        "create", f"{here.receiver.url}/in?token=x", "--name", "ci", "--event", "job.completed"
    )
    assert (status, out[:6]) == (0, "whsec_"), err
    secret, id = out.strip(), err.split("webhook ")[1].split(";")[0]
    assert await here("ping", id) == (0, "delivered\n", "")
    got = here.receiver.got[0]
    assert Webhook(secret).verify(got.body, got.headers)["data"] == {"webhookId": id, "name": "ci"}
    here.receiver.answer = lambda got: web.Response(status=410)
    status, out, err = await here("ping", id)
    assert (status, out) == (1, "dead: It answered 410.\n"), err
    status, out, _ = await here("list")
    assert "disabled (its receiver answered 410 (gone))" in out
    assert "token" not in out
    here.receiver.answer = lambda got: web.Response(status=200)
    assert (await here("change", id, "--enable"))[0] == 0
    assert await here("replay", id, "--dead") == (0, "replayed 1\n", "")
    await here.receiver.until(3)
    status, out, _ = await here("deliveries", id, "--state", "delivered")
    delivery = out.splitlines()[1].split()[0]
    assert delivery.startswith("msg_")
    assert await here("replay", id, delivery) == (0, f"replayed {delivery}\n", "")
    assert await here("deliveries", id, "--state", "withheld") == (0, "ID  EVENT  CREATED  ATTEMPTS  STATE\n", "")
    status, out, _ = await here("rotate", id, "--grace", "0")
    assert out.startswith("whsec_")
    assert out.strip() != secret
    assert await here("remove", id) == (0, f"removed {id}\n", "")
    status, _, err = await here("ping", id)
    assert status == 1
    assert err.startswith("Error: ")


async def test_what_is_wrong_is_named(here: Here) -> None:
    status, _, err = await here("create", "http://example.com/")
    assert (status, err) == (
        1,
        "Error: url: must be https; plain http is for a HOST:PORT that webhooks.allow_private lists\n",
    )
    some = "5d0c7a7e-0000-4000-8000-000000000000"
    for words in (["change", some], ["replay", some], ["replay", some, "msg", "--dead"], ["ping", "x"]):
        assert (await here(*words))[0] == 2, words
