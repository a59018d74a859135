"""`client.notifications`: how one is told when one is not looking (`docs/webhooks.md`). A person's own; a key needs the
scope `admin` for its account's. A browser subscribes by itself, on the page, as the person who is signed in with it."""

from __future__ import annotations

from collections.abc import Sequence

from pilothouse.client.group import Group
from pilothouse.client.transport import given
from pilothouse.core.api.outgoing import Delivery, NewNotifier, Notifier, NotifierChange, Whose


class Notifications(Group):
    async def all(self) -> list[Notifier]:
        """Browsers and addresses, newest first. Raises Forbidden."""
        return [one async for one in self._transport.each(Notifier, "/api/notifications")]

    async def slack(
        self, url: str, *, name: str | None = None, events: Sequence[str] | None = None, sessions: Whose | None = None
    ) -> Notifier:
        """An address that takes Slack's messages; who knows it can write there, so it is shown to nobody again.
        `events`: `approval` and `question` (both, if None), `job`; `sessions`: `own` (if None) or `all` that one may
        see. Raises BadRequest (the address), TooMany."""
        told = None if events is None else list(events)
        body = NewNotifier(kind="slack", url=url, name=name, events=told, sessions=sessions)
        return await self._transport.ask(Notifier, "POST", "/api/notifications", body=body)

    async def change(self, id: str, change: NotifierChange) -> Notifier:
        """What is not given stays; what happened while it was off, or not wanted, is not told. Raises NotFound."""
        return await self._transport.ask(Notifier, "PATCH", f"/api/notifications/{id}", body=change)

    async def remove(self, id: str) -> None:
        await self._transport.send("DELETE", f"/api/notifications/{id}")

    async def test(self, id: str) -> Delivery:
        """Sends one; `deliveries` has what became of it. Raises Conflict when it is off."""
        return await self._transport.ask(Delivery, "POST", f"/api/notifications/{id}/test")

    async def deliveries(self, id: str, state: str | None = None) -> list[Delivery]:
        """`state`: `pending`, `delivered`, `dead` or `withheld`; all otherwise."""
        path = f"/api/notifications/{id}/deliveries"
        return [one async for one in self._transport.each(Delivery, path, given(state=state or None))]
