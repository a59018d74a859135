"""What the demo model can put into one answer, and what it gets back."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any, TypeAlias


@dataclass(frozen=True, slots=True)
class Say:
    text: str


@dataclass(frozen=True, slots=True)
class Think:
    text: str


@dataclass(frozen=True, slots=True)
class Call:
    """A tool by its abstract name (write, edit, read, bash, ask, todo, agent, plan, enter_plan) or, `raw`, its own."""

    tool: str
    input: dict[str, Any] = field(default_factory=dict)
    raw: bool = False


@dataclass(frozen=True, slots=True)
class Hold:
    name: str


@dataclass(frozen=True, slots=True)
class Delay:
    seconds: float


@dataclass(frozen=True, slots=True)
class Hang:
    pass


@dataclass(frozen=True, slots=True)
class Cut:
    times: int = 1


@dataclass(frozen=True, slots=True)
class Garbage:
    pass


@dataclass(frozen=True, slots=True)
class Fail:
    status: int
    times: int | None = None
    retry_after: int | None = None


@dataclass(frozen=True, slots=True)
class Stop:
    reason: str


Part: TypeAlias = Say | Think | Call | Hold | Delay | Hang | Cut | Garbage | Fail | Stop
Answer: TypeAlias = tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Result:
    """What came back for one tool call."""

    text: str
    is_error: bool

    @property
    def command_failed(self) -> bool:
        """The command ran and said no by its exit status: not a refusal."""
        return self.is_error and self.text.startswith("Exit code")

    @property
    def denied(self) -> bool:
        return self.is_error and not self.command_failed


Scene: TypeAlias = Generator[Answer, list[Result], None]
"""Yields answers and is sent the results of each one's calls. It is run from its start for every request."""


def called(answer: Answer) -> bool:
    return any(isinstance(part, Call) for part in answer)
