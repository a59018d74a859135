"""What is wrong with a body is told by the name of the field, at whatever depth it stands."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from tests.web.serving import Served, serving

JSON = "application/json"
WRONG = [
    ("/api/sessions", b'{"titel": "x"}', JSON, "titel: there is no such field"),
    (
        "/api/sessions",
        b'{"source": {"git": "https://h/x.git", "branch": "b"}}',
        JSON,
        "source.branch: there is no such",
    ),
    ("/api/sessions", b'{"egress": {"policies": "off"}}', JSON, "egress.policies: there is no such field"),
    ("/api/sessions", b'{"title": 5}', JSON, "title: Expected `str | null`"),
    ("/api/sessions", b'{"' + 1000 * b"x" + b'": 1}', JSON, "x: there is no such field"),
    ("/api/organisations", b"{}", JSON, "id: it is missing"),
    ("/api/organisations", b"", JSON, "body: it is empty"),
    ("/api/organisations", b"{}", "text/plain", "content-type: 'text/plain'; expected application/json"),
    ("/api/organisations", b"{}", "", "content-type: it is missing; expected application/json"),
]


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with serving() as running:
        yield running


@pytest.mark.parametrize(("path", "body", "media", "told"), WRONG)
async def test_a_wrong_body(served: Served, path: str, body: bytes, media: str, told: str) -> None:
    headers = {"x-api-key": await served.key("read", "run", "admin")} | ({"content-type": media} if media else {})
    async with httpx.AsyncClient(base_url=served.url, headers=headers, timeout=10) as http:
        answer = await http.post(path, content=body)
        assert answer.status_code == 400
        assert told in answer.json()["detail"]
        assert (await http.get("/api/sessions")).json()["items"] == []
