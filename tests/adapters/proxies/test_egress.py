"""The egress listener against far ends on loopback: a test calls them public, or lists them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from pilothouse.adapters.proxies import egress, outside
from pilothouse.adapters.proxies.asks import Answer, Asks
from pilothouse.adapters.proxies.contacts import Contacts
from pilothouse.adapters.proxies.heads import HEAD_MAX
from pilothouse.adapters.proxies.outside import Outside
from pilothouse.core import reach
from pilothouse.core.reach import Reach
from tests.adapters.proxies.house import new_session

HELLO = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\nkeep-alive: 5\r\nx-far: yes\r\n\r\nhello"


def allow(*domains: str, ask_s: float = 0.0) -> Reach:
    return Reach("allow", reach.domains(domains, "domains"), ask_s)


@dataclass
class Door:
    port: int
    door: egress.EgressDoor
    asks: Asks
    contacts: Contacts
    lookups: list[str]
    reach: Reach

    def rows(self) -> list[tuple[str, str, int]]:
        return [(f"{k[1]}:{k[2]}", k[3], row.count) for k, row in self.contacts._rows.items()]

    def change(self, to: Reach) -> None:
        self.reach = to
        self.door.changed()


@dataclass
class Far:
    """A far end; `said` is what came first on each connection."""

    port: int
    said: list[bytes]


@asynccontextmanager
async def far_end(answer: bytes | None = HELLO, until: bytes = b"\r\n\r\n") -> AsyncIterator[Far]:
    """Answers when it has heard `until`, or (None) echoes to the end."""
    said: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if answer is None:
            while data := await reader.read(65536):
                writer.write(data)
        else:
            said.append(await reader.readuntil(until))
            writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield Far(server.sockets[0].getsockname()[1], said)
    server.close()


@asynccontextmanager
async def open_door(
    tmp_path: Path,
    rule: Reach,
    *,
    addresses: list[str] | None = None,
    private: tuple[str, ...] = (),
    limits: egress.Limits | None = None,
) -> AsyncIterator[Door]:
    """Every name leads to `addresses`; None: to loopback, called public."""
    lookups: list[str] = []

    async def lookup(host: str, port: int) -> list[str]:
        lookups.append(f"{host}:{port}")
        if addresses == []:
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        return addresses or ["127.0.0.1"]

    way_out = Outside(private, lookup, None if addresses is not None else lambda _: True)
    contacts, asks = Contacts(tmp_path), Asks()
    made = egress.EgressDoor(new_session(), lambda: found.reach, way_out, contacts, asks, limits)
    server = await asyncio.start_server(made.connected, "127.0.0.1", 0, limit=HEAD_MAX)
    found = Door(server.sockets[0].getsockname()[1], made, asks, contacts, lookups, rule)
    yield found
    server.close()
    made.close()
    contacts.close()


async def say(port: int, words: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(words)
    with suppress(ConnectionError):
        return await reader.read()
    writer.close()
    return b""


def connect(target: str) -> bytes:
    return f"CONNECT {target} HTTP/1.1\r\nhost: {target}\r\n\r\n".encode()


async def test_a_tunnel_to_an_allowed_host(tmp_path: Path) -> None:
    async with far_end(None) as far, open_door(tmp_path, allow(f"pypi.org:{far.port}")) as door:
        reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
        writer.write(connect(f"PyPI.org.:{far.port}"))
        assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
        writer.write(b"x" * 300_000)
        writer.write_eof()
        assert len(await reader.read()) == 300_000
        writer.close()
        assert door.lookups == [f"pypi.org:{far.port}"]
        ((key, row),) = door.contacts._rows.items()
    assert key[1:] == ("pypi.org", far.port, "listed")
    assert (row.count, row.bytes_in, row.bytes_out) == (1, 300_000, 300_000)


async def test_a_plain_request_loses_what_concerns_one_hop_and_gains_nothing(tmp_path: Path) -> None:
    async with far_end() as far, open_door(tmp_path, allow(f"deb.example:{far.port}")) as door:
        answer = await say(
            door.port,
            f"GET HTTP://DEB.example:{far.port}/dists?a=b HTTP/1.1\r\nHost: evil.example\r\nUser-Agent: apt\r\n"
            "Proxy-Authorization: Basic c2VjcmV0\r\nProxy-Connection: keep-alive\r\nConnection: x-mine, close\r\n"
            "X-Mine: 1\r\nUpgrade: websocket\r\nTE: trailers\r\nCookie: mine\r\n\r\n"
            "GET http://evil.example/second HTTP/1.1\r\n\r\n".encode(),
        )
    (said,) = far.said
    assert said.split(b"\r\n") == [
        b"GET /dists?a=b HTTP/1.1",
        b"host: deb.example:%d" % far.port,
        b"user-agent: apt",
        b"cookie: mine",
        b"connection: close",
        b"",
        b"",
    ]
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b"\r\n\r\nhello")
    assert b"keep-alive" not in answer
    assert b"x-far: yes" in answer
    assert door.rows() == [(f"deb.example:{far.port}", "listed", 1)]


async def test_a_body_is_passed_on_as_one_request(tmp_path: Path) -> None:
    chunked = b"transfer-encoding: chunked\r\n\r\n4\r\nend!\r\n0\r\n\r\n"
    async with far_end(until=b"end!") as far, open_door(tmp_path, Reach("full")) as door:
        head = f"POST http://up.example:{far.port}/ HTTP/1.1\r\nhost: x\r\n".encode()
        assert b"hello" in await say(door.port, head + b"content-length: 4\r\n\r\nend!GET / HTTP/1.1\r\n\r\n")
        assert b"hello" in await say(door.port, head + b"expect: 100-continue\r\n" + chunked)
    assert far.said[0].endswith(b"content-length: 4\r\nconnection: close\r\n\r\nend!")
    assert far.said[1].endswith(b"transfer-encoding: chunked\r\nconnection: close\r\n\r\n4\r\nend!")
    assert b"expect" not in far.said[1]


async def test_an_answer_that_is_no_http_is_said_so(tmp_path: Path) -> None:
    async with far_end(b"SSH-2.0-x\r\n") as far, open_door(tmp_path, Reach("full")) as door:
        answer = await say(door.port, f"GET http://up.example:{far.port}/ HTTP/1.1\r\nhost: x\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 502 ")
    assert b"gave no answer that is HTTP" in answer


@pytest.mark.parametrize(
    ("rule", "target", "why", "reason"),
    [
        (allow("pypi.org"), "evil.test:443", "it is not among the domains of this session", "not_listed"),
        (allow("pypi.org"), "pypi.org:22", "it is not among the domains", "not_listed"),
        (allow("pypi.org"), "127.0.0.1:80", "it is not among the domains", "not_listed"),
        (Reach("off"), "pypi.org:443", "this session has no network", "off"),
    ],
)
async def test_the_policy_refuses_with_a_sentence_that_names_the_host(
    tmp_path: Path, rule: Reach, target: str, why: str, reason: str
) -> None:
    async with open_door(tmp_path, rule) as door:
        for words in (connect(target), f"GET http://{target}/ HTTP/1.1\r\nhost: x\r\n\r\n".encode()):
            status, _, body = (await say(door.port, words)).partition(b"\r\n")
            assert status.startswith(f"HTTP/1.1 403 Pilothouse: {target} is refused: {why}".encode())
            assert f"{target} is refused: {why}".encode() in body
        assert door.rows() == [(target, reason, 2)]
    assert door.lookups == []


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "fd00:ec2::254", "100.64.0.1", "168.63.129.16",
     "::ffff:127.0.0.1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::"],
)  # fmt: skip
async def test_c31_a_name_that_leads_inside_is_refused_under_every_policy(tmp_path: Path, address: str) -> None:
    for rule in (allow("pypi.org"), Reach("full")):
        async with open_door(tmp_path, rule, addresses=["93.184.216.34", address]) as door:
            answer = await say(door.port, connect("pypi.org:443"))
            assert answer.startswith(b"HTTP/1.1 403 ")
            assert b"pypi.org does not lead to a public address" in answer
            assert door.rows()[-1][:2] == ("pypi.org:443", "not_public")


async def test_an_address_given_as_such_is_checked_too(tmp_path: Path) -> None:
    async with far_end() as far:
        rule = Reach("full")
        port = far.port
        async with open_door(tmp_path, rule, addresses=["127.0.0.1"]) as door:
            assert b"does not lead to a public address" in await say(door.port, connect(f"127.0.0.1:{port}"))
        async with open_door(tmp_path, rule, addresses=["127.0.0.1"], private=(f"127.0.0.1:{port}",)) as door:
            assert b"hello" in await say(door.port, f"GET http://127.0.0.1:{port}/ HTTP/1.1\r\nhost:x\r\n\r\n".encode())
            assert b"does not lead to a public address" in await say(door.port, connect(f"127.0.0.1:{port - 1}"))
        async with open_door(tmp_path, allow(), addresses=["127.0.0.1"], private=(f"127.0.0.1:{port}",)) as door:
            assert b"is not among the domains" in await say(door.port, connect(f"127.0.0.1:{port}"))


async def test_a_name_that_changes_its_address_gains_nothing(tmp_path: Path) -> None:
    """The connection goes to the address that was checked: there is one look-up for both."""
    answers = iter([["127.0.0.1"], ["10.0.0.1"]])
    checked: list[str] = []

    async def lookup(host: str, port: int) -> list[str]:
        return next(answers)

    async with far_end() as far:
        made = Outside((), lookup, lambda address: checked.append(address) or True)  # type: ignore[func-returns-value]
        _, writer = await made.connect(reach.Target("rebind.example", far.port), 5, asyncio.Semaphore(1))
        assert writer.get_extra_info("peername")[0] == "127.0.0.1"
        writer.close()
    assert checked == ["127.0.0.1"]


async def test_this_machine_is_no_public_address_whatever_its_number() -> None:
    assert outside.own("127.0.0.1")
    assert not outside.own("93.184.216.34")
    assert not outside.own("2606:2800:220::1")


async def test_slow_names_of_a_session_take_no_more_than_their_turns() -> None:
    looking, over = asyncio.Event(), asyncio.Event()
    looks: list[str] = []

    async def lookup(host: str, port: int) -> list[str]:
        looks.append(host)
        looking.set()
        await over.wait()
        return []

    made, turn = Outside((), lookup), asyncio.Semaphore(1)
    for n in range(2):
        with pytest.raises(outside.Unreachable, match="does not answer"):
            await made.connect(reach.Target(f"slow{n}.example", 443), 0.05, turn)
    assert looks == ["slow0.example"], "who has given up keeps the turn as long as the look-up goes on"
    over.set()
    with pytest.raises(outside.Unreachable, match="no address"):
        await made.connect(reach.Target("next.example", 443), 5, turn)


async def test_no_name_and_no_answer_are_told_apart(tmp_path: Path) -> None:
    async with open_door(tmp_path, Reach("full"), addresses=[]) as door:
        answer = await say(door.port, connect("nowhere.example:443"))
        assert answer.startswith(b"HTTP/1.1 502 ")
        assert b"there is no address for the name nowhere.example" in answer
        assert door.rows() == [("nowhere.example:443", "not_found", 1)]
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    async with open_door(tmp_path / "2", Reach("full")) as door:
        answer = await say(door.port, connect(f"down.example:{port}"))
        assert answer.startswith(b"HTTP/1.1 504 ")
        assert b"down.example:%d refuses the connection" % port in answer
        assert door.rows() == [(f"down.example:{port}", "no_answer", 1)]
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        port = full.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):  # its backlog is taken
            limits = egress.Limits(connect_s=0.2)
            async with open_door(tmp_path / "3", Reach("full"), limits=limits) as door:
                answer = await say(door.port, connect(f"slow.example:{port}"))
    assert answer.startswith(b"HTTP/1.1 504 ")
    assert b"slow.example:%d does not answer" % port in answer


@pytest.mark.parametrize(
    "words",
    [
        b"CONNECT pypi.org HTTP/1.1\r\n\r\n",
        b"CONNECT pypi.org:0 HTTP/1.1\r\n\r\n",
        b"CONNECT pypi.org:99999 HTTP/1.1\r\n\r\n",
        b"CONNECT user@pypi.org:443 HTTP/1.1\r\n\r\n",
        b"CONNECT pypi.org:443@x:443 HTTP/1.1\r\n\r\n",
        b"CONNECT pypi.org:443/ HTTP/1.1\r\n\r\n",
        b"CONNECT pypi .org:443 HTTP/1.1\r\n\r\n",
        b"CONNECT pypi\0.org:443 HTTP/1.1\r\n\r\n",
        b"CONNECT pypi.org\n:443 HTTP/1.1\r\n\r\n",
        b"CONNECT p\xc3\xbcpi.org:443 HTTP/1.1\r\n\r\n",
        b"CONNECT " + b"a." * 2000 + b"org:443 HTTP/1.1\r\n\r\n",
        b"CONNECT *.pypi.org:443 HTTP/1.1\r\n\r\n",
        b"CONNECT 0x7f000001:443 HTTP/1.1\r\n\r\n",
        b"CONNECT pypi.org:443\r\n\r\n",
        b"CONNECT pypi.org:443 HTTP/2\r\n\r\n",
        b"connect pypi.org:443 HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: pypi.org\r\n\r\n",
        b"GET https://pypi.org/ HTTP/1.1\r\nhost: pypi.org\r\n\r\n",
        b"GET ftp://pypi.org/ HTTP/1.1\r\nhost: pypi.org\r\n\r\n",
        b"GET http://user:pass@pypi.org/ HTTP/1.1\r\nhost: pypi.org\r\n\r\n",
        b"GET http://pypi.org/#x HTTP/1.1\r\nhost: pypi.org\r\n\r\n",
        b"GET http:///x HTTP/1.1\r\nhost: pypi.org\r\n\r\n",
        b"GET http://pypi.org:x/ HTTP/1.1\r\nhost: pypi.org\r\n\r\n",
        b"GET http://pypi.org/ HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
        b"GET http://pypi.org/ HTTP/1.1\r\nhost: a\r\nx y: b\r\n\r\n",
        b"GET http://pypi.org/ HTTP/1.1\r\nhost: a\r\nx: a\0b\r\n\r\n",
        b"POST http://pypi.org/ HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
        b"POST http://pypi.org/ HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        b"POST http://pypi.org/ HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\n",
        b"\xff\xfe\r\n\r\n",
        b"\r\n\r\n",
    ],
)
async def test_what_is_no_request_is_refused_without_being_repeated(tmp_path: Path, words: bytes) -> None:
    async with open_door(tmp_path, Reach("full")) as door:
        answer = await say(door.port, words)
        assert door.rows() == [(":0", "malformed", 1)]
    assert answer.startswith((b"HTTP/1.1 400 Pilothouse: ",))
    assert door.lookups == []


async def test_heads_without_an_end_and_floods_of_connections(tmp_path: Path) -> None:
    limits = egress.Limits(head_s=1.0, connections_max=1)
    async with open_door(tmp_path, Reach("full"), limits=limits) as door:
        first = asyncio.create_task(say(door.port, b"CONNECT "))
        while not door.door._open:
            await asyncio.sleep(0)
        assert b"429 Pilothouse: at most 1 connections" in await say(door.port, connect("a.example:443"))
        assert b"408 Pilothouse" in await first
        opened = [await asyncio.open_connection("127.0.0.1", door.port) for _ in range(4)]
        while door.door._open < 4:
            await asyncio.sleep(0)
        assert await say(door.port, connect("a.example:443")) == b""  # more than are told why
        for _, writer in opened:
            writer.close()
    async with open_door(tmp_path / "2", Reach("full")) as door:
        assert b"431 Pilothouse" in await say(door.port, b"GET http://a.example/" + b"x" * 2 * HEAD_MAX)


async def test_silence_and_age_end_a_tunnel(tmp_path: Path) -> None:
    for limits in (egress.Limits(idle_s=0.5), egress.Limits(total_s=1.0)):
        async with far_end(None) as far, open_door(tmp_path, Reach("full"), limits=limits) as door:
            assert b" 200 " in await say(door.port, connect(f"a.example:{far.port}"))


async def test_a_changed_policy_ends_what_it_refuses_and_nothing_else(tmp_path: Path) -> None:
    async with far_end(None) as far, open_door(tmp_path, Reach("full")) as door:

        async def tunnel(host: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
            reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
            writer.write(connect(f"{host}:{far.port}"))
            assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
            return reader, writer

        kept, ended = await tunnel("kept.example"), await tunnel("ended.example")
        door.change(allow(f"kept.example:{far.port}"))
        assert await ended[0].read() == b""
        kept[1].write(b"still")
        assert await kept[0].readexactly(5) == b"still"
        door.change(Reach("off"))
        assert await kept[0].read() == b""
        assert b"this session has no network" in await say(door.port, connect(f"kept.example:{far.port}"))


async def waiting(door: Door, count: int = 1) -> list[str]:
    """The ids of the questions, once there are so many."""
    async for asking in door.asks.follow():
        if len(asking) == count:
            return [ask.id for ask in asking]
    raise AssertionError


async def test_a_person_is_asked_once_for_all_who_wait(tmp_path: Path) -> None:
    async with far_end() as far, open_door(tmp_path, allow(ask_s=30)) as door:
        words = f"GET http://new.example:{far.port}/ HTTP/1.1\r\nhost: x\r\n\r\n".encode()
        both = [asyncio.create_task(say(door.port, words)) for _ in range(2)]
        while door.door._open < 2:
            await asyncio.sleep(0)
        (ask,) = await waiting(door)
        door.asks.answer(ask, Answer(True))
        assert all(b"hello" in answer for answer in await asyncio.gather(*both))
        assert door.rows() == [(f"new.example:{far.port}", "approved", 2)]
        again = asyncio.create_task(say(door.port, words))  # approved once is not approved for ever
        (ask,) = await waiting(door)
        door.asks.answer(ask, Answer(False, "no, because\r\nX-Evil: 1 – nö", True))
        answer = await again
        line = f"HTTP/1.1 403 Pilothouse: new.example:{far.port} is refused: no, because??X-Evil: 1 ? n?\r\n"
        assert answer.startswith(line.encode())
        assert "nö".encode() in answer
        assert b"no, because" in await say(door.port, words)  # remembered: nobody is asked
        assert not door.asks._sessions[door.door._session].open
        assert door.rows()[-1] == (f"new.example:{far.port}", "denied", 2)


async def test_what_a_program_says_while_it_waits_is_not_lost(tmp_path: Path) -> None:
    async with far_end(None) as far, open_door(tmp_path, allow(ask_s=30)) as door:
        reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
        writer.write(connect(f"new.example:{far.port}") + b"early ")
        (ask,) = await waiting(door)
        writer.write(b"late")
        door.asks.answer(ask, Answer(True))
        assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
        assert await reader.readexactly(10) == b"early late"
        writer.close()


async def test_nobody_is_asked_for_a_program_that_has_gone(tmp_path: Path) -> None:
    async with open_door(tmp_path, allow(ask_s=30)) as door:
        _, writer = await asyncio.open_connection("127.0.0.1", door.port)
        writer.write(connect("new.example:443"))
        await waiting(door)
        writer.close()
        assert await waiting(door, 0) == []


async def test_silence_too_many_questions_and_a_new_policy_decide(tmp_path: Path) -> None:
    async with open_door(tmp_path, allow(ask_s=0.2)) as door:
        assert b"nobody answered in time" in await say(door.port, connect("a.example:443"))
        assert door.rows() == [("a.example:443", "not_listed", 1)]
    async with far_end() as far, open_door(tmp_path, allow(ask_s=30)) as door:
        port = far.port
        words = [f"GET http://h{n}.example:{port}/ HTTP/1.1\r\nhost: x\r\n\r\n".encode() for n in range(4)]
        asked = [asyncio.create_task(say(door.port, w)) for w in words[:3]]
        await waiting(door, 3)
        assert b"3 other domains wait for an answer already" in await say(door.port, words[3])
        door.change(allow(f"h0.example:{port}", ask_s=30))
        assert b"hello" in await asked[0]
        assert len(await waiting(door, 2)) == 2
        door.change(Reach("off"))
        assert [b"the session's policy was changed" in a for a in await asyncio.gather(*asked[1:])] == [True, True]


async def test_what_was_approved_once_outlives_a_longer_list_but_not_the_end_of_the_network(tmp_path: Path) -> None:
    async with far_end(None) as far, open_door(tmp_path, allow(ask_s=30)) as door:
        reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
        writer.write(connect(f"new.example:{far.port}"))
        (ask,) = await waiting(door)
        door.asks.answer(ask, Answer(True))
        await reader.readuntil(b"\r\n\r\n")
        door.change(allow("other.example", ask_s=30))
        writer.write(b"still")
        assert await reader.readexactly(5) == b"still"
        door.change(Reach("off"))
        assert await reader.read() == b""
