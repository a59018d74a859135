"""`POST /invocations`: one prompt run to its end with nobody there; what must be asked is denied at once.

Body (also as `{"input": {…}}`): `prompt`, `permission_mode`? (acceptEdits), `allowed_tools`? (comma-separated),
`session_id`?, `agent`?, `model`?, `timeout_s`?, `max_cost_usd`?, `max_tokens`?, `cancel_on_disconnect`? (false).
Answers `{"output": {"success", "result", "session_id", "timestamp", "model", "metadata": {…}}}`, or the events as SSE
for `Accept: text/event-stream`, each with `id:`, ending with `complete`. Errors are RFC 9457 problem documents: 400
naming the field, 409 while another turn runs or a server is attached, 413.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec
from aiohttp import web

from pilothouse.core import events as ev
from pilothouse.core import link as wire
from pilothouse.core import policy as rules
from pilothouse.core.errors import BadRequest, Conflict, PilothouseError, TooLarge
from pilothouse.runner import policy
from pilothouse.runner.desk import Desk
from pilothouse.runner.socket import Link

BODY_MAX = 2 * 1024 * 1024
PROMPT_MAX = 1024 * 1024
SESSION_HEADER = "X-Amzn-Bedrock-AgentCore-Runtime-Session-Id"
QUEUE_MAX = 256
"""Events between the agent and a slow reader; beyond it the agent waits."""


class Body(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    prompt: str
    permission_mode: str = "acceptEdits"
    allowed_tools: str | None = None
    session_id: str | None = None
    agent: str | None = None
    model: str | None = None
    timeout_s: float | None = None
    max_cost_usd: float | None = None
    max_tokens: int | None = None
    cancel_on_disconnect: bool = False


@dataclass
class _Run:
    """One invocation under way."""

    id: str
    body: Body
    session_id: str
    mode: rules.Mode
    tools: tuple[rules.Pattern, ...] | None
    began: float = field(default_factory=time.monotonic)
    events: asyncio.Queue[wire.RunnerEvent] = field(default_factory=lambda: asyncio.Queue(QUEUE_MAX))
    usage: wire.AgentUsage = field(default_factory=wire.AgentUsage)
    model: str = ""
    stopped_for: str = ""
    seq: int = 0


class Invocations:
    def __init__(self, desk: Desk, link: Link, workspace: str) -> None:
        self._desk = desk
        self._link = link
        self._workspace = workspace
        self._free = True

    async def handle(self, request: web.Request) -> web.StreamResponse:
        try:
            run = self._accept(await _body(request), request)
        except PilothouseError as refused:
            return _problem(refused)
        feed = self._desk.feed
        feed.taps.append(run.events.put)
        feed.keeping = False
        response: web.StreamResponse | None = None
        try:
            await self._desk.agent.prompt(
                wire.Prompt(
                    id=run.id, message=run.body.prompt, permission_mode=run.body.permission_mode, model=run.body.model
                )
            )
            self._desk.status.expect(run.id)
            if "text/event-stream" in request.headers.get("Accept", ""):
                response = await _open_stream(request)
            ended = await self._follow(run, request, response)
        except PilothouseError as refused:
            self._desk.status.forget(run.id)
            return _problem(refused)
        finally:
            feed.taps.remove(run.events.put)
            feed.keeping = True
            self._free = True
        if response is None:
            return web.json_response({"output": _output(run, ended)})
        with suppress(ConnectionError):
            await response.write_eof()
        return response

    def _accept(self, body: Body, request: web.Request) -> _Run:
        if not body.prompt.strip():
            raise BadRequest("prompt: must not be empty")
        if len(body.prompt.encode()) > PROMPT_MAX:
            raise TooLarge(f"prompt: at most {PROMPT_MAX} bytes")
        if body.agent not in (None, self._desk.agent.facts.name):
            raise BadRequest(f"agent: this runner has {self._desk.agent.facts.name!r}")
        for name in ("timeout_s", "max_cost_usd", "max_tokens"):
            value = getattr(body, name)
            if value is not None and not 0 < value < float("inf"):
                raise BadRequest(f"{name}: must be positive")
        mode, tools = policy.mode(body.permission_mode), policy.allowed(body.allowed_tools)
        if self._link.attached:
            raise Conflict("a server is attached to this session; give it the prompt")
        if self._desk.status.busy or not self._free:
            raise Conflict("another turn is running")
        self._free = False
        session = body.session_id or request.headers.get(SESSION_HEADER) or ""
        return _Run(str(uuid.uuid4()), body, session, mode, tools, model=body.model or self._desk.agent.facts.model)

    async def _follow(self, run: _Run, request: web.Request, response: web.StreamResponse | None) -> wire.TurnEnded:
        """Takes the turn's events to its end, deciding what is asked."""
        limit = asyncio.create_task(self._watch(run, request))
        try:
            while True:
                event = await run.events.get()
                await self._take(run, event)
                if response is not None and (shown := _shown(run, event)) is not None:
                    with suppress(ConnectionError):
                        await _write(run, response, shown)
                if isinstance(event, wire.TurnEnded) and event.turn_id == run.id:
                    return event
        finally:
            limit.cancel()

    async def _take(self, run: _Run, event: wire.RunnerEvent) -> None:
        match event:
            case wire.PermissionAsk():
                await self._decide(run, event)
            case wire.QuestionAsk(request_id=request_id):
                told = "Nobody is there to answer; decide by yourself."
                await self._desk.agent.answer(wire.QuestionAnswer(id="-", request_id=request_id, message=told))
            case wire.AgentUsage():
                run.usage = event
                await self._meter(run)
            case ev.SessionUpdate():
                run.session_id = run.session_id or event.claude_session_id or ""
                run.model = event.model or run.model
            case _:
                pass

    async def _decide(self, run: _Run, ask: wire.PermissionAsk) -> None:
        verdict = policy.decide(run.mode, run.tools, ask.tool, ask.input, self._workspace)
        with suppress(PilothouseError):  # the ask may have been cancelled in between
            await self._desk.agent.answer(
                wire.PermissionAnswer(
                    id="-",
                    request_id=ask.request_id,
                    behavior="allow" if verdict.verdict == "allow" else "deny",
                    message=verdict.reason or None,
                )
            )

    async def _meter(self, run: _Run) -> None:
        tokens = run.usage.input_tokens + run.usage.output_tokens
        over_cost = run.body.max_cost_usd is not None and run.usage.total_cost > run.body.max_cost_usd
        over_tokens = run.body.max_tokens is not None and tokens > run.body.max_tokens
        if (over_cost or over_tokens) and not run.stopped_for:
            run.stopped_for = "budget_exceeded"
            await self._desk.agent.interrupt()

    async def _watch(self, run: _Run, request: web.Request) -> None:
        """Interrupts the turn when its time is over or, if asked for, when the caller has gone."""
        while True:
            await asyncio.sleep(0.25)
            if run.body.timeout_s is not None and time.monotonic() - run.began > run.body.timeout_s:
                run.stopped_for = "timeout"
            elif run.body.cancel_on_disconnect and (request.transport is None or request.transport.is_closing()):
                run.stopped_for = "caller disconnected"
            else:
                continue
            await self._desk.agent.interrupt()
            return


