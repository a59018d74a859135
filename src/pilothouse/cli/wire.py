"""The API's types that commands show, and the audit's records as far as they are read here."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from pilothouse.core.api.access import AuditHead, Key, MadeKey, Ticket
from pilothouse.core.api.channels import Published
from pilothouse.core.api.jobs import AgentQuestion as Waiting
from pilothouse.core.api.jobs import Approval, FileEntry, Job, Listing, Shell
from pilothouse.core.api.sessions import Contact, Limit, Member, Network, Organisation, Secret, Session

__all__ = [
    "Actor", "Approval", "AuditHead", "Audited", "Contact", "FileEntry", "Job", "Key", "Limit", "Listing", "MadeKey",
    "Member", "Network", "Organisation", "Published", "Secret", "Session", "Shell", "Ticket", "Waiting",
]  # fmt: skip


class Actor(Struct, frozen=True, kw_only=True):
    kind: str
    name: str = ""


class Audited(Struct, frozen=True, kw_only=True):
    seq: int
    at: str
    actor: Actor
    action: str
    object: str
    address: str
    outcome: str
    details: dict[str, Any] = {}
