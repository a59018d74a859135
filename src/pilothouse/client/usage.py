"""`client.usage`: what was used and what it cost."""

from __future__ import annotations

from collections.abc import Sequence

from pilothouse.client.group import Group
from pilothouse.client.transport import given
from pilothouse.core.api.kept import UsageReport


class Used(Group):
    async def get(
        self,
        *,
        first: str | None = None,
        last: str | None = None,
        by: Sequence[str] = ("day",),
        organisation: str | None = None,
    ) -> UsageReport:
        """`first` and `last`: days such as `2026-11-01`, UTC, the last 30 if left out; `by`: day, person, key, session,
        model. An admin sees the organisation's, others what their own prompts have used. Raises BadRequest."""
        params = {**given(to=last, by=",".join(by), organisation=organisation), **({"from": first} if first else {})}
        return await self._transport.ask(UsageReport, "GET", "/api/usage", params=params)
