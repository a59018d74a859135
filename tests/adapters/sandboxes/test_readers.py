"""The server's side against a desk that lies: here the test is the desk."""

from __future__ import annotations

import array
import asyncio
import gc
import json
import os
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pilothouse.adapters.sandboxes import readers as module
from pilothouse.adapters.sandboxes.files import SIZE_MAX, WorkspaceFiles
from pilothouse.adapters.sandboxes.readers import Readers
from pilothouse.core.errors import BadRequest, NotFound, TooLarge, Unavailable
from pilothouse.core.ids import SessionId

SESSION = SessionId(str(uuid.uuid4()))


def page(*rows: Any, more: Any = False) -> bytes:
    return json.dumps({"entries": rows, "more": more}).encode()


def row(name: Any = "a", kind: Any = "file", size: Any = 1, mtime: Any = 1.5) -> list[Any]:
    return [name, kind, size, mtime]


class Liar:
    """Answers each request with the same packet and descriptors."""

    def __init__(self, packet: bytes, fds: tuple[int, ...] = ()) -> None:
        self.packet = packet
        self.fds = fds
        self.begun = 0
        self.asked: list[dict[str, Any]] = []
        self.ends: list[socket.socket] = []

    async def begin(self, _: SessionId) -> socket.socket:
        self.begun += 1
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        theirs.setblocking(False)
        ours.setblocking(False)
        self.ends.append(ours)
        asyncio.get_running_loop().add_reader(ours, self._answer, ours)
        return theirs

    def _answer(self, ours: socket.socket) -> None:
        said = ours.recv(65536)
        if not said:
            self._end(ours)
            return
        self.asked.append(json.loads(said))
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", self.fds))] if self.fds else []
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        ours.sendmsg([self.packet], rights)
        if not self.packet:
            self._end(ours)

    def _end(self, ours: socket.socket) -> None:
        asyncio.get_running_loop().remove_reader(ours)
        ours.close()

    def close(self) -> None:
        for ours in self.ends:
            if ours.fileno() >= 0:
                self._end(ours)


@pytest.fixture
def descriptors() -> Iterator[None]:
    gc.collect()  # what other tests have left is not to be counted
    before = len(os.listdir("/proc/self/fd"))
    yield
    assert len(os.listdir("/proc/self/fd")) <= before, "a descriptor was kept"


NONSENSE = {
    "no json": b"\xff{",
    "a list": b"[]",
    "no answer": b"{}",
    "unknown field": b'{"open":true,"path":"/etc"}',
    "open with a word": b'{"open":"yes"}',
    "row too short": page(["a", "file", 1]),
    "row too long": page([*row(), 1]),
    "name a number": page(row(7)),
    "name empty": page(row("")),
    "name too long": page(row("x" * 256)),
    "name with a slash": page(row("a/b")),
    "name that leads up": page(row("..")),
    "name that stays": page(row(".")),
    "name with NUL": page(row("a\0b")),
    "name no Unicode": b'{"entries":[["\\ud800","file",1,1.0]],"more":false}',
    "name raw bytes": b'{"entries":[["\xff","file",1,1.0]],"more":false}',
    "kind unknown": page(row(kind="device")),
    "size negative": page(row(size=-1)),
    "size beyond": page(row(size=2**63)),
    "size a float": page(row(size=1.5)),
    "time no number": b'{"entries":[["a","file",1,NaN]],"more":false}',
    "time a text": page(row(mtime="now")),
    "more than asked for": page(*[row(f"n{n}") for n in range(11)]),
    "more without any": page(more=True),
    "too long a packet": page(*[row("x" * 200) for _ in range(2000)]),
    "deep": b"[" * 60000,
    "errno beyond": b'{"errno":99999}',
    "errno negative": b'{"errno":-1}',
    "word unknown": b'{"refused":"because"}',
}


