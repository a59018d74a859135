"""Claude Code's tools in the words of the log: title, places, text."""

from __future__ import annotations

from typing import Any

from pilothouse.core import events as ev
from pilothouse.core.tools import kind as kind

TITLE_MAX = 200


def title(tool: str, input: dict[str, Any]) -> str | None:
    """One line for a person, from the field that says most."""
    for field in ("description", "file_path", "notebook_path", "command", "pattern", "query", "url", "subject"):
        value = input.get(field)
        if isinstance(value, str) and value.strip():
            return value.strip().splitlines()[0][:TITLE_MAX]
    return None


def locations(input: dict[str, Any]) -> list[ev.Location] | None:
    for field in ("file_path", "notebook_path", "path"):
        value = input.get(field)
        if isinstance(value, str) and value:
            line = input.get("offset")
            return [ev.Location(path=value, line=line if isinstance(line, int) else None)]
    return None


def text(content: object) -> str:
    """A tool result's content, which is text or a list of blocks, as text."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    parts = []
    for block in content:
        if not isinstance(block, dict):
            continue
        if isinstance(block.get("text"), str):
            parts.append(block["text"])
        elif block.get("type") == "tool_reference":
            parts.append(str(block.get("tool_name", "")))
        else:
            parts.append(f"[{block.get('type', 'block')}]")
    return "\n".join(parts)
