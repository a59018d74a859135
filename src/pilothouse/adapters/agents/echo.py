"""The echo agent: no model, no network, does what the prompt says. For trying Pilothouse out and for its tests.

A prompt is a script, one step a line; a line that begins with no known word is said back as text.

| step | what happens |
|---|---|
| `say TEXT` | text, streamed word by word |
| `think TEXT` | reasoning, streamed |
| `tool NAME {json}` | asks, then "runs": the result is the input's JSON. A denial is its result, as an error |
| `free NAME {json}` | the same without asking |
| `write PATH TEXT` | tool `Write`: asks with a diff, then writes the file; `\\n` in TEXT is a line end |
| `read PATH` | tool `Read`: asks, then gives the file (at most 64 KiB) |
| `run COMMAND ARG…` | tool `Bash`: asks, then runs a program in the workspace; its output comes as it is printed |
| `question TEXT \\| A \\| B` | a question with options; the answer is said back |
| `plan A; B; C` | a to-do list whose first entry is under way |
| `exit PLAN` | tool `ExitPlanMode` |
| `cut TEXT` | streams TEXT, takes it back with `stream_reset`, streams it again |
| `retry` | the model call is being repeated |
| `usage IN OUT COST` | the agent's own count |
| `sleep SECONDS` | nothing, cancellable |
| `flood N [SIZE]` | N tool outputs of SIZE characters (1024) as fast as the link takes them |
| `background SECONDS TEXT` | after this turn and that time an injected turn says TEXT |
| `mode` · `env NAME` | says the permission mode · a variable of the agent's environment |
| `fail REASON` | the turn fails |
| `die` | as if the agent's process had died: `error agent_died`, the turn fails, the next prompt starts it again |

Steered text is said back at the next step. Every turn ends with `turn_ended` whose result is the text said.
"""

from __future__ import annotations

import asyncio
import difflib
import json
import os
import shlex
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pilothouse.adapters.agents.port import Answer, Emit, Facts, Verdict
from pilothouse.core import events as ev
from pilothouse.core import link
from pilothouse.core.errors import BadRequest, Conflict, NotFound, TooLarge

VERSION = "1"
READ_MAX = 64 * 1024
OUTPUT_READ = 4096
KINDS: dict[str, ev.ToolKind] = {"Write": "edit", "Edit": "edit", "Read": "read", "Bash": "execute", "Grep": "search"}
_SAID = ("say", "think", "tool", "free", "write", "read", "run", "question", "plan", "exit", "cut", "retry", "usage")
WORDS = frozenset((*_SAID, "sleep", "flood", "background", "mode", "env", "fail", "die"))
REJECTED = "The user rejected this action."


class _Failed(Exception):
    """The script says that the turn fails."""


@dataclass
class _Turn:
    id: str
    script: list[tuple[str, str]]
    injected: bool = False
    said: list[str] = field(default_factory=list)
    steered: list[str] = field(default_factory=list)
    stopping: bool = False


def parse(prompt: str) -> list[tuple[str, str]]:
    """The steps of a script: word and rest."""
    steps = []
    for line in prompt.splitlines():
        word, _, rest = line.strip().partition(" ")
        if word in WORDS:
            steps.append((word, rest.strip()))
        elif line.strip():
            steps.append(("say", line.strip()))
    return steps


