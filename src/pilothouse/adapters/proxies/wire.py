"""The proxy's control wire: HTTP with JSON bodies over `<runtime>/proxy.sock` (0600, only the same uid or root).

    GET  /hello                     {"proto": 2, "version", "proxyId", "instance", "configured": bool}
    POST /configure {model, egress} the state
    GET  /state                     {"provider", "demo", "model", "ready", "detail", "label"}
    POST /admit {session, job, budget}   204, serving or about to
    POST /reach {session, policy, domains, askS}   204: what the session reaches besides the model, from now on
    POST /drop {session}            204
    POST /forget {session}          204: its contacts go
    GET  /spent?session=&job=       a UsageRecord with the sums, 404 when there is none
    GET  /usage?mark=PROXYID:N&…    NDJSON: UsageRecords after the marks, then live; an empty line every BEAT_S
    GET  /contacts?mark=PROXYID:N&… NDJSON: lists of Contacts changed after the marks, then live; empty lines likewise
    GET  /asking                    NDJSON: the whole list of Askings, again after every change; empty lines likewise
    POST /answer {id, allow, message, remember}    204
    GET  /alive                     NDJSON of empty lines for as long as the proxy lives

Errors: {"code", "message"} with the status of `core.errors`. `proxyId` names the usage spool, `instance` one life of
the process: with another instance the proxy has forgotten its configuration and whom it serves, and must be told again.
"""

from __future__ import annotations

import msgspec

from pilothouse.core.ids import JobId, SessionId
from pilothouse.engine.ports import Budget
from pilothouse.engine.upstream import EgressSettings, ModelSettings

PROTO = 2
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


class Reach(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    session: SessionId
    policy: str
    domains: list[str]
    ask_s: float


class Answer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    id: str
    allow: bool
    message: str
    remember: bool


class Drop(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    session: SessionId


class Problem(msgspec.Struct, frozen=True):
    code: str
    message: str
