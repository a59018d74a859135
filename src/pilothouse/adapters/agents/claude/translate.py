"""The SDK's messages as events of the link. Pure: a message in, events out; what must be remembered is in here.

Text is taken from the stream of deltas; a finished message only adds what was not streamed (the program falls back to
an answer in one piece after several cuts). The program reports every block that it keeps as an `AssistantMessage` of
its own. After a cut it either keeps what it has and lets the model go on, or asks for the whole answer again; so text
of blocks that were streamed but never reported is taken back when the next answer begins. A sub-agent's text becomes
output of the call that started it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from claude_agent_sdk import (
    AssistantMessage,
    StreamEvent,
    SystemMessage,
    TextBlock,
    ThinkingBlock,
    ToolResultBlock,
    ToolUseBlock,
    UserMessage,
)

from pilothouse.adapters.agents.claude import diffs, tools
from pilothouse.adapters.agents.claude.plan import Todo
from pilothouse.core import events as ev
from pilothouse.core import link

CALLS_MAX = 10_000
"""Calls of one process that are remembered."""
COMMANDS_MAX = 500
_LOCAL = "<local-command-stdout>"

Events = list[link.RunnerEvent]


@dataclass
class _Message:
    """The model's message that is being streamed, one per thread (the main one, and one per sub-agent)."""

    id: str
    index: int = 0
    """Of the block that is coming in."""
    loose: set[str] = field(default_factory=set)
    """Ids under which text was shown of blocks that are not reported yet."""


@dataclass
class _Call:
    tool: str
    input: dict[str, Any]


