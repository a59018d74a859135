"""Requests: which lost connections are tried again."""

from __future__ import annotations

import pytest

from pilothouse.cli.client import Client, Endpoint
from pilothouse.cli.errors import NoServer
from tests.cli.fake import KEY, SESSION, FakeServer

NOBODY = "http://127.0.0.1:1"


async def test_a_server_that_never_answered_is_not_waited_for() -> None:
    asked = 0

    async def find() -> Endpoint:
        nonlocal asked
        asked += 1
        return Endpoint(NOBODY, KEY)

    async with Client(find) as client:
        with pytest.raises(NoServer, match=rf"{NOBODY}: Connection refused$"):
            await client.sessions()
    assert asked == 1


async def test_a_server_that_answered_is_waited_for(server: FakeServer) -> None:
    """Its restart puts it elsewhere after a while."""
    places = [server.url, NOBODY, NOBODY, server.url]

    async def find() -> Endpoint:
        return Endpoint(places.pop(0), KEY)

    async with Client(find) as client:
        await client.session(SESSION)
        client.endpoint = Endpoint(NOBODY, KEY)
        assert (await client.session(SESSION)).id == SESSION
    assert places == []
