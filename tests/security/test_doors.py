"""Who may come in, asked of the program as it ships: server, keeper and proxy in processes of their own.

Each test bears the id of its check; SECURITY.md lists them.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import stat
import time
import urllib.parse
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from pilothouse.adapters.stores.memory import MemoryStore
from pilothouse.core.access import SCOPES
from pilothouse.engine.clock import SystemClock
from pilothouse.engine.identity import Identity
from pilothouse.web.guard import COOKIE
from pilothouse.web.routes import TABLE, Entry
from tests.core.signing import signed
from tests.journeys.program import Program, begin, installation
from tests.security import raw

pytestmark = pytest.mark.asyncio(loop_scope="module")

ANY_ID = "01a1fca5-a696-7da8-a592-78b242187567"
FORGED = "ph_000000000000_" + "x" * 43
PUBLIC = {f"{e.method} {e.path}" for e in TABLE if e.policy == "public"}
INSIDE = {"WS /event/realtime"}
"""It says no in its protocol, after the upgrade: tests/web/test_realtime.py."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def program() -> AsyncIterator[Program]:
    # Without disks of their own, sessions have folders in which a test can put what no command would make.
    async with installation(demo=False, PILOTHOUSE_LIMITS_IMAGE="0") as (made, _):
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def session(program: Program) -> AsyncIterator[str]:
    """A session that has worked, so that every address has something to show."""
    made, _, viewer = await begin(program, "say one\nsay two", agent="echo", permissionMode="acceptAll")
    await viewer.until("complete")
    await viewer.close()
    yield made


def address(entry: Entry, name: str = ANY_ID) -> str:
    filled = entry.path.replace("{id}", name).replace("{digest}", "0" * 64)
    return filled.replace("{runtime}", "runtime-1").replace("{shellId}", "shell-1")


def asking(entry: Entry, program: Program, **headers: str) -> bytes:
    given = {"host": program.url.removeprefix("http://"), **headers}
    if entry.method == "WS":
        return raw.upgrade(address(entry), given)
    return raw.plain(entry.method, address(entry), given)


async def answers(program: Program, **headers: str) -> dict[str, int]:
    """What every address of the route table answers to these headers."""
    asked = [raw.exchange(program.url, asking(entry, program, **headers)) for entry in TABLE]
    return {
        f"{entry.method} {entry.path}": raw.status(answer)
        for entry, answer in zip(TABLE, await asyncio.gather(*asked), strict=True)
    }


async def signed_in(program: Program) -> tuple[str, str]:
    """A cookie and its CSRF token."""
    async with program.http() as http:
        ticket = (await http.post("/api/tickets")).json()["ticket"]
    async with httpx.AsyncClient(base_url=program.url) as http:
        cookie = (await http.post("/api/signin", json={"ticket": ticket})).cookies[COOKIE]
        me = (await http.get("/api/me", headers={"cookie": f"{COOKIE}={cookie}"})).json()
    return cookie, me["csrf"]


async def test_c01_no_address_of_the_program_answers_a_stranger(program: Program) -> None:
    """WebSockets included: refused in the HTTP answer, before anything is accepted."""
    for credential in ({}, {"x-api-key": FORGED}, {"authorization": "Bearer x"}, {"authorization": "Basic eDp4"}):
        for where, code in (await answers(program, **credential)).items():
            if where not in PUBLIC:
                assert code == (101 if where in INSIDE else 401), (where, credential)
    assert "WS /ws" in await answers(program)


