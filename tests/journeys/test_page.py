"""The page in a real browser against the real program: what a person does on day one."""

from __future__ import annotations

import contextlib
import io
import re
import shutil
import time
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, BrowserContext, Page, async_playwright, expect

from tests.journeys.program import Demo, Program, installation

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
STATIC = Path(__file__).parents[2] / "src" / "pilothouse" / "web" / "static" / "index.html"
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="needs package chromium"),
    pytest.mark.skipif(not STATIC.exists(), reason="needs the built page: run `make setup`"),
]
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
WAIT = 30_000
expect.set_options(timeout=WAIT)


@contextlib.asynccontextmanager
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        made = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        try:
            yield made
        finally:
            await made.close()


@pytest.fixture
async def running() -> AsyncIterator[tuple[Program, Demo]]:
    async with installation() as made:
        yield made


async def printed_link(program: Program) -> str:
    """What the command line prints for a person to open."""
    status, out, err = await program.cli("ticket")
    assert status == 0, err
    link = re.search(r"http://\S+#ticket=\S+", out)
    assert link is not None, out
    return link[0]


async def sign_in(context: BrowserContext, program: Program, link: str | None = None) -> tuple[Page, list[str]]:
    """A signed-in page, and what its console complains about. Without a link there is no program started to get one."""
    if link is None:
        async with program.http() as http:
            link = str((await http.post("/api/tickets")).json()["url"])
    page = await context.new_page()
    page.set_default_timeout(WAIT)
    troubles: list[str] = []
    page.on("console", lambda m: troubles.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda e: troubles.append(str(e)))
    await page.goto(link)
    await expect(page.get_by_test_id("composer")).to_be_visible(timeout=WAIT)
    assert "ticket" not in page.url
    return page, troubles


async def prompt(page: Page, text: str) -> None:
    await page.get_by_test_id("composer").fill(text)
    await page.get_by_test_id("send").click()


async def log_text(program: Program) -> str:
    """The agent's text as the log has it."""
    async with program.http() as http:
        session = (await http.get("/api/sessions")).json()["items"][0]["id"]
        events = (await http.get(f"/api/sessions/{session}/events?limit=1000")).json()["events"]
    messages: dict[str, str] = {}
    for event in events:
        if event["type"] == "stream":
            messages[event["messageId"]] = messages.get(event["messageId"], "") + event["content"]
        if event["type"] == "stream_reset":
            messages.pop(event["messageId"], None)
    return "".join(messages.values())


def words(text: str) -> str:
    return " ".join(re.findall(r"\w+", text))


async def check_shown(page: Page, program: Program) -> None:
    """The page shows what the log has, as soon as it has drawn it."""
    logged, end = words(await log_text(program)), time.monotonic() + WAIT / 1000
    while (shown := words("".join(await page.get_by_test_id("message-text").all_inner_texts()))) != logged:
        assert time.monotonic() < end, f"shown: {shown}\nlogged: {logged}"
        await page.wait_for_timeout(100)


