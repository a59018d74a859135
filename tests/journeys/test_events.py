"""The event API in the real program: handlers and authorizer of the configuration, and a server that is killed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
import websockets

from tests.journeys.program import Program, installation

pytestmark = pytest.mark.asyncio(loop_scope="module")
EVENTS = 200
FILES = 120
HOOKS = """
def handler(event, context):
    if event["info"]["operation"] == "SUBSCRIBE":
        return None
    return {"events": [{"id": e["id"], "payload": {"was": e["payload"]}} for e in event["events"]]}


def authorizer(event, context):
    return {"isAuthorized": event["authorizationToken"] == "sesame"}
"""
SETTINGS = """
[events]
authorizer = "evhooks:authorizer"

[[namespaces]]
name = "news"
history = 1000

[[namespaces]]
name = "changed"
on_publish = "evhooks:handler"
on_subscribe = "evhooks:handler"
history = 10
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def program(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Program]:
    folder = tmp_path_factory.mktemp("hooks")
    (folder / "evhooks.py").write_text(HOOKS)
    settings = folder / "pilothouse.toml"
    settings.write_text(SETTINGS)
    settings.chmod(0o600)
    for each in (folder, *folder.parents[:2]):
        each.chmod(0o755)  # whom a server that root starts becomes reads it too
    path = os.pathsep.join([*(p for p in sys.path if p), str(folder)])
    async with installation(demo=False, PILOTHOUSE_CONFIG=str(settings), PYTHONPATH=path) as (made, _):
        made.port = made.url.rpartition(":")[2]
        yield made


async def test_what_is_configured_is_asked(program: Program) -> None:
    assert await program.cli("pub", "changed/a", "1", '{"x": 2}') == (0, "", "")
    status, out, _ = await program.cli("sub", "changed/a", "--after", "0", "--count", "2")
    assert (status, out.splitlines()) == (0, ['{"was":1}', '{"was":{"x":2}}'])
    async with httpx.AsyncClient(base_url=program.url) as http:
        for token, code in (("sesame", 200), ("please", 401)):
            answer = await http.post(
                "/event", json={"channel": "news/b", "events": ["1"]}, headers={"authorization": token}
            )
            assert answer.status_code == code


async def test_nothing_is_lost_or_doubled_when_the_server_is_killed(program: Program) -> None:
    """Publisher and subscriber are programs of their own, and both go on by themselves."""
    words = ["sub", "news/a", "--after", "0", "--json", "--count", str(EVENTS)]
    listening = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "pilothouse", *words, env=program.env, stdout=-1, stderr=-1
    )
    lines = "\n".join(map(str, range(EVENTS)))
    publishing = asyncio.create_task(program.cli("pub", "news/a", "-", input=lines))
    assert listening.stdout is not None
    seen: list[tuple[int, int]] = []
    for stop in (EVENTS // 10, EVENTS // 3, EVENTS):
        while len(seen) < stop:
            line = await asyncio.wait_for(listening.stdout.readline(), 60)
            assert line, (await listening.communicate())[1].decode()
            event = json.loads(line)
            seen.append((event["seq"], event["event"]))
        if stop < EVENTS:
            await program.kill()
            await program.start()
    assert seen == [(n + 1, n) for n in range(EVENTS)]
    assert await publishing == (0, "", "")
    assert await listening.wait() == 0


async def test_c30_connections_leave_room_for_what_a_server_has_to_open_besides() -> None:
    """It takes as many open files as it may have, and gives half of so few to viewers."""
    with tempfile.TemporaryDirectory(prefix="ph-") as name:
        program = Program(Path(name))
        program.home.chmod(0o755)
        program.prefix = ["/bin/sh", "-c", f'ulimit -Sn {FILES // 2}; ulimit -Hn {FILES}; exec "$@"', "sh"]
        try:
            await program.start()
            key = {"x-api-key": program.key}
            said: Counter[str] = Counter()
            async with contextlib.AsyncExitStack() as there, program.http() as http:
                for _ in range(FILES):
                    address = program.url.replace("http", "ws") + "/event/realtime"
                    socket = await there.enter_async_context(websockets.connect(address, additional_headers=key))
                    await socket.send('{"type":"connection_init"}')
                    frame = json.loads(await socket.recv())
                    said[frame["type"]] += 1
                assert said == {"connection_ack": FILES // 2, "connection_error": FILES // 2}
                assert frame["errors"][0]["errorType"] == "LimitExceededError"
                assert (await http.get("/api/sessions")).status_code == 200
        finally:
            await program.stop()
