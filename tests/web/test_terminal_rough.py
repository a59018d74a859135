"""Clients that no library would make, at both doors to a shell: theirs ends, the shell goes on."""

from __future__ import annotations

import asyncio
import json
import os
import random
import socket
import struct
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import pytest_asyncio

from pilothouse.adapters.shells import local
from pilothouse.core import frames
from pilothouse.engine.viewing import UNREAD_MAX
from pilothouse.web.socket import Limits
from tests.security import raw
from tests.web.doorhouse import Raw
from tests.web.serving import Served, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")
ARN = "arn:aws:bedrock-agentcore:us-west-2:123456789012:runtime/my_agent-AbCdEf1234"
BINARY, CLOSE, PING, PONG, CONTINUATION = 2, 8, 9, 10, 0
QUICK = Limits(ping_s=0.4, silence_s=1.2, close_s=0.4)
"""Who gives no sign of life is let go in a second or two."""


@dataclass
class Door:
    """One of the two ways to the shell `s` of one session."""

    served: Served
    path: str
    key: str
    session: str
    hot: bool = True

    async def open(self, *, room: int = 0) -> Visitor:
        sock = socket.socket()
        if room:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", self.served.port))
        reader, writer = await asyncio.open_connection(sock=sock, limit=1 << 20)
        host = f"127.0.0.1:{self.served.port}"
        writer.write(raw.upgrade(self.path, {"host": host, "x-api-key": self.key}))
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 "), head
        return Visitor(reader, writer)

    async def check_lives(self) -> None:
        """The shell is the one it was, and takes input."""
        visitor = await self.open()
        await visitor.type(b"echo $kept-$kept\n")
        await visitor.see(b"sake-sake")
        visitor.writer.close()

    async def nobody(self) -> None:
        """Until nobody looks at it."""
        headers = {"x-api-key": self.key}
        async with asyncio.timeout(15), httpx.AsyncClient(base_url=self.served.url, headers=headers) as http:
            while True:
                items = (await http.get(f"/api/sessions/{self.session}/shells")).json()["items"]
                (shown,) = [item for item in items if item["shellId"] == "s"]
                if not shown["viewers"]:
                    assert shown["running"]
                    return
                await asyncio.sleep(0.02)


class Visitor(Raw):
    """Reads frames of the shell beside those of the socket."""

    out = b""

    async def type(self, data: bytes) -> None:
        self.frame(BINARY, b"\0" + data)
        await self.writer.drain()

    async def hear(self) -> tuple[int, bytes]:
        async with asyncio.timeout(60):
            opcode, data = await self.read()
        if opcode == PING:
            self.frame(PONG, data)
        if opcode == BINARY and data[0] == frames.STDOUT:
            self.out += data[1:]
        return opcode, data

    async def see(self, data: bytes) -> None:
        while data not in self.out:
            await self.hear()


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["own, hot", "own, plain", "agentcore, hot"])
async def door(request: pytest.FixtureRequest) -> AsyncIterator[Door]:
    kind, _, how = request.param.partition(", ")
    async with serving(hot=how == "hot", bounds=QUICK) as served:
        key = await served.key()
        async with httpx.AsyncClient(base_url=served.url, headers={"x-api-key": key}) as http:
            session = (await http.post("/api/sessions", json={"agent": "echo"})).json()["id"]
            made = await http.post(f"/api/sessions/{session}/shells", json={"shellId": "s", "command": ["/bin/sh"]})
            assert made.status_code == 201, made.text
        path = f"/api/sessions/{session}/shells/s"
        if kind == "agentcore":
            header = "X-Amzn-Bedrock-AgentCore-Runtime-Session-Id"
            path = f"/runtimes/{quote(ARN, safe='')}/ws/shells?shellId=s&{header}={session}"
        found = Door(served, path, key, session, hot=how == "hot")
        first = await found.open()
        await first.type(b"stty -echo; kept=sake; echo rea''dy\n")
        await first.see(b"ready")
        first.writer.close()
        yield found


def each(*messages: bytes) -> Callable[[Raw], Raw]:
    def send(to: Raw) -> Raw:
        for message in messages:
            to.frame(BINARY, message)
        return to

    return send


