"""`client.audit`: who did what, as a chain of records (`docs/audit.md`). For admins."""

from __future__ import annotations

from pilothouse.client.group import Group
from pilothouse.client.transport import PAGE, given
from pilothouse.core.api.access import AuditHead, SealedPage


class Audit(Group):
    async def after(self, seq: int, organisation: str | None = None) -> list[bytes]:
        """Up to 200 records with a higher number, in the order of the chain, as they were sealed: one that is decoded
        and written out again is another one."""
        params = given(after=seq, limit=PAGE, organisation=organisation)
        page = await self._transport.ask(SealedPage, "GET", "/api/audit", params=params)
        return [bytes(item) for item in page.items]

    async def head(self, organisation: str | None = None) -> AuditHead:
        """The newest record's number and hash, the oldest one's number."""
        params = given(organisation=organisation)
        return await self._transport.ask(AuditHead, "GET", "/api/audit/head", params=params)
