"""Claude Code, through the Claude Agent SDK, as an agent of the runner.

The command line program runs in its `default` mode for ever (in `plan` mode while the session plans) with a hook that
turns every tool call into a question, so that the policy of the session, not the program, decides:

    every tool call -> PreToolUse hook answers "ask" (and blocks when it fails) -> `can_use_tool` -> `permission_ask`

| module | holds |
|---|---|
| `agent` | the verbs; turns one after another; the program's life and death |
| `program` | options, start, the SDK's client. The only one that starts anything |
| `gate` | open asks, and which calls have been asked |
| `translate` | the SDK's messages to events of the link |
| `turns` | which messages belong to which turn, how a turn ended, what it used |
| `tools`, `diffs`, `plan` | kinds and titles; patches before and after; the to-do list |
| `probe` | proof, with a planted model, that this version asks |

The SDK takes more than a second to import, so it is imported in the background, after the runner serves.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pilothouse.adapters.agents.port import Emit

if TYPE_CHECKING:
    from pilothouse.adapters.agents.claude.agent import ClaudeAgent


def make(emit: Emit, workspace: Path, model: str) -> ClaudeAgent:
    from pilothouse.adapters.agents.claude.agent import ClaudeAgent

    return ClaudeAgent(emit, workspace, model)
