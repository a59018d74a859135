"""Webhooks and notifications of the real program: killed while one is under way, and seen on the real page."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

from playwright.async_api import BrowserContext, Page, expect
from standardwebhooks.webhooks import Webhook

from tests.adapters.outgoing.test_push import NODE, decrypted
from tests.journeys import test_page as page_rules
from tests.journeys.program import Program, begin, installation
from tests.journeys.test_page import WAIT, browser, sign_in
from tests.journeys.test_page_access import faults
from tests.receiver import Receiver, receiving


async def made(program: Program, receiver: Receiver) -> tuple[str, str]:
    """Id and secret of a webhook."""
    async with program.http() as http:
        answer = await http.post("/api/webhooks", json={"url": f"{receiver.url}/in"})
        assert answer.status_code == 201, answer.text
        return answer.json()["id"], answer.json()["secret"]


async def test_a_server_that_is_killed_while_it_tells_tells_again() -> None:
    async with receiving() as receiver:
        here = f"127.0.0.1:{receiver.port}"
        async with installation(demo=False, PILOTHOUSE_WEBHOOKS_ALLOW_PRIVATE=here) as (program, _):
            webhook, secret = await made(program, receiver)
            receiver.gate = asyncio.Event()
            session, job, viewer = await begin(program, "Say hello", agent="echo")
            await viewer.until("complete")
            await viewer.close()
            await receiver.until(1)
            await program.kill()
            receiver.gate.set()
            await program.start()
            first, again = await receiver.until(2)
            assert first.headers["webhook-id"] == again.headers["webhook-id"]
            for got in (first, again):
                said = Webhook(secret).verify(got.body, got.headers)
                assert (said["type"], said["data"]["jobId"]) == ("job.completed", job["id"])
                assert said["data"]["url"].endswith(f"/#/s/{session}")
            async with program.http() as http:
                for _ in range(200):
                    items = (await http.get(f"/api/webhooks/{webhook}/deliveries")).json()["items"]
                    if items[0]["state"] == "delivered":
                        break
                    await asyncio.sleep(0.05)
                assert [one["state"] for one in items] == ["delivered"]
            assert secret not in program.log.read_text()
            database = (program.home / "ph" / "log.sqlite").read_bytes()
            database += (program.home / "ph" / "log.sqlite-wal").read_bytes()
            assert secret.removeprefix("whsec_").encode() not in database


SUBSCRIBE = """
(url) => {
  const text = (bytes) => {
    const plain = btoa(String.fromCharCode(...new Uint8Array(bytes)));
    return plain.replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '');
  };
  PushManager.prototype.subscribe = async () => {
    const pair = await crypto.subtle.generateKey({ name: 'ECDH', namedCurve: 'P-256' }, true, ['deriveBits']);
    const p256dh = text(await crypto.subtle.exportKey('raw', pair.publicKey));
    const keys = { p256dh, auth: text(new Uint8Array(16).fill(7)) };
    window.browserKey = (await crypto.subtle.exportKey('jwk', pair.privateKey)).d;
    const toJSON = () => ({ endpoint: url, keys });
    window.subscribed = { endpoint: url, options: {}, toJSON, unsubscribe: async () => true };
    return window.subscribed;
  };
  PushManager.prototype.getSubscription = async () => window.subscribed ?? null;
}
"""
"""No push service can be reached from here: the subscription leads to a receiver of ours, with true keys."""


async def push_to(context: BrowserContext, page: Page, text: str) -> None:
    """As a push service would, to the page's worker; returns when the worker has done its part.

    Nobody may ask Chromium for the notifications before: `getNotifications` removes each record of one that is not on
    the screen yet, and what is written but not drawn at that moment is never listed again.
    """
    tools = await context.new_cdp_session(page)
    loop = asyncio.get_running_loop()
    found: asyncio.Future[str] = loop.create_future()
    done: asyncio.Future[dict[str, str]] = loop.create_future()

    def updated(event: dict[str, list[dict[str, str]]]) -> None:
        for one in event["registrations"]:
            if not found.done():
                found.set_result(one["registrationId"])

    def noted(event: dict[str, Any]) -> None:
        one = event["backgroundServiceEvent"]
        if one["eventName"] == "Push event completed" and not done.done():
            done.set_result({entry["key"]: entry["value"] for entry in one["eventMetadata"]})

    tools.on("ServiceWorker.workerRegistrationUpdated", updated)
    tools.on("BackgroundService.backgroundServiceEventReceived", noted)
    await tools.send("ServiceWorker.enable")
    await tools.send("BackgroundService.setRecording", {"shouldRecord": True, "service": "pushMessaging"})
    await tools.send("BackgroundService.startObserving", {"service": "pushMessaging"})
    registration = await asyncio.wait_for(found, WAIT / 1000)
    origin = await page.evaluate("() => location.origin")
    message = {"origin": origin, "registrationId": registration, "data": text}
    await tools.send("ServiceWorker.deliverPushMessage", message)
    assert (await asyncio.wait_for(done, WAIT / 1000))["Status"] == "Success"


SHOWN = """async () => {
  const all = await (await navigator.serviceWorker.ready).getNotifications();
  return all.map((n) => [n.title, n.body, n.tag, n.data.path]);
}"""


@page_rules.pytestmark[0]
@page_rules.pytestmark[1]
@NODE
async def test_the_page_subscribes_is_told_and_says_how_it_went() -> None:
    async with receiving() as receiver, browser() as chromium:
        here = f"127.0.0.1:{receiver.port}"
        async with installation(demo=False, PILOTHOUSE_WEBHOOKS_ALLOW_PRIVATE=here) as (program, _):
            context = await chromium.new_context(viewport={"width": 1100, "height": 900})
            await context.grant_permissions(["notifications"], origin=program.url)
            page, troubles = await sign_in(context, program)
            await page.evaluate(SUBSCRIBE, f"{receiver.url}/push")
            await page.evaluate("() => { location.hash = '#/settings'; }")
            await page.get_by_test_id("push-on").click()
            row = page.get_by_test_id("notifier-row")
            await expect(row).to_contain_text("this browser", timeout=WAIT)
            await row.get_by_label("a job has ended").click()  # it stands when the page has drawn it
            await expect(row.get_by_label("a job has ended")).to_be_checked()
            await row.get_by_test_id("notifier-test").click()
            await expect(row.get_by_test_id("notifier-went")).to_have_text(re.compile("^Last: handed"), timeout=WAIT)
            (got,) = await receiver.until(1)
            key, auth = await page.evaluate("() => [window.browserKey, window.subscribed.toJSON().keys.auth]")
            assert json.loads(decrypted(key, auth, got.body))["title"] == "A test: notifications reach you here"
            # What the receiver got is what the worker is given.
            async with program.http() as http:
                ticket = (await http.post("/api/sessions", json={"agent": "echo", "title": "Fix <b>it</b>"})).json()
                await http.post(f"/api/sessions/{ticket['id']}/jobs", json={"prompt": "Say hello"})
            text = decrypted(key, auth, (await receiver.until(2))[1].body)
            await push_to(context, page, text)
            assert await page.evaluate(SHOWN) == [["Job done", "Fix <b>it</b>", ticket["id"], f"#/s/{ticket['id']}"]]
            # A webhook, made and tested on the page.
            await page.get_by_test_id("webhook-url").fill(f"{receiver.url}/hook")
            await page.get_by_test_id("webhook-create").click()
            secret = await page.get_by_test_id("webhook-secret").text_content(timeout=WAIT)
            assert secret is not None
            hook = page.get_by_test_id("webhook-row")
            await hook.get_by_test_id("webhook-ping").click()
            await expect(hook.get_by_test_id("webhook-went")).to_have_text(re.compile("^Last: delivered"), timeout=WAIT)
            got = (await receiver.until(3))[2]
            assert Webhook(secret).verify(got.body, got.headers)["type"] == "ping"
            await hook.get_by_test_id("webhook-deliveries").click()
            await expect(page.get_by_test_id("delivery-row")).to_have_count(1)
            # Axe is brought into the page, which its policy forbids.
            state = await context.storage_state()
            open_to_axe = await chromium.new_context(bypass_csp=True, storage_state=state)
            other = await open_to_axe.new_page()
            await other.goto(f"{program.url}/#/settings")
            await other.get_by_test_id("webhook-deliveries").click(timeout=WAIT)
            await expect(other.get_by_test_id("delivery-row")).to_have_count(1)
            assert await faults(other, "settings") == []
            await open_to_axe.close()
            await page.get_by_test_id("notifier-remove").click()
            await expect(page.get_by_test_id("notifier-row")).to_have_count(0)
            await expect(page.get_by_test_id("push-on")).to_be_visible()
            assert troubles == []
            await context.close()
