"""Turns: which results belong to which prompt, how a turn ended, and what it used.

Results are not one to one with prompts: text that is steered into a running tool call shares the turn's result, text
that comes while the model speaks gets a result of its own, and background tasks make turns that nobody asked for. So
every message to the program has an id of ours, and a turn ends when all of its ids have appeared in results.
"""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pilothouse.core import events as ev
from pilothouse.core import link

if TYPE_CHECKING:
    from claude_agent_sdk import ResultMessage

ABORTED = frozenset({"aborted_streaming", "aborted_tools"})


@dataclass
class Turn:
    """One prompt, or one turn of the agent's own making, run to its end."""

    id: str
    injected: bool = False
    command: bool = False
    """The prompt is a slash command, whose output is the answer."""
    pending: set[str] = field(default_factory=set)
    """Ids of messages that no result has taken in yet."""
    stopping: bool = False
    began: float = 0.0
    steps: int = 0
    result: str = ""
    over: bool = False
    """Its end is being said; nothing more belongs to it."""
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    def add(self) -> str:
        """The id for one more message of this turn."""
        message_id = str(uuid.uuid4())
        self.pending.add(message_id)
        return message_id

    def takes(self, result: ResultMessage) -> bool:
        """Whether a result ends this turn."""
        taken = {*(result.user_message_uuids or ()), *filter(None, (result.user_message_uuid,))}
        mine = self.pending & taken
        by_human = result.origin is None or result.origin.get("kind") == "human"
        if not self.injected and not mine and not by_human:
            return False  # a background task's turn that ran while our prompt waited
        self.pending -= taken
        self.steps += result.num_turns
        self.result = result.result or self.result
        return self.injected or self.stopping or not taken or not self.pending


def ended(turn: Turn, result: ResultMessage, now: float) -> link.TurnEnded:
    """How a turn ended."""
    outcome, reason = _outcome(turn, result)
    text = turn.result
    if outcome == "failed" and not text:
        text = "; ".join(result.errors or ()) or reason or ""
    return link.TurnEnded(
        turn_id=turn.id,
        outcome=outcome,
        result=text,
        num_turns=max(turn.steps, 0),
        duration_ms=max(0, int((now - turn.began) * 1000)),
        reason=reason,
    )


def broken(turn: Turn, outcome: ev.Outcome, reason: str, text: str, now: float) -> link.TurnEnded:
    """The end of a turn that got no result."""
    return link.TurnEnded(
        turn_id=turn.id,
        outcome=outcome,
        result=text,
        num_turns=max(turn.steps, 0),
        duration_ms=max(0, int((now - turn.began) * 1000)),
        reason=reason,
    )


def _outcome(turn: Turn, result: ResultMessage) -> tuple[ev.Outcome, str | None]:
    if turn.stopping or result.terminal_reason in ABORTED:
        return "interrupted", "interrupted"
    if result.subtype == "error_max_budget_usd":
        return "budget_exceeded", result.subtype
    if result.api_error_status is not None:
        return "failed", f"model_error_{result.api_error_status}"
    if result.is_error or result.subtype != "success":
        return "failed", result.terminal_reason or result.subtype
    return "succeeded", None


class Meter:
    """What a turn used, as differences of totals that grow with the session."""

    def __init__(self, *, known: bool) -> None:
        self._known = known
        """Whether the totals began at nothing here. After a resume in a new runner the first ones only set the mark."""
        self._cost = 0.0
        self._turn = link.AgentUsage()
        self._charged = 0.0

    def begin(self) -> None:
        self._turn = link.AgentUsage()
        self._charged = 0.0

    def reset(self) -> None:
        """The program's own totals are back at nothing (`/clear`, a new conversation)."""
        self._cost, self._known = 0.0, True

    def result(self, result: ResultMessage) -> link.AgentUsage:
        """The turn's totals so far."""
        total = result.total_cost_usd or 0.0
        if self._known:
            self._charged += max(0.0, total - self._cost)
        self._cost, self._known = total, True
        usage = result.usage or {}
        self._turn = link.AgentUsage(
            input_tokens=self._turn.input_tokens + _count(usage, "input_tokens"),
            output_tokens=self._turn.output_tokens + _count(usage, "output_tokens"),
            cache_read_tokens=self._turn.cache_read_tokens + _count(usage, "cache_read_input_tokens"),
            cache_write_tokens=self._turn.cache_write_tokens + _count(usage, "cache_creation_input_tokens"),
            total_cost=self._charged,
        )
        return self._turn


def context(usage: dict[str, Any] | None, result: ResultMessage) -> ev.Context | None:
    """How full the model's context is, from the last call's usage."""
    windows = [use.get("contextWindow", 0) for use in (result.model_usage or {}).values()]
    if not usage or not any(windows):
        return None
    names = ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
    return ev.Context(used=sum(_count(usage, name) for name in names), max=max(windows))


def _count(usage: dict[str, Any], name: str) -> int:
    value = usage.get(name)
    return value if isinstance(value, int) and value > 0 else 0
