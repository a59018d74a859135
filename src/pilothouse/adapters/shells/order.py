"""What a server asks a holder to start, checked: every text and number is the caller's."""

from __future__ import annotations

from dataclasses import dataclass, field

from pilothouse.core.errors import BadRequest
from pilothouse.core.shell import MEMORY_MAX, SCROLLBACK_MIN, ShellId, Size, size

_ENV_MAX = 200
_SECRETS_MAX = 200
_HIDDEN_MAX = 1000


@dataclass(frozen=True)
class Order:
    """A shell that is wanted."""

    id: ShellId
    argv: list[str]
    env: dict[str, str]
    cwd: str
    size: Size
    scrollback: int
    secrets: dict[str, str] = field(default_factory=dict, repr=False)
    """More of its environment."""
    files: dict[str, str] = field(default_factory=dict, repr=False)
    """What it finds in files, by the name of the secret."""

    command: bool = False
    """Somebody's program: what it is shall be shown."""

    @property
    def values(self) -> list[str]:
        """To be masked in what the session's shells write."""
        return [*self.secrets.values(), *self.files.values()]


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
    secrets, files = asked.get("secrets", {}), asked.get("files", {})
    for given in (secrets, files):
        if (
            not isinstance(given, dict)
            or len(given) > _SECRETS_MAX
            or not all(_text(value) for value in given.values())
        ):
            raise BadRequest("secrets, files: expected objects of texts")
    measures = size(asked.get("cols"), asked.get("rows")), kept
    return Order(id, argv, env, cwd, *measures, secrets, files, asked.get("command") is True)  # type: ignore[arg-type]  # seen to be so


def values(hidden: object) -> list[str]:
    """Raises BadRequest."""
    if not isinstance(hidden, list) or len(hidden) > _HIDDEN_MAX or not all(_text(value) for value in hidden):
        raise BadRequest("hidden: expected a list of texts")
    return hidden


def _text(value: object) -> bool:
    return isinstance(value, str) and "\0" not in value