class Translator:
    """One per process of the agent's program."""

    def __init__(self, workspace: Path, todo: Todo) -> None:
        self._workspace = workspace
        self._todo = todo
        self._streaming: dict[str | None, _Message] = {}
        self._streamed: dict[str, None] = {}
        """Ids of messages whose text came as deltas."""
        self._calls: dict[str, _Call] = {}
        self._open: dict[str, None] = {}
        """Calls without a result so far."""
        self._said: dict[str, object] = {}
        self.usage: dict[str, Any] | None = None
        """Of the main thread's last finished message."""

    def stream(self, message: StreamEvent) -> Events:
        event, parent = message.event, message.parent_tool_use_id
        match event.get("type"):
            case "message_start":
                return self._begin(parent, str(_dict(event.get("message")).get("id") or message.uuid))
            case "content_block_delta":
                return self._delta(parent, event)
            case "content_block_start":
                if (current := self._streaming.get(parent)) is not None:
                    current.index = _count(event.get("index"))
        return []

    def assistant(self, message: AssistantMessage) -> Events:
        parent, message_id = message.parent_tool_use_id, message.message_id or message.uuid or "message"
        if parent is None and message.usage:
            self.usage = message.usage
        current = self._streaming.get(parent)
        events: Events = []
        if current is not None and current.id == message_id:
            current.loose.discard(f"{message_id}.{current.index}")
        elif current is not None:
            events += self._take_back(parent)
        for index, block in enumerate(message.content):
            match block:
                case TextBlock(text=text) | ThinkingBlock(thinking=text):
                    if message_id not in self._streamed and text and message.error is None:
                        events += self._text(
                            parent, f"{message_id}.whole.{index}", text, isinstance(block, ThinkingBlock)
                        )
                case ToolUseBlock(id=tool_id, name=name, input=input):
                    events += self.call(tool_id, name, input, parent)
        return events

    def call(self, tool_id: str, tool: str, input: dict[str, Any], parent: str | None) -> Events:
        """A tool call, once, whoever reports it first."""
        if tool_id in self._calls:
            return []
        self._calls[tool_id] = _Call(tool, input)
        self._open[tool_id] = None
        if len(self._calls) > CALLS_MAX:
            del self._calls[next(iter(self._calls))]
        return [
            ev.ToolUse(
                tool=tool,
                tool_id=tool_id,
                input=input,
                kind=tools.kind(tool),
                title=tools.title(tool, input),
                locations=tools.locations(input),
                parent_tool_id=parent,
            )
        ]

    def unfinished(self) -> list[str]:
        """Calls that will have no result any more, when the program has ended."""
        return list(self._open)

    def shown(self, tool_id: str) -> bool:
        return tool_id in self._calls

    def user(self, message: UserMessage, *, command: bool) -> Events:
        """Results of tools; the output of a slash command when the prompt was one."""
        content = message.content
        if isinstance(content, str):
            if command and content.startswith(_LOCAL):
                text = content.removeprefix(_LOCAL).removesuffix("</local-command-stdout>")
                return self._text(None, f"command.{message.uuid}", text, False)
            return []
        events: Events = []
        for block in content:
            if isinstance(block, ToolResultBlock):
                events += self._result(block, message.tool_use_result)
        return events

    def _result(self, block: ToolResultBlock, detail: object) -> Events:
        call = self._calls.get(block.tool_use_id)
        self._open.pop(block.tool_use_id, None)
        failed = block.is_error is True
        events: Events = [
            ev.ToolResult(
                tool_id=block.tool_use_id,
                result=tools.text(block.content),
                is_error=failed,
                diff=None if failed else diffs.after(self._workspace, detail),
            )
        ]
        if call is not None and not failed and (plan := self._todo.done(call.tool, call.input, detail)) is not None:
            events.append(plan)
        return events

    def system(self, message: SystemMessage) -> Events:
        data = message.data
        if message.subtype == "init":
            return self._update(
                claude_session_id=data.get("session_id"),
                model=data.get("model"),
                commands=[str(name) for name in _list(data.get("slash_commands"))[:COMMANDS_MAX]],
            )
        if message.subtype == "api_retry":
            status = data.get("error_status")
            return [
                ev.Retry(
                    attempt=_count(data.get("attempt")),
                    of=_count(data.get("max_retries")),
                    delay_ms=_count(data.get("retry_delay_ms")),
                    reason=" ".join(str(part) for part in (status, data.get("error")) if part) or "connection lost",
                )
            ]
        return []

    def _update(self, **fields: Any) -> Events:
        """What has changed since it was last said."""
        changed = {name: value for name, value in fields.items() if value and self._said.get(name) != value}
        self._said.update(changed)
        return [ev.SessionUpdate(**changed)] if changed else []

    def _begin(self, parent: str | None, id: str) -> Events:
        events = self._take_back(parent) if parent in self._streaming else []
        self._streaming[parent] = _Message(id)
        return events

    def abandon(self) -> None:
        """The turn has ended: a message that was cut short by an interrupt keeps its text."""
        self._streaming.clear()

    def _take_back(self, parent: str | None) -> Events:
        cut = self._streaming.pop(parent)
        # A sub-agent's text is output of a call, which has no taking back.
        return [ev.StreamReset(message_id=shown) for shown in sorted(cut.loose)] if parent is None else []

    def _delta(self, parent: str | None, event: dict[str, Any]) -> Events:
        delta, current = _dict(event.get("delta")), self._streaming.get(parent)
        thinking = delta.get("type") == "thinking_delta"
        text = delta.get("thinking" if thinking else "text")
        if current is None or not isinstance(text, str) or not text:
            return []
        self._streamed[current.id] = None
        if len(self._streamed) > CALLS_MAX:
            del self._streamed[next(iter(self._streamed))]
        shown = f"{current.id}.{current.index}"
        current.loose.add(shown)
        return self._text(parent, shown, text, thinking)

    def _text(self, parent: str | None, id: str, text: str, thinking: bool) -> Events:
        if parent is not None:
            return [] if thinking else [ev.ToolOutput(tool_id=parent, content=text)]
        return [(ev.Thinking if thinking else ev.Stream)(content=text, message_id=id)]


REJECTED_BY_PROGRAM = (
    "<tool_use_error>",
    "[Request interrupted by user",
    "[Tool call interrupted",
    "The user doesn't want to proceed",
    "The user doesn't want to take this action",
)
"""How the error of a call begins that the program itself rejected, or that was cancelled before it was asked."""


def ran_unasked(block: ToolResultBlock) -> bool:
    """Whether the result of a call that was never asked says that it ran."""
    return block.is_error is not True or not tools.text(block.content).startswith(REJECTED_BY_PROGRAM)


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _count(value: object) -> int:
    return int(value) if isinstance(value, int | float) and value > 0 else 0
