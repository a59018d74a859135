"""The suite run in a real session, from out here: opens it, plants the canaries, attacks, judges, deletes it."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pilothouse.adapters.sandboxes import client
from pilothouse.adapters.sandboxes.bubblewrap import Bubblewrap
from pilothouse.adapters.sandboxes.escape import profiles, suite
from pilothouse.adapters.sandboxes.escape.attempt import BLOCKED, OPEN, SKIPPED, Verdict
from pilothouse.adapters.sandboxes.escape.ground import VARIABLE, encode
from pilothouse.adapters.sandboxes.escape.planted import Planted, planted
from pilothouse.core.errors import Unavailable
from pilothouse.core.ids import SessionId
from pilothouse.engine.ports import SandboxSpec

_SUITE = "pilothouse.adapters.sandboxes.escape.suite"
_GROUP_MAX_S = 240.0
"""The bombs of the limits, one after the other, on a loaded machine."""
_STATES = (BLOCKED, OPEN, SKIPPED)


@dataclass(frozen=True)
class Report:
    profile: str
    verdicts: dict[str, list[Verdict]]
    """By group, in the suite's order."""
    held: tuple[str, ...] = ()
    """What holds each limit: "memory by cgroup"."""

    @property
    def unexpected(self) -> list[Verdict]:
        return profiles.unexpected(self.profile, self.all)

    @property
    def all(self) -> list[Verdict]:
        return [verdict for group in self.verdicts.values() for verdict in group]

    def count(self, state: str) -> int:
        return sum(verdict.state == state for verdict in self.all)

    def lines(self) -> list[str]:
        """For people; the last one is `N passed, N failed, N skipped`."""
        out = [f"Escape suite, profile: {self.profile}", *([f"Limits: {', '.join(self.held)}"] if self.held else [])]
        for group, verdicts in self.verdicts.items():
            out += ["", group, *(self._line(v) for v in verdicts)]
        permitted = ", ".join(sorted(profiles.PERMITTED[self.profile])) or "none"
        unexpected = ", ".join(v.id for v in self.unexpected) or "none"
        out += ["", f"May fail in this profile: {permitted}", f"Failed and may not: {unexpected}"]
        return [*out, f"{self.count(BLOCKED)} passed, {self.count(OPEN)} failed, {self.count(SKIPPED)} skipped"]

    def _line(self, verdict: Verdict) -> str:
        may = " (may fail in this profile)" if verdict.id in profiles.PERMITTED[self.profile] else ""
        note = {OPEN: f"  {verdict.why}{may}", SKIPPED: f"  {verdict.why}"}.get(verdict.state, "")
        return f"  {verdict.id:18} {verdict.state}{note}"


async def examine(
    sandboxes: Bubblewrap, home: Path, runtime: Path, *, isolation: str, groups: tuple[str, ...] = ()
) -> Report:
    """Raises Unavailable, CannotPlant, OSError. `groups`: all, unless some are named."""
    session = SessionId(str(uuid.uuid4()))
    try:
        await sandboxes.open_anyway(SandboxSpec(session, "probe"))
        states = {state.name: state for state in await sandboxes.limits(session, {})}
        image = states["disk"].enforced == "image"
        profile = profiles.name(root=await _root(runtime), image=image, isolation=isolation)
        limits = {name: state.max for name, state in states.items() if state.max}
        async with planted(home, runtime, limits, isolation) as canaries:
            verdicts = await _attack(sandboxes, session, canaries, groups or tuple(suite.GROUPS))
    finally:
        await sandboxes.delete(session)
    return Report(profile, verdicts, tuple(f"{name} by {state.enforced}" for name, state in states.items()))


async def _attack(
    sandboxes: Bubblewrap, session: SessionId, canaries: Planted, groups: tuple[str, ...]
) -> dict[str, list[Verdict]]:
    env = {VARIABLE: encode(canaries.ground)}
    found: dict[str, list[Verdict]] = {}
    for group in groups:
        done = await sandboxes.run_module(session, _SUITE, [group], env, _GROUP_MAX_S)
        found[group] = _read(group, done)
    noticed = await canaries.touched()
    return {group: [_noticed(v, noticed) for v in verdicts] for group, verdicts in found.items()}


def _noticed(verdict: Verdict, noticed: dict[str, str]) -> Verdict:
    """What arrived at a canary counts, whatever the check says."""
    return Verdict(verdict.id, OPEN, noticed[verdict.id]) if verdict.id in noticed else verdict


def _read(group: str, done: dict[str, Any]) -> list[Verdict]:
    """The answers of a group; a check without one has failed. Raises Unavailable when there are none at all."""
    found: dict[str, Verdict] = {}
    output = str(done.get("output", ""))
    for line in output.splitlines():
        try:
            said = json.loads(line)
            verdict = Verdict(str(said["id"]), str(said["verdict"]), str(said["why"]))
        except (ValueError, KeyError, TypeError):
            continue
        if verdict.state in _STATES:
            found[verdict.id] = verdict
    if not found:
        raise Unavailable(f"the escape suite did not run: {done.get('exit')}: {output[-500:].strip()}")
    missing = f"the suite gave no answer ({done.get('exit')})"
    return [found.get(name, Verdict(name, OPEN, missing)) for name in suite.names(group)]


async def _root(runtime: Path) -> bool:
    """Whether the keeper has the rights of root. Raises Unavailable."""
    try:
        said = await client.ask(runtime / "keeper.sock", {"verb": "hello", "proto": client.PROTO})
    except client.Away as error:
        raise Unavailable(str(error)) from None
    return said.get("root") is True
