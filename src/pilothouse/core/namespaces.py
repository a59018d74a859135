"""Namespaces of the event API: the tables `[[namespaces]]` of the configuration, read and checked; and who may what.

name             first segment of its channels                                                          needed
publish          the scope that publishing takes: read, run, approve or admin (run)
subscribe        likewise (read)
publish_modes    the auth modes that may publish; without it all that the server has
subscribe_modes  likewise
wildcards        who subscribes to `/*`: all, admin or none (all)
history          events kept of each of its channels (0: none)
history_s        no longer than so many seconds (0: for ever)
history_bytes    no more than so many bytes of each channel (0: as many as there are)
replay           events that a subscriber without a cursor is given first (0)
on_publish       who is asked before an event goes out: `https://…`, or `package.module:callable`
on_subscribe     likewise, before somebody subscribes
invoke           REQUEST_RESPONSE: its answer counts; EVENT: it is told, and nobody waits (REQUEST_RESPONSE)
presence         whether subscribers may be told of each other (false)

Each organisation has its own channels: the same name in two of them is two places. For `dialog` and `session`, which
the server publishes to, only modes and handlers are set; its handlers there are told, and nobody waits for them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pilothouse.core.access import IN_SESSIONS, Principal, Scope
from pilothouse.core.ids import is_segment
from pilothouse.core.modes import MODES, Mode

Operation = Literal["connect", "publish", "subscribe"]
Wildcards = Literal["all", "admin", "none"]
Invoke = Literal["REQUEST_RESPONSE", "EVENT"]
NAMESPACES_MAX = 50
"""AppSync's number."""
HISTORY_MAX = 1_000_000
YEAR_S = 366 * 86_400
BYTES_MAX = 2**40
_URL = re.compile(r"https?://[^/\s@?#]+(/[^\s@#]*)?\Z")
_CALLABLE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*\Z", re.ASCII)
BUILT_IN = frozenset({"dialog", "session"})
"""What the server itself publishes to."""


class BadNamespace(ValueError):
    """A table is wrong; the message names table and entry."""


@dataclass(frozen=True, slots=True)
class Namespace:
    name: str
    publish: Scope = "run"
    subscribe: Scope = "read"
    publish_modes: frozenset[Mode] | None = None
    subscribe_modes: frozenset[Mode] | None = None
    wildcards: Wildcards = "all"
    history: int = 0
    history_s: int = 0
    history_bytes: int = 0
    replay: int = 0
    on_publish: str = ""
    on_subscribe: str = ""
    invoke: Invoke = "REQUEST_RESPONSE"
    presence: bool = False

    @property
    def keeps(self) -> bool:
        return self.history > 0

    @property
    def built_in(self) -> bool:
        return self.name in BUILT_IN

    def may(self, operation: Operation, mode: Mode, who: Principal, *, wild: bool = False) -> bool:
        """Whether somebody may who has shown such a credential. Who came by the custom authorizer has its word and no
        scopes."""
        modes = self.publish_modes if operation == "publish" else self.subscribe_modes
        if (modes is not None and mode not in modes) or (self.built_in and mode == "AWS_LAMBDA"):
            return False
        if self.built_in:  # the session's own rights decide; the custom authorizer knows of none
            return not wild or "admin" in who.scopes
        custom = mode == "AWS_LAMBDA"
        scope = self.publish if operation == "publish" else self.subscribe
        if not custom and scope not in who.scopes:
            return False
        if wild and self.wildcards != "all":
            return self.wildcards == "admin" and not custom and "admin" in who.scopes
        return True


USUAL = (Namespace("default"),)
"""Where nothing is configured."""
_OF_BUILT_IN = {"name", "publish_modes", "subscribe_modes", "on_publish", "on_subscribe", "invoke"}
OWN = tuple(Namespace(name) for name in sorted(BUILT_IN))


