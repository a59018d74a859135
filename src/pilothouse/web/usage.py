"""The HTTP API's handlers for what was used. See `protocol/http.md`.

An admin sees the organisation's, everybody else what their own prompts have used.
"""

from __future__ import annotations

from dataclasses import dataclass

from starlette.responses import Response

from pilothouse.core import access, tally
from pilothouse.core.api.kept import UsageReport
from pilothouse.core.errors import NotFound
from pilothouse.core.tally import Field, Row, Sums
from pilothouse.engine.tallies import Tallies
from pilothouse.web import members, wire
from pilothouse.web.call import Call

TITLES_MAX = 500
"""Sessions whose titles are looked up: each is a read of the store, and more than these nobody reads."""


@dataclass(frozen=True, slots=True)
class Found:
    first: str
    last: str
    by: tuple[Field, ...]
    organisation: str
    own: bool
    rows: list[Row]
    total: Sums


async def get_usage(call: Call) -> Response:
    if "text/csv" in (call.request.headers.get("accept") or ""):
        return await get_csv(call)
    found = await _found(call)
    said = UsageReport(
        first=found.first,
        to=found.last,
        by=list(found.by),
        organisation=found.organisation,
        whose="own" if found.own else "organisation",
        items=found.rows,
        total=Row(**{name: getattr(found.total, name) for name in tally.SUMS}),
        next=None,
    )
    return wire.Reply(said)


async def get_csv(call: Call) -> Response:
    found = await _found(call)
    headers = {
        "content-disposition": f'attachment; filename="usage-{found.first}-{found.last}.csv"',
        "cache-control": "no-store",
    }
    return Response(tally.to_csv(found.by, found.rows), headers=headers, media_type="text/csv; charset=utf-8")


async def _found(call: Call) -> Found:
    """Raises BadRequest naming the parameter, Forbidden, NotFound."""
    query = call.request.query_params
    organisation = members.which(call)
    own = "admin" not in call.principal.scopes
    kit = call.platform.kit
    by = tally.fields(query.get("by", "day"))
    first, last = tally.period(query.get("from"), query.get("to"), tally.day(kit.clock.now()))
    person = call.principal.account if own else None
    table = await Tallies(kit.store).table(organisation, first, last, by, person)
    rows = table.rows()
    await _name(call, organisation, rows, by)
    return Found(first, last, by, organisation, own, rows, table.total)


async def _name(call: Call, organisation: str, rows: list[Row], by: tuple[Field, ...]) -> None:
    """What people call what the rows are about."""
    if "person" in by:
        for row in rows:
            row.person_name = _person(call, organisation, str(row.person))
    if "session" in by:
        asked = list(dict.fromkeys(str(row.session) for row in rows))[:TITLES_MAX]
        titles = {id: await _title(call, id) for id in asked}
        for row in rows:
            row.session_title = titles.get(str(row.session), "")


def _person(call: Call, organisation: str, account: str) -> str:
    try:
        return call.platform.identity.members.find(organisation, account).name
    except NotFound:
        return ""


async def _title(call: Call, id: str) -> str:
    """Empty where the session is gone, or not the caller's to see."""
    record = await Tallies(call.platform.kit.store).session(id)
    if record is None or "read" not in access.rights(call.principal, record):
        return ""
    return record.title
