"""The HTTP API's handlers for who one is, keys, sessions, approvals, questions, rules. See `protocol/http.md`."""

from __future__ import annotations

import dataclasses
import re
from typing import TypeVar

from starlette.responses import Response

from pilothouse.core import access, limits
from pilothouse.core import events as ev
from pilothouse.core.errors import BadRequest, NotFound
from pilothouse.core.ids import ApprovalId, QuestionId
from pilothouse.engine import records
from pilothouse.engine.records import ApprovalRecord, QuestionRecord
from pilothouse.web import network, views, wire
from pilothouse.web.call import Call
from pilothouse.web.guard import COOKIE, cookie_of

AGENTS = {"claude": "Claude Code", "echo": "Echo (scripted, for tests)"}
R = TypeVar("R", ApprovalRecord, QuestionRecord)
_DIGEST = re.compile(r"[0-9a-f]{64}\Z")


# --- health, who one is ---


async def healthz(call: Call) -> Response:
    return wire.Reply({"status": "ok"})


async def readyz(call: Call) -> Response:
    reasons = call.platform.ready()
    return wire.Reply({"status": "not_ready", "reasons": reasons}, 503) if reasons else wire.Reply({"status": "ready"})


class SignIn(wire.Body):
    ticket: str


async def signin(call: Call) -> Response:
    given = await wire.body(call.request, SignIn)
    cookie = await call.platform.identity.redeem(given.ticket)
    answer = Response(status_code=204)
    answer.set_cookie(
        COOKIE, cookie, max_age=30 * 86_400, httponly=True, samesite="strict", secure=call.secure, path=f"{call.base}/"
    )
    return answer


async def signout(call: Call) -> Response:
    cookie = cookie_of(call.request.headers)
    if call.principal.kind == "person" and cookie is not None:
        await call.platform.identity.sign_out(cookie)
    answer = Response(status_code=204)
    answer.delete_cookie(COOKIE, httponly=True, samesite="strict", secure=call.secure, path=f"{call.base}/")
    return answer


async def me(call: Call) -> Response:
    platform = call.platform
    who = call.principal
    model = await platform.kit.models.state()
    cookie = cookie_of(call.request.headers) if who.kind == "person" else None
    settings = platform.kit.limits
    return wire.Reply(
        {
            "principal": {"kind": who.kind, "id": who.id, "name": who.name, "scopes": sorted(who.scopes)},
            "csrf": platform.identity.csrf(cookie) if cookie else None,
            "server": {
                "version": platform.version,
                "isolation": platform.sessions.probe.isolation,
                "isolationSummary": platform.sessions.probe.summary,
                "isolationFindings": platform.sessions.probe.findings,
                "provider": model.provider,
                "demo": model.demo,
                "model": model.model,
                "ready": model.ready and not platform.ready(),
                "agents": [{"id": a, "label": AGENTS.get(a, a)} for a in platform.kit.agents],
                "defaultAgent": settings.agent,
                "permissionModes": ["acceptEdits", "manual", "acceptAll", "plan", "dontAsk"],
                "defaultPermissionMode": settings.permission_mode,
                "promptMax": settings.prompt_max,
                "approvalTimeoutS": settings.approval_timeout_s,
                "limits": settings.caps.values(),
            },
        }
    )


# --- keys and tickets ---


async def make_ticket(call: Call) -> Response:
    ticket, until = await call.platform.identity.ticket()
    url = f"{call.url}/#ticket={ticket}"
    return wire.Reply({"ticket": ticket, "url": url, "expiresAt": records.stamp(until)}, 201)


async def list_keys(call: Call) -> Response:
    return wire.Reply({"items": [views.key(k) for k in await call.platform.identity.keys()], "next": None})


class NewKey(wire.Body):
    name: str = "key"
    scopes: list[str] | None = None


async def make_key(call: Call) -> Response:
    given = await wire.body(call.request, NewKey)
    record, text = await call.platform.identity.create(given.name, access.scopes(given.scopes))
    return wire.Reply({**views.key(record), "key": text}, 201)


async def revoke_key(call: Call) -> Response:
    await call.platform.identity.revoke(call.request.path_params["id"])
    return Response(status_code=204)


