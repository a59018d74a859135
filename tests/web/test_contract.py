"""What bytes on a connection may do, the same with TLS and without, with sockets by picows and by plain ASGI."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio
import uvloop

from pilothouse.web.certificate import load
from pilothouse.web.head import HEAD_MAX
from pilothouse.web.socket import Limits
from tests.certificates import Authority
from tests.security import raw
from tests.web.serving import Served, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")
WAYS = ["hot", "plain", "hot TLS", "plain TLS"]


@pytest.fixture(scope="module")
def event_loop_policy() -> uvloop.EventLoopPolicy:
    return uvloop.EventLoopPolicy()


@dataclass
class Door:
    served: Served
    key: str
    tls: ssl.SSLContext | None

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.served.port}"

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        name = "localhost" if self.tls else None
        return await asyncio.open_connection("127.0.0.1", self.served.port, ssl=self.tls, server_hostname=name)

    async def say(self, request: bytes) -> bytes:
        """The answer's first part; empty where the connection just ends."""
        reader, writer = await self.connect()
        try:
            writer.write(request)
            async with asyncio.timeout(15):
                with contextlib.suppress(ConnectionError):
                    return await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as error:
            return error.partial
        finally:
            writer.close()
        return b""

    async def status(self, request: bytes) -> int:
        return raw.status(await self.say(request))

    def get(self, path: str = "/api/me", **headers: str) -> bytes:
        given = {"host": self.host, "x-api-key": self.key} | {n.replace("_", "-"): v for n, v in headers.items()}
        return raw.plain("GET", path, given)

    def upgrade(self, path: str = "/ws", **headers: str) -> bytes:
        given = {"host": self.host, "x-api-key": self.key} | {n.replace("_", "-"): v for n, v in headers.items()}
        return raw.upgrade(path, given)


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=WAYS)
async def door(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Door]:
    authority = Authority.make()
    tls = "TLS" in request.param
    pair = load(*authority.write(tmp_path_factory.mktemp("tls"), "localhost", "127.0.0.1")) if tls else None
    async with serving(hot="hot" in request.param, tls=pair, bounds=Limits(handshake_s=2.0, body_s=2.0)) as served:
        yield Door(served, await served.key(), authority.client() if tls else None)


async def test_heads_of_70_kilobytes_are_read(door: Door) -> None:
    """One header of that size, and many; requests and upgrades."""
    many = {f"x-pad-{n}": "y" * 500 for n in range(130)}
    for pad in ({"x-pad": "y" * 70_000}, many, {"sec-websocket-protocol": "header-" + "y" * 32_000}):
        for request, code in ((door.get(**pad), 200), (door.upgrade(**pad), 101)):
            assert await door.status(request) == code, next(iter(pad))
    assert await door.status(door.get("/api/me?" + "q" * 60_000)) == 200
    assert await door.status(door.upgrade("/ws?" + "q" * 60_000)) == 101


async def test_c30_a_head_without_end_is_cut(door: Door) -> None:
    for start in (door.get()[:-2] + b"x-pad: ", b"GET /" + b"", door.upgrade()[:-2] + b"x: "):
        reader, writer = await door.connect()
        sent = 0
        answer = b""
        with contextlib.suppress(*raw.CLOSED):
            writer.write(start)
            while sent < 4 * HEAD_MAX:
                writer.write(b"y" * 8192)
                await writer.drain()
                sent += 8192
                await asyncio.sleep(0)
            async with asyncio.timeout(15):
                answer = await reader.read()
        assert raw.status(answer) in {431, 0}
        writer.close()
    small = b"".join(b"x-%d: y\r\n" % n for n in range(40_000))
    assert await door.status(door.get()[:-2] + small + b"\r\n") in {431, 0}


async def test_requests_that_come_together_are_answered_in_order(door: Door) -> None:
    reader, writer = await door.connect()
    paths = ["/healthz", "/api/me", "/nowhere", "/readyz", "/api/keys"] * 4
    asked = b"".join(door.get(path).replace(b"connection: close\r\n", b"") for path in paths)
    writer.write(asked)
    for path in paths:
        async with asyncio.timeout(15):
            head = await reader.readuntil(b"\r\n\r\n")
            size = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            body = json.loads(await reader.readexactly(size))
        said = {"/healthz": "status", "/readyz": "status", "/api/me": "principal", "/api/keys": "items"}.get(
            path, "code"
        )
        assert said in body, path
    writer.close()


async def test_an_upgrade_after_a_request_on_the_same_connection(door: Door) -> None:
    reader, writer = await door.connect()
    writer.write(door.get("/healthz").replace(b"connection: close\r\n", b""))
    async with asyncio.timeout(15):
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))
        writer.write(door.upgrade())
        assert raw.status(await reader.readuntil(b"\r\n\r\n")) == 101
    writer.close()


