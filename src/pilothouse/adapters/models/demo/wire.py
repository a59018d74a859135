"""The Messages wire, out: an answer as server-sent events, or as one JSON object.

`frames` gives bytes to send and, between them, the parts of an answer that are not text but behaviour (`Hold`, `Delay`,
`Hang`, `Cut`, `Garbage`), which the server acts out where they stand.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, TypeAlias

from pilothouse.adapters.models.demo import answer as a

_WORD = re.compile(r"\s*\S+\s*|\s+")
_JSON_PIECE = 48
"""Characters of a tool's input per event: enough of them to be seen growing."""
_LONG = 4000
"""Texts above this go out in larger pieces: they are there to fill buffers, not to be read."""

Act: TypeAlias = a.Hold | a.Delay | a.Hang | a.Cut | a.Garbage
Frame: TypeAlias = bytes | Act


def tokens(text: str) -> int:
    """A token is taken for four characters, as good as any rule of thumb."""
    return max(1, (len(text) + 3) // 4) if text else 0


def stop_reason(answer: a.Answer) -> str:
    for part in answer:
        if isinstance(part, a.Stop):
            return part.reason
    return "tool_use" if a.called(answer) else "end_turn"


def blocks(answer: a.Answer, ids: str, thinking: bool) -> list[dict[str, Any] | Act]:
    """The content blocks of an answer, with the acts between them."""
    out: list[dict[str, Any] | Act] = []
    for at, part in enumerate(answer):
        match part:
            case a.Say(text) if text:
                out.append({"type": "text", "text": text})
            case a.Think(text) if thinking:
                out.append({"type": "thinking", "thinking": text, "signature": "demo"})
            case a.Call(tool, given):
                out.append({"type": "tool_use", "id": f"toolu_demo{ids}{at:02}", "name": tool, "input": given})
            case a.Hold() | a.Delay() | a.Hang() | a.Cut() | a.Garbage():
                out.append(part)
    return out


def usage(given: int, content: list[dict[str, Any] | Act]) -> dict[str, int]:
    made = sum(tokens(_text(b)) for b in content if isinstance(b, dict))
    return {
        "input_tokens": given,
        "output_tokens": made,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
    }


def _text(block: dict[str, Any]) -> str:
    return str(block.get("text") or block.get("thinking") or json.dumps(block.get("input") or {}))


def message(answer: a.Answer, ids: str, model: str, given: int, thinking: bool) -> dict[str, Any]:
    content = blocks(answer, ids, thinking)
    return {
        "id": f"msg_demo{ids}",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [b for b in content if isinstance(b, dict)],
        "stop_reason": stop_reason(answer),
        "stop_sequence": None,
        "usage": usage(given, content),
    }


def frames(answer: a.Answer, ids: str, model: str, given: int, thinking: bool) -> Iterator[Frame]:
    content = blocks(answer, ids, thinking)
    whole = usage(given, content)
    head = message((), ids, model, given, thinking) | {"stop_reason": None, "usage": whole | {"output_tokens": 1}}
    yield event("message_start", message=head)
    yield event("ping")
    index = 0
    for block in content:
        if not isinstance(block, dict):
            yield block
            continue
        yield from _block(index, block)
        index += 1
    yield event("message_delta", delta={"stop_reason": stop_reason(answer), "stop_sequence": None}, usage=whole)
    yield event("message_stop")


def _block(index: int, block: dict[str, Any]) -> Iterator[bytes]:
    match block["type"]:
        case "text":
            empty: dict[str, Any] = {"type": "text", "text": ""}
            deltas = [{"type": "text_delta", "text": piece} for piece in _pieces(block["text"])]
        case "thinking":
            empty = {"type": "thinking", "thinking": "", "signature": ""}
            deltas = [{"type": "thinking_delta", "thinking": piece} for piece in _pieces(block["thinking"])]
            deltas.append({"type": "signature_delta", "signature": block["signature"]})
        case _:
            empty = block | {"input": {}}
            text = json.dumps(block["input"], ensure_ascii=False)
            size = max(_JSON_PIECE, len(text) // 64)
            pieces = [text[at : at + size] for at in range(0, len(text), size)]
            deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]
    yield event("content_block_start", index=index, content_block=empty)
    for delta in deltas:
        yield event("content_block_delta", index=index, delta=delta)
    yield event("content_block_stop", index=index)


def _pieces(text: str) -> list[str]:
    if len(text) > _LONG:
        return [text[at : at + 512] for at in range(0, len(text), 512)]
    return _WORD.findall(text)


def event(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields}, ensure_ascii=False)}\n\n".encode()


_KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}


def error(status: int, text: str) -> dict[str, Any]:
    kind = _KINDS.get(status, "api_error" if status >= 500 else "invalid_request_error")
    return {"type": "error", "error": {"type": kind, "message": text}}
