"""The terminals of the page in a real browser against the real program."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Locator, Page, expect

from tests.journeys.program import Program, installation
from tests.journeys.test_page import WAIT, browser, pytestmark, sign_in
from tests.journeys.test_page_access import faults

pytestmark = [*pytestmark, pytest.mark.asyncio(loop_scope="module")]
READ_ALOUD = "localStorage.setItem('pilothouse.terminal', JSON.stringify({ reader: true }))"
"""The text of a screen is in the page for screen readers only: what draws it is the graphics card."""

PASTE = """text => {
    const clipboardData = new DataTransfer();
    clipboardData.setData('text/plain', text);
    document.activeElement.dispatchEvent(
        new ClipboardEvent('paste', { bubbles: true, cancelable: true, clipboardData }));
}"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running() -> AsyncIterator[tuple[Program, Browser]]:
    async with installation(demo=False, PILOTHOUSE_RATE_PER_S="0") as (program, _), browser() as chromium:
        yield program, chromium


async def opened(running: tuple[Program, Browser], width: int = 1280) -> tuple[Page, str, list[str]]:
    """A page with a terminal of a new session, the session, what the console complains about."""
    program, chromium = running
    async with program.http() as http:
        session = str((await http.post("/api/sessions", json={"agent": "echo"})).json()["id"])
    context = await chromium.new_context(
        viewport={"width": width, "height": 844}, bypass_csp=True, has_touch=width < 500
    )
    await context.add_init_script(READ_ALOUD)
    page, troubles = await sign_in(context, program)
    await page.goto(f"{program.url}/#/s/{session}")
    await page.get_by_test_id("terminal-open").click()
    await connected(page)
    return page, session, troubles


async def connected(page: Page) -> None:
    await expect(page.get_by_test_id("terminal-state")).to_have_attribute("data-state", "open", timeout=WAIT)


def screen(page: Page) -> Locator:
    return page.locator(".xterm-accessibility-tree")


async def type_in(page: Page, text: str) -> None:
    await page.get_by_test_id("terminal").locator("textarea").focus()
    await page.keyboard.type(text)


async def rows(page: Page) -> list[str]:
    return [row.rstrip() for row in await screen(page).locator("> div").all_inner_texts()]


ANSWERED = re.compile(r"42-\d+.*[$#]", re.DOTALL)
"""What was typed has run, and the shell is ready again. Rows come one by one."""


async def test_a_terminal_is_opened_typed_in_and_there_after_a_reload(running: tuple[Program, Browser]) -> None:
    page, _, troubles = await opened(running)
    # It asks the terminal what it is; who answers that once more after the reload types into the shell.
    await type_in(page, "read -rsdc -p $'\\033[c'; echo $((6 * 7))-$COLUMNS; printf '\\033]2;named\\007'\n")
    await expect(screen(page)).to_contain_text(ANSWERED)
    await expect(page.get_by_test_id("terminal-tab")).to_have_text("named")
    await expect(page.get_by_test_id("terminal-latency")).to_be_visible()
    before = await rows(page)
    found = await faults(page, "terminal")
    await page.reload()
    await connected(page)
    await expect(screen(page)).to_contain_text(ANSWERED)
    async with asyncio.timeout(WAIT / 1000):
        while await rows(page) != before:
            await asyncio.sleep(0.1)

    # A second one; the first keeps its place.
    await page.get_by_test_id("terminal-new").click()
    await expect(page.get_by_test_id("terminal-tab")).to_have_count(2)
    await connected(page)
    await expect(screen(page)).not_to_contain_text("42-")
    await page.get_by_test_id("terminal-tab").first.click()
    await connected(page)
    await expect(screen(page)).to_contain_text("42-")

    # Lines are asked about before they run; the keyboard can leave.
    await page.get_by_test_id("terminal").locator("textarea").focus()
    await page.evaluate(PASTE, "echo o\x1bne\necho two\n")
    await expect(page.get_by_test_id("terminal-paste-confirm")).to_contain_text("2 lines")
    found += await faults(page, "paste")
    await page.get_by_test_id("terminal-paste-do").click()
    await expect(page.get_by_test_id("terminal-paste-confirm")).to_be_hidden()
    await expect(page.get_by_test_id("terminal").locator("textarea")).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(screen(page).get_by_text("two", exact=True)).to_be_visible()
    # Escape twice would stop the agent's job.
    await page.evaluate("() => { window.escaped = 0; addEventListener('keydown', () => window.escaped++) }")
    await page.keyboard.press("Escape")
    await page.keyboard.press("Control+C")
    assert await page.evaluate("() => window.escaped") == 0
    await page.keyboard.press("Control+Shift+F6")
    await expect(page.get_by_test_id("terminal-tab").first).to_be_focused()

    await type_in(page, "exit 3\n")
    await expect(page.get_by_test_id("terminal-panel")).to_contain_text("exit code 3")
    await page.get_by_test_id("terminal-close").click()
    await expect(page.get_by_test_id("terminal-tab")).to_have_count(1)
    await page.get_by_test_id("terminal-menu").click()
    found += await faults(page, "menu")
    await page.get_by_test_id("terminal-end").click()
    await page.get_by_test_id("confirm").click()
    await expect(page.get_by_test_id("terminal-state")).to_have_attribute("data-state", "ended")
    await page.get_by_test_id("terminal-close").click()
    await expect(page.get_by_test_id("terminal-panel")).to_contain_text("No shell is running here.")
    assert not found, "\n".join(found)
    assert not troubles, troubles


