"""The keeper's socket against clients that mean no good."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import signal
import stat
from pathlib import Path
from typing import Any

import pytest

from pilothouse.adapters.sandboxes import client, fdpass
from pilothouse.adapters.sandboxes.bubblewrap import Bubblewrap
from pilothouse.adapters.sandboxes.layout import make
from pilothouse.core.errors import Unavailable
from pilothouse.core.ids import SessionId
from pilothouse.engine.ports import SandboxSpec
from tests import disks
from tests.adapters.sandboxes.conftest import KEEPER, _end, processes, until
from tests.adapters.sandboxes.test_bubblewrap import keeper_pid

HELLO = b'{"verb":"hello","proto":1}\n'


async def say(path: Path, data: bytes) -> list[dict[str, Any]]:
    """Everything that comes back until the other side hangs up, or falls silent after a refusal."""
    reader, writer = await asyncio.open_unix_connection(path)
    heard: list[dict[str, Any]] = []
    try:
        writer.write(data)
        while line := await asyncio.wait_for(reader.readline(), 2 if heard and not heard[-1]["ok"] else 30):
            heard.append(json.loads(line))
    except TimeoutError:
        pass
    except ConnectionError:  # closed with bytes of ours unread
        heard.append({"ok": False, "error": "reset"})
    finally:
        writer.close()
    return heard


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xfe\x00garbage\n",
        b"[]\n",
        b"{}\n",
        b'{"verb":"status"}\n',
        b'{"verb":"hello","proto":99}\n',
        b'{"verb":"hello"}\n',
        b"[" * 60000 + b"\n",
        b"a" * (fdpass.LINE_MAX + 10),
        HELLO + b"x" * (fdpass.LINE_MAX * 3),
    ],
    ids=range(9),
)
async def test_what_is_no_request_is_answered_and_hung_up_on(sandboxes: Bubblewrap, base: Path, data: bytes) -> None:
    heard = await say(base / "r" / "keeper.sock", data)
    assert heard[-1]["ok"] is False
    assert heard[-1]["error"]
    assert (await sandboxes._keeper({"verb": "status"}))["ok"]


@pytest.mark.parametrize(
    ("request_", "word"),
    [
        ({"verb": "format_disk"}, "unknown verb"),
        ({"verb": ["open"]}, "unknown verb"),
        ({"verb": "open"}, "session"),
        ({"verb": "open", "session": "../../etc"}, "session"),
        ({"verb": "open", "session": "0" * 8 + "-0000" * 3 + "-" + "0" * 12, "sandbox": "none"}, "sandbox"),
        ({"verb": "delete", "session": "../.."}, "session"),
        ({"verb": "delete", "session": None}, "session"),
    ],
)
async def test_bad_requests_are_refused_by_name(
    sandboxes: Bubblewrap, base: Path, request_: dict[str, Any], word: str
) -> None:
    with pytest.raises(Unavailable, match=word):
        await client.ask(base / "r" / "keeper.sock", request_)


async def test_the_holder_refuses_likewise(sandboxes: Bubblewrap, base: Path, session: SessionId) -> None:
    await sandboxes.open(SandboxSpec(session, "echo"))
    path = base / "r" / f"{session}.ctl"
    for data in (b"garbage\n", b'{"verb":"state"}\n', HELLO + b'{"verb":"run","argv":"ls"}\n'):
        assert (await say(path, data))[-1]["ok"] is False
    for request in ({"verb": "x"}, {"verb": "forget"}, {"verb": "run", "module": "os"}, {"verb": "run"}):
        with pytest.raises((Unavailable, client.Away)):
            await client.ask(path, request)
    assert (await sandboxes.state(session)).alive


async def test_a_running_session_is_not_deleted(sandboxes: Bubblewrap, base: Path, session: SessionId) -> None:
    await sandboxes.open(SandboxSpec(session, "echo"))
    with pytest.raises(Unavailable, match="stop it first"):
        await client.ask(base / "r" / "keeper.sock", {"verb": "delete", "session": session})


async def test_directories_and_sockets_are_private(sandboxes: Bubblewrap, base: Path, session: SessionId) -> None:
    await sandboxes.open(SandboxSpec(session, "echo"))
    assert stat.S_IMODE((base / "r").stat().st_mode) == 0o700
    assert stat.S_IMODE((base / "h").stat().st_mode) == 0o700
    assert stat.S_IMODE((disks.own(base / "h", base / "r", session) / "workspace").stat().st_mode) == 0o700
    for name in ("keeper.sock", f"{session}.ctl", f"{session}.run"):
        assert stat.S_IMODE((base / "r" / name).stat().st_mode) == 0o600


async def test_many_wait_for_a_keeper_that_is_busy(sandboxes: Bubblewrap, base: Path) -> None:
    """A disk is made in between; the sessions of a whole team may be asked for meanwhile."""
    keeper = await keeper_pid(base)
    os.kill(keeper, signal.SIGSTOP)
    asked = [asyncio.create_task(sandboxes._keeper({"verb": "status"})) for _ in range(40)]
    await asyncio.sleep(0.5)
    os.kill(keeper, signal.SIGCONT)
    assert all(answer["ok"] for answer in await asyncio.gather(*asked))


async def test_one_keeper_however_many_start_it(sandboxes: Bubblewrap, base: Path) -> None:
    others = [Bubblewrap.connect_keeper(base / "h", base / "r", start=sandboxes._start) for _ in range(4)]
    for other in await asyncio.gather(*others):
        await other.close()
    assert len({await keeper_pid(base) for _ in range(3)}) == 1


async def test_one_that_is_still_dying_is_waited_for(base: Path) -> None:
    """It has the lock and does not answer."""
    found = make(base / "h", base / "r")
    with found.lock.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        starting = asyncio.create_task(Bubblewrap.connect_keeper(base / "h", base / "r", argv=KEEPER))
        await until(lambda: bool(processes(str(base))))
        await asyncio.wait([starting], timeout=0.5)
        too_soon = starting.done()
    made = await starting
    await _end(base, made)
    assert not too_soon


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a directory that belongs to somebody else")
async def test_a_home_of_somebody_else_is_refused(base: Path) -> None:
    (base / "h").mkdir()
    os.chown(base / "h", 2001, 2001)
    with pytest.raises(Unavailable, match="belongs to uid 2001"):
        await Bubblewrap.connect_keeper(base / "h", base / "r")