async def test_c01_nothing_is_served_beside_the_table(program: Program) -> None:
    known = {entry.path for entry in TABLE}
    guesses = [
        "/docs/", "/redoc", "/openapi.yaml", "/metrics/", "/debug", "/api", "/api/", "/api/shell", "/api/exec", "/ws/",
        "/ws/x", "/wss", "/shell", "/api/me/", "/healthz/", "/pty", "/terminal", "/events", "/invocations", "/ping",
        "/.env", "/.git/config",
        "/server.json", "/local.key", "/assets/../local.key", "/assets/..%2f..%2flocal.key", "/static/index.html",
        "//ws", "/%77%73", "/ws;x", "/ws%00", "/WS",
    ]  # fmt: skip
    for path in guesses:
        assert path not in known
        for request in (
            raw.plain("GET", path, {"host": "127.0.0.1"}),
            raw.upgrade(path, {"host": "127.0.0.1", "x-api-key": program.key}),
        ):
            code = raw.status(await raw.exchange(program.url, request))
            assert code in {400, 403, 404, 405}, (path, code)


async def test_c01_other_methods_do_nothing(program: Program) -> None:
    for method in ("PUT", "TRACE", "CONNECT", "OPTIONS", "PROPFIND", "GET\t", "X" * 500):
        for path in ("/api/me", "/api/sessions", "/ws", "/"):
            answer = await raw.exchange(program.url, raw.plain(method, path, {"host": "127.0.0.1"}))
            assert raw.status(answer) in {400, 401, 404, 405}, (method, path, answer[:80])
            assert b"access-control-allow-origin" not in answer.lower()


async def test_c02_one_listening_port_on_loopback_for_the_whole_program(program: Program, session: str) -> None:
    """Keeper, holder, proxy, runner and agent have unix sockets only; on the host nothing else listens."""
    ours = {str(found.readlink()) for pid in program.processes() for found in _descriptors(pid)}
    listening = []
    for name in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A" and f"socket:[{words[9]}]" in ours:
                listening.append(words[1])
    port = int(program.url.rsplit(":", 1)[1])
    assert listening == [f"0100007F:{port:04X}"]


def _descriptors(pid: int) -> list[Path]:
    try:
        return [p for p in Path(f"/proc/{pid}/fd").iterdir() if p.is_symlink()]
    except OSError:
        return []


@pytest.mark.parametrize("host", [
    "evil.example", "127.0.0.1.evil.example", "evil.example:{port}", "localhost.evil.example", "2130706433",
    "0.0.0.0:{port}", "[::ffff:127.0.0.1]:{port}", "", "127.0.0.1:x", "127.0.0.1@evil.example",
    "127.0.0.1,evil.example",
])  # fmt: skip
async def test_c03_a_foreign_host_is_refused_at_every_address(program: Program, host: str) -> None:
    """A page that rebinds its own name to this address sends that name; also with a good key."""
    named = host.replace("{port}", program.url.rsplit(":", 1)[1])
    for where, code in (await answers(program, host=named, **{"x-api-key": program.key})).items():
        assert code in {400, 421}, (where, code)


async def test_c04_a_foreign_origin_is_refused_at_every_address(program: Program) -> None:
    """Exactly scheme, host and port. `null` too; and a cookie without an Origin opens no socket."""
    cookie, csrf = await signed_in(program)
    by_cookie = {"cookie": f"{COOKIE}={cookie}", "x-csrf-token": csrf}
    port = program.url.rsplit(":", 1)[1]
    foreign = (
        "http://evil.example", "null", f"https://127.0.0.1:{port}", f"http://localhost:{port}", "http://127.0.0.1",
        f"http://127.0.0.1:{port}0", f"http://127.0.0.1:{port}.evil.example", f"http://x@127.0.0.1:{port}", "",
    )  # fmt: skip
    for origin in foreign:
        for credential in ({"x-api-key": program.key}, by_cookie):
            for where, code in (await answers(program, origin=origin, **credential)).items():
                assert code == 403, (where, origin, code)
    never = {f"{e.method} {e.path}" for e in TABLE if e.policy == "credential"}  # looks at no cookie
    codes = {where: code for where, code in (await answers(program, **by_cookie)).items() if where not in never}
    assert codes["WS /ws"] == 403
    assert {code for where, code in codes.items() if where.split(" ")[0] in {"POST", "PATCH", "DELETE"}} <= {
        403,
        415,
        400,
    }
    open_to_us = await raw.exchange(
        program.url, raw.upgrade("/ws", {"host": f"127.0.0.1:{port}", "origin": program.url, **by_cookie})
    )
    assert raw.status(open_to_us) == 101, "the same with our own origin is let in, so the test tests something"


