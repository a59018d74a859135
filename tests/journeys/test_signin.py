"""Signing in with a real OpenID provider in a real browser, and with its tokens."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import BrowserContext, Page, expect
from websockets.asyncio.client import connect

from tests.journeys.program import Program, installation
from tests.journeys.test_page import WAIT, browser
from tests.journeys.test_page import pytestmark as needed
from tests.journeys.test_page_access import faults

ROOT = Path(__file__).parents[2]
MODULES = ROOT / "tests" / "clients" / "node_modules"
OWN_NODE = ROOT / ".make" / "node" / "bin" / "node"
NODE = str(OWN_NODE) if OWN_NODE.exists() else shutil.which("node")
pytestmark = [
    *needed,
    pytest.mark.skipif(NODE is None, reason="needs node: run `make test`"),
    pytest.mark.skipif(not (MODULES / "oidc-provider").exists(), reason="needs oidc-provider: run `make test`"),
    pytest.mark.asyncio(loop_scope="module"),
]
SHORT_S = 12
"""A sign-in with the second provider: long enough to come in, short enough to wait for its end."""
ISSUER = """
[[issuers]]
name = "{name}"
label = "{label}"
issuer = "{url}"
allow_private = true
audience = ["urn:pilothouse"]
algorithms = ["RS256"]
groups_claim = "groups"
roles = {{ bosses = "admin", ops = "operator" }}
default_role = "viewer"
client_id = "page"
client_secret = "page-secret-page-secret-page-secret"
scopes = ["openid", "profile", "groups"]
signin_s = {seconds}
"""


@dataclass
class Town:
    program: Program
    issuers: list[str]


@contextlib.asynccontextmanager
async def providers() -> AsyncIterator[tuple[asyncio.subprocess.Process, list[str]]]:
    assert NODE is not None
    process = await asyncio.create_subprocess_exec(
        NODE, str(Path(__file__).with_name("provider.mjs")), str(MODULES), env={"PATH": os.environ["PATH"]},
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        yield process, json.loads(await asyncio.wait_for(process.stdout.readline(), 60))["issuers"]
    finally:
        process.terminate()
        await process.wait()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def town(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Town]:
    async with providers() as (process, issuers):
        settings = tmp_path_factory.mktemp("settings") / "pilothouse.toml"
        settings.write_text(
            ISSUER.format(name="acme", label="Acme", url=issuers[0], seconds=3600)
            + ISSUER.format(name="short", label="Short", url=issuers[1], seconds=SHORT_S)
        )
        settings.chmod(0o600)
        async with installation(demo=False, PILOTHOUSE_CONFIG=str(settings)) as (program, _):
            assert process.stdin is not None
            assert process.stdout is not None
            ways = [f"{program.url}/api/signin/oidc/{name}/callback" for name in ("acme", "short")]
            process.stdin.write(json.dumps(ways).encode() + b"\n")
            assert await asyncio.wait_for(process.stdout.readline(), 60) == b"ready\n"
            yield Town(program, issuers)


async def sign_in(context: BrowserContext, town: Town, login: str, provider: str = "acme") -> Page:
    """By the button, the provider's login and its consent."""
    page = await context.new_page()
    page.set_default_timeout(WAIT)
    await page.goto(town.program.url)
    await page.locator(f'[data-testid="provider"][data-provider="{provider}"]').click()
    await page.locator('input[name="login"]').fill(login)
    await page.locator('input[name="password"]').fill("anything")
    await page.locator('button[type="submit"]').click()
    await page.locator('button[type="submit"]').filter(has_text="Continue").click()
    await expect(page.get_by_test_id("composer")).to_be_visible(timeout=WAIT)
    return page


async def settings(page: Page) -> None:
    await page.goto(page.url.partition("#")[0] + "#/settings")
    await expect(page.get_by_test_id("signin-row").first).to_be_visible(timeout=WAIT)


