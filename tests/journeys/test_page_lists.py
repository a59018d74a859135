"""The page's lists against the real program: many sessions, remembered answers."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from playwright.async_api import expect

from tests.journeys.program import Demo, Program, installation
from tests.journeys.test_page import WAIT, browser, prompt, pytestmark, sign_in

__all__ = ["pytestmark"]

PAGE = 200
"""Sessions that the page asks for at once."""


@pytest.fixture
async def running() -> AsyncIterator[tuple[Program, Demo]]:
    async with installation() as made:
        yield made


async def test_older_sessions_are_loaded_and_found(running: tuple[Program, Demo]) -> None:
    program, _ = running
    async with program.http() as http:
        for number in range(PAGE + 3):
            made = await http.post("/api/sessions", json={"agent": "echo", "title": f"Number {number}"})
            assert made.status_code == 201, made.text
    async with browser() as chromium:
        page, troubles = await sign_in(await chromium.new_context(), program)
        rows = page.get_by_test_id("session-row")
        await expect(rows).to_have_count(PAGE)
        await page.get_by_test_id("more-sessions").click()
        await expect(rows).to_have_count(PAGE + 3)
        await expect(page.get_by_test_id("more-sessions")).to_have_count(0)
        await page.get_by_test_id("session-search").fill("number 202")
        await expect(rows).to_have_count(1)
        await page.get_by_test_id("session-search").fill("none of them")
        await expect(page.get_by_text("No session matches.")).to_be_visible()
        assert not [t for t in troubles if "401" not in t], troubles


async def test_a_remembered_answer_is_listed_and_removed(running: tuple[Program, Demo]) -> None:
    program, _ = running
    async with browser() as chromium:
        page, _ = await sign_in(await chromium.new_context(), program)
        await prompt(page, "demo: bash touch a\ndemo: bash touch b\ndemo: say over")
        card = page.locator('[data-testid="approval-card"][data-armed="true"]')
        await expect(card).to_be_visible(timeout=WAIT)
        await card.get_by_test_id("approve-option").first.click()
        await expect(page.get_by_test_id("job-end")).to_be_visible(timeout=WAIT)
        await expect(page.get_by_test_id("approval-card")).to_have_count(1)

        await page.get_by_test_id("settings").click()
        rule = page.get_by_test_id("rule-row")
        await expect(rule).to_contain_text("Bash(touch:*)")
        await expect(rule).to_contain_text("approved")
        await rule.get_by_test_id("rule-remove").click()
        await expect(rule).to_have_count(0)
        await page.get_by_test_id("session-row").first.get_by_role("link").click()
        await prompt(page, "demo: bash touch a")
        await expect(card).to_be_visible(timeout=WAIT)
