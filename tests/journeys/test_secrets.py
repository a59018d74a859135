"""Canaries for every credential that an installation has, looked for wherever one could have got to.

One installation with real sandboxes works, fails, is asked wrongly, is doctored, killed and started again. Then every
canary is searched whole and by halves, as it is, in base64, in hex and as an address would carry it: in the sessions'
environments, files and memory, in what their network answers, in argument lists of the host, in logs, events, URLs and
the database.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import re
import shutil
import urllib.parse
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from websockets.asyncio.client import connect

from pilothouse.web.guard import COOKIE
from tests.journeys.program import Program, Viewer, begin, installation

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(shutil.which("curl") is None, reason="needs package curl"),  # the sessions see the host's /usr
]

MARK = "q7Zcanary"
"""In both halves of each canary that we choose, so that one search finds them all in the memory of an agent."""


def chosen(name: str) -> str:
    return f"{name}-{MARK}-{name[::-1]}+{MARK}/{name}"


GIVEN: dict[str, Any] = {
    "ANTHROPIC_API_KEY": chosen("apikey"),
    "ANTHROPIC_AUTH_TOKEN": chosen("token"),
    "AWS_ACCESS_KEY_ID": chosen("awsid"),
    "AWS_SECRET_ACCESS_KEY": chosen("awssecret"),
    "AWS_SESSION_TOKEN": chosen("awssession"),
    "AWS_BEARER_TOKEN_BEDROCK": chosen("bedrock"),
    "PILOTHOUSE_API_KEY": "",
    "HTTPS_PROXY": f"http://user:{urllib.parse.quote(chosen('proxy'), safe='')}@127.0.0.1:9",
    "GITHUB_TOKEN": chosen("github"),
    "DATABASE_URL": f"postgres://u:{chosen('database')}@127.0.0.1/x",
    "NO_PROXY": "127.0.0.1,localhost",
}
CHOSEN = [chosen(n) for n in ("apikey", "token", "awsid", "awssecret", "awssession", "bedrock", "proxy", "github",
                              "database", "wrong", "source")]  # fmt: skip


def forms(secret: str) -> set[bytes]:
    """A secret as it might stand somewhere."""
    half = len(secret) // 2
    out: set[bytes] = set()
    for part in (secret, secret[:half], secret[half:]):
        raw = part.encode()
        out |= {raw, raw.hex().encode(), raw.hex().upper().encode(), urllib.parse.quote(part, safe="").encode()}
        for shift in range(3):  # base64 looks different by where in its three bytes a thing begins
            coded = base64.b64encode(b"\0" * shift + raw)
            out.add(coded[(0, 2, 3)[shift] : len(coded) - 4])
    return {form for form in out if len(form) >= 10}


def pattern(secrets: Iterable[str]) -> re.Pattern[bytes]:
    every = sorted({form for secret in secrets for form in forms(secret)}, key=len, reverse=True)
    return re.compile(b"|".join(re.escape(form) for form in every))


def marks() -> list[bytes]:
    """The forms of what all chosen canaries contain: cheap to look for in much memory."""
    raw = MARK.encode()
    return [raw, raw.hex().encode(), *(base64.b64encode(b"\0" * n + raw)[4:-4] for n in range(3))]


@dataclass
class House:
    program: Program
    sessions: list[str]
    viewers: list[Viewer]
    made: dict[str, str]
    """Credentials that the program itself made."""
    answers: list[str]
    """All that the server and its command line said, where it was not asked for a secret."""

    @property
    def secrets(self) -> list[str]:
        return [*CHOSEN, *self.made.values()]

    def inside(self) -> dict[int, str]:
        """The processes of the sessions, by their root's mounts."""
        found = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    argv = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                    mounts = (entry / "mountinfo").read_text()
                    if argv and " /workspace " in mounts and any(s in mounts for s in self.sessions):
                        found[int(entry.name)] = argv
        return found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house() -> AsyncIterator[House]:
    async with installation(demo=True, PILOTHOUSE_LIMITS_IMAGE="0", **GIVEN) as (program, _):
        answers: list[str] = []
        made: dict[str, str] = {"local": program.key}
        looks = (
            "env; tr '\\\\0' '\\\\n' < /proc/self/environ; cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline; set; "
            "curl -svm 3 -H 'x-api-key: session-placeholder' -d '{}' http://127.0.0.1:3129/v1/messages; "
            "curl -svm 3 http://127.0.0.1:3129/v1/models; curl -svm 3 https://pypi.org/simple/; curl -svm 3 http://127.0.0.1:3128/"
        )
        failing, _, other = await begin(program, "demo: error 401", timeoutS=60)
        session, _, viewer = await begin(
            program, f"demo: bash {looks}\ndemo: write notes.txt mine\ndemo: say over", permissionMode="acceptAll"
        )
        await viewer.until("complete")
        await other.until("complete")
        async with program.http() as http:
            made["key"] = (await http.post("/api/keys", json={"name": "one"})).json()["key"]
            made["ticket"] = (await http.post("/api/tickets")).json()["ticket"]
            bad = {"git": f"https://user:{urllib.parse.quote(chosen('source'), safe='')}@git.example/x.git"}
            answers.append((await http.post("/api/sessions", json={"source": bad})).text)
            answers.append((await http.get("/api/keys")).text)
        await _sign_in(program, made, answers)
        commands = (["doctor"], ["config", "--json"], ["ps"], ["logs", session])
        for status, out, err in await asyncio.gather(*(program.cli(*arguments) for arguments in commands)):
            answers += [out, err]
            assert status == 0, err
        await program.kill()
        await program.start()
        await _prompt(program, viewer, "demo: bash env\ndemo: say again")
        yield House(program, [session, failing], [viewer, other], made, answers)
        await viewer.close()
        await other.close()


