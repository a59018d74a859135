"""Signing in, who one is, keys, members, the audit."""

from __future__ import annotations

from pilothouse.core import chain
from pilothouse.core.api import Everything, Page, access, sessions
from pilothouse.core.api.base import Health, Readiness
from pilothouse.web.operations import examples as ex
from pilothouse.web.operations.base import (
    ACCOUNT,
    DONE,
    ORGANISATION,
    PAGED,
    Operation,
    Parameter,
    Said,
    text,
    whole,
)

HEALTH, IN, KEYS, MEMBERS, AUDIT = "Health", "Signing in", "Keys", "Members", "Audit"
COOKIE = {"Set-Cookie": "The sign-in, HttpOnly, SameSite=Strict."}
GONE = "Too many wrong ones from one address."
PRINCIPAL = access.Principal(
    kind="key",
    id="3f2a9c1b7d0e",
    name="ci",
    scopes=["read", "run"],
    account="local",
    organisation="default",
    role="admin",
)
SERVER = access.Server(
    version="0.7.0",
    isolation="namespaces",
    isolation_summary="Sessions run in namespaces of their own.",
    isolation_findings=[],
    provider="anthropic",
    demo=False,
    model="claude-haiku-4.5",
    ready=True,
    agents=[access.Agent(id="claude", label="Claude Code")],
    default_agent="claude",
    permission_modes=["acceptEdits", "manual", "acceptAll", "plan", "dontAsk"],
    default_permission_mode="acceptEdits",
    prompt_max=1_048_576,
    approval_timeout_s=300,
    limits={"memory": 4_294_967_296, "cpu": 1},
    rates=access.Rates(rate_per_s=10, rate_burst=20, quota_per_day=1000),
)
SIGN_IN = access.SignIn(
    id="5d41402abc4b2a76b9719d911017c592ae8f2b1c0d3e4f5a6b7c8d9e0f1a2b3c",
    account="local",
    name="local",
    via=None,
    created_at=ex.AT,
    last_seen_at=ex.LATER,
    expires_at=ex.LATER,
    address="127.0.0.1",
    agent="Firefox on Linux",
    own=True,
    current=True,
)
RECORD = chain.Record(
    v=1,
    org="default",
    seq=41,
    at=ex.AT,
    actor=chain.Actor(kind="key", id="3f2a9c1b7d0e", name="ci"),
    action="session.create",
    object=f"session:{ex.SESSION_ID}",
    address="127.0.0.1",
    outcome="ok",
    details={},
    prev=chain.ORIGIN,
    hash=ex.HASH,
)

OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "GET", "/healthz", HEALTH, "Whether the process answers",
        {200: Said("It does.", Health, Health(status="ok"))},
    ),
    Operation(
        "GET", "/readyz", HEALTH, "Whether it takes work",
        {
            200: Said("It does.", Readiness, Readiness(status="ready")),
            503: Said(
                "It does not, and why.", Readiness,
                Readiness(status="not_ready", reasons=["The store does not answer."]),
            ),
        },
    ),
    Operation(
        "POST", "/api/signin", IN, "Sign in by a ticket, or follow a share link",
        {
            200: Said("By a link: where it leads, and a cookie.", access.Followed,
                      access.Followed(session=ex.SESSION_ID), headers=COOKIE),
            204: Said("By a ticket: a cookie.", headers=COOKIE),
        },
        body=access.Shown, example=access.Shown(ticket="Zk3…"),
        refuses={401: "Unknown, used, or too old.", 429: GONE, 503: "The store does not answer."},
    ),
    Operation(
        "GET", "/api/signin/providers", IN, "With whom people sign in",
        {200: Said("All of them.", Everything[access.Provider],
                   Everything(items=[access.Provider(id="okta", label="Okta")]))},
    ),
    Operation(
        "GET", "/api/signin/oidc/{provider}", IN, "Begin to sign in with a provider",
        {
            303: Said("To the provider.", headers={"Location": "Its page.", "Set-Cookie": "For ten minutes."}),
            403: Said("Asked for by another site: a page that says so.", media="text/html"),
            404: Said("There is no such provider: a page that says so.", media="text/html"),
            503: Said("The provider does not answer: a page that says so.", media="text/html"),
        },
        "For browsers; its refusals are pages.",
    ),
    Operation(
        "GET", "/api/signin/oidc/{provider}/callback", IN, "Where a provider sends the browser back",
        {
            200: Said("Signed in: a page that leads on, and a cookie.", media="text/html", headers=COOKIE),
            **{
                status: Said(f"{why}: a page that says so.", media="text/html")
                for status, why in {
                    400: "The answer has no form", 401: "The answer does not stand", 403: "This person may not come in",
                    404: "There is no such provider", 429: "Too many wrong ones", 503: "The provider does not answer",
                }.items()
            },
        },
        "For browsers; an answer counts once, in the browser that began.",
        query=(
            Parameter("code", text(), "The provider's answer."),
            Parameter("state", text(), "What this server gave to the browser that began."),
        ),
    ),
    Operation(
        "POST", "/api/signout", IN, "Sign out", {204: Said("Signed out.", headers={"Set-Cookie": "An empty one."})},
        body=access.Out, body_optional=True, example=access.Out(everywhere=True),
        refuses={403: "A key signs nobody out `everywhere`."},
    ),
    Operation(
        "GET", "/api/signins", IN, "Who is signed in",
        {200: Said("One's own; for an admin all.", Page[access.SignIn], Page(items=[SIGN_IN], next=None))},
        "A key sees them with the scope `admin` only.",
    ),
    Operation("DELETE", "/api/signins/{id}", IN, "End a sign-in, its sockets too", {204: DONE}),
    Operation(
        "GET", "/api/me", IN, "Who one is, and what this server does",
        {200: Said("Both.", access.Me, access.Me(principal=PRINCIPAL, csrf=None, server=SERVER))},
    ),
    Operation(
        "POST", "/api/tickets", IN, "A sign-in link",
        {201: Said(
            "Made.", access.Ticket,
            access.Ticket(ticket="Zk3…", url="https://pilothouse.example/#ticket=Zk3…", expires_at=ex.LATER),
        )},
        query=(ACCOUNT, ORGANISATION),
    ),
    Operation(
        "GET", "/api/keys", KEYS, "The organisation's keys and key pairs",
        {200: Said("All of them.", Page[access.Key], Page(items=[ex.KEY], next=None))},
        query=(ORGANISATION,),
    ),
    Operation(
        "POST", "/api/keys", KEYS, "Make a key or a key pair",
        {201: Said(
            "Made; the secret is shown this once.", access.MadeKey,
            access.MadeKey(id="3f2a9c1b7d0e", kind="key", name="ci", scopes=["read", "run"], account="local",
                           created_at=ex.AT, key="ph_3f2a9c1b7d0e_…"),
        )},
        query=(ORGANISATION,), body=access.NewKey, example=access.NewKey(name="ci", scopes=["read", "run"]),
        refuses={404: "There is no such member."},
    ),
    Operation("DELETE", "/api/keys/{id}", KEYS, "Revoke a key or a key pair", {204: DONE}, query=(ORGANISATION,)),
    Operation(
        "GET", "/api/audit", AUDIT, "The organisation's records",
        {200: Said("Records, and the number to go on from.", access.AuditPage,
                   access.AuditPage(items=[RECORD], next=None))},
        "With `after` in the order of the chain; else newest first. A page may have few records and a `next` all the "
        "same.",
        query=(
            ORGANISATION, PAGED[0],
            Parameter("after", whole(0, 2**53), "In the order of the chain from this record on; not with a filter."),
            Parameter("before", whole(0, 2**53), "Newest first from the record before this one."),
            Parameter("action", text(maxLength=100), "Only records whose action begins so.", example="session."),
            Parameter("who", text(maxLength=100), "Only records with this in actor or address."),
        ),
    ),
    Operation(
        "GET", "/api/audit/head", AUDIT, "The newest record's number and hash",
        {200: Said("Both, and the oldest one's number.", access.AuditHead,
                   access.AuditHead(seq=41, hash=ex.HASH, oldest=1))},
        query=(ORGANISATION,),
    ),
    Operation(
        "GET", "/api/organisations", MEMBERS, "The organisations",
        {200: Said("All; one's own for who is no admin of the server.", Page[sessions.Organisation],
                   Page(items=[ex.ORGANISATION], next=None))},
    ),
    Operation(
        "POST", "/api/organisations", MEMBERS, "Make an organisation",
        {201: Said("Made.", sessions.Organisation, ex.ORGANISATION)},
        "For admins of the server.",
        body=sessions.NewOrganisation, example=sessions.NewOrganisation(id="red", name="Red"),
        refuses={409: "There is one of that id."},
    ),
    Operation(
        "GET", "/api/members", MEMBERS, "The members of an organisation",
        {200: Said("All of them.", Page[sessions.Member], Page(items=[ex.MEMBER], next=None))},
        query=(ORGANISATION,),
    ),
    Operation(
        "PUT", "/api/members/{account:path}", MEMBERS, "Add or change a member",
        {200: Said("As it is now, at once.", sessions.Member, ex.MEMBER)},
        query=(ORGANISATION,), body=sessions.MemberChange, example=sessions.MemberChange(role="approver"),
        refuses={409: "No admin would be left."},
    ),
    Operation(
        "DELETE", "/api/members/{account:path}", MEMBERS, "Remove a member", {204: DONE}, query=(ORGANISATION,),
        refuses={409: "No admin would be left."},
    ),
)  # fmt: skip
