"""Events -> text for a terminal. Pure: fed in log order, it answers what to write next."""

from __future__ import annotations

from pilothouse.cli import text
from pilothouse.cli.style import Style
from pilothouse.core import events as ev

LINE = 100
"""Characters of a compact line: it should not wrap on a usual terminal."""
RESULT_LINES = 5
"""Lines of a tool's result: enough to see how it went. The page and `--json` have all of it."""
RESULT_WIDTH = 1000
"""Characters of one of them; whole lines, unless it is a whole file on one."""
SAID = 64 * 1024
"""Characters of a job's text that are remembered, not to show them again as its result."""
_MARKS = {"pending": "[ ]", "in_progress": "[~]", "completed": "[x]"}


class Transcript:
    """What one viewer has on screen. `cards`: approvals and questions are shown by somebody else, in full."""

    def __init__(self, style: Style, *, cards: bool = False, prompts: bool = True) -> None:
        self._style = style
        self._cards = cards
        self._prompts = prompts
        self._open = False
        """The cursor stands behind text that has no line break yet."""
        self._message = ""
        self._place = ""
        self._said = ""
        self._tools: dict[str, str] = {}

    def feed(self, event: ev.LogEvent) -> str:
        if isinstance(event, ev.Stream | ev.Thinking):
            return self._text(event)
        lines = self._lines(event)
        return self._block(lines) if lines else ""

    def gap(self, first: int, last: int) -> str:
        return self._block([self._style(f"(events {first}–{last} are no longer kept)", "yellow")])

    def end_line(self) -> str:
        """What must be written before somebody else writes a line."""
        was, self._open = self._open, False
        return "\n" if was else ""

    def _text(self, event: ev.Stream | ev.Thinking) -> str:
        thinking = isinstance(event, ev.Thinking)
        message = f"{type(event).__name__} {event.message_id}"
        content = text.plain(event.content)
        start = self.end_line() if message != self._message else ""
        if not content:
            return start
        self._message = message
        if not thinking:
            self._said = (self._said + event.content)[-SAID:]
        self._open = not content.endswith("\n")
        return start + (self._style(content, "dim") if thinking else content)

    def _block(self, lines: list[str]) -> str:
        self._message = ""
        return self.end_line() + "\n".join(lines) + "\n"

    def _lines(self, event: ev.LogEvent) -> list[str]:
        match event:
            case ev.SessionEvent():
                return self._session(event)
            case ev.JobStarted():
                return self._started(event)
            case ev.Chat():
                return self._prompt(event)
            case ev.ToolUse():
                return [self._tool(event)]
            case ev.ToolResult():
                return self._result(event)
            case ev.ApprovalRequired() | ev.ApprovalResolved() | ev.QuestionEvent() | ev.QuestionAnswered():
                return self._asked(event)
            case ev.Complete():
                return self._complete(event)
            case _:
                return self._other(event)

    def _session(self, event: ev.SessionEvent) -> list[str]:
        words = f"session {text.plain(event.session_id)} · {text.line(event.agent, 40)} · isolation: {event.isolation}"
        if words == self._place:  # only the title has changed
            return []
        self._place = words
        if event.isolation in {"none", "reduced"}:
            return [self._style(f"{words} (the agent is not fully separated from this machine)", "yellow")]
        return [self._style(words, "dim")]

    def _started(self, event: ev.JobStarted) -> list[str]:
        self._said = ""
        agent = f"{event.agent} {event.agent_version}".strip()
        lines = [self._style(text.line(f"{agent} · {event.model} · {event.permission_mode}", LINE), "dim")]
        if event.demo:
            lines.append(self._style("DEMO MODEL: scripted answers, no real model is connected", "yellow"))
        return lines

    def _prompt(self, event: ev.Chat) -> list[str]:
        if not self._prompts:
            return []
        first, *rest = text.plain(event.message).split("\n")
        head = f"> {first}" if not event.by else f"{text.line(event.by, 40)}> {first}"
        return [self._style(head, "bold"), *(self._style(f"  {row}", "bold") for row in rest)]

    def _tool(self, event: ev.ToolUse) -> str:
        self._tools[event.tool_id] = event.tool
        indent = "  " if event.parent_tool_id else ""
        return f"{indent}{self._style('●', 'cyan')} {text.line(f'{event.tool} {about(event)}', LINE)}"

    def _result(self, event: ev.ToolResult) -> list[str]:
        tool = self._tools.pop(event.tool_id, "tool")
        lines = [self._style.diff(event.diff, every=False)] if event.diff else []
        if event.is_error:
            lines.append(self._style(f"  {text.line(f'{tool} failed', LINE)}", "red"))
        elif event.diff:  # says more than the result, which is "done" in some words
            return lines
        look = "red" if event.is_error else "dim"
        return lines + [self._style(f"    {row}", look) for row in _excerpt(event.result)]

    def _asked(
        self, event: ev.ApprovalRequired | ev.ApprovalResolved | ev.QuestionEvent | ev.QuestionAnswered
    ) -> list[str]:
        style = self._style
        if isinstance(event, ev.ApprovalRequired | ev.QuestionEvent) and self._cards:
            return []
        if isinstance(event, ev.ApprovalRequired):
            id = text.line(event.approval_id, 60)
            why = f": {event.reason}" if event.reason else ""
            words = text.line(f"? approval needed: {event.tool}{why}", LINE - len(id) - 3)
            return [style(f"{words} ({id})", "yellow")]
        if isinstance(event, ev.QuestionEvent):
            return [style(f"? {text.line(asked.question, LINE)}", "yellow") for asked in event.questions]
        words = f"  {event.outcome} by {text.line(event.by, 40)}"
        if isinstance(event, ev.QuestionAnswered):
            return [style(words, "dim"), *(f"  = {text.line(a, LINE)}" for a in event.answers.values())]
        extra = f": {text.line(event.message, LINE)}" if event.message else ""
        changed = " with changed input" if event.updated_input is not None else ""
        return [style(words + changed + extra, "green" if event.outcome == "approved" else "red")]

    def _complete(self, event: ev.Complete) -> list[str]:
        lines = []
        done = event.outcome == "succeeded"
        if done and event.result and not self._said:
            lines.append(text.plain(event.result))
        # `result` is the reason in words, or what was said until then; `reason` is its name.
        shown = event.result.strip() in self._said
        why = (event.reason if shown else event.result) or ""
        if not done and why and why != event.outcome:
            lines.append(self._style(text.plain(why), "red"))
        name = event.reason if not done and event.reason not in {None, why, event.outcome} else None
        outcome = f"{event.outcome} ({text.line(name, 60)})" if name else event.outcome
        numbers = f"{text.some(event.num_turns, 'turn')} · {event.duration_ms / 1000:.1f} s · ${event.total_cost:.4f}"
        return [*lines, self._style(f"{outcome} · {numbers}", "green" if done else "red")]

    def _other(self, event: ev.LogEvent) -> list[str]:
        style = self._style
        match event:
            case ev.StreamReset():
                return [style("(the answer was cut; it is being made again)", "yellow")]
            case ev.Retry():
                words = f"(model call {event.attempt} of {event.of} failed, next in {event.delay_ms / 1000:.1f} s: "
                return [style(words + text.line(event.reason, LINE) + ")", "yellow")]
            case ev.Plan():
                return [f"  {_MARKS[entry.status]} {text.line(entry.content, LINE)}" for entry in event.entries]
            case ev.Artifact():
                return [style(f"+ {text.line(event.path, LINE)} ({text.size(event.size)})", "dim")]
            case ev.ErrorEvent():
                return [style(f"{text.line(event.code, 60)}: {text.plain(event.message)}", "red")]
            case ev.Custom():
                return [style(f"* {text.line(event.name, LINE)}", "dim")]
            case _:
                return []


def _excerpt(result: str) -> list[str]:
    """The first lines, and how many there are besides."""
    rows = text.plain(result).rstrip().lstrip("\n").split("\n")
    more = len(rows) - RESULT_LINES
    shown = [row if len(row) <= RESULT_WIDTH else row[: RESULT_WIDTH - 1] + "…" for row in rows[:RESULT_LINES]]
    if more > 0:
        shown.append(f"… {text.some(more, 'more line')}")
    return shown if rows != [""] else []


def about(event: ev.ToolUse) -> str:
    """A tool call in a few words: what it is called with says more than what the agent calls it."""
    return text.telling(event.input) or event.title or ""