class EchoAgent:
    def __init__(self, emit: Emit, workspace: Path, model: str = "") -> None:
        self._emit = emit
        self._workspace = workspace
        self._model = model or "echo-1"
        self._mode = "default"
        self._session = ""
        self._waiting: asyncio.Queue[_Turn] = asyncio.Queue()
        self._asks: dict[str, asyncio.Future[Answer]] = {}
        self._turn: _Turn | None = None
        self._running: asyncio.Task[None] | None = None
        self._worker: asyncio.Task[None] | None = None
        self._later: set[asyncio.Task[None]] = set()

    @property
    def facts(self) -> Facts:
        return Facts("echo", VERSION, ("steer", "interrupt", "modes", "models", "resume", "questions"), self._model)

    async def prompt(self, prompt: link.Prompt) -> None:
        self._mode = prompt.permission_mode
        self._model = prompt.model or self._model
        self._queue(_Turn(prompt.id, parse(prompt.message)))

    async def steer(self, message: str) -> None:
        if self._turn is None:
            raise Conflict("no turn is running")
        self._turn.steered.append(message)

    async def interrupt(self) -> None:
        while not self._waiting.empty():
            turn = self._waiting.get_nowait()
            await self._emit(link.TurnStarted(turn_id=turn.id, injected=turn.injected))
            await self._end(turn, "interrupted", time.monotonic())
        if self._running is not None and self._turn is not None and not self._turn.stopping:
            self._turn.stopping = True  # a second cancel would hit the turn while it says that it ended
            self._running.cancel()

    async def answer(self, answer: Answer) -> None:
        future = self._asks.pop(answer.request_id, None)
        if future is None or future.done():
            raise NotFound("no such ask is open")
        future.set_result(answer)

    async def set_mode(self, mode: str) -> None:
        self._mode = mode
        await self._emit(ev.SessionUpdate(mode=mode))

    async def set_model(self, model: str) -> None:
        self._model = model
        await self._emit(ev.SessionUpdate(model=model))

    async def resume(self, agent_session_id: str) -> None:
        if self._session not in ("", agent_session_id):
            raise Conflict("another conversation has begun here")
        self._session = agent_session_id

    async def probe(self) -> Verdict:
        return Verdict(asks=True, detail="the echo agent asks before every tool but `free`")

    async def close(self) -> None:
        tasks = [task for task in (self._worker, self._running, *self._later) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _queue(self, turn: _Turn) -> None:
        self._waiting.put_nowait(turn)
        if self._worker is None:
            self._worker = asyncio.create_task(self._work())

    async def _work(self) -> None:
        while True:
            self._turn = await self._waiting.get()
            self._running = asyncio.create_task(self._play(self._turn))
            await asyncio.wait([self._running])
            self._turn = self._running = None

    async def _play(self, turn: _Turn) -> None:
        began = time.monotonic()
        outcome: ev.Outcome = "succeeded"
        reason = None
        await self._emit(link.TurnStarted(turn_id=turn.id, injected=turn.injected))
        try:
            if not self._session:
                self._session = str(uuid.uuid4())
                await self._emit(ev.SessionUpdate(claude_session_id=self._session, model=self._model))
            for word, rest in turn.script:
                await self._step(turn, word, rest)
                while turn.steered:
                    await self._say(turn, f"You also said: {turn.steered.pop(0)}")
        except (_Failed, BadRequest, ValueError, OSError) as failed:
            outcome, reason = "failed", str(failed)
        except asyncio.CancelledError:
            outcome, reason = "interrupted", "interrupted"
            for request_id in list(self._asks):
                del self._asks[request_id]
                await self._emit(link.AskCancelled(request_id=request_id))
        await self._end(turn, outcome, began, reason)

    async def _end(self, turn: _Turn, outcome: ev.Outcome, began: float, reason: str | None = None) -> None:
        await self._emit(
            link.TurnEnded(
                turn_id=turn.id,
                outcome=outcome,
                result=reason if outcome == "failed" and reason else "".join(turn.said),
                num_turns=1,
                duration_ms=int((time.monotonic() - began) * 1000),
                reason=reason,
            )
        )

    async def _step(self, turn: _Turn, word: str, rest: str) -> None:
        match word:
            case "say":
                await self._say(turn, rest)
            case "think":
                await self._stream(rest, thinking=True)
            case "tool" | "free":
                name, _, text = rest.partition(" ")
                await self._call(name or "Echo", _json(text), ask=word == "tool")
            case "write":
                await self._write(rest)
            case "read":
                await self._call("Read", {"file_path": rest}, run=self._read)
            case "run":
                await self._call("Bash", {"command": rest}, run=self._run)
            case "question":
                await self._question(turn, rest)
            case "exit":
                await self._call("ExitPlanMode", {"plan": rest})
            case "cut":
                message_id = await self._stream(rest)
                await self._emit(ev.StreamReset(message_id=message_id))
                await self._say(turn, rest)
            case "background":
                seconds, _, text = rest.partition(" ")
                self._inject(float(seconds or 0), text)
            case "mode":
                await self._say(turn, self._mode)
            case "env":
                await self._say(turn, f"{rest}={os.environ.get(rest, '')}")
            case "sleep":
                await asyncio.sleep(float(rest or 1))
            case "flood":
                await self._flood(rest)
            case "fail":
                raise _Failed(rest or "the script says so")
            case "die":
                await self._emit(
                    ev.ErrorEvent(code="agent_died", message="The agent's process ended (the script says so).")
                )
                raise _Failed("agent_died")
            case _:
                await self._emit(_plain(word, rest))

    async def _say(self, turn: _Turn, text: str) -> None:
        turn.said.append(text)
        await self._stream(text)

    async def _stream(self, text: str, *, thinking: bool = False) -> str:
        message_id = f"msg_{uuid.uuid4().hex}"
        kind = ev.Thinking if thinking else ev.Stream
        for word in text.split(" "):
            await self._emit(kind(content=word + " ", message_id=message_id))
        return message_id

    async def _flood(self, rest: str) -> None:
        count, _, size = rest.partition(" ")
        tool_id = f"tool_{uuid.uuid4().hex}"
        await self._emit(ev.ToolUse(tool="Flood", tool_id=tool_id, input={}, kind="other"))
        for _ in range(int(count or 1)):
            await self._emit(ev.ToolOutput(tool_id=tool_id, content="x" * int(size or 1024)))
        await self._emit(ev.ToolResult(tool_id=tool_id, result="flooded", is_error=False))

    async def _write(self, rest: str) -> None:
        name, _, text = rest.partition(" ")
        content = text.replace("\\n", "\n")
        path = self._workspace / name
        before = path.read_text() if path.is_file() else None
        patch = difflib.unified_diff(
            (before or "").splitlines(True), content.splitlines(True), f"a/{name}", f"b/{name}", n=3
        )
        diff = [ev.Diff(path=name, kind="add" if before is None else "edit", patch="".join(patch))]

        async def run(_: str, input: dict[str, Any]) -> tuple[str, bool]:
            target = self._workspace / str(input["file_path"])
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(str(input["content"]))
            return f"wrote {input['file_path']}", False

        await self._call("Write", {"file_path": name, "content": content}, diff=diff, run=run)

    async def _read(self, _: str, input: dict[str, Any]) -> tuple[str, bool]:
        try:
            with (self._workspace / str(input["file_path"])).open("rb") as file:
                return file.read(READ_MAX).decode(errors="replace"), False
        except OSError as error:
            return str(error), True

    async def _run(self, tool_id: str, input: dict[str, Any]) -> tuple[str, bool]:
        try:
            argv = shlex.split(str(input["command"]))
            process = await asyncio.create_subprocess_exec(
                *argv,
                cwd=self._workspace,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
        except (OSError, ValueError, TypeError) as error:
            return str(error), True
        assert process.stdout is not None
        output = ""
        try:
            while piece := await process.stdout.read(OUTPUT_READ):
                text = piece.decode(errors="replace")
                output = (output + text)[-READ_MAX:]
                await self._emit(ev.ToolOutput(tool_id=tool_id, content=text))
            return output, await process.wait() != 0
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()

    async def _call(
        self,
        tool: str,
        input: dict[str, Any],
        *,
        ask: bool = True,
        diff: list[ev.Diff] | None = None,
        run: Any = None,
    ) -> None:
        tool_id = f"tool_{uuid.uuid4().hex}"
        edited = input
        await self._emit(ev.ToolUse(tool=tool, tool_id=tool_id, input=input, kind=KINDS.get(tool, "other")))
        if ask:
            answer = await self._ask(
                link.PermissionAsk(
                    request_id=f"ask_{uuid.uuid4().hex}", tool_id=tool_id, tool=tool, input=input, diff=diff or []
                )
            )
            assert isinstance(answer, link.PermissionAnswer)
            if answer.behavior == "deny":
                told = answer.message or REJECTED
                await self._emit(ev.ToolResult(tool_id=tool_id, result=told, is_error=True))
                if answer.interrupt:
                    raise asyncio.CancelledError
                return
            edited = answer.updated_input if isinstance(answer.updated_input, dict) else input
            if answer.mode:
                await self.set_mode(answer.mode)
        result, failed = await run(tool_id, edited) if run else (json.dumps(edited), False)
        await self._emit(ev.ToolResult(tool_id=tool_id, result=result, is_error=failed, diff=None if failed else diff))

    async def _ask(self, ask: link.PermissionAsk | link.QuestionAsk) -> Answer:
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._asks[ask.request_id] = future
        try:
            await self._emit(ask)
        except TooLarge as error:
            del self._asks[ask.request_id]
            return link.PermissionAnswer(id="-", request_id=ask.request_id, behavior="deny", message=error.message)
        return await future

    async def _question(self, turn: _Turn, rest: str) -> None:
        text, *options = [part.strip() for part in rest.split("|")]
        question = ev.Question(question=text, options=[ev.Choice(label=label) for label in options])
        answer = await self._ask(link.QuestionAsk(request_id=f"ask_{uuid.uuid4().hex}", questions=[question]))
        assert isinstance(answer, link.QuestionAnswer)
        await self._say(turn, answer.message or f"You chose {answer.answers.get(text, 'nothing')}")

    def _inject(self, seconds: float, text: str) -> None:
        async def later() -> None:
            await asyncio.sleep(seconds)
            self._queue(_Turn(f"injected_{uuid.uuid4().hex}", [("say", text)], injected=True))

        task = asyncio.create_task(later())
        self._later.add(task)
        task.add_done_callback(self._later.discard)


def _json(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text or "{}")
    except ValueError as error:
        raise _Failed(f"tool input: {error}") from error
    if not isinstance(value, dict):
        raise _Failed("tool input: an object")
    return value


def _plain(word: str, rest: str) -> link.RunnerEvent:
    """Steps that are one event."""
    if word == "plan":
        return ev.Plan(
            entries=[
                ev.PlanEntry(content=part.strip(), status="pending" if i else "in_progress")
                for i, part in enumerate(rest.split(";"))
            ]
        )
    if word == "retry":
        return ev.Retry(attempt=1, of=3, delay_ms=500, reason="the script says so")
    if word == "usage":
        used, made, cost = [*rest.split(), "0", "0", "0"][:3]
        return link.AgentUsage(input_tokens=int(used), output_tokens=int(made), total_cost=float(cost))
    raise BadRequest(f"no such step: {word}")


def make(emit: Emit, workspace: Path, model: str) -> EchoAgent:
    return EchoAgent(emit, workspace, model)
