"""The event API in the real program: handlers and authorizer of the configuration, and a server that is killed; in a
real browser the example and the events of a session."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shlex
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
import websockets
from playwright.async_api import Browser, Page, expect

from tests.journeys.program import Program, begin, installation
from tests.journeys.test_page import WAIT, browser, sign_in
from tests.journeys.test_page import pytestmark as in_a_browser
from tests.journeys.test_page_access import faults, tab_to

ROOT = Path(__file__).parents[2]
EXAMPLES, README = ROOT / "examples", (ROOT / "README.md").read_text()
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
name = "default"
history = 10

[[namespaces]]
name = "changed"
on_publish = "evhooks:handler"
on_subscribe = "evhooks:handler"
history = 10
"""


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[int]:
    """The port of another server, which has the examples."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(EXAMPLES))) as server:
        threading.Thread(target=server.serve_forever).start()
        yield server.server_port
        server.shutdown()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def program(elsewhere: int) -> AsyncIterator[Program]:
    # Not below pytest's own directory: whom a server that root starts becomes reads it too.
    with tempfile.TemporaryDirectory(prefix="ph-hooks-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "evhooks.py").write_text(HOOKS)
        settings = folder / "pilothouse.toml"
        settings.write_text(SETTINGS)
        settings.chmod(0o600)
        path = os.pathsep.join([*(p for p in sys.path if p), name])
        origin = f"http://localhost:{elsewhere}"
        async with installation(
            demo=False, PILOTHOUSE_CONFIG=str(settings), PILOTHOUSE_CORS_ORIGINS=origin, PYTHONPATH=path
        ) as (made, _):
            made.port = made.url.rpartition(":")[2]
            yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def chromium() -> AsyncIterator[Browser]:
    async with browser() as made:
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


async def joined(chromium: Browser, program: Program, origin: str, key: str, channel: str = "news/page") -> Page:
    page = await chromium.new_page()
    page.set_default_timeout(WAIT)
    await page.goto(f"{origin}/events.html")
    for label, text in (("Server", program.url), ("Key", key), ("Channel", channel)):
        await page.get_by_label(label).fill(text)
    await page.get_by_role("button", name="Join").click()
    return page


async def test_the_lines_of_the_readme(program: Program) -> None:
    section = README.partition("## Publish to every browser\n")[2]
    [block] = re.findall(r"\A.*?^```\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    sub, pub, *curl, session = block.splitlines()
    assert sub.split()[:3] == ["pilothouse", "sub", "/default/room"]
    listening = asyncio.create_task(program.cli("sub", "/default/room", "--after", "0", "--count", "2"))
    assert await program.cli(*shlex.split(pub)[1:]) == (0, "", "")
    env = {"PATH": os.environ["PATH"], "URL": program.url, "KEY": program.key}
    posting = await asyncio.create_subprocess_exec("bash", "-euc", "\n".join(curl), env=env, stdout=-1)
    answer = json.loads((await posting.communicate())[0])
    assert (len(answer["successful"]), answer["failed"]) == (1, [])
    status, out, _ = await listening
    assert (status, out.splitlines()) == (0, ['{"text": "hello"}', '{"text": "hello from curl"}'])

    made, _, viewer = await begin(program, "one", agent="echo")
    await viewer.until("complete")
    await viewer.close()
    words = session.partition("   ")[0].replace("ID", made).split()[1:]
    status, out, _ = await program.cli(*words, "--count", str(len(viewer.events)))
    assert (status, [json.loads(line)["type"] for line in out.splitlines()]) == (0, [e["type"] for e in viewer.events])


@in_a_browser[0]
async def test_the_example_subscribes_and_publishes(program: Program, chromium: Browser, elsewhere: int) -> None:
    status, key, err = await program.cli("keys", "create", "--name", "example", "--scope", "read,run", "--plain")
    assert status == 0, err
    let_in, foreign = f"http://localhost:{elsewhere}", f"http://127.0.0.1:{elsewhere}"
    pages = [await joined(chromium, program, let_in, key.strip()) for _ in range(2)]
    for page in pages:
        await expect(page.get_by_role("status")).to_have_text("Subscribed to news/page.")
    await pages[0].get_by_label("Text").fill('to "all"')
    await pages[0].get_by_role("button", name="Publish").click()
    for page in pages:
        await expect(page.get_by_role("listitem")).to_have_text(['{"text":"to \\"all\\""}'])
    assert await program.cli("pub", "news/page", "7") == (0, "", "")
    await expect(pages[1].get_by_role("listitem")).to_have_text(['{"text":"to \\"all\\""}', "7"])

    said = "Closed (1006): there is no server, or it does not let pages of this origin in."
    await expect((await joined(chromium, program, foreign, key.strip())).get_by_role("status")).to_have_text(said)
    for page in (
        await joined(chromium, program, let_in, "wrong"),
        await joined(chromium, program, let_in, key.strip(), "unknown/x"),
    ):
        await expect(page.get_by_role("status")).to_contain_text("UnauthorizedException")
        await expect(page.get_by_role("button", name="Publish")).to_be_disabled()


async def shows(page: Page, numbers: list[int]) -> None:
    """Until it shows these events, and no other."""
    every = "rows => rows.map((row) => Number(row.dataset.seq))"
    async with asyncio.timeout(WAIT / 1000):
        while await page.get_by_test_id("event").evaluate_all(every) != numbers:
            await asyncio.sleep(0.1)


@in_a_browser[0]
@in_a_browser[1]
async def test_the_events_of_a_session_beside_its_conversation(program: Program, chromium: Browser) -> None:
    session, _, viewer = await begin(program, "one", agent="echo")
    await viewer.until("complete")
    context = await chromium.new_context(viewport={"width": 1280, "height": 800}, bypass_csp=True)
    await context.grant_permissions(["clipboard-read", "clipboard-write"])
    page, _ = await sign_in(context, program)
    await page.goto(f"{program.url}/#/s/{session}")
    panel = page.get_by_test_id("events-panel")

    # By keyboard: open it, to the newest event, to the one before it.
    await tab_to(page, page.get_by_test_id("events-open"))
    await page.keyboard.press("Enter")
    await expect(page.locator('[data-testid="event"][data-type="complete"]')).to_be_visible()
    await shows(page, [event["seq"] for event in viewer.events])
    await tab_to(page, page.get_by_test_id("event-toggle").last)
    await expect(panel).to_have_attribute("data-paused", "true")
    await page.keyboard.press("ArrowUp")
    await page.keyboard.press("Enter")
    before = viewer.events[-2]
    assert json.loads(await page.get_by_test_id("event-json").inner_text()) == before
    await page.keyboard.press("Tab")
    await page.keyboard.press("Enter")
    await expect(page.get_by_test_id("events-said")).to_have_text(f"Copied event {before['seq']}.")
    assert json.loads(await page.evaluate("navigator.clipboard.readText()")) == before
    await page.keyboard.press("Enter")
    found = await faults(page, "events")

    # What comes meanwhile does not move what is read.
    async with program.http() as http:
        await http.post(f"/api/sessions/{session}/jobs", json={"prompt": "two"})
    await viewer.until("complete", 2)
    await expect(page.get_by_test_id("events-pause")).to_contain_text("new)")
    await expect(page.get_by_test_id("event").last).to_have_attribute("data-seq", str(before["seq"] + 1))
    await page.get_by_test_id("events-pause").click()
    await expect(panel).to_have_attribute("data-head", str(viewer.events[-1]["seq"]))

    # Some of them only; they are copied as the log has them.
    await page.get_by_test_id("events-text").fill("TWO")
    await page.get_by_test_id("events-types").click()
    found += await faults(page, "types of events")
    await page.get_by_test_id("events-types-none").click()
    await page.locator('[data-testid="events-type"][data-type="chat"]').check()
    await page.keyboard.press("Escape")
    await expect(page.get_by_test_id("event")).to_have_count(1)
    await page.get_by_test_id("events-copy").click()
    await expect(page.get_by_test_id("events-said")).to_have_text("Copied 1 event.")
    [chat] = [event for event in viewer.of("chat") if event["message"] == "two"]
    assert json.loads(await page.evaluate("navigator.clipboard.readText()")) == chat

    # The server is killed; on a phone after a reload.
    await program.kill()
    await expect(panel).to_have_attribute("data-state", "waiting")
    await program.start()
    await page.set_viewport_size({"width": 390, "height": 844})
    await page.reload()
    await expect(page.get_by_test_id("composer")).to_be_hidden()
    await expect(panel).to_have_attribute("data-head", str(viewer.events[-1]["seq"]))
    await shows(page, [event["seq"] for event in viewer.events])
    found += await faults(page, "events on a phone")
    await page.get_by_test_id("events-hide").click()
    await expect(page.get_by_test_id("composer")).to_be_visible()
    await expect(page.get_by_test_id("session-menu")).to_be_focused()
    await page.keyboard.press("Enter")
    await page.get_by_test_id("events-item").click()
    await expect(page.get_by_test_id("event").last).to_be_visible()
    await viewer.close()
    assert not found, "\n".join(found)
