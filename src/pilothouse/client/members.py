"""`client.members` and `client.organisations`: who belongs where. For admins."""

from __future__ import annotations

from urllib.parse import quote

from pilothouse.client.group import Group
from pilothouse.client.transport import given
from pilothouse.core.api.sessions import Member, MemberChange, NewOrganisation, Organisation


class Members(Group):
    """`organisation`: another one than the caller's, for admins of the server."""

    async def all(self, organisation: str | None = None) -> list[Member]:
        params = given(organisation=organisation)
        return [one async for one in self._transport.each(Member, "/api/members", params)]

    async def set(
        self,
        account: str,
        *,
        role: str | None = None,
        name: str | None = None,
        disabled: bool | None = None,
        organisation: str | None = None,
    ) -> Member:
        """Adds or changes it; a new one needs a role (`viewer`, `operator`, `approver`, `admin`). It holds at once.
        Raises BadRequest, Forbidden, Conflict (no admin would be left)."""
        body = MemberChange(role=role, name=name, disabled=disabled)
        return await self._transport.ask(
            Member, "PUT", _path(account), body=body, params=given(organisation=organisation)
        )

    async def remove(self, account: str, organisation: str | None = None) -> None:
        """Raises NotFound, Conflict."""
        await self._transport.send("DELETE", _path(account), params=given(organisation=organisation))


class Organisations(Group):
    async def all(self) -> list[Organisation]:
        """One's own; for an admin of the server all."""
        return [one async for one in self._transport.each(Organisation, "/api/organisations")]

    async def make(self, id: str, name: str | None = None) -> Organisation:
        """Raises Conflict when there is one of that id."""
        body = NewOrganisation(id=id, name=name)
        return await self._transport.ask(Organisation, "POST", "/api/organisations", body=body)


def _path(account: str) -> str:
    return f"/api/members/{quote(account, safe='')}"
