"""Webhooks and notifications over HTTP: real requests to a real receiver, verified by a library that is not ours."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec
from standardwebhooks.webhooks import Webhook

from pilothouse.adapters.outgoing import push
from pilothouse.core import link
from pilothouse.core.access import Scope
from pilothouse.web.guard import COOKIE
from tests.adapters.outgoing.test_push import public
from tests.receiver import Receiver, receiving
from tests.web.serving import Served, serving


@dataclass
class Both:
    served: Served
    receiver: Receiver
    http: httpx.AsyncClient

    async def webhook(self, **fields: Any) -> dict[str, Any]:
        answer = await self.http.post("/api/webhooks", json={"url": f"{self.receiver.url}/in", **fields})
        assert answer.status_code == 201, answer.text
        made: dict[str, Any] = answer.json()
        return made

    async def until(self, path: str, state: str) -> dict[str, Any]:
        """The newest delivery, once it is so."""
        async with asyncio.timeout(20):
            while True:
                items = (await self.http.get(f"{path}/deliveries")).json()["items"]
                if items and items[0]["state"] == state:
                    newest: dict[str, Any] = items[0]
                    return newest
                await asyncio.sleep(0.01)

    async def signed_in(self) -> httpx.AsyncClient:
        cookie = await self.served.cookie()
        headers = {"cookie": f"{COOKIE}={cookie}", "origin": self.served.url}
        headers["x-csrf-token"] = self.served.identity.csrf(cookie)
        return httpx.AsyncClient(base_url=self.served.url, headers=headers, timeout=20)


async def client(served: Served, *scopes: Scope) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=served.url, headers={"x-api-key": await served.key(*scopes)}, timeout=20)


@pytest.fixture
async def both() -> AsyncIterator[Both]:
    async with receiving() as receiver, serving(private=[receiver.target]) as served, await client(served) as http:
        yield Both(served, receiver, http)


async def job(both: Both) -> dict[str, Any]:
    """One that has ended."""
    session = (await both.http.post("/api/sessions", json={"agent": "echo"})).json()["id"]
    made = (await both.http.post(f"/api/sessions/{session}/jobs", json={"prompt": "Say hello"})).json()
    while session not in both.served.sandboxes.runners:
        await asyncio.sleep(0.005)
    runner = both.served.sandboxes.runners[session]
    await runner.command(link.Prompt)
    runner.say(link.TurnStarted(turn_id=made["id"]))
    runner.end_turn(made["id"])
    ended: dict[str, Any] = made
    return ended


async def test_a_job_s_end_comes_signed_and_its_delivery_can_be_looked_at(both: Both) -> None:
    made = await both.webhook(name="ci", events=["job.completed"])
    ended = await job(both)
    (got,) = await both.receiver.until(1)
    said = Webhook(made["secret"]).verify(got.body, got.headers)
    assert said["type"] == "job.completed"
    assert said["data"]["jobId"] == ended["id"]
    assert said["data"]["sessionTitle"] == "Say hello"
    assert said["data"]["url"] == f"{both.served.url}/#/s/{ended['sessionId']}"
    here = f"/api/webhooks/{made['id']}"
    newest = await both.until(here, "delivered")
    assert newest["id"] == got.headers["webhook-id"]
    assert (newest["status"], newest["attempts"], newest["sessionId"]) == (204, 1, ended["sessionId"])
    shown = (await both.http.get(here)).json()
    assert "secret" not in shown, "it is shown once"
    assert shown["last"] == newest
    assert (await both.http.get("/api/webhooks")).json()["items"] == [shown]
    audit = (await both.http.get("/api/audit")).text
    assert made["secret"] not in audit


async def test_who_named_a_job_hears_of_it_by_that_name(both: Both) -> None:
    await both.webhook(events=["job.completed", "budget.exceeded"])
    session = (await both.http.post("/api/sessions", json={"agent": "echo"})).json()["id"]
    given = {"prompt": "x", "job_id": "build-7", "session_id": session, "max_tokens": 5}
    assert (await both.http.post("/trigger", json=given)).json()["jobId"] == "build-7"
    while session not in both.served.sandboxes.runners:
        await asyncio.sleep(0.005)
    runner = both.served.sandboxes.runners[session]
    turn = await runner.command(link.Prompt)
    runner.end_turn(turn.id, "budget_exceeded", "")
    said = [json.loads(got.body) for got in await both.receiver.until(2)]
    assert {one["type"] for one in said} == {"job.completed", "budget.exceeded"}
    assert {(one["data"]["jobId"], one["data"]["jobName"]) for one in said} == {(turn.id, "build-7")}
    assert [one["data"]["maxTokens"] for one in said if one["type"] == "budget.exceeded"] == [5]


async def test_no_answer_has_the_path_of_an_address(both: Both) -> None:
    made = await both.webhook(name="ci")
    assert made["url"] == f"{both.receiver.url}/…"
    kept = both.served.platform.outgoing.webhooks.get("default", made["id"])
    kept.shown = f"{both.receiver.url}/in?…"  # by a server before this one
    answers = [await both.http.get("/api/webhooks"), await both.http.get(f"/api/webhooks/{made['id']}")]
    answers.append(await both.http.patch(f"/api/webhooks/{made['id']}", json={"name": "x"}))
    assert not [answer.text for answer in answers if f"{both.receiver.url}/in" in answer.text]


async def test_a_secret_is_rotated_a_dead_letter_replayed_a_webhook_removed(both: Both) -> None:
    made = await both.webhook()
    here = f"/api/webhooks/{made['id']}"
    new = (await both.http.post(f"{here}/rotate", json={})).json()["secret"]
    both.receiver.answer = lambda got: web.Response(status=410)
    assert (await both.http.post(f"{here}/ping")).status_code == 202
    (got,) = await both.receiver.until(1)
    for secret in (made["secret"], new):
        assert Webhook(secret).verify(got.body, got.headers)["type"] == "ping"
    dead = await both.until(here, "dead")
    async with asyncio.timeout(20):
        while (shown := (await both.http.get(here)).json())["enabled"]:
            await asyncio.sleep(0.01)
    assert shown["disabledBecause"] == "its receiver answered 410 (gone)"
    assert shown["dead"] == 1
    for path in ("ping", "replay", f"deliveries/{dead['id']}/replay"):
        refused = await both.http.post(f"{here}/{path}")
        assert (refused.status_code, refused.json()["code"], "disabled" in refused.json()["detail"]) == (
            409, "conflict", True
        )  # fmt: skip
    assert (await both.http.get(f"{here}/deliveries?state=dead")).json()["items"] == [dead]
    both.receiver.answer = lambda got: web.Response(status=200)
    assert (await both.http.patch(here, json={"enabled": True})).json()["enabled"] is True
    assert (await both.http.get(f"{here}/deliveries?state=dead")).json()["items"] == [dead]
    assert (await both.http.post(f"{here}/replay")).json() == {"replayed": 1}
    await both.until(here, "delivered")
    assert [got.headers["webhook-id"] for got in both.receiver.got] == [dead["id"]] * 2
    again = await both.http.post(f"{here}/deliveries/{dead['id']}/replay")
    assert again.json()["state"] == "pending"
    await both.receiver.until(3)
    assert (await both.http.delete(here)).status_code == 204
    for path in (here, f"{here}/deliveries", f"{here}/deliveries?state=dead"):
        assert (await both.http.get(path)).status_code == 404


async def test_c31_a_receiver_that_points_inside_leads_nowhere(both: Both) -> None:
    made = await both.webhook()
    inside = {"location": "http://169.254.169.254/latest/meta-data/iam/security-credentials/"}
    both.receiver.answer = lambda got: web.Response(status=307, headers=inside)
    await both.http.post(f"/api/webhooks/{made['id']}/ping")
    await both.receiver.until(1)
    async with asyncio.timeout(20):
        while not (last := (await both.http.get(f"/api/webhooks/{made['id']}")).json()["last"])["attempts"]:
            await asyncio.sleep(0.01)
    assert last["error"] == "It answered 307: redirects are not followed."
    assert last["state"] == "pending"
    assert "nextAttemptAt" in last


@pytest.mark.parametrize(("body", "said"), [
    ({}, "url"), ({"url": 5}, "url"), ({"url": "http://example.com/"}, "url: must be https"),
    ({"url": "https://169.254.169.254/"}, "url: 169.254.169.254 does not lead to a public address; "),
    ({"url": "https://localhost/"}, "url: localhost does not lead"), ({"url": "https://localhost:1/#"}, "url: without"),
    ({"url": "https://example.com/", "events": []}, "events: "),
    ({"url": "https://example.com/", "events": ["ping"]}, "events: 'ping'"),
    ({"url": "https://example.com/", "name": ""}, "name: "), ({"url": "https://example.com/", "secret": "x"}, "secret"),
])  # fmt: skip
async def test_bad_ones_are_named(both: Both, body: dict[str, Any], said: str) -> None:
    answer = await both.http.post("/api/webhooks", json=body)
    assert answer.status_code == 400
    assert said in answer.json()["detail"]
    assert (await both.http.get("/api/webhooks")).json()["items"] == []


async def test_an_address_of_this_machine_is_refused_in_the_words_of_its_delivery(both: Both) -> None:
    """As soon as it is said, with nobody asked for the name: also of a change, and of a person's own."""
    made = await both.webhook()
    said = "url: localhost does not lead to a public address; webhooks.allow_private lists those that may"
    url = "https://localhost/services/T/B/x"
    async with await both.signed_in() as http:
        answers = [
            await both.http.patch(f"/api/webhooks/{made['id']}", json={"url": url}),
            await http.post("/api/notifications", json={"kind": "slack", "url": url}),
        ]
        assert [(answer.status_code, said in answer.json()["detail"]) for answer in answers] == [(400, True)] * 2
        assert (await http.get("/api/notifications")).json()["items"] == []
    assert (await both.http.get(f"/api/webhooks/{made['id']}")).json()["url"] == f"{both.receiver.url}/…"