def read(tables: object) -> tuple[Namespace, ...]:
    """Raises BadNamespace."""
    if not isinstance(tables, list) or not all(isinstance(one, dict) for one in tables):
        raise BadNamespace("namespaces: expected tables [[namespaces]]")
    if len(tables) > NAMESPACES_MAX:
        raise BadNamespace(f"namespaces: at most {NAMESPACES_MAX}")
    made = tuple(_namespace(table, f"namespaces[{number}]") for number, table in enumerate(tables))
    names = [one.name for one in made]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise BadNamespace(f"namespaces: two have the name {twice!r}")
    return made


def _namespace(table: Mapping[str, Any], where: str) -> Namespace:
    stray = next((key for key in table if key not in _READERS), None)
    if stray is not None:
        raise BadNamespace(f"{where}: unknown entry {stray!r}; known are {', '.join(_READERS)}")
    if "name" not in table:
        raise BadNamespace(f"{where}: name is missing")
    if table["name"] in BUILT_IN and (fixed := sorted(set(table) - _OF_BUILT_IN)):
        raise BadNamespace(f"{where}: {fixed[0]} of {table['name']!r}, which is the server's own, is fixed")
    made = Namespace(**{key: _READERS[key](value, f"{where}.{key}") for key, value in table.items()})
    beyond = next((name for name in ("history_s", "history_bytes", "replay") if getattr(made, name)), None)
    if beyond is not None and not made.keeps:
        raise BadNamespace(f"{where}: {beyond} needs history")
    return made


def _name(value: object, where: str) -> str:
    if not isinstance(value, str) or not is_segment(value):
        raise BadNamespace(f"{where}: expected 1 to 50 letters, digits and dashes, no dash at either end")
    return value


def _scope(value: object, where: str) -> Scope:
    for scope in IN_SESSIONS:
        if value == scope:
            return scope
    raise BadNamespace(f"{where}: expected one of {', '.join(IN_SESSIONS)}")


def _modes(value: object, where: str) -> frozenset[Mode]:
    if not isinstance(value, list) or not value or not all(one in MODES for one in value):
        raise BadNamespace(f"{where}: expected a list of {', '.join(MODES)}")
    return frozenset(value)


def _wildcards(value: object, where: str) -> Wildcards:
    if value == "all" or value == "admin" or value == "none":
        return value
    raise BadNamespace(f"{where}: expected all, admin or none")


def hook(value: object, where: str) -> str:
    """Raises BadNamespace."""
    if isinstance(value, str) and (_URL.match(value) or _CALLABLE.match(value)):
        return value
    raise BadNamespace(f"{where}: expected https://HOST/… or package.module:callable")


def _invoke(value: object, where: str) -> Invoke:
    if value == "REQUEST_RESPONSE" or value == "EVENT":
        return value
    raise BadNamespace(f"{where}: expected REQUEST_RESPONSE or EVENT")


def _number(most: int) -> Callable[[object, str], int]:
    def number(value: object, where: str) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
            raise BadNamespace(f"{where}: expected a whole number from 0 to {most}")
        return value

    return number


def _size(value: object, where: str) -> int:
    if isinstance(value, str) and (match := re.fullmatch(r"([0-9]{1,9})([KMG])", value)):
        value = int(match[1]) * 1024 ** (1 + "KMG".index(match[2]))
    return _number(BYTES_MAX)(value, where)


def _flag(value: object, where: str) -> bool:
    if not isinstance(value, bool):
        raise BadNamespace(f"{where}: expected true or false")
    return value


_READERS: Mapping[str, Callable[[object, str], Any]] = {
    "name": _name,
    "publish": _scope,
    "subscribe": _scope,
    "publish_modes": _modes,
    "subscribe_modes": _modes,
    "wildcards": _wildcards,
    "history": _number(HISTORY_MAX),
    "history_s": _number(YEAR_S),
    "history_bytes": _size,
    "replay": _number(1000),
    "on_publish": hook,
    "on_subscribe": hook,
    "invoke": _invoke,
    "presence": _flag,
}
