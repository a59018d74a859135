"""Members and key pairs in a real browser: added, let in, changed while they look, shut out; pairs made and ended."""

from __future__ import annotations

import time

import httpx
import pytest
from playwright.async_api import Browser, Locator, Page, expect

from tests.core.signing import signed
from tests.journeys.program import Program, installation
from tests.journeys.test_page import CHROMIUM, STATIC, WAIT, browser, sign_in
from tests.journeys.test_page_access import faults, tab_to
from tests.journeys.test_sharing import picture

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="needs package chromium"),
    pytest.mark.skipif(not STATIC.exists(), reason="needs the built page: run `make setup`"),
]
ANN, RHEA = "ann@example.com", "https://id.example/rhea"


async def test_members_come_change_and_go_and_key_pairs_too() -> None:
    async with installation(demo=False) as (program, _), browser() as chromium:
        context = await chromium.new_context(viewport={"width": 1280, "height": 800}, bypass_csp=True)  # for axe
        page, troubles = await sign_in(context, program)
        ann = await _added_and_let_in(page, program, chromium)
        await _changed_while_looking(page, ann)
        await _shut_out(page, ann)
        await _of_another_organisation(page, program, chromium)
        await _pairs(page, program)
        assert [t for t in troubles if "401" not in t] == []


def row(page: Page, account: str) -> Locator:
    return page.locator(f'[data-testid="member-row"][data-account="{account}"]')


async def clean(page: Page, view: str) -> None:
    """No serious fault by axe, large and light, small and dark."""
    for width, scheme in ((1280, "light"), (390, "dark")):
        await page.set_viewport_size({"width": width, "height": 800})
        await page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
        await expect(page.locator("html")).to_have_attribute("data-mantine-color-scheme", scheme)
        assert await faults(page, f"{view}, {scheme}") == []
        await page.wait_for_function("(width) => document.documentElement.scrollWidth <= width", arg=width)
    await page.set_viewport_size({"width": 1280, "height": 800})
    await page.emulate_media(color_scheme="light")


async def act(page: Page, account: str, what: str) -> None:
    await row(page, account).get_by_test_id("member-menu").click()
    await page.get_by_test_id(f"member-{what}").click()


async def follow(chromium: Browser, page: Page) -> Page:
    """Somebody else opens the sign-in link that `page` makes."""
    await page.get_by_test_id("ticket-make").click()
    url = await page.get_by_test_id("ticket-url").inner_text()
    await picture(page, "signin-link")
    await page.keyboard.press("Escape")
    theirs = await (await chromium.new_context(viewport={"width": 1280, "height": 800}, bypass_csp=True)).new_page()
    theirs.set_default_timeout(WAIT)
    await theirs.goto(url.strip())
    await expect(theirs.get_by_test_id("settings")).to_be_visible()
    return theirs


async def _added_and_let_in(page: Page, program: Program, chromium: Browser) -> Page:
    await page.goto(f"{program.url}/#/settings")
    await page.get_by_test_id("members-open").click()
    await expect(row(page, "local")).to_contain_text("Whoever has this machine")
    await row(page, "local").get_by_test_id("member-menu").click()
    for item in ("member-disable", "member-remove"):
        await expect(page.get_by_test_id(item)).to_be_disabled()
    await page.keyboard.press("Escape")

    await page.get_by_test_id("add-account").fill(ANN)
    await page.get_by_test_id("add-name").fill("Ann Archer")
    await page.get_by_test_id("add-member").click()
    await expect(page.get_by_test_id("added")).to_contain_text("Ann Archer is an operator now.")
    await expect(row(page, ANN)).to_contain_text("not signed in")
    await page.get_by_test_id("added-link").click()
    ann = await follow(chromium, page)
    await page.get_by_test_id("add-account").fill(ANN)
    await page.get_by_test_id("add-member").click()
    await expect(page.get_by_text("That is a member already.")).to_be_visible()
    await picture(page, "member-already")
    await page.reload()
    await expect(row(page, ANN)).to_contain_text("signed in, seen")
    await clean(page, "members")
    await picture(page, "members")

    await ann.goto(f"{program.url}/#/settings")
    await expect(ann.get_by_test_id("signin-row")).to_have_count(1)
    await expect(ann.get_by_test_id("pair-make")).to_have_count(0)
    await ann.get_by_test_id("members-open").click()
    await expect(ann.get_by_test_id("members-refused")).to_contain_text("You are an operator")
    await expect(ann.locator('[data-testid="role-words"][data-own="true"]')).to_contain_text("Operator")
    await expect(ann.get_by_test_id("member-row")).to_have_count(0)
    await clean(ann, "members, refused")
    await picture(ann, "members-refused")
    return ann


