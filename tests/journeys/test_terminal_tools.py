"""What programs in a shell say to a page, and what it makes of that, in a real browser against the real program: links,
the clipboard, questions, names. And what a person has there: search, size of text, large pastes, a server that goes."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import AsyncIterator
from typing import Literal

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from tests.journeys.program import Program, installation
from tests.journeys.test_page import WAIT, browser, pytestmark, sign_in
from tests.journeys.test_terminal_page import PASTE, connected, rows, screen, type_in

pytestmark = [*pytestmark, pytest.mark.asyncio(loop_scope="module")]
BEFORE = "what was copied before"
PREFER = "prefs => localStorage.setItem('pilothouse.terminal', prefs)"
ST = r"\033\\"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running() -> AsyncIterator[tuple[Program, Browser]]:
    async with installation(demo=False, PILOTHOUSE_RATE_PER_S="0") as (program, _), browser() as chromium:
        program.port = program.url.rpartition(":")[2]  # pages come back to where they were
        yield program, chromium


async def opened(running: tuple[Program, Browser]) -> tuple[Page, list[str]]:
    """A page with the terminal of a new session, which the browser lets read and write the clipboard; and what its
    console complains about."""
    program, chromium = running
    async with program.http() as http:
        session = str((await http.post("/api/sessions", json={"agent": "echo"})).json()["id"])
    context = await chromium.new_context(viewport={"width": 1280, "height": 844})
    await context.grant_permissions(["clipboard-read", "clipboard-write"], origin=program.url)
    page, troubles = await sign_in(context, program)
    await prefer(page)
    await page.goto(f"{program.url}/#/s/{session}")
    await page.get_by_test_id("terminal-open").click()
    await connected(page)
    await type_in(page, "PS1='$ '; shopt -u checkwinsize; clear\n")
    return page, troubles


async def prefer(page: Page, **prefs: bool) -> None:
    await page.evaluate(PREFER, json.dumps({"reader": True, **prefs}))


async def says(page: Page, text: str) -> None:
    """A program in the shell writes this, printf's words, and the page has it; nothing else is on the screen."""
    mark = f"{time.monotonic_ns():x}"
    await type_in(page, f"clear; printf '{text}\\n%s%s\\n' {mark[:4]} {mark[4:]}\n")
    await expect(screen(page)).to_contain_text(mark)


async def click(page: Page, word: str, *, count: int = 1) -> None:
    """On a word of the screen, as a hand does it: the mouse gets there first, and a link under it is found."""
    shown, host = await rows(page), page.locator(".xtermhost")
    row = next(n for n, line in enumerate(shown) if word in line)
    box = await page.locator(".xterm-screen").bounding_box()
    assert box
    cols, lines = [int(await host.get_attribute(name) or 0) for name in ("data-cols", "data-rows")]
    x = box["x"] + (shown[row].index(word) + 1.5) * box["width"] / cols
    y = box["y"] + (row + 0.5) * box["height"] / lines
    await page.mouse.move(x - 3, y)
    await page.mouse.move(x, y, steps=3)
    await asyncio.sleep(0.3)
    await page.mouse.click(x, y, click_count=count)


async def clipboard(page: Page) -> str:
    return str(await page.evaluate("() => navigator.clipboard.readText()"))


