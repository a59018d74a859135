"""A shell that is opened, closed or forgotten while somebody else is about to open or look at the same one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from pilothouse.core.errors import Conflict, NotFound, Unavailable
from pilothouse.core.shell import SCROLLBACK_MIN, WINDOW, Exit, Size
from pilothouse.engine import terminals as terminals_module
from pilothouse.engine.shells import Shell, ShellSpec
from tests.engine.screens import SESSION, settled
from tests.engine.test_terminals import House


@pytest.fixture
async def house() -> AsyncIterator[House]:
    house = House(ended_s=300.0)
    yield house
    await house.terminals.close()


def slow(house: House) -> asyncio.Event:
    """From now on a shell runs long before it is said that it does."""
    told, start = asyncio.Event(), house.shells.start

    async def started(spec: ShellSpec) -> Shell:
        shell = await start(spec)
        await told.wait()
        return shell

    house.shells.start = started  # type: ignore[method-assign]
    return told


async def test_who_asks_for_a_shell_and_leaves_leaves_one_that_can_be_found(house: House) -> None:
    told = slow(house)
    asking = asyncio.create_task(house.open())
    await settled()
    asking.cancel()
    await settled()
    told.set()
    terminal, shell, new = await house.open()
    assert (new, shell.ended, house.terminals.running(SESSION)) == (False, None, True)
    assert await house.terminals.find(SESSION, shell.id) is terminal


async def test_a_shell_that_was_closed_for_good_is_not_what_its_name_opens_next(house: House) -> None:
    terminal, shell, _ = await house.open()
    viewing, screen = house.watch(terminal, plain=True)
    await viewing.receive(b"\xff")
    assert screen.closed == (1000, "closed")
    opening = asyncio.create_task(house.open())
    await settled()
    assert not opening.done()
    shell.exits(Exit(0, 1))
    again, other, new = await opening
    assert new
    assert again is not terminal
    assert other.ended is None


async def test_a_name_whose_shell_does_not_end_is_refused(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal, _, _ = await house.open()
    viewing, _ = house.watch(terminal, plain=True)
    await viewing.receive(b"\xff")
    monkeypatch.setattr(terminals_module, "CLOSED_S", 0.0)
    with pytest.raises(Conflict, match="being closed"):
        await house.open()


async def test_nobody_looks_at_a_shell_that_was_forgotten_after_it_was_found(house: House) -> None:
    terminal, shell, _ = await house.open()
    house.watch(terminal)
    found = await house.terminals.find(SESSION, shell.id)
    shell.exits(Exit(3))
    await settled()
    with pytest.raises(NotFound):
        house.watch(found, new=False)
    terminal, _, new = await house.open()
    assert new
    await house.terminals.drop(SESSION)
    with pytest.raises(NotFound):
        house.watch(terminal, new=False)


async def test_who_may_only_look_does_not_make_programs_draw_anew(house: House) -> None:
    terminal, shell, _ = await house.open()
    shell.says(b"x" * (SCROLLBACK_MIN + 2 * WINDOW))
    terminal.wait_no_more()
    await settled()
    house.watch(terminal, "type", may_type=False, new=False)
    assert shell.oldest
    assert shell.sizes == []
    house.watch(terminal, "type", new=False)
    assert shell.sizes == [Size(80, 23)]


async def test_a_session_that_ends_while_a_shell_is_started_in_it(house: House) -> None:
    told = slow(house)
    opening = asyncio.create_task(house.open())
    await settled()
    told.set()
    await house.terminals.drop(SESSION)
    with pytest.raises(Unavailable, match="session has ended"):
        await opening


async def test_a_shell_of_a_later_life_of_its_session_is_kept_as_long_as_any(house: House) -> None:
    _, shell, _ = await house.open()
    shell.exits(Exit(0))
    await house.terminals.tend()
    await house.terminals.drop(SESSION)
    house.clock.seconds += 290.0
    _, shell, _ = await house.open()
    shell.exits(Exit(0))
    await house.terminals.tend()
    house.clock.seconds += 20.0
    await house.terminals.tend()
    assert house.terminals.known(SESSION, shell.id) is not None
