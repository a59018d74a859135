"""A publisher that sends the same head again and again: every request is judged anew, and answered like the first."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from pilothouse.core.bucket import Rates
from pilothouse.engine.gate import Gate
from pilothouse.web.head import Http
from tests.web.serving import Served, serving
from tests.web.test_realtime import client

pytestmark = pytest.mark.asyncio(loop_scope="module")
NEW = re.compile(rb"x-amzn-requestid: [0-9a-f-]{36}|\"identifier\":\"[0-9a-f-]{36}\"")


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=[True, False], ids=["hot", "plain"])
async def served(request: pytest.FixtureRequest) -> AsyncIterator[Served]:
    async with serving(hot=request.param) as running:
        yield running


@pytest.fixture
def again(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The bodies of requests whose head was known."""
    seen: list[bytes] = []
    real = Http._again

    def noting(self: Http, known: Any, body: bytes) -> None:
        seen.append(body)
        real(self, known, body)

    monkeypatch.setattr(Http, "_again", noting)
    return seen


class Publisher:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, key: str) -> None:
        self._reader, self.writer, self._key = reader, writer, key

    @classmethod
    async def open(cls, served: Served, key: str) -> Publisher:
        return cls(*await asyncio.open_connection("127.0.0.1", served.port), key)

    def request(self, body: bytes, **more: str) -> bytes:
        headers = {"host": "127.0.0.1", "x-api-key": self._key, "content-length": str(len(body))} | more
        lines = ["POST /event HTTP/1.1", *(f"{n.replace('_', '-')}: {v}" for n, v in headers.items()), "", ""]
        return "\r\n".join(lines).encode() + body

    async def answer(self) -> tuple[int, bytes, Any]:
        head = await self._reader.readuntil(b"\r\n\r\n")
        size = re.search(rb"content-length: (\d+)", head)
        assert size is not None
        body = await self._reader.readexactly(int(size[1]))
        return int(head.split()[1]), head + body, json.loads(body)

    async def post(self, body: bytes, **more: str) -> tuple[int, bytes, Any]:
        self.writer.write(self.request(body, **more))
        return await self.answer()


def event(number: int) -> bytes:
    return json.dumps({"channel": "/default/quick", "events": [json.dumps({"n": number})]}).encode()


def uvicorns(answer: bytes) -> set[bytes]:
    """What it adds here, and is told not to in the program."""
    return {line for line in answer.split(b"\r\n") if line.startswith((b"server: ", b"date: "))}


async def test_the_same_head_again_is_answered_like_the_first(served: Served, again: list[bytes]) -> None:
    one = await Publisher.open(served, await served.key())
    async with client(served) as listener:
        await listener.subscribe("s", "default/quick")
        answers = [(await one.post(event(n)))[1] for n in range(5)]
        assert [json.loads((await listener.hear())["event"])["n"] for _ in range(5)] == [0, 1, 2, 3, 4]
    assert again == [event(n) for n in range(1, 5)]
    lines = [sorted(set(NEW.sub(b"new", answer).split(b"\r\n")) - uvicorns(answer)) for answer in answers]
    assert lines[1:] == lines[:1] * 4
    assert len(set(answers)) == 5
    one.writer.close()


async def test_a_page_of_a_known_origin_gets_its_headers_each_time(served: Served, again: list[bytes]) -> None:
    one = await Publisher.open(served, await served.key())
    origin = f"http://127.0.0.1:{served.port}"
    answers = [await one.post(event(n), host=f"127.0.0.1:{served.port}", origin=origin) for n in range(2)]
    assert len(again) == 1
    assert all(f"access-control-allow-origin: {origin}".encode() in answer for _, answer, _ in answers)
    one.writer.close()


async def test_a_key_that_is_revoked_between_two_publishes_the_second_no_more(
    served: Served, again: list[bytes]
) -> None:
    record, key = await served.identity.keys.create("gone", ("run",))
    one = await Publisher.open(served, key)
    assert (await one.post(event(0)))[0] == (await one.post(event(1)))[0] == 200
    await served.identity.keys.revoke(record.id)
    status, _, said = await one.post(event(2))
    assert (status, said["errors"][0]["errorType"]) == (401, "UnauthorizedException")
    assert len(again) == 2
    one.writer.close()


@pytest.mark.parametrize("body", [b'{"channel": "/default/quick", "events": [xx{\\"n\\": 1}"]}', b" " * len(event(1))])
async def test_every_body_is_looked_at(served: Served, again: list[bytes], body: bytes) -> None:
    one = await Publisher.open(served, await served.key())
    await one.post(event(0))
    body = body[: len(event(0))].ljust(len(event(0)))
    status, _, said = await one.post(body)
    assert (status, said["errors"][0]["errorType"], again) == (400, "BadRequestException", [body])
    assert (await one.post(event(2)))[0] == 200
    one.writer.close()


async def test_what_is_not_the_same_head_is_read_as_always(served: Served, again: list[bytes]) -> None:
    one = await Publisher.open(served, await served.key())
    for status, sent in (
        (200, one.request(event(0))),
        (200, one.request(event(10))),  # one digit more
        (401, one.request(event(0)).replace(b"x-api-key: ph_", b"x-api-key: ph-")),
        (404, one.request(event(0)).replace(b"POST /event ", b"POST /evenx ")),
        (421, one.request(event(0)).replace(b"host: 127.0.0.1", b"host: 127.0.0.9")),
        (200, one.request(event(0))),
    ):
        one.writer.write(sent)
        assert (await one.answer())[0] == status
    assert again == []
    one.writer.close()


async def test_requests_in_pieces_and_several_at_once_keep_their_order(served: Served, again: list[bytes]) -> None:
    one = await Publisher.open(served, await served.key())
    async with client(served) as listener:
        await listener.subscribe("s", "default/quick")
        await one.post(event(0))
        await one.post(event(1))
        one.writer.write(one.request(event(2)) + one.request(event(3)) + one.request(event(4))[:40])
        await one.answer()
        await one.answer()
        one.writer.write(one.request(event(4))[40:])
        await one.answer()
        await one.post(event(5))
        assert [json.loads((await listener.hear())["event"])["n"] for _ in range(6)] == [0, 1, 2, 3, 4, 5]
    one.writer.close()


async def test_who_comes_too_often_is_told_on_the_quick_way_too(again: list[bytes]) -> None:
    async with serving(gate=lambda store, clock: Gate(store, clock, Rates(0.001, 3, 0))) as served:
        one = await Publisher.open(served, await served.key())
        found = [await one.post(event(n)) for n in range(4)]
        assert [status for status, _, _ in found] == [200, 200, 200, 429]
        assert b"x-ratelimit-remaining: 1" in found[1][1].lower() or b"ratelimit" in found[1][1].lower()
        assert b"retry-after" in found[3][1]
        assert len(again) == 3
        one.writer.close()
