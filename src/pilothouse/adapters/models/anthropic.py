"""The Anthropic API, or any endpoint that speaks it: the request as it came, with our credential."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from urllib.parse import urlsplit

from pilothouse.adapters.models.http import Client, Limits
from pilothouse.core.prices import Price, price_of
from pilothouse.engine.upstream import Answer, ModelSettings, Request

BASE_URL = "https://api.anthropic.com"
DEFAULT_MODEL = "claude-sonnet-4-5"
VERSION = "2023-06-01"


class Anthropic:
    provider = "anthropic"
    demo = False

    def __init__(self, settings: ModelSettings, limits: Limits | None = None) -> None:
        self._settings = settings
        self._base = (settings.base_url or BASE_URL).rstrip("/")
        self._client = Client(limits or Limits())
        self.label = "Anthropic API" if not settings.base_url else f"Anthropic-compatible endpoint {_host(self._base)}"
        self.model = settings.model or DEFAULT_MODEL

    def price(self, model: str) -> Price:
        return price_of(model)

    async def ready(self) -> str:
        if self._settings.api_key or self._settings.auth_token:
            return ""
        return "No credential for the Anthropic API: set ANTHROPIC_API_KEY or ANTHROPIC_AUTH_TOKEN."

    def call(self, request: Request) -> AbstractAsyncContextManager[Answer]:
        headers = {"anthropic-version": VERSION, **request.headers, "accept-encoding": "identity"}
        if self._settings.api_key:
            headers["x-api-key"] = self._settings.api_key
        if self._settings.auth_token:
            headers["authorization"] = f"Bearer {self._settings.auth_token}"
        return self._client.send(request.method, self._base + request.path, headers, request.body)

    async def close(self) -> None:
        await self._client.close()


def found(settings: ModelSettings) -> bool:
    return bool(settings.api_key or settings.auth_token)


def _host(url: str) -> str:
    return urlsplit(url).hostname or "?"
