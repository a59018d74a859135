"""The HTTP API's handlers for the audit: an organisation's records, as they are. See `protocol/http.md`."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from starlette.responses import Response

from pilothouse.core import chain
from pilothouse.core.api.access import AuditHead, SealedPage
from pilothouse.core.errors import BadRequest
from pilothouse.web import wire
from pilothouse.web.call import Call
from pilothouse.web.members import which

TEXT_MAX = 100
SEQ_MAX = 2**53


async def list_audit(call: Call) -> Response:
    """By `after` in the order of the chain, for who follows or exports it; else newest first, for who reads it."""
    audit, org = call.platform.kit.audit, which(call)
    asked = wire.limit(call.request)
    wanted = _wanted(call)
    if "after" in call.request.query_params:
        if wanted is not None:
            raise BadRequest("after: not together with action or who, which leave records out of the chain")
        rows = await audit.after(org, wire.number(call.request, "after", 0, 0, SEQ_MAX), asked)
        more = chain.number(rows[-1]) if len(rows) == asked else None
        return _page(rows, more)
    before = wire.number(call.request, "before", 0, 0, SEQ_MAX) or None
    return _page(*await audit.before(org, before, asked, wanted))


async def audit_head(call: Call) -> Response:
    head = await call.platform.kit.audit.head(which(call))
    return wire.Reply(AuditHead(seq=head.seq, hash=head.hash, oldest=head.oldest))


def _page(rows: list[bytes], more: int | None) -> Response:
    """The records as they were sealed."""
    return wire.Reply(SealedPage(items=[msgspec.Raw(row) for row in rows], next=more))


def _wanted(call: Call) -> Callable[[chain.Record], bool] | None:
    action, who = (call.request.query_params.get(name, "") for name in ("action", "who"))
    for name, text in (("action", action), ("who", who)):
        if len(text) > TEXT_MAX or not text.isprintable():
            raise BadRequest(f"{name}: at most {TEXT_MAX} characters")
    if not action and not who:
        return None
    seek = who.casefold()
    return lambda record: (
        record.action.startswith(action)
        and (not seek or any(seek in text.casefold() for text in (record.actor.name, record.actor.id, record.address)))
    )
