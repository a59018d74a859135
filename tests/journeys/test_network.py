"""What a session reaches, with the real programs: its commands go through the proxy to a far end of the test's.

The far end is on three addresses of loopback, which the configuration lists as private ones that sessions may reach;
one of them is on the list of domains.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from tests.journeys.program import Program, Viewer, begin, decide, installation

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="needs package curl")
LISTED, SECOND, THIRD = "127.0.0.1", "127.0.0.2", "127.0.0.3"
CURL = "curl -sS -m 60 --noproxy '' -x \"$https_proxy\" -w ' %{http_code}\\n'"


@contextlib.asynccontextmanager
async def far_end() -> AsyncIterator[int]:
    """The same port on three addresses; it says hello and its address."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        words = f"hello from {writer.get_extra_info('sockname')[0]}".encode()
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b" % (len(words), words))
        writer.close()

    first = socket.create_server((LISTED, 0))
    port = first.getsockname()[1]
    sockets = [first, *(socket.create_server((address, port)) for address in (SECOND, THIRD))]
    servers = [await asyncio.start_server(serve, sock=sock) for sock in sockets]
    yield port
    for server in servers:
        server.close()


async def ran(program: Program, session: str, viewer: Viewer, *commands: str, **options: Any) -> str:
    """What commands of the agent's printed, in a job of their own."""
    script = "\n".join(f"demo: bash {command}" for command in commands)
    before = len(viewer.of("complete"))
    async with program.http() as http:
        job = await http.post(
            f"/api/sessions/{session}/jobs",
            json={"prompt": f"{script}\ndemo: say over", "allowedTools": ["Bash"], **options},
        )
        assert job.status_code == 202, job.text
    await viewer.until("complete", before + 1)
    return "\n".join(e["result"] for e in viewer.of("tool_result") if e["jobId"] == job.json()["id"])


async def network(program: Program, session: str) -> dict[str, Any]:
    async with program.http() as http:
        found: dict[str, Any] = (await http.get(f"/api/sessions/{session}/network")).json()
        return found


async def until_counted(program: Program, session: str, host: str, reason: str, count: int = 1) -> dict[str, Any]:
    """A contact, once it has been counted so often and its bytes too."""
    async with asyncio.timeout(30):
        while True:
            for contact in (await network(program, session))["contacts"]:
                if (
                    (contact["host"], contact["reason"]) == (host, reason)
                    and contact["count"] >= count
                    and contact["bytesIn"]
                ):
                    return dict(contact)
            await asyncio.sleep(0.1)


async def streamed(program: Program, session: str, host: str) -> dict[str, Any]:
    """The first of the live stream that speaks of a host."""
    async with (
        program.http() as http,
        http.stream("GET", f"/api/sessions/{session}/network/stream", timeout=60) as answer,
    ):
        assert answer.headers["content-type"].startswith("text/event-stream")
        async for line in answer.aiter_lines():
            if line.startswith("data: "):
                for contact in json.loads(line[6:])["contacts"]:
                    if contact["host"] == host:
                        return dict(contact)
    raise AssertionError("the stream ended")


def proxies(program: Program) -> list[int]:
    found = []
    for pid in program.processes():
        with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as file:  # it may have ended meanwhile
            if b"proxy" in file.read().split(b"\0"):
                found.append(pid)
    return found