async def test_bad_questions_are_named(both: Both) -> None:
    made = await both.webhook()
    here = f"/api/webhooks/{made['id']}"
    assert "state: 'odd'" in (await both.http.get(f"{here}/deliveries?state=odd")).json()["detail"]
    assert (await both.http.post(f"{here}/deliveries/msg_x/replay")).status_code == 404
    assert (await both.http.post(f"{here}/deliveries/{'%00'}/replay")).status_code == 404
    assert "graceS" in (await both.http.post(f"{here}/rotate", json={"graceS": -1})).json()["detail"]
    assert (await both.http.patch(here, json={"more": 1})).status_code == 400
    assert (await both.http.get("/api/webhooks/none")).status_code == 404


# --- notifications ---


async def test_a_browser_subscribes_is_told_and_says_that_it_is_gone(both: Both) -> None:
    async with await both.signed_in() as http:
        key = (await http.get("/api/notifications/key")).json()["publicKey"]
        browser = ec.generate_private_key(ec.SECP256R1())
        keys = {"p256dh": public(browser), "auth": push.encoded(bytes(16))}
        url = f"{both.receiver.url}/push/abc?secret"
        wish = {"kind": "push", "url": url, "keys": keys, "name": "Laptop"}
        made = await http.post("/api/notifications", json=wish)
        assert made.status_code == 201, made.text
        assert made.json()["current"] is True
        assert "secret" not in made.text
        here = f"/api/notifications/{made.json()['id']}"
        assert (await http.post(f"{here}/test")).status_code == 202
        (got,) = await both.receiver.until(1)
        assert got.headers["authorization"].endswith(f",k={key}")
        assert got.headers["content-encoding"] == "aes128gcm"
        assert got.headers["urgency"] == "high"
        async with asyncio.timeout(20):
            while (await http.get(here + "/deliveries")).json()["items"][0]["state"] != "delivered":
                await asyncio.sleep(0.01)
        both.receiver.answer = lambda got: web.Response(status=404)
        await http.post(f"{here}/test")
        async with asyncio.timeout(20):
            while (await http.get("/api/notifications")).json()["items"]:
                await asyncio.sleep(0.01)


