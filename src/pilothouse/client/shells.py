"""`client.shells`: terminals of a session. What they say comes by WebSocket (`protocol/terminal.md`)."""

from __future__ import annotations

from collections.abc import Sequence

from pilothouse.client.group import Group
from pilothouse.core.api.jobs import NewShell, Shell


class Shells(Group):
    async def all(self, session: str) -> list[Shell]:
        """Ended ones too, until somebody has seen their end."""
        return [one async for one in self._transport.each(Shell, f"/api/sessions/{session}/shells")]

    async def open(
        self,
        session: str,
        *,
        id: str | None = None,
        command: Sequence[str] | None = None,
        cwd: str = "",
        width: int = 80,
        height: int = 24,
        startup: str = "",
    ) -> Shell:
        """A shell, or `command` in one; the shell of that `id` if there is one, so that one with an id may be asked for
        again. `width` and `height` in cells. Raises BadRequest, Forbidden, TooMany (there are ten)."""
        body = NewShell(
            shell_id=id, command=None if command is None else list(command), cwd=cwd, width=width, height=height,
            startup=startup,
        )  # fmt: skip
        path = f"/api/sessions/{session}/shells"
        return await self._transport.ask(Shell, "POST", path, body=body)

    async def end(self, session: str, id: str) -> None:
        """It is hung up on, and killed if it does not listen."""
        await self._transport.send("DELETE", f"/api/sessions/{session}/shells/{id}")