HALF = b"\0" + b"#" * (4 << 20)
BAD: dict[str, tuple[Callable[[Raw], Raw], set[int]]] = {
    "no mask": (lambda to: to.frame(BINARY, b"\0x", masked=False), {1002}),
    "a reserved bit": (lambda to: to.frame(BINARY, b"\0x", rsv=4), {1002}),
    "an opcode of nobody": (lambda to: to.frame(5, b"\0x"), {1002}),
    "a continuation of nothing": (lambda to: to.frame(CONTINUATION, b"\0x"), {1002}),
    "a message within a message": (lambda to: to.frame(BINARY, b"\0x", fin=False).frame(BINARY, b"\0x"), {1002}),
    "a ping of 126 bytes": (lambda to: to.frame(PING, b"x" * 126), {1002}),
    "a ping in pieces": (lambda to: to.frame(PING, b"x", fin=False), {1002}),
    "a close of one byte": (lambda to: to.frame(CLOSE, b"x"), {1002}),
    "2^62 bytes to come": (lambda to: to.frame(BINARY, b"\0", size=1 << 62), {1009}),
    "a negative length": (lambda to: to.frame(BINARY, b"\0", size=(1 << 63) + 5), {1002, 1009}),
    "65,538 bytes": (lambda to: to.frame(BINARY, b"\0" + b"#" * 65_537), {1009}),
    "65,538 bytes in pieces": (
        lambda to: to.frame(BINARY, b"\0" + b"#" * 60_000, fin=False).frame(CONTINUATION, b"#" * 5_537),
        {1009},
    ),
    "8 MiB in pieces": (lambda to: to.frame(BINARY, HALF, fin=False).frame(CONTINUATION, HALF, fin=False), {1009}),
    "empty": (each(*[b""] * 5), {1003}),
    "no such channel": (each(*[b"\x07x"] * 5), {1003}),
    "the server's channels": (each(b"\1x", b"\2x", b"\3x", b"\1x", b"\2x"), {1003}),
    "sizes": (
        each(*(b'\x04{"width":%s,"height":24}' % edge for edge in (b"0", b"1001", b"-1", b"NaN", b"1.5"))),
        {1008},
    ),
    "no sizes": (each(b"\x04", b"\x04?", b"\x04[80,24]", b"\x04\xff\xfe", b'\x04{"width":"80","height":true}'), {1008}),
    "deep JSON": (each(*[b"\x04" + b"[" * 60_000] * 5), {1008}),
    "faults of every kind": (
        lambda to: (
            to.frame(BINARY, b"")
            .frame(1, b"text")
            .frame(BINARY, b"\x08")
            .frame(BINARY, b"\x02")
            .frame(BINARY, b"\x04{}")
        ),
        {1008},
    ),
    "251 messages": (each(*[b"\0"] * 251), {1008}),
}


@pytest.mark.parametrize("name", BAD)
async def test_what_must_not_be_ends_its_connection_and_not_the_shell(door: Door, name: str) -> None:
    do, codes = BAD[name]
    visitor = await door.open()
    do(visitor)
    async with asyncio.timeout(60):
        try:
            assert await visitor.closed_with() in codes
        except ConnectionResetError:
            # uvicorn's own sockets hang up on what is still on its way, and the kernel then throws the close away.
            assert name == "8 MiB in pieces" and not door.hot
    await door.check_lives()


async def test_a_message_in_pieces_with_a_ping_between_is_one_message(door: Door) -> None:
    visitor = await door.open()
    visitor.frame(BINARY, b"\0echo $ke", fin=False)
    visitor.frame(PING, b"x" * 125)
    visitor.frame(CONTINUATION, b"", fin=False)
    visitor.frame(CONTINUATION, b"pt+$kept\n")
    answered = False
    while b"sake+sake" not in visitor.out or not answered:
        answered = await visitor.hear() == (PONG, b"x" * 125) or answered
    visitor.writer.close()


@pytest.mark.parametrize("how", ["half-closed", "reset", "silent in a frame", "an endless message"])
async def test_who_goes_without_a_word_is_gone(door: Door, how: str) -> None:
    visitor = await door.open()
    await visitor.hear()
    if how == "half-closed":
        visitor.writer.write_eof()
    elif how == "reset":
        sock = visitor.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        visitor.writer.transport.abort()
    elif how == "silent in a frame":
        visitor.frame(BINARY, b"\0half", size=60_000)
    else:
        visitor.frame(BINARY, b"\0never ended", fin=False)
    await door.nobody()
    await door.check_lives()
    visitor.writer.close()


async def test_who_never_reads_is_let_go_and_has_cost_no_more_than_its_bound(door: Door) -> None:
    """It typed a flood and does not look at it."""
    await door.nobody()
    visitor = await door.open(room=4096)
    (connection,) = [c for mine in door.served.hub._open.values() for c in mine]
    visitor.writer.transport.pause_reading()  # type: ignore[attr-defined]
    await visitor.type(b"head -c 12000000 /dev/zero | tr '\\0' '#'; echo\n")
    most = waits = 0
    async with asyncio.timeout(60):
        while not connection.socket.closed:
            most = max(most, connection.socket.buffered())
            waits = max(waits, connection.socket.underway())
            await asyncio.sleep(0.01)
    assert most <= UNREAD_MAX
    assert waits > 0
    await door.nobody()
    await door.check_lives()
    visitor.writer.transport.abort()


async def test_who_asks_and_does_not_read_the_answers_is_let_go(door: Door) -> None:
    await door.nobody()
    visitor = await door.open(room=4096)
    (connection,) = [c for mine in door.served.hub._open.values() for c in mine]
    visitor.writer.transport.pause_reading()  # type: ignore[attr-defined]
    most = 0
    async with asyncio.timeout(60):
        while not connection.socket.closed:
            visitor.frame(BINARY, bytes([frames.HEARTBEAT]) + b"?" * 60_000)
            most = max(most, connection.socket.buffered())
            await asyncio.sleep(0.005)
    assert most <= UNREAD_MAX + 65_536
    await door.nobody()
    await door.check_lives()
    visitor.writer.transport.abort()


