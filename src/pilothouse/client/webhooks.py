"""`client.webhooks`: where an organisation's events are sent, and what came of it. For admins."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

from pilothouse.client.group import Group
from pilothouse.client.transport import given
from pilothouse.core.api.outgoing import (
    Delivery,
    MadeWebhook,
    NewWebhook,
    Replayed,
    Rotation,
    Webhook,
    WebhookChange,
)


class Webhooks(Group):
    async def all(self) -> list[Webhook]:
        return [one async for one in self._transport.each(Webhook, "/api/webhooks")]

    async def get(self, id: str) -> Webhook:
        """Raises NotFound."""
        return await self._transport.ask(Webhook, "GET", f"/api/webhooks/{id}")

    async def make(self, url: str, *, name: str = "webhook", events: Sequence[str] | None = None) -> MadeWebhook:
        """The secret is shown this once. Raises BadRequest (the address), TooMany."""
        body = NewWebhook(url=url, name=name, events=None if events is None else list(events))
        return await self._transport.ask(MadeWebhook, "POST", "/api/webhooks", body=body)

    async def change(self, id: str, change: WebhookChange) -> Webhook:
        """What is not given stays."""
        return await self._transport.ask(Webhook, "PATCH", f"/api/webhooks/{id}", body=change)

    async def remove(self, id: str) -> None:
        """With its deliveries."""
        await self._transport.send("DELETE", f"/api/webhooks/{id}")

    async def rotate(self, id: str, grace_s: float | None = None) -> MadeWebhook:
        """A new secret, shown this once; the one before signs too for `grace_s` seconds (a day)."""
        body = Rotation() if grace_s is None else Rotation(grace_s=grace_s)
        return await self._transport.ask(MadeWebhook, "POST", f"/api/webhooks/{id}/rotate", body=body)

    async def ping(self, id: str) -> Delivery:
        """Raises Conflict when it is disabled."""
        return await self._transport.ask(Delivery, "POST", f"/api/webhooks/{id}/ping")

    async def deliveries(self, id: str, state: str | None = None) -> list[Delivery]:
        """`state`: `pending`, `delivered`, `dead` or `withheld`; all otherwise."""
        path = f"/api/webhooks/{id}/deliveries"
        return [one async for one in self._transport.each(Delivery, path, given(state=state or None))]

    async def replay(self, id: str, delivery: str) -> Delivery:
        """Sent again from the beginning, under the same id. Raises Conflict while it waits."""
        path = f"/api/webhooks/{id}/deliveries/{quote(delivery, safe='')}/replay"
        return await self._transport.ask(Delivery, "POST", path)

    async def replay_dead(self, id: str) -> int:
        """All dead letters; how many."""
        return (await self._transport.ask(Replayed, "POST", f"/api/webhooks/{id}/replay")).replayed
