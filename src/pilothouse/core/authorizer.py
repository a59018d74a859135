"""The custom authorizer: what it is asked and answers, in the shapes of AppSync's Lambda authorizer.

asked      {"authorizationToken", "requestContext": {"apiId", "accountId", "requestId", "operation",
           "channelNamespaceName", "channel"}, "requestHeaders"}
           operation: EVENT_CONNECT, EVENT_PUBLISH, EVENT_SUBSCRIBE; of a connection without the two about the channel;
           the channel as it is subscribed, a wildcard with its `*`
answers    {"isAuthorized": bool, "handlerContext": {text: text}, "ttlOverride": seconds}

Anything else, and `isAuthorized` other than true, is a no. An answer counts for its own question and token, as long as
it says, or else the configuration.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pilothouse.core.channels import Channel, Pattern
from pilothouse.core.namespaces import Operation

TTL_MAX = 3600
CONNECTIONS_MAX = 5000
"""A page's key is many people's, each of whom has a connection with it."""
CONTEXT_MAX = 64 * 1024
"""Characters of `handlerContext` in all: it goes with every event to the handlers."""
API = "pilothouse"
_WORDS = {"connect": "EVENT_CONNECT", "publish": "EVENT_PUBLISH", "subscribe": "EVENT_SUBSCRIBE"}


@dataclass(frozen=True, slots=True)
class Terms:
    """As configured."""

    ttl_s: int = 0
    pattern: str = ""
    """What a token must match, or nobody is asked."""
    organisation: str = "default"
    """To which whoever comes by it belongs."""

    def asks(self, token: str) -> bool:
        return not self.pattern or re.search(self.pattern, token) is not None


@dataclass(frozen=True, slots=True)
class Verdict:
    allowed: bool = False
    context: Mapping[str, str] | None = None
    ttl_s: float = 0.0


def asked(
    token: str,
    operation: Operation,
    where: Channel | Pattern | None,
    headers: Mapping[str, str],
    *,
    organisation: str,
    request_id: str,
) -> dict[str, Any]:
    context: dict[str, Any] = {
        "apiId": API, "accountId": organisation, "requestId": request_id, "operation": _WORDS[operation],
    }  # fmt: skip
    if where is not None:
        context |= {"channelNamespaceName": where.namespace, "channel": where.path}
    return {"authorizationToken": token, "requestContext": context, "requestHeaders": dict(headers)}


def verdict(answer: object, terms: Terms) -> Verdict:
    if not isinstance(answer, dict):
        return Verdict()
    allowed, context = answer.get("isAuthorized"), answer.get("handlerContext")
    if not isinstance(allowed, bool) or not (context is None or _flat(context)):
        return Verdict()  # a mistake is not remembered
    return Verdict(allowed, context, _ttl(answer.get("ttlOverride"), terms))


def _ttl(value: object, terms: Terms) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= TTL_MAX:
        return float(terms.ttl_s)
    return float(value)


def _flat(context: object) -> bool:
    if not isinstance(context, dict):
        return False
    if not all(isinstance(name, str) and isinstance(value, str) for name, value in context.items()):
        return False
    return sum(len(name) + len(value) for name, value in context.items()) <= CONTEXT_MAX
