"""The gaps between objects, filled: what is made afterwards lies together."""

from __future__ import annotations

import subprocess
import sys

TRIAL = """
from pilothouse.adapters.sandboxes import gaps

def in_a_row(size):
    made = [bytes(size - 33) for _ in range(100)]
    return sum(id(after) - id(before) == size for before, after in zip(made, made[1:]))

for size in (64, 160, 304):
    many = [bytes(size - 33) for _ in range(2000)]
    for at in range(0, len(many), 2):
        many[at] = b""
    before, kept = in_a_row(size), gaps.fill()
    print(before, in_a_row(size))
"""


def test_what_is_made_afterwards_lies_together() -> None:
    """Of a hundred objects, how many lie right after the one before. In a process of its own: it depends on all that
    was ever made in one."""
    done = subprocess.run([sys.executable, "-c", TRIAL], capture_output=True, check=True)
    for line in done.stdout.splitlines():
        with_gaps, without = map(int, line.split())
        assert with_gaps < 50 < 90 < without
    assert len(done.stdout.splitlines()) == 3
