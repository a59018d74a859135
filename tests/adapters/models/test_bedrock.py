"""Amazon Bedrock against an endpoint that checks every signature with botocore."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import unquote

import pytest
from aiohttp import web
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.eventstream import EventStreamBuffer
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.adapters.models.bedrock import Bedrock, found, model_id
from pilothouse.core import eventstream
from pilothouse.core.metering import Meter
from pilothouse.engine.upstream import ModelSettings, Request, UpstreamCut, UpstreamFailed
from tests.adapters.models.frames import chunk, frame
from tests.adapters.models.serving import serving

KEYS = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"}
EVENTS: list[dict[str, Any]] = [
    {"type": "message_start", "message": {"usage": {"input_tokens": 5, "output_tokens": 1}}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "grüezi"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 7}},
    {"type": "message_stop"},
]


class Endpoint:
    """Remembers what it was asked; `mode` says what goes wrong."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.mode = ""

    def application(self) -> web.Application:
        app = web.Application()
        app.router.add_route("*", "/{rest:.*}", self.handle)
        return app

    async def handle(self, request: web.Request) -> web.StreamResponse:
        data = await request.read()
        if request.headers["authorization"] != "Bearer token" and not signed(request, data):
            return web.json_response({"message": "The signature does not match"}, status=403)
        self.asked.append((unquote(request.raw_path), json.loads(data)))
        if self.mode.isdigit():
            return web.json_response({"message": "no"}, status=int(self.mode))
        if request.raw_path.endswith("/invoke"):
            return web.json_response({"type": "message", "usage": {"input_tokens": 3, "output_tokens": 4}})
        if request.raw_path.endswith("/count-tokens"):
            return web.json_response({"inputTokens": 42})
        stream = b"".join(chunk(event) for event in EVENTS)
        if self.mode == "throttled":
            stream = chunk(EVENTS[0]) + frame({":message-type": "exception", ":exception-type": "throttlingException"})
        if self.mode == "broken":
            stream = stream[:60] + b"\0" + stream[61:]
        return web.Response(body=stream, headers={"content-type": "application/vnd.amazon.eventstream"})


def signed(request: web.Request, data: bytes) -> bool:
    """Signs what came with the secret known here, at the time that it names, and compares."""
    names = request.headers["authorization"].partition("SignedHeaders=")[2].partition(",")[0].split(";")
    headers = {name: request.headers[name] for name in names if name not in ("host", "x-amz-date")}
    url = f"http://{request.headers['host']}{request.raw_path}"
    again = AWSRequest(request.method, url, data=data, headers=headers)
    again.context["timestamp"] = request.headers["x-amz-date"]
    auth = SigV4Auth(Credentials(KEYS["AWS_ACCESS_KEY_ID"], KEYS["AWS_SECRET_ACCESS_KEY"]), "bedrock", "eu-west-1")
    again.headers["X-Amz-Date"] = request.headers["x-amz-date"]
    text = auth.string_to_sign(again, auth.canonical_request(again))
    return request.headers["authorization"].endswith("Signature=" + auth.signature(text, again))


@pytest.fixture
async def endpoint() -> AsyncIterator[tuple[Endpoint, str]]:
    made = Endpoint()
    async with serving(made.application()) as url:
        yield made, url


def bedrock(url: str, env: Mapping[str, str] = KEYS) -> Bedrock:
    return Bedrock(ModelSettings(provider="bedrock", base_url=url, aws_region="eu-west-1", aws_environment=env))


async def call(upstream: Bedrock, path: str = "/v1/messages", **body: Any) -> tuple[int, bytes]:
    given = {"model": "claude-sonnet-4-5", "max_tokens": 3, "messages": [], **body}
    headers = {"anthropic-beta": "claude-code-20250219, interleaved-thinking-2025-05-14"}
    try:
        async with upstream.call(Request("POST", path, headers, json.dumps(given).encode())) as answer:
            return answer.status, b"".join([piece async for piece in answer.body])
    finally:
        await upstream.close()


async def test_a_stream_is_signed_and_translated(endpoint: tuple[Endpoint, str]) -> None:
    status, data = await call(bedrock(endpoint[1]), stream=True)
    assert status == 200
    assert [json.loads(line[5:]) for line in data.splitlines() if line.startswith(b"data:")] == EVENTS
    path, body = endpoint[0].asked[0]
    assert path == "/model/eu.anthropic.claude-sonnet-4-5-20250929-v1:0/invoke-with-response-stream"
    assert body["anthropic_version"] == "bedrock-2023-05-31"
    assert body["anthropic_beta"] == ["interleaved-thinking-2025-05-14"]
    assert not {"model", "stream"} & body.keys()
    meter = Meter(streamed=True)
    meter.feed(data)
    assert (meter.tokens.input, meter.tokens.output, meter.finished) == (5, 7, True)


