"""Takes the pictures of the docs, and one of every view, with headless Chromium against the real program.

    .venv/bin/python scripts/screenshots.py [DIRECTORY [VIEW…]]

`docs/images/chat.png` is the README's; the others go to DIRECTORY (default `build/screenshots`): each view at 1280 and
390 pixels, light and dark, to be looked at. With names of views only these are taken.

A view of a session is a state of its log, so each session is made once and photographed four times.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from playwright.async_api import Browser, BrowserContext, Page, expect  # noqa: E402

from tests.journeys.program import Program, Viewer, begin, decide, installation  # noqa: E402
from tests.journeys.test_page import browser, sign_in  # noqa: E402

SIZES = {"desktop": (1280, 800), "phone": (390, 844)}
SETTLE_MS = 500
LONG = "\n".join(f"echo 'step {n} of the release: check, build, sign and upload part {n}'" for n in range(1, 61))
CODE = (
    "say Two ways to do it:\\n\\n```python\\nfrom pathlib import Path\\n\\n\\ndef total(folder: Path) -> int:\\n"
    '    """Bytes below a folder."""\\n    return sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())\\n```'
    "\\n\\nor in the shell:\\n\\n```bash\\ndu -sb . | cut -f1  # the same, sooner\\n```\\n\\n"
    "| way | speed |\\n|---|---|\\n| Python | fine |\\n| `du` | **best** |\\n\\n1. Pick one.\\n2. Use it.\\n\\n"
    "> Links count once. See [the manual](https://www.gnu.org/software/coreutils/)."
)


def script(*lines: str) -> str:
    return "```demo\n" + "\n".join(lines) + "\n```"


async def finish(program: Program, viewer: Viewer, **answer: Any) -> None:
    """Answers every approval until the job is complete."""
    answered: set[str] = set()
    while not viewer.of("complete"):
        for event in viewer.of("approval_required"):
            if event["approvalId"] not in answered:
                answered.add(event["approvalId"])
                await decide(program, event, **answer)
        await asyncio.sleep(0.1)


async def always(program: Program, viewer: Viewer) -> None:
    asked = await viewer.until("approval_required")
    option = next(o for o in asked["options"] if o.get("rule"))
    await decide(program, asked, optionId=option["id"])
    await viewer.until("complete")


async def asked_for_network(program: Program, viewer: Viewer) -> None:
    """A connection waits; before it one was refused, and one has been made that has no address here."""
    await viewer.until("approval_required", tool="network")


async def deny(program: Program, viewer: Viewer) -> None:
    await viewer.until("approval_required")
    await finish(program, viewer, approved=False, message="Not in this folder: make one below build/ first.")


def until(kind: str) -> Callable[[Program, Viewer], Awaitable[None]]:
    async def wait(program: Program, viewer: Viewer) -> None:
        await viewer.until(kind)

    return wait


@dataclass(frozen=True, slots=True)
class Scene:
    prompt: str
    reach: Callable[[Program, Viewer], Awaitable[None]]
    options: dict[str, Any]


def scene(prompt: str, reach: Callable[[Program, Viewer], Awaitable[None]], **options: Any) -> Scene:
    return Scene(prompt, reach, options)


SCENES = {
    "approval": scene("Write a small program and run it", until("approval_required")),
    "done": scene("Write a small program and run it", finish),
    "question": scene("Ask me a question", until("question")),
    "plan": scene("Make a plan first", until("approval_required"), permissionMode="plan"),
    "long": scene(script(f"bash <<END\n{LONG}\nEND"), until("approval_required")),
    "denied": scene(script("bash rm -rf dist", "say Understood: nothing was removed."), deny),
    "limit": scene(
        script(
            "bash head -c 90M /dev/zero > notes.bin; python3 -c 'x = b\"a\" * 2_000_000_000'; sleep 1",
            "say That took more memory than there is. I will read the file in pieces.",
        ),
        until("complete"),
        permissionMode="acceptAll",
        limits={"memory": 1 << 30, "disk": 100 << 20},
    ),
    "nested": scene(
        script(
            "todo Look around | Write the page | Check it",
            "agent <<END\ndemo: write site/css/page.css body { margin: 0 }\n"
            "demo: write site/index.html <!doctype html>\ndemo: read site/index.html\nEND",
            "say The helper has written both files.",
        ),
        finish,
    ),
    "connection": scene(
        script(
            "bash curl -sS -m 20 https://pypi.org/simple/ | head -c 200",
            "bash curl -sS -m 90 https://downloads.example.org/tool.tar.gz | tar xz",
            "say It is there.",
        ),
        asked_for_network,
        allowedTools=["Bash"],
    ),
    "contacts": scene(
        script(
            "bash for host in pypi.org registry.npmjs.org tracker.example.net 169.254.169.254; do curl -sS -m 20 "
            "https://$host/; done; curl -sS http://deb.debian.org/debian/ http://10.0.0.1/ -x $https_proxy",
            "say That is what can be reached.",
        ),
        until("complete"),
        permissionMode="acceptAll",
    ),
    "remembered": scene(script("bash python3 -V", "say It is there."), always),
    "failed": scene(script("say I begin.", "error 400"), until("complete")),
    "text": scene(script("think The shell is shorter.", CODE), until("complete")),
}


async def main(target: Path, wanted: set[str]) -> None:
    async with installation(demo=False) as (program, _), browser() as chromium:
        if not wanted:
            await _picture_of_the_readme(program, chromium)
        made = await asyncio.gather(
            *(_made(program, name, s) for name, s in SCENES.items() if not wanted or name in wanted)
        )
        for size, (width, height) in SIZES.items():
            for scheme in ("light", "dark"):
                camera = Camera(target, f"{size}-{scheme}", wanted)
                context = await chromium.new_context(
                    viewport={"width": width, "height": height},
                    color_scheme="dark" if scheme == "dark" else "light",
                    has_touch=size == "phone",
                    is_mobile=size == "phone",
                )
                await _views(program, context, camera, dict(made))
                await context.close()
        if not wanted or "reconnecting" in wanted:
            await _reconnecting(program, chromium, target, dict(made).get("done", ""))


async def _made(program: Program, name: str, one: Scene) -> tuple[str, str]:
    session, _, viewer = await begin(program, one.prompt, **one.options)
    async with program.http() as http:
        title = next((w for w in one.prompt.split("\n") if "`" not in w), name).split("<<")[0].strip()
        await http.patch(f"/api/sessions/{session}", json={"title": title[:60]})
    await one.reach(program, viewer)
    await viewer.close()
    return name, session


async def _picture_of_the_readme(program: Program, chromium: Browser) -> None:
    context = await chromium.new_context(viewport={"width": 1280, "height": 860}, device_scale_factor=1.5)
    page, _ = await sign_in(context, program)
    await page.get_by_test_id("composer").fill("Find and fix the bug")
    await page.get_by_test_id("send").click()
    await expect(page.get_by_test_id("approval-card").last).to_be_visible(timeout=60_000)
    await page.wait_for_timeout(1500)
    await page.screenshot(path=ROOT / "docs" / "images" / "chat.png")
    await context.close()


@dataclass(frozen=True, slots=True)
class Camera:
    target: Path
    name: str
    wanted: set[str]

    def wants(self, view: str) -> bool:
        return not self.wanted or view in self.wanted

    async def shot(self, page: Page, view: str) -> None:
        if self.wants(view):
            await page.wait_for_timeout(SETTLE_MS)
            await page.screenshot(path=self.target / f"{self.name}-{view}.png")


async def _views(program: Program, context: BrowserContext, camera: Camera, sessions: dict[str, str]) -> None:
    if camera.wants("signin"):
        stranger = await context.new_page()
        await stranger.goto(program.url)
        await expect(stranger.get_by_test_id("signin")).to_be_visible()
        await camera.shot(stranger, "signin")
        await stranger.close()
    page, _ = await sign_in(context, program)
    await camera.shot(page, "new")
    if camera.wants("advanced"):
        await _advanced(page)
        await camera.shot(page, "advanced")
    for name, session in sessions.items():
        await page.goto(f"{program.url}/#/s/{session}")
        await expect(page.get_by_test_id("prompt").first).to_be_attached()
        await camera.shot(page, name)
        for before, view, act in DOINGS:
            if before == name and camera.wants(view):
                await act(page)
                await camera.shot(page, view)
                await page.reload()
    if camera.wants("settings"):
        await page.goto(f"{program.url}/#/settings")
        await expect(page.get_by_test_id("rule-row").first).to_be_visible()
        await camera.shot(page, "settings")
    if camera.wants("members"):
        await page.goto(f"{program.url}/#/members")
        await expect(page.get_by_test_id("member-row").first).to_be_visible()
        await camera.shot(page, "members")
    if camera.wants("audit"):
        await page.goto(f"{program.url}/#/audit")
        await expect(page.get_by_test_id("audit-row").first).to_be_visible()
        await camera.shot(page, "audit")
    menu = page.get_by_test_id("menu")
    if camera.wants("drawer") and await menu.is_visible():
        await menu.click()
        await camera.shot(page, "drawer")


async def _advanced(page: Page) -> None:
    """With a limit that the server refuses."""
    await page.get_by_test_id("advanced").click()
    await page.get_by_test_id("limit-memory").fill("1M")
    await page.get_by_test_id("composer").fill("Write a small program and run it")
    await page.get_by_test_id("send").click()
    await expect(page.get_by_test_id("limit-memory")).to_have_attribute("aria-invalid", "true")


async def _limits(page: Page) -> None:
    await page.get_by_test_id("limits").click()
    await expect(page.get_by_test_id("limit").first).to_be_visible()


async def _files(page: Page) -> None:
    await page.get_by_test_id("files").click()
    await page.locator('[data-testid="folder-row"][data-path="site"]').click()
    await page.locator('[data-testid="folder-row"][data-path="site/css"]').click()


async def _top(page: Page) -> None:
    await page.get_by_test_id("tool-toggle").last.click()
    await page.get_by_test_id("log").evaluate("(log) => { log.scrollTop = 0; log.dispatchEvent(new Event('scroll')) }")


async def _unfold(page: Page) -> None:
    await page.wait_for_timeout(SETTLE_MS)
    await page.get_by_test_id("show-all").click()


async def _edit(page: Page) -> None:
    await page.wait_for_timeout(SETTLE_MS)
    await page.get_by_test_id("edit-input").click()


async def _deny_words(page: Page) -> None:
    await page.wait_for_timeout(SETTLE_MS)
    await page.get_by_test_id("deny-with-message").click()


async def _network(page: Page) -> None:
    await page.get_by_test_id("network").click()
    await expect(page.get_by_test_id("contact").first).to_be_visible()


async def _policy(page: Page) -> None:
    await _network(page)
    await page.get_by_test_id("change-policy").click()


async def _menu(page: Page) -> None:
    await page.get_by_test_id("session-menu").click()


async def _pictures(page: Page) -> None:
    picture = (ROOT / "docs" / "images" / "chat.png").read_bytes()
    await page.get_by_test_id("picture-input").set_input_files(
        [
            {"name": "the page.png", "mimeType": "image/png", "buffer": picture},
            {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"x"},
        ]
    )


DOINGS: tuple[tuple[str, str, Callable[[Page], Awaitable[None]]], ...] = (
    ("nested", "files", _files),
    ("done", "done-top", _top),
    ("limit", "limits", _limits),
    ("done", "menu", _menu),
    ("contacts", "network", _network),
    ("contacts", "policy", _policy),
    ("done", "pictures", _pictures),
    ("long", "long-unfolded", _unfold),
    ("approval", "edit", _edit),
    ("approval", "deny-words", _deny_words),
)
"""The session a view begins at, its name, and what is done there."""


async def _reconnecting(program: Program, chromium: Browser, target: Path, session: str) -> None:
    pages = []
    for size, (width, height) in SIZES.items():
        context = await chromium.new_context(viewport={"width": width, "height": height})
        page, _ = await sign_in(context, program)
        await page.goto(f"{program.url}/#/s/{session}")
        await expect(page.get_by_test_id("prompt").first).to_be_attached()
        pages.append((size, page))
    await program.kill()
    for size, page in pages:
        await expect(page.locator('[data-state="waiting"]').first).to_be_attached()
        await page.wait_for_timeout(SETTLE_MS)
        await page.screenshot(path=target / f"{size}-light-reconnecting.png")


if __name__ == "__main__":
    where = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "build" / "screenshots"
    for folder in (where, ROOT / "docs" / "images"):
        folder.mkdir(parents=True, exist_ok=True)
    asyncio.run(main(where, set(sys.argv[2:])))
