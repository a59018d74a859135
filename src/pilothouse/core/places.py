"""Where a session's workspace and home are, as its agent sees them: always the same paths, but for a sandbox that
cannot mount. Rules and modes speak of the usual ones, so a call's paths are read as if they were those.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pilothouse.core import tools

WORKSPACE = "/workspace"
HOME = "/home/agent"
_ELSEWHERE = "/elsewhere"
"""Before a path that only looks usual."""


@dataclass(frozen=True, slots=True)
class Place:
    workspace: str = WORKSPACE
    home: str = HOME


USUAL = Place()


def usual(tool_input: Any, place: Place) -> Any:
    """The input with the paths that rules look at as they would be in the usual place."""
    if place == USUAL or not isinstance(tool_input, Mapping):
        return tool_input
    looked_at = (*tools.PATH_FIELDS, "pattern")
    return {
        name: _moved(value, place) if name in looked_at and isinstance(value, str) else value
        for name, value in tool_input.items()
    }


def _moved(path: str, place: Place) -> str:
    for here, there in ((place.workspace, WORKSPACE), (place.home, HOME)):
        if path == here or path.startswith(here + "/"):
            return there + path[len(here) :]
    return _ELSEWHERE + path if path.startswith("/") else path
