"""What leaves for elsewhere because something happened: its parts, put together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pilothouse.core import reach
from pilothouse.engine.couriers import Couriers
from pilothouse.engine.deliveries import Poster
from pilothouse.engine.herald import Herald
from pilothouse.engine.ports import Sealer
from pilothouse.engine.sessions import Sessions
from pilothouse.engine.webhooks import Webhooks


@dataclass(frozen=True)
class Outgoing:
    webhooks: Webhooks
    couriers: Couriers
    herald: Herald

    @classmethod
    def made(
        cls,
        sessions: Sessions,
        sealer: Sealer,
        poster: Poster,
        page: Callable[[], str],
        private: Sequence[reach.Target] = (),
    ) -> Outgoing:
        """`private`: targets that may be posted to although their address is not public."""
        kit = sessions.kit
        webhooks = Webhooks(kit.store, kit.clock, kit.audit, sealer, private)
        couriers = Couriers(kit.store, kit.clock, poster, {"webhook": webhooks}, kit.note)
        webhooks.couriers = couriers
        return cls(webhooks, couriers, Herald(sessions, webhooks, couriers, page, None))

    async def start(self) -> None:
        """After the sessions."""
        await self.webhooks.load()
        await self.couriers.start()
        await self.herald.start()

    async def close(self) -> None:
        """Before the store: what is not sent is sent by the next server."""
        await self.herald.close()
        await self.couriers.close()
