"""Runners that answer every prompt by themselves: the prompt is said back."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

from pilothouse.core import events as ev
from pilothouse.core import link
from tests.engine.fakes import FakeSandboxes, ScriptedRunner

Answer = Callable[[ScriptedRunner, link.Prompt], None]


def echo(runner: ScriptedRunner, prompt: link.Prompt) -> None:
    """`fail WORDS` fails, `wait` is left open, anything else is said back."""
    runner.say(link.TurnStarted(turn_id=prompt.id))
    if prompt.message == "wait":
        return
    runner.say(ev.Stream(content=prompt.message, message_id="m"))
    if prompt.message.startswith("fail "):
        runner.end_turn(prompt.id, "failed", prompt.message.removeprefix("fail "))
    else:
        runner.end_turn(prompt.id, result=prompt.message)


@contextlib.asynccontextmanager
async def answering(sandboxes: FakeSandboxes, answer: Answer = echo) -> AsyncIterator[None]:
    """An interrupt ends the turn that is open."""
    seen: set[tuple[str, str]] = set()

    def look(runner: ScriptedRunner) -> None:
        for command in list(runner.commands):
            if (runner.id, command.id) in seen:
                continue
            seen.add((runner.id, command.id))
            if isinstance(command, link.Prompt):
                answer(runner, command)
            elif isinstance(command, link.Interrupt):
                turn = [c for c in runner.commands if isinstance(c, link.Prompt)][-1]
                runner.end_turn(turn.id, "interrupted", "")

    async def run() -> None:
        while True:
            for runner in list(sandboxes.runners.values()):
                look(runner)
            await asyncio.sleep(0.002)

    task = asyncio.create_task(run())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
