"""Who decides when no person is there: the permission mode and the list of allowed tools of a headless request.

What would have to be asked is denied at once, with a reason that the agent is told.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from pilothouse.core.errors import BadRequest

MODES = {
    "acceptEdits": "acceptEdits",
    "acceptAll": "acceptAll",
    "bypassPermissions": "acceptAll",
    "manual": "manual",
    "default": "manual",
    "plan": "plan",
    "dontAsk": "dontAsk",
}
_EDITS = frozenset({"Write", "Edit", "MultiEdit", "NotebookEdit"})
_READS = frozenset({"Read", "Grep", "Glob", "LS"})
_HARMLESS = frozenset({"TodoWrite", "TaskCreate", "TaskUpdate", "TaskList", "TaskGet", "ToolSearch"})
_ALIASES = {"Replace": ("Edit",), "Search": ("Grep", "Glob"), "List": ("LS", "Glob"), "Task": ("Agent",)}


@dataclass(frozen=True, slots=True)
class Verdict:
    allow: bool
    reason: str


def mode(name: str) -> str:
    """The permission mode by any of its names."""
    if name not in MODES:
        raise BadRequest(f"permission_mode: {name[:64]!r}; one of {', '.join(MODES)}")
    return MODES[name]


def allowed(text: str | None) -> frozenset[str] | None:
    """The names in `allowed_tools`, None for all. Patterns such as `Bash(npm test:*)` are kept as they are."""
    if text is None or not text.strip():
        return None
    names: set[str] = set()
    for item in (part.strip() for part in text.split(",")):
        bare = item.partition("(")[0]
        if not bare.replace("_", "").replace("-", "").isalnum() or ("(" in item and not item.endswith(")")):
            raise BadRequest(f"allowed_tools: {item[:100]!r} is no tool")
        names.update(_ALIASES.get(item, (item,)))
    return frozenset(names)


def decide(mode: str, tools: frozenset[str] | None, tool: str, input: dict[str, Any], workspace: str) -> Verdict:
    """Fails closed: what is not known is denied."""
    if tools is not None and not _listed(tools, tool, input) and tool not in _HARMLESS:
        return Verdict(False, f"{tool} is not among the allowed tools of this request.")
    if mode == "acceptAll" or tool in _HARMLESS:
        return Verdict(True, "")
    inside = _inside(input, workspace)
    if mode in ("acceptEdits", "plan", "dontAsk") and tool in _READS and inside:
        return Verdict(True, "")
    if mode == "acceptEdits" and tool in _EDITS and inside:
        return Verdict(True, "")
    if mode == "manual" and tools is not None and tool in _READS and inside:
        return Verdict(True, "")
    return Verdict(False, f"{tool} must be approved in mode {mode}, and nobody is there to ask; it was not performed.")


def _listed(tools: frozenset[str], tool: str, input: dict[str, Any]) -> bool:
    if tool in tools:
        return True
    command = input.get("command")
    for item in tools:
        bare, _, rest = item.partition("(")
        pattern = rest.removesuffix(")")
        if bare != tool or not rest or not isinstance(command, str) or any(sign in command for sign in ";&|`$<>\n("):
            continue
        prefix = pattern.removesuffix(":*")
        if command == prefix or (prefix != pattern and command.startswith(prefix + " ")):
            return True
    return False


def _inside(input: dict[str, Any], workspace: str) -> bool:
    """Whether every path that the call names is in the workspace, going by the text alone."""
    for key in ("file_path", "path", "notebook_path"):
        value = input.get(key)
        if value is None:
            continue
        if not isinstance(value, str) or "\0" in value or ".." in PurePosixPath(value).parts:
            return False
        if not (PurePosixPath(workspace) / value).is_relative_to(workspace):
            return False
    return True