async def test_c05_what_opens_the_door_is_for_its_user_alone(program: Program, session: str) -> None:
    home = program.home / "ph"
    assert program.process is not None
    server = Path(f"/proc/{program.process.pid}").stat()
    for path in (home, home / "run"):
        assert path.stat().st_mode & 0o007 == 0, path
        assert path.stat().st_mode & 0o070 == 0 or path.stat().st_gid == server.st_gid != 0, "the server's own group"
    secrets = [home / "local.key", home / "server.json", *home.glob("log.sqlite*"), home / "keeper.log"]
    sockets = [p for p in (home / "run").iterdir() if p.is_socket()]
    assert len(sockets) >= 4
    for path in [*secrets, *sockets]:
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode & 0o007 == 0, path
        assert mode & 0o070 == 0 or path.stat().st_gid == server.st_gid != 0, path


async def test_c06_no_two_installations_share_a_secret(program: Program) -> None:
    """The key of one is nothing to another, and no setting has a secret for a default."""
    from pilothouse import config

    assert all(not f.default for f in config.settings() if f.metadata["secret"])
    elsewhere = Identity(MemoryStore(), SystemClock())
    _, key = await elsewhere.keys.create("this machine", SCOPES)
    cookie = await elsewhere.redeem((await elsewhere.ticket())[0])
    for headers in ({"x-api-key": key}, {"cookie": f"{COOKIE}={cookie}"}):
        async with httpx.AsyncClient(base_url=program.url, headers=headers) as http:
            assert (await http.get("/api/me")).status_code == 401


IDS = [
    ";id", "$(touch x)", "`touch x`", "a\nb", "a%0ab", "--help", "-rf", "..", "../..", "%2e%2e", "%2e%2e%2f", "a/b",
    "*", "' or 1=1 --", ANY_ID.upper(), ANY_ID + "\n", ANY_ID + "/../x", "x" * 5000, "\u202e", "%00", "null", "0",
    "{id}",
]  # fmt: skip


async def test_c07_names_are_taken_literally_or_not_at_all(program: Program, session: str) -> None:
    """Whatever stands where an id belongs is no shell word, no option, no path and no query: it is not there."""
    before = {p.name for p in (program.home / "ph").rglob("*")}
    async with program.http() as http:
        for entry in TABLE:
            if "{id}" not in entry.path or entry.path == "/api/keys/{id}":
                continue
            for name in IDS:
                path = address(entry, urllib.parse.quote(name, safe="%"))
                if ".." in name:  # a library takes the dots out
                    bare = raw.plain(entry.method, path, {"host": program.url[7:], "x-api-key": program.key})
                    said = await raw.exchange(program.url, bare)
                    assert raw.status(said) in {400, 404, 405}, (entry, name, said)
                    continue
                answer = await http.request(entry.method, path, json={} if entry.method in {"POST", "PATCH"} else None)
                assert answer.status_code in {400, 404, 405}, (entry, name, answer.text[:200])
        for name in IDS:
            gone = await http.delete(f"/api/keys/{urllib.parse.quote(name, safe='%')}")
            assert gone.status_code in {400, 404, 405}, name
    assert {p.name for p in (program.home / "ph").rglob("*")} - before <= {"log.sqlite-wal", "log.sqlite-shm"}


