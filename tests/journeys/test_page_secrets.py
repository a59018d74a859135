"""Secrets on the real page: a shell has what was set there, and nothing else has."""

from __future__ import annotations

import asyncio
import hashlib

from playwright.async_api import Page, Request, expect
from websockets.asyncio.client import connect

from tests.journeys import test_page as page_rules
from tests.journeys.program import Program, installation
from tests.journeys.test_page import browser, sign_in
from tests.journeys.test_secrets import pattern

pytestmark = page_rules.pytestmark

TYPED = "typed-Zq7canary-" + hashlib.sha256(b"typed").hexdigest()[:40]
KEY = [hashlib.sha256(name).hexdigest() for name in (b"one", b"two", b"three")]
LINES = "\n".join(["-----BEGIN KEY-----", *KEY, "-----END KEY-----", ""])
PASTE = """
(text) => {
  const clipboardData = new DataTransfer();
  clipboardData.setData('text', text);
  document.activeElement.dispatchEvent(new ClipboardEvent('paste', { clipboardData, bubbles: true, cancelable: true }));
}
"""
SECRETS = pattern([TYPED, *KEY])


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


async def in_a_new_shell(program: Program, session: str, shell: str, typed: str) -> str:
    """What a shell writes that is opened now: digests, since it masks the rest."""
    path = f"/api/sessions/{session}/shells"
    async with program.http() as http:
        assert (await http.post(path, json={"shellId": shell})).status_code == 201
    got = b""
    url = program.url.replace("http", "ws") + f"{path}/{shell}?role=type"
    async with connect(url, additional_headers={"x-api-key": program.key}, max_size=None) as door:
        await door.send(b"\0" + typed.encode() + b"; echo o''ver\n")
        async with asyncio.timeout(30):
            while b"over\r\n" not in got:
                message = await door.recv()
                assert isinstance(message, bytes)
                got += message[1:] if message[0] == 1 else b""
    return got.decode()


class Told:
    """All that a page asks, says and holds."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.said: list[str] = []
        page.on("console", lambda message: self.said.append(message.text))
        page.on("request", self._asked)

    def _asked(self, request: Request) -> None:
        headers = {name: value for name, value in request.headers.items() if name != "cookie"}
        self.said.append(f"{request.method} {request.url} {headers}")

    async def clean(self, where: str) -> None:
        stored = await self.page.evaluate(
            "() => JSON.stringify([{ ...localStorage }, { ...sessionStorage }, location.href])"
        )
        for text in (await self.page.content(), stored, *self.said):
            found = SECRETS.search(text.encode())
            assert found is None, f"{where}: {text[max(0, found.start() - 100) : found.start() + 10]}"


async def test_a_secret_of_the_page_is_in_a_shell_and_nowhere_else() -> None:
    async with installation(demo=False) as (program, _), browser() as chromium:
        async with program.http() as http:
            session = (await http.post("/api/sessions", json={"agent": "echo"})).json()["id"]
        context = await chromium.new_context(viewport={"width": 1280, "height": 900})
        page, _ = await sign_in(context, program)
        told = Told(page)
        name, row = page.get_by_test_id("secret-name"), page.get_by_test_id("secret-row")

        await page.goto(f"{program.url}/#/settings")
        await expect(page.get_by_test_id("no-secrets")).to_be_visible()
        await name.fill("PATH")
        await page.keyboard.press("Tab")
        await page.keyboard.type(TYPED)
        await told.clean("typed")
        await page.keyboard.press("Enter")
        await expect(page.get_by_text("PATH may not be set: programs and sessions are steered by it")).to_be_visible()
        await expect(name).to_be_focused()
        await told.clean("refused")
        await name.fill("NPM_TOKEN")
        await page.keyboard.press("Enter")
        await expect(row).to_have_attribute("data-name", "NPM_TOKEN")
        await expect(name).to_be_focused()

        await page.goto(f"{program.url}/#/s/{session}")
        await page.get_by_test_id("session-menu").click()
        await page.get_by_test_id("session-secrets").click()
        await expect(row).to_have_attribute("data-where", "account")
        await name.fill("DEPLOY_KEY")
        await page.keyboard.press("Tab")
        await page.evaluate(PASTE, LINES)
        await expect(page.get_by_test_id("secret-value")).to_have_value("5 lines pasted, not shown")
        await told.clean("pasted")
        tools = await context.new_cdp_session(page)
        heard = str(await tools.send("Accessibility.getFullAXTree"))
        assert "5 lines pasted" in heard
        assert SECRETS.search(heard.encode()) is None
        await page.keyboard.press("Enter")
        await expect(row.filter(has_text="in this session alone")).to_have_attribute("data-name", "DEPLOY_KEY")
        await told.clean("set")

        looks = 'for it in "$NPM_TOKEN" "$DEPLOY_KEY"; do printf %s "$it" | sha256sum; echo "[$it]"; done'
        shell = await in_a_new_shell(program, session, "before", looks)
        assert digest(TYPED) in shell
        assert digest(LINES) in shell
        assert SECRETS.search(shell.encode()) is None

        await page.locator('[data-name="DEPLOY_KEY"]').get_by_test_id("secret-remove").click()
        await page.get_by_test_id("confirm").click()
        await expect(page.get_by_test_id("secret-said")).to_have_text("DEPLOY_KEY is removed.")
        await expect(row).to_have_count(1)
        await expect(name).to_be_focused()
        await page.keyboard.press("Escape")
        await expect(page.get_by_test_id("session-menu")).to_be_focused()
        shell = await in_a_new_shell(program, session, "after", looks)
        assert digest(TYPED) in shell
        assert digest(LINES) not in shell
        assert "[]\r\n" in shell
        await told.clean("removed")
        assert any("PUT " in line for line in told.said)

        kept = [path for path in program.home.rglob("*") if path.is_file() and path.name != "disk.img"]
        assert {"server.log", "keeper.log", "log.sqlite"} <= {path.name for path in kept}
        assert not [path for path in kept if SECRETS.search(path.read_bytes())]
