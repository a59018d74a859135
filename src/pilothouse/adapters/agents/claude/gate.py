"""Asks: every tool call waits here for its answer, without limit.

Every call is asked, reading ones too. A call whose result arrives though it was never asked is a breach: the version of
the agent does not ask as it must, and the session refuses to go on.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from claude_agent_sdk import PermissionResultAllow, PermissionResultDeny, ToolPermissionContext

from pilothouse.adapters.agents.claude import diffs
from pilothouse.adapters.agents.port import Answer, Emit
from pilothouse.core import events as ev
from pilothouse.core import link
from pilothouse.core.errors import NotFound, TooLarge

REJECTED = "The user rejected this action."
SUGGESTIONS_MAX = 20
PLAN_FILE_MODE = "plan"

Show = Callable[[str, str, dict[str, Any]], Awaitable[None]]
"""Waits until a call (id, tool, input) has been shown, and shows it if nothing else does."""


class Gate:
    """One per process of the agent's program."""

    def __init__(self, emit: Emit, show: Show, workspace: Path, plans: Path) -> None:
        self._emit = emit
        self._show = show
        self._workspace = workspace
        self._plans = plans
        self._open: dict[str, asyncio.Future[Answer]] = {}
        self._asked: set[str] = set()
        self._cancelled: set[asyncio.Task[None]] = set()
        self.mode = "default"
        """The program's own mode."""
        self.next_mode: str | None = None
        """The session's mode after a plan was accepted, until the agent has taken it over."""

    def asked(self, tool_id: str) -> bool:
        return tool_id in self._asked

    def answer(self, answer: Answer) -> None:
        future = self._open.pop(answer.request_id, None)
        if future is None or future.done():
            raise NotFound("no such ask is open")
        future.set_result(answer)

    async def ask(
        self, tool: str, input: dict[str, Any], context: ToolPermissionContext
    ) -> PermissionResultAllow | PermissionResultDeny:
        """The SDK's `can_use_tool`. An exception here is a denial for the SDK, too."""
        tool_id = context.tool_use_id or f"unnamed_{uuid.uuid4().hex}"
        self._asked.add(tool_id)
        await self._show(tool_id, tool, input)
        if self._is_plan_file(tool, input):
            return PermissionResultAllow()
        if tool == "AskUserQuestion":
            return await self._question(input)
        return await self._permission(tool_id, tool, input, context)

    async def _permission(
        self, tool_id: str, tool: str, input: dict[str, Any], context: ToolPermissionContext
    ) -> PermissionResultAllow | PermissionResultDeny:
        answer = await self._wait(
            link.PermissionAsk(
                request_id=f"ask_{uuid.uuid4().hex}",
                tool_id=tool_id,
                tool=tool,
                input=input,
                reason=context.decision_reason or "",
                suggestions=[update.to_dict() for update in context.suggestions[:SUGGESTIONS_MAX]],
                diff=await self._foresee(tool, input),
            )
        )
        if isinstance(answer, link.PermissionAnswer) and answer.behavior == "allow":
            if tool == "ExitPlanMode":
                await self._leave_plan(answer.mode)
            edited = answer.updated_input
            return PermissionResultAllow(updated_input=edited if isinstance(edited, dict) else None)
        interrupt = isinstance(answer, link.PermissionAnswer) and answer.interrupt
        return PermissionResultDeny(message=answer.message or REJECTED, interrupt=interrupt)

    async def _question(self, input: dict[str, Any]) -> PermissionResultAllow | PermissionResultDeny:
        questions = _questions(input)
        if not questions:
            return PermissionResultDeny(message="The questions could not be read; ask them as text.")
        answer = await self._wait(link.QuestionAsk(request_id=f"ask_{uuid.uuid4().hex}", questions=questions))
        if isinstance(answer, link.QuestionAnswer) and answer.answers and answer.message is None:
            return PermissionResultAllow(updated_input={**input, "answers": answer.answers})
        return PermissionResultDeny(message=answer.message or "The user did not answer the questions.")

    async def _wait(self, ask: link.PermissionAsk | link.QuestionAsk) -> Answer:
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._open[ask.request_id] = future
        try:
            await self._emit(ask)
            return await future
        except TooLarge as error:
            del self._open[ask.request_id]
            return link.PermissionAnswer(id="-", request_id=ask.request_id, behavior="deny", message=error.message)
        finally:
            if self._open.pop(ask.request_id, None) is not None:
                # The program took its question back (interrupt, death): so must we. In a task of its own, because
                # this one is being cancelled.
                self._cancelled.add(task := asyncio.create_task(self._take_back(ask.request_id)))
                task.add_done_callback(self._cancelled.discard)

    async def _take_back(self, request_id: str) -> None:
        await self._emit(link.AskCancelled(request_id=request_id))

    async def cancel_all(self) -> None:
        """The program has gone: nothing can be answered any more."""
        for request_id, future in list(self._open.items()):
            future.cancel()
            self._open.pop(request_id, None)
            await self._emit(link.AskCancelled(request_id=request_id))
        await asyncio.gather(*self._cancelled, return_exceptions=True)

    async def settle(self) -> None:
        """Waits until every ask that was taken back has been said to be."""
        await asyncio.gather(*self._cancelled, return_exceptions=True)

    async def _foresee(self, tool: str, input: dict[str, Any]) -> list[ev.Diff]:
        if tool == "Write":
            return await asyncio.to_thread(diffs.before_write, self._workspace, input)
        if tool == "Edit":
            return await asyncio.to_thread(diffs.before_edit, self._workspace, input)
        return []

    async def _leave_plan(self, mode: str | None) -> None:
        self.mode = "default"
        self.next_mode = mode
        if mode:
            await self._emit(ev.SessionUpdate(mode=mode))

    def _is_plan_file(self, tool: str, input: dict[str, Any]) -> bool:
        """The plan that the program keeps for itself while it plans: in its own home, shown whole in `ExitPlanMode`."""
        path = input.get("file_path")
        if self.mode != PLAN_FILE_MODE or tool not in ("Write", "Edit", "Read") or not isinstance(path, str):
            return False
        real = Path(path).resolve()
        return real.suffix == ".md" and real.parent == self._plans.resolve()


def _questions(input: dict[str, Any]) -> list[ev.Question]:
    found = input.get("questions")
    questions = []
    for item in found if isinstance(found, list) else []:
        if not isinstance(item, dict) or not isinstance(item.get("question"), str):
            return []
        options = item.get("options")
        questions.append(
            ev.Question(
                question=item["question"],
                header=str(item.get("header") or ""),
                multi=item.get("multiSelect") is True,
                options=[
                    ev.Choice(label=str(option.get("label", "")), description=str(option.get("description") or ""))
                    for option in (options if isinstance(options, list) else [])
                    if isinstance(option, dict)
                ],
            )
        )
    return questions
