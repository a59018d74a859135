"""Desks of a real keeper: whose they are, how long they live, what they answer to requests that mean no good."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from pilothouse.adapters.sandboxes import client, desk, kernel, readers
from pilothouse.adapters.sandboxes.bubblewrap import Bubblewrap
from pilothouse.core.errors import BadRequest, NotFound, Unavailable
from pilothouse.core.events import Source
from pilothouse.core.ids import SessionId
from tests.adapters.sandboxes.conftest import KEEPER, until
from tests.adapters.sandboxes.workspaces import ROOT, UID, House, hand_over, housed

pytestmark = pytest.mark.asyncio(loop_scope="module")

SHORT = (
    "import sys; from pilothouse.adapters.sandboxes import desk; desk.IDLE_S = 2; desk.REQUEST_S = 2; "
    "from pilothouse import keeper; sys.exit(keeper.main(sys.argv[1:]))"
)
"""A keeper whose desks have little patience."""
FEW = (
    "import sys; from pilothouse.adapters.sandboxes import desks; desks.DESKS_MAX = 3; "
    "from pilothouse import keeper; sys.exit(keeper.main(sys.argv[1:]))"
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house() -> AsyncIterator[House]:
    async with housed() as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hasty() -> AsyncIterator[House]:
    async with housed((sys.executable, "-c", SHORT, "--no-proxy")) as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def few() -> AsyncIterator[House]:
    async with housed((sys.executable, "-c", FEW, "--no-proxy")) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module", autouse=True)
async def none_left(request: pytest.FixtureRequest) -> AsyncIterator[None]:
    yield
    for name in ("house", "hasty", "few"):
        if name in request.fixturenames:
            made: House = request.getfixturevalue(name)
            made.sandboxes._readers.close()
            await until(partial(_deskless, made))


def _deskless(house: House) -> bool:
    return not house.desks()


async def line(house: House, session: SessionId, **more: str) -> socket.socket:
    """The bare line to a new desk."""
    made = await readers.fetch(house.base / "r" / "keeper.sock", {"verb": "files", "session": session, **more})
    made.settimeout(20)
    return made


def said(sock: socket.socket, packet: bytes) -> dict[str, Any]:
    sock.send(packet)
    answer, fds, _, _ = socket.recv_fds(sock, desk.PACKET_MAX, 8)
    for fd in fds:
        os.close(fd)
    return dict(json.loads(answer)) if answer else {}


async def test_it_has_the_sessions_uid_and_no_right_beyond(house: House) -> None:
    session, root = house.session()
    (root / "mine").write_text("x")
    (root / "foreign").write_text("x")
    (root / "closed").write_text("x")
    hand_over(root)
    (root / "closed").chmod(0)
    await house.files(session).list("")
    (pid,) = house.desks()
    status = dict(
        part.split(":\t", 1) for part in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in part
    )
    assert status["Uid"].split() == [str(UID)] * 4
    assert status["NoNewPrivs"] == "1"
    if ROOT:
        assert status["Gid"].split() == [str(UID)] * 4
        assert status["Groups"].strip() == ""
        assert {int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {0}
        (root / "foreign").chmod(0o600)
        os.chown(root / "foreign", UID + 1, UID + 1)
        with pytest.raises(BadRequest, match="permissions"):
            await house.files(session).read("foreign")
    assert Path(f"/proc/{pid}/cmdline").stat().st_uid == 0, "what the kernel shows of it belongs to root: undumpable"
    with pytest.raises(BadRequest, match="permissions"):
        await house.files(session).read("closed")
    targets = {os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir()} if ROOT else set()
    assert not [t for t in targets if "lock" in t or ".sock" in t or "epoll" in t or "pidfd" in t], targets


async def test_one_serves_a_session_for_a_while(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "KEPT_S", 0.2)
    session, _ = house.session()
    await asyncio.gather(*(house.files(session).list("") for _ in range(20)))
    assert len(house.desks()) == 1
    await until(lambda: not house.desks())
    assert await house.files(session).list("") == []


async def test_one_that_was_killed_is_replaced_unseen(house: House) -> None:
    session, root = house.session()
    (root / "a").touch()
    for _ in range(3):
        assert [e.name for e in await house.files(session).list("")] == ["a"]
        (pid,) = house.desks()
        os.kill(pid, signal.SIGKILL)


async def test_one_that_hangs_is_unavailable_and_then_replaced(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    session, _ = house.session()
    await house.files(session).list("")
    (pid,) = house.desks()
    os.kill(pid, signal.SIGSTOP)
    with monkeypatch.context() as patched:
        patched.setattr(readers, "PATIENCE_S", 0.3)
        with pytest.raises(Unavailable, match="cannot be read now: no answer in time"):
            await house.files(session).list("")
    assert await house.files(session).list("") == []
    assert pid not in house.desks()


async def test_it_ends_with_the_server_however_that_ends(house: House) -> None:
    session, _ = house.session()
    code = (
        "import asyncio, sys\nfrom pathlib import Path\n"
        "from pilothouse.adapters.sandboxes.bubblewrap import Bubblewrap\n"
        "async def main(base, session):\n"
        "    made = await Bubblewrap.connect_keeper(base / 'h', base / 'r')\n"
        "    await made.files(session).list('')\n"
        "    print('listed', flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))"
    )
    server = subprocess.Popen([sys.executable, "-c", code, str(house.base), session], stdout=subprocess.PIPE)
    assert server.stdout is not None
    assert await asyncio.to_thread(server.stdout.readline) == b"listed\n"
    desks = [pid for pid in house.desks() if pid != server.pid]
    assert len(desks) == 1
    server.kill()
    server.wait()
    server.stdout.close()
    await until(lambda: not house.desks())


async def test_it_ends_by_itself_when_nothing_is_asked(hasty: House) -> None:
    session, _ = hasty.session()
    for asked in (False, True):
        with await line(hasty, session) as sock:
            if asked:
                assert said(sock, b'{"list":".","most":5}') == {"entries": [], "more": False}
            assert await asyncio.to_thread(sock.recv, 10) == b"", "the desk hangs up"


async def test_it_ends_when_nobody_takes_what_it_says(hasty: House) -> None:
    session, root = hasty.session()
    for n in range(2500):
        (root / f"{n:0200}").touch()
    sock = await line(hasty, session)
    sock.send(b'{"list":".","most":10000}')
    await until(lambda: not hasty.desks())
    last = b""
    while packet := sock.recv(desk.PACKET_MAX):
        last = packet
    assert json.loads(last)["more"] is True
    sock.close()


async def test_there_are_only_so_many(few: House) -> None:
    lines = [await line(few, few.session()[0]) for _ in range(3)]
    with pytest.raises(Unavailable, match="too many workspaces"):
        await line(few, few.session()[0])
    for sock in lines:
        sock.close()
    await until(lambda: not few.desks())
    (await line(few, few.session()[0])).close()


@pytest.mark.parametrize(
    "packet",
    [
        b"\xff\x00",
        b"[]",
        b"{}",
        b"[" * 60000,
        b'{"list":"."}',
        b'{"list":".","most":"all"}',
        b'{"list":["."],"most":1}',
        b'{"open":7}',
        b'{"open":""}',
        b'{"open":"a\\u0000b"}',
        b'{"open":"\\ud800"}',
        b'{"exec":"id"}',
    ],
)
async def test_what_is_no_request_is_refused(house: House, packet: bytes) -> None:
    session, _ = house.session()
    with await line(house, session) as sock:
        assert said(sock, packet) == {"refused": "request"}
        assert said(sock, b'{"list":".","most":5}') == {"entries": [], "more": False}


@pytest.mark.parametrize("path", ["..", "../..", "/", "/etc/passwd", "a/../../..", "../home", "./../workspace/.."])
async def test_the_kernel_refuses_paths_that_leave(house: House, path: str) -> None:
    session, root = house.session()
    (root / "a").mkdir()
    with await line(house, session) as sock:
        for request in ({"list": path, "most": 9}, {"open": path}):
            assert said(sock, json.dumps(request).encode()) == {"errno": 18}


async def test_sessions_without_files_or_of_no_name(house: House) -> None:
    with pytest.raises(NotFound, match="no workspace"):
        await house.files(SessionId(str(uuid.uuid4()))).list("")
    session, root = house.session()
    with await line(house, session) as sock:
        await house.sandboxes.delete(session)
        sock.setblocking(False)
        assert sock.recv(10) == b"", "the desk has ended, whoever had it"
    with pytest.raises(NotFound, match="no workspace"):
        await house.files(session).list("")
    assert not root.exists()
    keeper = house.base / "r" / "keeper.sock"
    for message in ({"session": ".."}, {"session": None}, {}, {"session": session, "dir": "x"}):
        with pytest.raises(Unavailable, match=r"session|dir"):
            await client.ask(keeper, {"verb": "files", **message})


async def test_a_new_keeper_is_asked_when_the_old_one_is_gone(house: House) -> None:
    session, root = house.session()
    (root / "a").touch()
    answer = await client.ask(house.base / "r" / "keeper.sock", {"verb": "hello", "proto": 1})
    os.kill(answer["pid"], signal.SIGKILL)
    await until(lambda: not house.desks())
    assert [e.name for e in await house.files(session).list("")] == ["a"]


async def test_a_directory_of_the_host_is_read_as_the_session_would(house: House) -> None:
    session, _ = house.session()
    given = house.base / "given"  # beside the home, which whoever brings up a keeper closes to others again
    given.mkdir()
    (given / "a.txt").write_text("theirs")
    house.sandboxes._notes.write(session, Source(dir=str(given)))
    if ROOT:  # its uid cannot pass what lies above, as bwrap could not
        with pytest.raises(NotFound):
            await house.files(session).list("")
        house.base.chmod(0o711)
    assert [e.name for e in await house.files(session).list("")] == ["a.txt"]
    house.sandboxes._readers.drop(session)
    given.rename(given.with_name("moved"))
    given.symlink_to("moved")
    with pytest.raises(NotFound, match="no workspace"):
        await house.files(session).list("")


async def test_what_is_noted_of_a_source_is_the_servers_and_goes_with_the_session(house: House) -> None:
    notes = house.sandboxes._notes
    session, root = house.session()
    assert notes.read(session) is None
    (root.parent / "source.json").write_text('{"git": "https://example.test/a", "dir": null}')
    assert notes.read(session) == Source(git="https://example.test/a"), "as it lay before: not cloned again"
    notes.write(session, Source(dir="/srv/a"))
    path = house.base / "h" / "sources" / f"{session}.json"
    assert notes.read(session) == Source(dir="/srv/a")
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_text("[broken")
    assert notes.read(session) == Source()
    await house.sandboxes.delete(session)
    assert not path.exists()
    assert notes.read(session) is None


async def test_whether_sessions_have_uids_is_the_keepers_to_say(house: House, tmp_path: Path) -> None:
    asked = Source(dir=str(tmp_path))
    other = await Bubblewrap.connect_keeper(house.base / "h", house.base / "r", argv=KEEPER)
    assert other._root is ROOT
    if ROOT:
        with pytest.raises(BadRequest, match="uid of its own"):
            other.check(asked)
        other._root = False
    assert other.check(asked) == Source(dir=str(tmp_path.resolve()))
    await other.close()


async def test_one_library_is_enough() -> None:
    """A class each time is memory that only the collector frees, and a desk has none."""
    assert kernel._libc() is kernel._libc()
