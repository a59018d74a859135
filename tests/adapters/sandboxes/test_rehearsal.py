"""What is played before holders are forked: nothing of it stays."""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path

import pytest

from pilothouse.adapters.sandboxes import fdpass, profile, rehearsal
from pilothouse.adapters.sandboxes.bubblewrap import Bubblewrap
from pilothouse.adapters.sandboxes.order import Order
from pilothouse.core import shellwire as wire
from pilothouse.core.ids import SessionId
from pilothouse.engine.ports import SandboxSpec
from tests.adapters.sandboxes.conftest import _end
from tests.adapters.sandboxes.test_bubblewrap import sh


def order() -> Order:
    nothing = profile.Interpreter("", (), (), "", "")
    place = profile.Place("/", "/", "/")
    return Order("", "bubblewrap", "", {}, place, nothing, "", None, "", "", "", (os.geteuid(),))


def held() -> list[int]:
    """Descriptors, but for the one that this takes."""
    return sorted(int(fd) for fd in os.listdir("/proc/self/fd") if Path(f"/proc/self/fd/{fd}").exists())


def test_a_shell_is_played_to_its_end_and_leaves_nothing() -> None:
    rehearsal.shell(order())  # what is made once is there
    before = held()
    told = rehearsal.shell(order())
    assert (told[:3], told[-1]) == ([wire.WELCOME, wire.SHELL, wire.LENT], wire.ENDED)
    assert held() == before


def test_where_a_descriptor_is_refused_it_fails_and_leaves_nothing() -> None:
    """Each of those it wants, one after the other."""
    rehearsal.shell(order())
    before = held()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = [fd for fd in range(soft) if fd not in before]
    failed, told = 0, list[int]()
    while told[-1:] != [wire.ENDED] and failed < 100:
        resource.setrlimit(resource.RLIMIT_NOFILE, (free[failed], hard))
        try:
            told = rehearsal.shell(order())
        except (OSError, rehearsal.NotPlayed):
            told = []
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert held() == before
        failed += 1
    assert 10 < failed < 100


def test_what_cannot_be_said_ends_it_and_not_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    before = held()

    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(fdpass, "send", refuse)
    with pytest.raises(rehearsal.NotPlayed):
        rehearsal.shell(order())
    assert held() == before


REFUSED = """
import sys
from pilothouse import keeper
from pilothouse.adapters.sandboxes import rehearsal
def shell(order):
    raise {error}
rehearsal.shell = shell
sys.exit(keeper.main(sys.argv[1:]))
"""


@pytest.mark.parametrize("error", ["PermissionError(1, 'refused here')", "rehearsal.NotPlayed('refused here')"])
async def test_a_keeper_goes_on_without_it(base: Path, session: SessionId, error: str) -> None:
    argv = (sys.executable, "-c", REFUSED.format(error=error), "--no-proxy")
    made = await Bubblewrap.connect_keeper(base / "h", base / "r", argv=argv)
    await made.open(SandboxSpec(session, "echo"))
    assert await sh(made, session, "echo here") == "here"
    (said,) = (line for line in (base / "h" / "keeper.log").read_text().splitlines() if "rehearsed" in line)
    assert "refused here" in said
    await _end(base, made)
