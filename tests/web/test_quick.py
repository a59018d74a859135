"""A publisher that sends the same head again and again: every request is judged anew, and answered like the first."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from pilothouse.core.bucket import Rates
from pilothouse.core.namespaces import Namespace
from pilothouse.engine.gate import Gate
from pilothouse.web.head import Http
from pilothouse.web.quick import Quick
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


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Of each request whose head was known, whether it was answered without a task."""
    seen: list[bool] = []
    real = Quick.at_once

    def noting(self: Quick, head: Any, body: bytes) -> bytes | None:
        answer = real(self, head, body)
        seen.append(answer is not None)
        return answer

    monkeypatch.setattr(Quick, "at_once", noting)
    return seen


def padded(size: int, channel: str = "/default/quick", **more: Any) -> bytes:
    """A publish of so many bytes: the head is the same."""
    return json.dumps({"channel": channel, "events": ["1"], **more}).encode().ljust(size)


async def test_a_plain_event_is_answered_at_once_and_what_is_not_plain_is_not(at_once: list[bool]) -> None:
    spaces = [
        Namespace("default"),
        Namespace("kept", history=3),
        Namespace("own", publish_modes=frozenset({"AWS_IAM"})),
    ]
    async with serving(namespaces=spaces) as served, client(served) as listener:
        await listener.subscribe("s", "default/*")
        one = await Publisher.open(served, await served.key())
        size = 200
        wanted = [
            (padded(size), 200, True),
            (padded(size, "/kept/a"), 200, False),
            (padded(size, "/own/a"), 403, False),
            (padded(size, "/nowhere/a"), 403, False),
            (padded(size, "/default/*"), 400, False),
            (padded(size, key="k"), 200, False),
            (padded(size, key="k"), 200, False),  # the same again: not published again
            (padded(size, events=[]), 400, False),
            (padded(size, events=["{"]), 400, False),
            (padded(size, events=["1"] * 6), 400, False),
            (padded(size)[:-1] + b"]", 400, False),
            (padded(size, events=["1", "2"]), 200, True),
            (padded(size, "/default/nobody/hears"), 200, True),
        ]
        await one.post(padded(size))
        await one.post(padded(size))  # whose names were looked at
        at_once.clear()
        before = served.platform.channels.published if served.platform.channels else 0
        for body, status, _ in wanted:
            assert (await one.post(body))[0] == status, body[:80]
        assert at_once == [short for _, _, short in wanted]
        assert served.platform.channels is not None
        assert served.platform.channels.published - before == 1 + 1 + 1 + 2 + 1
        heard = [(await listener.hear())["event"] for _ in range(2 + 1 + 1 + 2 + 1)]
        assert heard == ["1", "1", "1", "1", "1", "2", "1"]
        one.writer.close()


async def test_a_key_of_the_head_and_other_credentials_are_not_answered_at_once(
    served: Served, at_once: list[bool]
) -> None:
    one = await Publisher.open(served, await served.key())
    for _ in range(3):
        assert (await one.post(event(0), idempotency_key="same"))[0] == 200
    one.writer.close()
    two = await Publisher.open(served, "none")
    for _ in range(3):
        assert (await two.post(event(0), authorization="ey.x.y"))[0] == 401
    two.writer.close()
    assert not any(at_once)


async def test_the_bucket_gives_what_it_has_and_no_more_however_it_is_answered(at_once: list[bool]) -> None:
    async with serving(gate=lambda store, clock: Gate(store, clock, Rates(0.001, 6, 0))) as served:
        one = await Publisher.open(served, await served.key())
        found = [await one.post(event(n % 10)) for n in range(9)]
        assert [status for status, _, _ in found] == [200] * 6 + [429] * 3
        assert [re.search(rb"x-ratelimit-remaining: (\d+)", text)[1] for _, text, _ in found[:6]] == [  # type: ignore[index]
            b"%d" % left for left in (5, 4, 3, 2, 1, 0)
        ]
        assert at_once == [False, *[True] * 4, *[False] * 3]
        one.writer.close()


async def test_one_that_fails_after_some_have_it_is_not_sent_twice(
    served: Served, monkeypatch: pytest.MonkeyPatch, at_once: list[bool]
) -> None:
    one = await Publisher.open(served, await served.key())
    channels = served.platform.channels
    assert channels is not None
    real, failing = channels.deliver_at_once, True

    def fails(*given: Any) -> Any:
        real(*given)
        if failing:
            raise ZeroDivisionError
        return []

    async with client(served) as listener:
        await listener.subscribe("s", "default/quick")
        await one.post(event(0))
        await one.post(event(1))
        monkeypatch.setattr(channels, "deliver_at_once", fails)
        assert (await one.post(event(2)))[0] == 500
        failing = False
        assert (await one.post(event(3)))[0] == 200
        assert [json.loads((await listener.hear())["event"])["n"] for _ in range(4)] == [0, 1, 2, 3]
    assert at_once == [False, True, True]
    one.writer.close()


async def test_who_does_not_read_its_answers_is_not_heard_any_more(served: Served, at_once: list[bool]) -> None:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect(("127.0.0.1", served.port))
    one = Publisher(*await asyncio.open_connection(sock=sock), await served.key())
    await one.post(event(0))
    one._reader._transport.pause_reading()  # type: ignore[attr-defined]
    channels = served.platform.channels
    assert channels is not None
    sent = 0
    with contextlib.suppress(TimeoutError):
        while sent < 40_000:
            before = channels.published
            one.writer.write(one.request(event(1)))
            sent += 1
            async with asyncio.timeout(2):
                while channels.published == before:
                    await asyncio.sleep(0)
    assert sent < 40_000
    assert at_once.count(True) > 1000
    (waiting,) = [
        c.transport.get_write_buffer_size()
        for c in served.server.server_state.connections
        if c.transport.get_extra_info("peername") == sock.getsockname()
    ]
    assert waiting < 128 * 1024
    one._reader._transport.resume_reading()  # type: ignore[attr-defined]
    for _ in range(sent):
        assert (await one.answer())[0] == 200
    one.writer.close()
