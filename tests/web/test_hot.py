"""The shapes that `web.readers` and `web.switch` rely on. When one of these fails after an upgrade of picows or
uvicorn, read the library's changes before touching the pin."""

from __future__ import annotations

import asyncio
import inspect
from importlib.metadata import version
from typing import Any

import picows
import pytest
from picows.picows import WSProtocol  # type: ignore[attr-defined]
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import Server, ServerState

from pilothouse.engine.viewing import GONE
from pilothouse.web.head import Http
from pilothouse.web.hot import HotSocket
from pilothouse.web.readers import SHORT, _Silent
from pilothouse.web.socket import Limits
from pilothouse.web.switch import Switch
from tests.web.doorhouse import Raw, house, request

ARGUMENTS: tuple[Any, ...] = (
    None,
    None,
    False,
    lambda request: None,
    _Silent(),
    True,
    None,
    False,
    20,
    20,
    picows.WSAutoPingStrategy.PING_WHEN_IDLE,
    False,
    1024,
    None,
    2048,
)


def test_the_versions_that_were_read() -> None:
    assert (version("picows"), version("uvicorn")) == ("2.3.1", "0.54.0")


async def test_picows_constructor_takes_exactly_these() -> None:
    WSProtocol(*ARGUMENTS)
    for wrong in (ARGUMENTS[:-1], (*ARGUMENTS, None)):
        with pytest.raises(TypeError):
            WSProtocol(*wrong)


async def test_picows_is_fed_through_a_buffer_and_tells_of_frames() -> None:
    protocol = WSProtocol(*ARGUMENTS)
    assert len(memoryview(protocol.get_buffer(-1))) >= SHORT
    for name in ("on_ws_connected", "on_ws_frame"):
        assert hasattr(picows.WSListener, name)
    for name in ("msg_type", "fin", "rsv1", "rsv2", "rsv3", "tail_size", "get_payload_as_bytes"):
        assert hasattr(picows.WSFrame, name)


def test_uvicorn_hands_over_as_expected() -> None:
    source = inspect.getsource(HttpToolsProtocol.handle_websocket_upgrade)
    steps = ["self.ws_protocol_class(", "config=self.config", "server_state=self.server_state"]
    steps += ["app_state=self.app_state", "protocol.connection_made(", "protocol.data_received(", ".set_protocol("]
    places = [source.find(step) for step in steps]
    assert -1 not in places
    assert places == sorted(places)
    names = list(inspect.signature(WebSocketsSansIOProtocol.__init__).parameters)
    assert names[:4] == ["self", "config", "server_state", "app_state"]


def test_uvicorn_begins_a_connection_as_we_do() -> None:
    """`Http.connection_made` does these by itself."""
    source = inspect.getsource(HttpToolsProtocol.connection_made)
    done = [line.strip() for line in source.splitlines() if line.strip().startswith("self.")]
    assert done == [
        "self.connections.add(self)",
        "self.transport = transport",
        "self.flow = FlowControl(transport)",
        "self.server = get_local_addr(transport)",
        "self.client = get_remote_addr(transport)",
        'self.scheme = "https" if is_ssl(transport) else "http"',
        'self.logger.log(TRACE_LOG_LEVEL, "%sHTTP connection made", prefix)',
    ]


def test_uvicorn_keeps_what_we_put_into_its_state() -> None:
    state = ServerState()
    assert isinstance(state.connections, set)
    assert isinstance(state.tasks, set)
    assert isinstance(state.default_headers, list)
    assert "connection.shutdown()" in inspect.getsource(Server.shutdown)
    for name in ("connection_made", "on_message_begin", "on_headers_complete", "connection_lost"):
        assert hasattr(HttpToolsProtocol, name), name
    assert issubclass(Http, HttpToolsProtocol)
    assert "isinstance(self.ws, str)" in inspect.getsource(Config.load), "a class or a callable is taken as it is"


async def test_a_door_really_goes_through_picows(monkeypatch: pytest.MonkeyPatch) -> None:
    """And not, by some fall-back, through the plain way, which would pass every other test as well."""
    import websockets.asyncio.client as client

    answered = []
    real = Switch.answer

    def answer(self: Switch, said: Any, key: Any, transport: Any, state: Any) -> None:
        real(self, said, key, transport, state)
        answered.append(type(transport.get_protocol()))

    monkeypatch.setattr(Switch, "answer", answer)
    async with house("hot", Limits()) as doors, client.connect(f"ws://127.0.0.1:{doors.port}/door"):
        assert answered == [HotSocket]


async def test_what_was_asked_first_is_answered_first() -> None:
    """An upgrade behind a request that is not answered yet: its frames would come before the answer."""
    async with house("hot", Limits()) as doors:
        raw = await Raw.connect(doors.port)
        raw.writer.write(b"GET /page HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" + request("/door?once"))
        said = await asyncio.wait_for(raw.reader.read(), 20)
        assert said.startswith(b"HTTP/1.1 200 ")
        assert said.count(b"HTTP/1.1") == 1
        raw.writer.close()


async def test_who_pings_and_does_not_read_has_no_more_waiting_than_others() -> None:
    async with house("hot", Limits(high_water=65_536, cut=1_000_000)) as doors:
        raw = await Raw.open(doors.port)
        raw.writer.transport.pause_reading()  # type: ignore[attr-defined]
        most, pings = 0, (b"\x89\xfd\0\0\0\0" + b"x" * 125) * 500
        for _ in range(400):
            raw.writer.write(pings)
            await raw.writer.drain()
            for one in doors.server.server_state.connections:
                if isinstance(one, HotSocket):
                    most = max(most, one.buffered())
        raw.writer.transport.abort()
        assert 65_536 < most < 1_000_000


@pytest.mark.parametrize("broken", [False, True])
async def test_of_a_connection_that_is_over_nobody_says_that_what_was_thrown_away_has_arrived(broken: bool) -> None:
    async with house("hot", Limits()) as doors:
        raw = await Raw.open(doors.port)
        raw.writer.transport.pause_reading()  # type: ignore[attr-defined]
        (one,) = [found for found in doors.server.server_state.connections if isinstance(found, HotSocket)]
        written = 0
        while one.buffered() < 100_000:
            one.send_binary(b"x" * 60_000)
            written += 60_000
            await asyncio.sleep(0)
        assert 100_000 < one.underway() <= written * 1.001
        if broken:  # as the transport does it; it tells of it only in its loop's next turn
            one.abort()
        else:
            one.close()
            assert one.buffered() < one.underway() < GONE, "what was written before goes out"
            one.send_binary(b"x" * 60_000)
        assert one.underway() == GONE
        raw.writer.transport.abort()
