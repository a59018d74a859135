"""What is played before holders are forked: nothing of it stays."""

from __future__ import annotations

import os

from pilothouse.adapters.sandboxes import profile, rehearsal
from pilothouse.adapters.sandboxes.order import Order
from pilothouse.core import shellwire as wire


def test_a_shell_is_played_to_its_end_and_leaves_nothing() -> None:
    nothing = profile.Interpreter("", (), (), "", "")
    order = Order(
        "", "bubblewrap", "", {}, profile.Place("/", "/", "/"), nothing, "", None, "", "", "", (os.geteuid(),)
    )
    rehearsal.shell(order)  # what is made once is there
    before = sorted(os.listdir("/proc/self/fd"))
    told = rehearsal.shell(order)
    assert (told[:3], told[-1]) == ([wire.WELCOME, wire.SHELL, wire.LENT], wire.ENDED)
    assert sorted(os.listdir("/proc/self/fd")) == before
