"""A session is shared in a real browser: by a link that is made, followed, answered by, and ended; a second person."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, expect

from tests.journeys.program import Program, installation
from tests.journeys.test_page import CHROMIUM, STATIC, WAIT, browser, prompt, sign_in

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="needs package chromium"),
    pytest.mark.skipif(not STATIC.exists(), reason="needs the built page: run `make setup`"),
]
PICTURES = os.environ.get("PILOTHOUSE_TEST_PICTURES")
"""Where to leave a picture of each view, for whoever wants to look."""


async def picture(page: Page, name: str) -> None:
    if not PICTURES:
        return
    Path(PICTURES).mkdir(parents=True, exist_ok=True)
    for size, (width, height) in {"desktop": (1280, 800), "phone": (390, 844)}.items():
        for scheme in ("light", "dark"):
            await page.set_viewport_size({"width": width, "height": height})
            await page.emulate_media(color_scheme=scheme)
            await page.wait_for_timeout(300)
            await page.screenshot(path=f"{PICTURES}/{name}-{size}-{scheme}.png")
    await page.set_viewport_size({"width": 1280, "height": 800})


async def follow(chromium: Browser, url: str) -> Page:
    page = await (await chromium.new_context(viewport={"width": 1280, "height": 800})).new_page()
    page.set_default_timeout(WAIT)
    await page.goto(url)
    return page


async def test_a_session_is_shared_and_no_longer() -> None:
    async with installation(PILOTHOUSE_SECOND_APPROVER="Bash(git push*)") as (program, _), browser() as chromium:
        page, troubles = await sign_in(await chromium.new_context(viewport={"width": 1280, "height": 800}), program)
        await prompt(page, "demo: say Something to look at.\ndemo: bash rm -rf build\ndemo: bash git push")
        card = page.get_by_test_id("approval-card").filter(has_text="rm -rf build")
        await expect(card).to_be_visible(timeout=WAIT)

        await page.get_by_test_id("share").click()
        await expect(page.get_by_test_id("share-dialog")).to_contain_text("No link to this session stands.")
        urls: list[str] = []
        for right in ("watch", "approve"):
            await page.get_by_test_id("link-right").select_option(right)
            await page.get_by_test_id("link-make").click()
            await expect(page.get_by_test_id("link-row")).to_have_count(len(urls) + 1)
            urls.append(await page.get_by_test_id("link-url").inner_text())
        await picture(page, "share")

        watching, answering = [await follow(chromium, url.strip()) for url in urls]
        for visitor in (watching, answering):
            await expect(visitor.get_by_test_id("visitor")).to_be_visible()
            await expect(visitor.get_by_test_id("message-text").first).to_contain_text("Something to look at.")
            assert "link=" not in visitor.url
            for gone in ("composer", "files", "network", "share", "session-row", "new-session", "settings"):
                await expect(visitor.get_by_test_id(gone)).to_have_count(0)
        await expect(watching.get_by_test_id("approval-card")).to_contain_text("somebody else answers")
        await expect(watching.get_by_test_id("approve")).to_have_count(0)
        await picture(watching, "visitor-watch")
        await picture(answering, "visitor-answer")
        await answering.get_by_test_id("approve").click()
        await expect(page.get_by_test_id("approval-card").filter(has_text="(share link)")).to_be_visible()

        await page.keyboard.press("Escape")
        second = page.get_by_test_id("approval-card").filter(has_text="git push")
        await expect(second.get_by_test_id("second-approver")).to_be_visible(timeout=WAIT)
        await second.get_by_test_id("approve").click()
        await expect(second).to_contain_text("You asked for this; somebody else has to approve it.")
        await picture(page, "second")

        await page.get_by_test_id("share").click()
        for left in (1, 0):
            await page.get_by_test_id("link-revoke").first.click()
            await expect(page.get_by_test_id("link-row")).to_have_count(left)
        for visitor in (watching, answering):
            await expect(visitor.get_by_test_id("signin")).to_be_visible(timeout=WAIT)
        late = await follow(chromium, urls[0].strip())
        await expect(late.get_by_test_id("signin")).to_contain_text("This share link does not work any more")
        await picture(late, "link-over")
        assert [t for t in troubles if "403" not in t] == []
        await _let_the_second_person_answer(program)


async def _let_the_second_person_answer(program: Program) -> None:
    """With a key of another member, by the command line's own wire."""
    async with program.http() as http:
        assert (await http.put("/api/members/ann", json={"role": "approver"})).status_code == 200
        key = (await http.post("/api/keys", json={"account": "ann"})).json()["key"]
        waiting = (await http.get("/api/approvals")).json()["items"][0]
        mine = await http.post(f"/api/approvals/{waiting['approvalId']}", json={"approved": True})
        assert mine.json()["code"] == "second_approver"
        hers = await http.post(
            f"/api/approvals/{waiting['approvalId']}", json={"approved": True}, headers={"x-api-key": key}
        )
        assert hers.json()["state"] == "approved"
