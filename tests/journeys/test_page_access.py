"""The page for everybody: no serious fault by axe on any view, a first day by keyboard alone, less motion if wished."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.async_api import Locator, Page, expect

from tests.journeys.program import Demo, Program, installation
from tests.journeys.test_page import WAIT, browser, prompt, pytestmark, sign_in

__all__ = ["pytestmark"]

AXE = Path(__file__).parents[2] / "frontend" / "node_modules" / "axe-core" / "axe.min.js"
GRAVE = {"serious", "critical"}
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
COLOURS = ("color-contrast", "link-in-text-block")
"""The rules of axe that look at colours; to all others a view is the same in both schemes."""


@pytest.fixture
async def running() -> AsyncIterator[tuple[Program, Demo]]:
    async with installation() as made:
        yield made


async def faults(page: Page, view: str, rules: Sequence[str] = ()) -> list[str]:
    """What axe holds against the view by these rules, or by all, in one line each."""
    await page.wait_for_timeout(400)  # what fades in is measured when it is there
    if not await page.evaluate("() => 'axe' in window"):
        await page.add_script_tag(path=AXE)
    options = {"resultTypes": ["violations"], **({"runOnly": list(rules)} if rules else {})}
    found: dict[str, Any] = await page.evaluate("(options) => axe.run(document, options)", options)
    return [
        f"{view}: {one['id']} ({one['impact']}) {node['html'][:160]} {node['failureSummary'][:300]}"
        for one in found["violations"]
        if one["impact"] in GRAVE
        for node in one["nodes"]
    ]


SCRIPT = (
    "demo: think It may take a while.\n"
    "demo: say Some **text** with [a link](https://example.org), `code` and\\n\\n```python\\ndef f(): return 'x'"
    "  # why\\n```\\n\\n| a | b |\\n|---|---|\\n| 1 | 2 |\n"
    "demo: write site/one.py import os  # why\\nprint('hello', 1)\ndemo: edit site/one.py hello => goodbye\n"
    "demo: bash rm -rf nothing\ndemo: bash python3 site/one.py; curl -s https://example.org/\n"
    "demo: ask Which colour? | Red | Blue\n"
    "demo: say the very end"
)


async def tour(page: Page, url: str, look: Callable[[str], Awaitable[None]]) -> None:
    """Through every view of somebody who is signed in."""
    await look("new session")
    await page.get_by_test_id("advanced").click()
    await look("limits of a new session")
    await prompt(page, SCRIPT)
    card = page.locator('[data-testid="approval-card"][data-armed="true"]')
    await expect(card).to_be_visible(timeout=WAIT)
    await look("approval")
    await card.get_by_test_id("edit-input").click()
    await look("edited input")
    await card.get_by_role("button", name="Back").click()
    await card.get_by_test_id("deny-with-message").click()
    await card.get_by_test_id("deny-message").fill("Better not.")
    await look("deny with a message")
    await card.get_by_test_id("deny-send").click()
    await card.filter(has_text="site/one.py").get_by_test_id("approve").click(timeout=WAIT)
    connection = card.filter(has_text="Connect to example.org, port 443?")
    await expect(connection).to_be_visible(timeout=WAIT)
    await look("connection")
    await connection.get_by_test_id("deny").click()
    await expect(page.get_by_test_id("question-submit")).to_be_visible(timeout=WAIT)
    await look("question")
    await page.get_by_test_id("question-card").get_by_text("Blue", exact=True).click()
    await page.get_by_test_id("question-submit").click()
    await expect(page.get_by_test_id("job-end").last).to_be_visible(timeout=WAIT)
    for toggle in await page.get_by_test_id("tool-toggle").all():
        if await toggle.get_attribute("aria-expanded") == "false":
            await toggle.click()
    await expect(page.locator(".hljs-keyword").first).to_be_attached()
    await look("log")
    await page.get_by_test_id("mode").click()
    await look("permission modes")
    await page.keyboard.press("Escape")
    await page.get_by_test_id("session-menu").click()
    await look("menu of the session")
    await page.get_by_test_id("rename").click()
    await look("rename")
    await page.keyboard.press("Escape")
    await page.get_by_test_id("session-menu").click()
    await page.get_by_test_id("session-secrets").click()
    await page.get_by_test_id("secret-name").fill("SHORT")
    await page.get_by_test_id("secret-value").fill("short")
    await page.get_by_test_id("secret-set").click()
    await page.get_by_test_id("secret-row").get_by_test_id("secret-remove").click()
    await look("removing a secret")
    await page.keyboard.press("Escape")
    await page.get_by_test_id("secret-name").fill("PATH")
    await page.get_by_test_id("secret-set").click()
    await expect(page.get_by_test_id("secret-name")).to_have_attribute("aria-invalid", "true")
    await look("secrets of a session")
    await page.keyboard.press("Escape")
    await page.get_by_test_id("files").click()
    await page.get_by_test_id("folder-row").first.click()
    await look("files")
    await page.keyboard.press("Escape")
    await page.get_by_test_id("network").click()
    await expect(page.get_by_test_id("contact").first).to_be_visible(timeout=WAIT)
    await look("network")
    await page.get_by_test_id("change-policy").click()
    await look("policy of the network")
    await page.keyboard.press("Escape")
    await page.get_by_test_id("limits").click()
    await expect(page.get_by_test_id("limit").first).to_be_visible()
    await look("limits")
    await page.keyboard.press("Escape")
    opener = page.get_by_test_id("events-open")
    if not await opener.is_visible():  # on a phone it is in the menu
        await page.get_by_test_id("session-menu").click()
        opener = page.get_by_test_id("events-item")
    await opener.click()
    await page.get_by_test_id("event-toggle").last.click()
    await look("events")
    await page.get_by_test_id("events-types").click()
    await look("types of events")
    await page.keyboard.press("Escape")
    await page.get_by_test_id("events-hide").click()
    await page.goto(f"{url}/#/settings")
    await page.get_by_test_id("key-rates").click()
    await look("settings")
    await page.get_by_test_id("audit-open").click()
    await expect(page.get_by_test_id("audit-row").first).to_be_visible()
    await look("audit")
    await page.goto(f"{url}/#/usage")
    await expect(page.get_by_test_id("usage")).to_be_visible()
    await look("usage")
    if await page.get_by_test_id("menu").is_visible():
        await page.get_by_test_id("menu").click()
        await look("sessions of the phone")


@pytest.mark.parametrize("width", [1280, 390])
async def test_no_view_has_a_serious_fault(running: tuple[Program, Demo], width: int) -> None:
    """One tour for both schemes: the page follows what the system wishes, at once."""
    program, _ = running
    found: list[str] = []

    async def look_at(page: Page, view: str) -> None:
        for scheme in SCHEMES:
            await page.emulate_media(color_scheme=scheme)
            if page.url.startswith(f"{program.url}/#") or page.url == f"{program.url}/":  # beside it the browser alone
                await expect(page.locator("html")).to_have_attribute("data-mantine-color-scheme", scheme)
            found.extend(await faults(page, f"{view}, {scheme}", () if scheme == SCHEMES[0] else COLOURS))

    async with browser() as chromium:
        # The page's own policy keeps the tool out.
        context = await chromium.new_context(viewport={"width": width, "height": 800}, bypass_csp=True)
        stranger = await context.new_page()
        await stranger.goto(program.url)
        await expect(stranger.get_by_test_id("signin")).to_be_visible()
        await look_at(stranger, "sign-in")
        page, _ = await sign_in(context, program)

        async def look(view: str) -> None:
            await look_at(page, view)

        await tour(page, program.url, look)
        await page.goto(f"{program.url}/docs")
        await look("API reference")
    assert not found, "\n".join(found)


async def tab_to(page: Page, target: Locator, key: str = "Tab", limit: int = 80) -> None:
    await expect(target.first).to_be_attached(timeout=WAIT)  # a panel comes a moment after its button
    for _ in range(limit):
        if await target.count() and await target.first.evaluate("(e) => e === document.activeElement"):
            return
        await page.keyboard.press(key)
    raise AssertionError(f"{target} is not reached by {key}")


async def test_a_first_day_by_keyboard_alone(running: tuple[Program, Demo]) -> None:
    program, _ = running
    async with browser() as chromium:
        context = await chromium.new_context(viewport={"width": 1280, "height": 800}, accept_downloads=True)
        page, troubles = await sign_in(context, program)
        press, type_ = page.keyboard.press, page.keyboard.type

        async def armed() -> None:
            """The next card waits, has taken the focus, and answers keys."""
            card = page.locator('[data-testid="approval-card"][data-armed="true"]')
            await expect(card).to_be_visible(timeout=WAIT)
            await tab_to(page, card, "Shift+Tab")

        # The prompt field has the focus; Enter starts.
        await expect(page.get_by_test_id("composer")).to_be_focused()
        lines = (
            "demo: write a/one.txt hello",
            "demo: bash echo one",
            "demo: bash echo two",
            "demo: ask Which? | Red | Blue",
        )
        for line in (*lines, "demo: say the end"):
            await type_(line)
            await press("Shift+Enter")
        await press("Enter")
        await armed()
        await press("a")
        await expect(page.locator('[data-outcome="approved"]')).to_be_visible()

        # Denied with words.
        await armed()
        await tab_to(page, page.get_by_test_id("deny-with-message"))
        await press("Enter")
        await expect(page.get_by_test_id("deny-message")).to_be_focused()
        await type_("Once is enough.")
        await tab_to(page, page.get_by_test_id("deny-send"))
        await press("Enter")
        await expect(page.locator('[data-outcome="denied"]')).to_contain_text("Once is enough.")

        # A question: into the options, arrows, answer.
        await expect(page.get_by_test_id("question-card")).to_be_visible(timeout=WAIT)
        await tab_to(page, page.locator('[data-testid="question-card"] input[type="radio"]'))
        await press("ArrowDown")
        await press("Space")
        await tab_to(page, page.get_by_test_id("question-submit"))
        await press("Enter")
        await expect(page.get_by_test_id("job-end")).to_be_visible(timeout=WAIT)
        await expect(page.locator('[data-testid="question-card"]')).to_contain_text("Blue")

        # Files: open, unfold, download, close.
        await tab_to(page, page.get_by_test_id("files"))
        await press("Enter")
        await tab_to(page, page.get_by_test_id("folder-row"))
        await press("Enter")
        await tab_to(page, page.locator('[data-testid="download"][data-path="a/one.txt"]'))
        async with page.expect_download() as waiting:
            await press("Enter")
        assert (await waiting.value).suggested_filename == "one.txt"
        await press("Escape")
        await expect(page.get_by_test_id("files-panel")).to_have_count(0)

        # The network: open, change the policy, close.
        await tab_to(page, page.get_by_test_id("network"))
        await press("Enter")
        await tab_to(page, page.get_by_test_id("change-policy"))
        await press("Enter")
        await tab_to(page, page.locator('[data-testid="policy"] input:checked'))
        await press("ArrowLeft")
        await tab_to(page, page.get_by_test_id("save-policy"))
        await press("Enter")
        await expect(page.get_by_test_id("network-policy")).to_have_attribute("data-policy", "off")
        await press("Escape")
        await expect(page.get_by_test_id("network-panel")).to_have_count(0)

        # Rename and delete.
        await tab_to(page, page.get_by_test_id("session-menu"))
        await press("Enter")
        await tab_to(page, page.get_by_test_id("rename"), "ArrowDown")
        await press("Enter")
        await expect(page.get_by_label("Title")).to_be_focused()
        await press("Control+a")
        await type_("By keyboard")
        await press("Enter")
        await expect(page.get_by_test_id("session-title")).to_have_text("By keyboard")
        await expect(page.get_by_role("dialog")).to_have_count(0)
        await tab_to(page, page.get_by_test_id("row-menu"))
        await press("Enter")
        await tab_to(page, page.get_by_test_id("delete"), "ArrowDown")
        await press("Enter")
        await tab_to(page, page.get_by_test_id("delete-confirm"))
        await press("Enter")
        await expect(page.get_by_test_id("session-row")).to_have_count(0)
        assert not [t for t in troubles if "401" not in t], troubles


async def test_less_motion_on_request(running: tuple[Program, Demo]) -> None:
    program, model = running
    moving = "() => document.getAnimations().filter((a) => a.playState === 'running').length"
    async with browser() as chromium:
        counts = {}
        for wish in ("no-preference", "reduce"):
            context = await chromium.new_context(reduced_motion="reduce" if wish == "reduce" else "no-preference")
            page, _ = await sign_in(context, program)
            await prompt(page, f"demo: say Working on it\ndemo: hold {wish}\ndemo: say over")
            await model.held(wish)
            await expect(page.get_by_test_id("working")).to_be_visible()
            await page.wait_for_timeout(500)
            counts[wish] = await page.evaluate(moving)
            await model.release(wish)
            await context.close()
    assert counts["no-preference"] > 0, "the test sees motion where there is some"
    assert counts["reduce"] == 0