async def test_600_kb_of_every_byte_at_once_arrive_as_they_are(door: Door, tmp_path: Any) -> None:
    data = random.Random(6).randbytes(600_000)
    file = tmp_path / "f"
    visitor = await door.open()
    await visitor.type(b"stty raw -echo; echo re''cording; head -c 600000 > %s; stty -raw; echo don''e\n" % bytes(file))
    await visitor.see(b"recording")
    for at in range(0, len(data), 65_536):
        visitor.frame(BINARY, b"\0" + data[at : at + 65_536])
    await visitor.see(b"done")
    assert file.read_bytes() == data
    visitor.writer.close()
    await door.check_lives()


async def test_a_shell_that_ignores_the_hang_up_is_killed(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "KILL_S", 0.2)
    deaf = Door(door.served, door.path.replace("shellId=s", "shellId=deaf"), door.key, door.session)
    deaf.path = deaf.path.removesuffix("/s") + "/deaf" if deaf.path.endswith("/s") else deaf.path
    headers = {"x-api-key": door.key}
    path = f"/api/sessions/{door.session}/shells"
    command = ["/bin/sh", "-c", "trap '' HUP; echo ready; while :; do sleep 1000; done"]
    async with httpx.AsyncClient(base_url=door.served.url, headers=headers) as http:
        for end in ("frame", "request"):
            made = await http.post(path, json={"shellId": "deaf", "command": command})
            assert made.status_code == 201, made.text
            visitor = await deaf.open()
            await visitor.see(b"ready")
            if end == "frame":
                visitor.frame(BINARY, b"\xff")
                assert await visitor.closed_with() == 1000
            else:
                assert (await http.delete(f"{path}/deaf")).status_code == 204
                while True:
                    opcode, data = await visitor.hear()
                    if opcode == BINARY and data[0] == frames.STATUS and b"Signal" in data:
                        break
                causes = {c["reason"]: c["message"] for c in json.loads(data[1:])["details"]["causes"]}
                assert causes == {"ExitCode": "137", "Signal": "9"}
                assert await visitor.closed_with() == 1000
            async with asyncio.timeout(10):
                while any(i["shellId"] == "deaf" for i in (await http.get(path)).json()["items"]):
                    await asyncio.sleep(0.05)


async def test_who_is_cut_off_in_a_flood_is_told_what_it_did_not_get() -> None:
    """The Shell API has no offsets: what was on its way, some MiB, would be missing in silence."""
    async with serving() as served:
        key, flood = await served.key(), "stty -opost -echo; read go; seq 1 400000; sleep 1000"
        async with httpx.AsyncClient(base_url=served.url, headers={"x-api-key": key}) as http:
            session = (await http.post("/api/sessions", json={"agent": "echo"})).json()["id"]
            shells = f"/api/sessions/{session}/shells"
            await http.post(shells, json={"shellId": "s", "command": ["/bin/sh", "-c", flood]})
            header = "X-Amzn-Bedrock-AgentCore-Runtime-Session-Id"
            door = Door(served, f"/runtimes/{quote(ARN, safe='')}/ws/shells?shellId=s&{header}={session}", key, session)
            one = await door.open(room=4096)
            await one.hear()
            (connection,) = [c for mine in served.hub._open.values() for c in mine]
            await one.type(b"go\n")
            await one.see(b"\n10000\n")
            one.writer.transport.pause_reading()  # type: ignore[attr-defined]
            async with asyncio.timeout(20):
                while connection.socket.underway() < 1_000_000:
                    await asyncio.sleep(0.01)
            one.writer.transport.abort()
            await door.nobody()
            whole = "".join(f"{n}\n" for n in range(1, 400_001)).encode()
            async with asyncio.timeout(20):
                while (await http.get(shells)).json()["items"][0]["head"] < len(whole):
                    await asyncio.sleep(0.05)
        two = await door.open()
        while (found := await two.hear())[1][:1] != bytes([frames.STATUS]):
            pass
        dropped = json.loads(found[1][1:])["metadata"]["bytesDropped"]
        await two.see(b"\n400000\n")
        assert whole.endswith(two.out)
        silent = len(whole) - len(one.out) - dropped - len(two.out)
        assert 0 <= silent < 128 * 1024, "more than its own machine had, and it did not read"
        two.writer.close()


async def test_who_asks_for_one_new_shell_at_the_same_instant_gets_the_same(door: Door) -> None:
    path, headers = f"/api/sessions/{door.session}/shells", {"x-api-key": door.key}
    async with httpx.AsyncClient(base_url=door.served.url, headers=headers) as http:
        body = {"shellId": f"n{os.getpid()}", "command": ["/bin/cat"]}
        made = await asyncio.gather(*(http.post(path, json=body) for _ in range(5)))
        assert sorted(answer.status_code for answer in made) == [200, 200, 200, 200, 201]
        assert (await http.delete(f"{path}/{body['shellId']}")).status_code == 204
