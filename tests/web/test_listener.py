"""The port with TLS: what is no handshake, what is a slow or broken one, and what goes on when the pair changes."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import uvloop

from pilothouse.web import listener
from pilothouse.web.certificate import Certificate
from pilothouse.web.listener import TlsServer
from pilothouse.web.socket import Limits
from tests.certificates import Authority
from tests.security.raw import CLOSED
from tests.web.serving import Served, serving


@pytest.fixture
def event_loop_policy() -> uvloop.EventLoopPolicy:
    return uvloop.EventLoopPolicy()


@dataclass
class Port:
    served: Served
    authority: Authority
    used: Certificate
    directory: Path

    @property
    def pending(self) -> int:
        server = self.served.server
        assert isinstance(server, TlsServer)
        return len(server.listeners[0].pending)

    async def plain(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.served.port)

    async def sealed(self, context: ssl.SSLContext | None = None) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(
            "127.0.0.1", self.served.port, ssl=context or self.authority.client(), server_hostname="localhost"
        )

    async def works(self) -> None:
        reader, writer = await self.sealed()
        assert (await ask(reader, writer)).startswith(b"HTTP/1.1 200 ")
        writer.close()


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    writer.write(b"GET /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
    async with asyncio.timeout(15):
        head = await reader.readuntil(b"\r\n\r\n")
        return head + await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))


async def ended(reader: asyncio.StreamReader) -> bytes:
    """What still comes; the connection must end."""
    got = b""
    async with asyncio.timeout(15):
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            while piece := await reader.read(65536):
                got += piece
    return got


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.make()


@pytest.fixture
async def port(authority: Authority, tmp_path: Path) -> AsyncIterator[Port]:
    used = Certificate(*authority.write(tmp_path, "localhost", "127.0.0.1"))
    pair = used.pair
    async with serving(tls=pair, bounds=Limits(handshake_s=2.0)) as served:
        assert isinstance(served.server, TlsServer)
        served.server.listeners[0]._context = lambda: used.pair.context
        yield Port(served, authority, used, tmp_path)


async def test_plain_http_is_told_that_the_port_speaks_tls(port: Port) -> None:
    for request in (b"GET / HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n", b"POST /api/signin HTTP/1.1\r\n" + b"x" * 60_000):
        reader, writer = await port.plain()
        writer.write(request)
        answer = await ended(reader)
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert b"use https://" in answer
        writer.close()
    await port.works()


async def test_what_is_neither_is_closed(port: Port) -> None:
    for rubbish in (b"\x00", b"\x80\x2e\x01\x03\x01", b"ssh-2.0", b"\x16\x03\x01\x00\x05hello", b"\x16" + b"\xff" * 500,
                    b"\x16\x03\x03\x40\x01" + b"\x01" * 70_000):  # fmt: skip
        reader, writer = await port.plain()
        writer.write(rubbish)
        assert not (await ended(reader)).startswith(b"HTTP/")
        writer.close()
    reader, writer = await port.plain()
    writer.write_eof()
    assert await ended(reader) == b""
    writer.close()
    await port.works()
    assert port.pending == 0


def hello(context: ssl.SSLContext) -> bytes:
    """A whole ClientHello."""
    out = ssl.MemoryBIO()
    talk = context.wrap_bio(ssl.MemoryBIO(), out, server_hostname="localhost")
    with contextlib.suppress(ssl.SSLWantReadError):
        talk.do_handshake()
    return out.read()


async def test_c29_a_handshake_that_does_not_end_is_ended(port: Port) -> None:
    """Nothing sent, a first byte, half a greeting, a whole one and then nothing, and one byte at a time."""
    greeting = hello(port.authority.client())
    for start in (b"", b"\x16", greeting[:50], greeting):
        reader, writer = await port.plain()
        writer.write(start)
        await ended(reader)
        writer.close()
    reader, writer = await port.plain()
    gone = asyncio.create_task(ended(reader))
    for byte in greeting[:-1]:
        if gone.done():
            break
        with contextlib.suppress(*CLOSED):
            writer.write(bytes([byte]))
            await writer.drain()
        await asyncio.sleep(0.05)
    else:
        raise AssertionError("a slow handshake was waited for")
    await gone
    writer.close()
    await port.works()
    assert port.pending == 0


async def test_c29_nothing_after_the_handshake_is_no_better(port: Port) -> None:
    reader, writer = await port.sealed()
    assert await ended(reader) == b""
    writer.close()


async def test_c30_handshakes_that_wait_are_counted_and_the_oldest_gives_way(
    port: Port, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "HANDSHAKES_MAX", 5)
    greeting = hello(port.authority.client())
    waiting = []
    for start in (b"\x16", greeting) * 6:
        reader, writer = await port.plain()
        writer.write(start)
        await writer.drain()
        waiting.append((reader, writer))
        await asyncio.sleep(0.01)
        assert port.pending <= 5
    await port.works()
    for reader, _ in waiting[:6]:
        await ended(reader)
    for _, writer in waiting:
        writer.close()


async def test_old_tls_is_refused_and_http_1_is_what_is_spoken(port: Port) -> None:
    for version in (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1):
        old = port.authority.client()
        old.set_ciphers("ALL:@SECLEVEL=0")
        old.minimum_version = ssl.TLSVersion.TLSv1
        old.maximum_version = version
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await port.sealed(old)
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        new = port.authority.client()
        new.minimum_version = new.maximum_version = version
        new.set_alpn_protocols(["h2", "http/1.1"])
        reader, writer = await port.sealed(new)
        talk = writer.get_extra_info("ssl_object")
        assert talk.selected_alpn_protocol() == "http/1.1"
        assert talk.compression() is None
        assert (await ask(reader, writer)).startswith(b"HTTP/1.1 200 ")
        writer.close()
    weak = port.authority.client()
    weak.maximum_version = ssl.TLSVersion.TLSv1_2
    weak.set_ciphers("ECDHE-ECDSA-AES128-SHA256:AES128-SHA")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await port.sealed(weak)


async def test_a_client_cannot_begin_a_second_handshake(port: Port) -> None:
    """TLS 1.2 renegotiation, asked for by the one program that still can."""
    process = await asyncio.create_subprocess_exec(
        "openssl", "s_client", "-connect", f"127.0.0.1:{port.served.port}", "-tls1_2",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    said = b""
    async with asyncio.timeout(20):
        while b"---\n" not in said.partition(b"Verify return code")[2]:
            said += await process.stdout.read(4096)
        process.stdin.write(b"R\n")
        await process.stdin.drain()
        rest = await process.stdout.read()
        await process.wait()
    _, asked, answered = rest.partition(b"RENEGOTIATING")
    assert asked
    assert b"no renegotiation" in answered
    assert b"depth=0" not in answered, "a certificate shown again is a second handshake"
    assert b"Secure Renegotiation IS supported" in said, "or the test asked for nothing"


async def test_a_connection_that_ends_without_saying_so_ends_here_too(port: Port) -> None:
    """Cut below TLS, in the middle of a body or of nothing, by end or by reset: nothing of it is acted on."""
    key = await port.served.key()
    head = (
        f"POST /api/keys HTTP/1.1\r\nhost: 127.0.0.1\r\nx-api-key: {key}\r\ncontent-type: application/json\r\n"
        'content-length: 25\r\n\r\n{"name": "truncated"}'
    ).encode()
    for reset in (False, True):
        for said in (b"", b"GET /heal", head):
            raw = socket.create_connection(("127.0.0.1", port.served.port))
            if reset:
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            talk = await asyncio.to_thread(port.authority.client().wrap_socket, raw, server_hostname="localhost")
            await asyncio.to_thread(talk.sendall, said)
            await asyncio.sleep(0.05)
            socket.socket.close(talk)  # without TLS' own farewell
    async with asyncio.timeout(15):
        while port.served.server.server_state.connections:
            await asyncio.sleep(0.02)
    assert [k.name for k in await port.served.identity.keys.all()] == ["test"]
    await port.works()


async def test_a_new_pair_is_for_those_who_come_and_nobody_is_cut(port: Port) -> None:
    def names(writer: asyncio.StreamWriter) -> set[str]:
        return {name for _, name in writer.get_extra_info("peercert")["subjectAltName"]}

    said: list[str] = []
    before = await port.sealed()
    assert (await ask(*before)).startswith(b"HTTP/1.1 200 ")
    port.authority.write(port.directory, "localhost", "new.example")
    port.used.check(lambda kind, _: said.append(kind))
    assert said == ["certificate_changed"]
    after = await port.sealed()
    assert "new.example" in names(after[1])
    assert "new.example" not in names(before[1])
    for each in (before, after):
        assert (await ask(*each)).startswith(b"HTTP/1.1 200 ")

    (port.directory / "server.key").write_text("broken")
    port.used.check(lambda kind, _: said.append(kind))
    assert said[-1] == "certificate_refused"
    later = await port.sealed()
    assert "new.example" in names(later[1])
    for _, writer in (before, after, later):
        writer.close()


async def test_when_there_are_no_more_descriptors_it_waits_and_goes_on(
    port: Port, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And does not spin meanwhile: the socket stays readable."""
    asked = 0
    real = listener.Listener._pause

    def counted(self: listener.Listener) -> None:
        nonlocal asked
        asked += 1
        real(self)

    def none(self: socket.socket) -> tuple[socket.socket, object]:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(listener.Listener, "_pause", counted)
    monkeypatch.setattr(listener, "AGAIN_S", 0.2)
    with monkeypatch.context() as scarce:
        scarce.setattr(socket.socket, "accept", none)
        _, writer = await port.plain()
        await asyncio.sleep(0.5)
    assert 1 <= asked <= 4
    await port.works()
    writer.close()
