"""Takes the pictures of the docs, and one of every view, with headless Chromium against the real program.

    .venv/bin/python scripts/screenshots.py [DIRECTORY]

`docs/images/chat.png` is the README's; the others go to DIRECTORY (default `build/screenshots`): each view at 1280 and
390 pixels, light and dark, to be looked at.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from playwright.async_api import Browser, Page, expect  # noqa: E402

from tests.journeys.program import Program, installation  # noqa: E402
from tests.journeys.test_page import browser, prompt, sign_in  # noqa: E402

SIZES = {"desktop": (1280, 800), "phone": (390, 844)}


async def main(target: Path) -> None:
    async with installation(demo=False) as (program, _), browser() as chromium:
        await _picture_of_the_readme(program, chromium)
        for size, (width, height) in SIZES.items():
            for scheme in ("light", "dark"):
                await _views(program, chromium, target, f"{size}-{scheme}", width, height, scheme)


async def _picture_of_the_readme(program: Program, chromium: Browser) -> None:
    context = await chromium.new_context(viewport={"width": 1280, "height": 860}, device_scale_factor=1.5)
    page, _ = await sign_in(context, program)
    await prompt(page, "Find and fix the bug")
    await expect(page.get_by_test_id("approval-card").last).to_be_visible(timeout=60_000)
    await page.wait_for_timeout(1500)
    await page.screenshot(path=ROOT / "docs" / "images" / "chat.png")
    await _approve_all(page)
    await context.close()


async def _approve_all(page: Page) -> None:
    """Until the job is complete."""
    while not await page.get_by_test_id("job-end").count():
        approve = page.get_by_test_id("approve")
        if await approve.count():
            await page.wait_for_timeout(600)
            await approve.last.click()
        await page.wait_for_timeout(300)


async def _views(
    program: Program, chromium: Browser, target: Path, name: str, width: int, height: int, scheme: str
) -> None:
    context = await chromium.new_context(
        viewport={"width": width, "height": height}, color_scheme="dark" if scheme == "dark" else "light"
    )

    async def shot(view: str) -> None:
        await page.wait_for_timeout(500)
        await page.screenshot(path=target / f"{name}-{view}.png")

    stranger = await context.new_page()
    await stranger.goto(program.url)
    await expect(stranger.get_by_test_id("signin")).to_be_visible()
    await stranger.screenshot(path=target / f"{name}-signin.png")
    page, _ = await sign_in(context, program)
    await shot("new")
    await prompt(page, "Write a small program and run it")
    await expect(page.get_by_test_id("approval-card").last).to_be_visible(timeout=60_000)
    await shot("approval")
    await _approve_all(page)
    await shot("done")
    await prompt(page, "Ask me a question")
    await expect(page.get_by_test_id("question-card").last).to_be_visible(timeout=60_000)
    await shot("question")
    await page.get_by_test_id("files").click()
    await shot("files")
    await context.close()


if __name__ == "__main__":
    where = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "build" / "screenshots"
    for folder in (where, ROOT / "docs" / "images"):
        folder.mkdir(parents=True, exist_ok=True)
    asyncio.run(main(where))
