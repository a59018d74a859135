"""The ways to answer an approval, as a person is shown them."""

from __future__ import annotations

from typing import Any

from pilothouse.core import events as ev
from pilothouse.core import policy

DENY = ev.Option(id="deny", label="Deny", outcome="denied")


def options(tool: str, tool_input: Any, *, project: bool) -> list[ev.Option]:
    """`project`: the session has a source whose rules can be remembered."""
    if tool == "ExitPlanMode":
        return [
            ev.Option(id="accept_edits", label="Accept, edits go ahead", outcome="approved", mode="acceptEdits"),
            ev.Option(id="accept_manual", label="Accept, ask about each step", outcome="approved", mode="manual"),
            ev.Option(id="deny", label="Keep planning", outcome="denied"),
        ]
    out = [ev.Option(id="allow_once", label="Approve once", outcome="approved", scope="once")]
    rule = policy.suggest(tool, tool_input)
    if rule is not None:
        out.append(_always("session", "Always in this session", rule))
        if project:
            out.append(_always("project", "Always in this project", rule))
    return [*out, DENY]


def _always(scope: ev.Scope, label: str, rule: policy.Pattern) -> ev.Option:
    return ev.Option(id=f"allow_{scope}", label=f"{label}: {rule}", outcome="approved", scope=scope, rule=str(rule))
