"""Where commands meet the agent: each runs once, in order where order matters, and is answered by id."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import structlog

from pilothouse.adapters.agents.port import Agent
from pilothouse.core import link
from pilothouse.core.errors import AlreadyResolved, BadRequest, NotFound, PilothouseError
from pilothouse.core.ids import is_foreign
from pilothouse.core.outbox import Commands, Done
from pilothouse.runner.feed import Feed
from pilothouse.runner.status import Status

ANSWERED_MAX = 4096
"""Request ids remembered as answered, so that a second answer is told that it came late."""
ENV_NAME = re.compile(r"[A-Z][A-Z0-9_]{0,127}\Z")
ENV_FORBIDDEN = ("LD_", "PYTHON")
"""Variables that change how programs load: those belong to whoever made the sandbox."""
ENV_MAX = 64

Report = Callable[[str, Done], Awaitable[None]]
_URGENT = link.Interrupt | link.PermissionAnswer | link.QuestionAnswer | link.Shutdown
_log = structlog.get_logger("runner")


@dataclass
class Desk:
    """One per runner."""

    agent: Agent
    feed: Feed
    status: Status
    commands: Commands = field(default_factory=Commands)
    stopped: asyncio.Event = field(default_factory=asyncio.Event)
    report: Report | None = None
    """Tells the attached server how a command ended; None while nobody is attached."""
    _answered: dict[str, None] = field(default_factory=dict)
    _order: asyncio.Lock = field(default_factory=asyncio.Lock)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def take(self, command: link.Command) -> None:
        """Runs a command that is new; answers one that has ended."""
        if not is_foreign(command.id):
            await self._tell(command.id[:200], Done("command id: 1 to 200 printable characters without spaces"))
            return
        taken = self.commands.take(command.id)
        if isinstance(taken, Done):
            await self._tell(command.id, taken)
        elif taken:
            task = asyncio.create_task(self._run(command))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _run(self, command: link.Command) -> None:
        error = ""
        try:
            if isinstance(command, _URGENT):
                await self._do(command)
            else:
                # asyncio.Lock is first come, first served, and tasks start in the order in which they were made.
                async with self._order:
                    await self._do(command)
        except PilothouseError as refused:
            error = f"{refused.code}: {refused.message}"
        except Exception as broken:  # noqa: BLE001 - a command must be answered whatever an agent's library raises
            _log.exception("command_failed", type=type(command).__name__)
            error = f"agent_failed: {type(broken).__name__}: {broken}"[:2000]
        self.commands.finish(command.id, error)
        await self._tell(command.id, Done(error))

    async def _do(self, command: link.Command) -> None:
        match command:
            case link.Prompt():
                self.status.expect(command.id)
                try:
                    await self.agent.prompt(command)
                except BaseException:
                    self.status.forget(command.id)
                    raise
            case link.Steer(message=message):
                await self.agent.steer(message)
            case link.Interrupt():
                await self.agent.interrupt()
            case link.PermissionAnswer() | link.QuestionAnswer():
                await self._answer(command)
            case link.SetMode(mode=mode):
                await self.agent.set_mode(mode)
            case link.SetModel(model=model):
                await self.agent.set_model(model)
            case link.Resume(agent_session_id=agent_session_id):
                await self.agent.resume(agent_session_id)
            case link.Shutdown():
                self.stopped.set()

    async def _answer(self, answer: link.PermissionAnswer | link.QuestionAnswer) -> None:
        """The first answer stands; a later one is told so."""
        if answer.request_id in self._answered:
            raise AlreadyResolved
        opened = self.feed.asks.get(answer.request_id)
        if opened is None:
            raise NotFound("no such ask is open")
        if isinstance(opened[0], link.PermissionAsk) != isinstance(answer, link.PermissionAnswer):
            raise BadRequest("the answer is of the other kind than the ask")
        self._answered[answer.request_id] = None
        if len(self._answered) > ANSWERED_MAX:
            del self._answered[next(iter(self._answered))]
        self.feed.asks.pop(answer.request_id, None)
        await self.agent.answer(answer)

    async def _tell(self, id: str, done: Done) -> None:
        if self.report is not None:
            await self.report(id, done)

    async def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def take_environment(given: dict[str, str], before: frozenset[str] = frozenset()) -> None:
    """What the server hands down for the agent's environment: secrets. `before`: what it handed down the last time; of
    that what is not given any more goes. The environment that others could see of this process is that of its start."""
    if len(given) > ENV_MAX:
        raise BadRequest(f"env: at most {ENV_MAX} variables")
    for name, value in given.items():
        if not ENV_NAME.match(name) or name.startswith(ENV_FORBIDDEN) or "\0" in value:
            raise BadRequest(f"env: {name[:128]!r} may not be set")
    for name in before - given.keys():
        os.environ.pop(name, None)
    os.environ.update(given)
