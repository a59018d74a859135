"""Requests of programs: both forms, and each field that is wrong named in what is answered."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pilothouse.core import invoke
from pilothouse.core.errors import BadRequest, TooLarge
from pilothouse.core.invoke import Wish

MAX = 1024 * 1024


def wish(**fields: Any) -> Wish:
    return invoke.wish(json.dumps(fields).encode(), MAX)


def test_what_is_left_out_and_what_is_null_is_the_default() -> None:
    bare = wish(prompt="x")
    nulls = dict.fromkeys(set(Wish.__struct_fields__) - {"prompt"})
    assert wish(prompt="x", **nulls) == bare == wish(input={"prompt": "x"})
    assert (bare.mode, bare.tools, bare.session_id, bare.cancel_on_disconnect) == ("acceptEdits", None, None, None)


def test_every_field_is_taken_in_both_forms() -> None:
    given: dict[str, Any] = {
        "prompt": "é\n", "permission_mode": "bypassPermissions", "allowed_tools": "Read, Bash(git log --format=%h,%s)",
        "session_id": "01a1fca5-a696-7da8-a592-78b242187567", "agent": "echo", "model": "m/1:2", "timeout_s": 86400,
        "max_cost_usd": 0.5, "max_tokens": 1, "cancel_on_disconnect": True, "job_id": "a-1",
    }  # fmt: skip
    assert wish(**given) == wish(input=given) == Wish(**given)
    assert wish(**given).tools == ["Read", "Bash(git log --format=%h,%s)"]


@pytest.mark.parametrize(
    "mode", ["acceptEdits", "acceptAll", "manual", "plan", "dontAsk", "default", "bypassPermissions"]
)
def test_modes(mode: str) -> None:
    assert wish(prompt="x", permission_mode=mode).mode == mode


@pytest.mark.parametrize(
    "tools", ["Replace,Search,List,Task", "Read", "Edit,Write,Bash,Agent", "mcp__x__y", "Bash(npm test:*),WebFetch"]
)
def test_tools(tools: str) -> None:
    assert wish(prompt="x", allowed_tools=tools).tools == tools.split(",")


WRONG: list[tuple[dict[str, Any], str]] = [
    ({}, "prompt: it is missing"),
    ({"prompt": ""}, "prompt: it is empty"),
    ({"prompt": " \n"}, "prompt: it is empty"),
    ({"prompt": "a\0b"}, "prompt: it has a NUL character"),
    ({"prompt": 1}, "prompt: "),
    ({"prompt": None}, "prompt: "),
    ({"prompt": ["x"]}, "prompt: "),
    ({"prompt": "x", "jobId": "a"}, "jobId: there is no such field"),
    ({"prompt": "x", "": 1}, ": there is no such field"),
    ({"input": {"prompt": "x", "steer": True}}, "steer: there is no such field"),
    ({"input": {}}, "prompt: it is missing"),
    ({"input": "x"}, "input: expected an object"),
    ({"input": None}, "input: expected an object"),
    ({"input": {"prompt": "x"}, "model": "m"}, "'model': nothing stands beside 'input'"),
    ({"input": {"prompt": {"prompt": "x"}}}, "prompt: "),
    ({"prompt": "x", "permission_mode": "yolo"}, "permission_mode: 'yolo' is none of acceptEdits"),
    ({"prompt": "x", "permission_mode": ""}, "permission_mode: "),
    ({"prompt": "x", "permission_mode": 3}, "permission_mode: "),
    ({"prompt": "x", "allowed_tools": ""}, "allowed_tools: an entry is empty"),
    ({"prompt": "x", "allowed_tools": "Read,,Edit"}, "allowed_tools: an entry is empty"),
    ({"prompt": "x", "allowed_tools": "Read,"}, "allowed_tools: an entry is empty"),
    ({"prompt": "x", "allowed_tools": "Read,Reed"}, "allowed_tools: unknown tool 'Reed'"),
    ({"prompt": "x", "allowed_tools": "Bash(ls"}, "allowed_tools: tool pattern: 'Bash(ls'"),
    ({"prompt": "x", "allowed_tools": "Bash)ls"}, "allowed_tools: tool pattern: 'Bash)ls'"),
    ({"prompt": "x", "allowed_tools": ",".join(["Read"] * 101)}, "allowed_tools: 101 entries"),
    ({"prompt": "x", "allowed_tools": ["Read"]}, "allowed_tools: "),
    ({"prompt": "x", "session_id": "../../etc"}, "session_id: expected a UUID"),
    ({"prompt": "x", "session_id": ""}, "session_id: expected a UUID"),
    ({"prompt": "x", "session_id": 7}, "session_id: "),
    ({"prompt": "x", "agent": ""}, "agent: "),
    ({"prompt": "x", "model": ""}, "model: "),
    ({"prompt": "x", "model": "m" * 201}, "model: "),
    ({"prompt": "x", "timeout_s": 0}, "timeout_s: from 1 to 86400"),
    ({"prompt": "x", "timeout_s": 86401}, "timeout_s: "),
    ({"prompt": "x", "timeout_s": 1.5}, "timeout_s: "),
    ({"prompt": "x", "timeout_s": "60"}, "timeout_s: "),
    ({"prompt": "x", "timeout_s": True}, "timeout_s: "),
    ({"prompt": "x", "max_cost_usd": 0}, "max_cost_usd: more than 0"),
    ({"prompt": "x", "max_cost_usd": -1}, "max_cost_usd: more than 0"),
    ({"prompt": "x", "max_cost_usd": 1e6}, "max_cost_usd: "),
    ({"prompt": "x", "max_cost_usd": "1"}, "max_cost_usd: "),
    ({"prompt": "x", "max_tokens": 0}, "max_tokens: "),
    ({"prompt": "x", "max_tokens": 2**53 + 1}, "max_tokens: "),
    ({"prompt": "x", "cancel_on_disconnect": "yes"}, "cancel_on_disconnect: "),
    ({"prompt": "x", "cancel_on_disconnect": 1}, "cancel_on_disconnect: "),
    *(
        ({"prompt": "x", "job_id": name}, "job_id: 1 to 50 letters")
        for name in ("", "-a", "a-", "a/b", "a b", "a.b", "ä", "a" * 51, "a\n", "*", "../x", "$(id)", "a;b", "a`b`")
    ),
]


@pytest.mark.parametrize(("fields", "told"), WRONG)
def test_what_is_wrong_is_named(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(BadRequest) as refused:
        wish(**fields)
    assert refused.value.message.startswith(told)


@pytest.mark.parametrize(
    "body",
    [b"", b"x", b"[]", b"null", b'"x"', b"\xff", b'\xef\xbb\xbf{"prompt":"x"}', b'{"prompt":"x"}{}',
     b'{"prompt":"\\ud800"}', b'{"prompt":"x"', b'{"prompt":' + b"[" * 100_000, b'{"prompt":"x","max_cost_usd":NaN}',
     b'{"prompt":"x","max_tokens":1e999}', b"prompt=x", '{"prompt":"x"}'.encode("utf-16")],
)  # fmt: skip
def test_a_body_that_is_none_is_refused(body: bytes) -> None:
    with pytest.raises(BadRequest):
        invoke.wish(body, MAX)


def test_a_prompt_is_measured_in_bytes() -> None:
    assert len(wish(prompt="é" * (MAX // 2)).prompt) == MAX // 2
    with pytest.raises(TooLarge, match=r"prompt: 1048578 bytes, at most 1048576"):
        wish(prompt="é" * (MAX // 2 + 1))


def test_moments_have_microseconds_and_no_zone() -> None:
    said = invoke.answer(
        success=True, result="x", session_id="s", ended_at="2026-11-21T09:02:52.339Z", model="m", duration_ms=1,
        num_turns=1, cost_usd=0.0, job_id="j", files=[],
    )  # fmt: skip
    assert json.loads(said)["output"]["timestamp"] == "2026-11-21T09:02:52.339000"
