"""What a server asks a holder to start, checked: every text and number is the caller's."""

from __future__ import annotations

from dataclasses import dataclass

from pilothouse.core.errors import BadRequest
from pilothouse.core.shell import MEMORY_MAX, SCROLLBACK_MIN, ShellId, Size, size

_ENV_MAX = 200


@dataclass(frozen=True)
class Order:
    """A shell that is wanted."""

    id: ShellId
    argv: list[str]
    env: dict[str, str]
    cwd: str
    size: Size
    scrollback: int


def checked(id: ShellId, asked: dict[str, object]) -> Order:
    """Raises BadRequest."""
    argv, env, cwd, kept = asked.get("argv"), asked.get("env"), asked.get("cwd"), asked.get("scrollback")
    if not isinstance(argv, list) or not argv or not all(_text(word) for word in argv):
        raise BadRequest("argv: expected a list of texts")
    if not isinstance(env, dict) or len(env) > _ENV_MAX or not all(_text(value) for value in env.values()):
        raise BadRequest("env: expected an object of texts")
    if not isinstance(cwd, str) or "\0" in cwd:
        raise BadRequest("cwd: expected a path, or nothing")
    if isinstance(kept, bool) or not isinstance(kept, int) or not SCROLLBACK_MIN <= kept <= MEMORY_MAX:
        raise BadRequest(f"scrollback: expected {SCROLLBACK_MIN} to {MEMORY_MAX} bytes")
    return Order(id, argv, env, cwd, size(asked.get("cols"), asked.get("rows")), kept)


def _text(value: object) -> bool:
    return isinstance(value, str) and "\0" not in value
