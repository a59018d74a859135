"""Names of things, as types. None of them ever becomes a path or an argument unparsed.

| id | form | made by |
|---|---|---|
| `SessionId`, `JobId` (ours) | UUID, lower case, 8-4-4-4-12 | the server |
| `JobId` (caller's own) | 1–50 of `[A-Za-z0-9-]`, no dash at either end | the caller of `/trigger` |
| `ApprovalId`, `QuestionId`, `ArtifactId` | UUID | the server |
| `ToolId`, `MessageId`, request and turn ids | 1–200 printable ASCII | agent or runner: hostile, only echoed |
"""

from __future__ import annotations

import re
from typing import NewType

from pilothouse.core.errors import BadRequest

SessionId = NewType("SessionId", str)
JobId = NewType("JobId", str)
ApprovalId = NewType("ApprovalId", str)
QuestionId = NewType("QuestionId", str)
ArtifactId = NewType("ArtifactId", str)
ToolId = NewType("ToolId", str)
MessageId = NewType("MessageId", str)

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\Z")
_SEGMENT = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,48}[A-Za-z0-9])?\Z")
_FOREIGN = re.compile(r"[!-~]{1,200}\Z")


def is_uuid(text: object) -> bool:
    return isinstance(text, str) and _UUID.match(text) is not None


def is_segment(text: object) -> bool:
    """One channel segment: the form of a caller's own job id."""
    return isinstance(text, str) and _SEGMENT.match(text) is not None


def is_foreign(text: object) -> bool:
    """An id that an agent or runner made: printable, bounded, good for echoing and comparing only."""
    return isinstance(text, str) and _FOREIGN.match(text) is not None


def session_id(text: object) -> SessionId:
    if not is_uuid(text):
        raise BadRequest("session id: expected a UUID")
    return SessionId(str(text))
