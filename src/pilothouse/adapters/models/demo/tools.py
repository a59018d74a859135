"""Abstract tools, as the tools that the calling agent really offers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any

from pilothouse.adapters.models.demo.answer import Call
from pilothouse.adapters.models.demo.conversation import Conversation

_NAMES: dict[str, tuple[str, ...]] = {
    "write": ("Write", "write_file", "write"),
    "edit": ("Edit", "replace", "edit"),
    "read": ("Read", "read_file", "read"),
    "bash": ("Bash", "run_shell_command", "bash", "shell"),
    "ask": ("AskUserQuestion",),
    "todo": ("TodoWrite", "TaskCreate"),
    "agent": ("Agent", "Task"),
    "enter_plan": ("EnterPlanMode",),
    "exit_plan": ("ExitPlanMode", "exit_plan_mode"),
}
"""First those of Claude Code, then what other agents call the same."""
_FINDER = "ToolSearch"


class NotOffered(Exception):
    """The agent has no tool of this kind."""


def offers(c: Conversation, tool: str) -> bool:
    return c.can(*_NAMES[tool])


def bind(c: Conversation, call: Call) -> tuple[str, dict[str, Any]]:
    """Name and input for the agent. Raises `NotOffered`."""
    if call.raw:
        return call.tool, call.input
    name = next((n for n in _NAMES[call.tool] if n in c.offered), None)
    name = name or next((n for n in _NAMES[call.tool] if n in c.deferred), None)
    if name is None:
        raise NotOffered(call.tool)
    return name, _INPUTS[call.tool](c, call.input, name)


def finder(c: Conversation, names: list[str], searched: bool) -> tuple[str, dict[str, Any]] | None:
    """The call that loads tools which are there but not loaded, unless that has been tried for this prompt."""
    missing = [n for n in names if n in c.deferred and n not in c.offered]
    if not missing or _FINDER not in c.offered or searched:
        return None
    return _FINDER, {"query": "select:" + ",".join(dict.fromkeys(missing)), "max_results": 5}


def is_finder(tools: tuple[str, ...]) -> bool:
    return tools == (_FINDER,)


def _absolute(c: Conversation, path: str) -> str:
    return str(PurePosixPath(c.cwd, path))


def _keys(c: Conversation, name: str, *wanted: str) -> str:
    properties = (c.offered.get(name) or {}).get("properties") or {}
    return next((key for key in wanted if key in properties), wanted[0])


def _write(c: Conversation, given: dict[str, Any], name: str) -> dict[str, Any]:
    path = _keys(c, name, "file_path", "filePath", "path")
    return {path: _absolute(c, given["path"]), "content": given["content"]}


def _edit(c: Conversation, given: dict[str, Any], name: str) -> dict[str, Any]:
    path = _keys(c, name, "file_path", "filePath", "path")
    old, new = _keys(c, name, "old_string", "oldString"), _keys(c, name, "new_string", "newString")
    return {path: _absolute(c, given["path"]), old: given["old"], new: given["new"]}


def _read(c: Conversation, given: dict[str, Any], name: str) -> dict[str, Any]:
    return {_keys(c, name, "file_path", "absolute_path", "filePath", "path"): _absolute(c, given["path"])}


def _bash(c: Conversation, given: dict[str, Any], name: str) -> dict[str, Any]:
    return {"command": given["command"], "description": given.get("description", "Run a command")}


def _ask(c: Conversation, given: dict[str, Any], name: str) -> dict[str, Any]:
    options = [
        {"label": o, "description": f"Go on with {o}"} if isinstance(o, str) else dict(o) for o in given["options"]
    ]
    header = given.get("header", "Choice")
    return {"questions": [{"question": given["question"], "header": header, "options": options, "multiSelect": False}]}


def _todo(c: Conversation, given: dict[str, Any], name: str) -> dict[str, Any]:
    items = given["items"]
    if name == "TodoWrite":
        return {"todos": [{"content": i, "status": "pending", "activeForm": i} for i in items]}
    return {"subject": items[0], "description": "; ".join(items)}


def _agent(c: Conversation, given: dict[str, Any], name: str) -> dict[str, Any]:
    return {
        "description": given.get("description", "A sub-agent"),
        "prompt": given["prompt"],
        "subagent_type": "general-purpose",
        "run_in_background": False,
    }


def _nothing(c: Conversation, given: dict[str, Any], name: str) -> dict[str, Any]:
    return {}


_INPUTS: dict[str, Callable[[Conversation, dict[str, Any], str], dict[str, Any]]] = {
    "write": _write,
    "edit": _edit,
    "read": _read,
    "bash": _bash,
    "ask": _ask,
    "todo": _todo,
    "agent": _agent,
    "enter_plan": _nothing,
    "exit_plan": _nothing,
}
