"""A job as spans: made of what its session's log says, so that they are the same whichever server looks, and when.

    invoke_agent AGENT      from the prompt's acceptance to `complete`
      queue                 until it was handed to the agent
      execute_tool TOOL     from `tool_use` to `tool_result`, below the tool call that began it
        approve             while a person was asked
      chat MODEL            one model call as metered (`of_call`)

Ids follow from the ids of job, tool call and record: a job has one span, however often the server was restarted in
it. Names are those of OpenTelemetry's conventions for generative AI. Nothing that somebody wrote or that a tool was
given is in a span; a name that comes from an agent or model is shown only where it is a plain word.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from pilothouse.core import events as ev
from pilothouse.core.traceparent import Place, span_id, trace_id

TOOLS_MAX = 2000
"""Tool calls of one job that are told apart; the rest are counted."""
OTHER = "other"
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/@-]{0,99}\Z")
Value = str | int | float | bool
HEARD = frozenset(b"chat job_started tool_use tool_result approval_required approval_resolved usage complete".split())
"""Types of events that say something here."""


@dataclass(frozen=True, slots=True)
class Span:
    place: Place
    parent: str
    """Span id; empty for the root of a trace."""
    remote: bool
    """The parent is somebody else's."""
    name: str
    start: float
    end: float
    kind: Literal["internal", "server", "client"] = "internal"
    attributes: Mapping[str, Value] = field(default_factory=dict)
    error: str = ""
    """The type of what went wrong."""


def word(text: str) -> str:
    return text if _WORD.match(text) else OTHER


def place_of(job: str, parent: Place | None, sampled: bool) -> Place:
    return Place(parent.trace if parent is not None else trace_id(job), span_id("job", job), sampled)


@dataclass(slots=True)
class _Tool:
    id: str
    name: str
    kind: str
    start: float
    parent: str


class JobSpans:
    """Takes the events of one job in their order; `spans` when `complete` has come."""

    def __init__(self, session: str, job: str, parent: Place | None, sampled: bool) -> None:
        self._session = session
        self._job = job
        self._parent = parent
        self._place = place_of(job, parent, sampled)
        self._accepted: float | None = None
        self._started: float | None = None
        self._about: dict[str, Value] = {}
        self._agent = ""
        self._tools: dict[str, _Tool] = {}
        self._asked: dict[str, tuple[str, float]] = {}
        self._done: list[Span] = []
        self._count = 0

    def take(self, event: ev.LogEvent) -> None:
        at = datetime.fromisoformat(event.at).timestamp()
        match event:
            case ev.Chat(steer=False):
                self._accepted = at
            case ev.JobStarted():
                self._started, self._agent = at, word(event.agent)
                self._about |= {
                    "gen_ai.request.model": word(event.model),
                    "gen_ai.agent.version": word(event.agent_version),
                    "pilothouse.demo": event.demo,
                }
                if self._accepted is not None:
                    self._done.append(self._child("queue", "queue", self._accepted, at))
            case ev.ToolUse():
                self._use(event, at)
            case ev.ToolResult():
                self._end_tool(event.tool_id, at, "tool_error" if event.is_error else "")
            case ev.ApprovalRequired():
                self._asked[event.approval_id] = (event.tool_id, at)
            case ev.ApprovalResolved():
                self._resolved(event, at)
            case ev.Usage():
                self._about |= {
                    "gen_ai.usage.input_tokens": event.input_tokens,
                    "gen_ai.usage.output_tokens": event.output_tokens,
                    "pilothouse.cost_usd": event.total_cost,
                    "pilothouse.usage.measured": event.measured,
                }
            case ev.Complete():
                self._complete(event, at)
            case _:
                pass

    @property
    def spans(self) -> list[Span]:
        return self._done

    def _child(self, word: str, name: str, start: float, end: float, **more: Value) -> Span:
        place = Place(self._place.trace, span_id(word, self._job), self._place.sampled)
        return Span(place, self._place.span, False, name, start, max(start, end), attributes=more)

    def _tool_span(self, tool: str) -> str:
        return span_id("tool", self._job, tool)

    def _use(self, event: ev.ToolUse, at: float) -> None:
        if event.tool_id in self._tools:
            return
        self._count += 1
        if self._count > TOOLS_MAX:
            return
        above = event.parent_tool_id
        parent = self._tool_span(above) if above in self._tools else self._place.span
        self._tools[event.tool_id] = _Tool(event.tool_id, word(event.tool), event.kind, at, parent)

    def _end_tool(self, id: str, at: float, error: str) -> None:
        tool = self._tools.pop(id, None)
        if tool is None:
            return
        about: dict[str, Value] = {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": tool.name,
            "gen_ai.tool.call.id": word(tool.id),
            "gen_ai.tool.type": "function",
            "pilothouse.tool.kind": tool.kind,
        }
        place = Place(self._place.trace, self._tool_span(id), self._place.sampled)
        name, end = f"execute_tool {tool.name}", max(tool.start, at)
        self._done.append(Span(place, tool.parent, False, name, tool.start, end, attributes=about, error=error))

    def _resolved(self, event: ev.ApprovalResolved, at: float) -> None:
        tool, since = self._asked.pop(event.approval_id, ("", at))
        parent = self._tool_span(tool) if tool in self._tools else self._place.span
        place = Place(self._place.trace, span_id("approval", event.approval_id), self._place.sampled)
        about: dict[str, Value] = {"pilothouse.approval.outcome": event.outcome}
        self._done.append(Span(place, parent, False, "approve", since, max(since, at), attributes=about))

    def _complete(self, event: ev.Complete, at: float) -> None:
        for id in list(self._tools):
            self._end_tool(id, at, "unfinished")
        start = next((known for known in (self._accepted, self._started) if known is not None), at)
        about: dict[str, Value] = {
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.conversation.id": self._session,
            "pilothouse.job.id": self._job,
            "pilothouse.job.outcome": event.outcome,
            **({"gen_ai.agent.name": self._agent} if self._agent else {}),
            **self._about,
        }
        if self._count > TOOLS_MAX:
            about["pilothouse.tools.left_out"] = self._count - TOOLS_MAX
        error = "" if event.outcome == "succeeded" else word(event.reason or event.outcome)
        name = f"invoke_agent {self._agent}".rstrip()
        parent = self._parent.span if self._parent is not None else ""
        span = Span(self._place, parent, bool(parent), name, start, max(start, at), attributes=about, error=error)
        self._done.append(span)


@dataclass(frozen=True, slots=True)
class ModelCall:
    """What is known of one."""

    id: str
    job: str
    session: str
    provider: str
    model: str
    status: int
    refused: str
    start: float
    end: float
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int


def of_call(call: ModelCall, parent: Place | None, sampled: bool) -> Span:
    """Below the job's span."""
    above = place_of(call.job, parent, sampled)
    model = word(call.model)
    about: dict[str, Value] = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": call.provider,
        "gen_ai.request.model": model,
        "gen_ai.conversation.id": call.session,
        "gen_ai.usage.input_tokens": call.input_tokens,
        "gen_ai.usage.output_tokens": call.output_tokens,
        "gen_ai.usage.cache_read.input_tokens": call.cache_read_tokens,
        "gen_ai.usage.cache_creation.input_tokens": call.cache_write_tokens,
        "http.response.status_code": call.status,
    }
    error = word(call.refused.replace(" ", "_")) if call.refused else "" if call.status == 200 else str(call.status)
    place = Place(above.trace, span_id("call", call.id), sampled)
    return Span(place, above.span, False, f"chat {model}", call.start, call.end, "client", about, error)