async def test_c08_no_path_leads_out_of_a_workspace(program: Program, session: str) -> None:
    """By whatever it is written; what is no regular file is not read; nobody waits for a pipe."""
    workspace = program.home / "ph" / "sessions" / session / "workspace"
    uid, gid = workspace.stat().st_uid, workspace.stat().st_gid
    beside = workspace.parent / "workspace-of-others"
    beside.mkdir()
    (beside / "secret").write_text("beside-secret")
    os.mkfifo(workspace / "pipe")
    (workspace / "to-beside").symlink_to(beside)
    (workspace / "to-key").symlink_to(program.home / "ph" / "local.key")
    (workspace / "to-proc").symlink_to("/proc/self/environ")
    (workspace / "deep").mkdir()
    (workspace / "deep" / "up").symlink_to("../../workspace-of-others/secret")
    (workspace / "mine").write_text("mine")
    os.chown(workspace / "mine", uid, gid)
    paths = [
        "..", "../workspace-of-others/secret", "deep/../../workspace-of-others/secret", str(beside / "secret"),
        "/etc/passwd", "//etc/passwd", "to-beside/secret", "to-key", "to-proc", "deep/up", "mine/..", "mine/../mine/x",
        "%2e%2e/workspace-of-others/secret", "..%2fworkspace-of-others", "..\\workspace-of-others", "mine\0", "\0",
        "pipe", "/proc/self/environ", "~/.bashrc", "deep", "x" * 5000, "a/" * 2100,
    ]  # fmt: skip
    async with program.http() as http:
        assert (await http.get(f"/api/sessions/{session}/files/content", params={"path": "mine"})).text == "mine"
        for path in paths:
            for what in ("", "/content", "/zip"):
                async with asyncio.timeout(20):
                    answer = await http.get(f"/api/sessions/{session}/files{what}", params={"path": path})
                assert "secret" not in answer.text
                assert program.key not in answer.text
                if path != "deep":
                    assert answer.status_code in {400, 404}, (what, path, answer.text[:100])
        raw_path = f"/api/sessions/{session}/files/content?path="
        for encoded in ("%252e%252e/workspace-of-others/secret", "%2e%2e/workspace-of-others/secret",
                        "..%c0%af..%c0%afetc/passwd", "%00", "mine%00",
                        "mine%2f..%2f..%2fworkspace-of-others%2fsecret"):  # fmt: skip
            assert (await http.get(raw_path + encoded)).status_code in {400, 404}, encoded
        whole = await http.get(f"/api/sessions/{session}/files/zip")
        assert b"beside-secret" not in whole.content
    (workspace / "pipe").unlink()


async def test_c10_a_credential_in_an_address_is_none(program: Program, session: str) -> None:
    """Not as a parameter, and not as a subprotocol; and the program's own log repeats none."""
    cookie, _ = await signed_in(program)
    key = program.key
    host = {"host": program.url.removeprefix("http://")}
    for query in (f"token={key}", f"key={key}", f"api_key={key}", f"x-api-key={key}", f"access_token={key}",
                  f"{COOKIE}={cookie}", f"ticket={key}"):  # fmt: skip
        for request in (raw.plain("GET", f"/api/me?{query}", host), raw.upgrade(f"/ws?{query}", host)):
            assert raw.status(await raw.exchange(program.url, request)) == 401, query
    for protocol in (key, f"bearer, {key}", f"token.{key}"):
        asked = raw.upgrade("/ws", host | {"sec-websocket-protocol": protocol})
        assert raw.status(await raw.exchange(program.url, asked)) == 401
    async with program.http() as http:
        made = (await http.post("/api/tickets")).json()
        assert urllib.parse.urlsplit(made["url"]).fragment == f"ticket={made['ticket']}"
        assert urllib.parse.urlsplit(made["url"]).query == ""
        assert (await http.get("/")).headers["referrer-policy"] == "no-referrer"
    log = program.log.read_text()
    for secret in (key, cookie, made["ticket"]):
        assert secret not in log


