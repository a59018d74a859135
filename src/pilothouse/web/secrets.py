"""The HTTP API's handlers for secrets. No answer has a value in it. See `protocol/http.md`."""

from __future__ import annotations

from starlette.responses import Response

from pilothouse.core import events as ev
from pilothouse.core.api.sessions import NewOwnSecret, NewSecret, Secret
from pilothouse.core.errors import BadRequest
from pilothouse.engine import records
from pilothouse.engine import secrets as kept
from pilothouse.engine.secrets import Place, SecretRecord
from pilothouse.web import wire
from pilothouse.web.call import Call


async def list_own(call: Call) -> Response:
    found = await call.platform.secrets.of_every_project(call.principal)
    return wire.everything([_shown(record) for record in found])


async def put_own(call: Call) -> Response:
    given = await wire.body(call.request, NewOwnSecret)
    project = given.project
    return await _put(call, _own(call, None if project is None else ev.Source(git=project.git, dir=project.dir)), given)


async def remove_own(call: Call) -> Response:
    git, directory = (call.request.query_params.get(name) for name in ("git", "dir"))
    source = None if git is None and directory is None else ev.Source(git=git, dir=directory)
    return await _remove(call, _own(call, source))


async def list_of_session(call: Call) -> Response:
    found = await call.platform.secrets.reaching((await call.session()).live.record)
    return wire.everything([_shown(record) for record in found])


async def put_in_session(call: Call) -> Response:
    place = kept.of_session((await call.session()).live.record)
    return await _put(call, place, await wire.body(call.request, NewSecret))


async def remove_from_session(call: Call) -> Response:
    return await _remove(call, kept.of_session((await call.session()).live.record))


def _own(call: Call, source: ev.Source | None) -> Place:
    if source is not None and source.git is not None and source.dir is None:
        source = call.platform.kit.sandboxes.check(source)  # as a session's is kept
    try:
        return kept.of_account(call.principal, source)
    except BadRequest as error:
        raise BadRequest(f"project: {error.message}") from None


async def _put(call: Call, place: Place, given: NewSecret) -> Response:
    name = call.request.path_params["name"]
    record = await call.platform.secrets.set(place, name, given.value, use=given.use, file=given.file, who=call.who)
    return wire.Reply(_shown(record))


async def _remove(call: Call, place: Place) -> Response:
    await call.platform.secrets.remove(place, call.request.path_params["name"], call.who)
    return Response(status_code=204)


def _shown(record: SecretRecord) -> Secret:
    kind, _, name = record.project.partition(":")
    return Secret(
        name=record.name,
        where=record.where,
        use=record.use,
        file=record.file,
        masked=record.masked,
        set_at=records.stamp(record.set_at),
        set_by=record.set_by,
        project={kind: name} if record.project else None,
        last_used_at=None if record.last_used_at is None else records.stamp(record.last_used_at),
    )