async def test_c22_a_link_is_opened_when_its_address_was_seen_and_is_one_of_the_web(
    running: tuple[Program, Browser],
) -> None:
    page, troubles = await opened(running)
    there, dialog = f"{running[0].url}/healthz", page.get_by_test_id("terminal-link")
    await says(
        page,
        f"\\033]8;;javascript:alert(1){ST}worst\\033]8;;{ST} \\033]8;;file:///etc/passwd{ST}worse\\033]8;;{ST} "
        f"file:///etc/shadow \\033]8;;{there}{ST}harmless.example\\033]8;;{ST} {there}?written",
    )
    for word in ("worst", "worse", "shadow"):
        await click(page, word)
    await expect(dialog).to_have_count(0)
    await click(page, "harmless")
    await expect(dialog).to_contain_text(there)  # not what is written there
    await page.get_by_role("button", name="Cancel").click()
    await expect(dialog).to_have_count(0)
    await expect(page.get_by_test_id("terminal").locator("textarea")).to_be_focused()
    assert len(page.context.pages) == 1
    await click(page, "written")
    await expect(dialog).to_contain_text(f"{there}?written")
    async with page.context.expect_page() as came:
        await page.get_by_test_id("terminal-link-open").click()
    other = await came.value
    await other.wait_for_load_state()
    assert other.url == f"{there}?written"
    assert await other.evaluate("() => [opener, document.referrer]") == [None, ""]
    assert not troubles, troubles
    await page.context.close()


async def test_c22_a_program_writes_to_the_clipboard_where_it_is_allowed_and_no_replay_does(
    running: tuple[Program, Browser],
) -> None:
    page, troubles = await opened(running)
    note = page.get_by_test_id("terminal-note")
    await page.evaluate("(text) => navigator.clipboard.writeText(text)", BEFORE)
    await says(page, r"\033]52;c;aGVsbG8=\007")
    await expect(note).to_contain_text("A program wanted to write to your clipboard.")
    assert await clipboard(page) == BEFORE
    await prefer(page, clipboard=True)
    await page.reload()
    await connected(page)
    await says(page, "drawn")  # the replay before it as well
    assert await clipboard(page) == BEFORE
    await type_in(page, r"printf '\033]52;c;?\007'; read -rsn 1 -t 0.5 || echo not an''swered" + "\n")
    await expect(screen(page)).to_contain_text("not answered")
    await says(page, r"\033]52;c;aGVsbG8=\007")
    assert await clipboard(page) == "hello"
    await expect(note).to_have_count(0)
    assert not troubles, troubles
    await page.context.close()


async def test_c22_what_a_program_is_told_of_its_terminal_and_what_it_can_do_to_the_page(
    running: tuple[Program, Browser],
) -> None:
    page, troubles = await opened(running)
    # A character of two cells, as the tables of Unicode 11 have it: the cursor is in the third column.
    await type_in(page, r"clear; printf '\U1f600\033[6n'; read -rsdR p; echo; echo col''umn ${p#*;}" + "\n")
    await expect(screen(page)).to_contain_text("column 3")
    # Its title and where the window is are told nobody; nothing is moved, and a name is one plain line.
    window = "".join(rf"\033[{n}t" for n in ("11", "13", "14", "18", "19", "20", "21", "3;1;1", "8;5;5", "2"))
    await type_in(
        page,
        rf"clear; printf '{window}\033]2;a\xe2\x80\xaeb\x01\u202cc<img src=x>\007'; "
        "read -rsn 1 -t 0.5 || echo not an''swered\n",
    )
    await expect(screen(page)).to_contain_text("not answered")
    await expect(page.get_by_test_id("terminal-tab")).to_have_text("abc<img src=x>")
    assert page.viewport_size == {"width": 1280, "height": 844}
    assert not troubles, troubles
    await page.context.close()


