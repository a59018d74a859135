"""Who can serve the model, by name. `auto` takes the first provider, in this order, that finds what it needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pilothouse.adapters.models import anthropic, bedrock
from pilothouse.adapters.models.demo.provider import Demo
from pilothouse.core.errors import BadRequest
from pilothouse.engine.upstream import ModelSettings, Upstream


@dataclass(frozen=True, slots=True)
class Provider:
    make: Callable[[ModelSettings], Upstream]
    found: Callable[[ModelSettings], bool]


PROVIDERS: dict[str, Provider] = {
    "anthropic": Provider(anthropic.Anthropic, anthropic.found),
    "bedrock": Provider(bedrock.Bedrock, bedrock.found),
    "demo": Provider(Demo, lambda _: True),
}


def connect(settings: ModelSettings) -> Upstream:
    """Raises BadRequest for a provider that does not exist."""
    if settings.provider == "auto":
        return next(p for p in PROVIDERS.values() if p.found(settings)).make(settings)
    provider = PROVIDERS.get(settings.provider)
    if provider is None:
        raise BadRequest(f"model provider: {settings.provider!r} is none of auto, {', '.join(PROVIDERS)}")
    return provider.make(settings)