async def _sign_in(program: Program, made: dict[str, str], answers: list[str]) -> None:
    """With the ticket, with a wrong key in every way to give one, with a wrong ticket."""
    async with httpx.AsyncClient(base_url=program.url) as http:
        made["cookie"] = (await http.post("/api/signin", json={"ticket": made["ticket"]})).cookies[COOKIE]
        wrong = chosen("wrong")
        for headers in ({"x-api-key": wrong}, {"authorization": f"Bearer {wrong}"}, {"cookie": f"{COOKIE}={wrong}"}):
            for path in ("/api/me", f"/api/me?token={urllib.parse.quote(wrong, safe='')}"):
                answers.append((await http.get(path, headers=headers)).text)
        answers.append((await http.post("/api/signin", json={"ticket": wrong})).text)
        answers.append((await http.get("/api/me", headers={"cookie": f"{COOKIE}={made['cookie']}"})).text)
    socket = program.url.replace("http", "ws") + f"/ws?key={urllib.parse.quote(wrong, safe='')}"
    with contextlib.suppress(Exception):
        async with connect(socket, additional_headers={"x-api-key": wrong}):
            raise AssertionError("let in")


async def _prompt(program: Program, viewer: Viewer, text: str) -> None:
    before = len(viewer.of("complete"))
    async with program.http() as http:
        body = {"prompt": text, "permissionMode": "acceptAll"}
        assert (await http.post(f"/api/sessions/{viewer.session}/jobs", json=body)).status_code == 202
    await viewer.until("complete", before + 1)


def clean(house: House, data: bytes, where: object) -> None:
    found = pattern(house.secrets).search(data)
    assert found is None, f"{where}: {found[0][:12]!r}… at {found.start()}"  # the secret itself is not printed whole


# --- the search finds what it looks for -------------------------------------------------------------------------------


@pytest.mark.parametrize("secret", [chosen("x"), "ph_0123456789ab_" + "A-b_C" * 8 + "xyz"])
async def test_the_search_finds_a_secret_in_every_form(secret: str) -> None:
    found = pattern([secret])
    half = len(secret) // 2
    for part in (secret, secret[:half], secret[half:]):
        for prefix in ("", "a", "ab", "abc"):
            text = (prefix + part + "tail").encode()
            assert found.search(text)
            assert found.search(base64.b64encode(text)), (part, prefix)
            assert found.search(text.hex().encode())
            assert found.search(urllib.parse.quote(text.decode(), safe="").encode())
    assert not found.search(b"nothing of the kind " * 100)


async def test_the_marks_are_found_in_every_form() -> None:
    text = f"some words {chosen('x')} more".encode()
    for shift in range(3):
        for data in (text, text.hex().encode(), base64.b64encode(b"\0" * shift + text)):
            assert any(mark in data for mark in marks())


# --- the sessions -----------------------------------------------------------------------------------------------------


