"""The verbs of the agent `claude`: turns one after another, and the program's life and death around them."""

from __future__ import annotations

import asyncio
import importlib
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from pilothouse.adapters.agents.claude import turns
from pilothouse.adapters.agents.claude.plan import Todo
from pilothouse.adapters.agents.claude.program import Program, new_session, plans, version
from pilothouse.adapters.agents.claude.turns import Meter, Turn
from pilothouse.adapters.agents.port import Answer, Emit, Facts, Verdict
from pilothouse.core import events as ev
from pilothouse.core import link
from pilothouse.core.errors import Conflict, NotFound, Unavailable

if TYPE_CHECKING:
    from claude_agent_sdk import ResultMessage

    from pilothouse.adapters.agents.claude.gate import Gate
    from pilothouse.adapters.agents.claude.translate import Translator

CAPABILITIES = ("steer", "interrupt", "modes", "models", "resume", "questions", "plans", "images", "edit_input")
CONTROL_SECONDS = 10.0
"""The program answers a control request in milliseconds; one that does not is hung, and is ended."""
SHOW_SECONDS = 1.0
"""A call is reported in the messages just before it is asked; later than this it is shown from the ask."""
_log = structlog.get_logger("claude")


class ClaudeAgent:
    def __init__(self, emit: Emit, workspace: Path, model: str = "") -> None:
        self._emit = emit
        self._workspace = workspace
        self._version = version()
        self._model = model
        self._mode = "default"
        self._session = ""
        self._resume = False
        self._refuses = ""
        """Why no further prompt is taken."""
        self._todo = Todo()
        self._meter = Meter(known=True)
        self._waiting: asyncio.Queue[tuple[Turn, link.Prompt]] = asyncio.Queue()
        self._turn: Turn | None = None
        self._program: Program | None = None
        self._gate: Gate | None = None
        self._translator: Translator | None = None
        self._shown = asyncio.Condition()
        self._pump: asyncio.Task[None] | None = None
        self._worker = asyncio.create_task(self._work())
        self._sdk = asyncio.create_task(asyncio.to_thread(importlib.import_module, f"{__package__}.translate"))

    @property
    def facts(self) -> Facts:
        return Facts("claude", self._version, CAPABILITIES, self._model)

    # --- verbs ---------------------------------------------------------------------------------------------------

    async def prompt(self, prompt: link.Prompt) -> None:
        if self._refuses:
            raise Unavailable(self._refuses, code="unasked_tool")
        turn = Turn(prompt.id, command=prompt.message.startswith("/"))
        self._waiting.put_nowait((turn, prompt))

    async def steer(self, message: str) -> None:
        turn = self._turn
        if turn is None or turn.injected or turn.stopping or turn.over or self._program is None or not turn.pending:
            raise Conflict("no turn is running that could take it")
        await self._program.send(message, turn.add())

    async def interrupt(self) -> None:
        while not self._waiting.empty():
            waiting, _ = self._waiting.get_nowait()
            await self._emit(link.TurnStarted(turn_id=waiting.id))
            await self._emit(turns.broken(waiting, "interrupted", "interrupted", "", waiting.began))
        if (turn := self._turn) is None or turn.stopping or turn.over:
            return
        turn.stopping = True
        program = self._program
        if program is None:
            return  # still starting; the worker sees `stopping` before it sends the prompt
        try:
            await program.interrupt(CONTROL_SECONDS)
            async with asyncio.timeout(CONTROL_SECONDS):
                await turn.ended.wait()
        except Exception as error:  # noqa: BLE001 - whatever the SDK raises, the program does not obey
            _log.warning("interrupt_failed", error=repr(error)[:500])
            await self._stop_program()

    async def answer(self, answer: Answer) -> None:
        if self._gate is None:
            raise NotFound("no such ask is open")
        self._gate.answer(answer)

    async def set_mode(self, mode: str) -> None:
        self._mode = mode
        await self._apply_mode()
        await self._emit(ev.SessionUpdate(mode=mode))

    async def set_model(self, model: str) -> None:
        self._model = model
        if self._program is not None:
            await self._program.set_model(model, CONTROL_SECONDS)
        await self._emit(ev.SessionUpdate(model=model))

    async def resume(self, agent_session_id: str) -> None:
        if self._session == agent_session_id:
            return
        if self._session:
            raise Conflict("another conversation has begun here")
        self._session = str(uuid.UUID(agent_session_id))
        self._resume = True
        self._meter = Meter(known=False)

    async def probe(self) -> Verdict:
        from pilothouse.adapters.agents.claude.probe import probe

        return await probe()

    async def close(self) -> None:
        self._worker.cancel()
        await asyncio.gather(self._worker, return_exceptions=True)
        await self._stop_program()

    # --- turns ---------------------------------------------------------------------------------------------------

    async def _work(self) -> None:
        while True:
            turn, prompt = await self._waiting.get()
            while self._turn is not None:  # a turn of the agent's own making
                await self._turn.ended.wait()
            await self._begin(turn)
            try:
                await self._play(turn, prompt)
            except Exception as error:  # noqa: BLE001 - a prompt must end whatever the SDK raises
                _log.exception("turn_failed")
                await self._fail(turn, "agent_failed", f"{type(error).__name__}: {error}"[:2000])
            await turn.ended.wait()

    async def _play(self, turn: Turn, prompt: link.Prompt) -> None:
        self._mode = prompt.permission_mode
        if prompt.model and prompt.model != self._model:
            self._model = prompt.model
            if self._program is not None:
                await self._program.set_model(prompt.model, CONTROL_SECONDS)
        if self._program is None and not await self._start(turn):
            return
        await self._apply_mode()
        if turn.stopping or self._program is None:
            await self._end(turn, turns.broken(turn, "interrupted", "interrupted", "", time.monotonic()))
            return
        await self._program.send(_content(prompt), turn.add())

    async def _begin(self, turn: Turn) -> None:
        self._turn = turn
        turn.began = time.monotonic()
        self._meter.begin()
        await self._emit(link.TurnStarted(turn_id=turn.id, injected=turn.injected))

    async def _end(self, turn: Turn, ended: link.TurnEnded) -> None:
        if turn.over:
            return
        turn.over = True
        if self._gate is not None:
            await self._gate.settle()
        if self._translator is not None:
            self._translator.abandon()
        await self._emit(ended)
        self._turn = None
        turn.ended.set()

    async def _fail(self, turn: Turn, reason: str, message: str) -> None:
        if turn.over:
            return
        await self._emit(ev.ErrorEvent(code=reason, message=message))
        outcome: ev.Outcome = "interrupted" if turn.stopping else "failed"
        await self._end(turn, turns.broken(turn, outcome, reason, message, time.monotonic()))

    # --- the program ---------------------------------------------------------------------------------------------

    async def _start(self, turn: Turn) -> bool:
        """Starts the program; on failure the turn has its end."""
        try:
            try:
                await self._launch()
            except Exception as error:
                if not (self._resume and "No conversation found" in str(error)):
                    raise
                # Killed before it had written anything down, or only the first line, under which the program neither
                # resumes nor begins: so the conversation gets a new name. The log still has all that was said.
                await self._emit(
                    ev.ErrorEvent(code="conversation_lost", message="The agent does not remember this conversation.")
                )
                self._session, self._resume = "", False
                self._meter.reset()
                await self._launch()
        except Exception as error:  # noqa: BLE001 - a program that does not start can fail in any way
            detail = "did not start in time" if isinstance(error, TimeoutError) else str(error)[:1000]
            await self._stop_program()
            await self._fail(turn, "agent_start_failed", f"The agent did not start: {detail}")
            return False
        return True

    async def _launch(self) -> None:
        await self._sdk
        from pilothouse.adapters.agents.claude.gate import Gate
        from pilothouse.adapters.agents.claude.translate import Translator

        self._session = self._session or new_session()
        self._translator = Translator(self._workspace, self._todo)
        self._gate = Gate(self._emit, self._show, self._workspace, plans())
        self._gate.mode = "plan" if self._mode == "plan" else "default"
        program = Program(
            workspace=self._workspace,
            ask=self._gate.ask,
            session=self._session,
            resume=self._resume,
            model=self._model,
            mode=self._mode,
            env={},
        )
        try:
            await program.start()
        except BaseException:
            with suppress(Exception):
                await program.close()
            _log.warning("program_did_not_start", stderr=list(program.stderr)[-20:])
            raise
        self._program = program
        self._resume = True
        self._pump = asyncio.create_task(self._read(program, self._translator, self._gate))

    async def _stop_program(self) -> None:
        """Ends the program; the pump then ends what hangs on it."""
        program, pump = self._program, self._pump
        if program is None:
            return
        with suppress(Exception):
            await program.close()
        if pump is not None:
            await asyncio.wait([pump], timeout=CONTROL_SECONDS)

    async def _apply_mode(self) -> None:
        """Only planning reaches the program; every other mode is the session's policy alone."""
        wanted = "plan" if self._mode == "plan" else "default"
        if self._program is not None and self._gate is not None and self._gate.mode != wanted:
            await self._program.set_mode(wanted, CONTROL_SECONDS)
            self._gate.mode = wanted

    async def _read(self, program: Program, translator: Translator, gate: Gate) -> None:
        """Takes all that the program says, for as long as it lives."""
        why = "The agent's process ended."
        try:
            async for message in program.messages():
                await self._take(message, translator, gate)
        except Exception as error:  # noqa: BLE001 - garbage, a broken pipe, a line without end: it is of no use any more
            why = f"The agent's process ended: {type(error).__name__}: {error}"[:1000]
        _log.warning("program_ended", why=why, stderr=list(program.stderr)[-20:])
        if self._program is program:
            self._program = None
        with suppress(Exception):
            await program.close()
        await gate.cancel_all()
        for tool_id in translator.unfinished():
            await self._emit(ev.ToolResult(tool_id=tool_id, result="The agent ended during this call.", is_error=True))
        if (turn := self._turn) is not None:
            if turn.stopping:
                await self._end(turn, turns.broken(turn, "interrupted", "interrupted", "", time.monotonic()))
            else:
                await self._fail(turn, (self._refuses and "unasked_tool") or "agent_died", self._refuses or why)

    async def _take(self, message: Any, translator: Translator, gate: Gate) -> None:
        from claude_agent_sdk import (
            AssistantMessage,
            ConversationResetMessage,
            ResultMessage,
            StreamEvent,
            SystemMessage,
            UserMessage,
        )

        match message:
            case StreamEvent():
                await self._say(translator.stream(message))
            case AssistantMessage():
                await self._say(translator.assistant(message))
                async with self._shown:
                    self._shown.notify_all()
            case UserMessage():
                await self._results(message, translator, gate)
            case ResultMessage():
                await self._result(message, translator)
            case ConversationResetMessage():
                self._session = message.new_conversation_id
                self._meter.reset()
            case SystemMessage():
                await self._system(message, translator)

    async def _say(self, events: list[link.RunnerEvent]) -> None:
        for event in events:
            await self._emit(event)

    async def _system(self, message: Any, translator: Translator) -> None:
        if message.subtype == "init":
            found = message.data.get("claude_code_version")
            if found and found != self._version:
                _log.warning("version_differs", expected=self._version, found=found)
                self._version = str(found)[:40]
            if self._turn is None or self._turn.over:
                # Nobody prompted: a background task of before has ended and woke the agent.
                await self._begin(Turn(f"injected_{uuid.uuid4().hex}", injected=True))
            elif self._turn.stopping and self._program is not None:
                # A message that was queued behind the interrupted one has its turn now: it goes the same way.
                with suppress(Exception):
                    await self._program.interrupt(CONTROL_SECONDS)
        if self._gate is not None and isinstance(mode := message.data.get("permissionMode"), str):
            self._gate.mode = mode  # the agent can also begin to plan by itself, once that call is allowed
        await self._say(translator.system(message))

    async def _results(self, message: Any, translator: Translator, gate: Gate) -> None:
        from claude_agent_sdk import ToolResultBlock

        from pilothouse.adapters.agents.claude.translate import ran_unasked

        blocks = message.content if isinstance(message.content, list) else []
        for block in blocks:
            if isinstance(block, ToolResultBlock) and not gate.asked(block.tool_use_id) and ran_unasked(block):
                await self._breach(block.tool_use_id)
                return
        await self._say(translator.user(message, command=self._turn is not None and self._turn.command))

    async def _breach(self, tool_id: str) -> None:
        """A tool ran that was not asked: this version of the agent cannot be trusted to ask."""
        self._refuses = f"A tool ran without a question (call {tool_id[:200]}); this agent is not used any further."
        _log.error("unasked_tool", tool_id=tool_id[:200], version=self._version)
        if self._program is not None:
            await self._program.close()

    async def _result(self, result: ResultMessage, translator: Translator) -> None:
        if (turn := self._turn) is None or turn.over:
            return
        await self._emit(self._meter.result(result))
        full = turns.context(translator.usage, result)
        if full is not None:
            await self._emit(ev.SessionUpdate(context=full))
        if turn.takes(result):
            await self._end(turn, turns.ended(turn, result, time.monotonic()))

    async def _show(self, tool_id: str, tool: str, input: dict[str, Any]) -> None:
        """A call is on its way in the messages; it must be shown before it is asked."""
        translator = self._translator
        assert translator is not None
        with suppress(TimeoutError):
            async with asyncio.timeout(SHOW_SECONDS), self._shown:
                await self._shown.wait_for(lambda: translator.shown(tool_id))
        await self._say(translator.call(tool_id, tool, input, None))


def _content(prompt: link.Prompt) -> str | list[dict[str, Any]]:
    """The prompt with its pictures, if it has any."""
    pictures = [
        {"type": "image", "source": {"type": "base64", "media_type": a["mediaType"], "data": a["data"]}}
        for a in prompt.attachments
        if isinstance(a, dict) and str(a.get("mediaType", "")).startswith("image/") and isinstance(a.get("data"), str)
    ]
    return [{"type": "text", "text": prompt.message}, *pictures] if pictures else prompt.message
