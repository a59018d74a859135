"""Approvals and questions decided in place, one after another, while the session goes on.

The card is fetched when it is shown, so it is whole even where the event was cut. An answer that comes from somebody
else meanwhile ends the asking: `resolved`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress

import msgspec

from pilothouse.cli import card
from pilothouse.cli.client import Client
from pilothouse.cli.errors import Failure, Refused
from pilothouse.cli.terminal import Terminal
from pilothouse.core import events as ev


class Asker:
    def __init__(self, client: Client, terminal: Terminal, done: Callable[[], None]) -> None:
        """`done` is called when the person is no longer being asked."""
        self._client = client
        self._terminal = terminal
        self._done = done
        self._waiting: deque[ev.ApprovalRequired | ev.QuestionEvent] = deque()
        self._current = ""
        self._task: asyncio.Task[None] | None = None

    @property
    def busy(self) -> bool:
        return self._task is not None

    def add(self, event: ev.ApprovalRequired | ev.QuestionEvent) -> None:
        self._waiting.append(event)
        if self._task is None:
            self._task = asyncio.create_task(self._work())

    def resolved(self, id: str) -> None:
        """Decided, here or elsewhere."""
        self._waiting = deque(event for event in self._waiting if _id(event) != id)
        if self._current == id and self._task is not None:
            self._task.cancel()

    async def close(self) -> None:
        self._waiting.clear()
        task = self._task
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _work(self) -> None:
        try:
            while self._waiting:
                event = self._waiting.popleft()
                self._current = _id(event)
                await self._one(event)
        except asyncio.CancelledError:
            self._terminal.write("\n")
        finally:
            self._current, self._task = "", None
            self._done()
            if self._waiting:  # only the one in hand was decided elsewhere
                self._task = asyncio.create_task(self._work())

    async def _one(self, event: ev.ApprovalRequired | ev.QuestionEvent) -> None:
        try:
            if isinstance(event, ev.ApprovalRequired):
                await self._approval(event.approval_id)
            else:
                await self._question(event)
        except Refused as refusal:
            who = f" ({refusal.outcome} by {refusal.by})" if refusal.by else ""
            self._terminal.notice(f"{refusal.message}{who}")
        except Failure as failure:
            self._terminal.notice(failure.message)

    async def _approval(self, id: str) -> None:
        terminal = self._terminal
        item = await self._client.approval(id)
        changed: dict[str, ev.Json] | None = None
        if item.state != "pending":
            return
        terminal.forget_typed()
        terminal.write(card.approval(item, terminal.style))
        while True:
            typed = await terminal.ask("approve? [y/n/e/number] ")
            if typed is None:
                terminal.notice(f"left for others: `pilothouse approve {id}` decides")
                return
            decision = card.decide(typed, item)
            if isinstance(decision, card.Decision):
                break
            if decision == "edit":
                changed = await self._edit(item.input if changed is None else changed) or changed
                terminal.write(card.approval(item, terminal.style, changed))
                if changed is not None and (lacks := card.lacking(item, changed)):
                    terminal.notice(lacks)
            else:
                terminal.write(card.HELP + "\n")
        self._current = ""  # our own answer comes back as an event and must not cut this short
        await self._client.decide(
            item,
            decision.approved,
            optionId=decision.option,
            message=decision.message,
            updatedInput=changed if decision.approved else None,
        )

    async def _edit(self, value: ev.Json) -> dict[str, ev.Json] | None:
        try:
            content = await self._terminal.edit(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())
        except Failure as failure:
            self._terminal.notice(failure.message)
            return None
        result = card.edited(content)
        if isinstance(result, str):
            self._terminal.notice(f"not used, the input must be a JSON object: {result}")
            return None
        return result

    async def _question(self, event: ev.QuestionEvent) -> None:
        terminal = self._terminal
        answers: dict[str, str] = {}
        terminal.forget_typed()
        for asked in event.questions:
            terminal.write(card.question(asked, terminal.style))
            answer = None
            while answer is None:
                typed = await terminal.ask("answer: ")
                if typed is None:
                    terminal.notice("the question is left for others")
                    return
                answer = card.answer(typed, asked)
            answers[asked.question] = answer
        self._current = ""
        await self._client.answer(event.question_id, answers)


def _id(event: ev.ApprovalRequired | ev.QuestionEvent) -> str:
    return event.approval_id if isinstance(event, ev.ApprovalRequired) else event.question_id
