"""Sessions isolated with bubblewrap. Refuses to open one where the probe found that isolation does not hold.

Levels, the first that holds: bubblewrap with everything; bubblewrap without `--disable-userns`, for hosts that refuse
just that (the filter denies nesting by itself); `reduced`, if it is allowed; none, and no session.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from pilothouse.adapters.sandboxes import client, probe
from pilothouse.adapters.sandboxes.kept import KeptSandboxes
from pilothouse.core.errors import BadRequest, Unavailable
from pilothouse.core.ids import SessionId
from pilothouse.engine.ports import Probe, SandboxSpec

_CHECKS = "pilothouse.adapters.sandboxes.checks"
_CHECKS_MAX_S = 20.0
_WORDS_MAX = 500

FULL: dict[str, Any] = {"sandbox": "bubblewrap"}
NESTED: dict[str, Any] = {"sandbox": "bubblewrap", "userns": False}
REDUCED: dict[str, Any] = {"sandbox": "reduced"}


@contextlib.contextmanager
def _canary() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="pilothouse-") as directory:
        Path(directory).chmod(0o755)
        path = Path(directory, "canary")
        path.write_text("A session that can read this is not isolated.\n")
        path.chmod(0o644)
        yield str(path)


class Bubblewrap(KeptSandboxes):
    sandbox = "bubblewrap"
    allow_reduced = False
    _found: Probe | None = None

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._probing = asyncio.Lock()

    async def probe(self) -> Probe:
        """Once per server; a failure is tried again at the next call, because it may have been mended."""
        async with self._probing:
            if self._found is None or not self._found.usable:
                found = await self._level()
                lacks = await self.lacks() if found.usable else ()
                self._found = replace(found, findings=(*found.findings, *lacks))
            return self._found

    async def _usable(self) -> None:
        found = await self.probe()
        if not found.usable:
            raise Unavailable(" ".join((found.summary, *found.findings)))

    async def _level(self) -> Probe:
        for level in (FULL, NESTED):
            words, answers = await self._attempt(level)
            if not words and not probe.holes(answers):
                return probe.NAMESPACES if level is FULL else probe.NESTED
        if not words:
            return probe.leaking(answers)
        if not self.allow_reduced:
            return probe.refused(words)
        second, answers = await self._attempt(REDUCED)
        return probe.reduced(words, second, answers)

    async def _attempt(self, level: dict[str, Any]) -> tuple[str, dict[str, str]]:
        """Why no session could be opened at this level, or "" and what the checks inside found."""
        session = SessionId(str(uuid.uuid4()))
        self.level = level
        try:
            await self._open(SandboxSpec(session, "probe"))
        except (Unavailable, BadRequest) as error:
            with contextlib.suppress(Unavailable):
                await self.delete(session)
            return error.message, {}
        try:
            return "", await self._checks(session)
        except (Unavailable, ValueError) as error:
            return f"the checks inside: {error}", {}
        finally:
            await self.delete(session)

    async def _checks(self, session: SessionId) -> dict[str, str]:
        """The canary is readable for everybody: only the sandbox may be what hides it."""
        with _canary() as canary:
            done = await self._holder(
                session,
                {"verb": "run", "module": _CHECKS, "argv": [canary], "timeout": _CHECKS_MAX_S},
                _CHECKS_MAX_S + client.ANSWER_MAX_S,
            )
        if done.get("exit") != "exit 0":
            raise Unavailable(str(done.get("output") or done.get("exit"))[-_WORDS_MAX:])
        answers = json.loads(str(done.get("output")))
        return answers if isinstance(answers, dict) else {}
