"""`client.keys`: what lets programs in. For admins."""

from __future__ import annotations

from pilothouse.client.group import Group
from pilothouse.client.transport import given
from pilothouse.core.api.access import Key, MadeKey, NewKey, Ticket


class Keys(Group):
    async def make(self, wish: NewKey | None = None, *, organisation: str | None = None) -> MadeKey:
        """A key, or with `kind="sigv4"` a key pair. Its secret is shown this once. Raises BadRequest, Forbidden."""
        params = given(organisation=organisation)
        return await self._transport.ask(MadeKey, "POST", "/api/keys", body=wish or NewKey(), params=params)

    async def all(self, organisation: str | None = None) -> list[Key]:
        """Without their secrets, newest first."""
        params = given(organisation=organisation)
        return [one async for one in self._transport.each(Key, "/api/keys", params)]

    async def revoke(self, id: str) -> None:
        """At once: what is open by it ends. Raises NotFound."""
        await self._transport.send("DELETE", f"/api/keys/{id}")

    async def ticket(self, account: str | None = None, organisation: str | None = None) -> Ticket:
        """A sign-in link for a member, or oneself: used once, within ten minutes."""
        params = given(account=account, organisation=organisation)
        return await self._transport.ask(Ticket, "POST", "/api/tickets", params=params)
