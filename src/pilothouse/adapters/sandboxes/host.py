"""Sessions without isolation: the agent may do whatever the server's user may. Said loudly."""

from __future__ import annotations

from pilothouse.adapters.sandboxes.kept import KeptSandboxes
from pilothouse.engine.ports import Probe

WARNING = "Sessions are NOT ISOLATED: an agent can read and change everything that this server's user can."


class Host(KeptSandboxes):
    sandbox = "host"

    async def probe(self) -> Probe:
        mend = 'Set sandbox = "bubblewrap" and run `pilothouse doctor` to see what it needs.'
        return Probe("none", True, WARNING, (mend,))
