"""Who comes by the custom authorizer: it is asked at every step, and its answers are remembered as long as it says."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

from pilothouse.core import authorizer
from pilothouse.core.access import Principal
from pilothouse.core.authorizer import CONNECTIONS_MAX, Terms, Verdict
from pilothouse.core.channels import Channel, Pattern
from pilothouse.core.errors import Unauthenticated
from pilothouse.core.modes import MODES, Mode
from pilothouse.core.namespaces import Operation
from pilothouse.engine import records
from pilothouse.engine.hooks import Bounded, HookFailed
from pilothouse.engine.ports import Clock

REMEMBERED_MAX = 4096
"""Answers; the one that was not asked for longest goes."""


@dataclass(frozen=True, slots=True)
class Admitted:
    principal: Principal
    context: Mapping[str, str] | None


@dataclass(frozen=True)
class Ways:
    """How callers of the event API may come."""

    connect: frozenset[Mode] = frozenset(MODES)
    """What opens a connection; what publishes and subscribes is each namespace's."""
    connections: int = CONNECTIONS_MAX
    """Of one key or person at one time."""
    issuers: frozenset[str] = frozenset()
    authorizer: Authorizer | None = None


class Authorizer:
    def __init__(self, hook: Bounded, clock: Clock, terms: Terms) -> None:
        self._hook = hook
        self._clock = clock
        self._terms = terms
        self._known: OrderedDict[tuple[str, Operation, str], tuple[float, Verdict]] = OrderedDict()

    async def admit(
        self, token: str, operation: Operation, where: Channel | Pattern | None, headers: Mapping[str, str]
    ) -> Admitted:
        """Raises Unauthenticated: also when it fails."""
        if not self._terms.asks(token):
            raise Unauthenticated
        digest = hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()
        key = (digest, operation, "" if where is None else where.path)
        verdict = self._remembered(key) or await self._ask(token, key, where, headers)
        if not verdict.allowed:
            raise Unauthenticated
        who = Principal(
            "custom", digest[:16], "custom", "", frozenset(), f"custom:{digest}", self._terms.organisation, "viewer"
        )
        return Admitted(who, verdict.context)

    def _remembered(self, key: tuple[str, Operation, str]) -> Verdict | None:
        until, verdict = self._known.get(key, (0.0, None))
        if verdict is None or self._clock.now() >= until:
            self._known.pop(key, None)
            return None
        self._known.move_to_end(key)
        return verdict

    async def _ask(
        self,
        token: str,
        key: tuple[str, Operation, str],
        where: Channel | Pattern | None,
        headers: Mapping[str, str],
    ) -> Verdict:
        event = authorizer.asked(
            token, key[1], where, headers, organisation=self._terms.organisation, request_id=records.new_id()
        )
        try:
            verdict = authorizer.verdict(await self._hook.call(event), self._terms)
        except HookFailed:
            raise Unauthenticated from None
        if verdict.ttl_s:
            self._known[key] = (self._clock.now() + verdict.ttl_s, verdict)
            if len(self._known) > REMEMBERED_MAX:
                self._known.popitem(last=False)
        return verdict
