"""The egress listener against a far end on loopback, which a test has to call public."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from pilothouse.adapters.proxies import egress
from pilothouse.engine.upstream import EgressSettings

LIST = EgressSettings("allow", ("pypi.org", "*.github.com"))


@asynccontextmanager
async def door(settings: EgressSettings = LIST, **more: object) -> AsyncIterator[int]:
    made = egress.EgressDoor(lambda: settings, **more)  # type: ignore[arg-type]
    server = await asyncio.start_server(made.connected, "127.0.0.1", 0, limit=egress.HEAD_MAX)
    yield server.sockets[0].getsockname()[1]
    server.close()


async def say(port: int, words: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(words)
    answer = await reader.read()
    writer.close()
    return answer


@pytest.mark.parametrize(
    ("host", "port", "may"),
    [
        ("pypi.org", 443, True),
        ("pypi.org", 22, False),
        ("evilpypi.org", 443, False),
        ("pypi.org.evil.test", 443, False),
        ("api.github.com", 80, True),
        ("github.com", 443, False),
        ("evilgithub.com", 443, False),
    ],
)
def test_the_list(host: str, port: int, may: bool) -> None:
    assert egress.allowed(host, port, LIST) is may
    assert not egress.allowed(host, port, EgressSettings("off", LIST.domains))


async def test_an_allowed_host_is_reached_at_the_checked_address() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.read())
        writer.close()

    far = await asyncio.start_server(echo, "127.0.0.1", 0)
    port = far.sockets[0].getsockname()[1]
    asked: list[str] = []

    async def lookup(host: str, _: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"]

    old, egress.PORTS = egress.PORTS, frozenset({port})
    try:
        async with door(lookup=lookup, public=lambda _: True) as near:
            reader, writer = await asyncio.open_connection("127.0.0.1", near)
            writer.write(f"CONNECT PyPI.org:{port} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
            assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
            writer.write(b"x" * 300_000)
            writer.write_eof()
            assert len(await reader.read()) == 300_000
            writer.close()
    finally:
        egress.PORTS = old
        far.close()
    assert asked == ["pypi.org"]


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "fd00:ec2::254", "100.64.0.1"])
async def test_c31_a_name_that_leads_inside_is_refused(address: str) -> None:
    async def lookup(host: str, _: int) -> list[str]:
        return ["93.184.216.34", address]

    async with door(lookup=lookup) as port:
        answer = await say(port, b"CONNECT pypi.org:443 HTTP/1.1\r\n\r\n")
    assert b"pypi.org does not lead to a public address" in answer


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (b"CONNECT evil.test:443 HTTP/1.1\r\n\r\n", b"may not reach evil.test:443"),
        (b"GET http://pypi.org/ HTTP/1.1\r\n\r\n", b"only CONNECT"),
        (b"CONNECT 1.2.3.4@pypi.org:443 HTTP/1.1\r\n\r\n", b"a name and a port"),
        (b"CONNECT pypi.org:99999 HTTP/1.1\r\n\r\n", b"a name and a port"),
        (b"CONNECT pypi.org HTTP/1.1\r\n\r\n", b"a name and a port"),
        (b"\xff\xfe\r\n\r\n", b"only CONNECT"),
    ],
)
async def test_refusals_are_403_with_a_sentence(words: bytes, why: bytes) -> None:
    async with door() as port:
        answer = await say(port, words)
    assert answer.startswith(b"HTTP/1.1 403 ")
    assert why in answer


async def test_a_head_without_an_end_and_a_flood_of_connections() -> None:
    async with door(limits=egress.Limits(head_s=0.2, connections_max=1)) as port:
        first = asyncio.create_task(say(port, b"CONNECT "))
        await asyncio.sleep(0.05)
        assert b"at most 1 connections" in await say(port, b"CONNECT evil.test:443 HTTP/1.1\r\n\r\n")
        assert await first == b""
        with suppress(ConnectionError):
            assert await say(port, b"x" * 100_000) == b""
