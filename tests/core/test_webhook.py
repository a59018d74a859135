"""What is signed verifies with a library that is not ours; what is no address is refused by name."""

from __future__ import annotations

import time

import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from pilothouse.core import webhook
from pilothouse.core.backoff import NOTICE, WEBHOOK, retry_after
from pilothouse.core.errors import BadRequest
from pilothouse.core.reach import Target

NOW = 1_800_000_000.0


def test_the_signature_is_that_of_standard_webhooks() -> None:
    old, new, other = (webhook.secret(bytes([n]) * 32) for n in range(3))
    body = webhook.body(webhook.Ping(webhook_id="w", name='"é\u2028'), "2026-11-21T09:02:52.339Z")
    headers = webhook.headers([new, old], "msg_1", int(time.time()), body)
    for secret in (old, new):
        assert Webhook(secret).verify(body, headers)["data"] == {"webhookId": "w", "name": '"é\u2028'}
    with pytest.raises(WebhookVerificationError):
        Webhook(other).verify(body, headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(new).verify(body + b" ", headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(new).verify(body, {**headers, "webhook-id": "msg_2"})
    with pytest.raises(WebhookVerificationError):
        Webhook(new).verify(body, webhook.headers([new], "msg_1", int(time.time()) - 600, body))


def test_an_id_is_that_of_one_event_and_one_target() -> None:
    one = webhook.message_id("t", "s", 1, "job.completed", NOW)
    assert one == webhook.message_id("t", "s", 1, "job.completed", NOW)
    others = {
        webhook.message_id("u", "s", 1, "job.completed", NOW),
        webhook.message_id("t", "r", 1, "job.completed", NOW),
        webhook.message_id("t", "s", 2, "job.completed", NOW),
        webhook.message_id("t", "s", 1, "budget.exceeded", NOW),
    }
    assert len({one, *others}) == 5
    assert one < webhook.message_id("a", "a", 0, "a", NOW + 1), "they are in the order of events"


@pytest.mark.parametrize(("url", "said"), [
    ("", "https:// and a host"), ("example.com/x", "https:// and a host"), ("https://", "host"),
    ("http://example.com/", "https"), ("ftp://example.com/", "https"), ("https://a:b@example.com/", "password"),
    ("https://example.com/#x", "fragment"), ("https://example.com/ x", "spaces"), ("https://exämple.com/", "ASCII"),
    ("https://example.com/\n", "ASCII"), ("https://example.com\\@10.0.0.1/", "backslash"),
    ("https://127.0.0.1/", "public"), ("https://[::1]/", "public"), ("https://169.254.169.254/", "public"),
    ("https://localhost/x", "^url: localhost does not lead to a public address; webhooks.allow_private "),
    ("https://LocalHost.:8443/", "localhost does not"), ("https://a.localhost/", "a.localhost does not"),
    ("https://localhost.localdomain/", "public"), ("https://10.0.0.7:8443/", "10.0.0.7 does not lead to a public"),
    ("https://[::ffff:192.168.0.1]/", "public"),
    ("https://2130706433/", "address"), ("https://example.com:0/", "url"), ("https://example.com:99999/", "url"),
    ("https://example.com/" + "x" * 3000, "2048"), ("https://a..b/", "url"), ("https://[::1%25eth0]/", "url"),
])  # fmt: skip
def test_what_is_no_address_is_refused(url: str, said: str) -> None:
    with pytest.raises(BadRequest, match=said) as refused:
        webhook.check_url(url)
    assert refused.value.message.startswith("url: ")


def test_one_s_own_are_allowed_where_they_are_listed() -> None:
    mine = [Target("127.0.0.1", 9000), Target("build.internal", 443), Target("localhost", 9000)]
    own = ("http://127.0.0.1:9000/x?y", "https://127.0.0.1:9000/", "https://Build.Internal/", "http://LocalHost:9000")
    for url in (*own, "https://localhosts/", "https://localhost.example/"):
        assert webhook.check_url(url, mine) == url
    for url in ("http://127.0.0.1:9001/", "http://127.0.0.1/", "http://build.internal/", "https://localhost/"):
        with pytest.raises(BadRequest):
            webhook.check_url(url, mine)


@pytest.mark.parametrize(("url", "shown"), [
    ("https://hooks.slack.example/services/T0/B0/hidden", "https://hooks.slack.example/…"),
    ("https://ci.example:8443/hook?token=hidden", "https://ci.example:8443/…"),
    ("https://ci.example?hidden", "https://ci.example/…"), ("https://[2001:db8::1]/?hidden", "https://[2001:db8::1]/…"),
    ("https://ci.example/hidden?…", "https://ci.example/…"), ("https://ci.example/", "https://ci.example/"),
    ("https://ci.example", "https://ci.example"),
])  # fmt: skip
def test_an_address_is_shown_without_what_may_be_a_secret(url: str, shown: str) -> None:
    assert webhook.shown(url) == shown
    assert webhook.shown(shown) == shown


def test_events_are_named() -> None:
    assert webhook.check_events(["budget.exceeded", "job.completed", "job.completed"]) == [
        "job.completed",
        "budget.exceeded",
    ]
    for bad in (["job.done"], [], ["ping"]):
        with pytest.raises(BadRequest, match="events: "):
            webhook.check_events(bad)


def test_pauses_grow_and_end() -> None:
    longest = [WEBHOOK.pause(n, 1.0) for n in range(1, 11)]
    assert longest == [5, 20, 80, 320, 1280, 5120, 20480, 21600, 21600, None]
    assert [WEBHOOK.pause(n, 0.0) for n in (1, 2)] == [2.5, 10], "half of it by chance"
    assert WEBHOOK.pause(1, 0.5, 60.0) == 60, "the receiver's wish counts"
    assert WEBHOOK.pause(5, 1.0, 60.0) == 1280, "and makes nothing shorter"
    assert WEBHOOK.pause(10, 0.5, 60.0) is None
    assert NOTICE.pause(5, 1.0) is None


@pytest.mark.parametrize(("text", "seconds"), [
    ("120", 120.0), (" 0 ", 0.0), ("999999999999999999999", 86_400.0), ("-1", None), ("soon", None), ("", None),
    ("1e3", None), ("Fri, 15 Jan 2027 08:01:40 GMT", 100.0), ("Fri, 15 Jan 2021 08:00:00 GMT", 0.0), ("٣", None),
    ("Fri, 99 Jan 2027 08:01:40 GMT", None),
])  # fmt: skip
def test_retry_after_is_seconds_or_a_date(text: str, seconds: float | None) -> None:
    assert retry_after(text, NOW) == seconds