async def test_c27_no_process_of_a_session_was_given_one(house: House) -> None:
    """Environment and arguments as the kernel has them, of the runner and the first process too."""
    there = house.inside()
    assert any("pilothouse.runner" in argv for argv in there.values()), there
    assert any("_bundled/claude" in argv for argv in there.values()), there
    for pid in there:
        for name in ("environ", "cmdline"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                clean(house, Path(f"/proc/{pid}/{name}").read_bytes(), (there[pid][:60], name))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root reads the memory of another's process")
async def test_c27_the_memory_of_a_sessions_processes_holds_none(house: House) -> None:
    """Every canary that we chose; those that the program made are looked for in the runner's and the first one's."""
    exact = pattern(house.made.values())
    server = house.program.process
    assert server is not None
    assert any(marks()[0] in piece for piece in memory(server.pid)), "the server has them, so the search works"
    for pid, argv in house.inside().items():
        for piece in memory(pid):
            assert not any(mark in piece for mark in marks()), argv[:80]
            if "_bundled/claude" not in argv:
                assert exact.search(piece) is None, argv[:80]


def memory(pid: int) -> Iterator[bytes]:
    """What is writable, private and really there: an agent reserves gigabytes that it never touches."""
    page = os.sysconf("SC_PAGESIZE")
    with (
        Path(f"/proc/{pid}/mem").open("rb", buffering=0) as file,
        Path(f"/proc/{pid}/pagemap").open("rb", buffering=0) as present,
    ):
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            words = line.split(maxsplit=5)
            start, end = (int(part, 16) for part in words[0].split("-"))
            if not words[1].startswith("rw-p") or start >= 1 << 47:
                continue
            present.seek(start // page * 8)
            entries = memoryview(present.read((end - start) // page * 8)).cast("Q")
            run = -1
            for at, entry in enumerate(chain(entries, (0,))):
                there = entry >> 62 != 0  # in memory, or swapped out
                if there and run < 0:
                    run = at
                elif not there and run >= 0:
                    with contextlib.suppress(OSError):
                        file.seek(start + run * page)
                        yield file.read((at - run) * page)
                    run = -1


async def test_c27_no_file_of_a_session_or_of_the_installation_holds_one(house: House) -> None:
    """Workspaces, homes, temporary directories, the log with its ledger, usage records; but for the local key's."""
    root = house.program.home
    looked = 0
    for path in [*root.rglob("*"), *_temporary(house)]:
        with contextlib.suppress(OSError):
            if path.is_symlink() or not path.is_file() or path.name in {"local.key", "claude"}:
                continue
            clean(house, path.read_bytes(), path)
            looked += 1
    names = {p.name for p in root.rglob("*") if p.is_file()}
    assert {"log.sqlite", "keeper.log", "server.log", "notes.txt"} <= names
    assert looked > 20


def _temporary(house: House) -> Iterator[Path]:
    """What sessions have in directories that are gone with them."""
    for pid in house.inside():
        for folder in ("tmp", "run", "dev/shm"):
            yield from Path(f"/proc/{pid}/root/{folder}").rglob("*")


async def test_c27_what_a_session_is_answered_and_what_is_logged_of_it_holds_none(house: House) -> None:
    """Its commands printed their environment, the processes they see and the answers of its two listeners."""
    said = "\n".join(str(e) for viewer in house.viewers for e in viewer.events)
    assert "session-placeholder" in said, "the commands have run"
    assert "HTTP/1.1" in said
    clean(house, said.encode(), "events")
    async with house.program.http() as http:
        for session in house.sessions:
            for what in ("", "/events?limit=1000", "/jobs", "/files", "/files/zip"):
                clean(house, (await http.get(f"/api/sessions/{session}{what}")).content, (session, what))


# --- the host ---------------------------------------------------------------------------------------------------------


async def test_c27_no_argument_list_of_the_host_holds_one(house: House) -> None:
    there = house.program.processes()
    assert len(there) >= 4
    for pid in there:
        with contextlib.suppress(OSError):
            clean(house, Path(f"/proc/{pid}/cmdline").read_bytes(), pid)


async def test_c27_keeper_and_holders_were_not_given_one(house: House) -> None:
    """They outlive the server and need none. The server was started with them, and the child that it leaves behind to
    start the keeper again."""
    looked = set()
    for pid in house.program.processes():
        with contextlib.suppress(OSError):
            argv = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if " pilothouse serve " in argv:
                continue
            clean(house, Path(f"/proc/{pid}/environ").read_bytes(), argv[:200])
            looked.add(next((n for n in ("keeper", "proxy", "bwrap") if n in argv), ""))
    assert {"keeper", "proxy"} <= looked


async def test_c27_what_server_and_command_line_say_holds_none(house: House) -> None:
    clean(house, "\n".join(house.answers).encode(), "answers")
    shown = next(a for a in house.answers if "api_key" in a)
    assert "****" in shown


async def test_c27_a_program_that_breaks_prints_none(tmp_path: Path) -> None:
    """A wrong setting beside the right ones, a database that is none: its last words hold no canary."""
    told = ""
    for name, env in (("a", {"PILOTHOUSE_PORT": "x"}), ("b", {})):
        home = tmp_path / name
        (home / "ph").mkdir(parents=True)
        (home / "ph" / "log.sqlite").write_bytes(b"no database at all" * 1000)
        with pytest.raises(AssertionError, match="the server ended"):
            await Program(home, **(GIVEN | env)).start()
        told += (home / "server.log").read_text()
    assert "PILOTHOUSE_PORT" in told
    assert "log.sqlite" in told
    assert pattern(CHOSEN).search(told.encode()) is None