async def _changed_while_looking(page: Page, ann: Page) -> None:
    """By keyboard: menu, dialog, arrows, save."""
    await tab_to(page, row(page, ANN).get_by_test_id("member-menu"))
    await page.keyboard.press("Enter")
    await tab_to(page, page.get_by_test_id("member-change"), "ArrowDown")
    await page.keyboard.press("Enter")
    await tab_to(page, page.get_by_test_id("role-operator"))
    await clean(page, "member")
    await picture(page, "member-change")
    for _ in range(2):
        await page.keyboard.press("ArrowDown")
    await tab_to(page, page.get_by_test_id("member-save"))
    await page.keyboard.press("Enter")
    await expect(row(page, ANN).get_by_test_id("member-role")).to_have_text("Admin")
    await ann.reload()
    await expect(row(ann, "local")).to_be_visible()

    # Somebody takes the role away while they are at it: the server says so, in words.
    await act(page, ANN, "change")
    await page.get_by_test_id("role-viewer").click()
    await page.get_by_test_id("member-save").click()
    await expect(row(page, ANN).get_by_test_id("member-role")).to_have_text("Viewer")
    await act(ann, "local", "link")
    await ann.get_by_test_id("ticket-make").click()
    await expect(ann.get_by_role("dialog").get_by_role("alert")).to_contain_text("lacks the scope 'admin'")
    await picture(ann, "refused")
    await ann.get_by_test_id("try-again").click()
    await expect(ann.get_by_test_id("members-refused")).to_contain_text("You are a viewer")


async def _shut_out(page: Page, ann: Page) -> None:
    await act(page, ANN, "disable")
    await expect(row(page, ANN)).to_have_attribute("data-disabled", "true")
    await expect(ann.get_by_test_id("signin")).to_be_visible(timeout=WAIT)
    await picture(page, "members-disabled")
    await act(page, ANN, "disable")
    await expect(row(page, ANN)).to_have_attribute("data-disabled", "false")
    await act(page, ANN, "remove")
    await picture(page, "member-remove")
    await page.get_by_test_id("confirm").click()
    await expect(row(page, ANN)).to_have_count(0)
    await expect(page.locator("#content")).to_be_focused()  # the button is gone with the row


async def _of_another_organisation(page: Page, program: Program, chromium: Browser) -> None:
    """Its first admin is let in, and stays: by the page, and by the server if somebody asks it all the same."""
    async with program.http() as http:
        assert (await http.post("/api/organisations", json={"id": "red", "name": "Red team"})).status_code == 201
    await page.reload()
    await page.get_by_test_id("organisation").select_option("red")
    await expect(page.get_by_text("Nobody belongs to this organisation yet")).to_be_visible()
    await page.get_by_test_id("add-account").fill(RHEA)
    await page.get_by_test_id("add-role").select_option("admin")
    await page.get_by_test_id("add-member").click()
    await expect(row(page, RHEA)).to_contain_text("The last admin")
    await act(page, RHEA, "link")
    rhea = await follow(chromium, page)
    await rhea.goto(f"{program.url}/#/members")
    await expect(rhea.get_by_test_id("organisation")).to_have_count(0)
    await row(rhea, RHEA).get_by_test_id("member-menu").click()
    await expect(rhea.get_by_test_id("member-remove")).to_be_disabled()
    ask = """async ([method, body]) => {
        const { csrf, principal } = await (await fetch("api/me")).json();
        const headers = { "x-csrf-token": csrf, "content-type": "application/json" };
        const path = `api/members/${encodeURIComponent(principal.account)}`;
        return (await (await fetch(path, { method, headers, body })).json()).code;
    }"""
    for method, body in (("DELETE", None), ("PUT", '{"role": "viewer"}'), ("PUT", '{"disabled": true}')):
        assert await rhea.evaluate(ask, [method, body]) == "last_admin"


async def _pairs(page: Page, program: Program) -> None:
    await page.goto(f"{program.url}/#/settings")
    await page.get_by_test_id("pair-name").fill("nightly build")
    for scope in ("run", "approve"):
        await page.get_by_test_id(f"pair-scope-{scope}").click()
    await page.get_by_test_id("pair-lasts").select_option("3600")
    await page.get_by_test_id("pair-token").click()
    await page.get_by_test_id("pair-make").click()
    parts = ("pair-id", "pair-secret", "pair-session-token")
    id, secret, token = [await page.get_by_test_id(part).inner_text() for part in parts]
    await clean(page, "key pairs")
    await page.get_by_test_id("key-name").scroll_into_view_if_needed()
    await picture(page, "pair")

    async def status(path: str = "/api/me", method: str = "GET", body: bytes = b"") -> int:
        url = f"{program.url}{path}"
        request = signed(method, url, body=body, key=(id, secret), token=token, now=time.time())
        async with httpx.AsyncClient() as http:
            return (await http.request(method, url, headers=list(request.headers), content=body)).status_code

    assert await status() == 200
    assert await status("/api/sessions", "POST", b'{"agent":"echo"}') == 403
    await page.reload()
    mine = page.get_by_test_id("pair-row").filter(has_text="nightly build")
    await expect(mine).to_contain_text(id)
    await expect(mine).to_contain_text("used now; until ")
    assert secret not in await page.content()
    assert token not in await page.content()
    await expect(page.get_by_test_id("key-row").filter(has_text="nightly build")).to_have_count(0)
    await mine.get_by_test_id("pair-revoke").click()
    await picture(page, "pair-revoke")
    await page.get_by_test_id("confirm").click()
    await expect(mine).to_have_count(0)
    assert await status() == 401