async def test_a_word_is_found_and_text_has_the_size_that_was_chosen(running: tuple[Program, Browser]) -> None:
    page, troubles = await opened(running)
    host, found = page.locator(".xtermhost"), page.locator(".terminalsearch [role=status]")
    await says(page, r"needle\nhay\nneedle\nNEEDLE")
    await page.keyboard.press("Control+Shift+F")
    await expect(page.get_by_test_id("terminal-search-text")).to_be_focused()
    await page.keyboard.type("needle")
    await expect(found).to_have_text("3 of 3")
    await page.keyboard.press("Enter")
    await expect(found).to_have_text("1 of 3")
    await page.keyboard.press("Shift+Enter")
    await expect(found).to_have_text("3 of 3")
    await page.keyboard.type("s")
    await expect(found).to_have_text("Nothing found")
    await page.keyboard.press("Escape")
    await expect(page.get_by_test_id("terminal").locator("textarea")).to_be_focused()

    before = int(await host.get_attribute("data-cols") or 0)
    await page.get_by_test_id("terminal-menu").click()
    for _ in range(3):
        await page.get_by_test_id("terminal-larger").click()
    await page.keyboard.press("Escape")
    await type_in(page, "clear; stty size | cut -d' ' -f 2 | sed s/^/columns-/\n")
    await expect(screen(page).get_by_text("columns-")).to_be_visible()
    (told,) = [line for line in await rows(page) if line.startswith("columns-")]
    columns = int(told.removeprefix("columns-"))
    assert columns < before * 0.9
    await expect(host).to_have_attribute("data-cols", str(columns))
    await page.reload()
    await connected(page)
    await expect(host).to_have_attribute("data-cols", str(columns))
    assert not troubles, troubles
    await page.context.close()


async def test_what_is_selected_is_copied_and_what_was_copied_is_pasted(running: tuple[Program, Browser]) -> None:
    page, troubles = await opened(running)
    await says(page, "one selected three")
    await page.keyboard.press("Control+Shift+C")
    await expect(page.get_by_text("Nothing is selected in the terminal.")).to_be_visible()
    await click(page, "selected", count=2)
    await page.keyboard.press("Control+Shift+C")
    assert await clipboard(page) == "selected"
    await type_in(page, "clear; stty -echo; cat\n")
    await page.get_by_test_id("terminal-menu").click()
    await page.get_by_test_id("terminal-paste").click()  # one line goes without a question
    keys = page.get_by_test_id("terminal").locator("textarea")
    await expect(keys).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(screen(page).get_by_text("selected", exact=True)).to_be_visible()
    await page.evaluate("() => navigator.clipboard.writeText('first\\nsecond')")
    await page.keyboard.press("Control+Shift+V")
    await page.get_by_test_id("terminal-paste-do").click()
    await expect(keys).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(screen(page).get_by_text("second", exact=True)).to_be_visible()
    assert not troubles, troubles
    await page.context.close()


async def test_a_screen_has_the_colours_of_its_page(running: tuple[Program, Browser]) -> None:
    page, _ = await opened(running)
    light, dark = "rgb(255, 255, 255)", "rgb(18, 22, 26)"
    schemes: list[tuple[Literal["light", "dark"], str]] = [("light", light), ("dark", dark), ("light", light)]
    for scheme, colour in schemes:
        await page.emulate_media(color_scheme=scheme)
        await expect(page.locator(".xterm-scrollable-element")).to_have_css("background-color", colour)
    await page.context.close()


async def test_a_large_paste_arrives_whole_and_who_waits_is_told_so(running: tuple[Program, Browser]) -> None:
    program, _ = running
    page, _ = await opened(running)
    data = "0123456789abcdé" * 40_000
    size, digest = len(data.encode()), hashlib.sha256(data.encode()).hexdigest()
    await type_in(page, f"stty raw -echo; echo re''ady; head -c {size} | sha256sum; stty sane\n")
    await expect(screen(page)).to_contain_text("ready")
    await page.evaluate(PASTE, data)  # one line: nothing is asked
    await expect(screen(page)).to_contain_text(digest)

    # What is typed while there is no server is kept, and the page says that it comes back by itself.
    await program.kill()
    await expect(page.get_by_test_id("terminal-state")).to_have_text("Reconnecting…")
    await expect(page.get_by_test_id("terminal-latency")).to_have_count(0)
    await expect(page.locator(".terminallines")).to_contain_text("What you type is sent when the connection is back.")
    await type_in(page, "clear; echo aft''er\n")
    await program.start()
    await connected(page)
    await expect(screen(page)).to_contain_text("after", timeout=WAIT)
    await expect(page.get_by_test_id("terminal-latency")).to_be_visible()
    await page.context.close()
