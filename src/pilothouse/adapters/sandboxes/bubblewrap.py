"""Sessions isolated with bubblewrap. Refuses to open one where the probe found that isolation does not hold."""

from __future__ import annotations

import json
import uuid
from dataclasses import replace

from pilothouse.adapters.sandboxes import client, probe
from pilothouse.adapters.sandboxes.kept import KeptSandboxes
from pilothouse.core.errors import BadRequest, Unavailable
from pilothouse.core.ids import SessionId
from pilothouse.engine.ports import Probe, SandboxSpec

_CHECKS = "pilothouse.adapters.sandboxes.checks"
_CHECKS_MAX_S = 20.0


class Bubblewrap(KeptSandboxes):
    sandbox = "bubblewrap"
    _found: Probe | None = None

    async def probe(self) -> Probe:
        """Once per server; a failure is tried again at the next call, because it may have been mended."""
        if self._found is None or not self._found.usable:
            self._found = await self._try()
        return self._found

    async def _usable(self) -> None:
        found = await self.probe()
        if not found.usable:
            raise Unavailable(" ".join((found.summary, *found.findings)))

    async def _try(self) -> Probe:
        session = SessionId(str(uuid.uuid4()))
        try:
            await self._open(SandboxSpec(session, "probe"))
        except (Unavailable, BadRequest) as error:
            return probe.refused(error.message)
        canary = self._layout.home / "canary"
        canary.write_text("A session that can read this is not isolated.\n")
        try:
            done = await self._holder(
                session,
                {"verb": "run", "module": _CHECKS, "argv": [str(canary)], "timeout": _CHECKS_MAX_S},
                _CHECKS_MAX_S + client.ANSWER_MAX_S,
            )
            answers = json.loads(str(done.get("output")))
        except (Unavailable, ValueError) as error:
            return probe.refused(f"the checks inside: {error}")
        finally:
            canary.unlink(missing_ok=True)
            await self.delete(session)
        found = probe.judged(answers if isinstance(answers, dict) else {})
        return replace(found, findings=(*found.findings, *await self.lacks()))
