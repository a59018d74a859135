"""Run inside a session: `suite GROUP...`, the canaries in the variable of `ground`.

Prints a line of JSON per check and a last one for people:

    {"id": "fs.db", "verdict": "blocked" | "open" | "not applicable", "why": "..."}
    83 passed, 1 failed, 0 skipped

It refuses to run anywhere but in a sandbox: its attacks mean harm, and are harmless only where they fail or hit
canaries.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from pilothouse.adapters.sandboxes import enter, kernel
from pilothouse.adapters.sandboxes.escape import (
    calls,
    cgroups,
    files,
    identity,
    limits,
    processes,
    sockets,
    surface,
    terminals,
)
from pilothouse.adapters.sandboxes.escape.attempt import BLOCKED, OPEN, SKIPPED, Verdict, together
from pilothouse.adapters.sandboxes.escape.ground import VARIABLE, Check, Ground, content, decode

_AT_ONCE = "fs.inherited_fds"
"""Looked at before anything here opens a descriptor."""

LIMITS = "limits"
GROUPS: dict[str, dict[str, Check]] = {
    "files": files.CHECKS,
    "kernel": surface.CHECKS,
    "identity": identity.CHECKS,
    "processes": processes.CHECKS,
    LIMITS: {name: check for checks in limits.ROUNDS for name, check in checks.items()},
    "sockets": sockets.CHECKS,
    "terminal": terminals.CHECKS,
    "cgroup": cgroups.CHECKS,
}


def names(group: str) -> list[str]:
    """Every check of a group, in the order of their answers."""
    return [*([_AT_ONCE] if group == "files" else []), *GROUPS[group]]


def unsafe(ground: Ground | None) -> str:
    """Why this is no place for the suite, "" when it is one."""
    if 0 in os.getresuid():
        return "this is root"
    if calls.capabilities():
        return "this process holds capabilities"
    if not calls.no_new_privs() or not calls.filtered():
        return "this process may gain privileges, or is not filtered"
    if ground is None:
        return "no canaries were named"
    if not ground.reduced and not enter.is_first(content("/proc/1/cmdline")):
        return "the first process is not a session's"
    return ""


def run(group: str, ground: Ground) -> Iterator[Verdict]:
    if group == "files":
        why = files.inherited_fds()
        yield Verdict(_AT_ONCE, OPEN if why else BLOCKED, why)
    if group == LIMITS:
        for checks in limits.ROUNDS:
            yield from together(checks, ground, bomb=True)
        return
    for name, check in GROUPS[group].items():
        yield from together({name: check}, ground)


def main(argv: list[str]) -> int:
    env = os.environ
    ground = decode(env[VARIABLE], str(Path.cwd()), env["HOME"], env["TMPDIR"]) if VARIABLE in env else None
    why = unsafe(ground)
    if why or ground is None:
        sys.stderr.write(f"escape suite: refused: {why}\n")
        return 2
    kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
    counts = dict.fromkeys((BLOCKED, OPEN, SKIPPED), 0)
    for group in argv or list(GROUPS):
        for verdict in run(group, ground):
            counts[verdict.state] += 1
            said = {"id": verdict.id, "verdict": verdict.state, "why": verdict.why}
            sys.stdout.write(json.dumps(said) + "\n")
            sys.stdout.flush()
    sys.stdout.write(f"{counts[BLOCKED]} passed, {counts[OPEN]} failed, {counts[SKIPPED]} skipped\n")
    return 0
