"""Where a POST goes, and where not, whatever it is told."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest
from aiohttp import web

from pilothouse.adapters.outgoing.post import Post
from pilothouse.core.errors import BadRequest
from pilothouse.core.reach import Target
from pilothouse.core.webhook import check_url
from pilothouse.engine.deliveries import NotSent, Request
from tests.receiver import receiving


def to(url: str) -> Request:
    return Request(url, {"content-type": "application/json"}, b"{}")


async def test_c31_no_redirect_is_followed_least_of_all_inside() -> None:
    async with receiving() as receiver:
        for where in ("http://169.254.169.254/latest/meta-data/", f"{receiver.url}/inside", "/inside"):
            for status in (301, 302, 303, 307, 308):
                receiver.answer = lambda got, s=status, w=where: web.Response(status=s, headers={"location": w})  # type: ignore[misc]
                post = Post([receiver.target])
                answer = await post.post(to(f"{receiver.url}/hook"))
                await post.close()
                assert answer.status == status
        assert {got.path for got in receiver.got} == {"/hook"}


@pytest.mark.parametrize("url", [
    "https://127.0.0.1/", "https://169.254.169.254/latest/", "https://[::1]/", "https://[::ffff:10.0.0.1]/",
    "https://2130706433/", "https://127.1/", "https://0x7f000001/", "https://192.168.1.1:8443/", "https://0/",
    "http://example.com/", "file:///etc/passwd", "gopher://example.com/", "https:///", "https://example.com:99999/",
])  # fmt: skip
async def test_c31_no_address_leads_inside(url: str) -> None:
    post = Post()
    with pytest.raises(NotSent) as failed:
        await post.post(to(url))
    await post.close()
    assert url not in str(failed.value)


@pytest.mark.parametrize("name", ["rebound.example", "mixed.example"])
async def test_c31_a_name_that_leads_inside_is_not_connected_to(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Also one that has a good address beside the bad one, and one that had a good one before."""
    asked: list[str] = []

    def getaddrinfo(host: str, port: int, **_: Any) -> list[Any]:
        asked.append(host)
        inside = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.7", port))
        outside = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("93.184.216.34", port))
        return [outside, inside] if host == "mixed.example" else [inside]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    post = Post()
    with pytest.raises(NotSent, match="cannot be reached"):
        await post.post(to(f"https://{name}/hook?token=abc"))
    await post.close()
    assert asked == [name]


async def test_only_the_listed_port_is_private() -> None:
    async with receiving() as receiver, receiving() as other:
        post = Post([receiver.target])
        assert (await post.post(to(f"{receiver.url}/"))).status == 204
        with pytest.raises(NotSent):
            await post.post(to(f"{other.url}/"))
        assert not other.got
        await post.close()


async def test_what_leads_inside_is_said_in_the_words_of_its_making() -> None:
    post = Post()
    for url in ("https://localhost/x", "https://127.0.0.1/x", "https://[::1]:8443/x"):
        with pytest.raises(BadRequest) as refused:
            check_url(url)
        words = refused.value.message.removeprefix("url: ").partition(";")[0]
        with pytest.raises(NotSent) as failed:
            await post.post(to(url))
        assert words in str(failed.value)
        assert "does not lead to a public address" in words
    await post.close()


async def test_one_that_does_not_answer_is_left() -> None:
    async with receiving() as receiver:
        never = asyncio.Event()
        real = receiver.hear

        async def slow(request: web.Request) -> web.Response:
            await never.wait()
            return await real(request)

        receiver.hear = slow  # type: ignore[method-assign]
        silent = socket.socket()
        silent.bind(("127.0.0.1", 0))
        silent.listen(1)
        port = silent.getsockname()[1]
        post = Post([Target("127.0.0.1", port)], seconds=0.05)
        with pytest.raises(NotSent, match="No answer within"):
            await post.post(to(f"http://127.0.0.1:{port}/"))
        silent.close()
        await post.close()
        post = Post([Target("127.0.0.1", port)])
        with pytest.raises(NotSent, match="cannot be reached"):
            await post.post(to(f"http://127.0.0.1:{port}/"))
        await post.close()


async def test_an_endless_answer_is_not_read() -> None:
    """What it sends after the head is nobody's."""

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000000\r\n\r\n")
        try:
            while True:
                writer.write(b"x" * 65536)
                await writer.drain()
        except ConnectionError:
            writer.close()

    server = await asyncio.start_server(endless, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    post = Post([Target("127.0.0.1", port)])
    assert (await post.post(to(f"http://127.0.0.1:{port}/"))).status == 200
    await post.close()
    server.close()
