"""The HTTP API's handlers for artifacts. See `protocol/http.md`."""

from __future__ import annotations

import contextlib
import urllib.parse
from collections.abc import AsyncGenerator
from typing import Any

from starlette.responses import Response

from pilothouse.core.api.kept import ArtifactLink, JobArtifact, NewArtifactLink
from pilothouse.core.errors import BadRequest, NotFound, PilothouseError, Unavailable
from pilothouse.engine.artifacts import Artifacts
from pilothouse.engine.audit import Entry
from pilothouse.engine.ports import Blob
from pilothouse.engine.records import ArtifactRecord
from pilothouse.engine.sessions import Session
from pilothouse.engine.signedlinks import LIFE_MAX_S
from pilothouse.web import ranges, wire
from pilothouse.web.call import Call, streamed
from pilothouse.web.packed import Form, packed
from pilothouse.web.streams import Streamed

LINK_READ_S = 3600.0
"""Beyond a link's own end: a download that was begun in time may go on for as long, a slow reader no longer."""


class OutOfRange(PilothouseError):
    """The file has no such range."""

    code = "out_of_range"
    status = 416

    def __init__(self, size: int) -> None:
        super().__init__(f"range: the file has {size} bytes")
        self._size = size

    @property
    def headers(self) -> dict[str, str]:
        return {"content-range": f"bytes */{self._size}"}


def shown(artifacts: Artifacts, record: ArtifactRecord) -> JobArtifact:
    """As the API shows it."""
    s3_url, console_url = artifacts.place(record)
    return JobArtifact(
        id=record.id,
        session_id=record.session,
        job_id=record.job,
        path=record.path,
        size=record.size,
        media_type=record.media_type,
        prefix=record.prefix,
        created_at=record.created,
        state=record.state,
        url=None if record.state == "skipped" else f"/api/artifacts/{record.id}/content",
        s3_url=s3_url,
        console_url=console_url,
        sha256=record.sha256,
        tool_id=record.tool_id,
        reason=record.reason,
    )


def _of(call: Call) -> Artifacts:
    if call.platform.artifacts is None:
        raise NotFound
    return call.platform.artifacts


async def list_of_session(call: Call) -> Response:
    """Paged: a session's jobs may have made thousands."""
    session = await call.session()
    artifacts, asked = _of(call), wire.limit(call.request)
    found = await artifacts.page(session.live.record.id, wire.cursor(call.request), asked)
    return wire.page([shown(artifacts, one) for one in found], [one.id for one in found], asked)


async def list_of_job(call: Call) -> Response:
    _, job = await call.job()
    artifacts = _of(call)
    found = await artifacts.of_job(job.id)
    return wire.everything([shown(artifacts, one) for one in found])


async def _one(call: Call) -> tuple[Session, ArtifactRecord]:
    """The artifact that the path names. Raises NotFound, Forbidden."""
    record = await _of(call).get(call.request.path_params["id"])
    return await call.platform.sessions.get(record.session, call.principal, call.scope), record


async def get_artifact(call: Call) -> Response:
    _, record = await _one(call)
    return wire.Reply(shown(_of(call), record))


async def get_content(call: Call) -> Response:
    session, record = await _one(call)
    headers, stretch, status = _conditions(call, record)
    if status == 304:
        return Response(status_code=304, headers=headers)
    start, end = (0, record.size) if stretch is None else (stretch.start, stretch.end)
    room = call.room()
    content = await _of(call).open(record, start, end)
    await _taken(call, session, {"artifact": record.id})
    return streamed(
        call,
        session,
        _passed_on(content),
        record.media_type,
        headers,
        let_go=content.close,
        room=room,
        status_code=status,
    )