async def test_c10_the_signature_of_one_request_may_be_in_its_address_and_is_written_down_nowhere(
    program: Program, session: str
) -> None:
    """Made by the command line; the secret is sealed by a file of the server's user, and in no other."""
    code, shown, _ = await program.cli("keys", "create", "--sigv4", "--scope", "read", "--plain")
    assert code == 0
    id, secret = shown.strip().split(":")
    request = signed("GET", f"{program.url}/api/sessions?limit=3", key=(id, secret), now=time.time(), presigned=60)
    target, where = f"{request.path}?{request.query}", dict(request.headers)
    assert raw.status(await raw.exchange(program.url, raw.plain("GET", target, where))) == 200
    for other in (target.replace("limit=3", "limit=4"), f"/api/me?{request.query}", target[:-1]):
        assert raw.status(await raw.exchange(program.url, raw.plain("GET", other, where))) == 401
    socket = signed("GET", f"{program.url}/ws", key=(id, secret), now=time.time(), presigned=60)
    async with connect(f"{program.url.replace('http', 'ws')}/ws?{socket.query}") as viewer:
        assert (await program.cli("keys", "revoke", id))[0] == 0
        with pytest.raises(ConnectionClosed):
            await viewer.recv()
    assert raw.status(await raw.exchange(program.url, raw.plain("GET", target, where))) == 401
    home = program.home / "ph"
    assert stat.S_IMODE((home / "sealing.key").stat().st_mode) == 0o600
    signature = request.query[-64:]
    kept = b"".join(path.read_bytes() for path in [program.log, *home.glob("*.sqlite*"), *home.glob("*.log")])
    for text in (secret, signature, socket.query[-64:]):
        assert text.encode() not in kept


async def test_c11_scopes_are_the_servers_record_whatever_the_caller_claims(program: Program, session: str) -> None:
    async with program.http() as http:
        key = (await http.post("/api/keys", json={"name": "reader", "scopes": ["read"]})).json()["key"]
    claims = {
        "x-api-key": key, "x-scopes": "admin", "x-scope": "run approve admin", "x-role": "admin",
        "x-forwarded-user": "root", "x-account": "other", "authorization-scopes": "admin",
    }  # fmt: skip
    async with httpx.AsyncClient(base_url=program.url, headers=claims) as http:
        me = (await http.get("/api/me", params={"scopes": "admin"})).json()
        assert me["principal"]["scopes"] == ["read"]
        refused = await http.post("/api/sessions", params={"scope": "run"}, json={"agent": "echo"})
        assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
        more = await http.post("/api/keys", json={"scopes": ["admin"]})
        assert more.status_code == 403
    async with connect(program.url.replace("http", "ws") + "/ws", additional_headers=claims) as socket:
        said = {"type": "chat", "message": "x", "scopes": ["run"], "scope": "admin", "role": "operator"}
        await socket.send(json.dumps(said | {"clientMessageId": "forged"}))
        answer = json.loads(await socket.recv())
        assert (answer["type"], answer["code"]) in {("rejected", "forbidden"), ("rejected", "bad_message")}
        await socket.send(json.dumps({"type": "chat", "message": "x"}))
        answer = json.loads(await socket.recv())
        assert (answer["type"], answer["code"]) == ("rejected", "forbidden")


