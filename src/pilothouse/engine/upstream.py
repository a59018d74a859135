"""What the proxy needs from whoever serves the model: one call out, its answer in pieces.

The proxy speaks the Anthropic Messages wire with the sessions. An upstream takes the same wire, without credentials,
and turns it into what its provider wants.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Protocol

from pilothouse.core.prices import Price


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """How to reach the model. Sent to the proxy over its control socket and kept there in memory only."""

    provider: str = "auto"
    model: str = ""
    base_url: str = ""
    api_key: str = field(default="", repr=False)
    auth_token: str = field(default="", repr=False)
    aws_region: str = ""
    aws_profile: str = ""
    aws_environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    model_ids: Mapping[str, str] = field(default_factory=dict)
    """Model ids as the agent says them -> as the provider knows them, where the rule does not fit."""


@dataclass(frozen=True, slots=True)
class EgressSettings:
    """What holds for all sessions that reach more than the model."""

    allow_private: tuple[str, ...] = ()
    """`host:port` whose address need not be a public one."""


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    path: str
    """`/v1/messages`, `/v1/messages/count_tokens` or `/v1/models`, with the query string as it came."""
    headers: Mapping[str, str]
    """Those that may leave the session."""
    body: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: AsyncIterator[bytes]
    """Raises `UpstreamCut` when it breaks off."""


class UpstreamFailed(Exception):
    """The provider could not be reached, did not answer, or has no usable credential. `status` is for the agent."""

    def __init__(self, message: str, status: int = 502) -> None:
        super().__init__(message)
        self.status = status


class UpstreamCut(Exception):
    """The answer broke off."""


class Upstream(Protocol):
    label: str
    """Named to people: "Anthropic API", "Amazon Bedrock", ..."""
    provider: str
    demo: bool
    """It answers to any name; its calls are recorded under its own, and cost nothing."""
    model: str
    """The default model's id."""

    def price(self, model: str) -> Price: ...

    async def ready(self) -> str:
        """ "" when calls can be made, else what is missing, in a sentence."""
        ...

    def call(self, request: Request) -> AbstractAsyncContextManager[Answer]:
        """Raises UpstreamFailed."""
        ...

    async def close(self) -> None: ...
