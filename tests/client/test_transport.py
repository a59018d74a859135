"""Requests whose connection is lost: which are sent again, and for how long."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from pilothouse.client import Client, ClientError, Conflict, NoServer, NotFound
from pilothouse.client.calls import Calls
from pilothouse.client.transport import Endpoint, Transport
from pilothouse.core.api.kept import Invocation
from tests.clock import HandClock

LONG_S = 7200
PATIENCE_S = 30
ANSWER = {
    "output": {
        "success": True, "result": "done", "session_id": "s", "timestamp": "", "model": "",
        "metadata": {"duration_ms": 1, "num_turns": 1, "total_cost_usd": 0, "job_id": "j", "uploaded_files": []},
    }
}  # fmt: skip


class Cutting:
    """A server that cuts the first `cuts` calls in the middle of an answer that took two hours."""

    def __init__(self) -> None:
        self.cuts = 0
        self.keys: list[str] = []
        self.clock = HandClock()
        self.heard = asyncio.Event()
        self.url = ""

    def now(self) -> float:
        """The client looks at the time when it has an answer's head, and when it has lost it."""
        self.heard.set()
        return self.clock.now()

    async def silent(self, request: web.Request) -> web.StreamResponse:
        self.keys.append("")
        await asyncio.sleep(PATIENCE_S)
        return web.Response()

    async def half(self, request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        answer.enable_chunked_encoding()
        await answer.prepare(request)
        await answer.write(b"half")
        assert request.transport is not None
        request.transport.close()
        return answer

    async def invoked(self, request: web.Request) -> web.StreamResponse:
        self.keys.append(request.headers.get("idempotency-key", ""))
        if len(self.keys) > self.cuts:
            return web.json_response(ANSWER)
        self.heard.clear()
        answer = web.StreamResponse(headers={"content-type": "application/json"})
        await answer.prepare(request)
        await answer.write(b" ")
        await self.heard.wait()
        self.clock.seconds += LONG_S
        assert request.transport is not None
        request.transport.abort()
        return answer


@pytest.fixture
async def cutting() -> AsyncIterator[Cutting]:
    made = Cutting()
    app = web.Application()
    app.add_routes(
        [
            web.post("/invoke", made.invoked),
            web.route("*", "/api/things", made.invoked),
            web.get("/silent", made.silent),
            web.get("/half", made.half),
        ]
    )
    runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()


@pytest.fixture
async def transport(cutting: Cutting) -> AsyncIterator[Transport]:
    async def find() -> Endpoint:
        return Endpoint(cutting.url, "key")

    made = Transport(find, cutting.now)
    await made.open()
    yield made
    await made.close()


@pytest.mark.parametrize("url", ["127.0.0.1:8420", "localhost", "http:/x", "ftp://x", "http://", "http://h:99999"])
def test_an_address_that_is_none_is_named(url: str) -> None:
    with pytest.raises(ClientError, match=r"^url: '.*' is no address of a server, such as http://127\.0\.0\.1:8420$"):
        Client(url, "key")


async def test_a_call_that_is_cut_after_hours_is_asked_for_again_by_its_word(
    cutting: Cutting, transport: Transport
) -> None:
    cutting.cuts = 2
    output = await asyncio.wait_for(Calls(transport).invoke(Invocation(prompt="x")), PATIENCE_S)
    assert output.result == "done"
    first, *others = cutting.keys
    assert first
    assert others == [first, first]


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
async def test_every_change_of_the_api_has_a_word_of_ours_where_it_has_none(
    cutting: Cutting, transport: Transport, method: str
) -> None:
    for given in (None, None, "mine"):
        cutting.keys.clear()
        cutting.cuts = 2
        await asyncio.wait_for(transport.send(method, "/api/things", body={}, key=given), PATIENCE_S)
        first, *others = cutting.keys
        assert others == [first, first]
        assert len(first) == 32 if not given else first == "mine"


@pytest.mark.parametrize("id", ["..", "../things", "x/../../things", "%2e%2e/things", "./things"])
async def test_an_id_leads_to_no_other_address(cutting: Cutting, id: str) -> None:
    """Neither is anything asked for, nor changed, under the name of something else."""
    async with Client(cutting.url, "key") as client:
        with pytest.raises(NotFound, match="that is no id"):
            await client.sessions.get(id)
        with pytest.raises(NotFound, match="that is no id"):
            await client.sessions.delete(id)
    assert cutting.keys == []


async def test_what_only_reads_has_none(cutting: Cutting, transport: Transport) -> None:
    await transport.send("GET", "/api/things")
    assert cutting.keys == [""]


async def test_a_download_that_breaks_off_is_told_in_plain_words(cutting: Cutting, transport: Transport) -> None:
    with pytest.raises(NoServer, match=r"broke off the download: the answer ended too early$"):
        async with transport.download("/half") as chunks:
            async for _ in chunks:
                pass


async def test_a_request_without_a_word_is_not(cutting: Cutting, transport: Transport) -> None:
    cutting.cuts = 1
    with pytest.raises(NoServer):
        await transport.send("POST", "/invoke", body={})
    assert len(cutting.keys) == 1


async def test_a_server_that_says_nothing_is_not_asked_again(cutting: Cutting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pilothouse.client.transport.ANSWER_S", 2.0)
    async with Client(cutting.url, "key") as client:
        await client.calls.invoke(Invocation(prompt="x"))  # it is there
        cutting.keys.clear()
        with pytest.raises(NoServer):
            await asyncio.wait_for(client.ask(int, "GET", "/silent"), PATIENCE_S)
    assert len(cutting.keys) == 1


class Rude:
    """A server that takes each request and cuts the connection, until it has `cuts` no more."""

    def __init__(self, cuts: int, status: str = "200 OK", body: bytes = b"{}") -> None:
        self.cuts = cuts
        self.heads: list[str] = []
        self.answer = f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        self.heads.append(head)
        if len(self.heads) > self.cuts:
            writer.write(self.answer)
            await writer.drain()
        writer.close()

    @property
    def keys(self) -> set[str]:
        return {line for head in self.heads for line in head.split("\r\n") if line.startswith("idempotency-key")}


@contextlib.asynccontextmanager
async def rude(server: Rude) -> AsyncIterator[Transport]:
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]

    async def find() -> Endpoint:
        return Endpoint(f"http://127.0.0.1:{port}", "key")

    made = Transport(find)
    await made.open()
    try:
        yield made
    finally:
        await made.close()
        listening.close()


async def test_a_change_that_is_the_first_request_is_sent_again_too() -> None:
    server = Rude(2)
    async with rude(server) as transport:
        assert await asyncio.wait_for(transport.send("POST", "/api/things", body={}), PATIENCE_S) == b"{}"
    assert (len(server.heads), len(server.keys)) == (3, 1)


async def test_who_cuts_every_time_and_has_never_answered_is_not_asked_for_long() -> None:
    server = Rude(1000)
    async with rude(server) as transport:
        with pytest.raises(NoServer, match=r"was lost .*, and it is not known whether this was done\.$"):
            await asyncio.wait_for(transport.send("POST", "/api/things", body={}), PATIENCE_S / 2)
        with pytest.raises(NoServer, match=r"^No Pilothouse server answers at"):
            await asyncio.wait_for(transport.send("GET", "/api/things"), PATIENCE_S / 2)
    assert len(server.keys) == 1


async def test_what_was_made_when_its_connection_was_lost_is_said_to_who_gave_no_key() -> None:
    problem = b'{"title":"Conflict","status":409,"code":"conflict","reason":"made","detail":"idempotency-key: made"}'
    for given, cuts, said in ((None, 1, "This was made"), ("mine", 1, "idempotency-key"), (None, 0, "idempotency-key")):
        async with rude(Rude(cuts, "409 Conflict", problem)) as transport:
            with pytest.raises(Conflict, match=f"^{said}"):
                await asyncio.wait_for(transport.send("POST", "/api/things", body={}, key=given), PATIENCE_S)