async def test_a_session_reaches_what_it_may_and_people_see_it() -> None:
    async with far_end() as port:
        private = ",".join(f"{address}:{port}" for address in (LISTED, SECOND, THIRD))
        async with installation(
            PILOTHOUSE_EGRESS_DOMAINS=f"{LISTED}:{port}", PILOTHOUSE_EGRESS_ALLOW_PRIVATE=private
        ) as (program, _):
            session, _, viewer = await begin(
                program,
                f"demo: bash {CURL} http://{LISTED}:{port}/; {CURL} -p http://{LISTED}:{port}/\ndemo: say over",
                allowedTools=["Bash"],
            )
            await viewer.until("complete")
            said = viewer.of("tool_result")[0]["result"]
            assert said.count(f"hello from {LISTED} 200") == 2, said
            live = asyncio.create_task(streamed(program, session, SECOND))

            # Asked and allowed for the session: the connection goes on, and the next one is not asked about.
            asking = asyncio.create_task(
                ran(program, session, viewer, f"{CURL} -p http://{SECOND}:{port}/; {CURL} http://{SECOND}:{port}/")
            )
            ask = await viewer.until("approval_required", tool="network")
            assert ask["input"] == {"host": SECOND, "port": port}
            assert [o["label"] for o in ask["options"]] == ["Allow once", "Allow for this session", "Deny"]
            assert ask["jobId"] == viewer.of("job_started")[-1]["jobId"]
            await decide(program, ask, optionId="allow_session")
            said = await asking
            assert said.count(f"hello from {SECOND} 200") == 2, said
            assert (await live)["verdict"] == "allowed"

            # Asked and denied: the person's words come back, and stand for a while.
            asking = asyncio.create_task(
                ran(program, session, viewer, f"{CURL} http://{THIRD}:{port}/; {CURL} http://{THIRD}:{port}/")
            )
            ask = await viewer.until("approval_required", 2, tool="network")
            await decide(program, ask, approved=False, message="not that one, please")
            said = await asking
            assert said.count("not that one, please") == 2, said
            assert "hello" not in said
            assert len(viewer.of("approval_required")) == 2

            # A mode that asks nobody is refused at once, and an address that is not public always.
            said = await ran(
                program, session, viewer, f"{CURL} http://10.0.0.1/; {CURL} http://169.254.169.254/",
                permissionMode="acceptAll",
            )  # fmt: skip
            assert said.count("asks nobody") == 2, said

            status, out, err = await program.cli("network", session)
            assert status == 0, err
            assert f"policy: allow ({LISTED}:{port}, {SECOND}:{port})" in out
            assert f"{THIRD}:{port}" in out
            await restarted(program, session, viewer, port)
            await changed(program, session, viewer, port)
            viewer.check_whole()
            await viewer.close()


async def restarted(program: Program, session: str, viewer: Viewer, port: int) -> None:
    """Policy and contacts outlive a server and a proxy that are killed."""
    before = await until_counted(program, session, SECOND, "listed")
    await program.kill()
    for pid in proxies(program):
        os.kill(pid, signal.SIGKILL)
    await program.start()
    said = await ran(program, session, viewer, f"{CURL} http://{SECOND}:{port}/")
    assert f"hello from {SECOND} 200" in said, said
    after = await until_counted(program, session, SECOND, "listed", before["count"] + 1)
    assert after["first"] == before["first"]


async def changed(program: Program, session: str, viewer: Viewer, port: int) -> None:
    status, out, err = await program.cli("network", session, "--policy", "off")
    assert (status, out.splitlines()[0]) == (0, "policy: off"), err
    said = await ran(program, session, viewer, f"{CURL} http://{LISTED}:{port}/")
    assert "this session has no network" in said, said
    async with program.http() as http:
        key = (await http.post("/api/keys", json={"scopes": ["read", "run"]})).json()["key"]
        path = f"/api/sessions/{session}/egress"
        async with httpx.AsyncClient(base_url=program.url, headers={"x-api-key": key}) as lesser:
            assert (await lesser.put(path, json={"policy": "full"})).status_code == 403
            assert (await lesser.put(path, json={"policy": "allow", "domains": ["x.org"]})).status_code == 403
            assert (await lesser.put(path, json={})).json()["domains"] == [f"{LISTED}:{port}"]
        assert (await http.put(path, json={"policy": "full"})).json()["policy"] == "full"
    said = await ran(program, session, viewer, f"{CURL} http://{THIRD}:{port}/; {CURL} http://{LISTED}:1/")
    assert f"hello from {THIRD} 200" in said, said
    assert "does not lead to a public address" in said, said
    contact = await until_counted(program, session, THIRD, "full")
    assert (contact["verdict"], contact["bytesIn"] > 0, contact["bytesOut"] > 0) == ("allowed", True, True)
