"""Secrets that people set for their shells and agents, in the real program: they are where they were sent, and nowhere
else. They are planted in environment, file and output, whole and in two pieces, and then looked for wherever one could
have got to: whole and by halves, as it is, in base64, in hex and as an address would carry it.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from websockets.asyncio.client import connect

from pilothouse import config
from tests.journeys.program import Program, Viewer, installation
from tests.journeys.test_secrets import pattern

pytestmark = pytest.mark.asyncio(loop_scope="module")

NAMES = ("ENVS", "FILES", "AGENTS", "BOTH")
PLANTED = {name: f"{name}-Zq7canary{hashlib.sha256(name.encode()).hexdigest()[:40]}" for name in NAMES}
DISKS = os.geteuid() == 0
"""Only a root keeper makes a disk for each session."""
PRINTS = r"""
printf 'env:%s:\n' "$ENVS"
for n in 9 30 33; do printf %s "${ENVS:0:$n}"; sleep 0.5; printf '%s\n' "${ENVS:$n}"; done
printf %s "$ENVS" | sha256sum; printf %s "$BOTH" | sha256sum; sha256sum < "$FILES_FILE"
stat -c 'file %a %F' "$FILES_FILE"; cat "$FILES_FILE"; echo
for n in 9 30 33; do head -c $n "$FILES_FILE"; sleep 0.5; tail -c +$((n + 1)) "$FILES_FILE"; echo; done
printf %s "$ENVS" | base64 -w0; echo; printf %s "$ENVS" | od -An -tx1 | tr -d ' \n'; echo
env; cat /proc/self/environ | tr '\0' '\n'; declare -p ENVS
echo "agents:[$AGENTS]"
"""


def digest(name: str) -> str:
    return hashlib.sha256(PLANTED[name].encode()).hexdigest()


@dataclass
class House:
    program: Program
    session: str = ""
    other: str = ""
    viewer: Viewer | None = None
    seen: dict[str, bytes] = field(default_factory=dict)
    """What came through each door."""

    def of(self, session: str) -> list[int]:
        """The processes of a session: its holder's descendants, but for those that are the holder's own."""
        runtime = config.load(self.program.env, make=False).runtime
        with socket.socket(socket.AF_UNIX) as sock, sock.makefile("rw") as line:
            sock.connect(str(runtime / f"{session}.ctl"))
            line.write('{"verb":"hello","proto":1}\n')
            line.flush()
            holder = int(json.loads(line.readline())["pid"])
        found, todo = [], [holder]
        while todo:
            parent = todo.pop()
            with contextlib.suppress(OSError):
                todo += map(int, Path(f"/proc/{parent}/task/{parent}/children").read_text().split())
                argv = Path(f"/proc/{parent}/cmdline").read_bytes()
                if b"keeper" not in argv and b"bwrap" not in argv:
                    found.append(parent)
        return found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    """Everything happens here once, a kill of the server among it; the tests look for what is left of it."""
    async with installation(demo=True, PILOTHOUSE_RATE_PER_S="0", PILOTHOUSE_ACCESS_LOG="on") as (program, _):
        file = tmp_path_factory.mktemp("given") / "value"
        file.write_text(PLANTED["FILES"])
        made = House(program)
        said = [
            await program.cli("secret", "set", "ENVS", input=PLANTED["ENVS"] + "\n"),
            await program.cli("secret", "set", "FILES", "--file", "--from-file", str(file)),
            await program.cli("secret", "set", "AGENTS", "--for", "agents", input=PLANTED["AGENTS"]),
        ]
        async with program.http() as http:
            made.other = (await http.post("/api/sessions", json={"agent": "echo"})).json()["id"]
            made.session = (await http.post("/api/sessions", json={"agent": "claude"})).json()["id"]
            wish = ("secret", "set", "BOTH", "--for", "both", "--session", made.session)
            said += [await program.cli(*wish, input=PLANTED["BOTH"])]
            said += [
                await program.cli("secret", "list"),
                await program.cli("secret", "list", "--session", made.session),
            ]
            assert all(status == 0 for status, _, _ in said), said
            made.seen["command line"] = str(said).encode()
            looks = "printf '<%s>' $AGENTS; printf %s $AGENTS | sha256sum; printf %s $BOTH | sha256sum; echo [$ENVS]"
            made.viewer = viewer = Viewer(program, made.session)
            prompt = f"demo: bash {looks}\ndemo: say over"
            job = await http.post(
                f"/api/sessions/{made.session}/jobs", json={"prompt": prompt, "permissionMode": "acceptAll"}
            )
            assert job.status_code == 202, job.text
            refused = await http.post(f"/api/sessions/{made.session}/jobs", json={"prompt": f"use {PLANTED['BOTH']}"})
            refused_too = await http.post(
                f"/api/sessions/{made.session}/shells", json={"startup": f"export A={PLANTED['ENVS']}"}
            )
            assert (refused.status_code, refused_too.status_code) == (400, 400)
            made.seen["refusals"] = refused.content + refused_too.content
            await viewer.until("complete")
        await in_shells(made)
        await program.kill()
        await program.start()
        made.seen["after a restart"] = await replay(made, "typed")
        await everything_again(made)
        yield made
        await viewer.close()


async def in_shells(house: House) -> None:
    """One that is typed in at our own door, one at the door of AgentCore's clients, one with a startup, one of another
    session."""
    program = house.program
    async with program.http() as http:
        path = f"/api/sessions/{house.session}/shells"
        assert (await http.post(path, json={"shellId": "typed"})).status_code == 201
        script = f"cat > all.sh <<'END'\n{PRINTS}END\n. ./all.sh; rm all.sh; echo o''ver\n"
        house.seen["our own door"] = await talk(house, f"{path}/typed?role=type", script, b"over\r\n")
        query = f"shellId=plain&X-Amzn-Bedrock-AgentCore-Runtime-Session-Id={house.session}"
        where = f"/runtimes/agent-AbCdEf1234/ws/shells?{query}"
        house.seen["AgentCore's door"] = await talk(house, where, f"{PRINTS}\necho o''ver\n", b"over\r\n")
        begun = {"shellId": "begun", "startup": 'alias five="echo $((2+3))five"; cd /tmp; echo "$ENVS" "${#ENVS}"'}
        assert (await http.post(path, json=begun)).status_code == 201
        house.seen["startup"] = await talk(
            house, f"{path}/begun?role=type", "five; pwd; echo [$PILOTHOUSE_STARTUP]; echo o''ver\n", b"over\r\n"
        )
        path = f"/api/sessions/{house.other}/shells"
        assert (await http.post(path, json={"shellId": "there"})).status_code == 201
        house.seen["another session"] = await talk(
            house, f"{path}/there?role=type", "echo \"[$BOTH]\" o''ver\n", b"over\r\n"
        )


async def talk(house: House, path: str, typed: str, until: bytes) -> bytes:
    got = b""
    url = house.program.url.replace("http", "ws") + path
    async with connect(url, additional_headers={"x-api-key": house.program.key}, max_size=None) as door:
        await door.send(b"\0" + typed.encode())
        async with asyncio.timeout(60):
            async for message in door:
                assert isinstance(message, bytes)
                got += message[1:] if message[0] == 1 else b""
                if until in got:
                    break
    return got


async def replay(house: House, shell: str) -> bytes:
    """The scrollback, for somebody who comes anew."""
    async with house.program.http() as http:
        path = f"/api/sessions/{house.session}/shells"
        shells = (await http.get(path)).json()["items"]
        head = next(one["head"] for one in shells if one["shellId"] == shell)
    got = b""
    url = house.program.url.replace("http", "ws") + f"{path}/{shell}?role=watch&after=0"
    async with connect(url, additional_headers={"x-api-key": house.program.key}, max_size=None) as door:
        async with asyncio.timeout(30):
            while len(got) < head:
                message = await door.recv()
                assert isinstance(message, bytes)
                got += message[1:] if message[0] == 1 else b""
    return got


async def everything_again(house: House) -> None:
    """What the other doors show of it."""
    async with house.program.http() as http:
        for what in ("", "/events?limit=1000", "/jobs", "/files", "/files/zip", "/shells", "/secrets", "/network"):
            house.seen[what] = (await http.get(f"/api/sessions/{house.session}{what}")).content
        for path in ("/api/secrets", "/api/audit?limit=200", "/api/approvals?state=all"):
            house.seen[path] = (await http.get(path)).content
        stream = {"accept": "text/event-stream"}
        async with http.stream("GET", f"/api/sessions/{house.session}/events", headers=stream) as answer:
            got = b""
            with contextlib.suppress(httpx.ReadTimeout):
                async with asyncio.timeout(30):
                    async for piece in answer.aiter_bytes():
                        got += piece
                        if b'"complete"' in got:
                            break
        house.seen["stream"] = got
    assert house.viewer is not None
    house.seen["chat socket"] = json.dumps(house.viewer.events).encode()


def pieces(path: Path) -> Iterator[bytes]:
    """What is there of a file: an image is mostly holes."""
    at, size = 0, path.stat().st_size
    with path.open("rb", buffering=0) as file:
        while at < size:
            try:
                start = os.lseek(file.fileno(), at, os.SEEK_DATA)
            except OSError:  # the rest is a hole
                return
            at = os.lseek(file.fileno(), start, os.SEEK_HOLE)
            yield os.pread(file.fileno(), at - start, start)


def clean(data: bytes, where: object, *but: str) -> None:
    found = pattern(value for name, value in PLANTED.items() if name not in but).search(data)
    assert found is None, (
        f"{where}: {found[0][:14]!r} at {found.start()}: {data[max(0, found.start() - 200) : found.start()]!r}"
    )


# --- where they were sent ---


async def test_shells_and_agents_have_what_is_for_them(house: House) -> None:
    """So that a search that finds nothing elsewhere says something."""
    for door in ("our own door", "AgentCore's door"):
        got = house.seen[door].decode()
        for name in ("ENVS", "BOTH", "FILES"):
            assert digest(name) in got, (door, name)
        assert "file 600 regular file" in got
        assert "agents:[]" in got
        assert f"env:{'*' * len(PLANTED['ENVS'])}:" in got
    agent = house.seen["/events?limit=1000"].decode()
    assert digest("AGENTS") in agent
    assert digest("BOTH") in agent
    assert f"<{'*' * len(PLANTED['AGENTS'])}>" in agent
    assert "[]" in agent
    assert "[] over" in house.seen["another session"].decode()


async def test_a_shells_own_environment_and_file_have_them_as_long_as_it_runs(house: House) -> None:
    environs = []
    for pid in house.of(house.session):
        with contextlib.suppress(OSError):
            environs.append(Path(f"/proc/{pid}/environ").read_bytes())
    assert any(PLANTED["ENVS"].encode() in environ for environ in environs)
    assert any(PLANTED["AGENTS"].encode() in environ for environ in environs)
    root = Path(f"/proc/{house.of(house.session)[-1]}/root/run/secrets")
    assert (root / "typed" / "FILES").read_text() == PLANTED["FILES"]
    assert root.stat().st_mode & 0o777 == 0o700
    async with house.program.http() as http:
        await http.delete(f"/api/sessions/{house.session}/shells/plain")
        async with asyncio.timeout(20):
            while (root / "plain").exists():
                await asyncio.sleep(0.05)
    assert (root / "typed" / "FILES").exists()


async def test_a_new_value_is_in_new_shells_only_and_the_old_one_stays_masked(house: House) -> None:
    new = "the-new-value-Zq7canary-0123456789"
    assert (await house.program.cli("secret", "set", "ENVS", input=new))[0] == 0
    async with house.program.http() as http:
        path = f"/api/sessions/{house.session}/shells"
        assert (await http.post(path, json={"shellId": "newer"})).status_code == 201
    typed = "printf %s $ENVS | sha256sum; cat /proc/*/environ | tr '\\0' '\\n' | grep -a ^ENVS; echo o''ver\n"
    newer = await talk(house, f"{path}/newer?role=type", typed, b"over\r\n")
    older = await talk(house, f"{path}/typed?role=type", "clear; " + typed, b"over\r\n")
    assert hashlib.sha256(new.encode()).hexdigest() in newer.decode()
    assert digest("ENVS") in older.decode()
    for got in (newer, older):
        clean(got, "an old value")
        assert new.encode() not in got


# --- nowhere else ---


async def test_c27_what_came_through_every_door_holds_none(house: House) -> None:
    for door, got in house.seen.items():
        clean(got, door)
    assert len(house.seen["after a restart"]) > 1000
    assert b"five" in house.seen["startup"]
    assert b"/tmp" in house.seen["startup"]
    assert b"5five" in house.seen["startup"]
    assert b"[]" in house.seen["startup"]


async def test_c27_no_file_holds_one(house: House) -> None:
    """Workspaces and homes, disk images, the store, every log of the host's side. What an agent was made to print is in
    its own notes of the conversation, in the session's home."""
    looked = set()
    own = house.program.own(house.session)
    for path in [*house.program.home.rglob("*"), *own.rglob("*")]:
        with contextlib.suppress(OSError):
            if path.is_file() and not path.is_symlink() and path.name != "claude":
                noted = ".claude" in path.parts or path.name == "disk.img"
                for piece in pieces(path):
                    clean(piece, path, *(["AGENTS"] if noted else []))
                looked.add(path.name)
    assert {"log.sqlite", "keeper.log", "server.log", "sealing.key", "disk.img" if DISKS else "log.sqlite"} <= looked
    assert (house.program.home / "ph" / "sealing.key").stat().st_mode & 0o777 == 0o600


async def test_c27_no_process_but_the_sessions_own_was_given_one(house: House) -> None:
    theirs, looked = set(house.of(house.session)) | set(house.of(house.other)), 0
    for pid in house.program.processes():
        with contextlib.suppress(OSError):
            clean(Path(f"/proc/{pid}/cmdline").read_bytes(), pid)
            if pid not in theirs:
                clean(Path(f"/proc/{pid}/environ").read_bytes(), Path(f"/proc/{pid}/cmdline").read_bytes())
                looked += 1
    assert looked >= 3
    for pid in theirs:
        with contextlib.suppress(OSError):
            clean(Path(f"/proc/{pid}/cmdline").read_bytes(), pid)


async def test_c27_the_sessions_log_and_the_audit_say_names_alone(house: House) -> None:
    audit = house.seen["/api/audit?limit=200"].decode()
    assert '"secret.set"' in audit
    assert '"ENVS"' in audit
    assert "startup" in audit
    log = house.program.log.read_text()
    assert "/api/secrets/ENVS" in log, "addresses are in the log"
