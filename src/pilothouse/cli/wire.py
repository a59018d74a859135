"""The API's types that commands show, and the audit's records as far as they are read here."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from pilothouse.core.api.access import AuditHead, Key, MadeKey, Ticket
from pilothouse.core.api.channels import Published
from pilothouse.core.api.jobs import AgentQuestion as Waiting
from pilothouse.core.api.jobs import Approval, FileEntry, Job, Listing, Shell
from pilothouse.core.api.kept import JobArtifact
from pilothouse.core.api.outgoing import Delivery, MadeWebhook, Notifier, Webhook
from pilothouse.core.api.sessions import Contact, Limit, Member, Network, Organisation, Secret, Session

__all__ = [
    "Actor", "Approval", "AuditHead", "Audited", "Contact", "Delivery", "FileEntry", "Job", "JobArtifact", "Key",
    "Limit", "Listing",
    "MadeKey", "MadeWebhook", "Member", "Network", "Notifier", "Organisation", "Published", "Secret", "Session",
    "Shell", "Ticket", "Usage", "Used", "Waiting", "Webhook",
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


class Used(Struct, frozen=True, kw_only=True, rename="camel"):
    """A row; fields that were not asked for are empty."""

    day: str = ""
    person: str = ""
    key: str = ""
    key_name: str = ""
    session: str = ""
    session_title: str = ""
    model: str = ""
    calls: int
    refused: int = 0
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cost_usd: float
    guessed_tokens: int = 0
    guessed_cost_usd: float = 0.0
    agent_tokens: int = 0
    agent_cost_usd: float = 0.0


class Usage(Struct, frozen=True, kw_only=True):
    by: list[str]
    items: list[Used]
    total: Used
