"""Rows in columns for people. Pure."""

from __future__ import annotations

import msgspec

from pilothouse.cli import text, wire

TITLE = 40
INPUT = 60
"""Characters of a tool call's input: enough to know which it is. Whoever decides is shown all of it."""


def columns(rows: list[list[str]]) -> str:
    if not rows:
        return ""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "".join("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() + "\n" for row in rows)


def table(rows: list[tuple[wire.Session, list[wire.Job]]]) -> str:
    lines = [["SESSION", "STATE", "AGENT", "ISOLATION", "WAITING", "COST", "TITLE"]]
    for session, jobs in rows:
        waiting = session.pending_approvals + session.pending_questions
        state = "running" if session.running else session.state
        cost = f"${session.total_cost:.2f}"
        title = text.line(session.title or "", TITLE)
        lines.append(
            [text.line(f, TITLE) for f in (session.id, state, session.agent, session.isolation)]
            + [str(waiting or ""), cost, title]
        )
        for job in jobs:
            lines.append([f"  {text.line(job.id, TITLE)}", job.state, "", "", "", "", text.line(job.prompt, TITLE)])
    return columns(lines)


def approvals(items: list[wire.Approval]) -> str:
    lines = [["ID", "SESSION", "TOOL", "INPUT"]]
    for item in items:
        given = text.telling(item.input) or msgspec.json.encode(item.input).decode()
        fields = [text.line(field, TITLE) for field in (item.approval_id, item.session_id, text.exact(item.tool))]
        lines.append([*fields, text.line(text.exact(given), INPUT)])
    return columns(lines)


REASONS = {
    "listed": "on the list",
    "full": "full network",
    "approved": "approved",
    "not_found": "no such name",
    "no_answer": "no answer",
    "off": "no network",
    "not_listed": "not on the list",
    "denied": "denied",
    "not_public": "not a public address",
    "limit": "too many connections",
    "malformed": "malformed request",
}


def contacts(view: wire.Network, *, head: bool) -> str:
    """Host names come from whatever runs in the session."""
    lines = [["", "HOST", "TIMES", "IN", "OUT", "LAST", "WHY"]] if head and view.contacts else []
    for item in view.contacts:
        host = f"{text.exact(item.host)}:{item.port}" if item.host else "(several)"
        why = REASONS.get(item.reason, text.line(item.reason, TITLE))
        sizes = [text.size(item.bytes_in), text.size(item.bytes_out)]
        fields = [item.verdict, host, str(item.count), *sizes, item.last, why]
        lines.append([text.line(field, 260) for field in fields])
    if not head:
        return columns(lines)
    domains = ", ".join(text.exact(domain) for domain in view.domains)
    return f"policy: {text.line(view.policy, TITLE)}{f' ({domains})' if domains else ''}\n" + columns(lines)


def usage(found: wire.Usage) -> str:
    heads = [text.line(field.upper(), TITLE) for field in found.by]
    lines = [[*heads, "CALLS", "INPUT", "OUTPUT", "CACHE READ", "CACHE WRITTEN", "COST"]]
    for item in found.items:
        lines.append([*(_used(item, field) for field in found.by), *_sums(item)])
    if len(found.items) != 1:
        lines.append([*(["total"] + [""] * (len(heads) - 1) if heads else []), *_sums(found.total)])
    return columns(lines)


def _used(item: wire.Used, field: str) -> str:
    found = getattr(item, field, "")
    named = {"key": item.key_name, "session": item.session_title}.get(field, "")
    if field == "session":
        return f"{found} {text.line(text.exact(named), TITLE)}".rstrip()
    return text.line(text.exact(f"{named} ({found})" if named else str(found) or "-"), 2 * TITLE)


def _sums(item: wire.Used) -> list[str]:
    tokens = (item.input_tokens, item.output_tokens, item.cache_read_tokens, item.cache_write_tokens)
    return [str(n) for n in (item.calls, *tokens)] + [f"${item.cost_usd:.4f}"]


def members(items: list[wire.Member]) -> str:
    lines = [["ACCOUNT", "NAME", "ROLE", "ORGANISATION", ""]]
    for one in items:
        fields = (one.account, one.name, one.role, one.organisation, "disabled" if one.disabled else "")
        lines.append([text.line(field, TITLE) for field in fields])
    return columns(lines)


def webhooks(items: list[wire.Webhook]) -> str:
    lines = [["ID", "NAME", "TO", "EVENTS", "WAITING", "DEAD", "LAST"]]
    for one in items:
        last = _went(one.last) if one.last else ""
        state = last if one.enabled else f"disabled ({one.disabled_because})"
        fields = (one.id, one.name, one.url, ",".join(one.events), str(one.pending), str(one.dead))
        lines.append([*[text.line(field, TITLE) for field in fields], text.line(state, 120)])
    return columns(lines)


def notifiers(items: list[wire.Notifier]) -> str:
    lines = [["ID", "KIND", "NAME", "TO", "TELLS OF", "SESSIONS", "LAST"]]
    for one in items:
        last = _went(one.last) if one.last else ""
        state = last if one.enabled else f"off ({one.disabled_because})"
        fields = (one.id, one.kind, one.name, one.to, ",".join(one.events), one.sessions)
        lines.append([*[text.line(field, TITLE) for field in fields], text.line(state, 120)])
    return columns(lines)


def deliveries(items: list[wire.Delivery]) -> str:
    lines = [["ID", "EVENT", "CREATED", "ATTEMPTS", "STATE"]]
    for one in items:
        fields = (one.id, one.type, one.created_at, str(one.attempts), _went(one))
        lines.append([text.line(field, 120) for field in fields])
    return columns(lines)


def _went(one: wire.Delivery) -> str:
    again = f" again {one.next_attempt_at}" if one.state == "pending" and one.attempts and one.next_attempt_at else ""
    return f"{one.state}{again}" + (f" ({one.error})" if one.error else "")


def organisations(items: list[wire.Organisation]) -> str:
    lines = [["ORGANISATION", "NAME", "CREATED"]]
    return columns(lines + [[text.line(f, TITLE) for f in (one.id, one.name, one.created_at)] for one in items])


def audited(items: list[wire.Audited], *, head: bool) -> str:
    lines = [["SEQ", "TIME", "WHO", "FROM", "ACTION", "OBJECT", "OUTCOME", "DETAILS"]] if head else []
    for item in items:
        who = f"{item.actor.kind} {item.actor.name}".rstrip()
        more = " ".join(f"{name}={msgspec.json.encode(value).decode()}" for name, value in item.details.items())
        fields = [item.at, who, item.address, item.action, item.object, item.outcome, more]
        lines.append([str(item.seq), *[text.line(text.exact(field), 120) for field in fields]])
    return columns(lines)


def secrets(items: list[wire.Secret]) -> str:
    lines = [["NAME", "OF", "FOR", "AS", "SET", "BY", "LAST USED", ""]]
    for one in items:
        of = next(iter(one.project.values()), "") if one.project else one.where
        how, used = "file" if one.file else "environment", one.last_used_at or "never"
        fields = (one.name, of, one.use, how, one.set_at, one.set_by, used, "" if one.masked else "too short to mask")
        lines.append([text.line(text.exact(field), 100) for field in fields])
    return columns(lines)


def keys(items: list[wire.Key]) -> str:
    lines = [["ID", "KIND", "NAME", "SCOPES", "CREATED", "LAST USED", "ENDS"]]
    for key in items:
        scopes, used, ends = ",".join(key.scopes), key.last_used_at or "never", key.expires_at or "never"
        fields = (key.id, key.kind, key.name or "", scopes, key.created_at, used, ends)
        lines.append([text.line(field, TITLE) for field in fields])
    return columns(lines)