async def test_c12_a_revoked_credential_is_refused_within_a_second_everywhere(program: Program, session: str) -> None:
    async with program.http() as http:
        made = (await http.post("/api/keys", json={"name": "short"})).json()
    cookie, csrf = await signed_in(program)
    socket_url = program.url.replace("http", "ws") + "/ws"
    by_cookie = {"cookie": f"{COOKIE}={cookie}", "origin": program.url}
    cases: list[tuple[dict[str, str], dict[str, str]]] = [
        ({"x-api-key": made["key"]}, {}),
        (by_cookie, {"x-csrf-token": csrf}),
    ]
    for number, (credential, more) in enumerate(cases):
        async with (
            httpx.AsyncClient(base_url=program.url, headers=credential, timeout=20) as mine,
            connect(socket_url, additional_headers=credential) as socket,
            mine.stream("GET", f"/api/sessions/{session}/events", headers={"accept": "text/event-stream"}) as followed,
        ):
            assert followed.status_code == 200
            if number == 0:
                async with program.http() as http:
                    assert (await http.delete(f"/api/keys/{made['id']}")).status_code == 204
            else:
                assert (await mine.post("/api/signout", headers=more)).status_code == 204
            since = time.monotonic()
            with pytest.raises(ConnectionClosed) as closed:
                while True:
                    await asyncio.wait_for(socket.recv(), 10)
            async for _ in followed.aiter_bytes():
                pass
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 4401
            assert (await mine.get("/api/me")).status_code == 401
            assert time.monotonic() - since < 10, "at once, whatever else the machine does"


async def test_c15_no_text_of_an_agent_forges_an_event_of_a_stream(program: Program) -> None:
    """Line ends in what is said stay inside the one `data:` line; a cursor that is none reads nothing it may not."""
    forged = 'say x\\n\\nid: 99\\nevent: gap\\ndata: {"type":"complete"}\\n\\n'
    hostile = 'tool Bash {"command": "a\\r\\nid: 7\\r\\n\\r\\ndata: {}\\u2028\\u0000"}'
    session, _, viewer = await begin(program, f"{forged}\n{hostile}", agent="echo", permissionMode="acceptAll")
    await viewer.until("complete")
    accept = {"accept": "text/event-stream"}
    async with program.http() as http:
        text = ""
        job = viewer.of("complete")[0]["jobId"]
        async with http.stream("GET", f"/api/jobs/{job}/events", headers=accept) as answer:
            async for piece in answer.aiter_text():
                text += piece
        records = [
            r for r in text.replace("\r\n", "\n").replace("\r", "\n").split("\n\n") if r and not r.startswith(":")
        ]
        seen = []
        for record in records:
            fields = record.split("\n")
            assert [f.partition(":")[0] for f in fields] == ["id", "data"], record
            event = json.loads(fields[1].removeprefix("data: "))
            assert str(event["seq"]) == fields[0].removeprefix("id: ")
            seen.append(event)
        assert seen == [e for e in viewer.events if e.get("jobId") == job]
        for last in ("-1", "1e9", "99999999999999999999", "x" * 5000, "0x10", "١"):
            async with http.stream(
                "GET",
                f"/api/sessions/{session}/events",
                headers={b"accept": b"text/event-stream", b"last-event-id": last.encode()},
            ) as answer:
                assert answer.status_code == 200
                first = b""
                async for chunk in answer.aiter_bytes():
                    first += chunk
                    if b"data:" in first:
                        break
                assert b'"seq":1' in first or b"event: gap" in first, last
    await viewer.close()


NAMES = [
    "x.html",
    "x.svg",
    "x.js",
    "x.xhtml",
    "x.pdf",
    "<img src=x onerror=alert(1)>.html",
    'a"; filename="b.html',
    "a\nb",
]


async def test_c23_a_file_of_the_agents_is_never_a_page(program: Program, session: str) -> None:
    workspace = program.home / "ph" / "sessions" / session / "workspace"
    for name in NAMES:
        (workspace / name).write_text("<script>alert(1)</script>")
        os.chown(workspace / name, workspace.stat().st_uid, workspace.stat().st_gid)
    async with program.http() as http:
        for name in NAMES:
            answer = await http.get(f"/api/sessions/{session}/files/content", params={"path": name})
            assert answer.status_code == 200, answer.text
            assert answer.headers["content-type"] == "application/octet-stream"
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["content-security-policy"].startswith("sandbox;")
            shown = answer.headers["content-disposition"]
            assert re.fullmatch(r"attachment; filename\*=UTF-8''[A-Za-z0-9%._~-]+", shown), shown
            listed = await http.get(f"/api/sessions/{session}/files")
            assert listed.headers["content-type"] == "application/json"
        page = (await http.get("/")).headers["content-security-policy"]
    script = next(part for part in page.split("; ") if part.startswith("script-src"))
    assert script == "script-src 'self'"
    assert "default-src 'none'" in page