async def test_c29_who_never_comes_to_the_end_of_a_head_is_let_go(door: Door) -> None:
    """A byte now and then does not help."""
    for request in (door.get(), door.upgrade()):
        reader, writer = await door.connect()
        with contextlib.suppress(*raw.CLOSED):
            async with asyncio.timeout(15):
                for byte in request[:-1]:
                    writer.write(bytes([byte]))
                    await writer.drain()
                    await asyncio.sleep(0.05)
                    if reader.at_eof():
                        break
                else:
                    raise AssertionError("a slow head was waited for")
        writer.close()


async def test_c29_nor_who_never_comes_to_the_end_of_a_body(door: Door) -> None:
    """Where nobody has to be signed in, too; and a body that comes in time is waited for."""
    headers = {"host": door.host, "content-type": "application/json"}
    for more in ({}, {"x-api-key": door.key}):
        path = "/api/keys" if more else "/api/signin"
        post = raw.plain("POST", path, headers | more | {"content-length": "17"})
        reader, writer = await door.connect()
        writer.write(post + b"{")
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(15):
                assert await reader.read() == b""
        writer.close()
        if not more:
            continue
        reader, writer = await door.connect()
        writer.write(post + b"{")
        await asyncio.sleep(0.3)
        writer.write(b'"name": "late" }')
        async with asyncio.timeout(15):
            assert raw.status(await reader.readuntil(b"\r\n\r\n")) == 201
        writer.close()


async def test_a_socket_outlives_the_times_of_requests(door: Door) -> None:
    reader, writer = await door.connect()
    writer.write(door.upgrade())
    async with asyncio.timeout(15):
        assert raw.status(await reader.readuntil(b"\r\n\r\n")) == 101
    await asyncio.sleep(2.5)
    writer.write(b"\x89\x80abcd")  # a ping
    async with asyncio.timeout(15):
        assert (await reader.readexactly(2))[0] == 0x8A
    writer.close()


def twice(request: bytes, name: str, first: str, second: str) -> bytes:
    lines = [line for line in request.split(b"\r\n") if not line.lower().startswith(name.encode() + b":")]
    return b"\r\n".join([lines[0], f"{name}: {first}\r\n{name}: {second}".encode(), *lines[1:]])


async def test_a_header_that_comes_twice_counts_for_nobody(door: Door) -> None:
    us, evil = door.host, "evil.example"
    for request in (door.get(), door.upgrade()):
        for first, second in ((us, evil), (evil, us), (us, us)):
            assert await door.status(twice(request, "host", first, second)) in {400, 421}
        for first, second in ((f"http://{us}", "http://evil.example"), ("http://evil.example", f"http://{us}")):
            assert await door.status(twice(request, "origin", first, second)) in {400, 403}
        assert await door.status(twice(request, "x-api-key", door.key, "ph_x")) == 401
        assert await door.status(twice(request, "x-api-key", "ph_x", door.key)) == 401
    post = raw.plain("POST", "/api/keys", {"host": us, "x-api-key": door.key, "content-type": "application/json"})
    assert await door.status(twice(post, "content-length", "0", "5") + b"hello") == 400
    both = twice(post, "content-length", "0", "0").replace(
        b"content-length: 0\r\n", b"transfer-encoding: chunked\r\n", 1
    )
    assert await door.status(both + b"0\r\n\r\n") == 400, "a length and chunks: two ways to read the same bytes"


TARGETS = {
    "http://{us}/api/me": 200, "HTTP://{us}/api/me": 200, "https://{us}/api/me": 200, "http://{us}": 200,
    "http://{us}?x=/api": 200, "http://evil.example/api/me": 400, "http://user@{us}/api/me": 400,
    "http://user:pw@{us}/api/me": 400, "http://127.0.0.1/api/me": 400, "http://{us}.evil.example/api/me": 400,
    "http:///api/me": 400, "ftp://{us}/api/me": 400, "//evil.example/api/me": 404, "{us}": 400, "api/me": 400,
    "http://{us}@evil.example/api/me": 400, "http://{us}#@evil.example/": 400, "http://{us}\\@evil.example/": 400,
}  # fmt: skip


@pytest.mark.parametrize("target", TARGETS)
async def test_c03_a_target_that_names_a_host_names_the_same(door: Door, target: str) -> None:
    assert await door.status(door.get(target.replace("{us}", door.host))) == TARGETS[target]


async def test_c03_an_upgrade_by_a_whole_address(door: Door) -> None:
    assert await door.status(door.upgrade(f"http://{door.host}/ws")) == 101
    assert await door.status(door.upgrade("http://evil.example/ws")) == 400
    assert await door.status(door.upgrade(f"http://user@{door.host}/ws")) == 400


async def test_requests_that_are_none(door: Door) -> None:
    for request in (b"\x00" * 100, b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
                    b"GET / HTTP/1.1\r\nhost : x\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n",
                    b"GET / HTTP/1.1\r\nhost: 127.0.0.1\r\n folded: x\r\n\r\n"):  # fmt: skip
        assert await door.status(request) in {0, 400, 421}, request[:30]
    assert await door.status(door.get("/healthz")) == 200
