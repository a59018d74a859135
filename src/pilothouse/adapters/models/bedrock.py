"""Amazon Bedrock: the Messages wire translated to `InvokeModel`, signed with the AWS credential chain.

    POST /v1/messages  stream        -> POST /model/{id}/invoke-with-response-stream   event stream -> SSE
    POST /v1/messages                -> POST /model/{id}/invoke                        the body is the message
    POST /v1/messages/count_tokens   -> POST /model/{id}/count-tokens
    GET  /v1/models                  -> answered here: the default model

The body loses `model` and `stream` and gains `anthropic_version` and `anthropic_beta` (the header's values that Bedrock
knows; it refuses a request that has others).
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any
from urllib.parse import quote, urlsplit

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.exceptions import BotoCoreError
from botocore.session import Session

from pilothouse.adapters.models.http import Client, Limits
from pilothouse.core import eventstream
from pilothouse.core.prices import Price, price_of
from pilothouse.engine.upstream import Answer, ModelSettings, Request, UpstreamCut, UpstreamFailed

DEFAULT_MODEL = "claude-sonnet-4-5-20250929"
VERSION = "bedrock-2023-05-31"
ERROR_MAX = 64 * 1024
"""Of an error's body."""
BETAS = frozenset(
    {
        "computer-use-2025-01-24",
        "context-1m-2025-08-07",
        "context-management-2025-06-27",
        "fine-grained-tool-streaming-2025-05-14",
        "interleaved-thinking-2025-05-14",
        "token-efficient-tools-2025-02-19",
        "tool-search-tool-2025-10-19",
    }
)
_DATED = re.compile(r"-20\d{6}$")
_DATES = {"claude-sonnet-4-5": "20250929", "claude-haiku-4-5": "20251001", "claude-opus-4-5": "20251101"}
_GEOGRAPHIES = {"us": "us", "eu": "eu", "ap": "apac"}
_THROTTLED = {"throttlingException": 429, "serviceUnavailableException": 529, "modelTimeoutException": 504}


def model_id(model: str, settings: ModelSettings) -> str:
    """The agent's name of a model as Bedrock knows it: the inference profile of the region's geography."""
    if given := settings.model_ids.get(model):
        return given
    if "anthropic." in model or model.startswith("arn:"):
        return model
    if not _DATED.search(model) and (date := _DATES.get(model)):
        model = f"{model}-{date}"
    geography = _GEOGRAPHIES.get(settings.aws_region.split("-")[0], "global")
    return f"{geography}.anthropic.{model}" + ("-v1:0" if _DATED.search(model) else "")


