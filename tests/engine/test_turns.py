"""Whose output goes next: seen from who waits for a turn, without a clock."""

from __future__ import annotations

import asyncio

import pytest

from pilothouse.core.audience import Viewer, ViewerId
from pilothouse.core.shell import ShellId
from pilothouse.engine import turns as module
from pilothouse.engine.shells import ShellSpec
from pilothouse.engine.terminal import Terminal
from pilothouse.engine.turns import HOT, REST_S, SLICE, TYPING_SLICE, TYPING_TURNS, Turns
from tests.engine.screens import SESSION, Screen, ScriptedShell, settled


@pytest.fixture(autouse=True)
def _no_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that is busy elsewhere ends no pass, and nobody's typing."""
    monkeypatch.setattr(module, "BUDGET_S", 60.0)
    monkeypatch.setattr(module, "TYPING_S", 60.0)


class Flood:
    """Something that always has more."""

    def __init__(self, log: list[tuple[str, int]], name: str, turns: int = 1 << 30) -> None:
        self.log = log
        self.name = name
        self.left = turns

    def turn(self, limit: int) -> bool:
        self.log.append((self.name, limit))
        self.left -= 1
        return self.left > 0


async def test_all_who_flood_get_their_turn_in_order() -> None:
    turns, log = Turns(), list[tuple[str, int]]()
    for name in "abc":
        turns.add(Flood(log, name, 4))
    await settled()
    assert log == [(name, SLICE) for name in "abcabcabcabc"]


async def test_while_somebody_types_turns_are_short_and_few() -> None:
    turns, log = Turns(), list[tuple[str, int]]()
    turns.typed(Flood(log, "typed in"), turns.now)
    for name in "abcdefgh":
        turns.add(Flood(log, name))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert log == [(name, TYPING_SLICE) for name in "abcdefgh"[:TYPING_TURNS]], "then there is a rest"
    passes, since = len(log) // TYPING_TURNS, turns.now
    while len(log) <= 8:
        await asyncio.sleep(0.001)
    assert (len(log) // TYPING_TURNS - passes - 1) * REST_S <= turns.now - since


async def test_what_was_asked_for_is_not_held_back_for_who_asked() -> None:
    turns, log = Turns(), list[tuple[str, int]]()
    flood = Flood(log, "a", 400)
    turns.typed(flood, turns.now)
    turns.add(flood)
    while flood.left:
        before = len(log)
        await asyncio.sleep(0)
        assert len(log) > before or not before, "no rest"
    assert {limit for _, limit in log} == {SLICE}


async def test_it_is_held_back_for_who_types_in_another() -> None:
    turns, log = Turns(), list[tuple[str, int]]()
    flood = Flood(log, "a")
    turns.typed(Flood(log, "another"), turns.now)
    turns.typed(flood, turns.now)
    turns.add(flood)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    turns.add(Flood(log, "b"))
    while len(log) < 8:
        await asyncio.sleep(0.001)
    assert {limit for _, limit in log} == {TYPING_SLICE}


async def test_another_that_floods_is_held_back_and_who_was_typed_in_with_it() -> None:
    turns, log = Turns(), list[tuple[str, int]]()
    asked, other = Flood(log, "asked"), Flood(log, "other")
    turns.typed(asked, turns.now)
    turns.add(asked)
    turns.add(other)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert log == [(name, TYPING_SLICE) for name in ("asked", "other", "asked")]


async def test_nobody_waits_twice() -> None:
    turns, log = Turns(), list[tuple[str, int]]()
    flood = Flood(log, "a", 1)
    for _ in range(5):
        turns.add(flood)
    await settled()
    assert len(log) == 1


def screened(turns: Turns, id: str) -> tuple[ScriptedShell, Screen]:
    shell, screen = ScriptedShell(ShellSpec(SESSION, ShellId(id), ("sh",)), 0.0), Screen()
    terminal = Terminal(shell, turns, 1 << 20, lambda _: None)
    terminal.attach(Viewer(ViewerId(id), id, "type", may_type=True), screen, 1, new=True, after=None)
    return shell, screen


async def test_an_echo_does_not_wait_for_a_flood_and_a_flood_waits_for_its_turn() -> None:
    turns = Turns()
    turns.clock = lambda: 1000.0
    (loud, flooded), (quiet, seen) = screened(turns, "loud"), screened(turns, "quiet")
    await settled()
    loud.says(b"x" * (HOT + 1))
    before = len(flooded.output)
    loud.says(b"y" * 1000)
    quiet.says(b"echo")
    assert len(flooded.output) == before, "it has had its share"
    assert seen.output == b"echo"
    await settled()
    assert flooded.output == loud.all
