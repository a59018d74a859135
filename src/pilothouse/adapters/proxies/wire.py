"""The proxy's control wire: HTTP with JSON bodies over `<runtime>/proxy.sock` (0600, only the same uid or root).

    GET  /hello                     {"proto": 1, "version", "proxyId", "instance", "configured": bool}
    POST /configure {model, egress} the state
    GET  /state                     {"provider", "demo", "model", "ready", "detail", "label"}
    POST /admit {session, job, budget}   204, serving or about to
    POST /drop {session}            204
    GET  /spent?session=&job=       a UsageRecord with the sums, 404 when there is none
    GET  /usage?mark=PROXYID:N&…    NDJSON: UsageRecords after the marks, then live; an empty line every BEAT_S
    GET  /alive                     NDJSON of empty lines for as long as the proxy lives

Errors: {"code", "message"} with the status of `core.errors`. `proxyId` names the usage spool, `instance` one life of
the process: with another instance the proxy has forgotten its configuration and whom it serves, and must be told again.
"""

from __future__ import annotations

import msgspec

from pilothouse.core.ids import JobId, SessionId
from pilothouse.engine.ports import Budget
from pilothouse.engine.upstream import EgressSettings, ModelSettings

PROTO = 1
SOCKET = "proxy.sock"
BEAT_S = 15.0
"""A stream says that it lives, so that a dead one is noticed."""
BODY_MAX = 1024 * 1024


class Hello(msgspec.Struct, frozen=True, rename="camel"):
    proto: int
    version: str
    proxy_id: str
    instance: str
    configured: bool


class Configure(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    model: ModelSettings
    egress: EgressSettings


class Admit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    session: SessionId
    job: JobId | None
    budget: Budget


class Drop(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    session: SessionId


class Problem(msgspec.Struct, frozen=True):
    code: str
    message: str