@pytest.mark.parametrize("name", NONSENSE)
@pytest.mark.usefixtures("descriptors")
async def test_nonsense_is_unavailable_and_ends_the_line(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pilothouse.adapters.sandboxes.files.ENTRIES_MAX", 10)
    liar = Liar(NONSENSE[name])
    readers = Readers(liar.begin)
    files = WorkspaceFiles(readers, SESSION)
    with pytest.raises(Unavailable, match="cannot be read now"):
        await files.list("")
    with pytest.raises(Unavailable, match="cannot be read now"):
        await files.read("a")
    assert liar.begun == 2, "nonsense is not asked again on the same line, nor on another"
    readers.close()
    liar.close()


def _wrong(kind: str, base: Path) -> tuple[int, ...]:
    plain = base / "plain"
    plain.write_text("x")
    match kind:
        case "none":
            return ()
        case "two":
            return (os.open(plain, os.O_RDONLY), os.open(plain, os.O_RDONLY))
        case "many":
            return tuple(os.open(plain, os.O_RDONLY) for _ in range(40))
        case "directory":
            return (os.open(base, os.O_RDONLY),)
        case "fifo":
            os.mkfifo(base / "fifo")
            return (os.open(base / "fifo", os.O_RDONLY | os.O_NONBLOCK),)
        case "socket":
            return (socket.socket().detach(),)
        case "device":
            return (os.open("/dev/zero", os.O_RDONLY),)
        case "path only":
            return (os.open(plain, os.O_PATH),)
        case "writing":
            return (os.open(plain, os.O_RDWR),)
    raise AssertionError(kind)


@pytest.mark.parametrize(
    "kind", ["none", "two", "many", "directory", "fifo", "socket", "device", "path only", "writing"]
)
@pytest.mark.usefixtures("descriptors")
async def test_a_descriptor_that_is_no_file_to_read_is_refused_and_closed(kind: str, tmp_path: Path) -> None:
    liar = Liar(b'{"open":true}', _wrong(kind, tmp_path))
    readers = Readers(liar.begin)
    with pytest.raises(Unavailable, match="cannot be read now"):
        await WorkspaceFiles(readers, SESSION).read("a")
    liar.packet = page()
    if kind != "none":
        with pytest.raises(Unavailable, match="cannot be read now"):
            await WorkspaceFiles(readers, SESSION).list("")
    for fd in liar.fds:
        os.close(fd)
    readers.close()
    liar.close()


@pytest.mark.usefixtures("descriptors")
async def test_a_descriptor_shared_with_the_desk_is_read_by_our_own_position(tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(b"0123456789")
    fd = os.open(tmp_path / "plain", os.O_RDONLY)
    liar = Liar(b'{"open":true}', (fd,))
    readers = Readers(liar.begin)
    entry, content = await WorkspaceFiles(readers, SESSION).read("dir/name")
    os.lseek(fd, 7, os.SEEK_SET)
    assert b"".join([chunk async for chunk in content]) == b"0123456789"
    assert (entry.name, entry.size) == ("name", 10)
    content.close()
    os.truncate(tmp_path / "plain", SIZE_MAX + 1)
    with pytest.raises(TooLarge, match=str(SIZE_MAX)):
        await WorkspaceFiles(readers, SESSION).read("name")
    os.close(fd)
    readers.close()
    liar.close()


@pytest.mark.parametrize(
    ("packet", "error"),
    [
        (b'{"refused":"workspace"}', NotFound),
        (b'{"refused":"kind"}', BadRequest),
        (b'{"refused":"many"}', TooLarge),
        (b'{"refused":"request"}', BadRequest),
        (b'{"errno":2}', NotFound),
        (b'{"errno":13}', BadRequest),
        (b'{"errno":4000}', BadRequest),
    ],
)
@pytest.mark.usefixtures("descriptors")
async def test_a_refusal_is_said_in_words_of_ours_and_keeps_the_line(packet: bytes, error: type[Exception]) -> None:
    liar = Liar(packet)
    readers = Readers(liar.begin)
    for _ in range(3):
        with pytest.raises(error):
            await WorkspaceFiles(readers, SESSION).list("")
    assert liar.begun == (3 if b"workspace" in packet else 1), "there may be one by the next time"
    readers.close()
    liar.close()


@pytest.mark.usefixtures("descriptors")
async def test_a_desk_that_ends_is_replaced_once(monkeypatch: pytest.MonkeyPatch) -> None:
    liar = Liar(b"")
    readers = Readers(liar.begin)
    with pytest.raises(Unavailable, match="has ended"):
        await WorkspaceFiles(readers, SESSION).list("")
    assert liar.begun == 2
    readers.close()
    liar.close()


@pytest.mark.usefixtures("descriptors")
async def test_one_that_is_silent_is_left_and_holds_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE_S", 0.3)
    liar = Liar(page())
    silent: list[socket.socket] = []

    async def begin(session: SessionId) -> socket.socket:
        if session != SESSION:
            return await liar.begin(session)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        theirs.setblocking(False)
        silent.append(ours)
        return theirs

    readers = Readers(begin)
    other = SessionId(str(uuid.uuid4()))
    waiting = [asyncio.create_task(WorkspaceFiles(readers, SESSION).list("")) for _ in range(3)]
    await asyncio.sleep(0)
    assert await WorkspaceFiles(readers, other).list("") == []
    for result in await asyncio.gather(*waiting, return_exceptions=True):
        assert isinstance(result, Unavailable)
        assert "no answer in time" in result.message
    assert readers._places.keys() == {other}
    readers.close()
    for sock in (*silent, *liar.ends):
        asyncio.get_running_loop().remove_reader(sock)
        sock.close()


@pytest.mark.usefixtures("descriptors")
async def test_a_caller_who_goes_leaves_no_answer_for_the_next(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("x")
    fd = os.open(tmp_path / "plain", os.O_RDONLY)
    liar = Liar(b'{"open":true}', (fd,))
    readers = Readers(liar.begin)
    files = WorkspaceFiles(readers, SESSION)
    for _ in range(50):
        reading = asyncio.create_task(files.read("plain"))
        for _ in range(3):
            await asyncio.sleep(0)
        reading.cancel()
        result = (await asyncio.gather(reading, return_exceptions=True))[0]
        if not isinstance(result, BaseException):
            result[1].close()
    _, content = await files.read("plain")
    content.close()
    os.close(fd)
    readers.close()
    liar.close()


async def test_lines_are_few_and_are_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LINES_MAX", 2)
    monkeypatch.setattr(module, "KEPT_S", 0.05)
    liar = Liar(page())
    readers = Readers(liar.begin)
    for n in range(5):
        await WorkspaceFiles(readers, SessionId(str(uuid.uuid4()))).list("")
        await asyncio.sleep(0)
        assert sum(1 for end in liar.ends if end.fileno() >= 0) <= min(n + 1, 2)
    async with asyncio.timeout(10):
        while any(end.fileno() >= 0 for end in liar.ends):
            await asyncio.sleep(0.01)
    assert not readers._places
