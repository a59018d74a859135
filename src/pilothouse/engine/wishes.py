"""What people wish for, before anything is made of it. All of these raise BadRequest that names what is wrong."""

from __future__ import annotations

import re

from pilothouse.core import events as ev
from pilothouse.core import policy
from pilothouse.core.errors import BadRequest

TITLE_MAX = 200
COST_MAX = 1_000_000
"""USD of one job: beyond it somebody has slipped."""
TIMEOUT_MAX_S = 86_400
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def prompt(text: str, most: int) -> None:
    if not text.strip():
        raise BadRequest("prompt: it is empty")
    size = len(text.encode("utf-8", "surrogatepass"))
    if size > most:
        raise BadRequest(f"prompt: {size} bytes, at most {most}", code="too_large")
    if "\x00" in text:
        raise BadRequest("prompt: it has a NUL character")


def title(text: str) -> str:
    if len(text) > TITLE_MAX or _CONTROL.search(text):
        raise BadRequest(f"title: one line of at most {TITLE_MAX} characters")
    return text.strip()


def model(text: str) -> str:
    if len(text) > 200 or re.search(r"[^\w.:/@-]", text, re.ASCII):
        raise BadRequest("model: an id of letters, digits and . : / @ _ -")
    return text


def options(
    permission_mode: str | None,
    allowed_tools: list[str] | None,
    max_cost_usd: float | None,
    max_tokens: int | None,
    wanted: str | None,
    timeout_s: int | None,
) -> None:
    """Of a job, as far as they are given; `wanted` is the model."""
    if permission_mode is not None:
        policy.mode(permission_mode)
    if allowed_tools is not None:
        policy.allowed_tools(allowed_tools)
    if max_cost_usd is not None and not 0 < max_cost_usd < COST_MAX:
        raise BadRequest(f"maxCostUsd: more than 0, less than {COST_MAX}")
    if max_tokens is not None and not 1 <= max_tokens <= ev.COUNT_MAX:
        raise BadRequest(f"maxTokens: from 1 to {ev.COUNT_MAX}")
    if timeout_s is not None and not 1 <= timeout_s <= TIMEOUT_MAX_S:
        raise BadRequest(f"timeoutS: from 1 to {TIMEOUT_MAX_S}")
    model(wanted or "")