async def test_a_person_signs_in_with_a_provider_and_has_the_role_of_its_groups(town: Town) -> None:
    async with browser() as made:
        context = await made.new_context()
        page = await sign_in(context, town, "ops-ann")
        assert page.url.rstrip("/#") == town.program.url, "the address keeps nothing of the sign-in"
        me = await page.evaluate("() => fetch('/api/me').then((r) => r.json())")
        assert (me["principal"]["name"], me["principal"]["scopes"]) == ("The ops-ann", ["read", "run"])
        cookies = {one["name"]: one for one in await context.cookies(town.program.url)}
        assert set(cookies) == {"pilothouse"}
        assert (cookies["pilothouse"]["sameSite"], cookies["pilothouse"]["httpOnly"]) == ("Strict", True)
        await page.reload()
        await expect(page.get_by_test_id("composer")).to_be_visible(timeout=WAIT)
        await settings(page)
        await expect(page.get_by_test_id("signin-row")).to_contain_text("Chrome on Linux")
        boss = await made.new_context(bypass_csp=True)  # for axe
        page = await sign_in(boss, town, "boss-eve")
        await settings(page)
        assert await faults(page, "sign-ins") == []
        me = await page.evaluate("() => fetch('/api/me').then((r) => r.json())")
        assert "admin" in me["principal"]["scopes"]
        log = town.program.log.read_text()
        assert cookies["pilothouse"]["value"] not in log


async def test_c12_a_sign_in_ended_elsewhere_closes_a_live_page_at_once(town: Town) -> None:
    async with browser() as made:
        first, second = [await sign_in(await made.new_context(), town, "ops-bob") for _ in range(2)]
        await expect(second.get_by_test_id("connection").first).to_have_attribute("data-state", "open")
        await settings(first)
        await expect(first.get_by_test_id("signin-row")).to_have_count(2)
        await first.get_by_test_id("signin-end").click()
        await expect(second.get_by_test_id("signin")).to_be_visible(timeout=WAIT)
        await expect(first.get_by_test_id("signin-row")).to_have_count(1)
        await first.get_by_test_id("signout-everywhere").click()
        await expect(first.get_by_test_id("signin")).to_be_visible(timeout=WAIT)


async def test_a_sign_in_ends_by_itself_with_its_socket(town: Town) -> None:
    async with browser() as made:
        page = await sign_in(await made.new_context(), town, "ops-carl", "short")
        await expect(page.get_by_test_id("signin")).to_be_visible(timeout=WAIT)
        assert await page.evaluate("() => fetch('/api/me').then((r) => r.status)") == 401


async def test_who_declines_is_told_and_may_begin_again(town: Town) -> None:
    async with browser() as made:
        page = await (await made.new_context(bypass_csp=True)).new_page()
        page.set_default_timeout(WAIT)
        await page.goto(town.program.url)
        await expect(page.get_by_test_id("provider")).to_have_count(2)
        assert await faults(page, "sign-in with providers") == []
        await page.locator('[data-testid="provider"][data-provider="acme"]').click()
        await page.get_by_text("Cancel").click()
        await expect(page.get_by_role("alert")).to_contain_text("access_denied")
        assert await faults(page, "a sign-in that failed") == []
        await page.get_by_role("link", name="Back to signing in").click()
        await expect(page.get_by_test_id("provider")).to_have_count(2)
        assert "?" not in page.url


async def test_c14_a_providers_tokens_are_credentials_and_its_other_ones_are_not(town: Town) -> None:
    """A token for a program, by the provider's own endpoint, as JWT; another provider's keys sign nothing here."""
    async with httpx.AsyncClient(auth=("ci", "ci-secret-ci-secret-ci-secret-ci")) as client:
        answer = await client.post(
            f"{town.issuers[0]}/token", data={"grant_type": "client_credentials", "scope": "use"}
        )
        token = answer.json()["access_token"]
    headers = {"authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(base_url=town.program.url, headers=headers) as client:
        me = (await client.get("/api/me")).json()
        assert me["principal"]["scopes"] == ["read", "run"]
        assert (await client.get("/api/keys")).status_code == 403
    async with connect(town.program.url.replace("http", "ws") + "/ws", additional_headers=headers) as socket:
        await socket.send('{"type": "ping"}')
        assert json.loads(await socket.recv()) == {"type": "pong"}
    head, body, tail = token.split(".")
    for forged in (f"{head}.{body}.{tail[:-4]}AAAA", f"{head}.{body[:-4]}AAAA.{tail}", f"{head}.{body}."):
        async with httpx.AsyncClient(base_url=town.program.url) as client:
            assert (await client.get("/api/me", headers={"authorization": f"Bearer {forged}"})).status_code == 401
    assert token not in town.program.log.read_text()