async def test_slack_gets_text_and_the_page_is_told_what_failed(both: Both) -> None:
    async with await both.signed_in() as http:
        wish = {"kind": "slack", "url": f"{both.receiver.url}/services/T/B/x", "events": ["job"]}
        made = (await http.post("/api/notifications", json=wish)).json()
        assert made["to"] == both.receiver.url
        await job(both)
        (got,) = await both.receiver.until(1)
        text = json.loads(got.body)["text"]
        assert text.startswith("*Job done* in Say hello\n<")
        both.receiver.answer = lambda got: web.Response(status=403, text="invalid_token")
        await http.post(f"/api/notifications/{made['id']}/test")
        async with asyncio.timeout(20):
            while (last := (await http.get("/api/notifications")).json()["items"][0]["last"])["state"] != "dead":
                await asyncio.sleep(0.01)
        assert last["error"] == "It answered 403."
        changed = await http.patch(f"/api/notifications/{made['id']}", json={"enabled": False, "sessions": "all"})
        assert (changed.json()["enabled"], changed.json()["sessions"]) == (False, "all")
        assert (await http.post(f"/api/notifications/{made['id']}/test")).status_code == 409
        assert (await http.delete(f"/api/notifications/{made['id']}")).status_code == 204


async def test_a_key_has_no_notifications(both: Both) -> None:
    async with await client(both.served, "read", "run", "approve") as http:
        wish = {"kind": "slack", "url": f"{both.receiver.url}/"}
        assert (await http.post("/api/notifications", json=wish)).status_code == 403
        assert (await http.get("/api/notifications")).status_code == 403
    keys = {"p256dh": "x", "auth": "x"}
    for body, status in (
        ({"kind": "push", "url": "https://push.example/"}, 400),
        ({"kind": "slack", "url": "https://slack.example/", "keys": keys}, 400),
        ({"kind": "mail", "url": "https://slack.example/"}, 400),
        ({"kind": "push", "url": "https://push.example/", "keys": keys}, 409),
    ):
        assert (await both.http.post("/api/notifications", json=body)).status_code == status


async def test_the_page_s_worker_is_served_as_a_script(both: Both) -> None:
    answer = await both.http.get("/sw.js")
    if answer.status_code == 404:
        pytest.skip("the page is not built: run `make page`")
    assert answer.headers["content-type"].startswith("text/javascript")
    assert "immutable" not in answer.headers["cache-control"], "or a browser would keep an old one"
