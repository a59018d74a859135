"""Sessions, what they reach and use, who else may be in them, secrets, shells."""

from __future__ import annotations

from pilothouse.core.api import Page, jobs, sessions
from pilothouse.web.operations import examples as ex
from pilothouse.web.operations.base import DONE, PAGED, Operation, Parameter, Said, text

SESSIONS, SHARING, NETWORK, SECRETS, SHELLS = "Sessions", "Sharing", "Network", "Secrets", "Shells"
GONE = "Or the session cannot be opened."

OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "GET", "/api/sessions", SESSIONS, "The sessions that the caller may see",
        {200: Said("A page, newest first.", Page[sessions.Session], Page(items=[ex.SESSION], next=None))},
        query=PAGED,
    ),
    Operation(
        "POST", "/api/sessions", SESSIONS, "Make a session",
        {201: Said("Made; nothing is started yet.", sessions.Session, ex.SESSION)},
        body=sessions.NewSession,
        example=sessions.NewSession(
            title="Find the slow test", source=sessions.Project(git="https://git.example/shop.git"),
            limits={"memory": 2_147_483_648},
        ),
    ),
    Operation("GET", "/api/sessions/{id}", SESSIONS, "A session", {200: Said("It.", sessions.Session, ex.SESSION)}),
    Operation(
        "PATCH", "/api/sessions/{id}", SESSIONS, "Change title, permission mode, model, privacy",
        {200: Said("As it is now.", sessions.Session, ex.SESSION)},
        "A running job goes on in the new mode. `private` needs the right `admin` there.",
        body=sessions.SessionChange, example=sessions.SessionChange(title="The slow test"),
        refuses={409: "It is in no state for this."},
    ),
    Operation(
        "DELETE", "/api/sessions/{id}", SESSIONS, "Delete a session, with its log and workspace", {204: DONE},
    ),
    Operation(
        "POST", "/api/sessions/{id}/stop", SESSIONS, "End its processes; workspace and conversation stay",
        {204: DONE},
    ),
    Operation(
        "GET", "/api/sessions/{id}/limits", SESSIONS, "What it may use, and uses",
        {200: Said("All limits.", sessions.Limits, sessions.Limits(limits=[
            sessions.Limit(name="memory", unit="bytes", max=4_294_967_296, used=52_428_800, enforced="cgroup", hits=0),
        ]))},
    ),
    Operation(
        "PUT", "/api/sessions/{id}/grants/{account:path}", SHARING, "Let a member do more there",
        {200: Said("The session.", sessions.Session, ex.SESSION)},
        body=sessions.NewGrant, example=sessions.NewGrant(right="watch"),
    ),
    Operation("DELETE", "/api/sessions/{id}/grants/{account:path}", SHARING, "Take it back", {204: DONE}),
    Operation(
        "GET", "/api/sessions/{id}/links", SHARING, "The share links that stand",
        {200: Said("All of them.", Page[sessions.Link], Page(items=[ex.LINK], next=None))},
    ),
    Operation(
        "POST", "/api/sessions/{id}/links", SHARING, "Make a share link",
        {201: Said("Made; its address is shown this once.", sessions.MadeLink, sessions.MadeLink(
            id="9f3c01d2a4b5", name="for Bob", right="watch", made_by="ann", created_at=ex.AT, expires_at=ex.LATER,
            url="https://pilothouse.example/#link=9f3c01d2a4b5_…",
        ))},
        body=sessions.NewLink, example=sessions.NewLink(right="watch", name="for Bob", expires_in_s=86_400),
    ),
    Operation("DELETE", "/api/sessions/{id}/links/{link}", SHARING, "Revoke a share link", {204: DONE}),
    Operation(
        "GET", "/api/sessions/{id}/network", NETWORK, "What it reaches, and has contacted",
        {200: Said("Both.", sessions.Network, ex.NETWORK)},
    ),
    Operation(
        "GET", "/api/sessions/{id}/network/stream", NETWORK, "The same, live",
        {200: Said(
            "At first all; then, with every change, the policy, the domains and the contacts that changed. It ends "
            "when the credential does or the server goes: ask again.",
            stream=': pilothouse\nretry: 2417\n\ndata: {"policy":"allow","domains":[],"contacts":[]}\n\n',
        )},
    ),
    Operation(
        "PUT", "/api/sessions/{id}/egress", NETWORK, "What it reaches from now on",
        {200: Said("As it is now.", sessions.Network, ex.NETWORK)},
        "An empty object: as configured. More than is configured needs `approve`, or an admin of the server.",
        body=sessions.Wish, example=sessions.Wish(policy="allow", domains=["registry.npmjs.org"]),
    ),
    Operation(
        "GET", "/api/secrets", SECRETS, "The caller's own secrets, without their values",
        {200: Said("Of the account and of its projects.", Page[sessions.Secret], Page(items=[ex.SECRET], next=None))},
    ),
    Operation(
        "PUT", "/api/secrets/{name}", SECRETS, "Set or replace one of the caller's secrets",
        {200: Said("Set.", sessions.Secret, ex.SECRET)},
        body=sessions.NewOwnSecret, example=sessions.NewOwnSecret(value="npm_…"),
        refuses={429: "Or there are too many secrets.", 503: "Or the sealing key does not open what is there."},
    ),
    Operation(
        "DELETE", "/api/secrets/{name}", SECRETS, "Remove one of the caller's secrets", {204: DONE},
        query=(
            Parameter("git", text(), "Of the project with this source."),
            Parameter("dir", text(), "Likewise, a directory of the host."),
        ),
    ),
    Operation(
        "GET", "/api/sessions/{id}/secrets", SECRETS, "The secrets that reach a session",
        {200: Said("Without their values.", Page[sessions.Secret], Page(items=[ex.SECRET], next=None))},
    ),
    Operation(
        "PUT", "/api/sessions/{id}/secrets/{name}", SECRETS, "Set or replace a session's secret",
        {200: Said("Set.", sessions.Secret, ex.SECRET)},
        body=sessions.NewSecret, example=sessions.NewSecret(value="npm_…"),
        refuses={429: "Or there are too many secrets.", 503: "Or the sealing key does not open what is there."},
    ),
    Operation("DELETE", "/api/sessions/{id}/secrets/{name}", SECRETS, "Remove a session's secret", {204: DONE}),
    Operation(
        "GET", "/api/sessions/{id}/shells", SHELLS, "The shells of a session",
        {200: Said("Ended ones too, until somebody has seen their end.", Page[jobs.Shell],
                   Page(items=[ex.SHELL], next=None))},
        refuses={503: GONE},
    ),
    Operation(
        "POST", "/api/sessions/{id}/shells", SHELLS, "Open a shell",
        {
            200: Said("There is a shell of that id already.", jobs.Shell, ex.SHELL),
            201: Said("Made.", jobs.Shell, ex.SHELL),
        },
        "It opens the session if that sleeps.",
        body=jobs.NewShell, example=jobs.NewShell(shell_id="build", command=["make", "test"], width=120, height=40),
        refuses={409: "It is in no state for this.", 429: "Or there are ten shells.", 503: GONE},
    ),
    Operation(
        "DELETE", "/api/sessions/{id}/shells/{shellId}", SHELLS, "End a shell", {204: DONE}, refuses={503: GONE},
    ),
    Operation(
        "WS", "/api/sessions/{id}/shells/{shellId}", SHELLS, "View a shell, and type in it", {},
        "See `protocol/terminal.md`.",
    ),
    Operation(
        "WS", "/runtimes/{runtime}/ws/shells", SHELLS, "AgentCore's Shell API", {}, "See `protocol/terminal.md`.",
    ),
)  # fmt: skip
