"""A server of this process for the client, with the runner in a test's hands."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from pilothouse.client import Client
from tests.web.serving import Served, serving


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with serving() as running:
        yield running


@pytest.fixture
async def client(served: Served) -> AsyncIterator[Client]:
    async with Client(served.url, await served.key()) as made:
        yield made
