"""The runner: beside the agent, inside the session. `python -m pilothouse.runner --fd N --agent NAME`.

Serves AgentCore's container contract on a listening socket that it inherits, so that no path inside the session leads
to it: `GET /ping`, `POST /invocations`, and `/ws`, the link to the server.
"""

from __future__ import annotations

from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Runs until it is told to stop. 0 after a shutdown, 2 for bad arguments."""
    from pilothouse.runner.program import run

    return run(argv)