async def test_a_first_day(running: tuple[Program, Demo], tmp_path: Path) -> None:
    program, model = running
    script = (
        "demo: say First I write the **file**.\ndemo: write hello.py print('hello')\ndemo: hold before\n"
        "demo: edit hello.py hello => goodbye\ndemo: bash python3 hello.py\n"
        "demo: bash rm -rf hello.py\ndemo: ask Which colour? | Red | Blue\ndemo: text 60\ndemo: hold middle\n"
        "demo: say the very end"
    )
    async with browser() as chromium:
        context = await chromium.new_context(viewport={"width": 1280, "height": 800}, accept_downloads=True)
        page, troubles = await sign_in(context, program, await printed_link(program))
        await prompt(page, script)
        await model.held("before")
        await expect(page.get_by_test_id("message-text").first).to_contain_text("First I write the file.")
        await expect(page.get_by_test_id("diff").first).to_contain_text("print('hello')")
        await model.release("before")

        # The command is approved by keyboard: the card takes the focus when it is reached, never the key by itself.
        card = page.get_by_test_id("approval-card").filter(has_text="python3 hello.py").last
        await expect(card).to_have_attribute("data-armed", "true")
        await card.focus()
        await page.keyboard.press("a")
        await expect(card).to_have_attribute("data-outcome", "approved")

        # The next is denied with words.
        card = page.get_by_test_id("approval-card").filter(has_text="rm -rf hello.py").last
        await expect(card).to_have_attribute("data-armed", "true")
        await card.get_by_test_id("deny").click()
        await expect(page.locator('[data-outcome="denied"]')).to_be_visible()

        question = page.get_by_test_id("question-card").last
        await expect(question).to_contain_text("Which colour?")
        await question.get_by_text("Blue", exact=True).click()
        await question.get_by_test_id("question-submit").click()

        # Reloaded in the middle of streamed text.
        await model.held("middle")
        await page.reload()
        await expect(page.get_by_test_id("message-text").first).to_be_visible()
        await model.release("middle")
        await expect(page.get_by_test_id("job-end").last).to_be_visible()
        await expect(page.get_by_test_id("message-text").last).to_contain_text("the very end")
        await check_shown(page, program)

        await page.get_by_test_id("files").click()
        async with page.expect_download() as waiting:
            await page.locator('[data-testid="download"][data-path="hello.py"]').click()
        path = tmp_path / "one"
        await (await waiting.value).save_as(path)
        assert path.read_text().strip() == "print('goodbye')"
        async with page.expect_download() as waiting:
            await page.get_by_test_id("download-zip").first.click()
        await (await waiting.value).save_as(path)
        with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as archive:
            assert "hello.py" in archive.namelist()
        assert not [t for t in troubles if "401" not in t], troubles


async def test_text_on_screen_equals_the_log_over_a_killed_server(running: tuple[Program, Demo]) -> None:
    program, model = running
    async with browser() as chromium:
        context = await chromium.new_context(viewport={"width": 390, "height": 844})
        page, _ = await sign_in(context, program)
        await prompt(page, "demo: text 100\ndemo: hold on\ndemo: text 100\ndemo: say the very end")
        await model.held("on")
        await expect(page.get_by_test_id("connection-compact")).to_have_attribute("data-state", "open")
        lost = page.get_by_test_id("connection-lost")
        await expect(lost).to_be_empty()
        await program.kill()
        await expect(lost).to_contain_text("Reconnecting…")
        program.port = program.url.rpartition(":")[2]
        await program.start()
        await expect(lost).to_be_empty(timeout=WAIT)
        await expect(page.get_by_test_id("connection-compact")).to_have_attribute("data-state", "open")
        await model.release("on")
        await expect(page.get_by_test_id("message-text").last).to_contain_text("the very end", timeout=WAIT)
        await expect(page.get_by_test_id("job-end").last).to_be_visible()
        await check_shown(page, program)


async def test_c23_hostile_names_and_text_stay_text(running: tuple[Program, Demo]) -> None:
    program, _ = running
    canary = "<img src=x onerror=\"document.title='pwned'\">"
    async with browser() as chromium:
        page, troubles = await sign_in(await chromium.new_context(), program)
        await prompt(
            page, f"demo: say {canary} [x](javascript:alert(1))\ndemo: bash echo '{canary}'\u202e\ndemo: say over"
        )
        card = page.get_by_test_id("approval-card").last
        await expect(card).to_be_visible()
        await expect(card.get_by_test_id("hidden-character").first).to_be_visible()
        await expect(page.get_by_test_id("message-text").first).to_contain_text("<img src=x")
        assert await page.locator('a[href^="javascript"]').count() == 0
        assert await page.title() != "pwned"
        assert not [t for t in troubles if "401" not in t], troubles


async def test_a_used_ticket_says_so(running: tuple[Program, Demo]) -> None:
    program, _ = running
    async with browser() as chromium:
        page = await (await chromium.new_context()).new_page()
        await page.goto(f"{program.url}/#ticket={'x' * 43}")
        await expect(page.get_by_test_id("signin")).to_contain_text(re.compile("link|ticket", re.IGNORECASE))
