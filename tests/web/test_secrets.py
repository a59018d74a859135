"""Secrets over HTTP: set, listed, removed, refused by name; and in the shells that are opened then."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import websockets

from pilothouse.core.access import Scope
from pilothouse.core.secret import VALUE_MAX
from tests.web.serving import Served, serving

VALUE = "pQ9r8Ls7Mt6Nu5Ov4Pw3Qx2Ry1Sz0Ta9Ub8Vc7Wd"


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with serving() as running:
        yield running


async def client(served: Served, *scopes: Scope) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=served.url, headers={"x-api-key": await served.key(*scopes)}, timeout=10)


async def session(http: httpx.AsyncClient) -> str:
    return f"/api/sessions/{(await http.post('/api/sessions', json={'agent': 'echo'})).json()['id']}"


async def test_what_is_set_is_listed_and_never_shown(served: Served) -> None:
    async with await client(served) as http:
        here, answers = await session(http), []
        body = {"value": VALUE, "for": "both", "project": {"git": "https://git.example/a.git"}}
        answers.append(await http.put("/api/secrets/A", json=body))
        answers.append(await http.put("/api/secrets/A", json={"value": VALUE, "file": True}))
        answers.append(await http.put(f"{here}/secrets/B", json={"value": "short"}))
        answers.append(await http.get("/api/secrets"))
        answers.append(await http.get(f"{here}/secrets"))
        answers.append(await http.get("/api/audit"))
        assert [a.status_code for a in answers] == [200] * 6
        assert all(VALUE not in a.text for a in answers)
        whose = [(s["name"], s["where"], s["for"], s["file"], s.get("project")) for s in answers[3].json()["items"]]
        assert whose == [
            ("A", "account", "shells", True, None),
            ("A", "project", "both", False, {"git": "https://git.example/a.git"}),
        ]
        assert [(s["name"], s["where"], s["masked"]) for s in answers[4].json()["items"]] == [
            ("A", "account", True),
            ("B", "session", False),
        ]
        assert (await http.delete("/api/secrets/A?git=https://git.example/a.git")).status_code == 204
        assert (await http.delete("/api/secrets/A?git=https://git.example/a.git")).status_code == 404
        assert (await http.delete(f"{here}/secrets/A")).status_code == 404, "it is not the session's own"
        assert (await http.delete("/api/secrets/A")).status_code == 204
        assert (await http.get("/api/secrets")).json()["items"] == []


@pytest.mark.parametrize(
    ("name", "body", "status", "said"),
    [
        ("PATH", {"value": VALUE}, 400, "name: PATH may not be set"),
        ("LD_AUDIT", {"value": VALUE}, 400, "name: names that begin with LD_"),
        ("lower", {"value": VALUE}, 400, "name: 'lower' is no name"),
        ("A%0AB", {"value": VALUE}, 400, "is no name"),
        ("A", {}, 400, "value"),
        ("A", {"value": 5}, 400, "value"),
        ("A", {"value": ""}, 400, "value: it is empty"),
        ("A", {"value": VALUE + "\0"}, 400, "value: it has a NUL"),
        ("A", {"value": VALUE * 500}, 413, f"at most {VALUE_MAX}"),
        ("A", {"value": VALUE, "for": "all"}, 400, "for: 'all'"),
        ("A", {"value": VALUE, "for": "agents", "file": True}, 400, "file: only shells"),
        ("A", {"value": VALUE, "project": {}}, 400, "project: "),
        ("A", {"value": VALUE, "project": {"dir": "here"}}, 400, "project: dir: an absolute path"),
        ("A", {"value": VALUE, "more": 1}, 400, "more"),
    ],
)
async def test_bad_ones_are_named_and_change_nothing(
    served: Served, name: str, body: dict[str, Any], status: int, said: str
) -> None:
    async with await client(served) as http:
        answer = await http.put(f"/api/secrets/{name}", json=body)
        assert answer.status_code == status
        assert said in answer.json()["detail"]
        assert VALUE not in answer.text
        assert (await http.get("/api/secrets")).json()["items"] == []


async def test_setting_takes_a_right(served: Served) -> None:
    run, read = await client(served, "read", "run"), await client(served, "read")
    async with await client(served) as admin, run, read:
        here = await session(admin)
        assert (await run.put("/api/secrets/A", json={"value": VALUE})).status_code == 200
        assert (await run.get(f"{here}/secrets")).status_code == 200
        assert (await run.put(f"{here}/secrets/A", json={"value": VALUE})).status_code == 403
        for path in ("/api/secrets", f"{here}/secrets"):
            assert (await read.get(path)).status_code == 403
        assert (await read.put("/api/secrets/A", json={"value": VALUE})).status_code == 403


async def shown(served: Served, path: str, until: bytes, typed: bytes = b"") -> bytes:
    got = b""
    url = served.url.replace("http", "ws") + path
    async with websockets.connect(url, additional_headers={"x-api-key": await served.key()}) as socket:
        if typed:
            await socket.send(b"\0" + typed)
        async with asyncio.timeout(20):
            async for message in socket:
                assert isinstance(message, bytes)
                got += message[1:] if message[0] == 1 else b""
                if until in got:
                    break
    return got


async def test_c27_a_shell_has_them_and_no_viewer_sees_them(served: Served) -> None:
    async with await client(served) as http:
        here = await session(http)
        await http.put("/api/secrets/A", json={"value": VALUE})
        await http.put("/api/secrets/B", json={"value": VALUE[::-1], "for": "agents"})
        command = [
            "sh",
            "-c",
            'echo ${#A}-$A-${B}; printf %s "${A%??????}"; sleep 0.05; echo "${A#"${A%??????}"}"; read x',
        ]
        made = await http.post(f"{here}/shells", json={"shellId": "s", "command": command})
        assert made.status_code == 201, made.text
        expected = f"40-{'*' * 40}-\r\n{'*' * 40}\r\n".encode()
        for _ in range(2):
            assert await shown(served, f"{here}/shells/s?after=0", expected) == expected


async def test_c27_a_shell_that_was_there_before_hides_it_too(served: Served) -> None:
    async with await client(served) as http:
        here = await session(http)
        await http.post(f"{here}/shells", json={"shellId": "s", "command": ["sh", "-c", "stty -echo; echo ready; cat"]})
        await shown(served, f"{here}/shells/s", b"ready")
        await http.put(f"{here}/secrets/A", json={"value": VALUE, "for": "agents"})
        got = await shown(served, f"{here}/shells/s", b"over", f"<{VALUE}> over\n".encode())
        assert f"<{'*' * 40}> over".encode() in got
        assert VALUE.encode() not in got


async def test_a_new_shell_begins_with_its_startup_and_an_old_one_does_not(served: Served) -> None:
    async with await client(served) as http:
        here = await session(http)
        wish = {"shellId": "s", "startup": "PS1=; alias six='echo $((5+1))six'; x=set"}
        assert (await http.post(f"{here}/shells", json=wish)).status_code == 201
        assert (await http.post(f"{here}/shells", json={"shellId": "s", "startup": "x=other"})).status_code == 200
        typed = b"six; echo -$x-$PILOTHOUSE_STARTUP-; echo o''ver\n"
        got = await shown(served, f"{here}/shells/s", b"over\r\n", typed)
        assert b"6six" in got
        assert b"-set--" in got
        await http.put("/api/secrets/A", json={"value": VALUE})
        for bad, said in (
            ({"startup": f"export A={VALUE}"}, "startup: it has the value of a secret"),
            ({"command": ["echo", VALUE]}, "command: it has the value of a secret"),
            ({"startup": "x" * 4097}, "startup: at most 4096 bytes"),
            ({"startup": "a\0"}, "startup: at most 4096 bytes, no NUL"),
            ({"startup": "ls", "command": ["ls"]}, "startup: for a shell of its own"),
        ):
            answer = await http.post(f"{here}/shells", json=bad)
            assert answer.status_code == 400
            assert said in answer.json()["detail"]
            assert VALUE not in answer.text
        assert len((await http.get(f"{here}/shells")).json()["items"]) == 1
        assert VALUE not in json.dumps((await http.get("/api/audit")).json())
