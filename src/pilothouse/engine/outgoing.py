"""What leaves for elsewhere because something happened: its parts, put together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pilothouse.core import reach
from pilothouse.engine.couriers import Couriers
from pilothouse.engine.deliveries import Kind, Poster, Sender
from pilothouse.engine.herald import Herald
from pilothouse.engine.identity import Identity
from pilothouse.engine.notices import Notices
from pilothouse.engine.notifiers import Notifiers
from pilothouse.engine.ports import Sealer
from pilothouse.engine.sessions import Sessions
from pilothouse.engine.vapid import Push, Vapid
from pilothouse.engine.webhooks import Webhooks


@dataclass(frozen=True)
class Outside:
    """What is needed of it."""

    poster: Poster
    push: Push
    sealer: Sealer
    page: Callable[[], str]
    """Where people open ours."""
    private: Sequence[reach.Target] = ()
    """What may be posted to although its address is not public."""
    contact: str = ""


@dataclass(frozen=True)
class Outgoing:
    webhooks: Webhooks
    notifiers: Notifiers
    notices: Notices
    vapid: Vapid
    couriers: Couriers
    herald: Herald

    @classmethod
    def made(cls, sessions: Sessions, identity: Identity, outside: Outside) -> Outgoing:
        kit, page, private = sessions.kit, outside.page, outside.private
        webhooks = Webhooks(kit.store, kit.clock, kit.audit, outside.sealer, private)
        notifiers = Notifiers(kit.store, kit.clock, identity, outside.sealer, outside.push, private)
        vapid = Vapid(kit.store, outside.sealer, outside.push)
        notices = Notices(sessions, identity.members, notifiers, vapid, outside.push, page, outside.contact)
        senders: dict[Kind, Sender] = {"webhook": webhooks, "slack": notices, "push": notices}
        couriers = Couriers(kit.store, kit.clock, outside.poster, senders, kit.note)
        webhooks.couriers = notices.couriers = couriers
        herald = Herald(sessions, webhooks, couriers, page, notices)
        return cls(webhooks, notifiers, notices, vapid, couriers, herald)

    async def start(self) -> None:
        """After the sessions."""
        await self.webhooks.load()
        await self.notifiers.load()
        await self.couriers.start()
        await self.herald.start()

    async def close(self) -> None:
        """Before the store: what is not sent is sent by the next server."""
        await self.herald.close()
        await self.couriers.close()
