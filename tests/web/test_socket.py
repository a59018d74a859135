"""What every door can rely on, through picows and through plain ASGI alike, with and without TLS."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

import pytest
import uvloop
import websockets.asyncio.client as client
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, InvalidStatus
from websockets.typing import Subprotocol

from pilothouse.web.certificate import Pair, load
from pilothouse.web.socket import Accept, Frames, Limits, Refuse
from tests.certificates import Authority
from tests.web.doorhouse import House, Raw, house, pieces, request

SMALL = Limits(
    message=100_000,
    high_water=200_000,
    cut=2_000_000,
    inbox=50_000,
    handshake_s=0.4,
    ping_s=0.4,
    silence_s=1.2,
    close_s=0.4,
    grace_s=0.3,
)
ROOMY = Limits(message=100_000, high_water=200_000, cut=2_000_000, inbox=50_000, close_s=1.0, grace_s=1.0)


@dataclass
class Client(House):
    """A house, and how one gets in."""

    tls: ssl.SSLContext | None = None
    way: str = ""

    def connect(self, target: str = "/door", **options: Any) -> client.connect:
        scheme = "wss" if self.tls else "ws"
        return client.connect(f"{scheme}://127.0.0.1:{self.port}{target}", ssl=self.tls, **options)

    async def raw(self) -> Raw:
        return await Raw.connect(self.port, self.tls)

    async def open(self, target: str = "/door") -> Raw:
        return await Raw.open(self.port, target, self.tls)


Open = Callable[[Limits], AbstractAsyncContextManager[Client]]


@pytest.fixture(
    params=["hot on asyncio", "hot on uvloop", "plain on uvloop", "hot on uvloop, TLS", "plain on uvloop, TLS"]
)
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def event_loop_policy(way: str) -> asyncio.AbstractEventLoopPolicy:
    return uvloop.EventLoopPolicy() if "uvloop" in way else asyncio.DefaultEventLoopPolicy()


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.make()


@pytest.fixture(scope="module")
def pair(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return load(*authority.write(tmp_path_factory.mktemp("tls"), "localhost", "127.0.0.1"))


@pytest.fixture
def trusting(way: str, authority: Authority) -> ssl.SSLContext | None:
    return authority.client() if "TLS" in way else None


@pytest.fixture
def opened(way: str, pair: Pair, trusting: ssl.SSLContext | None) -> Open:
    @contextlib.asynccontextmanager
    async def open(limits: Limits) -> AsyncIterator[Client]:
        async with house(way.split()[0], limits, pair if trusting else None) as made:
            yield Client(made.port, made.echo, made.server, trusting, way)

    return open


@pytest.fixture
async def doors(opened: Open) -> AsyncIterator[Client]:
    async with opened(ROOMY) as it:
        yield it


async def test_text_and_binary_come_back(doors: Client) -> None:
    async with doors.connect(compression=None) as socket:
        for message in ("hällo", b"\x00\xff", "", b"", "x" * 99_000):
            await socket.send(message)
            assert await socket.recv() == message


async def test_a_client_that_offers_deflate_is_served_without(doors: Client) -> None:
    async with doors.connect() as socket:
        assert "sec-websocket-extensions" not in (socket.response.headers if socket.response else {})
        await socket.send("a")
        assert await socket.recv() == "a"


async def test_what_the_door_sees_of_the_request(doors: Client) -> None:
    offers = [Subprotocol("one"), Subprotocol("two")]
    headers = {"X-Key": "k", "Cookie": "c=d"}
    async with doors.connect("/door?a=%2F&b", subprotocols=offers, additional_headers=headers) as socket:
        assert socket.subprotocol == "two"
        assert socket.response is not None
        assert socket.response.headers["x-door"] == "echo"
    seen = doors.echo.seen[-1]
    assert (seen.path, seen.query, seen.secure) == ("/door", "a=%2F&b", doors.tls is not None)
    assert (seen.header("x-key"), seen.header("cookie"), seen.header("none")) == ("k", "c=d", None)
    assert seen.subprotocols == ["one", "two"]
    assert seen.client is not None
    assert seen.client[0] == "127.0.0.1"


async def test_a_header_given_twice_has_no_single_value(doors: Client) -> None:
    raw = await doors.raw()
    raw.writer.write(request("/door").replace(b"Host:", b"X-Twice: a\r\nX-Twice: b\r\nHost:"))
    await raw.reader.readuntil(b"\r\n\r\n")
    seen = doors.echo.seen[-1]
    assert seen.header("x-twice") is None
    assert seen.all("x-twice") == ["a", "b"]
    raw.writer.close()


async def test_a_refusal_is_an_http_answer(doors: Client) -> None:
    with pytest.raises(InvalidStatus) as caught:
        await doors.connect("/door?refuse")
    answer = caught.value.response
    assert (answer.status_code, answer.headers["x-why"], answer.body) == (403, "because", b"not you")


async def test_an_error_of_the_tree_is_its_http_answer(doors: Client) -> None:
    with pytest.raises(InvalidStatus) as caught:
        await doors.connect("/door?raise")
    assert caught.value.response.status_code == 401


async def test_a_door_that_cannot_decide_in_time_refuses(opened: Open) -> None:
    async with opened(SMALL) as doors:
        with pytest.raises(InvalidStatus) as caught:
            await doors.connect("/door?hang")
        assert caught.value.response.status_code == 503


async def test_other_paths_stay_where_they_are(doors: Client) -> None:
    async with doors.connect("/other") as socket:
        await socket.send("x")
        assert await socket.recv() == "other x"
    with pytest.raises(InvalidStatus):
        await doors.connect("/nowhere")
    raw = await doors.raw()
    raw.writer.write(b"GET /page HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert (await raw.reader.read()).endswith(b"page")
    raw.writer.close()


async def test_many_frames_in_one_write(doors: Client) -> None:
    async with doors.connect(max_size=None) as socket:
        await socket.send("many")
        assert [await socket.recv() for _ in range(3)] == ["1", "2" * 200, "3" * 70000]


async def test_a_door_can_listen_instead_of_receiving(doors: Client) -> None:
    async with doors.connect("/door?listen") as socket:
        for word in ("a", "b"):
            await socket.send(word)
            assert await socket.recv() == f"heard {word}".encode()


async def test_a_door_that_listens_can_let_the_next_messages_wait(doors: Client) -> None:
    async with doors.connect("/door?listen") as socket:
        for word in ("a", "halt", "b", "c", "halt", "halt", "d"):
            await socket.send(word)
        said = [await socket.recv() for _ in range(7)]
    words = ["heard a", "heard halt", "received b", "heard c", "heard halt", "received halt", "heard d"]
    assert [bytes(one, "ascii") if isinstance(one, str) else one for one in said] == [w.encode() for w in words]


async def test_a_few_bytes_at_a_time_are_heard_as_they_were_sent(doors: Client) -> None:
    """Alone in a packet, two in one, in halves, between the parts of a longer message, and with a brake."""
    raw = await doors.open("/door?listen")
    sent: list[bytes] = []

    async def heard(*data: bytes) -> None:
        for one in data:
            assert await raw.read() == (2, b"heard " + one)

    for size in [*range(40), *range(20)]:
        sent.append(os.urandom(size))
        await heard_alone(raw, sent[-1])
        await heard(sent[-1])
    raw.frame(2, b"one").frame(2, b"two")
    await heard(b"one", b"two")
    for cut in range(1, 9):
        whole = b"\x82\x83mask" + bytes(a ^ b for a, b in zip(b"abc", b"mas", strict=True))
        for half in (whole[:cut], whole[cut:]):
            raw.writer.write(half)
            await asyncio.sleep(0.01)
        await heard(b"abc")
        await heard_alone(raw, b"x")
        await heard(b"x")
    raw.frame(2, b"begins", fin=False)
    await asyncio.sleep(0.01)
    raw.frame(9, b"p")
    assert await raw.read() == (10, b"p")
    raw.frame(0, b" and ends")
    await heard(b"begins and ends")
    await heard_alone(raw, b"halt")
    await heard_alone(raw, b"b")
    await heard_alone(raw, b"c")
    await heard(b"halt")
    assert [await raw.read() for _ in range(2)] == [(1, b"received b"), (2, b"heard c")]


async def heard_alone(raw: Raw, data: bytes) -> None:
    """In a packet of its own."""
    raw.frame(2, data)
    await raw.writer.drain()
    await asyncio.sleep(0.002)


@pytest.mark.parametrize("frame", [b"\x82\x01a", b"\xc2\x81mask\x00", b"\x83\x81mask\x00", b"\x82\x80\x00\x00"])
async def test_a_small_frame_that_is_wrong_is_not_heard(doors: Client, frame: bytes) -> None:
    raw = await doors.open("/door?listen")
    raw.writer.write(frame)
    if len(frame) < 6 and frame[1] & 0x80:  # half of one
        await asyncio.sleep(0.05)
        raw.writer.write(b"\x00\x00" + b"\x82\x81maskx")
        assert await raw.read() == (2, b"heard ")
        assert await raw.read() == (2, b"heard " + bytes([ord("x") ^ ord("m")]))
    else:
        assert await raw.closed_with() == 1002


async def test_in_the_middle_of_a_message_a_small_frame_is_a_mistake(doors: Client) -> None:
    raw = await doors.open("/door?listen")
    raw.frame(2, b"begins", fin=False)
    await heard_alone(raw, b"x")
    assert await raw.closed_with() == 1002


async def test_a_listener_that_fails_ends_the_connection(doors: Client) -> None:
    raw = await doors.open("/door?listen")
    await heard_alone(raw, b"fail")
    if "hot" in doors.way:
        assert await raw.closed_with() == 1011
    else:  # the transport gives it up
        assert await raw.reader.read() == b""


@pytest.mark.parametrize(("word", "code"), [("bye", 4001), ("return", 1000), ("fail", 1011)])
async def test_how_a_door_ends(doors: Client, word: str, code: int) -> None:
    async with doors.connect() as socket:
        await socket.send(word)
        with pytest.raises(ConnectionClosed) as caught:
            await socket.recv()
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == code


async def test_what_arrived_before_the_client_left_is_still_received(doors: Client) -> None:
    socket = await doors.connect()
    for _ in range(20):
        await socket.send("x")
    await socket.close()
    async with asyncio.timeout(20):
        while not doors.echo.ended:
            await asyncio.sleep(0.01)


async def test_a_client_that_vanishes_ends_the_door(doors: Client) -> None:
    raw = await doors.open()
    raw.writer.transport.abort()
    async with asyncio.timeout(20):
        while not doors.echo.ended:
            await asyncio.sleep(0.01)


async def test_a_door_that_does_not_return_is_cancelled(opened: Open) -> None:
    async with opened(SMALL) as doors:
        raw = await doors.open()
        raw.frame(1, b"sleep")
        await raw.writer.drain()
        await asyncio.sleep(0.05)
        raw.writer.transport.abort()
        async with asyncio.timeout(20):
            while doors.server.server_state.tasks:
                await asyncio.sleep(0.01)


# --- doors that hear, without a task ---


async def ended(doors: Client, count: int = 1) -> None:
    async with asyncio.timeout(20):
        while len(doors.echo.ended) < count:
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)
    assert doors.echo.ended == ["hearer"] * count


async def test_a_door_that_hears_has_nothing_to_wait_for(doors: Client) -> None:
    async with doors.connect("/door?once") as socket:
        assert socket.response is not None
        assert socket.response.headers["x-door"] == "hears"
        for word in ("a", "b"):
            await socket.send(word)
            assert await socket.recv() == f"heard {word}"
        if "hot" in doors.way:
            assert not doors.server.server_state.tasks
    await ended(doors)


async def test_a_door_may_refuse_at_once(doors: Client) -> None:
    with pytest.raises(InvalidStatus) as caught:
        await doors.connect("/door?once-refuse")
    answer = caught.value.response
    assert (answer.status_code, answer.headers["x-why"], answer.body) == (403, "at once", b"not you")
    assert len(doors.echo.seen) == 1


async def test_a_door_that_fails_at_once_is_asked(doors: Client, caplog: pytest.LogCaptureFixture) -> None:
    async with doors.connect("/door?later") as ws:
        await ws.send("hello")
        assert await ws.recv() == "hello"
    assert ("a door could not answer at once" in caplog.text) is ("hot" in doors.way)


@pytest.mark.parametrize("target", ["/door?once", "/door?once-wait"])
async def test_what_comes_while_a_hearer_waits_is_heard_after_it_and_in_order(doors: Client, target: str) -> None:
    async with doors.connect(target) as socket:
        for word in ("a", "wait", "b", "wait", "wait", "c"):
            await socket.send(word)
        said = [await socket.recv() for _ in range(7 if target.endswith("wait") else 6)]
        await socket.send("d")
        assert await socket.recv() == "heard d"
    first = ["waited"] if target.endswith("wait") else []
    assert said == [*first, "heard a", "waited", "heard b", "waited", "waited", "heard c"]
    await ended(doors)


@pytest.mark.parametrize(("words", "code"), [(["bye"], 4001), (["fail"], 1011), (["fail later"], 1011)])
async def test_how_a_hearer_ends(doors: Client, words: list[str], code: int) -> None:
    async with doors.connect("/door?once") as socket:
        for word in words:
            await socket.send(word)
        with pytest.raises(ConnectionClosed) as caught:
            await socket.recv()
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == code
    await ended(doors)


async def test_a_hearer_that_fails_at_the_beginning_is_closed(doors: Client) -> None:
    async with doors.connect("/door?once-fail") as socket:
        with pytest.raises(ConnectionClosed) as caught:
            await socket.recv()
    assert caught.value.rcvd is not None
    assert caught.value.rcvd.code == 1011
    await ended(doors)


async def test_a_hearer_is_told_that_its_client_has_vanished(doors: Client) -> None:
    raw = await doors.open("/door?once")
    raw.writer.transport.abort()
    await ended(doors)


async def test_a_hearer_is_handed_what_arrived_before_its_client_left(doors: Client) -> None:
    raw = await doors.open("/door?once")
    raw.frame(1, b"wait").frame(1, b"a").frame(1, b"b").frame(8, (1000).to_bytes(2))
    await raw.writer.drain()
    await ended(doors)
    assert doors.echo.heard == [b"a", b"b"]
    raw.writer.close()


async def test_a_hearer_that_does_not_come_back_is_cancelled(opened: Open) -> None:
    async with opened(SMALL) as doors:
        raw = await doors.open("/door?once")
        raw.frame(1, b"sleep")
        await raw.writer.drain()
        await asyncio.sleep(0.05)
        raw.writer.transport.abort()
        await ended(doors)
        assert not doors.server.server_state.tasks


async def test_who_does_not_read_is_not_heard_until_it_does(doors: Client) -> None:
    raw = await doors.open("/door?once")
    for _ in range(16):
        raw.frame(1, b"much")
    raw.frame(1, b"a")
    await asyncio.sleep(0.3)
    assert doors.echo.heard == []
    async with asyncio.timeout(60):
        assert [len((await raw.read())[1]) for _ in range(17)] == [*[1_500_000] * 16, len(b"heard a")]
    raw.writer.transport.abort()
    await ended(doors)


async def test_a_hearer_that_does_not_wait_loses_the_connection(opened: Open) -> None:
    async with opened(ROOMY) as doors:
        raw = await doors.open("/door?once")
        raw.frame(1, b"rudely")
        await raw.writer.drain()
        await ended(doors)
        raw.writer.transport.abort()


def closing(code: int, raw: Raw) -> Raw:
    return raw.frame(8, code.to_bytes(2))


HALF = b"a" * 60_000
BAD: dict[str, tuple[Callable[[Raw], Raw], int]] = {
    "no mask": (lambda raw: raw.frame(1, b"a", masked=False), 1002),
    "reserved bit 1": (lambda raw: raw.frame(1, b"a", rsv=4), 1002),
    "reserved bit 3": (lambda raw: raw.frame(2, b"a", rsv=1), 1002),
    "reserved bit on a ping": (lambda raw: raw.frame(9, b"a", rsv=4), 1002),
    "unknown opcode": (lambda raw: raw.frame(3, b"a"), 1002),
    "unknown control opcode": (lambda raw: raw.frame(11, b"a"), 1002),
    "control frame in fragments": (lambda raw: raw.frame(9, b"a", fin=False), 1002),
    "long control frame": (lambda raw: raw.frame(9, b"a" * 126), 1002),
    "continuation of nothing": (lambda raw: raw.frame(0, b"a"), 1002),
    "text inside a fragmented text": (lambda raw: raw.frame(1, b"a", fin=False).frame(1, b"b"), 1002),
    "no UTF-8": (lambda raw: raw.frame(1, b"\xff\xfe"), 1007),
    "no UTF-8 over fragments": (lambda raw: raw.frame(1, b"\xc3", fin=False).frame(0, b"("), 1007),
    "too long": (lambda raw: raw.frame(2, b"", size=100_001), 1009),
    "absurdly long": (lambda raw: raw.frame(2, b"", size=1 << 62), 1009),
    "too long in fragments": (lambda raw: raw.frame(2, HALF, fin=False).frame(0, HALF, fin=False), 1009),
    "negative length": (lambda raw: raw.frame(2, b"", size=(1 << 63) + 5), -1),
    "close of one byte": (lambda raw: raw.frame(8, b"a"), 1002),
    **{
        f"close with {code}": (functools.partial(closing, code), 1002)
        for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535)
    },
    "close whose reason is no UTF-8": (lambda raw: raw.frame(8, (1000).to_bytes(2) + b"\xff"), 1007),
}


@pytest.mark.parametrize("name", BAD)
async def test_bytes_that_must_not_be(doors: Client, name: str) -> None:
    do, code = BAD[name]
    raw = await doors.open()
    do(raw)
    async with asyncio.timeout(20):
        assert await raw.closed_with() in ((1002, 1009) if code == -1 else (code,))
    async with doors.connect() as socket:
        await socket.send("still here")
        assert await socket.recv() == "still here"


@pytest.mark.parametrize("code", [1000, 1001, 1003, 1007, 1014, 3000, 4999])
async def test_a_client_that_closes_gets_its_own_code(doors: Client, code: int) -> None:
    raw = closing(code, await doors.open())
    async with asyncio.timeout(20):
        assert await raw.closed_with() == code


async def test_fragments_with_a_ping_between_are_one_message(doors: Client) -> None:
    raw = await doors.open()
    raw.frame(1, "ä".encode()[:1], fin=False)
    raw.frame(9, b"now")
    raw.frame(0, b"", fin=False)
    raw.frame(0, "ä".encode()[1:])
    frames = [await raw.read(), await raw.read()]
    assert sorted(frames) == [(1, "ä".encode()), (10, b"now")]
    raw.frame(8, (1000).to_bytes(2))
    assert await raw.read() == (8, (1000).to_bytes(2))
    assert await raw.reader.read() == b""
    raw.writer.close()


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"Sec_WebSocket_Version": "12"}, (400, 426)),
        ({"Sec_WebSocket_Version": None}, (400, 426)),
        ({"Sec_WebSocket_Key": None}, (400,)),
        ({"Sec_WebSocket_Key": "short"}, (400,)),
        ({"Sec_WebSocket_Key": "AAAA"}, (400,)),
    ],
)
async def test_a_handshake_that_is_none(doors: Client, change: dict[str, str | None], status: tuple[int, ...]) -> None:
    raw = await doors.raw()
    raw.writer.write(request("/door", **change))
    line = await raw.reader.readline()
    assert int(line.split()[1]) in status
    await raw.reader.read()
    assert doors.echo.seen == []
    raw.writer.close()


async def test_c30_a_slow_client_holds_a_bounded_buffer(opened: Open) -> None:
    async with opened(ROOMY) as doors:
        raw = await doors.open()
        raw.frame(1, b"flood")
        await raw.writer.drain()
        async with asyncio.timeout(20):
            while not doors.echo.flooded:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.5)
        assert 0 < doors.echo.flooded <= ROOMY.high_water + 2 * 65536
        raw.writer.transport.abort()


async def test_what_has_waited_for_a_slow_client_is_what_was_sent(doors: Client) -> None:
    raw = await doors.open()
    raw.frame(1, b"pieces")
    await asyncio.sleep(0.3)  # until all buffers are full
    for piece in pieces():
        assert await raw.read() == (2, piece)
    raw.writer.transport.abort()


async def test_a_door_that_does_not_wait_loses_the_connection(opened: Open) -> None:
    async with opened(ROOMY) as doors:
        raw = await doors.open()
        raw.frame(1, b"rudely")
        await raw.writer.drain()
        async with asyncio.timeout(10):
            while not doors.echo.ended:
                await asyncio.sleep(0.01)
        raw.writer.transport.abort()


async def test_messages_that_the_door_does_not_take_stop_the_client(doors: Client) -> None:
    raw = await doors.open()
    raw.frame(1, b"sleep")
    sent = 0
    block = b"x" * 60_000
    with contextlib.suppress(TimeoutError):
        while sent < 500:
            raw.frame(2, block)
            async with asyncio.timeout(0.3):
                await raw.writer.drain()
            sent += 1
    assert sent < 500, "30 MB were taken from a client whose door sleeps"
    raw.writer.transport.abort()


async def test_c29_a_silent_client_is_pinged_then_let_go(opened: Open) -> None:
    async with opened(SMALL) as doors:
        raw = await doors.open()
        async with asyncio.timeout(20):
            opcode, _ = await raw.read()
            assert opcode == 9
            assert await raw.closed_with() == 1011


async def test_a_client_that_answers_pings_stays(opened: Open) -> None:
    async with opened(SMALL) as doors, doors.connect() as socket:
        await asyncio.sleep(SMALL.silence_s * 2)
        await socket.send("a")
        assert await socket.recv() == "a"


async def test_a_closing_handshake_that_never_ends_is_ended(opened: Open) -> None:
    async with opened(ROOMY) as doors:
        raw = await doors.open()
        raw.frame(1, b"return")
        assert (await raw.read())[0] == 8
        async with asyncio.timeout(40):
            with contextlib.suppress(ConnectionError):
                assert await raw.reader.read() == b""
        raw.writer.close()


async def test_a_restart_is_said(opened: Open) -> None:
    async with opened(ROOMY) as doors, doors.connect() as socket:
        await socket.send("a")
        await socket.recv()
        doors.server.should_exit = True
        with pytest.raises(ConnectionClosedError) as caught:
            await socket.recv()
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1012


async def test_c29_half_a_request_does_not_wait_for_ever(opened: Open) -> None:
    async with opened(SMALL) as doors:
        for start in (b"", b"GET /door HTTP/1.1\r\nHost: x\r\nUpgr"):
            raw = await doors.raw()
            raw.writer.write(start)
            async with asyncio.timeout(20):
                with contextlib.suppress(ConnectionError):
                    assert await raw.reader.read() == b""
            raw.writer.close()


def test_headers_that_would_split_the_answer_are_refused() -> None:
    async def serve(socket: object) -> None: ...

    with pytest.raises(ValueError, match="not allowed"):
        Accept(serve, [("x", "a\r\nSet-Cookie: b")])
    with pytest.raises(ValueError, match="not allowed"):
        Refuse(400, [("x\n", "a")])


def test_frames_have_the_right_heads() -> None:
    for size, head in ((0, 2), (125, 2), (126, 4), (65535, 4), (65536, 10)):
        raw = Frames.of([b"x" * size]).raw
        assert len(raw) == head + size
        assert raw[0] == 0x81


async def test_a_server_that_was_held_up_does_not_blame_its_clients() -> None:
    """Only through picows: uvicorn's own pings count the time in which it could not listen."""
    async with house("hot", SMALL) as doors, client.connect(f"ws://127.0.0.1:{doors.port}/door") as socket:
        await asyncio.sleep(0.05)
        time.sleep(SMALL.silence_s * 2)
        await asyncio.sleep(0.1)
        await socket.send("a")
        assert await socket.recv() == "a"
