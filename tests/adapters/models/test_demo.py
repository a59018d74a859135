"""The demo model, first by its wire, then with the real agent."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from pilothouse.adapters.models.demo import application, conversation, script
from pilothouse.adapters.models.demo.answer import Call, Hold, Say
from tests.adapters.models.agent import ask, result, retries
from tests.adapters.models.serving import serving

WRITE = {"name": "Write", "input_schema": {"properties": {"file_path": {}, "content": {}}}}
BASH = {"name": "Bash", "input_schema": {"properties": {"command": {}}}}


@pytest.fixture
async def demo() -> AsyncIterator[str]:
    async with serving(application(pace=0, control=True)) as url:
        yield url


def body(prompt: str, *more: dict[str, Any], stream: bool = False) -> dict[str, Any]:
    messages = [{"role": "user", "content": [{"type": "text", "text": prompt}]}, *more]
    return {"model": "demo", "max_tokens": 9, "messages": messages, "stream": stream, "tools": [WRITE, BASH]}


async def post(url: str, given: dict[str, Any]) -> tuple[int, Any]:
    async with aiohttp.ClientSession() as http, http.post(url + "/v1/messages", json=given) as response:
        return response.status, await response.json()


async def test_one_step_after_another_without_any_memory(demo: str) -> None:
    prompt = "demo: write a.txt hi\\nthere\ndemo: bash cat a.txt\ndemo: say bye"
    _, first = await post(demo, body(prompt))
    assert first["stop_reason"] == "tool_use"
    assert first["content"][0]["input"] == {"file_path": "a.txt", "content": "hi\nthere"}
    taken = {"role": "assistant", "content": first["content"]}
    given = {
        "role": "user",
        "content": [
            {"type": "tool_result", "tool_use_id": first["content"][0]["id"], "content": "ok"},
            {"type": "text", "text": "<system-reminder>be good</system-reminder>"},
        ],
    }
    _, second = await post(demo, body(prompt, taken, given))
    assert second["content"][0]["input"]["command"] == "cat a.txt"
    _, third = await post(demo, body(prompt, taken, given, {"role": "assistant", "content": second["content"]}))
    assert third["content"][0]["text"] == "bye"
    assert third["stop_reason"] == "end_turn"


async def test_a_stream_and_a_whole_answer_say_the_same(demo: str) -> None:
    prompt = "demo: say one two\ndemo: bash echo 'ü'"
    _, whole = await post(demo, body(prompt))
    given = body(prompt, stream=True)
    async with aiohttp.ClientSession() as http, http.post(demo + "/v1/messages", json=given) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        events = [json.loads(line[5:]) async for line in response.content if line.startswith(b"data:")]
    deltas = [e["delta"] for e in events if e["type"] == "content_block_delta"]
    assert "".join(d.get("text", "") for d in deltas) == whole["content"][0]["text"]
    assert json.loads("".join(d.get("partial_json", "") for d in deltas)) == whole["content"][1]["input"]
    assert [e["type"] for e in events][:2] == ["message_start", "ping"]
    assert [e["type"] for e in events][-2:] == ["message_delta", "message_stop"]
    assert events[-2]["usage"]["output_tokens"] == whole["usage"]["output_tokens"] > 0


async def test_other_endpoints_and_bad_bodies(demo: str) -> None:
    async with aiohttp.ClientSession() as http:
        assert (await http.head(demo + "/")).status == 200
        assert (await (await http.get(demo + "/v1/models")).json())["data"][0]["id"] == "demo"
        counted = await (await http.post(demo + "/v1/messages/count_tokens", json=body("x"))).json()
        assert counted["input_tokens"] > 10
        for bad in (b"", b"[]", b"{", b'{"messages": []}', b'{"messages": [1]}'):
            response = await http.post(demo + "/v1/messages", data=bad)
            assert response.status == 400, bad
            assert (await response.json())["error"]["type"] == "invalid_request_error"


async def test_a_fault_ends_after_its_times(demo: str) -> None:
    given = body("demo: error 529 2\ndemo: say well")
    assert [(await post(demo, given))[0] for _ in range(3)] == [529, 529, 200]
    async with aiohttp.ClientSession() as http:
        response = await http.post(demo + "/v1/messages", json=body("demo: error 429 1 7"))
        assert (response.status, response.headers["retry-after"]) == (429, "7")


async def test_hold_waits_for_its_release_and_hangups_are_counted(demo: str) -> None:
    async with aiohttp.ClientSession() as http:
        held = asyncio.create_task(post(demo, body("demo: say a\ndemo: hold gate\ndemo: say b")))
        while "gate" not in (await (await http.get(demo + "/demo/calls")).json())["waiting"]:
            assert not held.done()
        await http.post(demo + "/demo/release/gate")
        assert [b["text"] for b in (await held)[1]["content"]] == ["a", "b"]
        async with http.post(demo + "/v1/messages", json=body("demo: say a\ndemo: hang", stream=True)) as response:
            await response.content.readline()
            response.close()
        while (report := await (await http.get(demo + "/demo/calls")).json())["hangups"] != 1:
            pass
        assert [entry["ended"] for entry in report["log"]] == ["done", "hangup"]


def test_the_persons_words_are_found_among_what_agents_add() -> None:
    asked = conversation.read(
        {
            "messages": [
                {"role": "user", "content": "first"},
                {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "Bash", "input": {}}]},
                {
                    "role": "user",
                    "content": [
                        {"type": "tool_result", "tool_use_id": "t", "content": "no", "is_error": True},
                        {"type": "text", "text": "[Request interrupted by user for tool use]"},
                        {"type": "text", "text": "<system-reminder>x</system-reminder>"},
                        {"type": "text", "text": "second"},
                    ],
                },
            ]
        }
    )
    assert (asked.prompt, asked.turns) == ("second", [])


def test_scripts() -> None:
    first, second, last = script.parse("say hi\\n\nhold x\nbash a\n+ bash b\nwrite p.py <<END\nif 1:\n    x\nEND\n")
    assert first == (Say("hi\n"), Hold("x"), Call("bash", {"command": "a"}), Call("bash", {"command": "b"}))
    assert second == (Call("write", {"path": "p.py", "content": "if 1:\n    x\n"}),)
    assert last == (Say("Done."),)
    assert script.find("words\n```demo\nsay x\n```\nmore") == "say x\n"
    assert script.find("just words") is None
    with pytest.raises(script.ScriptError, match="line 2: dance: no such statement"):
        script.parse("say x\ndance")


async def test_the_standalone_server_writes_its_port(tmp_path: Path) -> None:
    port_file = tmp_path / "port"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pilothouse.adapters.models.demo", "--port-file", str(port_file), "--pace", "0"),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    try:
        assert process.stdout is not None
        line = (await process.stdout.readline()).decode().strip()
        url = f"http://127.0.0.1:{port_file.read_text().strip()}"
        assert line == f"demo model on {url}"
        assert (await post(url, body("demo: say hi")))[1]["content"][0]["text"] == "hi"
    finally:
        process.terminate()
        await process.wait()


# --- with the real agent --------------------------------------------------------------------------------------------


async def test_the_agent_writes_a_program_and_runs_it(demo: str, tmp_path: Path) -> None:
    said = await ask(tmp_path, demo, "Please write a small program and run it", tools="Write,Bash")
    assert "25 primes below 100" in result(said)["result"]
    assert (tmp_path / "work" / "primes.py").is_file()


async def test_the_agent_finds_and_fixes_the_bug(demo: str, tmp_path: Path) -> None:
    said = await ask(tmp_path, demo, "find and fix the bug", tools="Write,Bash,Edit,Read")
    assert "passes now" in result(said)["result"]


async def test_a_denied_call_is_told_in_the_words_it_was_told(demo: str, tmp_path: Path) -> None:
    said = result(await ask(tmp_path, demo, "create a python script"))
    assert "That was not possible: `primes.py` was not written. I was told: “" in said["result"]
    assert not (tmp_path / "work" / "primes.py").exists()


async def test_any_other_prompt_is_told_what_this_is(demo: str, tmp_path: Path) -> None:
    assert "ANTHROPIC_API_KEY" in result(await ask(tmp_path, demo, "how are you?"))["result"]


async def test_a_cut_stream_is_asked_for_again(demo: str, tmp_path: Path) -> None:
    said = await ask(tmp_path, demo, "demo: say one\ndemo: cut 2\ndemo: say two")
    assert (result(said)["result"], result(said)["is_error"]) == ("two", False)


async def test_an_overloaded_endpoint_recovers(demo: str, tmp_path: Path) -> None:
    said = await ask(tmp_path, demo, "demo: error 529 2\ndemo: say well")
    assert (result(said)["result"], retries(said)) == ("well", [529, 529])


async def test_a_sub_agent_gets_a_script_of_its_own(demo: str, tmp_path: Path) -> None:
    prompt = "demo: agent demo: say I am the sub\ndemo: say main"
    said = await ask(tmp_path, demo, prompt, tools="Agent")
    assert result(said)["result"] == "main"
    assert "I am the sub" in json.dumps(said)
