"""What issuers' hosts answer with, however they answer, and where nobody is led: over real sockets."""

from __future__ import annotations

import asyncio
import dataclasses
import gzip
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from pilothouse.adapters.identity.documents import BYTES_MAX, Documents, NotFetched
from pilothouse.core.claims import Issuer

OPEN = Issuer("x", "https://issuer.example", audience=("a",), default_role="viewer")


class Host:
    """A host that answers every request with the same bytes, and counts."""

    def __init__(self) -> None:
        self.answer = b""
        self.seen: list[bytes] = []
        self.connections = 0
        self.after: Callable[[asyncio.StreamWriter], Awaitable[None]] | None = None
        self.server: asyncio.Server

    async def start(self) -> Host:
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.sockets[0].getsockname()[1]}"

    @property
    def issuer(self) -> Issuer:
        return dataclasses.replace(OPEN, issuer=self.url, allow_private=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"(?i)content-length: (\d+)", head)
            self.seen.append(head + await reader.readexactly(int(length[1]) if length else 0))
            writer.write(self.answer)
            await writer.drain()
            if self.after is not None:
                await self.after(writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    def says(self, body: bytes, status: str = "200 OK", *headers: str) -> None:
        head = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", "content-type: application/json", *headers]
        self.answer = ("\r\n".join(head) + "\r\n\r\n").encode() + body


@pytest.fixture
async def host() -> AsyncIterator[Host]:
    made = await Host().start()
    yield made
    made.server.close()
    await made.server.wait_closed()


@pytest.fixture
async def fetch() -> AsyncIterator[Documents]:
    made = Documents(timeout_s=1.0)
    yield made
    await made.close()


@pytest.fixture
async def patient() -> AsyncIterator[Documents]:
    """For answers that come."""
    made = Documents(timeout_s=20.0)
    yield made
    await made.close()


async def test_a_document_is_fetched(host: Host, patient: Documents) -> None:
    host.says(b'{"keys": []}')
    assert await patient.get(host.issuer, host.url + "/keys") == {"keys": []}
    assert b"authorization" not in host.seen[0].lower()
    assert b"cookie" not in host.seen[0].lower()


@pytest.mark.parametrize(("body", "status", "header"), [
    (b"not json", "200 OK", "x: y"), (b"[]", "200 OK", "x: y"), (b"", "200 OK", "x: y"), (b"\xff", "200 OK", "x: y"),
    (b'{"a":1,"a":2}', "200 OK", "x: y"), (b'{"keys":[]}', "404 Not Found", "x: y"), (b"{}", "500 Error", "x: y"),
    (b'{"keys":' + b"[" * 50_000, "200 OK", "x: y"),
    (gzip.compress(b"{}", mtime=0), "200 OK", "content-encoding: gzip"),
    (b"{}", "302 Found", "location: /other"), (b"{}", "301 Moved", "location: http://169.254.169.254/"),
    (b"{}", "307 Moved", "location: https://issuer.example/"), (b"{}", "200 OK", "content-length: 900"),
    (b'{"a":"' + b"x" * BYTES_MAX + b'"}', "200 OK", "x: y"),
], ids=lambda v: repr(v)[:20])  # fmt: skip
async def test_c14_an_answer_that_is_no_document_is_none(
    host: Host, fetch: Documents, body: bytes, status: str, header: str
) -> None:
    host.says(body, status, header)
    with pytest.raises(NotFetched):
        await fetch.get(host.issuer, host.url + "/keys")
    assert len(host.seen) == 1, "no redirect is followed, and nothing asked again"


async def test_an_answer_without_end_is_cut(host: Host, patient: Documents) -> None:
    async def pour(writer: asyncio.StreamWriter) -> None:
        for _ in range(4 * BYTES_MAX // 65536):
            writer.write(b"x" * 65536)
            await writer.drain()

    host.answer, host.after = b"HTTP/1.1 200 OK\r\n\r\n", pour
    with pytest.raises(NotFetched, match="more than"):
        await patient.get(host.issuer, host.url)


async def test_a_host_that_does_not_answer_is_given_up(host: Host) -> None:
    async def wait(writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.5)

    fetch = Documents(timeout_s=0.1)
    host.after = wait
    for host.answer in (b"", b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n{"):
        with pytest.raises(NotFetched, match="too long"):
            await fetch.get(host.issuer, host.url)
    await fetch.close()


@pytest.mark.parametrize("where", [
    "http://127.0.0.1:1/x", "https://127.0.0.1:1/x", "https://localhost:1/x", "https://[::1]:1/x", "https://10.0.0.1/x",
    "https://169.254.169.254/latest", "http://169.254.169.254/latest", "https://[fd00:ec2::254]/x", "https://2130706433/",
    "https://127.1/", "https://0x7f.1/", "https://[::ffff:127.0.0.1]/", "https://100.100.100.200/", "https://192.168.1.1/",
    "file:///etc/passwd", "ftp://issuer.example/", "http://issuer.example/", "https://user:pass@issuer.example/",
    "https:///x", "", "x", "https://issuer.example:99999/", "https://issuer.example/#x", "https://issuer.example/\n",
    "gopher://issuer.example/", "HTTP://issuer.example/", "//issuer.example/keys",
])  # fmt: skip
async def test_c14_no_address_of_an_issuers_document_leads_inside(patient: Documents, where: str) -> None:
    """Its own host may be private where that is configured; another one may not, whoever names it."""
    for issuer in (OPEN, dataclasses.replace(OPEN, allow_private=True)):
        with pytest.raises(NotFetched) as refused:
            await asyncio.wait_for(patient.get(issuer, where), 15)
        assert "takes too long" not in str(refused.value), "nobody was asked"


@pytest.mark.parametrize("name", [
    "１２７.０.０.１", "①②⑦.0.0.1", "①②⑦。0。0。1", "127。0.0.1", "127.0.0．1", "127｡0｡0｡1", "127%2E0%2E0%2E1",
    "%31%32%37.0.0.1", "127.0.0.1%00", "127.0.0.1%25lo", "[::1%25lo]", "[::ffff:127.0.0.1]", "127.0.0.1.", "127.1",
    "0177.0.0.1", "2130706433", "ｌｏｃａｌｈｏｓｔ", "ⓛocalhost", "localhost.", "issuer.example@127.0.0.1", "0.0.0.0",
])  # fmt: skip
async def test_c14_no_other_writing_of_an_address_inside_is_connected_to(
    host: Host, fetch: Documents, name: str
) -> None:
    """Digits and dots of other scripts are those of ASCII to whoever resolves the name: too late for a look at it."""
    port = host.url.rpartition(":")[2]
    for issuer in (OPEN, dataclasses.replace(OPEN, allow_private=True)):
        for scheme in ("https", "http"):
            with pytest.raises(NotFetched):
                await fetch.get(issuer, f"{scheme}://{name}:{port}/keys")
    assert host.connections == 0


async def test_c14_a_name_counts_by_the_address_it_leads_to(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each address of it is looked at, and the one that was looked at is connected to: one look-up, no second."""
    port = int(host.url.rpartition(":")[2])
    asked: list[str] = []
    leads: list[str] = []

    def getaddrinfo(name: str, port: int, **_: object) -> list[object]:
        asked.append(name)
        return [(2, 1, 6, "", (address, port)) for address in leads]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    seen: list[str] = []

    def public(address: str) -> bool:
        seen.append(address)
        return address == "127.0.0.1"

    fetch = Documents(public, timeout_s=0.5)
    leads = ["127.0.0.1", "10.0.0.1"]
    with pytest.raises(NotFetched, match="public"):
        await fetch.get(OPEN, f"https://issuer.example:{port}/keys")
    assert (host.connections, seen) == (0, ["127.0.0.1", "10.0.0.1"])
    leads, asked[:] = ["127.0.0.1"], []
    with pytest.raises(NotFetched, match=r"reached|long"):  # the host there speaks no TLS
        await fetch.get(OPEN, f"https://issuer.example:{port}/keys")
    assert (asked, host.connections) == (["issuer.example"], 1)
    await fetch.close()


async def test_a_private_issuer_is_asked_where_it_is_configured_so(host: Host, fetch: Documents) -> None:
    host.says(b"{}")
    assert await fetch.get(host.issuer, host.url + "/keys") == {}
    closed = dataclasses.replace(host.issuer, allow_private=False)
    elsewhere = dataclasses.replace(host.issuer, issuer="https://issuer.example")
    port = dataclasses.replace(host.issuer, issuer=host.url + "1")
    for issuer in (closed, elsewhere, port):
        with pytest.raises(NotFetched):
            await fetch.get(issuer, host.url + "/keys")
    assert len(host.seen) == 1


async def test_the_fault_of_a_token_endpoint_is_told(host: Host, fetch: Documents) -> None:
    host.says(b'{"error": "invalid_grant", "error_description": "secret things"}', "400 Bad Request")
    with pytest.raises(NotFetched, match="invalid_grant") as refused:
        await fetch.post(host.issuer, host.url + "/token", {"code": "c"}, {})
    assert "secret" not in str(refused.value)
