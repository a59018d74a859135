"""The HTTP API's handlers for who one is, sessions, approvals, questions, rules. See `protocol/http.md`."""

from __future__ import annotations

import dataclasses
import re
from typing import TypeVar

from starlette.responses import Response

from pilothouse.core import access, limits
from pilothouse.core import events as ev
from pilothouse.core.api import access as shown
from pilothouse.core.api.base import Health, Readiness
from pilothouse.core.api.jobs import Answers, Decision
from pilothouse.core.api.sessions import Limit, Limits, NewSession, SessionChange
from pilothouse.core.errors import BadRequest, Forbidden, NotFound
from pilothouse.core.ids import ApprovalId, QuestionId
from pilothouse.engine import records
from pilothouse.engine.records import ApprovalRecord, QuestionRecord
from pilothouse.web import network, views, wire
from pilothouse.web.call import Call
from pilothouse.web.guard import COOKIE, LINK_COOKIE, cookie_of

AGENTS = {"claude": "Claude Code", "echo": "Echo (scripted, for tests)"}
R = TypeVar("R", ApprovalRecord, QuestionRecord)
_DIGEST = re.compile(r"[0-9a-f]{64}\Z")


# --- health, who one is ---


async def healthz(call: Call) -> Response:
    return wire.Reply(Health(status="ok"))


async def readyz(call: Call) -> Response:
    reasons = call.platform.ready()
    if reasons:
        return wire.Reply(Readiness(status="not_ready", reasons=reasons), 503)
    return wire.Reply(Readiness(status="ready"))


async def me(call: Call) -> Response:
    platform = call.platform
    who = call.principal
    model = await platform.kit.models.state()
    named = {"person": COOKIE, "link": LINK_COOKIE}.get(who.kind)
    cookie = cookie_of(call.request.headers, named) if named else None
    settings = platform.kit.limits
    probe = platform.sessions.probe
    usual = platform.gate.rates
    inside = who.session is None  # what the host is like is not for whoever has a link
    server = shown.Server(
        version=platform.version,
        isolation=probe.isolation,
        isolation_summary=probe.summary if inside else "",
        isolation_findings=list(probe.findings) if inside else [],
        provider=model.provider,
        demo=model.demo,
        model=model.model,
        ready=model.ready and not platform.ready(),
        agents=[shown.Agent(id=a, label=AGENTS.get(a, a)) for a in platform.kit.agents],
        default_agent=settings.agent,
        permission_modes=["acceptEdits", "manual", "acceptAll", "plan", "dontAsk"],
        default_permission_mode=settings.permission_mode,
        prompt_max=settings.prompt_max,
        approval_timeout_s=settings.approval_timeout_s,
        limits=dict(settings.caps.values()) if inside else {},
        rates=shown.Rates(rate_per_s=usual.per_s, rate_burst=usual.burst, quota_per_day=usual.per_day)
        if inside
        else None,
    )
    csrf = platform.identity.csrf(cookie) if cookie else None
    return wire.Reply(shown.Me(principal=views.principal(who), csrf=csrf, server=server))


# --- sessions ---


async def list_sessions(call: Call) -> Response:
    asked = wire.limit(call.request)
    sessions = call.platform.sessions
    who = call.principal
    found = await sessions.shelf.page(who, wire.cursor(call.request), asked)
    return wire.page([await views.session(sessions, r, who) for r in found], [r.id for r in found], asked)


async def make_session(call: Call) -> Response:
    given = await wire.body(call.request, NewSession)
    most = None if call.principal.of_server else call.platform.kit.limits.caps
    asked = limits.check(given.limits or {}, most)
    if given.source is not None and given.source.dir is not None and not call.principal.of_server:
        raise Forbidden("source.dir: only an admin of the server gives a session a directory of the host.")
    made = await call.platform.sessions.create(
        owner=call.principal.account,
        organisation=call.principal.organisation,
        agent=given.agent,
        title=given.title,
        source=None if given.source is None else ev.Source(git=given.source.git, dir=given.source.dir),
        permission_mode=given.permission_mode,
        model=given.model,
        limits=asked,
        egress=network.wished(call, given.egress),
        who=call.who,
    )
    return wire.Reply(await views.session(call.platform.sessions, made.live.record, call.principal), 201)


async def get_session(call: Call) -> Response:
    session = await call.session()
    return wire.Reply(await views.session(call.platform.sessions, session.live.record, call.principal))


async def session_limits(call: Call) -> Response:
    record = (await call.session()).live.record
    found = await call.platform.kit.sandboxes.limits(record.id, record.limits)
    return wire.Reply(Limits(limits=[Limit(**dataclasses.asdict(state)) for state in found]))