def found(settings: ModelSettings) -> bool:
    """Asked for by region and by a credential that is named; the rest of the chain is tried when it is chosen."""
    env = settings.aws_environment
    named = ("AWS_ACCESS_KEY_ID", "AWS_BEARER_TOKEN_BEDROCK", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE")
    return bool(settings.aws_region and (settings.aws_profile or any(env.get(name) for name in named)))


class Bedrock:
    label = "Amazon Bedrock"
    provider = "bedrock"
    demo = False

    def __init__(self, settings: ModelSettings, limits: Limits | None = None) -> None:
        self._settings = settings
        self._region = settings.aws_region or "us-east-1"
        self._base = (settings.base_url or f"https://bedrock-runtime.{self._region}.amazonaws.com").rstrip("/")
        self._client = Client(limits or Limits())
        self.model = settings.model or DEFAULT_MODEL
        self._session: Session | None = None

    def price(self, model: str) -> Price:
        return price_of(model_id(model, self._settings))

    async def ready(self) -> str:
        try:
            await self._signed("GET", f"{self._base}/", b"")
        except UpstreamFailed as error:
            return str(error)
        return ""

    def call(self, request: Request) -> AbstractAsyncContextManager[Answer]:
        return self._call(request)

    @asynccontextmanager
    async def _call(self, request: Request) -> AsyncIterator[Answer]:
        path = urlsplit(request.path).path
        if path == "/v1/models":
            yield _json(200, {"data": [{"type": "model", "id": self.model}], "has_more": False})
            return
        body = json.loads(request.body)
        place = f"{self._base}/model/{quote(model_id(str(body.get('model', '')), self._settings), safe='')}"
        streamed = body.get("stream") is True
        payload = _payload(body, request.headers.get("anthropic-beta", ""))
        if path == "/v1/messages/count_tokens":
            verb = "count-tokens"
            payload.setdefault("max_tokens", 1)
            wrapped = {"input": {"invokeModel": {"body": base64.b64encode(json.dumps(payload).encode()).decode()}}}
            data = json.dumps(wrapped).encode()
        else:
            verb = "invoke-with-response-stream" if streamed else "invoke"
            data = json.dumps(payload).encode()
        headers = await self._signed("POST", f"{place}/{verb}", data)
        async with self._client.send("POST", f"{place}/{verb}", headers, data) as answer:
            if answer.status != 200:
                yield await _refused(answer)
            elif verb == "count-tokens":
                counted = json.loads(await _whole(answer))
                yield _json(200, {"input_tokens": counted.get("inputTokens", 0)})
            elif streamed:
                yield Answer(200, {"content-type": "text/event-stream"}, _events(answer))
            else:
                yield answer

    async def _signed(self, method: str, url: str, data: bytes) -> dict[str, str]:
        """Looking for credentials may ask files, other programs or the network: not on the event loop."""
        return await asyncio.to_thread(self._sign, method, url, data)

    def _sign(self, method: str, url: str, data: bytes) -> dict[str, str]:
        headers = {"content-type": "application/json", "accept": "*/*", "accept-encoding": "identity"}
        env = self._settings.aws_environment
        if bearer := env.get("AWS_BEARER_TOKEN_BEDROCK"):
            return headers | {"authorization": f"Bearer {bearer}"}
        try:
            if self._session is None:
                self._session = self._chain()
            credentials = self._session.get_credentials()
            if credentials is None:
                raise UpstreamFailed("No AWS credentials were found for Amazon Bedrock.", 401)
            signed = AWSRequest(method, url, data=data, headers={"content-type": "application/json"})
            SigV4Auth(credentials.get_frozen_credentials(), "bedrock", self._region).add_auth(signed)
        except BotoCoreError as error:
            raise UpstreamFailed(f"AWS credentials for Amazon Bedrock: {error}", 401) from None
        return headers | {name.lower(): value for name, value in signed.headers.items()}

    def _chain(self) -> Session:
        env = self._settings.aws_environment
        session = Session(profile=self._settings.aws_profile or env.get("AWS_PROFILE") or None)
        files = (("config_file", "AWS_CONFIG_FILE"), ("credentials_file", "AWS_SHARED_CREDENTIALS_FILE"))
        for name, variable in files:
            if env.get(variable):
                session.set_config_variable(name, env[variable])
        if env.get("AWS_ACCESS_KEY_ID") and not self._settings.aws_profile:
            key, secret = env["AWS_ACCESS_KEY_ID"], env.get("AWS_SECRET_ACCESS_KEY", "")
            session.set_credentials(key, secret, env.get("AWS_SESSION_TOKEN"))
        return session

    async def close(self) -> None:
        await self._client.close()


def _payload(body: dict[str, Any], betas: str) -> dict[str, Any]:
    payload = {name: value for name, value in body.items() if name not in ("model", "stream")}
    payload["anthropic_version"] = VERSION
    if known := [b for b in (word.strip() for word in betas.split(",")) if b in BETAS]:
        payload["anthropic_beta"] = known
    return payload


def _json(status: int, body: dict[str, Any]) -> Answer:
    async def once() -> AsyncIterator[bytes]:
        yield json.dumps(body).encode()

    return Answer(status, {"content-type": "application/json"}, once())


async def _whole(answer: Answer) -> bytes:
    data = bytearray()
    async for piece in answer.body:
        data += piece
        if len(data) > ERROR_MAX:
            break
    return bytes(data[:ERROR_MAX])


async def _refused(answer: Answer) -> Answer:
    """A refusal in the words of the wire that the agent knows."""
    text = (await _whole(answer)).decode(errors="replace")
    with suppress(ValueError, AttributeError):
        text = str(json.loads(text).get("message") or text)
    status = 529 if answer.status == 503 else answer.status
    return _json(status, _error(status, f"Amazon Bedrock: {text}"))


def _error(status: int, text: str) -> dict[str, Any]:
    kinds = {429: "rate_limit_error", 529: "overloaded_error", 403: "permission_error", 401: "authentication_error"}
    kind = kinds.get(status, "invalid_request_error" if status < 500 else "api_error")
    return {"type": "error", "error": {"type": kind, "message": text}}


async def _events(answer: Answer) -> AsyncIterator[bytes]:
    decoder = eventstream.Decoder()
    async for piece in answer.body:
        try:
            messages = decoder.feed(piece)
        except eventstream.Broken as error:
            raise UpstreamCut(f"Amazon Bedrock's stream: {error}") from None
        for message in messages:
            yield _event(message)


def _event(message: eventstream.Message) -> bytes:
    failed = message.headers.get(":exception-type") or message.headers.get(":error-code")
    if failed:
        text = message.payload[:ERROR_MAX].decode(errors="replace")
        return (
            b"event: error\ndata: %b\n\n"
            % json.dumps(_error(_THROTTLED.get(failed, 500), f"{failed}: {text}")).encode()
        )
    try:
        data = base64.b64decode(json.loads(message.payload)["bytes"])
        kind = str(json.loads(data)["type"])
    except (ValueError, KeyError, TypeError):
        raise UpstreamCut("Amazon Bedrock's stream: an event that is none") from None
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), data)
