"""One way to reach a person who is not looking, as it is kept, and what may be wished of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from msgspec import Struct

from pilothouse.core import notice, webhook
from pilothouse.core.access import ORGANISATION
from pilothouse.core.errors import BadRequest
from pilothouse.engine import records
from pilothouse.engine.members import line


class Keys(Struct, frozen=True, kw_only=True):
    """Of a browser's subscription."""

    p256dh: str
    auth: str


class Sealed(Struct, frozen=True, kw_only=True):
    url: str
    keys: Keys | None = None

    def __repr__(self) -> str:
        return "Sealed()"


class NotifierRecord(records.Record, kw_only=True):
    id: str
    organisation: str = ORGANISATION
    account: str
    kind: Literal["push", "slack"]
    name: str
    shown: str
    """Where it leads, without what is secret: of Slack's addresses the path is."""
    events: list[str]
    sessions: Literal["own", "all"] = "own"
    """Those that the person owns or asked something in, or all that it may see."""
    sealed: bytes
    created_at: float
    disabled: str = ""
    sign_in: str = ""
    """Of a browser."""
    wanted_from: dict[str, float] = {}
    """Events that it has not wanted without a break since it was made."""

    def since(self, type: str) -> float:
        return max(self.created_at, self.wanted_from.get(type, 0.0))


@dataclass(frozen=True)
class Wish:
    """What somebody wants to be told of."""

    name: str | None = None
    events: Sequence[str] | None = None
    sessions: str | None = None

    def changes(self) -> dict[str, object]:
        """Checked. Raises BadRequest."""
        out: dict[str, object] = {}
        if self.name is not None:
            out["name"] = line(self.name)
        if self.events is not None:
            out["events"] = webhook.check_events(self.events, notice.EVENTS)
        if self.sessions is not None:
            if self.sessions not in {"own", "all"}:
                raise BadRequest(f"sessions: {self.sessions[:50]!r} is none of own, all")
            out["sessions"] = self.sessions
        return out