async def test_whole_answers_and_counts(endpoint: tuple[Endpoint, str]) -> None:
    status, data = await call(bedrock(endpoint[1]))
    assert (status, json.loads(data)["usage"]["output_tokens"]) == (200, 4)
    status, data = await call(bedrock(endpoint[1]), "/v1/messages/count_tokens")
    assert (status, json.loads(data)) == (200, {"input_tokens": 42})
    inner = json.loads(base64.b64decode(endpoint[0].asked[1][1]["input"]["invokeModel"]["body"]))
    assert inner["anthropic_version"] == "bedrock-2023-05-31"


async def test_a_wrong_secret_is_refused_by_the_check_itself(endpoint: tuple[Endpoint, str]) -> None:
    wrong = {**KEYS, "AWS_SECRET_ACCESS_KEY": "wrong"}
    status, data = await call(bedrock(endpoint[1], wrong))
    assert (status, json.loads(data)["error"]["type"]) == (403, "permission_error")


async def test_a_bearer_token_is_used_as_it_is(endpoint: tuple[Endpoint, str]) -> None:
    assert (await call(bedrock(endpoint[1], {"AWS_BEARER_TOKEN_BEDROCK": "token"})))[0] == 200


@pytest.mark.parametrize(("mode", "status"), [("429", 429), ("503", 529), ("400", 400)])
async def test_refusals_have_the_words_of_the_messages_api(
    endpoint: tuple[Endpoint, str], mode: str, status: int
) -> None:
    endpoint[0].mode = mode
    got, data = await call(bedrock(endpoint[1]), stream=True)
    assert (got, json.loads(data)["type"]) == (status, "error")


async def test_a_failure_inside_the_stream_is_an_error_event(endpoint: tuple[Endpoint, str]) -> None:
    endpoint[0].mode = "throttled"
    _, data = await call(bedrock(endpoint[1]), stream=True)
    last = json.loads(data.rstrip().rpartition(b"data: ")[2])
    assert (last["type"], last["error"]["type"]) == ("error", "rate_limit_error")


async def test_a_broken_stream_is_a_cut(endpoint: tuple[Endpoint, str]) -> None:
    endpoint[0].mode = "broken"
    with pytest.raises(UpstreamCut, match="checksum"):
        await call(bedrock(endpoint[1]), stream=True)


async def test_without_credentials_it_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    empty = {"AWS_CONFIG_FILE": str(tmp_path / "a"), "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "b")}
    for name in ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"):
        monkeypatch.delenv(name, raising=False)
    upstream = bedrock("http://127.0.0.1:9", empty)
    assert await upstream.ready() == "No AWS credentials were found for Amazon Bedrock."
    with pytest.raises(UpstreamFailed):
        await call(upstream)


def test_model_ids() -> None:
    us, eu = ModelSettings(aws_region="us-east-1"), ModelSettings(aws_region="eu-central-1", model_ids={"x": "arn:y"})
    assert model_id("claude-haiku-4-5", us) == "us.anthropic.claude-haiku-4-5-20251001-v1:0"
    assert model_id("eu.anthropic.z-v1:0", us) == "eu.anthropic.z-v1:0"
    assert model_id("x", eu) == "arn:y"
    assert not found(us)
    assert found(ModelSettings(aws_region="us-east-1", aws_profile="work"))


@given(st.lists(st.tuples(st.dictionaries(st.text("abc:-", min_size=1, max_size=9), st.text(max_size=9)), st.binary())))
def test_the_decoder_agrees_with_botocore(messages: list[tuple[dict[str, str], bytes]]) -> None:
    data = b"".join(frame(headers, payload) for headers, payload in messages)
    theirs = EventStreamBuffer()
    theirs.add_data(data)
    decoder = eventstream.Decoder()
    ours = [message for at in range(0, len(data), 7) for message in decoder.feed(data[at : at + 7])]
    assert [(m.headers, m.payload) for m in ours] == [(m.headers, m.payload) for m in theirs]


@given(st.binary(max_size=300))
def test_bytes_that_are_none_are_refused_or_waited_for(data: bytes) -> None:
    with suppress(eventstream.Broken):
        assert isinstance(eventstream.Decoder().feed(data), list)