# --- sessions ---


async def list_sessions(call: Call) -> Response:
    asked = wire.limit(call.request)
    sessions = call.platform.sessions
    found = await sessions.page(call.principal.account, wire.cursor(call.request), asked)
    return wire.page([await views.session(sessions, r) for r in found], [r.id for r in found], asked)


class NewSession(wire.Body):
    agent: str | None = None
    title: str | None = None
    source: ev.Source | None = None
    permission_mode: str | None = None
    model: str | None = None
    limits: dict[str, float] | None = None
    egress: network.Wish | None = None


async def make_session(call: Call) -> Response:
    given = await wire.body(call.request, NewSession)
    most = None if "admin" in call.principal.scopes else call.platform.kit.limits.caps
    asked = limits.check(given.limits or {}, most)
    made = await call.platform.sessions.create(
        owner=call.principal.account,
        agent=given.agent,
        title=given.title,
        source=given.source,
        permission_mode=given.permission_mode,
        model=given.model,
        limits=asked,
        egress=network.wished(call, given.egress),
    )
    return wire.Reply(await views.session(call.platform.sessions, made.live.record), 201)


async def get_session(call: Call) -> Response:
    session = await call.session()
    return wire.Reply(await views.session(call.platform.sessions, session.live.record))


async def session_limits(call: Call) -> Response:
    record = (await call.session()).live.record
    found = await call.platform.kit.sandboxes.limits(record.id, record.limits)
    return wire.Reply({"limits": [dataclasses.asdict(state) for state in found]})


class SessionChange(wire.Body):
    title: str | None = None
    permission_mode: str | None = None
    model: str | None = None


async def change_session(call: Call) -> Response:
    session = await call.session()
    given = await wire.body(call.request, SessionChange)
    record = await call.platform.sessions.change(
        session, title=given.title, mode=given.permission_mode, model=given.model
    )
    return wire.Reply(await views.session(call.platform.sessions, record))


async def delete_session(call: Call) -> Response:
    await call.platform.sessions.delete(await call.session())
    return Response(status_code=204)


async def stop_session(call: Call) -> Response:
    await call.platform.sessions.stop(await call.session())
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
        await call.platform.sessions.get(session_id, call.principal.account)
    found = await _mine(call, "approval", ApprovalRecord, session_id, state == "pending", asked)
    return wire.page([views.approval(r) for r in found], [r.approval_id for r in found], asked)


async def get_approval(call: Call) -> Response:
    _, record = await call.platform.sessions.of_approval(call.request.path_params["id"], call.principal.account)
    return wire.Reply(views.approval(record))


class Decision(wire.Body):
    approved: bool
    input_hash: str | None = None
    option_id: str | None = None
    message: str | None = None
    updated_input: ev.Json = None


async def decide(call: Call) -> Response:
    session, record = await call.platform.sessions.of_approval(call.request.path_params["id"], call.principal.account)
    given = await wire.body(call.request, Decision)
    decided = await session.approvals.decide(
        ApprovalId(record.approval_id),
        approved=given.approved,
        by=call.principal.label,
        input_hash=given.input_hash,
        option_id=given.option_id,
        message=given.message,
        updated_input=given.updated_input,
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
    """Documents of the caller's own sessions, newest first."""
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
            try:
                await sessions.get(record.session_id, call.principal.account)
            except NotFound:
                continue
            out.append(record)
            if len(out) == most:
                break
        if len(found) < 200:
            break
    return out


class Answers(wire.Body):
    answers: dict[str, str]


async def answer(call: Call) -> Response:
    session, record = await call.platform.sessions.of_question(call.request.path_params["id"], call.principal.account)
    given = await wire.body(call.request, Answers)
    decided = await session.questions.answer(QuestionId(record.question_id), given.answers, by=call.principal.label)
    return wire.Reply(views.question(decided))


# --- rules ---


async def list_rules(call: Call) -> Response:
    return wire.Reply({"items": [views.rule(r) for r in call.platform.rules.all(call.principal.account)], "next": None})


async def remove_rule(call: Call) -> Response:
    await call.platform.rules.remove(call.request.path_params["id"], call.principal.account)
    return Response(status_code=204)
