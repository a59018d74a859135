"""What the runner needs of an agent: a few verbs down, `RunnerEvent`s up.

Every agent is made by `make(emit, workspace, model)`. It says everything through `emit`, which may wait: while the
link is full the agent must not be read any further, so an agent awaits `emit` before it takes the next thing.

A prompt is accepted at once; whatever becomes of it comes as events and ends with exactly one `turn_ended` that carries
the prompt's id. Verbs refuse with an error of `core.errors`, which becomes the command's answer.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias

from pilothouse.core import link

Emit: TypeAlias = Callable[[link.RunnerEvent], Awaitable[None]]
"""Says one event. Raises TooLarge for an ask that no message can carry: the agent must deny that call."""

Answer: TypeAlias = link.PermissionAnswer | link.QuestionAnswer


@dataclass(frozen=True, slots=True)
class Facts:
    """What `hello` says about an agent before it has been started."""

    name: str
    version: str
    capabilities: tuple[str, ...] = ()
    model: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a probe found: does this version of the agent ask before it acts?"""

    asks: bool
    detail: str


class Agent(Protocol):
    @property
    def facts(self) -> Facts: ...

    async def prompt(self, prompt: link.Prompt) -> None:
        """Take a prompt; turns run one after another in the order of their prompts."""
        ...

    async def steer(self, message: str) -> None:
        """Add to the running turn. Raises Conflict when none runs."""
        ...

    async def interrupt(self) -> None:
        """End the running turn, and those that wait, as interrupted. Harmless when none runs."""
        ...

    async def answer(self, answer: Answer) -> None:
        """Answer an open ask. Raises NotFound for one that is not open."""
        ...

    async def set_mode(self, mode: str) -> None: ...

    async def set_model(self, model: str) -> None: ...

    async def resume(self, agent_session_id: str) -> None:
        """Go on with a conversation of before. Raises Conflict when another has begun here."""
        ...

    async def probe(self) -> Verdict:
        """Prove with a planted call that the agent asks. Costs a start of the agent; the conversation is untouched."""
        ...

    async def close(self) -> None:
        """End the agent's processes. Open turns end as interrupted."""
        ...


Make: TypeAlias = Callable[[Emit, Path, str], Agent]
