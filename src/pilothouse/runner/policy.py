"""Who decides when no person is there: the policy, and where it would ask, a denial with its reason."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pilothouse.core import policy
from pilothouse.core.errors import BadRequest

_PATHS = ("file_path", "notebook_path", "path")


def allowed(text: str | None) -> tuple[policy.Pattern, ...] | None:
    """The request's `allowed_tools`, None for all. Raises BadRequest naming the entry."""
    if text is None or not text.strip():
        return None
    try:
        return policy.allowed_tools([part.strip() for part in text.split(",") if part.strip()])
    except BadRequest as refused:
        raise BadRequest(f"allowed_tools: {refused.message}") from refused


def mode(name: str) -> policy.Mode:
    """The request's `permission_mode`. Raises BadRequest."""
    try:
        return policy.mode(name)
    except BadRequest as refused:
        raise BadRequest(f"permission_mode: {refused.message}") from refused


def decide(
    mode: policy.Mode, tools: Sequence[policy.Pattern] | None, tool: str, input: dict[str, Any], workspace: str
) -> policy.Decision:
    """Allow or deny, never ask."""
    found = policy.decide(tool, _as_seen(input, workspace), mode=mode, allowed=tools)
    if found.verdict != "ask":
        return found
    told = f"{tool} must be approved in mode {mode}, and nobody is there to ask; it was not performed."
    return policy.Decision("deny", told)


def _as_seen(input: dict[str, Any], workspace: str) -> dict[str, Any]:
    """The input with paths of this workspace written as the policy knows it, wherever it really is."""
    seen = dict(input)
    for name in _PATHS:
        if isinstance(path := seen.get(name), str) and (path + "/").startswith(workspace + "/"):
            seen[name] = policy.WORKSPACE + path[len(workspace) :]
    return seen
