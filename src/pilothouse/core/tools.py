"""What the agents' tools are: their kind, the path they touch, the one line a person reads.

Names are Claude Code's of today; older names stand for their successors. A tool that is not listed is `other`: nothing
is assumed about it, and policy asks.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import Any

from pilothouse.core.events import ToolKind

KINDS: Mapping[str, ToolKind] = {
    "Read": "read",
    "NotebookRead": "read",
    "LS": "read",
    "Glob": "search",
    "Grep": "search",
    "ToolSearch": "search",
    "Edit": "edit",
    "MultiEdit": "edit",
    "Write": "edit",
    "NotebookEdit": "edit",
    "Bash": "execute",
    "BashOutput": "read",
    "TaskOutput": "read",
    "KillShell": "execute",
    "TaskStop": "execute",
    "WebFetch": "fetch",
    "WebSearch": "fetch",
    "TodoWrite": "think",
    "TaskCreate": "think",
    "TaskUpdate": "think",
    "TaskList": "think",
    "TaskGet": "think",
    "EnterPlanMode": "think",
    "ExitPlanMode": "think",
    "Agent": "other",
    "Skill": "other",
    "AskUserQuestion": "other",
}

ALIASES: Mapping[str, tuple[str, ...]] = {
    "Replace": ("Edit",),
    "Search": ("Grep", "Glob"),
    "List": ("LS", "Glob"),
    "Task": ("Agent",),
}
"""Older names that callers still give in `allowedTools`."""

NETWORK = "network"
"""The tool of an approval that the proxy asks for: a connection to a domain. No agent's tool may be called so."""

PATH_FIELDS = ("file_path", "notebook_path", "path")


def reserved(tool: str) -> bool:
    """Whether a tool's name is ours, or looks like it: other forms of the letters, or signs that are not seen."""
    plain = unicodedata.normalize("NFKC", tool).casefold()
    return "".join(c for c in plain if c.isalnum()) == NETWORK


def kind(tool: str) -> ToolKind:
    return KINDS.get(tool, "other")


def path(tool: str, tool_input: Any) -> str | None:
    """The file or folder that a call names, as the agent wrote it."""
    if not isinstance(tool_input, dict):
        return None
    for name in PATH_FIELDS:
        value = tool_input.get(name)
        if isinstance(value, str) and value:
            return value
    return None