def _conditions(call: Call, record: ArtifactRecord) -> tuple[dict[str, str], ranges.Stretch | None, int]:
    """Headers, what to send of it, status. Raises OutOfRange."""
    given = call.request.headers
    etag = f'"{record.sha256}"'
    headers = _headers(record.path) | {"etag": etag, "accept-ranges": "bytes"}
    if ranges.unchanged(given.get("if-none-match"), etag):
        return headers, None, 304
    try:
        stretch = ranges.asked(given.get("range"), given.get("if-range"), etag, record.size)
    except ValueError:
        raise OutOfRange(record.size) from None
    if stretch is None:
        return headers | {"content-length": str(record.size)}, None, 200
    length = str(stretch.end - stretch.start)
    return headers | {"content-length": length, "content-range": stretch.header}, stretch, 206


def _headers(path: str) -> dict[str, str]:
    name = path.rstrip("/").rpartition("/")[2]
    return {
        "content-disposition": f"attachment; filename*=UTF-8''{urllib.parse.quote(name, safe='', errors='replace')}",
        "x-content-type-options": "nosniff",
        "content-security-policy": "sandbox; default-src 'none'",
        "cache-control": "private, no-cache",
        "referrer-policy": "no-referrer",
    }


async def _passed_on(content: Blob) -> AsyncGenerator[bytes, None]:
    async for chunk in content:
        yield chunk


async def _taken(call: Call, session: Session, what: dict[str, Any]) -> None:
    """For the audit. Reading goes on when nothing can be written."""
    with contextlib.suppress(Unavailable):
        entry = Entry("artifact.download", f"session:{session.live.record.id}", details=what)
        await call.platform.kit.audit.commit(call.who, [entry])


# --- all of a job ---


async def get_zip(call: Call) -> Response:
    return await _packed(call, "zip", "application/zip")


async def get_tar(call: Call) -> Response:
    return await _packed(call, "tar.gz", "application/gzip")


async def _packed(call: Call, form: Form, media_type: str) -> Response:
    session, job = await call.job()
    artifacts, room = _of(call), call.room()
    found = [one for one in await artifacts.of_job(job.id) if one.state != "skipped"]
    await _taken(call, session, {"job": job.id, "form": form})
    headers = _headers(f"{job.id}.{form}")
    return streamed(call, session, packed(form, found, artifacts.open), media_type, headers, room=room)


# --- signed links ---


async def make_link(call: Call) -> Response:
    session, record = await _one(call)
    given = await wire.body(call.request, NewArtifactLink)
    if not 1 <= given.expires_in_s <= LIFE_MAX_S:
        raise BadRequest(f"expiresInS: from 1 to {LIFE_MAX_S}")
    if record.state == "skipped":
        raise NotFound("The file was not kept.")
    path, expires = await _of(call).links.make(record.id, given.expires_in_s)
    about = f"session:{session.live.record.id}"
    entry = Entry("artifact.link", about, details={"artifact": record.id, "expires": expires})
    await call.platform.kit.audit.commit(call.who, [entry])  # no link that nobody can account for
    return wire.Reply(ArtifactLink(url=f"{call.url}{path}", expires_at=expires), 201)


async def get_signed(call: Call) -> Response:
    """Whoever has the link: it says which artifact, and until when."""
    query, artifacts = call.request.query_params, _of(call)
    artifact_id = call.request.path_params["id"]
    await artifacts.links.check(artifact_id, query.get("expires", ""), query.get("signature", ""))
    clock, end_at = call.platform.kit.clock, int(query["expires"]) + LINK_READ_S
    record = await artifacts.get(artifact_id)
    headers, stretch, status = _conditions(call, record)
    if status == 304:
        return Response(status_code=304, headers=headers)
    start, end = (0, record.size) if stretch is None else (stretch.start, stretch.end)
    content = await artifacts.open(record, start, end)
    return Streamed(
        _passed_on(content),
        call.platform.streams,
        f"artifact:{record.id}",
        lambda: max(0.0, end_at - clock.now()),
        clock.sleep,
        media_type=record.media_type,
        headers=headers,
        let_go=content.close,
        room=artifacts.links.room(),
        status_code=status,
    )
