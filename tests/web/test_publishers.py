"""Publishers that sign: botocore, unmodified, and frames signed as other SDKs do it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio
import websockets
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.httpsession import URLLib3Session

from pilothouse.core import bearer
from pilothouse.core.access import SCOPES
from pilothouse.web.front import Front
from tests.core.signing import signed
from tests.web.serving import Served, serving
from tests.web.test_realtime import DENIED, Client, client, offered

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served() -> AsyncIterator[Served]:
    async with serving() as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pair(served: Served) -> tuple[str, str]:
    record, secret = await served.platform.pairs.create("publisher", SCOPES, account="local")
    return record.id, secret.secret_access_key


def post(served: Served, pair: tuple[str, str], service: str = "appsync", **changes: Any) -> tuple[int, Any]:
    """As people's publishers do it."""
    said = {"channel": "/default/jobs", "events": [json.dumps({"type": "stream", "text": "héllo ✓"})]} | changes
    request = AWSRequest(
        "POST", f"{served.url}/event", data=json.dumps(said), headers={"content-type": "application/json"}
    )
    SigV4Auth(Credentials(*pair), service, "ap-northeast-1").add_auth(request)
    answer = URLLib3Session().send(request.prepare())
    return answer.status_code, json.loads(answer.content)


async def test_botocore_publishes(served: Served, pair: tuple[str, str]) -> None:
    async with client(served) as one:
        await one.subscribe("s", "default/jobs")
        status, answer = await asyncio.to_thread(post, served, pair)
        assert (status, answer["failed"], len(answer["successful"])) == (200, [], 1)
        assert json.loads((await one.hear())["event"]) == {"type": "stream", "text": "héllo ✓"}


async def test_a_signature_for_something_else_is_none(served: Served, pair: tuple[str, str]) -> None:
    for status, answer in (
        await asyncio.to_thread(post, served, pair, "bedrock-agentcore"),
        await asyncio.to_thread(post, served, (pair[0], "x" * 40)),
        await asyncio.to_thread(post, served, ("PHKAUNKNOWN", pair[1])),
    ):
        assert (status, answer["errors"]) == (401, [DENIED])


def frame(served: Served, pair: tuple[str, str], payload: Any, **how: Any) -> dict[str, str]:
    body = json.dumps(payload, separators=how.pop("separators", (",", ":")), ensure_ascii=False).encode()
    given: dict[str, Any] = {"service": "appsync", "key": pair, "now": time.time()}
    return dict(signed("POST", f"{served.url}/event", body=body, **(given | how)).headers)


async def test_frames_are_signed_each_by_itself(served: Served, pair: tuple[str, str]) -> None:
    """Not as they are written but as an object that is rebuilt; too old, for another channel or text: refused."""
    async with client(served) as one:
        events = ['{"a": "é/✓"}', "1"]
        said = {"channel": "default/x", "events": events}
        for separators in ((",", ":"), (", ", ": ")):
            one.given = frame(served, pair, {"channel": "default/x"}, separators=separators)
            assert (await one.subscribe("s", "default/x"))["type"] == "subscribe_success"
            one.given = frame(served, pair, said, separators=separators)
            await one.say(type="publish", id="p", **said, authorization=one.given)
            kinds = [(await one.hear())["type"] for _ in range(3)]
            assert sorted(kinds) == ["data", "data", "publish_success"]
            await one.ask(type="unsubscribe", id="s")
        for given in (
            frame(served, pair, said, now=time.time() - 400),
            frame(served, pair, said | {"channel": "default/y"}),
            frame(served, pair, said | {"events": ["2"]}),
            frame(served, pair, said, service="bedrock-agentcore"),
            frame(served, (pair[0], "x"), said),
        ):
            assert (await Client(one.socket, given).publish("p", "default/x", *events))["errors"] == [DENIED]


@pytest.mark.parametrize("cut", [True, False])
async def test_below_a_path_of_a_proxy_what_is_signed_is_the_whole_address(cut: bool) -> None:
    """Whether the proxy cuts its path off or not, the client signs what it knows."""
    async with serving(front=Front(base="/sub")) as below:
        record, secret = await below.platform.pairs.create("publisher", SCOPES, account="local")
        pair, here = (record.id, secret.secret_access_key), "" if cut else "/sub"
        given = frame(below, pair, {})
        offer = [f"header-{bearer.encoded(json.dumps(given))}", "aws-appsync-event-ws"]
        place = f"ws://127.0.0.1:{below.port}{here}/event/realtime"
        async with websockets.connect(place, subprotocols=offered(*offer)) as socket:
            one = Client(socket, frame(below, pair, {"channel": "default/x"}))
            assert (await one.subscribe("s", "default/x"))["type"] == "subscribe_success"
            body = json.dumps({"channel": "default/x", "events": ["1"]}).encode()
            how: dict[str, Any] = {"service": "appsync", "key": pair, "now": time.time()}
            headers = dict(signed("POST", f"{below.url}/event", body=body, **how).headers)
            async with httpx.AsyncClient() as http:
                answer = await http.post(f"http://127.0.0.1:{below.port}{here}/event", content=body, headers=headers)
            assert answer.status_code == 200, answer.text
            assert (await one.hear())["event"] == "1"