async def _body(request: web.Request) -> Body:
    try:
        raw = await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise TooLarge(f"body: at most {BODY_MAX} bytes") from None
    try:
        data = msgspec.json.decode(raw)
        if isinstance(data, dict) and set(data) == {"input"} and isinstance(data["input"], dict):
            data = data["input"]
        if isinstance(data, dict):
            unknown = sorted(set(data) - set(Body.__struct_fields__))
            if unknown:
                raise BadRequest(f"unknown fields: {', '.join(unknown)[:500]}")
        return msgspec.convert(data, Body)
    except (msgspec.MsgspecError, ValueError) as error:
        raise BadRequest(str(error)) from error


def _problem(refused: PilothouseError) -> web.Response:
    body = {
        "type": "about:blank",
        "title": refused.code,
        "status": refused.status,
        "detail": refused.message,
    }
    return web.json_response(body, status=refused.status, content_type="application/problem+json")


async def _open_stream(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(
        headers={"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-store"}
    )
    await response.prepare(request)
    return response


async def _write(run: _Run, response: web.StreamResponse, event: ev.Event) -> None:
    run.seq += 1
    at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    whole = msgspec.structs.replace(event, session_id=run.session_id, job_id=run.id, at=at, seq=run.seq)
    await response.write(b"id: %d\ndata: %b\n\n" % (run.seq, ev.encode(whole)))


def _shown(run: _Run, event: wire.RunnerEvent) -> ev.Event | None:
    """The event in the vocabulary of the log; None for what is only between runner and server."""
    match event:
        case wire.TurnStarted() | wire.PermissionAsk() | wire.QuestionAsk() | wire.AskCancelled():
            return None
        case wire.AgentUsage():
            return ev.Usage(
                input_tokens=event.input_tokens,
                output_tokens=event.output_tokens,
                cache_read_tokens=event.cache_read_tokens,
                cache_write_tokens=event.cache_write_tokens,
                total_cost=event.total_cost,
                measured="agent",
            )
        case wire.TurnEnded():
            if event.turn_id != run.id:
                return None
            outcome, result = _outcome(run, event)
            return ev.Complete(
                outcome=outcome,
                result=result,
                total_cost=run.usage.total_cost,
                duration_ms=event.duration_ms,
                num_turns=event.num_turns,
                reason=run.stopped_for or event.reason,
            )
        case _:
            return event


def _outcome(run: _Run, ended: wire.TurnEnded) -> tuple[ev.Outcome, str]:
    if run.stopped_for == "budget_exceeded":
        return "budget_exceeded", "The budget of this request is used up."
    if run.stopped_for == "timeout":
        return "failed", f"Timed out after {run.body.timeout_s:g} s."
    return ended.outcome, ended.result or ended.reason or ""


def _output(run: _Run, ended: wire.TurnEnded) -> dict[str, Any]:
    outcome, result = _outcome(run, ended)
    return {
        "success": outcome == "succeeded",
        "result": result,
        "session_id": run.session_id,
        "timestamp": datetime.now(UTC).replace(tzinfo=None).isoformat(timespec="microseconds"),
        "model": run.model,
        "metadata": {
            "duration_ms": ended.duration_ms,
            "num_turns": ended.num_turns,
            "total_cost_usd": run.usage.total_cost,
            "job_id": run.id,
            "uploaded_files": [],
        },
    }
