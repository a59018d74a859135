"""Two sessions at one time, each trying to see, name or contact the other.

Each has something of every kind, and each runs the same probe twice: on its own things, where everything must be
reached, and on the other's, where nothing may be. For a root server, whose sessions have uids of their own, and for an
ordinary user's, whose sessions all have that user's uid, so that nothing but the sandbox is between them.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from pilothouse.adapters.sandboxes import client
from tests.journeys.plain import as_user
from tests.journeys.program import Program, Viewer, begin

pytestmark = pytest.mark.asyncio(loop_scope="module")
SOURCE = Path(__file__).with_name("neighbour.py").read_text()
UID = 60998


@dataclass
class Neighbour:
    id: str
    control: Path
    secret: str
    viewer: Viewer
    facts: dict[str, Any]
    surroundings: dict[str, Any]
    task: asyncio.Task[dict[str, Any]] | None = None

    async def python(self, *argv: str, env: dict[str, str] | None = None) -> Any:
        done = await _run(self.control, argv, env or {})
        assert done["exit"] == "exit 0", done
        return json.loads(done["output"])

    async def probe(self, other: Neighbour) -> dict[str, bool]:
        found: dict[str, bool] = await self.python("probe", env={"FACTS": json.dumps(other.facts)})
        return found


@dataclass
class Street:
    program: Program
    one: Neighbour
    two: Neighbour


async def _run(control: Path, argv: tuple[str, ...], env: dict[str, str]) -> dict[str, Any]:
    message = {"verb": "run", "argv": ["python3", "-c", SOURCE, *argv], "env": env, "timeout": 120}
    return await client.ask(control, message, 130)


async def _settle(program: Program, runtime: Path) -> Neighbour:
    """A session of the API with a runner and a conversation, and with something of every kind."""
    secret = secrets.token_hex(16)
    session, _, viewer = await begin(
        program, f"write said.txt {secret}\nsay {secret}", agent="echo", permissionMode="acceptAll"
    )
    await viewer.until("complete")
    made = Neighbour(session, runtime / f"{session}.ctl", secret, viewer, {}, {})
    token, key = f"ph-{secrets.token_hex(6)}", secrets.randbelow(1 << 30) + 1
    made.task = asyncio.create_task(_run(made.control, ("own", token, secret, str(key)), {"SECRET": secret}))
    async with program.http() as http, asyncio.timeout(30):
        while True:
            found = await http.get(f"/api/sessions/{session}/files/content", params={"path": "facts.json"})
            if found.status_code == 200:
                break
            assert not made.task.done(), made.task
            await asyncio.sleep(0.05)
    made.facts = found.json()
    made.surroundings = await made.python("look")
    return made


@contextlib.asynccontextmanager
async def street(uid: int | None) -> AsyncIterator[Street]:
    with tempfile.TemporaryDirectory(prefix="ph-") as name:
        home = Path(name)
        home.chmod(0o755)
        program = Program(home, PILOTHOUSE_MODEL_PROVIDER="demo")
        if uid is not None:
            os.chown(home, uid, uid)
            program.prefix = as_user(uid, home)
        try:
            await program.start()
            _, out, _ = await program.cli("config", "--json")
            runtime = Path(json.loads(out)["runtime"])
            one, two = await asyncio.gather(_settle(program, runtime), _settle(program, runtime))
            yield Street(program, one, two)
            for each in (one, two):
                assert each.task is not None
                assert not each.task.done(), each.task.result()
                await each.viewer.close()
                each.task.cancel()
        finally:
            await program.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["root", "ordinary user"])
async def both(request: pytest.FixtureRequest) -> AsyncIterator[Street]:
    is_root = os.geteuid() == 0
    if request.param == "root" and not is_root:
        pytest.skip("only root can give every session a uid of its own")
    user = request.param != "root" and is_root
    async with street(UID if user else None) as made:
        yield made


async def test_each_reaches_its_own_and_nothing_of_the_other(both: Street) -> None:
    pairs = ((both.one, both.two), (both.two, both.one))
    for here, _ in pairs:
        own = await here.probe(here)
        assert all(own.values()), f"the probe works: {own}"
        assert len(own) >= 25
    async with asyncio.timeout(20):  # a probe that may signal does
        while min(before := [await _signals(both, here) for here, _ in pairs]) == 0:
            await asyncio.sleep(0.05)
    for here, there in pairs:
        others = await here.probe(there)
        assert not any(others.values()), others
        assert len(others) >= 25
    assert [await _signals(both, here) for here, _ in pairs] == before


async def _signals(both: Street, here: Neighbour) -> int:
    """How many have arrived at what it keeps running."""
    async with both.program.http() as http:
        path = {"path": f"{here.facts['token']}.signalled"}
        return len((await http.get(f"/api/sessions/{here.id}/files/content", params=path)).content)


async def test_namespaces_and_listeners_are_each_ones_own(both: Street) -> None:
    one, two = both.one.surroundings, both.two.surroundings
    for kind, name in one["namespaces"].items():
        assert name != two["namespaces"][kind], kind
    for port in ("3128", "3129"):
        assert one["listeners"][port] != two["listeners"][port], "the same number, another socket"
    assert one["interfaces"] == two["interfaces"] == ["lo"]
    assert one["keyring"] == two["keyring"] == -1, "keys belong to a uid, so there are none"


async def test_neither_can_name_the_other(both: Street) -> None:
    for here, there in ((both.one, both.two), (both.two, both.one)):
        assert " /workspace " in here.surroundings["mounts"]
        assert there.id not in here.surroundings["mounts"] + here.surroundings["all"]
        sessions = both.program.home / "ph" / "sessions"
        path = sessions / there.id / "workspace" / "said.txt"
        script = f"cat {path}; ls {sessions}; cat /workspace/said.txt"
        done = await client.ask(here.control, {"verb": "run", "argv": ["sh", "-c", script], "timeout": 20}, 30)
        assert here.secret in done["output"], done
        assert done["output"].count("No such file") == 2, done
        assert there.secret not in done["output"]


async def test_the_host_sees_both(both: Street) -> None:
    """What the probes look for is there: on the host the two are two processes, with their secrets in plain sight."""
    for each in (both.one, both.two):
        found = [p for p in Path("/proc").iterdir() if p.name.isdecimal() and each.secret.encode() in _argv(p)]
        assert found, "the process with the secret in its arguments"
        assert str(found[0].name) not in {str(pid) for pid in each.surroundings["pids"]}


def _argv(process: Path) -> bytes:
    with contextlib.suppress(OSError):
        return (process / "cmdline").read_bytes()
    return b""


async def test_the_api_is_out_of_reach_from_inside(both: Street) -> None:
    """Neither directly nor through what a session may reach."""
    port = both.program.url.rsplit(":", 1)[1]
    script = (
        f"(exec 7<>/dev/tcp/127.0.0.1/{port}) 2>&1 && echo reached; "
        "(exec 7<>/dev/tcp/127.0.0.1/3128) && echo proxy reached; "
        "exec 7<>/dev/tcp/127.0.0.1/3128; "
        f"printf 'CONNECT 127.0.0.1:{port} HTTP/1.1\\r\\n\\r\\n' >&7; timeout 10 head -1 <&7"
    )
    for here in (both.one, both.two):
        done = await client.ask(here.control, {"verb": "run", "argv": ["bash", "-c", script], "timeout": 20}, 30)
        lines = done["output"].splitlines()
        assert "reached" not in lines, done
        assert "proxy reached" in lines, done
        assert "403" in lines[-1], done


async def test_what_is_one_sessions_is_not_found_under_the_other(both: Street) -> None:
    async with both.program.http() as http:
        for here, there in ((both.one, both.two), (both.two, both.one)):
            mine = f"/api/sessions/{here.id}"
            jobs = (await http.get(f"{mine}/jobs")).json()["items"]
            assert {job["sessionId"] for job in jobs} == {here.id}
            events = (await http.get(f"{mine}/events")).text
            assert here.secret in events
            assert there.secret not in events
            assert there.id not in events
            outside = f"../../{there.id}/workspace/said.txt"
            for path in (outside, f"/{outside}", "link/said.txt", "link", "top/said.txt"):
                await _links(here, both.program.home / "ph" / "sessions" / there.id / "workspace")
                for kind in ("files/content", "files/zip", "files"):
                    answer = await http.get(f"{mine}/{kind}", params={"path": path})
                    assert answer.status_code in (400, 404), (kind, path, answer.text)
                    assert there.secret not in answer.text
            assert (await http.get(f"{mine}/files/content", params={"path": "said.txt"})).text == here.secret


async def _links(here: Neighbour, target: Path) -> None:
    script = f"ln -sfn {target} link; ln -sfn /workspace/../workspace top"
    await client.ask(here.control, {"verb": "run", "argv": ["sh", "-c", script], "timeout": 20}, 30)


async def test_viewers_of_one_see_nothing_of_the_other(both: Street) -> None:
    for here, there in ((both.one, both.two), (both.two, both.one)):
        told = json.dumps(here.viewer.events)
        assert here.secret in told
        assert there.secret not in told
        here.viewer.check_whole()


async def test_a_known_id_is_no_key(both: Street) -> None:
    """Ids are no secrets: who has no credential, or one for something else, gets nothing with them."""
    async with both.program.http() as http:
        made = (await http.post("/api/keys", json={"name": "decides", "scopes": ["approve"]})).json()
        job = (await http.get(f"/api/sessions/{both.two.id}/jobs")).json()["items"][0]["id"]
    paths = [f"/api/sessions/{both.two.id}{end}" for end in ("", "/events", "/jobs", "/files", "/files/zip")]
    paths += [f"/api/jobs/{job}", f"/api/jobs/{job}/events", "/api/sessions"]
    for headers, status in (({}, 401), ({"x-api-key": "ph_" + "x" * 40}, 401), ({"x-api-key": made["key"]}, 403)):
        async with httpx.AsyncClient(base_url=both.program.url, headers=headers, timeout=30) as http:
            for path in paths:
                answer = await http.get(path)
                assert answer.status_code == status, (path, answer.text)
                assert both.two.secret not in answer.text
            for path in (f"/api/sessions/{both.two.id}/jobs", f"/api/sessions/{both.two.id}/stop"):
                assert (await http.post(path, json={"prompt": "x"})).status_code == status
    async with both.program.http() as http:
        for path in paths:
            assert (await http.get(path)).status_code == 200, path
