"""Jobs of the harness: scripts for the demo model (played to the real Claude Code) and for the echo agent.

Every command appends a number of its own to one file of the workspace, so the file says how often each has run.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, field
from typing import Literal

Plan = Literal["free", "approve", "late", "deny", "both", "never"]
"""What the harness does about a command: nobody asks for it; approve it; approve it late; deny it; approve and deny it
at once, from two sides; leave it open and interrupt the job."""
RAN = "ran.txt"
LATE_S = (0.8, 2.5)
NEVER_S = 1.0
WIDTH = 6
"""Digits of a number in the file: a line that a full disk has left a part of is none."""
COMMAND = re.compile(rf"echo (\d{{{WIDTH}}}) >> ran\.txt")


@dataclass
class Job:
    n: int
    plans: dict[int, Plan]
    """By the number that the command writes."""
    prompt: str
    options: dict[str, str]
    holds: tuple[str, ...] = ()
    """Of the demo model, in their order: in the text, and before the last words."""
    id: str = ""
    began: float = 0.0
    ended: float = 0.0
    refused: int = 0
    begun: bool = False
    """The agent has it: `job_started` was seen."""
    outcome: str = ""
    result: str = ""
    reason: str | None = None
    interrupted: bool = False
    answered: dict[int, set[str]] = field(default_factory=dict)
    """What the server said to our answers, by command."""

    @property
    def last_words(self) -> str:
        return f"finished-{self.n}."


def command(number: int) -> str:
    return f"echo {number:0{WIDTH}} >> {RAN}"


def make(n: int, agent: str, dice: random.Random, first: int) -> Job:
    """Job number `n` of a session; its commands are numbered from `first`."""
    asked = dice.random() < 0.6
    count = dice.choice((1, 1, 2, 3)) if agent == "claude" else dice.choice((2, 3, 4))
    plans: dict[int, Plan] = {}
    for number in range(first, first + count):
        plans[number] = dice.choice(("approve", "approve", "late", "deny", "both")) if asked else "free"
    if asked and dice.random() < 0.12:
        plans[first + count - 1] = "never"
    job = Job(n, plans, "", {"permissionMode": "default" if asked else "acceptAll"})
    (_claude if agent == "claude" else _echo)(job, dice)
    return job


def _claude(job: Job, dice: random.Random) -> None:
    tag = f"h{dice.randrange(2**40):x}"
    job.holds = (f"{tag}-text", f"{tag}-end")
    lines = [f"text {dice.choice((10, 60, 300))}", f"hold {job.holds[0]}"]
    for number in job.plans:
        lines += [f"bash {command(number)}; sleep 0.{dice.randrange(1, 5)}"]
    lines += [f"text {dice.choice((5, 40))}", f"hold {job.holds[1]}", f"say {job.last_words}"]
    job.prompt = "\n".join(f"demo: {line}" for line in lines)


def _echo(job: Job, dice: random.Random) -> None:
    lines = [f"say {'word ' * dice.choice((3, 30, 200))}", f"sleep 0.{dice.randrange(1, 4)}"]
    for number in job.plans:
        lines.append(f"run sh -c '{command(number)}; sleep 0.{dice.randrange(0, 3)}'")
        extra = dice.choice(
            ("", "", f"flood {dice.choice((20, 200))} 300", "cut taken back and said again", "plan A; B")
        )
        lines += [extra] if extra else []
    lines += [f"sleep 0.{dice.randrange(1, 4)}", f"say {job.last_words}"]
    job.prompt = "\n".join(lines)


def number_of(tool_input: object) -> int | None:
    """The number of a tool call's command."""
    text = tool_input.get("command") if isinstance(tool_input, dict) else None
    found = COMMAND.search(text) if isinstance(text, str) else None
    return int(found.group(1)) if found else None


def lines(text: str) -> list[int]:
    """The numbers in the file. Bytes that were lost on a full disk read as NUL."""
    return [int(line) for line in text.replace("\0", "\n").split() if len(line) == WIDTH and line.isdecimal()]