async def test_nothing_is_scrolled_to_in_a_smaller_window(running: tuple[Program, Browser]) -> None:
    page, _, _ = await opened(running)
    # xterm leaves the field that has the keyboard where the cursor is, which is then below the box.
    await type_in(page, "seq 100\n")
    await expect(screen(page).get_by_text("100", exact=True)).to_be_visible()
    host = page.locator(".xtermhost")
    before = await host.get_attribute("data-rows") or ""
    await page.set_viewport_size({"width": 1280, "height": 500})
    await expect(host).not_to_have_attribute("data-rows", before)
    box = page.get_by_test_id("terminal")
    outside = "(box) => [box.scrollWidth - box.clientWidth, box.scrollHeight - box.clientHeight]"
    assert await box.evaluate(outside) == [0, 0]


async def test_a_screen_fits_when_its_graphics_card_is_taken_away(running: tuple[Program, Browser]) -> None:
    page, _, troubles = await opened(running)
    canvases = page.locator(".xterm-screen canvas")
    if not await canvases.count():
        pytest.skip("this Chromium draws without WebGL")
    await canvases.evaluate_all(
        "(all) => all.forEach((one) => one.getContext('webgl2')?.getExtension('WEBGL_lose_context').loseContext())"
    )
    await expect(canvases).to_have_count(0)
    await type_in(page, "echo $((6 * 7))-$COLUMNS\n")
    await expect(screen(page)).to_contain_text("42-")
    # Nothing of a line is outside, and no column more has room.
    room = "(host) => host.clientWidth - host.querySelector('.xterm-screen').offsetWidth"
    assert 0 <= await page.locator(".xtermhost").evaluate(room) < 30
    assert not troubles, troubles


async def test_two_pages_share_a_shell_and_one_types(running: tuple[Program, Browser]) -> None:
    one, session, _ = await opened(running)
    two = await one.context.new_page()
    await two.goto(one.url)
    await two.get_by_test_id("terminal-open").click()
    await connected(two)
    await two.get_by_test_id("terminal-take").click()
    await expect(one.get_by_test_id("terminal-badge")).to_be_visible()
    await type_in(two, "echo from-two\n")
    await expect(screen(one)).to_contain_text("from-two")
    await type_in(one, "echo from-one\n")
    await expect(one.get_by_test_id("terminal-note")).to_contain_text("You are watching")
    await two.get_by_test_id("terminal-viewers").click()
    await two.get_by_test_id("terminal-give").click()
    await expect(two.get_by_test_id("terminal-badge")).to_be_visible()
    await expect(one.get_by_test_id("terminal-badge")).to_have_count(0)  # each is told by itself
    await type_in(one, "echo again-one\n")
    await expect(screen(two)).to_contain_text("again-one")
    await expect(screen(two)).not_to_contain_text("from-one")

    # Whoever has a link watches, and makes none.
    program, chromium = running
    async with program.http() as http:
        link = (await http.post(f"/api/sessions/{session}/links", json={"right": "watch", "expiresInS": 600})).json()
        stranger = await (await chromium.new_context()).new_page()
        await stranger.add_init_script(READ_ALOUD)
        await stranger.goto(link["url"])
        await stranger.get_by_test_id("terminal-open").click()
        await expect(stranger.get_by_test_id("terminal-badge")).to_be_visible(timeout=WAIT)
        await expect(screen(stranger)).to_contain_text("again-one")
        await expect(stranger.get_by_test_id("terminal-new")).to_have_attribute("aria-disabled", "true")
        await expect(stranger.get_by_test_id("terminal-take")).to_have_count(0)
        gone = await http.delete(f"/api/sessions/{session}/links/{link['id']}")
        assert gone.status_code == 204, gone.text
    await expect(stranger.get_by_test_id("signin")).to_be_visible(timeout=WAIT)


async def test_a_phone_has_the_keys_that_its_keyboard_lacks(running: tuple[Program, Browser]) -> None:
    page, _, troubles = await opened(running, width=390)
    keys = page.get_by_test_id("terminal-keys")
    await expect(keys).to_be_visible()
    await type_in(page, "echo first")
    await page.keyboard.press("Enter")
    await expect(screen(page).get_by_text("first", exact=True)).to_be_visible()
    await keys.get_by_role("button", name="Up").tap()
    await expect(page.get_by_test_id("terminal").locator("textarea")).to_be_focused()
    await keys.get_by_role("button", name="Ctrl").tap()
    await page.keyboard.type("a")  # to the beginning of the line
    await page.keyboard.type("echo again; ")
    await page.keyboard.press("Enter")
    await expect(screen(page).get_by_text("again", exact=True)).to_be_visible()
    await type_in(page, "stty -echo; cat -vT\n")
    for name in ("Esc", "Tab", "Left", "Down", "Up", "Right", "Pipe"):
        await keys.get_by_role("button", name=name, exact=True).tap()
    await page.keyboard.press("Enter")
    await expect(screen(page).get_by_text("^[^I^[[D^[[B^[[A^[[C|", exact=True)).to_be_visible()
    await keys.get_by_role("button", name="Ctrl").tap()
    await page.keyboard.type("c")
    await type_in(page, "stty sane\n")
    assert not (found := await faults(page, "phone")), "\n".join(found)
    # On its side there is no room for the conversation either.
    await page.set_viewport_size({"width": 844, "height": 390})
    await expect(page.get_by_test_id("composer")).to_be_hidden()
    await expect(page.get_by_test_id("terminal-full")).to_be_hidden()
    await page.get_by_test_id("terminal-hide").click()
    await expect(page.get_by_test_id("composer")).to_be_visible()
    assert not troubles, troubles
