"""`client.channels`: the event API by HTTP. Subscribing is by WebSocket (`protocol/events.md`)."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from pilothouse.client.group import Group
from pilothouse.client.transport import given
from pilothouse.core.api.channels import History, Presence, Publish, Published
from pilothouse.core.namespaces import BUILT_IN


class Channels(Group):
    async def publish(self, channel: str, events: Sequence[str], *, key: str | None = None) -> Published:
        """Up to five events, each a text that holds a JSON value. `key` is the caller's own word for the request: the
        same again publishes nothing more, so a lost connection is tried again. The channels of sessions and jobs take
        none: there a lost connection is raised. Raises BadRequest, Forbidden."""
        if key is None and channel.strip("/").partition("/")[0] not in BUILT_IN:
            key = str(uuid.uuid4())
        body = Publish(channel=channel, events=list(events), key=key)
        return await self._transport.ask(Published, "POST", "/event", body=body, repeat=key is not None)

    async def history(self, channel: str, after: int = 0, limit: int = 100, epoch: str | None = None) -> History:
        """Up to `limit` (1 to 1000) events with a number above `after`, of a channel that keeps them."""
        params = given(channel=channel, after=after, limit=limit, epoch=epoch)
        return await self._transport.ask(History, "GET", "/event/history", params=params)

    async def presence(self, channel: str) -> Presence:
        """Who subscribes to it now."""
        return await self._transport.ask(Presence, "GET", "/event/presence", params={"channel": channel})
