"""The page and a session's limits against the real program: asked for, shown, and said when one is hit."""

from __future__ import annotations

import re

from playwright.async_api import expect

from tests.journeys.program import installation
from tests.journeys.test_page import WAIT, browser, prompt, pytestmark, sign_in

__all__ = ["pytestmark"]

GREEDY = "demo: bash python3 -c 'x = b\"a\" * 2_000_000_000'\ndemo: say it goes on"


async def test_a_session_that_hits_its_memory_shows_it() -> None:
    async with installation() as (program, _), browser() as chromium:
        page, troubles = await sign_in(await chromium.new_context(), program)
        await page.get_by_test_id("mode").click()
        await page.get_by_role("option", name="Accept all").click()
        await page.get_by_test_id("advanced").click()
        memory = page.get_by_test_id("limit-memory")
        assert re.fullmatch(r"[\d.]+ [GM]iB", await memory.get_attribute("placeholder") or "")

        await memory.fill("1M")
        await prompt(page, GREEDY)
        await expect(page.get_by_text("From 64 MiB to")).to_be_visible()
        await expect(memory).to_be_focused()
        await expect(page.get_by_test_id("session-row")).to_have_count(0)

        await memory.fill("1G")
        await page.get_by_test_id("send").click()
        told = page.locator('[data-testid="error-event"][data-code="limit_memory"]')
        await expect(told).to_contain_text("Memory limit reached", timeout=WAIT)
        await expect(told).to_contain_text("limit of 1 GiB")
        await expect(page.get_by_test_id("job-end")).to_have_attribute("data-outcome", "succeeded", timeout=WAIT)

        await page.get_by_test_id("limits").click()
        row = page.locator('[data-testid="limit"][data-name="memory"]')
        await expect(row.get_by_test_id("limit-amount")).to_have_text(re.compile(r"^[\d.]+( MiB)? of 1 GiB$"))
        await expect(row.get_by_test_id("limit-hits")).to_contain_text("Reached")
        await expect(row.get_by_role("progressbar", name="Memory")).to_have_attribute(
            "aria-valuetext", re.compile("of 1 GiB")
        )
        await page.keyboard.press("Escape")
        await expect(page.get_by_test_id("limits")).to_be_focused()
        assert not [t for t in troubles if not re.search("40[01]", t)], troubles
