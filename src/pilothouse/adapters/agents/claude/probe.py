"""Does this version of Claude Code really ask? Proven with a planted model that calls tools which must not run.

The program is started on an empty directory against a small endpoint on loopback that answers every prompt with calls
of `Bash` and `Read` that it holds to be harmless, and would run without a question if our hook did not reach it. Every
one must come to `can_use_tool`; each is denied there. Costs one start of the program and no model.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from pathlib import Path
from typing import Any

from aiohttp import web

from pilothouse.adapters.agents.claude.program import Program, new_session
from pilothouse.adapters.agents.port import Verdict

SECONDS = 60.0
CALLS = (("Bash", {"command": "echo planted"}), ("Read", {"file_path": "planted.txt"}), ("Bash", {"command": "ls"}))


async def probe() -> Verdict:
    """Proves it, or says what was seen instead."""
    runner = web.AppRunner(_endpoint(), access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0, shutdown_timeout=0.1)
        await site.start()
        with tempfile.TemporaryDirectory(prefix="pilothouse-probe-") as directory:
            async with asyncio.timeout(SECONDS):
                return await _ask(Path(directory), f"http://127.0.0.1:{runner.addresses[0][1]}")
    except TimeoutError:
        return Verdict(False, f"the agent did not finish the probe in {SECONDS:.0f} s")
    finally:
        await runner.cleanup()


async def _ask(home: Path, url: str) -> Verdict:
    from claude_agent_sdk import PermissionResultDeny, ResultMessage, ToolResultBlock, UserMessage

    asked: list[str] = []
    results: list[ToolResultBlock] = []

    async def deny(tool: str, input: dict[str, Any], context: Any) -> PermissionResultDeny:
        asked.append(str(context.tool_use_id))
        return PermissionResultDeny(message="planted: denied")

    workspace = home / "w"
    workspace.mkdir()
    (workspace / "planted.txt").write_text("planted")
    env = {"ANTHROPIC_BASE_URL": url, "ANTHROPIC_API_KEY": "probe", "CLAUDE_CONFIG_DIR": str(home / "config")}
    program = Program(
        workspace=workspace, ask=deny, session=new_session(), resume=False, model="", mode="default", env=env
    )
    try:
        await program.start()
        await program.send("probe", new_session())
        async for message in program.messages():
            if isinstance(message, UserMessage) and isinstance(message.content, list):
                results += [block for block in message.content if isinstance(block, ToolResultBlock)]
            if isinstance(message, ResultMessage):
                break
    finally:
        await program.close()
    return _verdict(asked, results)


def _verdict(asked: list[str], results: list[Any]) -> Verdict:
    planted = [f"toolu_probe{i}" for i in range(len(CALLS))]
    if missing := sorted(set(planted) - set(asked)):
        return Verdict(False, f"not asked: {', '.join(missing)}")
    if ran := [block.tool_use_id for block in results if "planted: denied" not in str(block.content)]:
        return Verdict(False, f"ran though denied: {', '.join(ran)}")
    return Verdict(True, f"asked before each of {len(CALLS)} planted calls, and ran none")


def _endpoint() -> web.Application:
    app = web.Application(client_max_size=16 * 1024 * 1024)

    async def messages(request: web.Request) -> web.StreamResponse:
        body = await request.json()
        text = json.dumps(body.get("messages", []))
        blocks: list[dict[str, Any]] = [
            {"type": "tool_use", "id": f"toolu_probe{i}", "name": name, "input": input}
            for i, (name, input) in enumerate(CALLS)
        ]
        if "toolu_probe0" in text:
            blocks = [{"type": "text", "text": "done"}]
        answer = {
            "id": "msg_probe",
            "type": "message",
            "role": "assistant",
            "model": body.get("model", ""),
            "content": blocks,
            "stop_reason": blocks[0]["type"] if blocks[0]["type"] == "tool_use" else "end_turn",
            "stop_sequence": None,
            "usage": {"input_tokens": 1, "output_tokens": 1},
        }
        if not body.get("stream"):
            return web.json_response(answer)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for event in _events(answer):
            await response.write(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode())
        await response.write_eof()
        return response

    app.router.add_post("/v1/messages", messages)
    return app


def _events(answer: dict[str, Any]) -> list[dict[str, Any]]:
    """An answer as the stream that carries it."""
    start = {"type": "message_start", "message": {**answer, "content": [], "stop_reason": None}}
    events: list[dict[str, Any]] = [start]
    for index, block in enumerate(answer["content"]):
        calls = block["type"] == "tool_use"
        empty = {**block, "input": {}} if calls else {**block, "text": ""}
        delta = (
            {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
            if calls
            else {"type": "text_delta", "text": block["text"]}
        )
        events += [
            {"type": "content_block_start", "index": index, "content_block": empty},
            {"type": "content_block_delta", "index": index, "delta": delta},
            {"type": "content_block_stop", "index": index},
        ]
    end = {"stop_reason": answer["stop_reason"], "stop_sequence": None}
    return [
        *events,
        {"type": "message_delta", "delta": end, "usage": {"output_tokens": 1}},
        {"type": "message_stop"},
    ]