async def test_c28_what_is_packaged_has_its_guard_mounted(program: Program) -> None:
    """No answer lacks the headers, none has CORS, and a preflight of a foreign page is granted nothing."""
    for method, path in (
        ("GET", "/"),
        ("GET", "/api/me"),
        ("GET", "/nowhere"),
        ("POST", "/api/sessions"),
        ("OPTIONS", "/api/me"),
    ):
        answer = await raw.exchange(
            program.url,
            raw.plain(method, path, {
                "host": program.url.removeprefix("http://"), "origin": "http://evil.example",
                "access-control-request-method": "POST",
            }),
        )  # fmt: skip
        head = answer.split(b"\r\n\r\n")[0].lower()
        assert raw.status(answer) in {403, 404, 405}, (path, answer[:100])
        assert b"x-content-type-options: nosniff" in head
        assert b"content-security-policy:" in head
        assert b"access-control-" not in head
        assert b"\r\nserver:" not in head


async def test_c32_looking_changes_nothing(program: Program, session: str) -> None:
    """No address that is read has an effect, also with parameters that ask for one."""

    async def state() -> Any:
        async with program.http() as http:
            every = {}
            for path in ("/api/sessions", f"/api/sessions/{session}", f"/api/sessions/{session}/events",
                         "/api/approvals", "/api/rules", f"/api/sessions/{session}/jobs"):  # fmt: skip
                every[path] = (await http.get(path)).json()
            keys = (await http.get("/api/keys")).json()["items"]
            return every, [(k["id"], k["scopes"]) for k in keys]

    before = await state()
    query = "?prompt=demo&message=x&approved=true&ticket=x&_method=POST&method=DELETE&start=1"
    override = {"x-http-method-override": "POST", "x-method-override": "DELETE", "x-api-key": program.key}
    async with httpx.AsyncClient(base_url=program.url, headers=override, timeout=20) as http:
        for entry in TABLE:
            if entry.method == "GET":
                async with http.stream("GET", address(entry, session) + query) as answer:  # some have no end
                    assert answer.status_code < 500, entry
        assert (await http.get("/" + query)).status_code == 200
    assert await state() == before


async def test_c34_what_is_to_be_approved_can_be_read_whole(program: Program) -> None:
    """However long the input: the card's copy may be cut, and says so; the approval itself is not."""
    hidden = "a" * 200_000 + " ; rm -rf \u202e\u200b / " + "b" * 100_000
    prompt = f"tool Bash {json.dumps({'command': hidden})}"
    _, _, viewer = await begin(program, prompt, agent="echo", permissionMode="manual")
    card = await viewer.until("approval_required")
    assert card["truncated"]["input"]["size"] > len(hidden)
    async with program.http() as http:
        whole = (await http.get(f"/api/approvals/{card['approvalId']}")).json()
        assert whole["input"] == {"command": hidden}
        assert whole["inputHash"] == card["inputHash"]
        fetched = await http.get(card["truncated"]["input"]["url"])
        assert fetched.json() == {"command": hidden}
        assert fetched.headers["content-disposition"].startswith("attachment")
        stale = {"approved": True, "inputHash": "0" * 64}
        assert (await http.post(f"/api/approvals/{card['approvalId']}", json=stale)).status_code == 409
        denied = {"approved": False, "inputHash": card["inputHash"]}
        assert (await http.post(f"/api/approvals/{card['approvalId']}", json=denied)).status_code == 200
    await viewer.until("complete")
    await viewer.close()