async def change_session(call: Call) -> Response:
    session = await call.session()
    given = await wire.body(call.request, SessionChange)
    sessions = call.platform.sessions
    if given.private is not None:
        access.need(call.principal, session.live.record, "admin")
    record = session.live.record
    if given.private is None or not (given.title is given.permission_mode is given.model is None):
        record = await sessions.change(
            session, title=given.title, mode=given.permission_mode, model=given.model, who=call.who
        )
    if given.private is not None:
        record = await sessions.shelf.share(session, private=given.private, who=call.who)
    return wire.Reply(await views.session(sessions, record, call.principal))


async def delete_session(call: Call) -> Response:
    session = await call.session()
    await call.platform.sessions.delete(session, call.who)
    call.platform.identity.links.forget(session.live.record.id)
    return Response(status_code=204)


async def stop_session(call: Call) -> Response:
    await call.platform.sessions.stop(await call.session(), call.who)
    return Response(status_code=204)


async def text(call: Call) -> Response:
    """The whole of a field that was cut."""
    session = await call.session()
    digest = call.request.path_params["digest"]
    doc = None
    if _DIGEST.match(digest):
        doc = await call.platform.kit.store.get("text", f"{session.live.record.id}:{digest}")
    if doc is None:
        raise NotFound
    headers = {
        "content-disposition": "attachment",
        "x-content-type-options": "nosniff",
        "content-security-policy": "sandbox; default-src 'none'",
        "cache-control": "private, max-age=86400, immutable",
    }
    return Response(doc, media_type="text/plain; charset=utf-8", headers=headers)


# --- approvals and questions ---


async def list_approvals(call: Call) -> Response:
    state = call.request.query_params.get("state", "pending")
    if state not in {"pending", "all"}:
        raise BadRequest("state: pending or all")
    asked = wire.limit(call.request)
    session_id = call.request.query_params.get("sessionId")
    if session_id is not None:
        await call.platform.sessions.get(session_id, call.principal)
    found = await _mine(call, "approval", ApprovalRecord, session_id, state == "pending", asked)
    return wire.page([views.approval(r) for r in found], [r.approval_id for r in found], asked)


async def get_approval(call: Call) -> Response:
    _, record = await call.approval()
    return wire.Reply(views.approval(record))


async def decide(call: Call) -> Response:
    session, record = await call.approval()
    given = await wire.body(call.request, Decision)
    decided = await session.approvals.decide(
        ApprovalId(record.approval_id),
        approved=given.approved,
        by=call.principal.label,
        account=call.principal.account,
        beyond=access.beyond(call.principal, session.live.record),
        edits="run" in access.rights(call.principal, session.live.record),
        input_hash=given.input_hash,
        option_id=given.option_id,
        message=given.message,
        updated_input=given.updated_input,
        who=call.who,
    )
    return wire.Reply(views.approval(decided))


async def list_questions(call: Call) -> Response:
    state = call.request.query_params.get("state", "pending")
    if state not in {"pending", "all"}:
        raise BadRequest("state: pending or all")
    asked = wire.limit(call.request)
    found = await _mine(call, "question", QuestionRecord, None, state == "pending", asked)
    return wire.page([views.question(r) for r in found], [r.question_id for r in found], asked)


async def _mine(call: Call, kind: str, form: type[R], session_id: str | None, pending: bool, most: int) -> list[R]:
    """Documents of the sessions that the caller may see, newest first."""
    sessions = call.platform.sessions
    out: list[R] = []
    after = wire.cursor(call.request)
    while len(out) < most:
        found = await call.platform.kit.store.scan(kind, owner=session_id, after=after, limit=200, newest=True)
        for key, doc in found:
            after = key
            record = records.load(doc, form)
            if pending and record.state != "pending":
                continue
            if not await sessions.shelf.visible(record.session_id, call.principal):
                continue
            out.append(record)
            if len(out) == most:
                break
        if len(found) < 200:
            break
    return out


async def answer(call: Call) -> Response:
    session, record = await call.question()
    given = await wire.body(call.request, Answers)
    decided = await session.questions.answer(
        QuestionId(record.question_id),
        given.answers,
        by=call.principal.label,
        account=call.principal.account,
        who=call.who,
    )
    return wire.Reply(views.question(decided))


async def answered(call: Call) -> Response:
    """A question that was answered, as it is now."""
    _, record = await call.question()
    return wire.Reply(views.question(record))


# --- rules ---


async def list_rules(call: Call) -> Response:
    return wire.everything([views.rule(r) for r in call.platform.rules.all(call.principal)])


async def remove_rule(call: Call) -> Response:
    await call.platform.rules.remove(call.request.path_params["id"], call.who)
    return Response(status_code=204)
